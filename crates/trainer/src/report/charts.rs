//! The figures of a data set, each averaged over seeds.

mod cosines;
mod curves;
mod impaired;

use maud::{Markup, html};

use super::Run;
use super::sections::{Arm, Section};
use crate::statistics::{mean, standard_deviation};

/// All figures of a section.
pub(super) fn charts(section: &Section<'_>) -> Markup {
    html! {
        (impaired::bars_by_method(section))
        (impaired::ratios(section))
        (curves::learning(section))
        (cosines::cosines(section))
        (curves::losses(section))
        (impaired::cost(section))
    }
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
fn modality_class(name: &str, place: usize) -> String {
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
