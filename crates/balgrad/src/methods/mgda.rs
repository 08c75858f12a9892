//! MGDA, the multiple-gradient descent algorithm (Désidéri, C. R. Math. 2012; as solved by Sener & Koltun,
//! "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018).
//!
//! The vector of least norm in the convex hull of the gradients: `min_{α in the simplex} αᵀGα`, by Frank–Wolfe from
//! equal weights, with exact line search (two gradients: the closed form, in one step). No deviations.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::aggregate::Aggregator;
use crate::linear::{apply, dot};
use crate::{Evidence, Kind, Setting};

pub(super) static ENTRY: Entry = Entry {
    name: "mgda",
    about: "the shortest vector in the gradients' convex hull",
    paper: "Désidéri 2012; Sener & Koltun, NeurIPS 2018",
    when: "where no objective may lose, and slow progress is acceptable: the shortest vector is short",
    settings: &[
        Setting {
            name: "tolerance",
            default: "0.001",
            kind: Kind::Number { min: 0.0, max: 1.0 },
            about: "Frank–Wolfe stops at a step below this",
        },
        Setting {
            name: "iterations",
            default: "100",
            kind: Kind::Count { min: 1, max: 100_000 },
            about: "Frank–Wolfe's steps at most",
        },
    ],
    build: |_, s| Box::new(Aggregated(Mgda { tolerance: s.number("tolerance"), iterations: s.count("iterations") })),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy)]
pub struct Mgda {
    /// Step length at which Frank–Wolfe stops.
    pub tolerance: f64,
    /// Most steps.
    pub iterations: usize,
}

impl Default for Mgda {
    fn default() -> Self {
        Self { tolerance: 1e-3, iterations: 100 }
    }
}

impl Aggregator for Mgda {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(weights(evidence.shared_gram()?, evidence.objectives(), self.tolerance, self.iterations))
    }
}

/// Weights in the simplex from a Gram matrix `k × k`.
pub fn weights(gram: &[f64], k: usize, tolerance: f64, iterations: usize) -> Vec<f64> {
    let mut alpha = vec![1.0 / k as f64; k];
    for _ in 0..iterations {
        let slopes = apply(gram, &alpha);
        let Some(t) = (0..k).min_by(|i, j| slopes[*i].total_cmp(&slopes[*j])) else { break };
        let (a, b, c) = (slopes[t], dot(&alpha, &slopes), gram[t * k + t]);
        let step = if c <= a {
            1.0
        } else if b <= a {
            0.0
        } else {
            (b - a) / (b + c - 2.0 * a)
        };
        alpha.iter_mut().enumerate().for_each(|(i, w)| *w += step * (f64::from(u8::from(i == t)) - *w));
        if step < tolerance {
            break;
        }
    }
    alpha
}
