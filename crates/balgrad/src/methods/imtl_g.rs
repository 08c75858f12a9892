//! IMTL-G, impartial multi-task learning (Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021).
//!
//! The direction with equal projections on all unit gradients: `α ∝ G⁺ √(diag G)`, sum 1; zero where that sum vanishes.
//! The pseudo-inverse extends the paper's rule to dependent gradients (Quinton & Rey 2024). Deviation: "vanishes" is
//! measured after scaling `G` to a mean diagonal of 1, so that the rule does not depend on the gradients' size.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::Evidence;
use crate::aggregate::Aggregator;
use crate::linear::{normalized, spectral};

pub(super) static ENTRY: Entry = Entry {
    name: "imtl-g",
    about: "the direction that projects equally on every unit gradient",
    paper: "Liu et al., ICLR 2021",
    when: "where every objective should advance at one pace, whatever the size of its gradient",
    build: |_, _| Box::new(Aggregated(ImtlG)),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ImtlG;

impl Aggregator for ImtlG {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(weights(evidence.shared_gram()?, evidence.objectives()))
    }
}

/// Weights of sum 1 from a Gram matrix `k × k`.
pub fn weights(gram: &[f64], k: usize) -> Vec<f64> {
    let Some((g, _)) = normalized(gram, k) else { return vec![0.0; k] };
    let norms: Vec<f64> = (0..k).map(|i| g[i * k + i].max(0.0).sqrt()).collect();
    let alpha = spectral(&g, &norms, f64::recip);
    let sum: f64 = alpha.iter().sum();
    if sum.abs() < 1e-12 { vec![0.0; k] } else { alpha.iter().map(|a| a / sum).collect() }
}
