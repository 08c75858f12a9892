//! Small plots as inline SVG: lines, bars, histograms. Colours are classes, so that a page decides on light and dark.

mod dumbbell;
mod forest;

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::metrics::Unit;

pub(super) use dumbbell::{Dot, WIDTH as DUMBBELL, dumbbell, height as dumbbell_height, rows as dumbbell_rows};
pub(super) use forest::{Difference, forest};

/// A line of a plot.
pub(super) struct Line {
    /// Class of its colour.
    pub(super) class: String,
    /// What it is, for a pointer that rests on it.
    pub(super) label: String,
    /// `(x, y)`, in the order of x.
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

/// An axis: data to places on the page, with round ticks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, zero: bool, from: f64, to: f64) -> Option<Self> {
        let (mut low, mut high) =
            values.filter(|v| v.is_finite()).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return None;
        }
        if zero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if high - low < 1e-9 {
            (low, high) = (low - 0.05, high + 0.05);
        }
        let raw = (high - low) / 4.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw * 0.999).unwrap_or(raw);
        Some(Self { low: (low / step + 1e-9).floor() * step, high: (high / step - 1e-9).ceil() * step, step, from, to })
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count.min(20)).map(|i| self.low + self.step * i as f64)
    }

    fn text(&self, value: f64, unit: Unit) -> String {
        let (value, step) = (unit.scale() * value, unit.scale() * self.step);
        // As few digits as tell the ticks apart exactly.
        let exact = |digits: &usize| {
            let scaled = step * 10f64.powi(*digits as i32);
            (scaled - scaled.round()).abs() < 1e-6
        };
        let digits = (0..4).find(exact).unwrap_or(4);
        let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
        format!("{value:.digits$}")
    }
}

/// A coordinate as it is written: tenths of a pixel.
fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn frame(height: f64, label: &str, inside: &Markup) -> Markup {
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(label) { (inside) }
    }
}

fn empty() -> Markup {
    html! { p class="quiet" { "No data for this figure." } }
}

/// Horizontal lines at the ticks of an axis.
fn grid(y: &Axis, unit: Unit, right: f64) -> Markup {
    html! {
        @for tick in y.ticks() {
            line class="grid" x1=(LEFT) x2=(px(right)) y1=(px(y.at(tick))) y2=(px(y.at(tick))) {}
            text class="tick" x=(px(LEFT - 6.0)) y=(px(y.at(tick) + 3.5)) text-anchor="end" { (y.text(tick, unit)) }
        }
    }
}

/// The ticks of the axis below a plot, and its name.
fn below(x: &Axis, ticks: &[f64], unit: Unit, name: &str, right: f64) -> Markup {
    html! {
        @for &tick in ticks {
            text class="tick" x=(px(x.at(tick))) y=(px(HEIGHT - BOTTOM + 14.0)) text-anchor="middle" {
                (x.text(tick, unit))
            }
        }
        text class="name" x=(px((LEFT + right) / 2.0)) y=(px(HEIGHT - 4.0)) text-anchor="middle" { (name) }
    }
}

/// What a plot of lines is besides its lines.
#[derive(Default)]
pub(super) struct Plot<'a> {
    /// What it shows, for those who cannot see it.
    pub(super) label: &'a str,
    pub(super) x_label: &'a str,
    /// Of x and y.
    pub(super) units: (Unit, Unit),
    /// Whether y starts at 0.
    pub(super) zero: bool,
    /// Values that y spans too, so that plots beside each other can be compared.
    pub(super) span: Vec<f64>,
}

