//! The figures of a data set, each averaged over seeds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::sections::{Arm, Section};
use super::summary::score;
use super::svg::{Group, Line, Unit, bars, escape, histograms, lines};
use super::tables::metric_name;
use super::{Conflict, Run};
use crate::statistics::{mean, standard_deviation};

/// A figure: heading, legend, panels, and how to read it.
fn figure(title: &str, legend: &[(String, String)], panels: &[(String, String)], reading: &str) -> String {
    if panels.is_empty() {
        return String::new();
    }
    let mut out = format!("<section class=\"figure\"><h3>{}</h3><p class=\"reading\">{reading}</p>", escape(title));
    if !legend.is_empty() {
        out += "<ul class=\"legend\">";
        for (class, name) in legend {
            let swatch = format!(
                "<svg viewBox=\"0 0 22 10\" aria-hidden=\"true\"><path class=\"line {class}\" d=\"M1 5L21 5\"/></svg>"
            );
            let _ = write!(out, "<li>{swatch}{}</li>", escape(name));
        }
        out += "</ul>";
    }
    out += "<div class=\"panels\">";
    for (name, svg) in panels {
        let _ = write!(out, "<figure><figcaption>{}</figcaption>{svg}</figure>", escape(name));
    }
    out + "</div></section>"
}

/// All figures of a section.
pub(super) fn charts(section: &Section<'_>) -> String {
    [impaired(section), ratios(section), learning(section), cosines(section), losses(section), cost(section)].concat()
}

/// Colour of a method, the same in every figure; with dropout it is dashed.
pub(super) fn method_class(label: &str) -> String {
    const KNOWN: [&str; 10] =
        ["joint", "balgrad", "multi-loss", "neither", "mslr", "ogm", "ogm-ge", "agm", "reweighting", "projection"];
    let base = label.split([' ', '+']).next().unwrap_or(label);
    let index = KNOWN
        .iter()
        .position(|k| *k == base)
        .unwrap_or_else(|| 10 + label.bytes().fold(0usize, |h, b| (h * 31 + usize::from(b)) % 6));
    let dashed = if label.contains("dropout") { " dashed" } else { "" };
    let strong = if matches!(base, "joint" | "balgrad") { " strong" } else { "" };
    format!("m{index}{dashed}{strong}")
}

fn over_seeds(arm: &Arm<'_>, of: impl Fn(&Run) -> Option<f64>) -> Option<(f64, Option<f64>)> {
    let values: Option<Vec<f64>> = arm.runs.iter().map(|r| of(r)).collect();
    let values = values?;
    Some((mean(&values)?, standard_deviation(&values)))
}

fn impaired(section: &Section<'_>) -> String {
    let metric = section.metric();
    let mut panels = Vec::new();
    for (kind, title) in [("missing", "One modality missing"), ("noisy", "One modality noisy")] {
        let group = |arm: &Arm<'_>| {
            let of = |m: &str| over_seeds(arm, |r| score(r, &format!("{kind}-{m}"), metric));
            let both = [("image", "image impaired", of("image")), ("text", "text impaired", of("text"))];
            let bars: Vec<_> = both.into_iter().filter_map(|(c, n, v)| v.map(|(m, s)| (c, n, m, s))).collect();
            let mark = over_seeds(arm, |r| r.score("full", metric)).map(|v| v.0);
            Group { name: arm.label.clone(), bars, mark, strong: arm.label.starts_with("balgrad") }
        };
        let groups: Vec<Group> = section.arms.iter().map(group).filter(|g| !g.bars.is_empty()).collect();
        if !groups.is_empty() {
            let label = format!("{title}: {} in percent by method", metric_name(metric));
            panels.push((format!("{title} · {}, %", metric_name(metric)), bars(&label, Unit::Percent, &groups)));
        }
    }
    let legend = [
        ("image".to_owned(), "image impaired, text kept".to_owned()),
        ("text".into(), "text impaired, image kept".into()),
        ("full".into(), "both clean".into()),
    ];
    figure(
        "What is left when a modality fails",
        &legend,
        &panels,
        "Two bars of the same length are balance; two short ones are balance without use. The thin line is the score on clean \
         input, the whisker one standard deviation over seeds.",
    )
}

/// As many lines as an eye can tell apart.
const LINES: usize = 10;

/// The arms that a plot of lines shows: all, or where there are too many the baseline, BalGrad and dropout, and then those
/// that do best without a modality.
fn told_apart<'s, 'a>(section: &'s Section<'a>) -> Vec<&'s Arm<'a>> {
    const ALWAYS: [&str; 4] = ["joint", "balgrad", "joint+dropout", "balgrad+dropout"];
    let metric = section.metric();
    let avg = |arm: &Arm<'_>| over_seeds(arm, |r| Some(r.pair("missing", metric)?.0)).map_or(f64::MIN, |v| v.0);
    let mut arms: Vec<&Arm<'_>> = section.arms.iter().collect();
    if arms.len() > LINES {
        arms.sort_by(|a, b| avg(b).total_cmp(&avg(a)));
        arms.sort_by_key(|arm| !ALWAYS.contains(&arm.label.as_str()));
        arms.truncate(LINES);
    }
    arms
}

