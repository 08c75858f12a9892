//! Small plots as inline SVG: lines, bars, histograms. Colours are classes, so that a page decides on light and dark.

use std::fmt::Write as _;

/// Text as it may stand in HTML, in attributes too.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A line of a plot.
pub(super) struct Line {
    /// Class of its colour.
    pub(super) class: String,
    /// What it is, for a pointer that rests on it.
    pub(super) label: String,
    /// `(x, y)`, in the order of x.
    pub(super) points: Vec<(f64, f64)>,
}

/// How numbers of an axis are written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Percent,
    Plain,
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
        let (value, step) = if unit == Unit::Percent { (100.0 * value, 100.0 * self.step) } else { (value, self.step) };
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

fn open(height: f64, label: &str) -> String {
    format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}">"#, escape(label))
}

/// Lines over a grid; nothing to draw is said in words.
pub(super) fn lines(label: &str, x_label: &str, units: (Unit, Unit), zero: bool, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|l| &l.points);
    let x = Axis::new(all().map(|p| p.0), false, LEFT, WIDTH - RIGHT);
    let y = Axis::new(all().map(|p| p.1), zero, HEIGHT - BOTTOM, TOP);
    let Some((mut x, y)) = x.zip(y) else { return empty() };
    // The curve spans the whole width; ticks stand where they fall.
    let (low, high) = all().fold((f64::MAX, f64::MIN), |(l, h), p| (l.min(p.0), h.max(p.0)));
    let ticks: Vec<f64> = x.ticks().filter(|t| (low - 1e-9..=high + 1e-9).contains(t)).collect();
    if high > low {
        (x.low, x.high) = (low, high);
    }
    let mut out = open(HEIGHT, label);
    grid(&mut out, &y, units.1);
    for tick in ticks {
        let _ = write!(
            out,
            r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            x.at(tick),
            HEIGHT - BOTTOM + 14.0,
            x.text(tick, units.0)
        );
    }
    let _ = write!(
        out,
        r#"<text class="name" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 4.0,
        escape(x_label)
    );
    for line in lines {
        let mut path = String::new();
        for (i, (px, py)) in line.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if i == 0 { "M" } else { "L" }, x.at(*px), y.at(*py));
        }
        let _ = write!(
            out,
            r#"<path class="line {}" d="{path}"><title>{}</title></path>"#,
            line.class,
            escape(&line.label)
        );
    }
    out + "</svg>"
}

fn grid(out: &mut String, y: &Axis, unit: Unit) {
    for tick in y.ticks() {
        let (at, text) = (y.at(tick), y.text(tick, unit));
        let _ = write!(
            out,
            r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#,
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 3.5
        );
    }
}

fn empty() -> String {
    r#"<p class="quiet">No data for this figure.</p>"#.into()
}

/// A group of horizontal bars: its name, `(class, name, score, deviation)` of each bar, and a mark to compare with.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) bars: Vec<(&'static str, &'static str, f64, Option<f64>)>,
    pub(super) mark: Option<f64>,
    pub(super) strong: bool,
}

