//! Multi-loss training: the task loss and each modality's own, summed. The control that BalGrad must beat, since
//! own losses alone already keep a modality alive.
//!
//! `d = g_T + λ_uni Σ_m g_m`, one backward pass of one summed loss.

use candle_core::Result;

use super::{Entry, Method, Objective, Objectives, Prediction, Targets};
use crate::{Clock, Evidence, Kind, Mix, Outputs, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "multi-loss",
    about: "the task loss plus each modality's own loss",
    paper: "baseline",
    when: "as the control of every method that trains own heads: what it does not beat, balancing did not do",
    cost: "1F 1B",
    trains_heads: true,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[Setting {
        name: "uni_weight",
        default: "1",
        kind: Kind::Number { min: 0.0, max: 1e6 },
        about: "weight of the modalities' own losses, λ_uni",
    }],
    build: |_, s| Box::new(MultiLoss { uni_weight: s.number("uni_weight") }),
};

struct MultiLoss {
    uni_weight: f64,
}

impl Method for MultiLoss {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let mut loss = target.nll(&outputs.fused)?;
        for own in &outputs.own {
            loss = (loss + (target.nll(own)? * self.uni_weight)?)?;
        }
        Ok(vec![Objective::new("task+uni", loss)].into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }
}
