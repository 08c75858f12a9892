//! RLW, random loss weighting (Lin et al., "Reasonable Effectiveness of Random Weighting", TMLR 2022).
//!
//! Each step draws `w = softmax(z)`, `z` standard normal: the control that every weighting must beat. The draw is
//! seeded by run and step. No deviations.

use rand_distr::{Distribution, StandardNormal};

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use super::dwa::softmax;
use crate::Evidence;
use crate::aggregate::Aggregator;

pub(super) static ENTRY: Entry = Entry {
    name: "rlw",
    about: "weighs losses at random in every step: a control",
    paper: "Lin et al., TMLR 2022",
    when: "as a control: a weighting that does not beat it does not weigh",
    cost: "1F 1B",
    build: |_, _| Box::new(Aggregated(Rlw)),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Rlw;

impl Aggregator for Rlw {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        let mut rng = evidence.clock.rng(b"");
        let normal: Vec<f64> = (0..evidence.objectives()).map(|_| StandardNormal.sample(&mut rng)).collect();
        Ok(softmax(&normal, 1.0))
    }

    fn needs_gram(&self) -> bool {
        false
    }

    fn weighs_losses(&self) -> bool {
        true
    }
}
