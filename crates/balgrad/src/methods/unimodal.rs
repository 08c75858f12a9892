//! References without fusion: one modality alone, and late fusion of all. They show the ceiling of each modality and
//! what joint training of a fused head adds.
//!
//! `image-only` and `text-only`: `d = g_m` for the first or the second modality, whose own head answers; nothing else
//! learns. `late-fusion`: `d = Σ_m g_m`, and the answer is the mean of the own heads' probabilities.

use candle_core::{Error, Result};

use super::{Entry, Method, Objective, Prediction};
use crate::{Evidence, Labels, Mix, Outputs, cross_entropy};

pub(super) static IMAGE: Entry = Entry {
    name: "image-only",
    about: "the image's own head alone: the ceiling of that modality",
    paper: "reference",
    when: "to know the ceiling of the first modality: a fused model that stays below it has lost something",
    cost: "1F 1B",
    trains_heads: true,
    prediction: Prediction::Own(0),
    settings: &[],
    build: |_| Box::new(Unimodal(Some(0))),
};

pub(super) static TEXT: Entry = Entry {
    name: "text-only",
    about: "the text's own head alone: the ceiling of that modality",
    when: "to know the ceiling of the second modality",
    prediction: Prediction::Own(1),
    build: |_| Box::new(Unimodal(Some(1))),
    ..IMAGE
};

pub(super) static LATE: Entry = Entry {
    name: "late-fusion",
    about: "own heads trained apart, their probabilities averaged",
    when: "first, and always as a reference: on little data a fused head seldom beats it, and a missing modality hurts it least",
    prediction: Prediction::Average,
    build: |_| Box::new(Unimodal(None)),
    ..IMAGE
};

/// The modality that learns; all of them if there is none.
struct Unimodal(Option<usize>);

impl Method for Unimodal {
    fn objectives(&mut self, outputs: &Outputs, labels: &Labels) -> Result<Vec<Objective>> {
        let one = |m: usize| {
            let own = outputs.own.get(m).ok_or_else(|| Error::Msg(format!("there is no modality {m}")))?;
            cross_entropy(own, labels)
        };
        Ok(vec![match self.0 {
            Some(m) => Objective::new("uni", one(m)?),
            None => Objective::sum("uni", (0..outputs.modalities()).map(one).collect::<Result<_>>()?)?,
        }])
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }
}
