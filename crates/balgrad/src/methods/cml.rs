//! CML, calibrating multimodal learning (Ma et al., ICML 2023).
//!
//! Confidence must not rise when a modality is taken away. Modalities are removed one after the other in random order,
//! their embeddings silent before the fused head; with `z_0 = z, z_1, …` the logits so far, the loss is
//! `mean_k CE(z_k) + λ Σ_k mean relu(conf_{k+1} − conf_k)`, `conf` the largest probability.
//!
//! Deviations. The penalty is taken per sample, as in the paper (public code takes it of the batch's sum). Multi-label:
//! the mean over labels of the likelier outcome's probability.

use candle_core::{Result, Tensor};
use rand::seq::SliceRandom;

use super::{Entry, Method, Needs, Objective, Objectives, Prediction, Targets, first};
use crate::{Clock, Evidence, Kind, Mix, Outputs, Setting, Target};

pub(super) static ENTRY: Entry = Entry {
    name: "cml",
    about: "confidence must not rise when a modality is taken away",
    paper: "Ma et al., ICML 2023",
    when: "where confidence is acted on: an answer from less should not be surer",
    cost: "1F 1B",
    trains_heads: false,
    prediction: Prediction::Fused,
    targets: Targets::Classes,
    settings: &[Setting {
        name: "lambda",
        default: "0.1",
        kind: Kind::Number { min: 0.0, max: 1e3 },
        about: "weight λ of the rise in confidence",
    }],
    build: |_, s| Box::new(Cml { lambda: s.number("lambda") }),
};

struct Cml {
    lambda: f64,
}

impl Method for Cml {
    fn needs(&self) -> Needs {
        Needs { fused_head: true, ..Needs::default() }
    }

    fn objectives(&self, outputs: &Outputs, target: &Target, clock: &Clock) -> Result<Objectives> {
        let mut order: Vec<usize> = (0..outputs.modalities()).collect();
        order.shuffle(&mut clock.rng(b"cml"));
        let mut logits = vec![outputs.fused.clone()];
        for removed in 1..order.len() {
            logits.push(outputs.without(|m| order[..removed].contains(&m))?);
        }
        let losses = logits.iter().map(|z| target.nll(z)).collect::<Result<Vec<_>>>()?;
        let mut objectives = vec![Objective::new("task", Tensor::stack(&losses, 0)?.mean_all()?)];
        let sure = logits.iter().map(|z| target.confidence(z)).collect::<Result<Vec<_>>>()?;
        let rises = sure.windows(2).map(|pair| (&pair[1] - &pair[0])?.relu()?.mean_all());
        let rises = rises.collect::<Result<Vec<_>>>()?;
        if !rises.is_empty() {
            objectives.push(Objective::new("rise", Tensor::stack(&rises, 0)?.sum_all()?));
        }
        Ok(objectives.into())
    }

    fn mix(&mut self, evidence: &Evidence<'_>) -> Result<Mix> {
        let weights = [1.0, self.lambda];
        let used = first(&weights, evidence)?;
        Ok(Mix::uniform(evidence.blocks, used))
    }
}
