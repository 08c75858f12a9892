//! Tables in the paper's layout, for a terminal.

use std::fmt::Write as _;

use super::verdict::verdict;
use super::{Comparison, Row, Summary};
use crate::metrics::{Better, Score, Unit};
use crate::record::{Condition, Impairment, Measure};
use crate::statistics::Grade;

/// Columns of a terminal that a table may take.
const WIDTH: usize = 110;

/// Methods of the ablation, with the control that both arms start from.
pub(super) const ABLATION: [&str; 5] = ["joint", "neither", "reweighting", "projection", "balgrad"];

/// Conditions that a comparison prints; the others stand in `summary.json`.
pub(super) const COMPARED: [Measure; 5] = [
    Measure::Of(Condition::Full),
    Measure::Avg(Impairment::Missing),
    Measure::Gap(Impairment::Missing),
    Measure::Avg(Impairment::Noisy),
    Measure::Gap(Impairment::Noisy),
];

/// One data set's part of a summary.
pub(super) struct View<'a> {
    pub(super) dataset: &'a str,
    /// The headline score.
    pub(super) metric: Score,
    pub(super) modalities: Vec<&'a str>,
    pub(super) methods: Vec<&'a str>,
    pub(super) seeds: Vec<u64>,
    rows: Vec<&'a Row>,
    comparisons: Vec<&'a Comparison>,
}

/// The data sets of a summary, in its order.
pub(super) fn views(summary: &Summary) -> Vec<View<'_>> {
    let mut names: Vec<&str> = Vec::new();
    for run in &summary.runs {
        if !names.contains(&run.dataset.as_str()) {
            names.push(&run.dataset);
        }
    }
    let view = |dataset| {
        let runs = || summary.runs.iter().filter(move |r| r.dataset == dataset);
        let mut methods: Vec<&str> = Vec::new();
        let mut seeds: Vec<u64> = Vec::new();
        for run in runs() {
            if !methods.contains(&run.method.as_str()) {
                methods.push(&run.method);
            }
            if !seeds.contains(&run.seed) {
                seeds.push(run.seed);
            }
        }
        seeds.sort_unstable();
        let first = runs().next()?;
        Some(View {
            dataset,
            metric: first.metric,
            modalities: first.encoders.keys().map(String::as_str).collect(),
            methods,
            seeds,
            rows: summary.rows.iter().filter(|r| r.dataset == dataset).collect(),
            comparisons: summary.comparisons.iter().filter(|c| c.dataset == dataset).collect(),
        })
    };
    names.into_iter().filter_map(view).collect()
}

impl<'a> View<'a> {
    /// The headline score of a method.
    pub(super) fn row(&self, method: &str, measure: &Measure) -> Option<&'a Row> {
        let wanted = |r: &&&Row| r.method == method && r.condition == *measure && r.metric == self.metric;
        self.rows.iter().find(wanted).copied()
    }

    /// The rows of a table.
    pub(super) fn measures(&self) -> Vec<Measure> {
        Measure::table(&self.modalities)
    }

    /// Of those, the ones that the ablation has.
    pub(super) fn ablated(&self) -> Vec<Measure> {
        let noisy = |m: &Measure| m.conditions(&self.modalities).iter().any(|c| matches!(c, Condition::Noisy { .. }));
        self.measures().into_iter().filter(|m| !noisy(m)).collect()
    }

    /// Scores that were compared, the headline first.
    pub(super) fn compared(&self) -> Vec<Score> {
        let mut metrics: Vec<Score> = Vec::new();
        for c in &self.comparisons {
            if !metrics.contains(&c.metric) {
                metrics.push(c.metric);
            }
        }
        metrics.sort_by_key(|m| *m != self.metric);
        metrics
    }

    pub(super) fn comparisons(&self, metric: Score, measures: &[Measure]) -> Vec<&'a Comparison> {
        let wanted = |c: &&&Comparison| c.metric == metric && measures.contains(&c.condition);
        self.comparisons.iter().filter(wanted).copied().collect()
    }

    pub(super) fn ablation(&self) -> Vec<&'a str> {
        let arms: Vec<&str> = self.methods.iter().filter(|m| ABLATION.contains(m)).copied().collect();
        let is_one = arms.iter().any(|m| ["reweighting", "projection"].contains(m));
        if is_one { arms } else { Vec::new() }
    }
}

