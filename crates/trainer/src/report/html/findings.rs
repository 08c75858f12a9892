//! What the numbers of a data set allow to say, in sentences.

use maud::{Markup, html};

use crate::metrics::Better;
use crate::record::{Condition, Impairment, Measure};
use crate::report::Comparison;
use crate::report::tables::{Verdict, View, interval, points};

/// Rows that the sentences are about.
const SUMMED_UP: [Measure; 3] =
    [Measure::Of(Condition::Full), Measure::Avg(Impairment::Missing), Measure::Avg(Impairment::Noisy)];

/// Which method has the best mean in a row, and where BalGrad stands to every other method.
fn standing(view: &View<'_>, measure: &Measure) -> Option<String> {
    let metric = view.metric;
    let scored = view.methods.iter().filter_map(|m| Some((*m, view.row(m, measure)?.mean?)));
    let (best, score) = scored.max_by(|x, y| metric.order(y.1, x.1))?;
    let comparisons = view.comparisons(metric, std::slice::from_ref(measure));
    let against = |wanted: Verdict| -> String {
        let found = comparisons.iter().filter(|c| c.a == "balgrad" && Verdict::of(c) == wanted);
        found.map(|c| c.b.as_str()).collect::<Vec<_>>().join(", ")
    };
    let extreme = if metric.better == Better::Higher { "highest" } else { "lowest" };
    let mut parts =
        vec![format!("{}: the {extreme} mean is that of {best} ({})", measure.title(), metric.text(score, 2))];
    for (wanted, words) in [
        (Verdict::Better, "balgrad beats"),
        (Verdict::Worse, "balgrad loses to"),
        (Verdict::Suggestive, "the difference is suggestive against"),
        (Verdict::NotSignificant, "not significant against"),
        (Verdict::NoInterval, "there is no interval against"),
    ] {
        let names = against(wanted);
        if !names.is_empty() {
            parts.push(format!("{words} {names}"));
        }
    }
    Some(parts.join("; ") + ".")
}

/// The headline comparisons in words, favourable or not.
pub(super) fn findings(view: &View<'_>) -> Markup {
    let wanted = |c: &&Comparison| matches!(c.b.as_str(), "joint" | "neither" | "joint+dropout");
    let found: Vec<&Comparison> = view.comparisons(view.metric, &SUMMED_UP).into_iter().filter(wanted).collect();
    html! {
        @if !found.is_empty() {
            h3 { "In short" }
            @for sentence in SUMMED_UP.iter().filter_map(|measure| standing(view, measure)) {
                p { (sentence) }
            }
            ul class="findings" {
                @for pair in found.chunk_by(|x, y| x.a == y.a && x.b == y.b) {
                    li class=(class_of(pair)) {
                        b { (pair[0].a) } " against " (pair[0].b) ": "
                        (pair.iter().map(|c| in_words(c)).collect::<Vec<_>>().join(" · "))
                    }
                }
            }
        }
    }
}

fn class_of(pair: &[&Comparison]) -> &'static str {
    let has = |verdict| pair.iter().any(|c| Verdict::of(c) == verdict);
    match (has(Verdict::Better), has(Verdict::Worse)) {
        (true, false) => Verdict::Better.class(),
        (false, true) => Verdict::Worse.class(),
        _ => Verdict::NotSignificant.class(),
    }
}

fn in_words(c: &Comparison) -> String {
    let difference = c.difference.map_or("–".into(), |d| points(c.metric, d));
    format!("{} {difference} {}, {}", c.condition.title(), interval(c), Verdict::of(c).name())
}
