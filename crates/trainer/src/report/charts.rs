//! The figures of a data set, each averaged over seeds.

mod cosines;
mod curves;
mod impaired;

use maud::{Markup, html};

use super::Run;
use super::sections::{Arm, Section};
use crate::record::{Impairment, Measure};
use crate::statistics::{mean, standard_deviation};

/// The figures of a section that its reader should see.
pub(super) fn charts(section: &Section<'_>, first: &[&str]) -> Markup {
    let arms = drawn_arms(section, first);
    html! {
        (impaired::ratios(section, &arms))
        (curves::learning(section, &arms))
        (cosines::cosines(section))
        (curves::losses(section))
    }
}

/// Those with a bar for every method.
pub(super) fn bars_by_method(section: &Section<'_>) -> Markup {
    html! {
        (impaired::bars_by_method(section))
        (impaired::cost(section))
    }
}

/// As many lines as an eye can follow.
const LINES: usize = 4;

/// The arms that plots of lines show: those that the page is about, BalGrad and dropout, and then those that do best without a
/// modality.
fn drawn_arms<'s, 'a>(section: &'s Section<'a>, first: &[&str]) -> Vec<&'s Arm<'a>> {
    const NEXT: [&str; 2] = ["balgrad", "joint+dropout"];
    let metric = section.metric();
    let avg = |arm: &Arm<'_>| {
        let avg = over_seeds(arm, |r| r.measure(&Measure::Avg(Impairment::Missing), metric));
        avg.map_or(metric.worst(), |v| v.0)
    };
    let wanted = |arm: &&Arm<'_>| first.iter().chain(&NEXT).position(|name| *name == arm.label).unwrap_or(usize::MAX);
    let mut arms: Vec<&Arm<'_>> = section.arms.iter().collect();
    arms.sort_by(|a, b| metric.order(avg(a), avg(b)));
    arms.sort_by_key(wanted);
    arms.truncate(LINES);
    arms
}

/// An entry of a legend: the class of a line, and what it shows.
type Entry = (String, String);

/// A figure: heading, legend, panels with their names, and how to read it. Nothing without panels.
fn figure(title: &str, legend: &[Entry], panels: &[(String, Markup)], reading: &str) -> Markup {
    html! {
        @if !panels.is_empty() {
            section class="figure" {
                h3 { (title) }
                p class="reading" { (reading) }
                @if !legend.is_empty() {
                    ul class="legend" {
                        @for (class, name) in legend {
                            li {
                                svg viewBox="0 0 22 10" aria-hidden="true" {
                                    path class={ "line " (class) } d="M1 5L21 5" {}
                                }
                                (name)
                            }
                        }
                    }
                }
                div class="panels" {
                    @for (name, plot) in panels {
                        figure { figcaption { (name) } (plot) }
                    }
                }
            }
        }
    }
}

/// Colour of a method, the same in every figure; with dropout it is dashed.
fn method_class(label: &str) -> String {
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

/// Colour of a modality, given its place among those of the data set.
pub(super) fn modality_class(name: &str, place: usize) -> String {
    match name {
        "image" | "text" => name.to_owned(),
        _ => ["m6", "m8", "m9"][place % 3].to_owned(),
    }
}

/// Names, with `and` before the last.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn over_seeds(arm: &Arm<'_>, of: impl Fn(&Run) -> Option<f64>) -> Option<(f64, Option<f64>)> {
    let values: Option<Vec<f64>> = arm.runs.iter().map(|r| of(r)).collect();
    let values = values?;
    Some((mean(&values)?, standard_deviation(&values)))
}
