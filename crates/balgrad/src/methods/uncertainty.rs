//! Uncertainty weighting (Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018).
//!
//! `L = Σ e^{−s_i} L_i + ½ s_i` with learnt log-variances `s_i = log σ_i²` (the paper's form for classification),
//! starting at 0: weight `e^{−s_i}`, and `s_i ← s_i − η(½ − e^{−s_i} L_i)`.
//!
//! Deviations. The log-variances are learnt by plain gradient descent with a rate of their own, not by the model's
//! optimiser, and kept within ±5.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::aggregate::Aggregator;
use crate::{Evidence, Kind, Setting, State};

pub(super) static ENTRY: Entry = Entry {
    name: "uncertainty",
    about: "weighs each loss by the inverse of a learnt variance",
    paper: "Kendall et al., CVPR 2018",
    when: "where losses differ in noise, and one backward pass is all that is affordable",
    cost: "1F 1B",
    settings: &[Setting {
        name: "rate",
        default: "0.01",
        kind: Kind::Number { min: 0.0, max: 1.0 },
        about: "learning rate η of the log-variances",
    }],
    build: |_, s| Box::new(Aggregated(Uncertainty::new(s.number("rate")))),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone)]
pub struct Uncertainty {
    rate: f64,
    /// `s_i`.
    log_variances: Vec<f64>,
}

impl Uncertainty {
    /// Log-variances start at 0 and learn at `rate`.
    pub fn new(rate: f64) -> Self {
        Self { rate, log_variances: Vec::new() }
    }
}

impl Aggregator for Uncertainty {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        self.log_variances.resize(evidence.objectives(), 0.0);
        let weights: Vec<f64> = self.log_variances.iter().map(|s| (-s).exp()).collect();
        for (s, (w, l)) in self.log_variances.iter_mut().zip(weights.iter().zip(evidence.losses)) {
            let slope = 0.5 - w * l;
            if slope.is_finite() {
                *s = (*s - self.rate * slope).clamp(-5.0, 5.0);
            }
        }
        Ok(weights)
    }

    fn needs_gram(&self) -> bool {
        false
    }

    fn weighs_losses(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        State::from([("uncertainty.log_variances".into(), self.log_variances.clone())])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.log_variances = state.get("uncertainty.log_variances").cloned().unwrap_or_default();
        Ok(())
    }
}
