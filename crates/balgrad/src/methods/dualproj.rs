//! DualProj, the mean gradient projected on the dual cone (Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual
//! Learning", NeurIPS 2017, equation 11).
//!
//! The vector nearest to the mean that has no negative inner product with any gradient: `Σ v_j g_j` with `v` the
//! minimum of `vᵀGv` over `v ≥ 1/k`, exactly, by an active set. No deviations.
//!
//! The gradients' lengths do not matter to their cone and are taken out first, as UPGrad does, with the same
//! promise: `⟨d, g_i⟩ ≥ −10⁻⁶ ‖d‖ ‖g_i‖` also where norms differ by a factor of 10¹⁰.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::Evidence;
use crate::aggregate::Aggregator;
use crate::cone::Units;

pub(super) static ENTRY: Entry = Entry {
    name: "dualproj",
    about: "projects the mean gradient to where no objective loses",
    paper: "Lopez-Paz & Ranzato, NeurIPS 2017",
    when: "as UPGrad, with one projection in the place of one for each objective",
    build: |_, _| Box::new(Aggregated(DualProj)),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy, Default)]
pub struct DualProj;

impl Aggregator for DualProj {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(weights(evidence.shared_gram()?, evidence.objectives()))
    }
}

/// Weights from a Gram matrix `k × k`; `1/k` where it is not finite.
pub fn weights(gram: &[f64], k: usize) -> Vec<f64> {
    let mean = vec![1.0 / k as f64; k];
    Units::of(gram, k).map_or(mean.clone(), |units| units.project(&mean))
}
