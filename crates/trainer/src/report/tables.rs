//! Tables in the paper's layout, for a terminal.

use std::fmt::Write as _;

use super::summary::CONDITIONS;
use super::{Comparison, Row, Summary};

/// Columns of a terminal that a table may take.
const WIDTH: usize = 110;

/// Methods of the ablation, with the control that both arms start from.
pub(super) const ABLATION: [&str; 5] = ["joint", "neither", "reweighting", "projection", "balgrad"];

/// Conditions that a comparison prints; the others stand in `summary.json`.
pub(super) const COMPARED: [&str; 5] = ["full", "missing-avg", "missing-gap", "noisy-avg", "noisy-gap"];

/// One data set's part of a summary.
pub(super) struct View<'a> {
    pub(super) dataset: &'a str,
    pub(super) metric: &'a str,
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
        View {
            dataset,
            metric: runs().next().map_or("accuracy", |r| &r.metric),
            methods,
            seeds,
            rows: summary.rows.iter().filter(|r| r.dataset == dataset).collect(),
            comparisons: summary.comparisons.iter().filter(|c| c.dataset == dataset).collect(),
        }
    };
    names.into_iter().map(view).collect()
}

impl<'a> View<'a> {
    pub(super) fn row(&self, method: &str, condition: &str, metric: &str) -> Option<&'a Row> {
        self.rows.iter().find(|r| r.method == method && r.condition == condition && r.metric == metric).copied()
    }

    /// Metrics that were compared, the headline first.
    pub(super) fn compared_metrics(&self) -> Vec<&'a str> {
        let mut metrics: Vec<&str> = Vec::new();
        for c in &self.comparisons {
            if !metrics.contains(&c.metric.as_str()) {
                metrics.push(&c.metric);
            }
        }
        metrics.sort_by_key(|m| *m != self.metric);
        metrics
    }

    pub(super) fn comparisons(&self, metric: &str, conditions: &[&str]) -> Vec<&'a Comparison> {
        let wanted = |c: &&&Comparison| c.metric == metric && conditions.contains(&c.condition.as_str());
        self.comparisons.iter().filter(wanted).copied().collect()
    }

    pub(super) fn ablation(&self) -> Vec<&'a str> {
        let arms: Vec<&str> = self.methods.iter().filter(|m| ABLATION.contains(m)).copied().collect();
        let is_one = arms.iter().any(|m| ["reweighting", "projection"].contains(m));
        if is_one { arms } else { Vec::new() }
    }
}

/// A metric's name in text.
pub(super) fn metric_name(metric: &str) -> &str {
    match metric {
        "f1_macro" => "F1-macro",
        "f1_micro" => "F1-micro",
        "auroc" => "AUROC",
        "map" => "mAP",
        "ece" => "ECE",
        "brier" => "Brier score",
        other => other,
    }
}

/// A condition's name in text.
pub(super) fn condition_name(condition: &str) -> String {
    match condition {
        "full" => "Full".into(),
        "missing-gap" => "Missing ΔGap".into(),
        "noisy-gap" => "Noisy ΔGap".into(),
        other => {
            let text = other.replace('-', " ");
            text[..1].to_uppercase() + &text[1..]
        }
    }
}

/// A score in percent with its deviation, and an asterisk for negative transfer.
pub(super) fn cell(row: Option<&Row>) -> String {
    let Some((row, mean)) = row.and_then(|r| Some((r, r.mean?))) else { return "–".into() };
    let deviation = row.std.map_or(String::new(), |s| format!("±{:.2}", 100.0 * s));
    format!("{:.2}{deviation}{}", 100.0 * mean, if row.negative_transfer { "*" } else { "" })
}

/// What a comparison allows to say of `a`.
pub(super) fn verdict(c: &Comparison) -> &'static str {
    let less_is_better = c.condition.ends_with("-gap");
    match c.difference {
        None => "undefined",
        Some(_) if c.ci95.is_none() => "no interval",
        Some(_) if !c.resolved => "not resolved",
        Some(d) if (d > 0.0) != less_is_better => "better",
        Some(_) => "worse",
    }
}

