//! A forest plot: differences with their intervals, one row each, about a line at nought.

use maud::{Markup, html};

use super::{Axis, empty, px};
use crate::metrics::{Score, Unit};

/// A row of a forest plot.
pub(in crate::report) struct Difference {
    /// What is compared with.
    pub(in crate::report) name: String,
    /// Class of its colour: what may be said of it.
    pub(in crate::report) class: &'static str,
    pub(in crate::report) value: f64,
    /// Its interval.
    pub(in crate::report) ci95: Option<[f64; 2]>,
    /// All of it in words, for a pointer that rests on it.
    pub(in crate::report) words: String,
}

const WIDTH: f64 = 460.0;
const NAMES: f64 = 190.0;
const ROW: f64 = 19.0;
const HEAD: f64 = 6.0;

/// Rows from the top down, on an axis that spans `others` too, so that plots beside each other can be compared.
pub(in crate::report) fn forest(label: &str, score: Score, rows: &[Difference], others: &[f64]) -> Markup {
    let ends = |row: &Difference| row.ci95.unwrap_or([row.value; 2]);
    let values = rows.iter().flat_map(ends).chain(others.iter().copied());
    let Some(x) = Axis::new(values, true, NAMES, WIDTH - 14.0) else { return empty() };
    let floor = HEAD + rows.len() as f64 * ROW;
    let short = |name: &str| match name.char_indices().nth(34) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    };
    let unit = if score.unit == Unit::Percent { "points" } else { "" };
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (px(floor + 36.0)) } role="img" aria-label=(label) {
            @for tick in x.ticks() {
                line class={ @if tick.abs() < 1e-9 { "mark" } @else { "grid" } } x1=(px(x.at(tick))) x2=(px(x.at(tick)))
                    y1=(HEAD) y2=(px(floor)) {}
                text class="tick" x=(px(x.at(tick))) y=(px(floor + 14.0)) text-anchor="middle" {
                    (x.text(tick, score.unit).replace('-', "−"))
                }
            }
            text class="name" x=(px((NAMES + WIDTH) / 2.0)) y=(px(floor + 30.0)) text-anchor="middle" { (unit) }
            @for (i, row) in rows.iter().enumerate() {
                @let y = HEAD + (i as f64 + 0.5) * ROW;
                g class={ "difference " (row.class) } {
                    title { (row.words) }
                    text class="name" x=(NAMES - 8.0) y=(px(y + 4.0)) text-anchor="end" { (short(&row.name)) }
                    @if let Some([low, high]) = row.ci95 {
                        line class="reach" x1=(px(x.at(low))) x2=(px(x.at(high))) y1=(px(y)) y2=(px(y)) {}
                    }
                    circle class="dot" cx=(px(x.at(row.value))) cy=(px(y)) r="4" {}
                }
            }
        }
    }
}
