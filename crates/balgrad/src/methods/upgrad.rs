//! UPGrad, unconflicting projection of gradients (Quinton & Rey, "Jacobian Descent For Multi-Objective Optimization",
//! 2024).
//!
//! Each gradient is projected on the dual cone of all gradients, `{d : ⟨d, g_i⟩ ≥ 0 for all i}`, and the projections
//! are averaged: no objective loses to first order, and no conflict means the mean. Row `i`'s projection is `Σ v_j g_j`
//! with `v` the minimum of `vᵀGv` over `v ≥ e_i`: a quadratic programme of size `k`, solved exactly, by an active set. No
//! deviations.
//!
//! The gradients' lengths do not matter to their cone and are taken out first: `⟨d, g_i⟩ ≥ −10⁻⁶ ‖d‖ ‖g_i‖` also where norms
//! differ by a factor of 10¹⁰. Where gradients oppose each other to rounding, `d` is rounding too. A gradient of length 0
//! keeps the weight `1/k`.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::Evidence;
use crate::aggregate::Aggregator;
use crate::cone::Units;

pub(super) static ENTRY: Entry = Entry {
    name: "upgrad",
    about: "projects each gradient to where no objective loses, and averages",
    paper: "Quinton & Rey 2024",
    when: "as the first choice among the aggregators: no objective loses to first order, and without conflict it is the mean",
    build: |_, _| Box::new(Aggregated(UpGrad)),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy, Default)]
pub struct UpGrad;

impl Aggregator for UpGrad {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(weights(evidence.shared_gram()?, evidence.objectives()))
    }
}

/// Weights from a Gram matrix `k × k`; `1/k` where it is not finite.
pub fn weights(gram: &[f64], k: usize) -> Vec<f64> {
    let Some(units) = Units::of(gram, k) else { return vec![1.0 / k as f64; k] };
    let mut sum = vec![0.0; k];
    for i in 0..k {
        let mut own = vec![0.0; k];
        own[i] = 1.0 / k as f64;
        sum.iter_mut().zip(units.project(&own)).for_each(|(s, v)| *s += v);
    }
    sum
}
