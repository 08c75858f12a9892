//! Joint training: the task loss of the fused head, and nothing else. The baseline of every paper.
//!
//! `d = g_T` on every block. The own heads receive no gradient and do not move.

use candle_core::Result;

use super::{Entry, Method, Objective, Objectives, Prediction, Targets};
use crate::{Clock, Evidence, Mix, Outputs, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "joint",
    about: "the task loss alone: the baseline",
    paper: "baseline",
    when: "as the baseline; and where both modalities are always there and clean",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[],
    build: |_, _| Box::new(Joint),
};

pub(super) struct Joint;

impl Method for Joint {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        Ok(vec![Objective::new("task", target.nll(&outputs.fused)?)].into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }
}
