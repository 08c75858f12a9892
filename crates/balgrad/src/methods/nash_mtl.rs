//! Nash-MTL, multi-task learning as a bargaining game (Navon et al., ICML 2022).
//!
//! The Nash bargaining solution weighs by the `α > 0` with `Gα = 1/α` (elementwise), which is the one minimum of
//! `½αᵀGα − Σ log α_i`, a self-concordant function: damped Newton steps find it from anywhere. The direction then has
//! norm `√k`, whatever the gradients' size, and is cut to `max_norm` as in the published code.
//!
//! Deviations. The published code solves a sequence of convex relaxations, 20 at most, and may stop short; this solves
//! the equation itself, in every step. Objectives without a gradient have no part in the bargain and weight 0.
//!
//! There is no solution where some combination of the gradients with weights `≥ 0` vanishes, as of two opposed ones: what
//! serves one hurts another, and `α` grows without end. Each gradient then gets a thousandth of its length in a direction
//! of its own, `G + 10⁻⁶ diag G` in the place of `G`, for which there is one: `α_i ‖g_i‖ ≤ 1000 √k`, and `d` is no
//! longer than `√k`. Opposed gradients then nearly cancel, and the others go on.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::aggregate::Aggregator;
use crate::linear::{apply, dot, normalized, solve};
use crate::{Evidence, Kind, Setting};

pub(super) static ENTRY: Entry = Entry {
    name: "nash-mtl",
    about: "the Nash bargaining solution between objectives",
    paper: "Navon et al., ICML 2022",
    when: "where objectives have very different scales: the solution does not depend on them",
    settings: &[Setting {
        name: "max_norm",
        default: "1",
        kind: Kind::Number { min: 0.0, max: 1e6 },
        about: "largest norm of the direction; 0: no limit",
    }],
    build: |_, s| Box::new(Aggregated(NashMtl { max_norm: s.number("max_norm") })),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy)]
pub struct NashMtl {
    /// Largest norm of the direction; 0: no limit.
    pub max_norm: f64,
}

impl Default for NashMtl {
    fn default() -> Self {
        Self { max_norm: 1.0 }
    }
}

impl Aggregator for NashMtl {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        let mut alpha = weights(evidence.shared_gram()?, evidence.objectives());
        let norm = dot(&alpha, &apply(evidence.shared_gram()?, &alpha)).max(0.0).sqrt();
        if self.max_norm > 0.0 && norm > self.max_norm {
            alpha.iter_mut().for_each(|a| *a *= self.max_norm / norm);
        }
        Ok(alpha)
    }
}

/// `α_i ‖g_i‖` beyond this means that there is no solution.
const LARGEST: f64 = 1e8;

/// What each gradient then gets in a direction of its own, in parts of its squared length.
const APART: f64 = 1e-6;

/// The solution of `Gα = 1/α` from a Gram matrix `k × k`; where there is none, that of `(G + 10⁻⁶ diag G) α = 1/α`.
pub fn weights(gram: &[f64], k: usize) -> Vec<f64> {
    let mut alpha = vec![0.0; k];
    let Some((scaled, mean)) = normalized(gram, k) else { return alpha };
    let live: Vec<usize> = (0..k).filter(|i| scaled[i * k + i] > 1e-30).collect();
    let n = live.len();
    let mut g: Vec<f64> = (0..n * n).map(|i| scaled[live[i / n] * k + live[i % n]]).collect();
    let (mut a, solved) = bargain(&g, n);
    if !solved {
        (0..n).for_each(|i| g[i * n + i] *= 1.0 + APART);
        a = bargain(&g, n).0;
    }
    live.iter().zip(&a).for_each(|(i, a)| alpha[*i] = a / mean.sqrt());
    alpha
}

/// Newton's steps from `1/‖g_i‖`, and whether they ended in a solution rather than beyond [`LARGEST`].
fn bargain(g: &[f64], n: usize) -> (Vec<f64>, bool) {
    let norms: Vec<f64> = (0..n).map(|i| g[i * n + i].sqrt()).collect();
    let mut a: Vec<f64> = norms.iter().map(|norm| norm.recip()).collect();
    for _ in 0..500 {
        let slope: Vec<f64> = apply(g, &a).iter().zip(&a).map(|(g, a)| a.recip() - g).collect();
        let mut hessian = g.to_vec();
        (0..n).for_each(|i| hessian[i * n + i] += a[i].powi(-2));
        let Some(step) = solve(hessian, slope.clone()) else { return (a, false) };
        let decrement = dot(&slope, &step).max(0.0).sqrt();
        let damping = if decrement > 0.25 { 1.0 / (1.0 + decrement) } else { 1.0 };
        let next: Vec<f64> = a.iter().zip(&step).map(|(a, s)| a + damping * s).collect();
        if next.iter().zip(&norms).any(|(a, norm)| !(1e-300..=LARGEST).contains(&(a * norm))) {
            return (a, false);
        }
        a = next;
        if decrement < 1e-14 {
            break;
        }
    }
    (a, true)
}
