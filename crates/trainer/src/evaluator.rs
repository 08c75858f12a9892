//! What a model predicts for a split, and the scores of it.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use balgrad::{Alone, Communicator, Entry, Prediction};
use balgrad_data::{Sample, Task};
use balgrad_encoders::{Input, Reader, TwoTower, Views};
use candle_core::{DType, Device, Tensor};

use crate::metrics::{Metrics, Score, Scored, Truth, argmax, compute};
use crate::model_spec::ModelSpec;
use crate::ranks::check_signals;
use crate::record::View;
use crate::split_data::{Pick, SplitData};
use crate::targets::{Batch, Scaling, TargetEntry};

mod dealt;

use dealt::{Part, exchange};

/// Samples in one forward pass of an evaluation: of features, and of images or tokens.
const BATCH: [usize; 2] = [256, 64];

/// Samples in one forward pass over this data.
pub(crate) fn batch(data: &SplitData) -> usize {
    BATCH[usize::from(!data.is_frozen())]
}

/// A model and how it predicts.
pub(crate) struct Evaluator<'a> {
    /// The model.
    pub model: &'a TwoTower,
    /// The form of the task.
    pub task: Task,
    /// How many outputs: classes, or numbers.
    pub outputs: usize,
    /// How truths and outputs are read.
    pub target: &'static TargetEntry,
    /// Statistics of a regression's numbers.
    pub scaling: &'a Scaling,
    /// Which outputs are the prediction.
    pub prediction: Prediction,
    /// Whether own heads are trained, so that they show what a modality knows.
    pub trains_heads: bool,
    /// Weights of the classes in the losses, those of training; none where no loss is asked for.
    pub class_weights: Option<Tensor>,
    /// Where to compute.
    pub device: &'a Device,
    /// The ranks that share the work of a prediction, and all of which know it then.
    pub ranks: Arc<dyn Communicator>,
}

impl<'a> Evaluator<'a> {
    /// A model's, as its method predicts; losses have no class weights.
    ///
    /// # Errors
    /// A target that does not suit the task.
    pub(crate) fn new(model: &'a TwoTower, spec: &'a ModelSpec, method: &Entry, device: &'a Device) -> Result<Self> {
        Ok(Self {
            model,
            task: spec.task,
            outputs: spec.classes.len(),
            target: spec.target()?,
            scaling: &spec.scaling,
            prediction: method.prediction,
            trains_heads: method.trains_heads,
            class_weights: None,
            device,
            ranks: Arc::new(Alone),
        })
    }
}

/// Predictions `[samples][n]`: probabilities of `n` classes, or `n` numbers in their own units.
pub(crate) type Rows = Vec<Vec<f32>>;

/// What a model predicts for a split.
#[derive(Debug, Clone)]
pub(crate) struct Predictions {
    /// The model's prediction.
    pub rows: Rows,
    /// Each modality's own view: its head, or its slice of the fused head, or nothing where neither exists.
    pub views: Vec<Option<Rows>>,
    /// Mean loss of the fused head.
    pub loss: f64,
    /// Mean loss of each view.
    pub view_losses: Vec<Option<f64>>,
}

