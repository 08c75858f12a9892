//! Half: the task at half strength, to show what a method is.

use candle_core::Result;

use balgrad::{Clock, Entry, Evidence, Method, Mix, Objective, Objectives, Outputs, Prediction, Target, Targets};

pub(crate) static ENTRY: Entry = Entry {
    name: "half",
    about: "the task at half strength",
    paper: "an example",
    when: "never",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::All,
    settings: &[],
    build: |_, _| Box::new(Half),
};

struct Half;

impl Method for Half {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        Ok(Objective::new("task", target.nll(&outputs.fused)?).into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[0.5]))
    }
}
