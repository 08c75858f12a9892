//! GradVac, gradient vaccine (Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in
//! Massively Multilingual Models", ICLR 2021).
//!
//! A target cosine `φ̂_ij` per pair is tracked. For `i`, and `j ≠ i` in random order, with `φ` the cosine of `g_i` (as
//! changed so far) and `g_j`: if `φ < φ̂`, add `‖g_i‖(φ̂√(1−φ²) − φ√(1−φ̂²)) / (‖g_j‖√(1−φ̂²)) · g_j`, which makes the
//! cosine `φ̂`; then `φ̂ ← (1−β)φ̂ + βφ`. The result is the sum. Deviations: pairs with a zero gradient, and targets
//! within 1e-12 of ±1, for which the formula divides by zero, are left alone.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::aggregate::Aggregator;
use crate::linear::{apply, dot};
use crate::{Evidence, Kind, Setting, State};

pub(super) static ENTRY: Entry = Entry {
    name: "gradvac",
    about: "turns gradients toward each other up to the cosine they usually have",
    paper: "Wang et al., ICLR 2021",
    when: "where gradients are usually alike, so that a lower cosine than usual says something",
    settings: &[Setting {
        name: "beta",
        default: "0.01",
        kind: Kind::Number { min: 0.0, max: 1.0 },
        about: "rate at which the target cosine follows",
    }],
    build: |_, s| Box::new(Aggregated(GradVac::new(s.number("beta")))),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone)]
pub struct GradVac {
    beta: f64,
    /// `φ̂`, row-major `k × k`.
    targets: Vec<f64>,
}

impl GradVac {
    /// Targets start at 0 and follow at rate `beta`.
    pub fn new(beta: f64) -> Self {
        Self { beta, targets: Vec::new() }
    }
}

impl Aggregator for GradVac {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        let k = evidence.objectives();
        self.targets.resize(k * k, 0.0);
        Ok(weights(evidence.shared_gram()?, k, &evidence.orders(), self.beta, &mut self.targets))
    }

    fn state(&self) -> State {
        State::from([("gradvac.targets".into(), self.targets.clone())])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.targets = state.get("gradvac.targets").cloned().unwrap_or_default();
        Ok(())
    }
}

/// Weights from a Gram matrix `k × k`; `orders[i]` names the objectives that `i` meets, in that order, and `targets`
/// (`φ̂`, `k × k`) is moved toward the cosines met.
pub fn weights(gram: &[f64], k: usize, orders: &[Vec<usize>], beta: f64, targets: &mut [f64]) -> Vec<f64> {
    let mut sum = vec![0.0; k];
    for (i, order) in orders.iter().enumerate().take(k) {
        let mut own = vec![0.0; k];
        own[i] = 1.0;
        for j in order.iter().copied().filter(|j| *j != i) {
            let inner = apply(gram, &own);
            let (norm, other) = (dot(&inner, &own).max(0.0).sqrt(), gram[j * k + j].max(0.0).sqrt());
            let cosine = (inner[j] / (norm * other)).clamp(-1.0, 1.0);
            if !cosine.is_finite() {
                continue;
            }
            let target = &mut targets[i * k + j];
            let (sine, target_sine) = ((1.0 - cosine * cosine).sqrt(), (1.0 - *target * *target).max(0.0).sqrt());
            if cosine < *target && target_sine > 1e-6 {
                own[j] += norm * (*target * sine - cosine * target_sine) / (other * target_sine);
            }
            *target += beta * (cosine - *target);
        }
        sum.iter_mut().zip(&own).for_each(|(s, o)| *s += o);
    }
    sum
}
