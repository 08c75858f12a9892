//! Joint training: the task loss of the fused head, and nothing else. The baseline of every paper.
//!
//! `d = g_T` on every block. The own heads receive no gradient and do not move.

use candle_core::Result;

use super::{Entry, Method, Objective, Prediction};
use crate::{Evidence, Labels, Mix, Outputs, cross_entropy};

pub(super) static ENTRY: Entry = Entry {
    name: "joint",
    about: "the task loss alone: the baseline",
    paper: "baseline",
    when: "as the baseline; and where both modalities are always there and clean",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    settings: &[],
    build: |_| Box::new(Joint),
};

pub(super) struct Joint;

impl Method for Joint {
    fn objectives(&mut self, outputs: &Outputs, labels: &Labels) -> Result<Vec<Objective>> {
        Ok(vec![Objective::new("task", cross_entropy(&outputs.fused, labels)?)])
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }
}
