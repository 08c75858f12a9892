//! `balgrad diagnose`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::Usage;
use crate::metrics::{Better, Score, Unit};
use crate::record::{Condition, Log, RunRecord};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

#[derive(Args)]
pub(super) struct Diagnose {
    /// The run folder of a finished run.
    run: PathBuf,
}

/// Below this difference two modalities count as balanced: points of percent; of a score in its own unit, that fraction
/// of Full.
const CLOSE: f64 = 0.05;

impl Diagnose {
    pub(super) fn run(self) -> Result<ExitCode> {
        if !self.run.exists() {
            return Err(Usage(format!("{} does not exist", self.run.display())).into());
        }
        let place = || self.run.display().to_string();
        let record = RunRecord::read(&self.run).map_err(anyhow::Error::new).with_context(place)?;
        let metric = record.metric;
        let score = |condition: &Condition| record.score(condition, metric);
        let modalities = record.modalities();
        let without: Option<Vec<(&str, f64)>> =
            modalities.iter().map(|m| Some((*m, score(&Condition::missing(m))?))).collect();
        let (Some(full), Some(without)) = (score(&Condition::Full), without.filter(|w| !w.is_empty())) else {
            bail!("{}: the scores are undefined; is a class missing from the test split?", place());
        };
        let text = |v: f64| metric.text(v, 1);
        let listed: String = without.iter().map(|(m, score)| format!(", without {m} {}", text(*score))).collect();
        out!("{metric}: full {}{listed}", text(full));
        let (dominant, least) = extreme(metric, &without, true);
        let (other, most) = extreme(metric, &without, false);
        let gap = (most - least).abs();
        let close = if metric.unit == Unit::Percent { CLOSE } else { CLOSE * full.abs() };
        let (points, apart) = match metric.unit {
            Unit::Percent => (" points", format!("{} points", text(gap))),
            Unit::Plain => ("", text(gap)),
        };
        if modalities.len() > 1 && gap < close {
            out!("Balanced: losing either modality costs about the same ({apart} apart).");
        } else if modalities.len() > 1 {
            let keeps = if metric.better == Better::Higher { "keeps" } else { "is better by" };
            out!(
                "{dominant} dominates: the model {keeps} {}{points}{} without {other} than without {dominant}.",
                text(gap),
                if metric.better == Better::Higher { " more" } else { "" },
            );
        }
        for name in &modalities {
            let view = Condition::only(name);
            if let Some(own) = score(&view) {
                let kind = record.views.get(&view).copied().flatten().map_or("view", |view| view.name());
                out!("{name} alone ({kind}): {}", text(own));
            }
            let conflict = record.conflict.as_ref().and_then(|c| c.get(*name));
            if let Some(fraction) = conflict.and_then(|c| c.fraction) {
                out!("{name}: task and KL gradients conflict on {:.0} % of steps", 100.0 * fraction);
            }
        }
        if let Some(epoch) = since(&Log::read(&self.run), metric, dominant, other)
            && gap >= close
        {
            out!("{dominant} has been ahead on validation since epoch {epoch}.");
        }
        out!("{}", advice(&record, gap >= close, (full - least).abs() < close || metric.is_better(least, full)));
        Ok(ExitCode::SUCCESS)
    }
}

/// The modality without which the model scores worst, or best.
fn extreme<'m>(metric: Score, without: &[(&'m str, f64)], worst: bool) -> (&'m str, f64) {
    let mut found = without[0];
    for &(name, score) in &without[1..] {
        // Of equal scores the first is the worst and the last the best, so that two modalities are never one.
        if if worst { metric.is_better(found.1, score) } else { !metric.is_better(found.1, score) } {
            found = (name, score);
        }
    }
    found
}

/// The epoch from which on the dominant modality's validation score stayed ahead.
fn since(log: &Log, metric: Score, dominant: &str, other: &str) -> Option<u64> {
    let mut since = None;
    for epoch in &log.epochs {
        let view = |m: &str| epoch.val.views.get(m).copied().flatten();
        let (Some(a), Some(b)) = (view(dominant), view(other)) else { continue };
        since = if metric.is_better(a, b) { since.or(Some(epoch.epoch)) } else { None };
    }
    since
}

fn advice(record: &RunRecord, uneven: bool, costs_little: bool) -> &'static str {
    let dropout = record.setting("modality_dropout").and_then(Value::as_f64).unwrap_or(0.0);
    match () {
        () if costs_little => "Nothing to do: no modality's loss costs much.",
        () if dropout == 0.0 => {
            "Try `--set modality_dropout=0.2`: on missing modalities it is the strongest single step, with any method."
        }
        () if record.method == "joint" => {
            "Try `--method balgrad` beside the modality dropout: the two together keep more of Full."
        }
        () if uneven => "What remains may be what the weaker modality has to give: look at its own view above.",
        () => "Balanced as it is; more data or stronger encoders would raise both.",
    }
}