/// Whether numbers of a score are percent, in words behind its name.
pub(super) fn in_percent(score: Score) -> &'static str {
    if score.unit == Unit::Percent { " in %" } else { "" }
}

/// A score with its deviation, and an asterisk for negative transfer.
fn cell(row: Option<&Row>) -> String {
    let Some((row, mean)) = row.and_then(|r| Some((r, r.mean?))) else { return "–".into() };
    format!("{}{}{}", row.metric.text(mean, 2), deviation(row, mean), if row.negative_transfer { "*" } else { "" })
}

/// `±` and the deviation, with the decimals of the mean; nothing for one seed.
pub(super) fn deviation(row: &Row, mean: f64) -> String {
    let digits = row.metric.digits(mean, 2);
    row.std.map_or(String::new(), |s| format!("±{:.digits$}", row.metric.unit.scale() * s))
}

/// What a comparison allows to say of `a`, in the words of every place that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Better,
    Worse,
    Suggestive,
    NotSignificant,
    NoInterval,
}

impl Verdict {
    pub(super) fn of(c: &Comparison) -> Self {
        let less_is_better = c.condition.is_gap() || c.metric.better == Better::Lower;
        match (c.difference, c.grade) {
            (None, _) | (_, None) => Self::NoInterval,
            (_, Some(Grade::Suggestive)) => Self::Suggestive,
            (_, Some(Grade::NotSignificant)) => Self::NotSignificant,
            (Some(d), Some(Grade::Clear)) if (d > 0.0) != less_is_better => Self::Better,
            (Some(_), Some(Grade::Clear)) => Self::Worse,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Better => "better (clear)",
            Self::Worse => "worse (clear)",
            Self::Suggestive => Grade::Suggestive.name(),
            Self::NotSignificant => Grade::NotSignificant.name(),
            Self::NoInterval => "no interval",
        }
    }
}

/// A difference with its sign: points of percent, or in the score's own unit.
pub(super) fn points(score: Score, value: f64) -> String {
    let digits = score.digits(value, 2);
    format!("{:+.digits$}", score.unit.scale() * value).replace('-', "−")
}

pub(super) fn p_value(p: Option<f64>) -> String {
    match p {
        None => "–".into(),
        Some(p) if p < 0.001 => "<.001".into(),
        Some(p) => format!("{p:.3}").trim_start_matches('0').to_owned(),
    }
}

/// The interval of a difference.
pub(super) fn interval(c: &Comparison) -> String {
    c.ci95.map_or("–".into(), |[low, high]| format!("[{}, {}]", points(c.metric, low), points(c.metric, high)))
}

/// Table 1, Table 2 and the comparisons with BalGrad of every data set.
pub fn tables(summary: &Summary) -> String {
    let mut out = String::new();
    for view in views(summary) {
        if let Some(text) = verdict(&view) {
            let _ = writeln!(out, "{text}\n");
        }
        let _ = writeln!(
            out,
            "{} · {}{}, mean±sd over {} seed{}",
            view.dataset,
            view.metric.title,
            in_percent(view.metric),
            view.seeds.len(),
            if view.seeds.len() == 1 { "" } else { "s" }
        );
        let _ = writeln!(out, "\nTable 1 (* negative transfer: an impaired score above Full)");
        grid(&mut out, &view, &view.methods, &view.measures());
        let ablation = view.ablation();
        if !ablation.is_empty() {
            let _ = writeln!(out, "\nTable 2, ablation (joint is the baseline; neither = BalGrad without both parts)");
            grid(&mut out, &view, &ablation, &view.ablated());
        }
        for metric in view.compared() {
            comparisons(&mut out, &view, metric);
        }
        out.push('\n');
    }
    for skipped in &summary.skipped {
        let _ = writeln!(out, "skipped {}: {}", skipped.path, skipped.reason);
    }
    for note in &summary.notes {
        let _ = writeln!(out, "note: {note}");
    }
    printable(&out)
}

