//! One page that needs nothing but itself: no font, picture or script from elsewhere.

mod classes;
pub(super) mod download;
mod facts;
mod findings;
mod forest;
pub(super) mod grid;
mod hero;
mod ranking;
mod samples;
mod use_it;

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html as markup};
use sha2::{Digest, Sha256};

use super::charts::{bars_by_method, charts};
use super::run::place;
use super::sections::{Section, sections};
use super::tables::{View, views};
use super::verdict::{heroes, verdict};
use super::{Collected, Summary};

pub use hero::picture;

const STYLE: &str = include_str!("page.css");
/// Sorts tables and hands out figures; the page is whole without it.
const SCRIPT: &str = include_str!("page.js");

/// The report as one HTML page. It shows samples where the data set allows it.
pub fn html(collected: &Collected, summary: &Summary) -> String {
    let (sections, _) = sections(collected);
    let views = views(summary);
    let policy = format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'",
        BASE64_STANDARD.encode(Sha256::digest(SCRIPT))
    );
    let page = markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { "BalGrad report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(summary, &views))
                    @for (number, section) in sections.iter().enumerate() {
                        @if let Some(view) = views.iter().find(|v| v.dataset == section.name) {
                            h2 id={ "d" (number) } { (section.name) }
                            (body(section, view))
                        }
                    }
                    (foot(summary))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// A data set, from what everybody wants to know to what few look up.
fn body(section: &Section<'_>, view: &View<'_>) -> Markup {
    markup! {
        @if let Some(samples) = samples::samples(section, view) { (samples) }
        @if let Some(commands) = use_it::use_it(section, view) { (commands) }
        (forest::comparisons(view))
        (charts(section, &heroes(view)))
        (classes::classes(section, view))
        details {
            summary { "All tables and bars" }
            (findings::findings(view))
            (grid::tables(section, view))
            (ranking::ranking(section, view))
            (ranking::contributions(section))
            (bars_by_method(section))
        }
        details {
            summary { "Data, versions and settings" }
            (facts::provenance(section))
            (facts::settings(section))
        }
    }
}

fn head(summary: &Summary, views: &[View<'_>]) -> Markup {
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    markup! {
        header {
            h1 { "Do both modalities pull their weight?" }
            p class="lead" {
                (plural(summary.runs.len(), "run")) " on " (plural(views.len(), "data set"))
                ": what image-text classifiers keep when image or text is missing or noisy."
            }
            @for (view, text) in views.iter().filter_map(|v| Some((v, verdict(v)?))) {
                p class="verdict" { @if views.len() > 1 { b { (view.dataset) ": " } } (text) }
                (hero::hero(view))
            }
        }
        nav {
            @for (number, view) in views.iter().enumerate() {
                a href={ "#d" (number) } { (view.dataset) }
            }
        }
        details {
        summary { "How to read this page" }
        p {
            "Every model was trained once on clean pairs and tested five times: with both modalities (" b { "Full" }
            "), with the image or the text taken away (" b { "Missing" } "), and with one of them corrupted ("
            b { "Noisy" } "). “Missing image” means that only the text was left. " b { "Avg" }
            " is the mean of the two impaired scores: more is better. " b { "ΔGap" }
            " is their distance: less is better, but only beside a good Avg, for a model that is equally poor without \
             either is balanced too."
        }
        p {
            "Numbers are percent, mean ± standard deviation over seeds. An asterisk marks " i { "negative transfer" }
            ": an impaired input that scored above the clean one, so that the impaired modality may have been doing harm."
        }
        p {
            "A difference is " b { "clear" } " where its p-value, corrected for all comparisons of that data set and score, \
             is below .05; " b { "suggestive" } " where only its own 95 % interval leaves 0 out; and else "
            b { "not significant" } ". Interval and p-value come from one bootstrap, which draws seeds and groups of \
             related test samples alike. One seed says nothing about others: then no difference is clear."
        }
        }
    }
}

fn foot(summary: &Summary) -> Markup {
    let list = |title: &str, items: &[String]| {
        markup! {
            @if !items.is_empty() {
                h3 { (title) }
                ul class="quiet" { @for item in items { li { (item) } } }
            }
        }
    };
    let skipped: Vec<String> =
        summary.skipped.iter().map(|s| format!("{}: {}", place(Path::new(&s.path)), s.reason)).collect();
    markup! {
        (list("Left out", &skipped))
        (list("Notes", &summary.notes))
        footer {
            p {
                "Every score can be computed again from " code { "predictions/*.jsonl" }
                " of its run; the same numbers stand in " code { "summary.json" } "."
            }
        }
    }
}