/// Points of percent with their sign.
pub(super) fn points(value: f64) -> String {
    format!("{:+.2}", 100.0 * value).replace('-', "−")
}

pub(super) fn p_value(p: Option<f64>) -> String {
    match p {
        None => "–".into(),
        Some(p) if p < 0.001 => "<.001".into(),
        Some(p) => format!("{p:.3}").trim_start_matches('0').to_owned(),
    }
}

/// The interval in points.
pub(super) fn interval(c: &Comparison) -> String {
    c.ci95.map_or("–".into(), |[low, high]| format!("[{}, {}]", points(low), points(high)))
}

/// Table 1, Table 2 and the comparisons with BalGrad of every data set.
pub fn tables(summary: &Summary) -> String {
    let mut out = String::new();
    for view in views(summary) {
        let _ = writeln!(
            out,
            "{} · {} in %, mean±sd over {} seed{}",
            view.dataset,
            metric_name(view.metric),
            view.seeds.len(),
            if view.seeds.len() == 1 { "" } else { "s" }
        );
        let _ = writeln!(out, "\nTable 1 (* negative transfer: an impaired score above Full)");
        grid(&mut out, &view, &view.methods, &CONDITIONS);
        let ablation = view.ablation();
        if !ablation.is_empty() {
            let _ = writeln!(out, "\nTable 2, ablation (joint is the baseline; neither = BalGrad without both parts)");
            grid(&mut out, &view, &ablation, &CONDITIONS[..5]);
        }
        for metric in view.compared_metrics() {
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
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn grid(out: &mut String, view: &View<'_>, methods: &[&str], conditions: &[&str]) {
    const FIRST: usize = 14;
    let column = |method: &str| {
        let cells = conditions.iter().map(|c| cell(view.row(method, c, view.metric)));
        let mut column: Vec<String> = std::iter::once(method.to_owned()).chain(cells).collect();
        let width = column.iter().map(|c| c.chars().count()).max().unwrap_or(0) + 2;
        column.iter_mut().for_each(|c| *c = " ".repeat(width - c.chars().count()) + c);
        (width, column)
    };
    let columns: Vec<(usize, Vec<String>)> = methods.iter().map(|m| column(m)).collect();
    let mut rest = columns.as_slice();
    while !rest.is_empty() {
        let mut used = FIRST;
        let fits = rest
            .iter()
            .take_while(|(w, _)| {
                used += w;
                used <= WIDTH
            })
            .count()
            .max(1);
        let (block, next) = rest.split_at(fits);
        for line in 0..=conditions.len() {
            let name = if line == 0 { String::new() } else { condition_name(conditions[line - 1]) };
            let cells: String = block.iter().map(|(_, c)| c[line].as_str()).collect();
            let _ = writeln!(out, "{name:FIRST$}{cells}");
            if line == 0 {
                let _ = writeln!(out, "{}", "─".repeat(FIRST + block.iter().map(|(w, _)| w).sum::<usize>()));
            }
        }
        if !next.is_empty() {
            out.push('\n');
        }
        rest = next;
    }
}

fn comparisons(out: &mut String, view: &View<'_>, metric: &str) {
    let found = view.comparisons(metric, &COMPARED);
    let Some(first) = found.first() else { return };
    let _ = writeln!(
        out,
        "\nComparisons, {}: difference in points; 95 % interval from {} draws of test groups; p from a paired t over {} seeds",
        metric_name(metric),
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
        let difference = c.difference.map_or("–".into(), points);
        let _ = writeln!(
            out,
            "{shown:width$}  {:14}{difference:>9}  {:>18}{:>8}{:>8}  {}",
            condition_name(&c.condition),
            interval(c),
            p_value(c.p),
            p_value(c.p_holm),
            verdict(c)
        );
        last = pair;
    }
}
