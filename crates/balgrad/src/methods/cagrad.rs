//! CAGrad, conflict-averse gradient descent (Liu et al., NeurIPS 2021).
//!
//! With `g_0` the mean gradient: the direction within `c‖g_0‖` of `g_0` that improves the worst objective most. Its
//! dual is `min_w ⟨g_w, g_0⟩ + c‖g_0‖‖g_w‖` over the simplex, `g_w = Σ w_i g_i`, and `d = g_0 + c‖g_0‖/‖g_w‖ · g_w`; `d
//! = 0` where `g_w = 0` (Pareto stationary).
//!
//! The dual is solved exactly instead of by a general solver: since `‖g_w‖ = min_t ½(‖g_w‖²/t + t)`, it is a quadratic
//! programme for each `t`, whose solution must have `‖g_w‖ = t`, and `t` is found by bisection.
//!
//! Deviations. An objective without a gradient (of a norm below 10⁻¹⁰ of the root mean square) cannot be served, and does not
//! stop the others: the worst is sought among those that have one. By the letter its `g_w` is zero, and so is `d`.
//! The published code divides by `1 + c²` at the end in one of its variants; this is the paper's direction.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::aggregate::Aggregator;
use crate::linear::{apply, dot, normalized, quadratic};
use crate::{Evidence, Kind, Setting};

pub(super) static ENTRY: Entry = Entry {
    name: "cagrad",
    about: "near the mean gradient, the direction that serves the worst objective best",
    paper: "Liu et al., NeurIPS 2021",
    when: "where the mean should be followed, but no objective be left behind",
    settings: &[Setting {
        name: "c",
        default: "0.4",
        kind: Kind::Number { min: 0.0, max: 10.0 },
        about: "radius around the mean gradient, in units of its norm",
    }],
    build: |_, s| Box::new(Aggregated(CaGrad { c: s.number("c") })),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy)]
pub struct CaGrad {
    /// Radius around the mean gradient, in units of its norm.
    pub c: f64,
}

impl Default for CaGrad {
    fn default() -> Self {
        Self { c: 0.4 }
    }
}

impl Aggregator for CaGrad {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(weights(evidence.shared_gram()?, evidence.objectives(), self.c))
    }
}

/// Relative norm below which `g_w` counts as zero.
const STATIONARY: f64 = 1e-10;

/// Weights from a Gram matrix `k × k`.
pub fn weights(gram: &[f64], k: usize, c: f64) -> Vec<f64> {
    let mean = vec![1.0 / k as f64; k];
    let Some((g, _)) = normalized(gram, k) else { return mean };
    let toward_mean = apply(&g, &mean);
    let live: Vec<usize> = (0..k).filter(|i| g[i * k + i].max(0.0).sqrt() > STATIONARY).collect();
    let n = live.len();
    let served: Vec<f64> = (0..n * n).map(|i| g[live[i / n] * k + live[i % n]]).collect();
    let radius = c * dot(&mean, &toward_mean).max(0.0).sqrt();
    if radius <= STATIONARY {
        return mean;
    }
    let best = |t: f64| {
        let linear: Vec<f64> = live.iter().map(|i| toward_mean[*i] * t / radius).collect();
        let w = quadratic(&served, &linear);
        let norm = dot(&w, &apply(&served, &w)).max(0.0).sqrt();
        (w, norm)
    };
    let (mut low, mut high) = (0.0, (k as f64).sqrt());
    for _ in 0..80 {
        let t = 0.5 * (low + high);
        if best(t).1 > t { low = t } else { high = t }
    }
    let (w, norm) = best(high);
    if norm <= STATIONARY {
        return vec![0.0; k];
    }
    let mut weights = mean;
    live.iter().zip(&w).for_each(|(i, w)| weights[*i] += radius / norm * w);
    weights
}
