//! Rows on one axis, each with a point and a whisker for everything that is compared.

use maud::{Markup, html};

use super::{Axis, px};
use crate::metrics::{Score, Unit};

/// A point of a row.
pub(in crate::report) struct Dot {
    /// Class of its colour.
    pub(in crate::report) class: &'static str,
    /// What it is, at the first row and for a pointer that rests on it.
    pub(in crate::report) name: String,
    pub(in crate::report) value: f64,
    /// Its interval.
    pub(in crate::report) ci95: Option<[f64; 2]>,
}

pub(in crate::report) const WIDTH: f64 = 640.0;
const NAMES: f64 = 110.0;
const ROW: f64 = 34.0;
const HEAD: f64 = 10.0;

/// Height of a picture of so many rows.
pub(in crate::report) fn height(rows: usize) -> f64 {
    floor(rows) + 26.0
}

/// Where the rows end.
fn floor(rows: usize) -> f64 {
    HEAD + rows as f64 * ROW
}

/// Rows from the top down; the points of a row are joined by a line.
pub(in crate::report) fn dumbbell(label: &str, score: Score, rows: &[(String, Vec<Dot>)]) -> Markup {
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (px(height(rows.len()))) } role="img" aria-label=(label) {
            (self::rows(score, rows))
        }
    }
}

/// What stands in the picture.
pub(in crate::report) fn rows(score: Score, rows: &[(String, Vec<Dot>)]) -> Markup {
    let ends = |dot: &Dot| dot.ci95.map_or([dot.value; 2], |ci95| ci95);
    let values = rows.iter().flat_map(|row| &row.1).flat_map(ends);
    let Some(x) = Axis::new(values, false, NAMES, WIDTH - 16.0) else { return html! {} };
    let floor = floor(rows.len());
    let percent = if score.unit == Unit::Percent { " %" } else { "" };
    let dot = |dot: &Dot, y: f64| {
        html! {
            @if let Some([low, high]) = dot.ci95 {
                line class={ "reach " (dot.class) } x1=(px(x.at(low))) x2=(px(x.at(high))) y1=(px(y)) y2=(px(y)) {}
            }
            circle class={ "dot " (dot.class) } cx=(px(x.at(dot.value))) cy=(px(y)) r="5" {
                title { (dot.name) ": " (score.text(dot.value, 1)) (percent) }
            }
        }
    };
    html! {
        @for tick in x.ticks() {
            line class="grid" x1=(px(x.at(tick))) x2=(px(x.at(tick))) y1=(HEAD) y2=(px(floor)) {}
            text class="tick" x=(px(x.at(tick))) y=(px(floor + 16.0)) text-anchor="middle" {
                (x.text(tick, score.unit)) (percent)
            }
        }
        @for (i, (name, dots)) in rows.iter().enumerate() {
            @let y = HEAD + (i as f64 + 0.5) * ROW;
            text class="name" x=(NAMES - 12.0) y=(px(y + 4.0)) text-anchor="end" { (name) }
            @if let [first, .., last] = dots.as_slice() {
                line class="between" x1=(px(x.at(first.value))) x2=(px(x.at(last.value)))
                    y1=(px(y - 5.0)) y2=(px(y + 5.0)) {}
            }
            @for (place, one) in dots.iter().enumerate() {
                (dot(one, if dots.len() > 1 { y - 5.0 + 10.0 * place as f64 } else { y }))
            }
        }
    }
}
