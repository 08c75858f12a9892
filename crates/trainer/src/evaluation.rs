//! What a model says of a bank, and the scores of what it says.

use anyhow::{Context, Result};
use balgrad::{Prediction, cross_entropy};
use balgrad_data::Task;
use balgrad_encoders::{Expects, TwoTower};
use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{sigmoid, softmax};

use crate::bank::{Bank, labels};
use crate::metrics::{Metrics, compute};

/// Samples in one forward pass of an evaluation.
const BATCH: usize = 256;

/// A trained model and how it answers.
pub struct Judge<'a> {
    /// The model.
    pub model: &'a TwoTower,
    /// The form of the task.
    pub task: Task,
    /// How many classes.
    pub classes: usize,
    /// Which logits are the answer.
    pub prediction: Prediction,
    /// Whether own heads are trained, so that they show what a modality knows.
    pub trains_heads: bool,
    /// Where to compute.
    pub device: &'a Device,
}

/// Probabilities `[samples][classes]`.
pub type Probabilities = Vec<Vec<f32>>;

/// What a model says of a bank.
#[derive(Debug, Clone)]
pub struct Answers {
    /// The model's answer.
    pub probs: Probabilities,
    /// Each modality's own view: its head, or its slice of the fused head, or nothing where neither exists.
    pub views: Vec<Option<Probabilities>>,
    /// Mean loss of the fused head.
    pub loss: f64,
    /// Mean loss of each view.
    pub view_losses: Vec<Option<f64>>,
}

impl Judge<'_> {
    /// Which view of a modality a results file names.
    pub fn view_name(&self, additive: bool) -> Option<&'static str> {
        match (self.trains_heads, additive) {
            (true, _) => Some("head"),
            (false, true) => Some("slice"),
            (false, false) => None,
        }
    }

    /// Runs the model over `bank`, in order.
    ///
    /// # Errors
    /// When shapes disagree or the device fails.
    pub fn answers(&self, bank: &Bank, expects: &[&Expects]) -> Result<Answers> {
        let modalities = self.model.modalities();
        let mut answers = Answers {
            probs: Vec::with_capacity(bank.len()),
            views: vec![Some(Vec::with_capacity(bank.len())); modalities],
            loss: 0.0,
            view_losses: vec![Some(0.0); modalities],
        };
        let rows: Vec<usize> = (0..bank.len()).collect();
        for rows in rows.chunks(BATCH) {
            let truth = labels(bank, rows, self.classes, self.task == Task::MultiLabel, None, self.device)?;
            let part = rows.len() as f64 / bank.len() as f64;
            let loss = |z: &Tensor| -> Result<f64> {
                Ok(part * cross_entropy(z, &truth)?.to_dtype(DType::F64)?.to_scalar::<f64>()?)
            };
            let said = self.model.forward(&bank.inputs(rows, expects, None, self.device)?)?;
            let slices =
                if self.trains_heads { Some(said.own.clone()) } else { self.model.slices(&said.embeddings)? };
            answers.loss += loss(&said.fused)?;
            for m in 0..modalities {
                let view = slices.as_ref().map(|s| &s[m]);
                match (view, &mut answers.views[m], &mut answers.view_losses[m]) {
                    (Some(z), Some(all), Some(sum)) => {
                        all.extend(self.probabilities(z)?);
                        *sum += loss(z)?;
                    }
                    (_, all, sum) => (*all, *sum) = (None, None),
                }
            }
            answers.probs.extend(match self.prediction {
                Prediction::Fused => self.probabilities(&said.fused)?,
                Prediction::Own(m) => self.probabilities(&said.own[m])?,
                Prediction::Average => {
                    average(&said.own.iter().map(|z| self.probabilities(z)).collect::<Result<Vec<_>>>()?)
                }
            });
        }
        Ok(answers)
    }

    /// Logits `[batch, classes]` to probabilities: softmax, or a sigmoid per label.
    ///
    /// # Errors
    /// When the logits are no matrix.
    pub fn probabilities(&self, logits: &Tensor) -> Result<Probabilities> {
        let logits = logits.detach();
        let probs = if self.task == Task::MultiLabel { sigmoid(&logits)? } else { softmax(&logits, 1)? };
        probs.to_dtype(DType::F32)?.to_vec2().context("logits are [batch, classes]")
    }

    /// All metrics of some probabilities against the bank's labels.
    pub fn metrics(&self, probs: &Probabilities, bank: &Bank) -> Metrics {
        compute(self.task, probs, &bank.labels)
    }
}

fn average(views: &[Probabilities]) -> Probabilities {
    let count = views.len() as f32;
    let row = |i: usize| {
        let mut sum = vec![0f32; views[0][i].len()];
        for view in views {
            sum.iter_mut().zip(&view[i]).for_each(|(s, p)| *s += p / count);
        }
        sum
    };
    (0..views.first().map_or(0, Vec::len)).map(row).collect()
}
