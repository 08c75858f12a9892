//! Sample-level re-sampling (Wei et al., "Enhancing Multimodal Cooperation via Sample-level Modality Valuation",
//! CVPR 2024).
//!
//! After a warm-up, each epoch begins with a valuation: how much each modality adds to getting a sample right, its exact
//! Shapley value `φ_m` over the sets of modalities that the model is shown. The lower contributor of a sample is trained on
//! again, shown alone: once if `φ_m ≥ 0.4`, twice if `φ_m ≥ −0.1`, three times below. The loss is that of `joint`.
//!
//! Deviations. A modality that adds as much as every other is not shown again (public code shows every modality again that
//! does not do it all). Public code never clears its cache of results, so that every batch gets the first one's values.
//! Multi-label: right is the part of labels that are. Needs `EpochSummary::survey` and a training
//! loop that answers `Request::Rehearse`.

use candle_core::Result;

use super::{Entry, Method, Objective, Prediction, Rehearsal, Request};
use crate::{EpochSummary, Evidence, Kind, Labels, Mix, Outputs, Panel, Setting, cross_entropy, shapley};

pub(super) static ENTRY: Entry = Entry {
    name: "resampling",
    about: "trains again on what a modality alone contributes too little to",
    paper: "Wei et al., CVPR 2024",
    cost: "1F 1B, and each epoch 2^M passes over the data",
    trains_heads: false,
    prediction: Prediction::Fused,
    settings: &[Setting {
        name: "warm_up",
        default: "5",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        about: "epochs before the first valuation",
    }],
    build: |s| Box::new(Resampling { warm_up: s.count("warm_up") }),
};

struct Resampling {
    warm_up: usize,
}

/// Which samples are shown again, and how.
fn rehearsals(panel: &Panel) -> Vec<Rehearsal> {
    let mut again = Vec::new();
    let samples = panel.correct.iter().map(Vec::len).min().unwrap_or(0);
    if !panel.correct.len().is_power_of_two() {
        return again;
    }
    for sample in 0..samples {
        let worth: Vec<f64> = panel.correct.iter().map(|of_set| of_set[sample]).collect();
        let values = shapley(&worth);
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        for (shown, value) in values.iter().enumerate().filter(|(_, v)| **v < most - 1e-9) {
            let copies = if *value >= 0.4 {
                1
            } else if *value >= -0.1 {
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
    fn objectives(&mut self, outputs: &Outputs, labels: &Labels) -> Result<Vec<Objective>> {
        Ok(vec![Objective::new("task", cross_entropy(&outputs.fused, labels)?)])
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }

    fn surveys(&self, epoch: usize) -> bool {
        epoch >= self.warm_up
    }

    fn epoch_ended(&mut self, summary: &EpochSummary) -> Result<Vec<Request>> {
        let survey = summary.survey.as_ref().filter(|_| self.surveys(summary.epoch));
        Ok(survey.map(|survey| Request::Rehearse(rehearsals(&survey.train))).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_contributor_is_shown_again() {
        // Sets: none, first, second, both. Six samples.
        let correct = vec![
            vec![0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            vec![1.0, 0.0, 1.0, 0.0, 1.0, 1.0],
            vec![0.0, 1.0, 1.0, 0.0, 1.0, 0.0],
            vec![1.0, 1.0, 1.0, 0.0, 1.0, 0.0],
        ];
        let again = rehearsals(&Panel { correct, ..Panel::default() });
        let times = |sample, shown| again.iter().filter(|r| **r == Rehearsal { sample, shown }).count();
        // The second modality adds nothing to sample 0, the first nothing to sample 1.
        assert_eq!((times(0, 1), times(0, 0), times(1, 0), times(1, 1)), (2, 0, 2, 0));
        // Both do as much: nothing is shown again.
        assert_eq!(again.iter().filter(|r| (2..5).contains(&r.sample)).count(), 0);
        // In sample 5 the second modality spoils what the first knows: values 0.5 and −0.5.
        assert_eq!((times(5, 1), times(5, 0)), (3, 0));
    }
}
