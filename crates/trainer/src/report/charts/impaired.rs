//! What is left when a modality fails, and what training cost.

use maud::Markup;

use super::{figure, listed, method_class, modality_class, over_seeds};
use crate::metrics::Unit;
use crate::record::{Condition, Impairment, Measure};
use crate::report::Run;
use crate::report::sections::{Arm, Section};
use crate::report::svg::{Bar, Group, Line, Plot, bars, lines};
use crate::report::tables::in_percent;
use crate::statistics::mean;

/// The impaired scores of every method as bars.
pub(super) fn bars_by_method(section: &Section<'_>) -> Markup {
    let (metric, modalities) = (section.metric(), section.modalities());
    let mut panels = Vec::new();
    for impairment in Impairment::ALL {
        let group = |arm: &Arm<'_>| {
            let bar = |(place, m): (usize, &&str)| {
                let (score, deviation) = over_seeds(arm, |r| r.record.score(&impairment.of(m), metric))?;
                Some(Bar { class: modality_class(m, place), name: format!("{m} impaired"), score, deviation })
            };
            let bars: Vec<Bar> = modalities.iter().enumerate().filter_map(bar).collect();
            let mark = over_seeds(arm, |r| r.record.score(&Condition::Full, metric)).map(|v| v.0);
            Group { name: arm.label.clone(), bars, mark, strong: arm.label.starts_with("balgrad") }
        };
        let groups: Vec<Group> = section.arms.iter().map(group).filter(|g| !g.bars.is_empty()).collect();
        if !groups.is_empty() {
            let title = format!("One modality {}", impairment.name());
            let percent = if metric.unit == Unit::Percent { [" in percent", ", %"] } else { ["", ""] };
            let label = format!("{title}: {}{} by method", metric.title, percent[0]);
            let plot = bars(&label, metric.unit, &groups);
            panels.push((format!("{title} · {}{}", metric.title, percent[1]), plot));
        }
    }
    let entry = |(place, m): (usize, &&str)| {
        let others: Vec<&str> = modalities.iter().filter(|other| *other != m).copied().collect();
        (modality_class(m, place), format!("{m} impaired, {} kept", listed(&others)))
    };
    let clean = ("full".to_owned(), if modalities.len() == 2 { "both clean" } else { "all clean" }.to_owned());
    let legend: Vec<_> = modalities.iter().enumerate().map(entry).chain([clean]).collect();
    figure(
        "What is left when a modality fails",
        &legend,
        &panels,
        "Two bars of the same length are balance; two short ones are balance without use. The thin line is the score on clean \
         input, the whisker one standard deviation over seeds.",
    )
}

/// Mean over runs of a list of each, entry by entry; none where a run lacks one, or lists differ in length.
fn mean_of_lists(arm: &Arm<'_>, of: impl Fn(&Run) -> Option<Vec<f64>>) -> Option<Vec<f64>> {
    let lists: Vec<Vec<f64>> = arm.runs.iter().map(|r| of(r)).collect::<Option<_>>()?;
    let length = lists.first()?.len();
    lists.iter().all(|l| l.len() == length).then_some(())?;
    (0..length).map(|i| mean(&lists.iter().map(|l| l[i]).collect::<Vec<_>>())).collect()
}

/// The headline score as more and more samples lose a modality.
pub(super) fn ratios(section: &Section<'_>, arms: &[&Arm<'_>]) -> Markup {
    let (metric, modalities) = (section.metric(), section.modalities());
    let scores = |run: &Run, m: &str| -> Option<Vec<f64>> {
        run.record.missing_ratios.scores.get(&Condition::missing(m))?.iter().copied().collect()
    };
    let gap = |run: &Run| -> Option<Vec<f64>> {
        let lists: Vec<Vec<f64>> = modalities.iter().map(|m| scores(run, m)).collect::<Option<_>>()?;
        let length = lists.iter().map(Vec::len).min()?;
        let at = |i: usize| lists.iter().map(|l| l[i]).collect::<Vec<_>>();
        Some((0..length).map(|i| Measure::Gap(Impairment::Missing).value(&at(i))).collect())
    };
    let last = if modalities.len() == 2 { "ΔGap between the two" } else { "ΔGap" };
    let curves = modalities.iter().map(|m| (Some(*m), format!("{m} missing"))).chain([(None, last.to_owned())]);
    let mut drawn = Vec::new();
    for (modality, title) in curves {
        let line = |arm: &&Arm<'_>| {
            let x = mean_of_lists(arm, |r| Some(r.record.missing_ratios.ratios.clone()))?;
            let y = mean_of_lists(arm, |r| modality.map_or_else(|| gap(r), |m| scores(r, m)))?;
            let points: Vec<_> = x.into_iter().zip(y).collect();
            (!points.is_empty()).then(|| Line { class: method_class(&arm.label), label: arm.label.clone(), points })
        };
        let mut lines: Vec<Line> = arms.iter().filter_map(line).collect();
        lines.sort_by_key(|l| l.class.contains("strong")); // the strong ones on top
        if !lines.is_empty() {
            drawn.push((modality.is_none(), title, lines));
        }
    }
    // The scores share an axis; the gap has its own.
    let values = |lines: &[Line]| lines.iter().flat_map(|l| &l.points).map(|p| p.1).collect::<Vec<f64>>();
    let shared: Vec<f64> = drawn.iter().filter(|d| !d.0).flat_map(|d| values(&d.2)).collect();
    let panel = |(is_gap, title, drawn): &(bool, String, Vec<Line>)| {
        let title = format!("{title} · {}{}", metric.title, in_percent(metric).replace(" in", ","));
        let span = if *is_gap { Vec::new() } else { shared.clone() };
        let units = (Unit::Percent, metric.unit);
        let plot = Plot { label: &title, x_label: "samples without it, %", units, zero: *is_gap, span };
        let svg = lines(&plot, drawn);
        (title, svg)
    };
    let panels: Vec<_> = drawn.iter().map(panel).collect();
    figure(
        "As more samples lose a modality",
        &[],
        &panels,
        "From left to right a growing part of the test samples lacks the modality. A flat curve is a model that does not need \
         it; curves for image and text that fall alike make a small gap. Four methods are drawn: those at the top of the page, \
         and those that do best without a modality.",
    )
}

/// What balancing costs: methods that need a backward pass per objective take more time per step.
pub(super) fn cost(section: &Section<'_>) -> Markup {
    let group = |arm: &Arm<'_>| {
        let speed = |r: &Run| Some(r.record.steps_per_second).filter(|s| s.is_finite() && *s > 0.0);
        let (score, deviation) = over_seeds(arm, speed)?;
        let bars = vec![Bar { class: "speed".into(), name: "steps per second".into(), score, deviation }];
        Some(Group { name: arm.label.clone(), bars, mark: None, strong: arm.label.starts_with("balgrad") })
    };
    let groups: Vec<Group> = section.arms.iter().filter_map(group).collect();
    if groups.is_empty() {
        return Markup::default();
    }
    let title = "training steps per second";
    let panel = (title.to_owned(), bars("Training steps per second by method", Unit::Plain, &groups));
    figure(
        "What it costs",
        &[],
        &[panel],
        "Longer is faster. The rates are those of the runs themselves: runs that shared a machine slowed each other down.",
    )
}
