//! OGM and OGM-GE, on-the-fly gradient modulation (Peng et al., "Balanced Multimodal Learning via On-the-fly
//! Gradient Modulation", CVPR 2022).
//!
//! With `s_m` the batch's sum of the probability that modality `m` alone gives to the truth and
//! `ρ_m = s_m / mean_{n≠m} s_n`, tower `m` is scaled by `k_m = 1 − tanh(α ρ_m)` if `ρ_m > 1`, else by 1. OGM-GE adds
//! to each tower tensor zero-mean Gaussian noise with the standard deviation of that tensor's unmodulated gradient
//! ([`balgrad_kernels::add_noise`]: numbers told by seed, step, block, tensor and place).
//!
//! `s_m` is read off the fused head: its slice `f_m W_mᵀ + b/M` where the fusion is additive, in training and
//! validation alike (public code keeps the full bias in training); with the other embedding zero where it is not.
//!
//! Deviations. Every tensor of a tower is modulated (public code: 4-D convolution weights alone, so that a transformer
//! is never modulated). Multi-label: the probability given to each label's true value, averaged over labels. Three and
//! more modalities: the mean of the others' scores. With `apply = step` the noise is scaled with the rate.

use candle_core::Result;

use super::{APPLY, Entry, Method, Needs, Objective, Objectives, Prediction, Targets};
use crate::objective::number;
use crate::{Clock, Evidence, Kind, Mix, Outputs, Setting, Settings, Target};

const SETTINGS: &[Setting] = &[
    Setting {
        name: "alpha",
        default: "0.5",
        kind: Kind::Number { min: 0.0, max: 100.0 },
        about: "strength α of the modulation",
    },
    Setting {
        name: "epochs",
        default: "50",
        kind: Kind::Count { min: 0, max: 1_000_000 },
        about: "epochs, from the first, in which gradients are modulated",
    },
    APPLY,
];

const PLAIN: Entry = Entry {
    name: "ogm",
    about: "slows the tower whose modality is ahead, as seen by the fused head",
    paper: "Peng et al., CVPR 2022",
    when: "where one modality learns much faster, and with plain SGD: Adam mostly cancels a factor on a gradient (`apply = step` acts)",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: SETTINGS,
    build: |_, s| Box::new(Ogm::new(s, 0.0)),
};

pub(super) static OGM: Entry = PLAIN;

pub(super) static OGM_GE: Entry = Entry {
    name: "ogm-ge",
    about: "OGM with gradient noise for generalisation",
    when: "as OGM, where the model also overfits",
    build: |_, s| Box::new(Ogm::new(s, 1.0)),
    ..PLAIN
};

/// The signal that holds `s_m`, one for each modality.
const SCORES: &str = "scores";

struct Ogm {
    alpha: f64,
    epochs: usize,
    on_step: bool,
    noise: f64,
}

impl Ogm {
    fn new(settings: &Settings, noise: f64) -> Self {
        Self {
            alpha: settings.number("alpha"),
            epochs: settings.count("epochs"),
            on_step: settings.word("apply") == "step",
            noise,
        }
    }

    /// `k_m`, from all `s_m`.
    fn factor(&self, scores: &[f64], m: usize) -> f64 {
        let (Some(score), 2..) = (scores.get(m), scores.len()) else { return 1.0 };
        let others = (scores.iter().sum::<f64>() - score) / (scores.len() as f64 - 1.0);
        let ratio = score / others;
        if ratio > 1.0 { 1.0 - (self.alpha * ratio).tanh() } else { 1.0 }
    }
}

impl Method for Ogm {
    fn needs(&self) -> Needs {
        Needs { fused_views: true, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let score = |m| number(&target.true_class_probability(&outputs.seen_by_fused(m)?)?.sum_all()?);
        let scores = (0..outputs.modalities()).map(score).collect::<Result<_>>()?;
        let task = Objective::new("task", target.nll(&outputs.fused)?);
        Ok(Objectives::from(task).signal(SCORES, scores))
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let mix = Mix::uniform(evidence.blocks, &[1.0]);
        if evidence.clock.epoch >= self.epochs {
            return Ok(mix);
        }
        let scores = evidence.signal(SCORES)?;
        let factors: Vec<f64> = (0..evidence.modalities).map(|m| self.factor(scores, m)).collect();
        Ok(Mix { noise: self.noise, ..mix.scale_towers(evidence.blocks, &factors, self.on_step) })
    }
}
