//! What a model says of a bank, and the scores of what it says.

use anyhow::{Context, Result};
use balgrad::{Prediction, cross_entropy};
use balgrad_data::Task;
use balgrad_encoders::{Expects, TwoTower};
use candle_core::{DType, Device, Tensor};
use candle_nn::ops::{sigmoid, softmax};

use crate::bank::{Bank, labels};
use crate::metrics::{Metrics, compute};

/// Samples in one forward pass of an evaluation: of features, and of images or tokens.
const BATCH: [usize; 2] = [256, 64];

/// Samples in one forward pass over a model that reads these.
pub(crate) fn batch(expects: &[&Expects]) -> usize {
    BATCH[usize::from(!expects.iter().all(|e| matches!(e, Expects::Features(_))))]
}

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
    /// Weights of the classes in the losses, those of training; none where no loss is asked for.
    pub class_weights: Option<Tensor>,
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
        bank.feed_all(batch(expects), expects, self.device, |rows, inputs| {
            let weights = self.class_weights.as_ref();
            let truth = labels(bank, rows, self.classes, self.task == Task::MultiLabel, weights, self.device)?;
            let part = rows.len() as f64 / bank.len() as f64;
            let loss = |z: &Tensor| -> Result<f64> {
                Ok(part * cross_entropy(z, &truth)?.to_dtype(DType::F64)?.to_scalar::<f64>()?)
            };
            let said = self.model.forward(&inputs)?;
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
                Prediction::All => {
                    let all = said.own.iter().chain([&said.fused]);
                    average(&all.map(|z| self.probabilities(z)).collect::<Result<Vec<_>>>()?)
                }
                Prediction::Sum => {
                    let first = said.own[0].zeros_like()?;
                    let sum = said.own.iter().try_fold(first, |sum, z| sum + z)?;
                    self.probabilities(&sum)?
                }
                Prediction::Confident => {
                    let alone = |m| self.probabilities(&self.model.alone(&said.embeddings, m)?);
                    self.confident(&(0..modalities).map(alone).collect::<Result<Vec<_>>>()?)
                }
            });
            Ok(())
        })?;
        Ok(answers)
    }

    /// Views averaged sample by sample with weights `∝ exp(−H)`, `H` a view's entropy in nats (multi-label: the mean
    /// over labels).
    fn confident(&self, views: &[Probabilities]) -> Probabilities {
        let term = |p: f32| if p > 0.0 { -p * p.ln() } else { 0.0 };
        let entropy = |probs: &[f32]| match self.task {
            Task::MultiLabel => probs.iter().map(|&p| term(p) + term(1.0 - p)).sum::<f32>() / probs.len() as f32,
            Task::MultiClass | Task::Binary => probs.iter().map(|&p| term(p)).sum(),
        };
        let row = |i: usize| {
            let weights: Vec<f32> = views.iter().map(|view| (-entropy(&view[i])).exp()).collect();
            let total: f32 = weights.iter().sum();
            let class = |c: usize| views.iter().zip(&weights).map(|(view, w)| w / total * view[i][c]).sum();
            (0..views[0][i].len()).map(class).collect()
        };
        (0..views.first().map_or(0, Vec::len)).map(row).collect()
    }

    /// How well each sample is answered, in [0, 1]: 1 where the likeliest class is the true one; multi-label: the part of
    /// labels that are right.
    pub fn correct(&self, probs: &Probabilities, bank: &Bank) -> Vec<f64> {
        let one = |(probs, labels): (&Vec<f32>, &Vec<u32>)| {
            if self.task == Task::MultiLabel {
                let right = (0..).zip(probs).filter(|(c, p)| (**p >= 0.5) == labels.contains(c)).count();
                return right as f64 / probs.len() as f64;
            }
            let best = (0..).zip(probs).fold((0, f32::MIN), |best, (c, &p)| if p > best.1 { (c, p) } else { best });
            f64::from(u8::from(labels.first() == Some(&best.0)))
        };
        probs.iter().zip(bank.labels.iter()).map(one).collect()
    }

    /// Mean negative log-likelihood of the labels under some probabilities, in nats; multi-label: the mean over labels.
    pub fn loss(&self, probs: &Probabilities, bank: &Bank) -> f64 {
        // Single precision cannot tell smaller probabilities from none.
        let nats = |p: f32| -f64::from(p).max(1e-12).ln();
        let one = |(probs, labels): (&Vec<f32>, &Vec<u32>)| {
            if self.task == Task::MultiLabel {
                let label = |(c, &p): (u32, &f32)| nats(if labels.contains(&c) { p } else { 1.0 - p });
                return (0..).zip(probs).map(label).sum::<f64>() / probs.len() as f64;
            }
            labels.first().and_then(|&c| probs.get(c as usize)).map_or(0.0, |&p| nats(p))
        };
        probs.iter().zip(bank.labels.iter()).map(one).sum::<f64>() / bank.len() as f64
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

/// What each tower reads.
pub fn expects(model: &TwoTower) -> Vec<&Expects> {
    (0..model.modalities()).filter_map(|m| model.encoder(m)).map(balgrad_encoders::Encoder::expects).collect()
}
