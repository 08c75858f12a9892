//! CGGM, classifier-guided gradient modulation (Guo et al., "Classifier-guided Gradient Modulation for Enhanced
//! Multimodal Learning", NeurIPS 2024).
//!
//! Each modality's own head learns to classify the embedding without teaching its tower. With `Δ_m` the change of its
//! accuracy over a step, tower `m` is scaled by `k_m = ρ (ΣΔ − Δ_m) / ΣΔ`, held within `[0, ρ]`: whoever improved most
//! is slowed most. The loss `λ/M · (Σ|k_m| − Σ k_m cos(∇_m, ∇))` turns each classifier's gradient towards the fused
//! one's.
//!
//! Deviations. `∇_m` and `∇` are gradients with respect to the logits, `p − y` over the batch, the part of both
//! classifiers' gradients that has the same shape for any fusion, and that of the loss is then a first-order one
//! (public code takes the cosine of *weights*, which is a number without gradient). Factors are held within `[0, ρ]`
//! (public code: as they come, below 0 too). Where `|ΣΔ| < 1e-3` the last `k` stays (public code divides); this loss
//! uses this step's `k` (public code: the last step's). The accuracy is the batch's; multi-label: the part of labels
//! that are right.

use candle_core::{DType, Result, Tensor};

use super::{APPLY, Entry, Method, Objective, Objectives, Prediction, State, Targets};
use crate::{Clock, Evidence, Kind, Mix, Outputs, Role, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "cggm",
    about: "slows the tower whose classifier improved most, and aligns the classifiers' gradients",
    paper: "Guo et al., NeurIPS 2024",
    when: "where batches are large enough for a batch's accuracy to mean something",
    cost: "1F 3B",
    trains_heads: true,
    prediction: Prediction::Fused,
    targets: Targets::Classes,
    settings: &[
        Setting {
            name: "rho",
            default: "1.3",
            kind: Kind::Number { min: 0.0, max: 100.0 },
            about: "largest factor ρ on a tower",
        },
        Setting {
            name: "lambda",
            default: "0.1",
            kind: Kind::Number { min: 0.0, max: 100.0 },
            about: "weight λ of the alignment loss",
        },
        APPLY,
    ],
    build: |_, s| {
        Box::new(Cggm {
            rho: s.number("rho"),
            lambda: s.number("lambda"),
            on_step: s.word("apply") == "step",
            accuracy: Vec::new(),
            factors: Vec::new(),
        })
    },
};

/// The signal that holds each own head's accuracy on the batch.
const ACCURACY: &str = "accuracy";

/// Below this the changes say nothing.
const LEAST: f64 = 1e-3;

struct Cggm {
    rho: f64,
    lambda: f64,
    on_step: bool,
    /// Each head's accuracy in the last step.
    accuracy: Vec<f64>,
    /// `k_m`.
    factors: Vec<f64>,
}

impl Cggm {
    /// `k_m`, from this step's accuracies and the last one's.
    fn next(&self, accuracy: &[f64]) -> Vec<f64> {
        if self.factors.len() != accuracy.len() {
            return vec![1.0; accuracy.len()];
        }
        let change: Vec<f64> = accuracy.iter().zip(&self.accuracy).map(|(now, before)| now - before).collect();
        let sum: f64 = change.iter().sum();
        if sum.abs() < LEAST {
            return self.factors.clone();
        }
        change.iter().map(|d| (self.rho * (sum - d) / sum).clamp(0.0, self.rho)).collect()
    }

    fn alignment(&self, factors: &[f64], outputs: &Outputs, target: &Target) -> Result<Tensor> {
        let targets = target.one_hot(&outputs.fused)?;
        let slope = |z: &Tensor| target.log_probabilities(z)?[0].exp()? - &targets;
        let fused = slope(&outputs.fused)?;
        let length = |g: &Tensor| (g.sqr()?.sum_all()? + 1e-12)?.sqrt();
        let size: f64 = factors.iter().sum();
        let mut loss = (outputs.fused.zeros_like()?.sum_all()?.detach() + size)?;
        for (own, k) in outputs.own.iter().zip(factors) {
            let own = slope(own)?;
            let cosine = (&own * &fused)?.sum_all()?.div(&(length(&own)? * length(&fused)?)?)?;
            loss = (loss - (cosine * *k)?)?;
        }
        loss * (self.lambda / outputs.modalities().max(1) as f64)
    }
}

impl Method for Cggm {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let accuracy = |z| target.correctness(z)?.mean_all()?.to_dtype(DType::F64)?.to_scalar();
        let now = outputs.own.iter().map(accuracy).collect::<Result<Vec<f64>>>()?;
        let own = outputs.own.iter().map(|z| target.nll(z)).collect::<Result<_>>()?;
        let objectives = vec![
            Objective::new("task", target.nll(&outputs.fused)?),
            Objective::sum("uni", own)?.own(),
            Objective::new("alignment", self.alignment(&self.next(&now), outputs, target)?),
        ];
        Ok(Objectives::from(objectives).signal(ACCURACY, now))
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let accuracy = evidence.signal(ACCURACY)?;
        self.factors = self.next(accuracy);
        self.accuracy = accuracy.to_vec();
        let mut mix = Mix::uniform(evidence.blocks, &[1.0, 0.0, 1.0]);
        for (b, block) in evidence.blocks.iter().enumerate() {
            match block.role {
                Role::Tower(m) => {
                    let factor = self.factors.get(m).copied().unwrap_or(1.0);
                    if self.on_step {
                        mix.step_scale[b] = factor;
                    } else {
                        mix.coefficients[b][0] = factor;
                    }
                }
                Role::Head(_) => mix.coefficients[b] = vec![0.0, 1.0, 0.0],
                Role::Fused => {}
            }
        }
        Ok(mix)
    }

    fn state(&self) -> State {
        State::from([("cggm.accuracy".into(), self.accuracy.clone()), ("cggm.factors".into(), self.factors.clone())])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let part = |name: &str| state.get(&format!("cggm.{name}")).cloned().unwrap_or_default();
        (self.accuracy, self.factors) = (part("accuracy"), part("factors"));
        Ok(())
    }
}
