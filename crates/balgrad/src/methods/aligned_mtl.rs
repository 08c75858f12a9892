//! AlignedMTL, independent component alignment (Senushkin et al., CVPR 2023).
//!
//! The gradients are replaced by the nearest ones with condition number 1: `α = √λ_min · V Λ^{-½} Vᵀ w` with
//! `G = V Λ Vᵀ`, `λ_min` its smallest eigenvalue above `k·ε·λ_max`, and `w = 1/k`; where all are zero, `α = w`.
//!
//! No deviations from the paper's `min` scale. (A port calls an eigen routine that its framework has removed.)

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::Evidence;
use crate::aggregate::Aggregator;
use crate::linear::{eigen, normalized, spectral};

pub(super) static ENTRY: Entry = Entry {
    name: "aligned-mtl",
    about: "aligns the principal components of the gradients, so that none dominates",
    paper: "Senushkin et al., CVPR 2023",
    when: "where gradients are nearly dependent and one direction would dominate",
    build: |_, _| Box::new(Aggregated(AlignedMtl)),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy, Default)]
pub struct AlignedMtl;

impl Aggregator for AlignedMtl {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(weights(evidence.shared_gram()?, evidence.objectives()))
    }
}

/// Weights from a Gram matrix `k × k`.
pub fn weights(gram: &[f64], k: usize) -> Vec<f64> {
    let equal = vec![1.0 / k as f64; k];
    let Some((g, _)) = normalized(gram, k) else { return equal };
    let values = eigen(&g, k).0;
    let tolerance = values.iter().copied().fold(0.0, f64::max) * k as f64 * f64::EPSILON;
    let smallest = values.into_iter().filter(|v| *v > tolerance).fold(f64::INFINITY, f64::min);
    spectral(&g, &equal, |value| (smallest / value).sqrt())
}