/// Lines over a grid, their labels at their ends; where there is nothing to draw, words say so.
pub(super) fn lines(plot: &Plot<'_>, lines: &[Line]) -> Markup {
    let longest = lines.iter().map(|l| l.label.chars().count()).max().unwrap_or(0);
    let right = WIDTH - RIGHT - (5.4 * longest.min(20) as f64);
    let all = || lines.iter().flat_map(|l| &l.points);
    let x = Axis::new(all().map(|p| p.0), false, LEFT, right);
    let y = Axis::new(all().map(|p| p.1).chain(plot.span.iter().copied()), plot.zero, HEIGHT - BOTTOM, TOP);
    let Some((mut x, y)) = x.zip(y) else { return empty() };
    // The curve spans the whole width; ticks stand where they fall.
    let (low, high) = all().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.0), h.max(p.0)));
    let ticks: Vec<f64> = x.ticks().filter(|t| (low - 1e-9..=high + 1e-9).contains(t)).collect();
    if high > low {
        (x.low, x.high) = (low, high);
    }
    let path = |line: &Line| {
        let mut path = String::new();
        for (i, (px, py)) in line.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if i == 0 { "M" } else { "L" }, x.at(*px), y.at(*py));
        }
        path
    };
    let end = |line: &Line| line.points.iter().rev().find(|p| p.1.is_finite()).map(|p| (x.at(p.0), y.at(p.1)));
    let ends: Vec<Option<(f64, f64)>> = lines.iter().map(end).collect();
    let heights = apart(&ends.iter().map(|end| end.map_or(0.0, |e| e.1)).collect::<Vec<_>>(), 11.0);
    let inside = html! {
        (grid(&y, plot.units.1, right))
        (below(&x, &ticks, plot.units.0, plot.x_label, right))
        @for ((line, end), height) in lines.iter().zip(&ends).zip(heights) {
            path class={ "line " (line.class) } d=(path(line)) { title { (line.label) } }
            @if end.is_some() {
                text class={ "label " (line.class) } x=(px(right + 4.0)) y=(px(height + 3.5)) {
                    (line.label.chars().take(20).collect::<String>())
                }
            }
        }
    };
    frame(HEIGHT, plot.label, &inside)
}

/// Places near the given ones that are at least `distance` from each other.
fn apart(wanted: &[f64], distance: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let mut places = wanted.to_vec();
    for pair in order.windows(2) {
        places[pair[1]] = places[pair[1]].max(places[pair[0]] + distance);
    }
    // Whoever was pushed off the bottom pushes back.
    let floor = HEIGHT - BOTTOM + 4.0;
    let mut limit = floor;
    for &i in order.iter().rev() {
        places[i] = places[i].min(limit);
        limit = places[i] - distance;
    }
    places
}

/// A group of horizontal bars: its name, its bars, and a mark to compare them with.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<Bar>,
    pub(super) mark: Option<f64>,
    pub(super) strong: bool,
}

/// One bar of a group.
pub(super) struct Bar {
    /// Class of its colour.
    pub(super) class: String,
    pub(super) name: String,
    pub(super) score: f64,
    pub(super) deviation: Option<f64>,
}