fn ratios(section: &Section<'_>) -> String {
    let column = |arm: &Arm<'_>, name: &str| -> Option<Vec<f64>> {
        let lists: Option<Vec<Vec<f64>>> =
            arm.runs.iter().map(|r| r.results.missing_ratios.get(name)?.iter().copied().collect()).collect();
        let lists = lists?;
        let length = lists.first()?.len();
        lists.iter().all(|l| l.len() == length).then_some(())?;
        (0..length).map(|i| mean(&lists.iter().map(|l| l[i]).collect::<Vec<_>>())).collect()
    };
    let gap = |arm: &Arm<'_>| -> Option<Vec<f64>> {
        let one = |run: &&Run| -> Option<Vec<f64>> {
            let of = |name: &str| run.results.missing_ratios.get(name);
            of("missing-image")?
                .iter()
                .zip(of("missing-text")?)
                .map(|(a, b)| Some((a.as_ref()? - b.as_ref()?).abs()))
                .collect()
        };
        let lists: Vec<Vec<f64>> = arm.runs.iter().map(one).collect::<Option<_>>()?;
        let length = lists.iter().map(Vec::len).min()?;
        (0..length).map(|i| mean(&lists.iter().map(|l| l[i]).collect::<Vec<_>>())).collect()
    };
    let metric = metric_name(section.metric());
    let mut panels = Vec::new();
    let mut legend = Vec::new();
    for (name, title) in
        [("missing-image", "image missing"), ("missing-text", "text missing"), ("gap", "ΔGap between the two")]
    {
        let line = |arm: &Arm<'_>| {
            let (x, y) = (column(arm, "ratios")?, if name == "gap" { gap(arm) } else { column(arm, name) }?);
            Some(Line {
                class: method_class(&arm.label),
                label: arm.label.clone(),
                points: x.into_iter().zip(y).collect(),
            })
        };
        let mut drawn: Vec<Line> =
            told_apart(section).into_iter().filter_map(line).filter(|l| !l.points.is_empty()).collect();
        if drawn.is_empty() {
            continue;
        }
        if legend.is_empty() {
            legend = drawn.iter().map(|l| (l.class.clone(), l.label.clone())).collect();
        }
        drawn.sort_by_key(|l| l.class.contains("strong")); // the strong ones on top
        let title = format!("{title} · {metric}, %");
        let plot = lines(&title, "samples without it, %", (Unit::Percent, Unit::Percent), name == "gap", &drawn);
        panels.push((title, plot));
    }
    figure(
        "As more samples lose a modality",
        &legend,
        &panels,
        "From left to right a growing part of the test samples lacks the modality. A flat curve is a model that does not need \
         it; curves for image and text that fall alike make a small gap. Of many methods only some are drawn: joint, BalGrad and \
         dropout, and those that do best without a modality.",
    )
}

/// Mean over runs of what each says of an epoch; only epochs that every run has.
fn by_epoch(arm: &Arm<'_>, key: &str) -> Vec<(f64, f64)> {
    let mut values: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for epoch in arm.runs.iter().flat_map(|r| &r.epochs) {
        if let Some(Some(value)) = epoch.val.get(key) {
            values.entry(epoch.epoch.max(0.0) as u64).or_default().push(*value);
        }
    }
    let whole = values.into_iter().filter(|(_, v)| v.len() == arm.runs.len());
    whole.filter_map(|(epoch, v)| Some((epoch as f64, mean(&v)?))).collect()
}

fn learning(section: &Section<'_>) -> String {
    let metric = section.metric();
    let panel = |arm: &Arm<'_>| {
        let line = |(class, key, label): (&str, &str, &str)| Line {
            class: class.into(),
            label: label.into(),
            points: by_epoch(arm, key),
        };
        let curves = [
            ("full strong", metric, "both"),
            ("image", "image-only", "image alone"),
            ("text", "text-only", "text alone"),
        ];
        let drawn: Vec<Line> = curves.into_iter().map(line).filter(|l| l.points.len() > 1).collect();
        let label = format!("Learning curve of {}", arm.label);
        (!drawn.is_empty())
            .then(|| (arm.label.clone(), lines(&label, "epoch", (Unit::Plain, Unit::Percent), true, &drawn)))
    };
    let panels: Vec<_> = section.arms.iter().filter_map(panel).collect();
    let legend = [("full strong", "both modalities"), ("image", "image's own view"), ("text", "text's own view")];
    let title = format!("Who learns when: {} on validation, %", metric_name(metric));
    figure(
        &title,
        &legend.map(|(c, n)| (c.to_owned(), n.to_owned())),
        &panels,
        "A modality's own view is its own head where the method trains one, else its slice of the fused head. One that stays \
         low while the other rises has been starved, or has little to say.",
    )
}

