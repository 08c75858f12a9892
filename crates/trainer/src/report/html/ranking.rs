//! Two tables with a row per method: who ranks where at what cost, and what each modality contributes.

use maud::{Markup, html};

use crate::metrics::{Better, Unit};
use crate::record::{Condition, Contribution, Impairment, Measure, Shapley};
use crate::report::sections::{Arm, Section};
use crate::report::tables::View;
use crate::statistics::mean;

/// Rows that are ranked, with their names.
const RANKED: [(Measure, &str); 4] = [
    (Measure::Of(Condition::Full), "Full"),
    (Measure::Avg(Impairment::Missing), "Avg"),
    (Measure::Gap(Impairment::Missing), "ΔGap"),
    (Measure::Avg(Impairment::Noisy), "Noisy Avg"),
];

/// Methods by their mean Avg, with their place in every score and the time of a step.
pub(super) fn ranking(section: &Section<'_>, view: &View<'_>) -> Markup {
    let metric = view.metric;
    let score = |method: &str, measure: &Measure| view.row(method, measure).and_then(|r| Some((r.mean?, r.std)));
    let mut methods = view.methods.clone();
    let avg = |method: &str| score(method, &RANKED[1].0).map_or(metric.worst(), |s| s.0);
    methods.sort_by(|a, b| metric.order(avg(a), avg(b)));
    let speed = |arm: &Arm<'_>| mean(&arm.runs.iter().map(|r| r.record.steps_per_second).collect::<Vec<_>>());
    let plain = section.arm("joint").and_then(speed).filter(|s| *s > 0.0);
    let cell = |method: &str, measure: &Measure| {
        let Some((value, std)) = score(method, measure) else { return html! { td { "–" } } };
        let ahead = |other: &&&str| {
            score(other, measure)
                .is_some_and(|(v, _)| if measure.is_gap() { v < value } else { metric.is_better(v, value) })
        };
        let place = 1 + methods.iter().filter(ahead).count();
        let digits = metric.digits(value, 1);
        let spread = std.map_or(String::new(), |s| format!("±{:.digits$} ", metric.unit.scale() * s));
        html! { td { (metric.text(value, 1)) small { (spread) "#" (place) } } }
    };
    let passes = |method: &str| {
        let entry = section.arm(method).and_then(|arm| balgrad::find(&arm.runs.first()?.record.method).ok());
        entry.map_or("–", |m| m.cost.split([';', ',']).next().unwrap_or(m.cost))
    };
    let ratio = |method: &str| {
        let ratio = plain.zip(section.arm(method).and_then(speed)).map(|(plain, speed)| plain / speed);
        ratio.map_or("–".into(), |r| format!("{r:.2}"))
    };
    html! {
        h3 { "Ranking" }
        p class="reading" {
            "By Avg. Small numbers behind a score: standard deviation over seeds, and the place. Places say nothing of \
             whether a difference is resolved. Passes: forward and backward passes of a step. Step: time of a training \
             step over joint’s, as these runs happened to be timed."
        }
        div class="scroll" {
            table {
                thead {
                    tr {
                        th scope="col" { "Method" }
                        @for (_, name) in &RANKED { th scope="col" { (name) } }
                        th scope="col" { "Passes" }
                        th scope="col" { "Step" }
                    }
                }
                tbody {
                    @for method in &methods {
                        tr {
                            th scope="row" { (method) }
                            @for (measure, _) in &RANKED { (cell(method, measure)) }
                            td { (passes(method)) }
                            td { (ratio(method)) }
                        }
                    }
                }
            }
        }
    }
}

/// Exact Shapley values of the modalities, on the score and on the loss.
pub(super) fn contributions(section: &Section<'_>) -> Markup {
    let (metric, modalities) = (section.metric(), section.modalities());
    let over_seeds = |arm: &Arm<'_>, of: &dyn Fn(&Contribution) -> Option<f64>| -> Option<f64> {
        mean(&arm.runs.iter().map(|r| of(r.record.contribution.as_ref()?)).collect::<Option<Vec<_>>>()?)
    };
    if section.arms.iter().all(|arm| over_seeds(arm, &|c| Some(c.loss.nothing)).is_none()) {
        return Markup::default();
    }
    let value = |shapley: &Shapley, m: &str| shapley.modalities.get(m).copied();
    let points = |arm: &Arm<'_>, of: &dyn Fn(&Shapley) -> Option<f64>| {
        over_seeds(arm, &|c| of(c.score.as_ref()?)).map_or("–".into(), |v| metric.text(v, 1))
    };
    let nats =
        |arm: &Arm<'_>, m: &str| over_seeds(arm, &|c| value(&c.loss, m)).map_or("–".into(), |v| format!("{v:.2}"));
    html! {
        h3 { "What each modality contributes" }
        p class="reading" {
            "Exact Shapley values, mean over seeds: by how much a modality "
            (if metric.better == Better::Higher { "raises" } else { "changes" }) " the " (metric.title)
            @if metric.unit == Unit::Percent { " (points)" }
            ", and lowers the loss (nats), averaged over whether the other is there. With what the model says of nothing \
             they sum to Full. A negative value: the modality misleads."
        }
        div class="scroll" {
            table {
                thead {
                    tr {
                        th scope="col" { "Method" }
                        @for m in &modalities { th { (m) } }
                        th { "of nothing" }
                        @for m in &modalities { th { "loss: " (m) } }
                    }
                }
                tbody {
                    @for arm in &section.arms {
                        tr {
                            th scope="row" { (arm.label) }
                            @for m in &modalities { td { (points(arm, &|s| value(s, m))) } }
                            td { (points(arm, &|s| Some(s.nothing))) }
                            @for m in &modalities { td { (nats(arm, m)) } }
                        }
                    }
                }
            }
        }
    }
}