/// Horizontal bars from 0, with whiskers of a standard deviation.
pub(super) fn bars(label: &str, unit: Unit, groups: &[Group]) -> Markup {
    const THICK: f64 = 9.0;
    const NAMES: f64 = 104.0;
    let ends =
        |g: &Group| -> Vec<f64> { g.bars.iter().map(|b| b.score + b.deviation.unwrap_or(0.0)).chain(g.mark).collect() };
    let Some(x) = Axis::new(groups.iter().flat_map(ends), true, NAMES, WIDTH - RIGHT - 6.0) else { return empty() };
    let tall = |g: &Group| g.bars.len() as f64 * (THICK + 2.0) + 10.0;
    let height = groups.iter().map(tall).sum::<f64>() + 30.0;
    let tops = groups.iter().scan(8.0, |top, group| {
        let here = *top;
        *top += tall(group);
        Some(here)
    });
    let bar = |group: &Group, bar: &Bar, y: f64| {
        let score =
            if unit == Unit::Percent { format!("{:.2} %", 100.0 * bar.score) } else { format!("{:.1}", bar.score) };
        html! {
            rect class={ "bar " (bar.class) } x=(NAMES) y=(px(y)) width=(px((x.at(bar.score) - NAMES).max(0.5)))
                height=(THICK) rx="2" { title { (group.name) ", " (bar.name) ": " (score) } }
            @if let Some(sd) = bar.deviation {
                line class="whisker" x1=(px(x.at((bar.score - sd).max(0.0)))) x2=(px(x.at(bar.score + sd)))
                    y1=(px(y + THICK / 2.0)) y2=(px(y + THICK / 2.0)) {}
            }
        }
    };
    let inside = html! {
        @for tick in x.ticks() {
            line class="grid" x1=(px(x.at(tick))) x2=(px(x.at(tick))) y1="4" y2=(px(height - 24.0)) {}
            text class="tick" x=(px(x.at(tick))) y=(px(height - 10.0)) text-anchor="middle" { (x.text(tick, unit)) }
        }
        @for (group, top) in groups.iter().zip(tops) {
            text class=(if group.strong { "name strong" } else { "name" }) x=(px(NAMES - 8.0))
                y=(px(top + (tall(group) - 10.0) / 2.0 + 3.0)) text-anchor="end" {
                (group.name.chars().take(18).collect::<String>())
            }
            @for (i, one) in group.bars.iter().enumerate() { (bar(group, one, top + i as f64 * (THICK + 2.0))) }
            @if let Some(mark) = group.mark {
                line class="mark" x1=(px(x.at(mark))) x2=(px(x.at(mark))) y1=(px(top - 2.0))
                    y2=(px(top + tall(group) - 10.0)) {}
            }
        }
    };
    frame(height, label, &inside)
}

/// Two histograms on the same bins: the first filled, the second as an outline.
pub(super) fn histograms(label: &str, x_label: &str, edges: &[f64], before: &[u64], after: &[u64]) -> Markup {
    let bins = before.len();
    if bins == 0 || edges.len() != bins + 1 || after.len() != bins || edges.windows(2).any(|w| w[1] <= w[0]) {
        return empty();
    }
    let fractions = |counts: &[u64]| -> Vec<f64> {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|&c| c as f64 / total).collect()
    };
    let (before, after) = (fractions(before), fractions(after));
    let (first, last) = (edges[0], edges[bins]);
    let x = Axis { low: first, high: last, step: (last - first) / 4.0, from: LEFT, to: WIDTH - RIGHT };
    let Some(y) = Axis::new(before.iter().chain(&after).copied(), true, HEIGHT - BOTTOM, TOP) else { return empty() };
    let floor = HEIGHT - BOTTOM;
    let ends = |bin: usize| (x.at(edges[bin]), x.at(edges[bin + 1]));
    let mut outline = format!("M{:.1} {floor:.1}", x.at(first));
    for (bin, &fraction) in after.iter().enumerate() {
        let ((left, right), top) = (ends(bin), y.at(fraction));
        let _ = write!(outline, "L{left:.1} {top:.1}L{right:.1} {top:.1}");
    }
    let _ = write!(outline, "L{:.1} {floor:.1}", x.at(last));
    let class = |bin: usize| if edges[bin + 1] <= 1e-9 { "bar against" } else { "bar with" };
    let inside = html! {
        (grid(&y, Unit::Percent, WIDTH - RIGHT))
        @for (bin, &fraction) in before.iter().enumerate() {
            rect class=(class(bin)) x=(px(ends(bin).0 + 0.5)) y=(px(y.at(fraction)))
                width=(px((ends(bin).1 - ends(bin).0 - 1.0).max(0.3))) height=(px(floor - y.at(fraction))) {}
        }
        path class="line outline" d=(outline) {}
        (below(&x, &x.ticks().collect::<Vec<_>>(), Unit::Plain, x_label, WIDTH - RIGHT))
    };
    frame(HEIGHT, label, &inside)
}
