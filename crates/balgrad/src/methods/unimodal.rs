//! References without fusion: one modality alone, and late fusion of all. They show the ceiling of each modality and
//! what joint training of a fused head adds.
//!
//! `image-only` and `text-only`: `d = g_m` for the first or the second modality, whose own head answers; nothing else
//! learns. `late-fusion`: `d = Σ_m g_m`, and the answer is the mean of the own heads' probabilities.

use candle_core::{Error, Result};

use super::{Entry, Method, Objective, Objectives, Prediction, Targets};
use crate::{Clock, Evidence, Mix, Outputs, Target};

pub(super) static IMAGE: Entry = Entry {
    name: "image-only",
    about: "the image's own head alone: the ceiling of that modality",
    paper: "reference",
    when: "to know the ceiling of the first modality: a fused model that stays below it has lost something",
    cost: "1F 1B",
    trains_heads: true,
    prediction: Prediction::Own(0),
    targets: Targets::All,
    settings: &[],
    build: |entry, _| Box::new(Unimodal(own(entry))),
};

pub(super) static TEXT: Entry = Entry {
    name: "text-only",
    about: "the text's own head alone: the ceiling of that modality",
    when: "to know the ceiling of the second modality",
    prediction: Prediction::Own(1),
    ..IMAGE
};

pub(super) static LATE: Entry = Entry {
    name: "late-fusion",
    about: "own heads trained apart, their probabilities averaged",
    when: "first, and always as a reference: on little data a fused head seldom beats it, and a missing modality hurts it least",
    prediction: Prediction::Average,
    build: |entry, _| Box::new(Unimodal(own(entry))),
    ..IMAGE
};

/// The reference that trains modality `m` alone, by its own head.
pub fn modality_only(m: usize) -> Entry {
    Entry {
        name: "modality-only",
        about: "one modality's own head alone: its ceiling",
        prediction: Prediction::Own(m),
        ..IMAGE
    }
}

/// The modality that an entry predicts by.
fn own(entry: &Entry) -> Option<usize> {
    if let Prediction::Own(m) = entry.prediction { Some(m) } else { None }
}

/// The modality that learns; all of them if there is none.
struct Unimodal(Option<usize>);

impl Method for Unimodal {
    fn objectives(&self, outputs: &Outputs, target: &Target, _: &Clock) -> Result<Objectives> {
        let one = |m: usize| {
            let own = outputs.own.get(m).ok_or_else(|| Error::Msg(format!("there is no modality {m}")))?;
            target.nll(own)
        };
        Ok(match self.0 {
            Some(m) => Objective::new("uni", one(m)?),
            None => Objective::sum("uni", (0..outputs.modalities()).map(one).collect::<Result<_>>()?)?.own(),
        }
        .into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        Ok(Mix::uniform(evidence.blocks, &[1.0]))
    }
}
