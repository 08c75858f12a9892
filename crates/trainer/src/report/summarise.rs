//! From runs to every number of a report.

use super::compare::compare;
use super::sections::{Section, sections};
use super::summary::{Row, RunCard, Summary};
use super::{Collected, Run};
use crate::metrics::Score;
use crate::record::{Condition, Measure};
use crate::statistics::{mean, standard_deviation};

/// Draws of the bootstrap.
const DRAWS: usize = 10_000;

/// The numbers of a report.
pub fn summary(collected: &Collected) -> Summary {
    let (sections, repeated) = sections(collected);
    let mut summary = Summary {
        schema: 2,
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
    let measures = Measure::all(&section.modalities());
    let mut rows = Vec::new();
    for arm in &section.arms {
        for measure in &measures {
            for metric in Score::of(section.first().record.dataset.task) {
                let of = |measure: &Measure| -> Option<Vec<f64>> {
                    arm.runs.iter().map(|r| r.measure(measure, metric)).collect()
                };
                let scores = of(measure);
                let mean_of = |scores: &Option<Vec<f64>>| scores.as_deref().and_then(mean);
                let impaired = matches!(measure, Measure::Of(condition) if condition.is_impaired());
                let full = of(&Measure::Of(Condition::Full));
                let ahead =
                    mean_of(&scores).zip(mean_of(&full)).is_some_and(|(score, full)| metric.is_better(score, full));
                rows.push(Row {
                    dataset: section.name.clone(),
                    method: arm.label.clone(),
                    condition: measure.clone(),
                    metric,
                    mean: mean_of(&scores),
                    std: scores.as_deref().and_then(standard_deviation),
                    seeds: arm.runs.len(),
                    ci95: None,
                    // Scores of calibration say nothing of it.
                    negative_transfer: impaired && metric.leads && ahead,
                });
            }
        }
    }
    rows
}

fn card(run: &Run, dataset: &str, method: &str) -> RunCard {
    let r = run.record.clone();
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
        val: r.val.scores.get(r.metric),
        best_epoch: r.best_epoch,
        device: r.device,
        version: r.version,
        revision: r.revision,
        wall_seconds: r.wall_seconds,
    }
}
