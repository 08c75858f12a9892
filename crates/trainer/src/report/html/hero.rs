//! The picture at the top: the baseline and the row that does best, from Full to each impairment.

use maud::{Markup, PreEscaped, html};

use super::STYLE;
use crate::arms::title;
use crate::record::Measure;
use crate::report::Summary;
use crate::report::svg::{DUMBBELL, Dot, dumbbell, dumbbell_height, dumbbell_rows};
use crate::report::tables::{View, in_percent, views};
use crate::report::verdict::heroes;

const CLASSES: [&str; 2] = ["base", "best"];

/// One line per condition, a point with its interval for each of at most two rows.
pub(super) fn hero(view: &View<'_>) -> Markup {
    let (heroes, rows) = (heroes(view), rows(view));
    html! {
        @if !rows.is_empty() {
            figure class="hero" {
                figcaption {
                    (view.metric.title) ": "
                    @for (i, (method, class)) in heroes.iter().zip(CLASSES).enumerate() {
                        @if i > 0 { " · " }
                        span class={ "key " (class) } { "● " (title(method)) }
                    }
                    ". Whiskers: 95 % interval."
                }
                (dumbbell(&label(view), view.metric, &rows))
            }
        }
    }
}

fn label(view: &View<'_>) -> String {
    format!("{}{} under each condition", view.metric.title, in_percent(view.metric))
}

fn rows(view: &View<'_>) -> Vec<(String, Vec<Dot>)> {
    let heroes = heroes(view);
    let dots = |measure: &Measure| {
        let dot = |(method, class): (&&str, &'static str)| {
            let row = view.row(method, measure)?;
            Some(Dot { class, name: title(method), value: row.mean?, ci95: row.ci95 })
        };
        let dots: Vec<Dot> = heroes.iter().zip(CLASSES).filter_map(dot).collect();
        (!dots.is_empty()).then(|| (measure.title(), dots))
    };
    let conditions = view.measures().into_iter().filter(|m| matches!(m, Measure::Of(_)));
    conditions.filter_map(|m| dots(&m)).collect()
}

/// The pictures of all data sets below each other, as an SVG file that follows the reader's choice of light or dark.
pub fn picture(summary: &Summary) -> String {
    const TITLE: f64 = 34.0;
    let views = views(summary);
    let pictures: Vec<_> = views.iter().map(|view| (view, rows(view))).filter(|(_, rows)| !rows.is_empty()).collect();
    let mut height = 0.0;
    let mut parts = Vec::with_capacity(pictures.len());
    for (view, rows) in &pictures {
        let top = height + TITLE;
        height = top + dumbbell_height(rows.len());
        parts.push((top, view, rows));
    }
    let whole = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (DUMBBELL) " " (height) } role="img"
            aria-label="Scores under each condition" {
            style { (PreEscaped(STYLE)) }
            rect width="100%" height="100%" fill="var(--card)" {}
            @for (top, view, rows) in parts {
                text class="heading" x="12" y=(top - 12.0) {
                    tspan font-weight="600" { (view.dataset) } " · " (view.metric.title) (in_percent(view.metric))
                    @for (method, class) in heroes(view).iter().zip(CLASSES) {
                        "  " tspan class=(class) style="stroke:none" { "● " (title(method)) }
                    }
                }
                g transform={ "translate(0 " (top) ")" } {
                    (dumbbell_rows(view.metric, rows))
                }
            }
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", whole.into_string())
}
