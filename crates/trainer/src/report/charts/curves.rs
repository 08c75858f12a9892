//! Curves over epochs and steps.

use std::collections::BTreeMap;

use maud::Markup;

use super::{figure, modality_class};
use crate::arms::title;
use crate::metrics::Unit;
use crate::record::Validation;
use crate::report::sections::{Arm, Section};
use crate::report::svg::{Line, Plot, lines};
use crate::report::tables::in_percent;
use crate::statistics::mean;

/// Mean over runs of something of each epoch's validation; only epochs that every run has.
fn by_epoch(arm: &Arm<'_>, of: impl Fn(&Validation) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut values: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for epoch in arm.runs.iter().flat_map(|r| &r.log.epochs) {
        if let Some(value) = of(&epoch.val) {
            values.entry(epoch.epoch).or_default().push(value);
        }
    }
    let whole = values.into_iter().filter(|(_, v)| v.len() == arm.runs.len());
    whole.filter_map(|(epoch, v)| Some((epoch as f64, mean(&v)?))).collect()
}

/// Validation scores by epoch: of the model, and of each modality's own view.
pub(super) fn learning(section: &Section<'_>, arms: &[&Arm<'_>]) -> Markup {
    let (metric, modalities) = (section.metric(), section.modalities());
    let all = if modalities.len() == 2 { "both" } else { "all" };
    let curves = |arm: &&Arm<'_>| {
        let whole = Line {
            class: "full strong".into(),
            label: all.into(),
            points: by_epoch(arm, |val| val.scores.get(metric)),
        };
        let view = |(place, m): (usize, &&str)| Line {
            class: modality_class(m, place),
            label: format!("{m} alone"),
            points: by_epoch(arm, |val| val.views.get(*m).copied().flatten()),
        };
        let curves = std::iter::once(whole).chain(modalities.iter().enumerate().map(view));
        let drawn: Vec<Line> = curves.filter(|l| l.points.len() > 1).collect();
        (!drawn.is_empty()).then(|| (arm.label.clone(), drawn))
    };
    let drawn: Vec<_> = arms.iter().filter_map(curves).collect();
    let span: Vec<f64> = drawn.iter().flat_map(|d| &d.1).flat_map(|l| &l.points).map(|p| p.1).collect();
    let panel = |(name, curves): &(String, Vec<Line>)| {
        let label = format!("Learning curve of {name}");
        let units = (Unit::Plain, metric.unit);
        let plot = Plot { label: &label, x_label: "epoch", units, zero: true, span: span.clone() };
        (title(name), lines(&plot, curves))
    };
    let panels: Vec<_> = drawn.iter().map(panel).collect();
    let heading = format!("Who learns when: {} on validation{}", metric.title, in_percent(metric).replace(" in", ","));
    figure(
        &heading,
        &[],
        &panels,
        "A modality's own view is its own head where the method trains one, else its slice of the fused head. One that stays \
         low while the other rises has been starved, or has little to say.",
    )
}

/// Losses of an ablation's arms with and without reweighting.
pub(super) fn losses(section: &Section<'_>) -> Markup {
    let pairs = [("projection", "balgrad"), ("neither", "reweighting")];
    let Some((without, with)) = pairs.iter().find_map(|(a, b)| section.arm(a).zip(section.arm(b))) else {
        return Markup::default();
    };
    let both = [(without, "plain"), (with, "m1 strong")];
    let panel = |title: &str, x: &str, points: &dyn Fn(&Arm<'_>) -> Vec<(f64, f64)>| {
        let line =
            |(arm, class): (&Arm<'_>, &str)| Line { class: class.into(), label: String::new(), points: points(arm) };
        let drawn: Vec<Line> = both.into_iter().map(line).filter(|l| l.points.len() > 1).collect();
        let label = format!("Loss with and without reweighting: {title}");
        let plot = Plot { label: &label, x_label: x, ..Plot::default() };
        (drawn.len() == 2).then(|| (title.to_owned(), lines(&plot, &drawn)))
    };
    let mut panels = Vec::new();
    for modality in section.modalities() {
        panels.extend(panel(&format!("validation loss, {modality}'s own head"), "epoch", &|arm| {
            by_epoch(arm, |val| val.view_losses.get(modality).copied().flatten())
        }));
    }
    let mut names: Vec<&String> = with.runs.iter().flat_map(|r| &r.log.steps).flat_map(|s| s.losses.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().take(6) {
        panels.extend(panel(&format!("training loss, {name}"), "step", &|arm| by_step(arm, name)));
    }
    let legend = [
        ("plain".to_owned(), format!("without reweighting ({})", without.label)),
        ("m1 strong".to_owned(), format!("with ({})", with.label)),
    ];
    figure(
        "Losses with and without reweighting",
        &legend,
        &panels,
        "Reweighting pulls the less learned modality harder: if it works, the two modalities' losses come down together.",
    )
}

/// A loss along the steps, averaged over runs and over short stretches, so that a long run is as legible as a short one.
fn by_step(arm: &Arm<'_>, name: &str) -> Vec<(f64, f64)> {
    const STRETCHES: f64 = 60.0;
    let steps = || arm.runs.iter().flat_map(|r| &r.log.steps);
    let last = steps().map(|s| s.step as f64).fold(1.0, f64::max);
    let mut stretches: BTreeMap<u64, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for step in steps() {
        if let Some(loss) = step.losses.get(name).copied().flatten() {
            let (x, y) = stretches.entry((step.step as f64 / last * STRETCHES) as u64).or_default();
            x.push(step.step as f64);
            y.push(loss);
        }
    }
    stretches.into_values().filter_map(|(x, y)| mean(&x).zip(mean(&y))).collect()
}