fn cosines(section: &Section<'_>) -> String {
    let mut panels = Vec::new();
    for name in ["neither", "reweighting", "projection", "balgrad"] {
        let Some(arm) = section.arm(name) else { continue };
        for modality in ["image", "text"] {
            let conflicts: Vec<&Conflict> =
                arm.runs.iter().filter_map(|r| r.results.conflict.get(modality)?.as_ref()).collect();
            let Some((edges, before, after)) = pooled(&conflicts) else { continue };
            let fractions: Vec<f64> = conflicts.iter().filter_map(|c| c.fraction).collect();
            let fraction = mean(&fractions).map_or("–".into(), |f| format!("{:.0} %", 100.0 * f));
            let label = format!("Cosines between task and KL gradients, {name}, {modality}");
            let plot = histograms(&label, "cosine of task and KL gradient", &edges, &before, &after);
            panels.push((format!("{name}, {modality} block: {fraction} of steps conflict"), plot));
        }
    }
    let legend =
        [("against", "pulling against each other"), ("with", "pulling together"), ("outline", "after the projection")];
    figure(
        "Do the gradients agree?",
        &legend.map(|(c, n)| (c.to_owned(), n.to_owned())),
        &panels,
        "Each step's cosine between the task's gradient and the KL gradient, in percent of steps. Left of 0 they conflict. The \
         outline shows what is left after the projection: where one is made per block, nothing should stay left of 0.",
    )
}

/// Counts of all runs together, if they share their bins: edges, before, after.
fn pooled(conflicts: &[&Conflict]) -> Option<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let edges = conflicts.first()?.cosine_before.as_ref()?.edges.clone();
    let mut sums = [vec![0.0; edges.len().checked_sub(1)?], vec![0.0; edges.len() - 1]];
    for conflict in conflicts {
        let both = [conflict.cosine_before.as_ref()?, conflict.cosine_after.as_ref()?];
        for (sum, histogram) in sums.iter_mut().zip(both) {
            if histogram.edges != edges || histogram.counts.len() != sum.len() {
                return None;
            }
            sum.iter_mut().zip(&histogram.counts).for_each(|(s, c)| *s += c);
        }
    }
    let [before, after] = sums;
    (before.iter().sum::<f64>() > 0.0).then_some((edges, before, after))
}

fn losses(section: &Section<'_>) -> String {
    let pairs = [("projection", "balgrad"), ("neither", "reweighting")];
    let Some((without, with)) = pairs.iter().find_map(|(a, b)| section.arm(a).zip(section.arm(b))) else {
        return String::new();
    };
    let both = [(without, "plain"), (with, "m1 strong")];
    let panel = |title: &str, x: &str, points: &dyn Fn(&Arm<'_>) -> Vec<(f64, f64)>| {
        let line = |(arm, class): (&Arm<'_>, &str)| Line {
            class: class.into(),
            label: arm.label.clone(),
            points: points(arm),
        };
        let drawn: Vec<Line> = both.into_iter().map(line).filter(|l| l.points.len() > 1).collect();
        let label = format!("Loss with and without reweighting: {title}");
        (drawn.len() == 2).then(|| (title.to_owned(), lines(&label, x, (Unit::Plain, Unit::Plain), false, &drawn)))
    };
    let mut panels = Vec::new();
    for modality in ["image", "text"] {
        panels.extend(panel(&format!("validation loss, {modality}'s own head"), "epoch", &|arm| {
            by_epoch(arm, &format!("loss-{modality}"))
        }));
    }
    let mut names: Vec<&String> = with.runs.iter().flat_map(|r| &r.steps).flat_map(|s| s.losses.keys()).collect();
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

/// What balancing costs: methods that need a backward pass per objective take more time per step.
fn cost(section: &Section<'_>) -> String {
    let group = |arm: &Arm<'_>| {
        let (mean, deviation) = over_seeds(arm, |r| r.results.steps_per_second.filter(|s| s.is_finite() && *s > 0.0))?;
        let bars = vec![("speed", "steps per second", mean, deviation)];
        Some(Group { name: arm.label.clone(), bars, mark: None, strong: arm.label.starts_with("balgrad") })
    };
    let groups: Vec<Group> = section.arms.iter().filter_map(group).collect();
    if groups.is_empty() {
        return String::new();
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

/// A loss along the steps, averaged over runs and over short stretches, so that a long run is as legible as a short one.
fn by_step(arm: &Arm<'_>, name: &str) -> Vec<(f64, f64)> {
    const STRETCHES: f64 = 60.0;
    let steps = || arm.runs.iter().flat_map(|r| &r.steps);
    let last = steps().map(|s| s.step).filter(|s| s.is_finite()).fold(1.0, f64::max);
    let mut stretches: BTreeMap<u64, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for step in steps() {
        if let Some(Some(loss)) = step.losses.get(name).filter(|l| l.is_some_and(f64::is_finite)) {
            let (x, y) = stretches.entry((step.step / last * STRETCHES) as u64).or_default();
            x.push(step.step);
            y.push(*loss);
        }
    }
    stretches.into_values().filter_map(|(x, y)| mean(&x).zip(mean(&y))).collect()
}
