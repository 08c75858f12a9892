//! The answer in one sentence: what a missing modality costs, and what the best row keeps.

use super::tables::{Verdict, View, points, printable, views};
use super::{Comparison, Summary};
use crate::arms::{Role, arm_entry, title};
use crate::metrics::{Better, Score, Unit};
use crate::record::{Condition, Impairment, Measure};

/// A sentence for each data set of a summary, after its name: for the page, the terminal and whoever asks.
pub fn verdicts(summary: &Summary) -> Vec<(String, String)> {
    views(summary).iter().filter_map(|view| Some((view.dataset.to_owned(), verdict(view)?))).collect()
}

/// The sentences for a terminal, and how much was left out.
pub fn answer(summary: &Summary) -> String {
    let sentence = |(dataset, text): (String, String)| format!("{dataset}: {text}\n");
    let mut out: String = verdicts(summary).into_iter().map(sentence).collect();
    let (skipped, notes) = (summary.skipped.len(), summary.notes.len());
    if skipped + notes > 0 {
        out += &format!("{skipped} runs were left out and {notes} notes made: the page and --verbose name them\n");
    }
    printable(&out)
}

/// The sentence of one data set; none where scores are undefined.
pub(super) fn verdict(view: &View<'_>) -> Option<String> {
    let base = base(view)?;
    let mean = |method: &str, measure: &Measure| view.row(method, measure)?.mean;
    let full = mean(base, &Measure::Of(Condition::Full))?;
    let (modality, left) = missed_most(view, base)?;
    let measure = Measure::Of(Condition::missing(modality));
    let says = |value: f64| view.metric.text(value, 1);
    let sign = if view.metric.unit == Unit::Percent { " %" } else { "" };
    let verb = if !view.metric.is_better(full, left) {
        "holds: it goes"
    } else if view.metric.better == Better::Higher {
        "drops"
    } else {
        "rises"
    };
    let start = format!("Without the {modality}, {} {verb} from {} to {}{sign}", title(base), says(full), says(left));
    let comparisons = view.comparisons(view.metric, std::slice::from_ref(&measure));
    let Some(c) = rival(view, base, &comparisons) else { return Some(start + ".") };
    let kept = mean(&c.a, &measure)?;
    let keeps = if view.metric.better == Better::Higher { "keeps" } else { "stays at" };
    let mut text = format!("{start}; {} {keeps} {}{sign}", title(&c.a), says(kept));
    if let Some((difference, [low, high])) = c.difference.zip(c.ci95) {
        let [difference, low, high] = [difference, low, high].map(|v| signed(view.metric, v));
        text += &format!(" ({difference}, 95 % interval {low} to {high}; {})", Verdict::of(c).name());
    }
    let clear = matches!(Verdict::of(c), Verdict::Better | Verdict::Worse);
    Some(text + if clear { "." } else { ". No clear winner." })
}

/// The baseline, and the row that the sentence sets beside it.
pub(super) fn heroes<'a>(view: &View<'a>) -> Vec<&'a str> {
    let base = base(view);
    let compared = || {
        let missing = base.and_then(|base| missed_most(view, base))?;
        let comparisons = view.comparisons(view.metric, &[Measure::Of(Condition::missing(missing.0))]);
        rival(view, base?, &comparisons).map(|c| c.a.as_str())
    };
    base.into_iter().chain(compared()).collect()
}

/// The modality that costs the baseline most when it is missing.
pub(super) fn missed<'a>(view: &View<'a>) -> Option<&'a str> {
    missed_most(view, base(view)?).map(|found| found.0)
}

/// What others are set beside: joint training where it was run.
fn base<'a>(view: &View<'a>) -> Option<&'a str> {
    view.methods.iter().find(|m| **m == "joint").or(view.methods.first()).copied()
}

/// The modality without which a row scores least, and that score.
fn missed_most<'a>(view: &View<'a>, method: &str) -> Option<(&'a str, f64)> {
    let score = |m: &&'a str| Some((*m, view.row(method, &Measure::Of(Condition::missing(m)))?.mean?));
    view.modalities.iter().filter_map(score).min_by(|x, y| view.metric.order(y.1, x.1))
}

fn signed(score: Score, value: f64) -> String {
    if score.unit == Unit::Percent {
        format!("{:+.1}", 100.0 * value).replace('-', "−")
    } else {
        points(score, value)
    }
}

/// Of the rows that are compared with the base the recommended one that does best without a modality, else BalGrad.
fn rival<'a>(view: &View<'_>, base: &str, comparisons: &[&'a Comparison]) -> Option<&'a Comparison> {
    let avg = |c: &Comparison| view.row(&c.a, &Measure::Avg(Impairment::Missing)).and_then(|r| r.mean);
    let recommended = |c: &Comparison| arm_entry(&c.a).is_some_and(|entry| entry.role == Role::Recommended);
    let of_base = || comparisons.iter().copied().filter(|c| c.b == base);
    let best = of_base().filter(|c| recommended(c)).filter_map(|c| Some((c, avg(c)?)));
    best.min_by(|x, y| view.metric.order(x.1, y.1)).map(|x| x.0).or_else(|| of_base().next())
}
