//! How the gradients of task and KL met.

use maud::Markup;

use super::figure;
use crate::record::Conflict;
use crate::report::sections::Section;
use crate::report::svg::histograms;
use crate::statistics::mean;

/// Cosines of the ablation's methods, before and after the projection.
pub(super) fn cosines(section: &Section<'_>) -> Markup {
    let mut panels = Vec::new();
    for name in ["neither", "reweighting", "projection", "balgrad"] {
        let Some(arm) = section.arm(name) else { continue };
        for modality in section.modalities() {
            let conflicts: Vec<&Conflict> =
                arm.runs.iter().filter_map(|r| r.record.conflict.as_ref()?.get(modality)).collect();
            let Some((edges, before, after)) = pooled(&conflicts) else { continue };
            let fractions: Vec<f64> = conflicts.iter().filter_map(|c| c.fraction).collect();
            let fraction = mean(&fractions).map_or("–".into(), |f| format!("{:.0} %", 100.0 * f));
            let label = format!("Cosines between task and KL gradients, {name}, {modality}");
            let plot = histograms(&label, "cosine of task and KL gradient", edges, &before, &after);
            panels.push((format!("{name}, {modality} block: {fraction} of steps conflict"), plot));
        }
    }
    let legend =
        [("against", "pulling against each other"), ("with", "pulling together"), ("outline", "after the projection")];
    figure(
        "Do the gradients agree?",
        &legend.map(|(c, n)| (c.to_owned(), n.to_owned())),
        &panels,
        "Each step's cosine between the task's gradient and the KL gradient, in percent of steps. Left of 0 they conflict. The \
         outline shows what is left after the projection: where one is made per block, nothing should stay left of 0.",
    )
}

/// Counts of all runs together, if they share their bins: edges, before, after.
fn pooled<'c>(conflicts: &[&'c Conflict]) -> Option<(&'c [f64], Vec<u64>, Vec<u64>)> {
    let edges = conflicts.first()?.cosine_before.edges.as_slice();
    let mut sums = [vec![0; edges.len().checked_sub(1)?], vec![0; edges.len() - 1]];
    for conflict in conflicts {
        for (sum, histogram) in sums.iter_mut().zip([&conflict.cosine_before, &conflict.cosine_after]) {
            if histogram.edges != edges || histogram.counts.len() != sum.len() {
                return None;
            }
            sum.iter_mut().zip(&histogram.counts).for_each(|(s, c)| *s += c);
        }
    }
    let [before, after] = sums;
    (before.iter().sum::<u64>() > 0).then_some((edges, before, after))
}
