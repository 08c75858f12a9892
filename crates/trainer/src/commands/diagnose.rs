//! `balgrad diagnose`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Usage;
use crate::record::{Impairment, RunRecord};
use crate::report::{self, Diagnosis, Finding, Kind, Run};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use textwrap::{Options, termwidth, wrap};

use super::shell;

#[derive(Args)]
pub(super) struct Diagnose {
    /// The folder of a finished run, or one with the runs of a grid.
    #[arg(value_name = "RUN|DIR")]
    run: PathBuf,
}

impl Diagnose {
    pub(super) fn run(self) -> Result<ExitCode> {
        if !self.run.exists() {
            return Err(Usage(format!("{} does not exist", self.run.display())).into());
        }
        if ["results.json", "config.toml", "metrics.jsonl"].iter().any(|name| self.run.join(name).exists()) {
            // Said of this folder alone, an unfinished run is an error.
            RunRecord::read(&self.run).map_err(anyhow::Error::new).with_context(|| self.run.display().to_string())?;
        }
        let collected = report::collect(std::slice::from_ref(&self.run))?;
        match &collected.runs[..] {
            [run] => one(run)?,
            runs => self.grid(runs)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A line for each row of each data set, what is so for most of its seeds, and where to go on.
    fn grid(&self, runs: &[Run]) -> Result<()> {
        type Rows<'a> = BTreeMap<&'a str, Vec<(&'a Run, Diagnosis)>>;
        let mut sets: BTreeMap<&str, Rows<'_>> = BTreeMap::new();
        for run in runs {
            let found = report::diagnose(run).map_err(|e| anyhow!(e))?;
            let rows = sets.entry(&run.record.dataset.name).or_default();
            rows.entry(run.record.label()).or_default().push((run, found));
        }
        for (data, rows) in &sets {
            let width = rows.keys().map(|label| label.chars().count()).max().unwrap_or(0);
            let count: usize = rows.values().map(Vec::len).sum();
            out!("{data}: {count} runs");
            let mut best: Option<(&str, f64, &Run)> = None;
            for (label, runs) in rows {
                let metric = runs[0].0.record.metric;
                let tags = common(runs);
                let full = mean(runs, |r| r.score(&crate::record::Condition::Full, metric));
                let avg = mean(runs, |r| r.pair(Impairment::Missing).avg);
                let text = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| metric.text(v, 1));
                let line = format!("  {label:width$}  full {}  one missing {}  {tags}", text(full), text(avg));
                put(&line, width + 4)?;
                if let Some(both) = full.zip(avg).map(|(full, avg)| (full + avg) / 2.0)
                    && best.is_none_or(|(_, score, _)| metric.is_better(both, score))
                {
                    best = Some((label, both, runs[0].0));
                }
            }
            let all = rows.values().flatten();
            if all.clone().all(|(_, d)| d.findings.iter().any(|f| f.kind == Kind::NearChance)) {
                let (_, first) = &rows.values().next().context("a data set has a row")?[0];
                first.findings.iter().take(1).try_for_each(say)?;
            } else if let Some((label, _, run)) = best {
                put(
                    &format!("Best, with and without a modality: {label}, in {}", shell(&run.path.to_string_lossy())),
                    2,
                )?;
            }
        }
        put(&format!("How sure that is: balgrad report {} --out report.html", shell(&self.run.to_string_lossy())), 2)
    }
}

fn one(run: &Run) -> Result<()> {
    let found = report::diagnose(run).map_err(|e| anyhow!(e))?;
    put(&found.scores, 2)?;
    found.findings.iter().try_for_each(say)?;
    for (name, conflict) in run.record.conflict.iter().flatten() {
        if let Some(fraction) = conflict.fraction {
            put(&format!("The {name}'s task and KL gradients conflict on {:.0} % of steps.", 100.0 * fraction), 2)?;
        }
    }
    if found.findings.iter().all(|f| f.advice.is_none()) {
        out!("Nothing to do.");
    }
    Ok(())
}

fn say(finding: &Finding) -> Result<()> {
    put(&finding.says, 2)?;
    finding.advice.iter().try_for_each(|advice| put(&format!("  → {advice}"), 4))
}

/// A text, as wide as the terminal, each line after the first indented.
fn put(text: &str, indent: usize) -> Result<()> {
    let hang = " ".repeat(indent);
    for line in wrap(text, Options::new(termwidth()).subsequent_indent(&hang).break_words(false)) {
        out!("{line}");
    }
    Ok(())
}

fn mean(runs: &[(&Run, Diagnosis)], score: impl Fn(&RunRecord) -> Option<f64>) -> Option<f64> {
    crate::statistics::mean(&runs.iter().map(|(run, _)| score(&run.record)).collect::<Option<Vec<_>>>()?)
}

/// What was found in most of some runs.
fn common(runs: &[(&Run, Diagnosis)]) -> String {
    let mut counts: BTreeMap<(Kind, Option<&str>), usize> = BTreeMap::new();
    for finding in runs.iter().flat_map(|(_, d)| &d.findings) {
        *counts.entry((finding.kind, finding.modality.as_deref())).or_default() += 1;
    }
    let most = counts.into_iter().filter(|(_, count)| 2 * count > runs.len());
    let tag = |((kind, modality), _): ((Kind, Option<&str>), usize)| {
        let m = modality.unwrap_or_default();
        match kind {
            Kind::NearChance => "no better than guessing".to_owned(),
            Kind::Absent => format!("{m} plays no part"),
            Kind::Useless => format!("{m} adds nothing"),
            Kind::Dominant => format!("{m} dominates"),
            Kind::Overconfident => format!("overconfident without {m}"),
            Kind::Redundant => format!("{m} is made up for"),
            Kind::Balanced => "balanced".to_owned(),
        }
    };
    most.map(tag).collect::<Vec<_>>().join(", ")
}
