//! MGDA, the multiple-gradient descent algorithm (Désidéri, C. R. Math. 2012; as solved by Sener & Koltun,
//! "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018).
//!
//! The vector of least norm in the convex hull of the gradients: `min_{α in the simplex} αᵀGα`, exactly, by
//! an active set: no objective loses more than rounding, `⟨d, g_i⟩ ≥ ‖d‖²`. Where some gradient is zero, it is that vector.
//!
//! Deviation: published code comes near the minimum by Frank–Wolfe and stops at a tolerance, where an objective may lose.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::Evidence;
use crate::aggregate::Aggregator;
use crate::cone::Units;

pub(super) static ENTRY: Entry = Entry {
    name: "mgda",
    about: "the shortest vector in the gradients' convex hull",
    paper: "Désidéri 2012; Sener & Koltun, NeurIPS 2018",
    when: "where no objective may lose, and slow progress is acceptable: the shortest vector is short",
    build: |_, _| Box::new(Aggregated(Mgda)),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Mgda;

impl Aggregator for Mgda {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(weights(evidence.shared_gram()?, evidence.objectives()))
    }
}

/// Weights in the simplex from a Gram matrix `k × k`; `1/k` where it is not finite.
pub fn weights(gram: &[f64], k: usize) -> Vec<f64> {
    Units::of(gram, k).map_or_else(|| vec![1.0 / k as f64; k], |units| units.shortest())
}
