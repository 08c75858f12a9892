//! PCGrad, projecting conflicting gradients (Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020).
//!
//! Each gradient in turn is taken off every other that it conflicts with, in random order:
//! `g_i ← g_i − ⟨g_i, g_j⟩/‖g_j‖² · g_j` if `⟨g_i, g_j⟩ < 0`, with `g_i` as projected so far and `g_j` as it was. The
//! result is the sum. No deviations. (Ports that average, draw the order and discard it, or write zeros where a
//! parameter has no gradient do deviate.)

use candle_core::Result;

use super::Entry;
use super::aggregated::{Aggregated, entry};
use crate::Evidence;
use crate::aggregate::Aggregator;
use crate::linear::dot;

pub(super) static ENTRY: Entry = Entry {
    name: "pcgrad",
    about: "takes off each gradient what conflicts with the others, and sums",
    paper: "Yu et al., NeurIPS 2020",
    when: "as the simplest rule against conflicting gradients",
    build: |_, _| Box::new(Aggregated(PcGrad)),
    ..entry()
};

/// The rule as an [`Aggregator`].
#[derive(Debug, Clone, Copy, Default)]
pub struct PcGrad;

impl Aggregator for PcGrad {
    fn weights(&mut self, evidence: &Evidence<'_>) -> Result<Vec<f64>> {
        Ok(weights(evidence.shared_gram()?, evidence.objectives(), &evidence.orders()))
    }
}

/// Weights from a Gram matrix `k × k`; `orders[i]` names the objectives that `i` is taken off, in that order.
pub fn weights(gram: &[f64], k: usize, orders: &[Vec<usize>]) -> Vec<f64> {
    let mut sum = vec![0.0; k];
    for (i, order) in orders.iter().enumerate().take(k) {
        let mut own = vec![0.0; k];
        own[i] = 1.0;
        for j in order.iter().copied().filter(|j| *j != i) {
            let (inner, squared) = (dot(&gram[j * k..(j + 1) * k], &own), gram[j * k + j]);
            if inner < 0.0 && squared > 0.0 {
                own[j] -= inner / squared;
            }
        }
        sum.iter_mut().zip(&own).for_each(|(s, o)| *s += o);
    }
    sum
}
