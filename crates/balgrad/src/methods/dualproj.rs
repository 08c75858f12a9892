//! DualProj, the mean gradient projected on the dual cone (Lopez-Paz & Ranzato, "Gradient Episodic Memory for Continual
//! Learning", NeurIPS 2017, equation 11).
//!
//! The vector nearest to the mean that has no negative inner product with any gradient: `Σ v_j g_j` with `v` the
//! minimum of `vᵀGv` over `v ≥ 1/k`. No deviations.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::Evidence;
use crate::aggregate::Aggregator;
use crate::linear::{Over, apply, normalized, quadratic};

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

/// Weights from a Gram matrix `k × k`.
pub fn weights(gram: &[f64], k: usize) -> Vec<f64> {
    project(gram, &vec![1.0 / k as f64; k])
}

/// The weights of the projection of `Σ from_j g_j` on the dual cone: `argmin vᵀGv` over `v ≥ from`.
pub(super) fn project(gram: &[f64], from: &[f64]) -> Vec<f64> {
    let Some((g, _)) = normalized(gram, from.len()) else { return from.to_vec() };
    let added = quadratic(&g, &apply(&g, from), Over::Orthant);
    from.iter().zip(added).map(|(f, a)| f + a).collect()
}
