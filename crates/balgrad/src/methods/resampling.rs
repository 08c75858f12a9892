//! Sample-level re-sampling (Wei et al., "Enhancing Multimodal Cooperation via Sample-level Modality Valuation",
//! CVPR 2024).
//!
//! After a warm-up, each epoch begins with a valuation: the exact Shapley value `φ_m` of each modality of a sample over
//! the sets `S` of modalities that the model is shown, a set being worth `|S|` if its answer is right and nothing if
//! not. So `φ_m = 1` where a modality does its part. One with `φ_m < 1` is trained on again, shown alone: once if `φ_m
//! ≥ 0.4`, twice if `φ_m ≥ −0.1`, three times below. The loss is that of `joint`.
//!
//! Deviations. Right is as right as the best of all sets, and better than nothing: with one class a sample this is the
//! paper's, and multi-label answers, right in part, have a meaning too. A public benchmark counts a right set as 1
//! whatever its size, so that a modality which lacks nothing is shown again, and never clears its cache of results, so
//! that every batch gets the first one's values. Needs `EpochSummary::probe` and a training loop that answers
//! `Request::Rehearse`.

use candle_core::Result;

use super::{Entry, Method, Objective, Objectives, Prediction, Rehearsal, Request, Targets};
use crate::{Clock, EpochSummary, Evidence, Kind, Mix, Outputs, Setting, SplitProbe, Target, shapley};

pub(super) static ENTRY: Entry = Entry {
    name: "resampling",
    about: "trains again on what a modality alone contributes too little to",
    paper: "Wei et al., CVPR 2024",
    when: "where a modality contributes too little on some samples and longer epochs are affordable",
    cost: "1F 1B, and each epoch 2^M passes over the data",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::Classes,
    settings: &[Setting {
        name: "warm_up",
        default: "5",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        about: "epochs before the first valuation",
    }],
    build: |_, s| Box::new(Resampling { warm_up: s.count("warm_up") }),
};

struct Resampling {
    warm_up: usize,
}

/// Which samples are shown again, and how.
fn rehearsals(panel: &SplitProbe) -> Vec<Rehearsal> {
    let mut again = Vec::new();
    let samples = panel.correct.iter().map(Vec::len).min().unwrap_or(0);
    if !panel.correct.len().is_power_of_two() {
        return again;
    }
    for sample in 0..samples {
        let best = panel.correct.iter().map(|of_set| of_set[sample]).fold(0.0, f64::max);
        let right = |of_set: &Vec<f64>| best > 0.0 && of_set[sample] == best;
        let worth = |(set, of_set): (usize, &Vec<f64>)| if right(of_set) { f64::from(set.count_ones()) } else { 0.0 };
        let worth: Vec<f64> = panel.correct.iter().enumerate().map(worth).collect();
        for (shown, value) in shapley(&worth).into_iter().enumerate().filter(|(_, v)| *v < 1.0 - 1e-9) {
            let copies = if value >= 0.4 {
                1
            } else if value >= -0.1 {
                2
            } else {
                3
            };
            again.extend(std::iter::repeat_n(Rehearsal { sample, shown }, copies));
        }
    }
    again
}

impl Method for Resampling {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        Ok(vec![Objective::new("task", target.nll(&outputs.fused)?)].into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }

    fn probes(&self, epoch: usize) -> bool {
        epoch >= self.warm_up
    }

    fn epoch_ended(&mut self, summary: &EpochSummary) -> Result<Vec<Request>> {
        let survey = summary.probe.as_ref().filter(|_| self.probes(summary.epoch));
        Ok(survey.map(|survey| Request::Rehearse(rehearsals(&survey.train))).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All cases of two modalities, each with the values that the paper's definition gives.
    #[test]
    fn who_does_less_than_its_part_is_shown_again() {
        // Right when shown: nothing, the first, the second, both. Then copies of the first and of the second.
        let cases = [
            ([0.0, 1.0, 1.0, 1.0], [0, 0]), // φ = (1, 1)
            ([0.0, 1.0, 0.0, 1.0], [0, 1]), // (3/2, 1/2)
            ([0.0, 0.0, 1.0, 1.0], [1, 0]),
            ([0.0, 0.0, 0.0, 1.0], [0, 0]), // (1, 1): each is needed
            ([0.0, 1.0, 1.0, 0.0], [2, 2]), // (0, 0): they spoil it together
            ([0.0, 1.0, 0.0, 0.0], [1, 3]), // (1/2, −1/2)
            ([0.0, 0.0, 0.0, 0.0], [2, 2]),
            ([1.0, 1.0, 1.0, 1.0], [0, 0]), // what nothing knows is worth nothing
            ([0.5, 0.9, 0.9, 0.9], [0, 0]), // labels: all know as much
            ([0.5, 0.9, 0.7, 0.9], [0, 1]), // the second knows less
        ];
        let correct = (0..4).map(|set| cases.iter().map(|(right, _)| right[set]).collect()).collect();
        let again = rehearsals(&SplitProbe { correct, ..SplitProbe::default() });
        for (sample, (right, copies)) in cases.iter().enumerate() {
            let times = [0, 1].map(|shown| again.iter().filter(|r| **r == Rehearsal { sample, shown }).count());
            assert_eq!(times, *copies, "{right:?}");
        }
    }
}
