//! LFM (Yang et al., "Facilitating Multimodal Classification via Dynamically Learning Modality Gap", NeurIPS 2024).
//!
//! `2 (a₀ CE(z) + a₁ JS)`, `a₀ + a₁ = 1`: the Jensen–Shannon divergence between the modalities' predictions as the
//! fused head sees them, averaged over pairs, closes the gap between modalities first; `a₁` falls with the progress of
//! the run from 0.95 to 0.05, so that labels have the last word.
//!
//! Deviations. `CE` is that of the fused head (public code: of the mean of the modalities' logits). `a₁` follows a
//! straight line; the paper also learns it through a Hessian-vector product, which is no rule of coefficients (and
//! public code lets only the first parameter tensor enter it, and learns it on the *test* split). Public code computes
//! `KL(m ‖ p)` in the place of `KL(p ‖ m)`; here the divergence is Jensen's and Shannon's. Without `Balancer::lasting`
//! `a₁` stays at 0.95.

use candle_core::{Result, Tensor};

use super::{Entry, Method, Needs, Objective, Objectives, Prediction, Targets, first};
use crate::{Clock, Evidence, Mix, Outputs, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "lfm",
    about: "closes the gap between modalities' predictions first, fits labels last",
    paper: "Yang et al., NeurIPS 2024",
    when: "where modalities say the same thing in different ways; not where they complement each other",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::Classes,
    settings: &[],
    build: |_, _| Box::new(Lfm),
};

/// `a₁` at the start and at the end.
const WEIGHTS: [f64; 2] = [0.95, 0.05];

struct Lfm;

/// The Jensen–Shannon divergence of two predictions, averaged over the batch, in nats.
fn jensen_shannon(a: &Tensor, b: &Tensor, target: &Target) -> Result<Tensor> {
    let mut terms = Vec::new();
    for (lp, lq) in target.log_probabilities(a)?.iter().zip(target.log_probabilities(b)?) {
        let (p, q) = (lp.exp()?, lq.exp()?);
        // An outcome that neither expects adds nothing.
        let middle = (((&p + &q)? * 0.5)? + 1e-30)?.log()?;
        terms.push((((p * (lp - &middle)?)? + (q * (lq - &middle)?)?)? * 0.5)?);
    }
    target.over_outcomes(&terms)?.mean_all()
}

impl Method for Lfm {
    fn needs(&self) -> Needs {
        Needs { fused_views: true, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let mut objectives = vec![Objective::new("task", target.nll(&outputs.fused)?)];
        let views = (0..outputs.modalities()).map(|m| outputs.seen_by_fused(m)).collect::<Result<Vec<_>>>()?;
        let pairs = (0..views.len()).flat_map(|n| (0..n).map(move |m| (m, n)));
        let gaps = pairs.map(|(m, n)| jensen_shannon(&views[m], &views[n], target)).collect::<Result<Vec<_>>>()?;
        if !gaps.is_empty() {
            objectives.push(Objective::new("gap", Tensor::stack(&gaps, 0)?.mean_all()?));
        }
        Ok(objectives.into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let gap = WEIGHTS[0] + (WEIGHTS[1] - WEIGHTS[0]) * evidence.clock.progress;
        let weights = [2.0 * (1.0 - gap), 2.0 * gap];
        let used = first(&weights, evidence)?;
        Ok(Mix::uniform(evidence.blocks, used))
    }
}
