//! Two tables with a row per method: who ranks where at what cost, and what each modality contributes.

use std::fmt::Write as _;

use super::run::Results;
use super::sections::{Arm, Section};
use super::svg::escape;
use super::tables::{View, metric_name};
use crate::statistics::mean;

/// Scores that are ranked, with their names, and whether more is better.
const RANKED: [(&str, &str, bool); 4] = [
    ("full", "Full", true),
    ("missing-avg", "Avg", true),
    ("missing-gap", "ΔGap", false),
    ("noisy-avg", "Noisy Avg", true),
];

/// Methods by their mean Avg, with their place in every score and the time of a step.
pub(super) fn ranking(out: &mut String, section: &Section<'_>, view: &View<'_>) {
    let score =
        |method: &str, condition: &str| view.row(method, condition, view.metric).and_then(|r| Some((r.mean?, r.std)));
    let mut methods = view.methods.clone();
    let avg = |method: &str| score(method, "missing-avg").map_or(f64::MIN, |s| s.0);
    methods.sort_by(|a, b| avg(b).total_cmp(&avg(a)));
    let speed = |arm: &Arm<'_>| mean(&arm.runs.iter().filter_map(|r| r.results.steps_per_second).collect::<Vec<_>>());
    let plain = section.arm("joint").and_then(speed).filter(|s| *s > 0.0);
    out.push_str(
        "<h3>Ranking</h3><p class=\"reading\">By Avg. Small numbers behind a score: standard deviation over seeds, and the \
         place. Places say nothing of whether a difference is resolved. Passes: forward and backward passes of a step. Step: \
         time of a training step over joint\u{2019}s, as these runs happened to be timed.</p><div class=\"scroll\"><table><thead><tr><th scope=\"col\">Method</th>",
    );
    for (_, name, _) in RANKED {
        let _ = write!(out, "<th scope=\"col\">{name}</th>");
    }
    out.push_str("<th scope=\"col\">Passes</th><th scope=\"col\">Step</th></tr></thead><tbody>");
    for method in &methods {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(method));
        for (condition, _, more) in RANKED {
            let Some((value, std)) = score(method, condition) else {
                out.push_str("<td>–</td>");
                continue;
            };
            let ahead =
                |other: &&&str| score(other, condition).is_some_and(|(v, _)| if more { v > value } else { v < value });
            let place = 1 + methods.iter().filter(ahead).count();
            let spread = std.map_or(String::new(), |s| format!("±{:.1} ", 100.0 * s));
            let _ = write!(out, "<td>{:.1}<small>{spread}#{place}</small></td>", 100.0 * value);
        }
        let ratio = plain.zip(section.arm(method).and_then(speed)).map(|(plain, speed)| plain / speed);
        let method = section.arm(method).and_then(|arm| balgrad::find(&arm.runs.first()?.results.method).ok());
        let passes = method.map_or("–", |m| m.cost.split([';', ',']).next().unwrap_or(m.cost));
        let _ = write!(out, "<td>{passes}</td><td>{}</td></tr>", ratio.map_or("–".into(), |r| format!("{r:.2}")));
    }
    out.push_str("</tbody></table></div>");
}

/// Exact Shapley values of both modalities, on the score and on the loss.
pub(super) fn contributions(out: &mut String, section: &Section<'_>) {
    let value = |r: &Results, measure: &str, of: &str| r.contribution[measure][of].as_f64();
    let over_seeds = |arm: &Arm<'_>, measure: &str, of: &str| -> Option<f64> {
        mean(&arm.runs.iter().map(|r| value(&r.results, measure, of)).collect::<Option<Vec<_>>>()?)
    };
    if section.arms.iter().all(|arm| over_seeds(arm, "loss", "image").is_none()) {
        return;
    }
    let _ = write!(
        out,
        "<h3>What each modality contributes</h3><p class=\"reading\">Exact Shapley values, mean over seeds: by how much a \
         modality raises the {} (points), and lowers the loss (nats), averaged over whether the other is there. With what the \
         model says of nothing they sum to Full. A negative value: the modality misleads.</p>\
         <div class=\"scroll\"><table><thead><tr><th scope=\"col\">Method</th><th>image</th><th>text</th><th>of nothing</th>\
         <th>loss: image</th><th>loss: text</th></tr></thead><tbody>",
        metric_name(section.metric())
    );
    for arm in &section.arms {
        let points = |of| over_seeds(arm, "score", of).map_or("–".into(), |v| format!("{:.1}", 100.0 * v));
        let nats = |of| over_seeds(arm, "loss", of).map_or("–".into(), |v| format!("{v:.2}"));
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&arm.label),
            points("image"),
            points("text"),
            points("nothing"),
            nats("image"),
            nats("text")
        );
    }
    out.push_str("</tbody></table></div>");
}