impl Evaluator<'_> {
    /// What a modality's own view is.
    pub(crate) fn view(&self, additive: bool) -> Option<View> {
        match (self.trains_heads, additive) {
            (true, _) => Some(View::Head),
            (false, true) => Some(View::Slice),
            (false, false) => None,
        }
    }

    /// The truth of some samples, as losses read it.
    ///
    /// # Errors
    /// Samples of another form, or a device that refuses the memory.
    pub(crate) fn truth(&self, samples: &[&Sample]) -> Result<balgrad::Target> {
        let (outputs, scaling, device) = (self.outputs, self.scaling, self.device);
        (self.target.truth)(&Batch { samples, outputs, scaling, weights: self.class_weights.as_ref(), device })
    }

    /// Runs the model over a split. Several ranks deal whole batches among them: a loss may depend on where batches begin.
    ///
    /// # Errors
    /// When shapes disagree, the device fails, or a rank is gone.
    pub(crate) fn predict(&self, data: &SplitData) -> Result<Predictions> {
        let (ranks, size, batch) = (self.ranks.as_ref(), self.ranks.size(), batch(data));
        let picks: Vec<Pick> = (0..data.len()).map(Pick::from).collect();
        let mine: Vec<Pick> = picks.chunks(batch).skip(ranks.rank()).step_by(size).flatten().copied().collect();
        let turns = picks.chunks(batch).count().div_ceil(size);
        let mut parts = Vec::with_capacity(turns);
        data.feed(&mine, batch, None, &readers(self.model), self.device, |batches| {
            // A rank without a batch in the last turn heeds a signal all the same.
            for _ in 0..turns {
                check_signals(ranks)?;
                if let Some(made) = batches.next() {
                    let (picks, inputs) = made?;
                    parts.push(self.predict_batch(data, picks, &inputs)?);
                }
            }
            Ok(())
        })?;
        let modalities = self.model.modalities();
        let mut all = Predictions {
            rows: Vec::with_capacity(data.len()),
            views: vec![Some(Vec::with_capacity(data.len())); modalities],
            loss: 0.0,
            view_losses: vec![Some(0.0); modalities],
        };
        for part in exchange(ranks, parts)? {
            all.loss += part.loss;
            all.rows.extend(part.rows);
            for (m, view) in part.views.into_iter().enumerate() {
                match (view, &mut all.views[m], &mut all.view_losses[m]) {
                    (Some((loss, view)), Some(rows), Some(sum)) => {
                        rows.extend(view);
                        *sum += loss;
                    }
                    (_, rows, sum) => (*rows, *sum) = (None, None),
                }
            }
        }
        Ok(all)
    }

    /// What the model predicts for a batch, its losses being fractions of the whole split's.
    fn predict_batch(&self, data: &SplitData, picks: &[Pick], inputs: &[Input]) -> Result<Part> {
        let samples: Vec<&Sample> = picks.iter().map(|pick| data.sample(pick.sample)).collect();
        let truth = self.truth(&samples)?;
        let fraction = picks.len() as f64 / data.len() as f64;
        let loss =
            |z: &Tensor| -> Result<f64> { Ok(fraction * truth.nll(z)?.to_dtype(DType::F64)?.to_scalar::<f64>()?) };
        let (outputs, slices) = self.views(inputs)?;
        let view = |m: usize| slices.as_ref().map(|s| Ok((loss(&s[m])?, self.rows(&s[m])?))).transpose();
        let views = (0..self.model.modalities()).map(view).collect::<Result<_>>()?;
        Ok(Part { loss: loss(&outputs.fused)?, rows: self.predicted(&outputs)?, views })
    }

    /// What the model returns for a batch, and each modality's own view of it: its head, or its slice of the fused head.
    ///
    /// # Errors
    /// When shapes disagree or the device fails.
    pub(crate) fn views(&self, inputs: &[Input]) -> Result<(Views, Option<Vec<Tensor>>)> {
        let outputs = self.model.forward(inputs)?;
        let views =
            if self.trains_heads { Some(outputs.own.clone()) } else { self.model.slices(&outputs.embeddings)? };
        Ok((outputs, views))
    }

    /// The model's prediction for a batch, as its method predicts.
    ///
    /// # Errors
    /// As for [`views`](Self::views).
    pub(crate) fn predicted(&self, outputs: &Views) -> Result<Rows> {
        Ok(match self.prediction {
            Prediction::Fused => self.rows(&outputs.fused)?,
            Prediction::Own(m) => self.rows(outputs.own.get(m).context("there is no such modality")?)?,
            Prediction::Average => average(&outputs.own.iter().map(|z| self.rows(z)).collect::<Result<Vec<_>>>()?),
            Prediction::All => {
                let heads = outputs.own.iter().chain([&outputs.fused]);
                average(&heads.map(|z| self.rows(z)).collect::<Result<Vec<_>>>()?)
            }
            Prediction::Sum => {
                let first = outputs.own[0].zeros_like()?;
                let sum = outputs.own.iter().try_fold(first, |sum, z| sum + z)?;
                self.rows(&sum)?
            }
            Prediction::Confident => {
                let alone = |m| self.rows(&self.model.alone(&outputs.embeddings, m)?);
                self.confident(&(0..self.model.modalities()).map(alone).collect::<Result<Vec<_>>>()?)?
            }
            other => bail!("this program cannot predict by {other:?}"),
        })
    }

    /// Views averaged sample by sample with weights `∝ exp(−H)`, `H` a view's entropy in nats (multi-label: the mean
    /// over labels).
    fn confident(&self, views: &[Rows]) -> Result<Rows> {
        if self.task == Task::Regression {
            bail!("predictions of `{}` have no entropy to be weighted by", self.target.name);
        }
        let term = |p: f32| if p > 0.0 { -p * p.ln() } else { 0.0 };
        let entropy = |probs: &[f32]| match self.task {
            Task::MultiLabel => probs.iter().map(|&p| term(p) + term(1.0 - p)).sum::<f32>() / probs.len() as f32,
            _ => probs.iter().map(|&p| term(p)).sum(),
        };
        let row = |i: usize| {
            let weights: Vec<f32> = views.iter().map(|view| (-entropy(&view[i])).exp()).collect();
            let total: f32 = weights.iter().sum();
            let class = |c: usize| views.iter().zip(&weights).map(|(view, w)| w / total * view[i][c]).sum();
            (0..views[0][i].len()).map(class).collect()
        };
        Ok((0..views.first().map_or(0, Vec::len)).map(row).collect())
    }

    /// How well each sample is predicted, in [0, 1]: 1 where the likeliest class is the true one; multi-label: the fraction of
    /// labels that are right. None of a regression.
    pub(crate) fn correctness(&self, rows: &Rows, data: &SplitData) -> Vec<f64> {
        let one = |(probs, labels): (&Vec<f32>, &Vec<u32>)| {
            if self.task == Task::MultiLabel {
                let right = (0..).zip(probs).filter(|(c, p)| (**p >= 0.5) == labels.contains(c)).count();
                return right as f64 / probs.len() as f64;
            }
            f64::from(u8::from(labels.first().map(|&c| c as usize) == argmax(probs)))
        };
        rows.iter().zip(data.labels()).map(one).collect()
    }

    /// Mean loss of some predictions: the negative log-likelihood of the labels in nats (multi-label: the mean over labels), or of
    /// numbers half the squared error in deviations of the training split.
    pub(crate) fn loss(&self, rows: &Rows, data: &SplitData) -> f64 {
        if let Truth::Values(values) = data.truth() {
            let off = |n: usize, (p, y): (&f32, &f64)| ((f64::from(*p) - y) / self.scaling.deviation(n)).powi(2) / 2.0;
            let one = |(p, y): (&Vec<f32>, &Vec<f64>)| {
                p.iter().zip(y).enumerate().map(|(n, pair)| off(n, pair)).sum::<f64>() / p.len() as f64
            };
            return rows.iter().zip(values).map(one).sum::<f64>() / data.len() as f64;
        }
        // Single precision cannot tell smaller probabilities from none.
        let nats = |p: f32| -f64::from(p).max(1e-12).ln();
        let one = |(probs, labels): (&Vec<f32>, &Vec<u32>)| {
            if self.task == Task::MultiLabel {
                let label = |(c, &p): (u32, &f32)| nats(if labels.contains(&c) { p } else { 1.0 - p });
                return (0..).zip(probs).map(label).sum::<f64>() / probs.len() as f64;
            }
            labels.first().and_then(|&c| probs.get(c as usize)).map_or(0.0, |&p| nats(p))
        };
        rows.iter().zip(data.labels()).map(one).sum::<f64>() / data.len() as f64
    }

    /// What outputs `[batch, n]` predict, as rows.
    ///
    /// # Errors
    /// When the outputs are no matrix.
    pub(crate) fn rows(&self, outputs: &Tensor) -> Result<Rows> {
        let predicted = (self.target.predict)(&outputs.detach())?;
        let mut rows: Rows = predicted.to_dtype(DType::F32)?.to_vec2().context("outputs are [batch, n]")?;
        if self.target.standardized {
            let back = |row: &mut Vec<f32>| row.iter_mut().enumerate().for_each(|(n, v)| *v = self.scaling.back(n, *v));
            rows.iter_mut().for_each(back);
        }
        Ok(rows)
    }

    /// All scores of some predictions.
    pub(crate) fn metrics(&self, rows: &Rows, data: &SplitData) -> Metrics {
        compute(self.task, rows, data.truth())
    }

    /// One score of some predictions.
    pub(crate) fn score(&self, score: Score, rows: &Rows, data: &SplitData) -> Option<f64> {
        score.compute(&Scored::new(self.task, rows, data.truth())?)
    }
}

/// What turns parts of samples into a model's inputs, one for each tower.
pub(crate) fn readers(model: &TwoTower) -> Vec<&dyn Reader> {
    (0..model.modalities()).filter_map(|m| model.encoder(m)).map(balgrad_encoders::Encoder::reader).collect()
}

fn average(views: &[Rows]) -> Rows {
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