/// Names and paths come from files: nothing in them may steer the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn grid(out: &mut String, view: &View<'_>, methods: &[&str], measures: &[Measure]) {
    let longest = measures.iter().map(|m| m.title().chars().count() + 1).max().unwrap_or(0);
    let first = longest.max(14);
    let column = |method: &str| {
        let cells = measures.iter().map(|m| cell(view.row(method, m)));
        let mut column: Vec<String> = std::iter::once(method.to_owned()).chain(cells).collect();
        let width = column.iter().map(|c| c.chars().count()).max().unwrap_or(0) + 2;
        column.iter_mut().for_each(|c| *c = " ".repeat(width - c.chars().count()) + c);
        (width, column)
    };
    let columns: Vec<(usize, Vec<String>)> = methods.iter().map(|m| column(m)).collect();
    let mut rest = columns.as_slice();
    while !rest.is_empty() {
        let mut used = first;
        let fits = rest
            .iter()
            .take_while(|(w, _)| {
                used += w;
                used <= WIDTH
            })
            .count()
            .max(1);
        let (block, next) = rest.split_at(fits);
        for line in 0..=measures.len() {
            let name = if line == 0 { String::new() } else { measures[line - 1].title() };
            let cells: String = block.iter().map(|(_, c)| c[line].as_str()).collect();
            let _ = writeln!(out, "{name:first$}{cells}");
            if line == 0 {
                let _ = writeln!(out, "{}", "─".repeat(first + block.iter().map(|(w, _)| w).sum::<usize>()));
            }
        }
        if !next.is_empty() {
            out.push('\n');
        }
        rest = next;
    }
}

fn comparisons(out: &mut String, view: &View<'_>, metric: Score) {
    let found = view.comparisons(metric, &COMPARED);
    let Some(first) = found.first() else { return };
    let _ = writeln!(
        out,
        "\nComparisons, {}: difference{}; 95 % interval and p from {} draws of test groups and of {} seeds",
        metric.title,
        if metric.unit == Unit::Percent { " in points" } else { "" },
        first.draws,
        first.seeds
    );
    let width = found.iter().map(|c| c.a.chars().count() + c.b.chars().count()).max().unwrap_or(0) + 3;
    let header =
        format!("{:width$}  {:14}{:>9}  {:>18}{:>8}{:>8}  verdict", "", "", "diff", "95 % interval", "p", "Holm p");
    let _ = writeln!(out, "{header}\n{}", "─".repeat(header.chars().count() + 5));
    let mut last = String::new();
    for c in found {
        let pair = format!("{} − {}", c.a, c.b);
        let shown = if pair == last { "" } else { pair.as_str() };
        let difference = c.difference.map_or("–".into(), |d| points(metric, d));
        let _ = writeln!(
            out,
            "{shown:width$}  {:14}{difference:>9}  {:>18}{:>8}{:>8}  {}",
            c.condition.title(),
            interval(c),
            p_value(c.p),
            p_value(c.p_holm),
            Verdict::of(c).name()
        );
        last = pair;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::statistics::holm;

    #[test]
    fn no_row_is_called_better_or_worse_with_a_corrected_p_from_05_on() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let (mut clear, mut doubtful) = (0, 0);
        for _ in 0..200 {
            let ps: Vec<f64> = (0..20).map(|_| rng.random::<f64>().powi(6)).collect();
            for (p, corrected) in ps.iter().zip(holm(&ps)) {
                let difference = rng.random_range(-0.1..0.1f64);
                // The interval leaves 0 out where the p-value says so.
                let reach = difference.abs() * if *p < 0.05 { 0.9 } else { 1.1 };
                let ci95 = [difference - reach, difference + reach];
                let c = Comparison {
                    dataset: String::new(),
                    a: String::new(),
                    b: String::new(),
                    metric: Score::all().next().unwrap(),
                    condition: COMPARED[rng.random_range(0..COMPARED.len())].clone(),
                    difference: Some(difference),
                    p: Some(*p),
                    p_holm: Some(corrected),
                    ci95: Some(ci95),
                    draws: 1,
                    seeds: 5,
                    grade: Some(Grade::of(ci95, Some(corrected))),
                };
                let called = matches!(Verdict::of(&c), Verdict::Better | Verdict::Worse);
                assert_eq!(called, corrected < 0.05, "{c:?}");
                assert_eq!(Verdict::of(&c) == Verdict::Suggestive, *p < 0.05 && corrected >= 0.05, "{c:?}");
                let name = Verdict::of(&c).name();
                assert_eq!(called, name.contains("better") || name.contains("worse"));
                (clear, doubtful) = (clear + u32::from(called), doubtful + u32::from(!called));
            }
        }
        assert!(clear > 100 && doubtful > 100);
    }
}
