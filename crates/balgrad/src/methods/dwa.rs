//! DWA, dynamic weight averaging (Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019).
//!
//! `w_i = k · softmax_i(r_i / T)` with `r_i = L_i(e−1) / L_i(e−2)` the ratio of the last two epochs' mean training
//! losses; 1 in the first two epochs. No deviations.

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::aggregate::Aggregator;
use crate::{Evidence, Kind, Setting, State};

pub(super) static ENTRY: Entry = Entry {
    name: "dwa",
    about: "weighs more the losses that fell less over the last two epochs",
    paper: "Liu et al., CVPR 2019",
    when: "where the pace of losses over epochs is a guide, and one backward pass is all that is affordable",
    cost: "1F 1B",
    settings: &[Setting {
        name: "temperature",
        default: "2",
        kind: Kind::Number { min: 1e-2, max: 1e6 },
        about: "temperature T: the larger, the more equal",
    }],
    build: |_, s| Box::new(Aggregated(Dwa::new(s.number("temperature")))),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Default)]
pub struct Dwa {
    temperature: f64,
    epoch: usize,
    /// Sum of each loss over the current epoch, and the number of steps in it.
    sums: Vec<f64>,
    steps: f64,
    /// Mean losses of the last epoch, and of the one before.
    last: Vec<f64>,
    before: Vec<f64>,
}

impl Dwa {
    /// The paper's temperature is 2.
    pub fn new(temperature: f64) -> Self {
        Self { temperature, ..Self::default() }
    }
}

impl Aggregator for Dwa {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        let k = evidence.objectives();
        if evidence.clock.epoch != self.epoch && self.steps > 0.0 {
            let mean = self.sums.iter().map(|s| s / self.steps).collect();
            self.before = std::mem::replace(&mut self.last, mean);
            (self.sums, self.steps) = (Vec::new(), 0.0);
        }
        self.epoch = evidence.clock.epoch;
        self.sums.resize(k, 0.0);
        self.sums.iter_mut().zip(evidence.losses).for_each(|(s, l)| *s += l);
        self.steps += 1.0;
        Ok(if self.before.len() == k { weights(&self.last, &self.before, self.temperature) } else { vec![1.0; k] })
    }

    fn needs_gram(&self) -> bool {
        false
    }

    fn weighs_losses(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        State::from([
            ("dwa.sums".into(), self.sums.clone()),
            ("dwa.clock".into(), vec![self.steps, self.epoch as f64]),
            ("dwa.last".into(), self.last.clone()),
            ("dwa.before".into(), self.before.clone()),
        ])
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        let list = |name: &str| state.get(name).cloned().unwrap_or_default();
        let clock = list("dwa.clock");
        let at = |i: usize| clock.get(i).copied().unwrap_or(0.0);
        (self.steps, self.epoch) = (at(0), at(1) as usize);
        (self.sums, self.last, self.before) = (list("dwa.sums"), list("dwa.last"), list("dwa.before"));
        Ok(())
    }
}

/// Weights of sum `k` from the mean losses of the last epoch and the one before.
pub fn weights(last: &[f64], before: &[f64], temperature: f64) -> Vec<f64> {
    // A loss that was 0 has no ratio: it counts as unchanged.
    let ratio = |(l, b): (&f64, &f64)| if *b > 1e-12 { l / b } else { 1.0 };
    softmax(&last.iter().zip(before).map(|p| ratio(p) / temperature).collect::<Vec<_>>(), last.len() as f64)
}

/// `total · softmax(x)`.
pub(super) fn softmax(x: &[f64], total: f64) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|v| (v - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|v| total * v / sum).collect()
}
