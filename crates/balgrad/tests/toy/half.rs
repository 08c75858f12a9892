//! Half: the task at half strength, to show where a method goes.

use candle_core::Result;

use balgrad::methods::{Entry, Method, Objective, Prediction};
use balgrad::{Evidence, Labels, Mix, Outputs, cross_entropy};

pub(crate) static ENTRY: Entry = Entry {
    name: "half",
    about: "the task at half strength",
    paper: "an example",
    when: "never",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    settings: &[],
    build: |_| Box::new(Half),
};

struct Half;

impl Method for Half {
    fn objectives(&mut self, outputs: &Outputs, labels: &Labels) -> Result<Vec<Objective>> {
        Ok(vec![Objective::new("task", cross_entropy(&outputs.fused, labels)?)])
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[0.5]))
    }
}