/// Horizontal bars from 0, with whiskers of a standard deviation.
pub(super) fn bars(label: &str, unit: Unit, groups: &[Group]) -> String {
    const THICK: f64 = 9.0;
    const NAMES: f64 = 104.0;
    let ends = groups.iter().flat_map(|g| g.bars.iter().map(|b| b.2 + b.3.unwrap_or(0.0)).chain(g.mark));
    let Some(x) = Axis::new(ends, true, NAMES, WIDTH - RIGHT - 6.0) else { return empty() };
    let tall = |g: &Group| g.bars.len() as f64 * (THICK + 2.0) + 10.0;
    let height = groups.iter().map(tall).sum::<f64>() + 30.0;
    let mut out = open(height, label);
    for tick in x.ticks() {
        let at = x.at(tick);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="4" y2="{:.1}"/><text class="tick" x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            height - 24.0,
            height - 10.0,
            x.text(tick, unit)
        );
    }
    let mut top = 8.0;
    for group in groups {
        let middle = top + (tall(group) - 10.0) / 2.0 + 3.0;
        let class = if group.strong { "name strong" } else { "name" };
        let name: String = group.name.chars().take(18).collect();
        let _ = write!(
            out,
            r#"<text class="{class}" x="{:.1}" y="{middle:.1}" text-anchor="end">{}</text>"#,
            NAMES - 8.0,
            escape(&name)
        );
        for (i, (class, name, score, deviation)) in group.bars.iter().enumerate() {
            let y = top + i as f64 * (THICK + 2.0);
            let score_text =
                if unit == Unit::Percent { format!("{:.2} %", 100.0 * score) } else { format!("{score:.1}") };
            let title = format!("{}, {name}: {score_text}", group.name);
            let _ = write!(
                out,
                r#"<rect class="bar {class}" x="{NAMES}" y="{y:.1}" width="{:.1}" height="{THICK}" rx="2"><title>{}</title></rect>"#,
                (x.at(*score) - NAMES).max(0.5),
                escape(&title)
            );
            if let Some(sd) = deviation {
                let y = y + THICK / 2.0;
                let _ = write!(
                    out,
                    r#"<line class="whisker" x1="{:.1}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#,
                    x.at((score - sd).max(0.0)),
                    x.at(score + sd)
                );
            }
        }
        if let Some(mark) = group.mark {
            let at = x.at(mark);
            let _ = write!(
                out,
                r#"<line class="mark" x1="{at:.1}" x2="{at:.1}" y1="{:.1}" y2="{:.1}"/>"#,
                top - 2.0,
                top + tall(group) - 10.0
            );
        }
        top += tall(group);
    }
    out + "</svg>"
}

/// Two histograms on the same bins: the first filled, the second as an outline.
pub(super) fn histograms(label: &str, x_label: &str, edges: &[f64], before: &[f64], after: &[f64]) -> String {
    let bins = before.len();
    if bins == 0 || edges.len() != bins + 1 || after.len() != bins || edges.windows(2).any(|w| w[1] <= w[0]) {
        return empty();
    }
    let part = |counts: &[f64]| -> Vec<f64> {
        let total = counts.iter().sum::<f64>().max(1.0);
        counts.iter().map(|c| c / total).collect()
    };
    let (before, after) = (part(before), part(after));
    let (first, last) = (edges[0], edges[bins]);
    let x = Axis { low: first, high: last, step: (last - first) / 4.0, from: LEFT, to: WIDTH - RIGHT };
    let Some(y) = Axis::new(before.iter().chain(&after).copied(), true, HEIGHT - BOTTOM, TOP) else { return empty() };
    let mut out = open(HEIGHT, label);
    grid(&mut out, &y, Unit::Percent);
    let floor = HEIGHT - BOTTOM;
    let mut outline = format!("M{:.1} {floor:.1}", x.at(first));
    for bin in 0..bins {
        let (left, right) = (x.at(edges[bin]), x.at(edges[bin + 1]));
        let class = if edges[bin + 1] <= 1e-9 { "against" } else { "with" };
        let _ = write!(
            out,
            r#"<rect class="bar {class}" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}"/>"#,
            left + 0.5,
            y.at(before[bin]),
            (right - left - 1.0).max(0.3),
            floor - y.at(before[bin])
        );
        let top = y.at(after[bin]);
        let _ = write!(outline, "L{left:.1} {top:.1}L{right:.1} {top:.1}");
    }
    let _ = write!(outline, "L{:.1} {floor:.1}", x.at(last));
    let _ = write!(out, r#"<path class="line outline" d="{outline}"/>"#);
    for tick in x.ticks() {
        let _ = write!(
            out,
            r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            x.at(tick),
            floor + 14.0,
            x.text(tick, Unit::Plain)
        );
    }
    let _ = write!(
        out,
        r#"<text class="name" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text></svg>"#,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 4.0,
        escape(x_label)
    );
    out
}
