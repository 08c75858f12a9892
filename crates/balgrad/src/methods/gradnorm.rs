//! GradNorm, gradient normalisation (Chen et al., ICML 2018).
//!
//! Loss weights `w` (sum `k`) are learnt so that the norms `w_i‖g_i‖` approach `mean · r_i^α`, with `r_i = (L_i/L_i(0))
//! / mean_j(L_j/L_j(0))` the inverse training rate: `w_i ← w_i − η · sign(w_i‖g_i‖ − target_i)·‖g_i‖`, the gradient of
//! `Σ|w_i‖g_i‖ − target_i|` with the target held constant, then rescaled to sum `k`.
//!
//! Deviations. Norms are divided by their mean before the step, so that `η` does not depend on the gradients' size.
//! Weights are kept above 1e-3 (the paper lets them turn negative). Plain gradient descent learns them.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::aggregate::Aggregator;
use crate::{Evidence, Kind, Setting, State};

pub(super) static ENTRY: Entry = Entry {
    name: "gradnorm",
    about: "learns loss weights that make all objectives train at one rate",
    paper: "Chen et al., ICML 2018",
    when: "where losses have different scales and rates, and static weights would need tuning",
    settings: &[
        Setting {
            name: "alpha",
            default: "1.5",
            kind: Kind::Number { min: 0.0, max: 10.0 },
            about: "strength α of the pull toward one training rate",
        },
        Setting {
            name: "rate",
            default: "0.025",
            kind: Kind::Number { min: 0.0, max: 1.0 },
            about: "learning rate η of the weights",
        },
    ],
    build: |_, s| Box::new(Aggregated(GradNorm::new(s.number("alpha"), s.number("rate")))),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone)]
pub struct GradNorm {
    alpha: f64,
    rate: f64,
    weights: Vec<f64>,
    /// `L_i(0)`.
    first: Vec<f64>,
}

impl GradNorm {
    /// Pull `alpha`, learning rate `rate`; the paper's pull is 1.5.
    pub fn new(alpha: f64, rate: f64) -> Self {
        Self { alpha, rate, weights: Vec::new(), first: Vec::new() }
    }
}

impl Aggregator for GradNorm {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        let k = evidence.objectives();
        if self.weights.len() != k {
            self.weights = vec![1.0; k];
            self.first = evidence.losses.to_vec();
        }
        let used = self.weights.clone();
        let next = next(&used, evidence.shared_gram()?, evidence.losses, &self.first, self.alpha, self.rate);
        if next.iter().all(|w| w.is_finite()) {
            self.weights = next;
        }
        Ok(used)
    }

    fn weighs_losses(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        State::from([("gradnorm.weights".into(), self.weights.clone()), ("gradnorm.first".into(), self.first.clone())])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.weights = state.get("gradnorm.weights").cloned().unwrap_or_default();
        self.first = state.get("gradnorm.first").cloned().unwrap_or_default();
        Ok(())
    }
}

/// The weights of the next step from this step's `weights`, Gram matrix, losses and first losses.
pub fn next(weights: &[f64], gram: &[f64], losses: &[f64], first: &[f64], alpha: f64, rate: f64) -> Vec<f64> {
    let k = weights.len();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / k as f64;
    let norms: Vec<f64> = (0..k).map(|i| gram[i * k + i].max(0.0).sqrt()).collect();
    let unit = mean(&norms);
    if unit <= 0.0 {
        return weights.to_vec();
    }
    // A loss that starts at 0 (agreement of equal heads) has no training rate: it counts as average.
    let progress: Vec<f64> =
        losses.iter().zip(first).map(|(l, f)| if *f > 1e-12 { l.max(0.0) / f } else { 1.0 }).collect();
    let usual = mean(&progress).max(1e-12);
    let sizes: Vec<f64> = weights.iter().zip(&norms).map(|(w, n)| w * n / unit).collect();
    let level = mean(&sizes);
    let moved = (0..k).map(|i| {
        let error = sizes[i] - level * (progress[i] / usual).powf(alpha);
        let sign = if error == 0.0 { 0.0 } else { error.signum() };
        (weights[i] - rate * sign * norms[i] / unit).max(1e-3)
    });
    let moved: Vec<f64> = moved.collect();
    let total = mean(&moved);
    moved.iter().map(|w| w / total).collect()
}
