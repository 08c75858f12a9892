//! Medians and their spread, as a table, as JSON, and against an earlier run.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Figure;

/// A ratio that is worse by more than this against the baseline is a failure.
const SLACK: f64 = 1.25;

/// A ratio over pairs of blocks.
pub(super) struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of one ratio or more.
    pub(super) fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        Self { median: ratios[ratios.len() / 2], least: ratios[0], most: ratios[ratios.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.median, self.least, self.most)
    }
}

impl Figure {
    pub(super) fn to_json(&self) -> Value {
        let Spread { median, least, most } = self.spread;
        json!({"median": median, "least": least, "most": most, "goal": self.row.goal, "more_is_better": self.row.more()})
    }

    /// Whether the goal is reached; `None` where there is none.
    fn reached(&self) -> Option<bool> {
        let goal = self.row.goal?;
        Some(if self.row.more() { self.spread.median >= goal } else { self.spread.median <= goal })
    }
}

/// One table a group.
pub(super) fn markdown(figures: &[Figure]) -> String {
    let mut text = String::new();
    let mut group = "";
    for figure in figures {
        if figure.group != group {
            group = figure.group;
            let _ = write!(
                text,
                "\n### {group}\n\n| what | count | goal | median [least, most] | |\n|---|---|---|---|---|\n"
            );
        }
        let sign = if figure.row.more() { "≥" } else { "≤" };
        let goal = figure.row.goal.map_or_else(String::new, |goal| format!("{sign} {goal}"));
        let verdict = figure.reached().map_or("", |reached| if reached { "reached" } else { "missed" });
        let _ =
            writeln!(text, "| {} | {} | {goal} | {} | {verdict} |", figure.row.name, figure.row.count, figure.spread);
    }
    text
}

/// Fails where a ratio is worse than the stored one of its name; names that only one of the two has are passed over.
pub(super) fn compare(baseline: &Path, figures: &[Figure]) -> Result<()> {
    let text = std::fs::read(baseline).with_context(|| format!("cannot read {}", baseline.display()))?;
    let before: Value = serde_json::from_slice(&text).with_context(|| format!("{}", baseline.display()))?;
    let worse = figures.iter().filter_map(|figure| {
        let (before, now) = (before["rows"][figure.row.name]["median"].as_f64()?, figure.spread.median);
        let grown = if figure.row.more() { before / now } else { now / before };
        (grown > SLACK).then(|| format!("{}: {before:.3} before, {now:.3} now", figure.row.name))
    });
    let worse: Vec<String> = worse.collect();
    if !worse.is_empty() {
        bail!("worse than the baseline: {}", worse.join("; "));
    }
    Ok(())
}
