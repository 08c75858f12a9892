//! From runs to every number of a report.

use super::compare::compare;
use super::sections::{Section, sections};
use super::summary::{CONDITIONS, Row, RunCard, Summary, score};
use super::{Collected, Run};
use crate::metrics::Metrics;
use crate::statistics::{mean, standard_deviation};

/// Draws of the bootstrap.
const DRAWS: usize = 10_000;

/// The numbers of a report.
pub fn summary(collected: &Collected) -> Summary {
    let (sections, repeated) = sections(collected);
    let mut summary = Summary {
        schema: 1,
        runs: Vec::new(),
        rows: Vec::new(),
        comparisons: Vec::new(),
        skipped: collected.skipped.iter().cloned().chain(repeated).collect(),
        notes: Vec::new(),
    };
    for section in &sections {
        for arm in &section.arms {
            summary.runs.extend(arm.runs.iter().map(|run| card(run, &section.name, &arm.label)));
        }
        let mut rows = rows(section);
        compare(section, DRAWS, &mut rows, &mut summary);
        summary.rows.extend(rows);
    }
    summary
}

fn rows(section: &Section<'_>) -> Vec<Row> {
    let conditions = || CONDITIONS.into_iter().chain(["image-only", "text-only"]);
    let mut rows = Vec::new();
    for arm in &section.arms {
        for condition in conditions() {
            for metric in Metrics::NAMES {
                let of = |condition: &str| -> Option<Vec<f64>> {
                    arm.runs.iter().map(|r| score(r, condition, metric)).collect()
                };
                let scores = of(condition);
                let mean_of = |scores: &Option<Vec<f64>>| scores.as_deref().and_then(mean);
                let impaired = condition.ends_with("-image") || condition.ends_with("-text");
                let higher_is_better = !matches!(metric, "ece" | "brier");
                let above = mean_of(&scores).zip(mean_of(&of("full"))).is_some_and(|(score, full)| score > full);
                rows.push(Row {
                    dataset: section.name.clone(),
                    method: arm.label.clone(),
                    condition: condition.into(),
                    metric: metric.into(),
                    mean: mean_of(&scores),
                    std: scores.as_deref().and_then(standard_deviation),
                    seeds: arm.runs.len(),
                    ci95: None,
                    negative_transfer: impaired && higher_is_better && above,
                });
            }
        }
    }
    rows
}

fn card(run: &Run, dataset: &str, method: &str) -> RunCard {
    let r = run.results.clone();
    RunCard {
        path: run.path.display().to_string(),
        dataset: dataset.to_owned(),
        method: method.to_owned(),
        seed: r.seed,
        settings: r.settings,
        encoders: r.encoders,
        fusion: r.fusion,
        samples: r.dataset.samples,
        fingerprint: r.dataset.fingerprint,
        metric: r.metric,
        best_epoch: r.best_epoch,
        device: r.device,
        version: r.version,
        revision: r.revision,
        wall_seconds: r.wall_seconds,
    }
}
