//! What methods ask of the loop between epochs: a teacher, a fresh start, a step back, samples once more, a survey.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use balgrad::{Probe, Request, Role, SplitProbe};
use balgrad_encoders::{Parameters, TwoTower};
use candle_core::Tensor;

use super::{Run, Training, role};
use crate::evaluator::{batch, readers};
use crate::split_data::SplitData;

impl Run<'_> {
    /// Does what the method asked for.
    pub(super) fn answer(&mut self, requests: Vec<Request>) -> Result<()> {
        for request in requests {
            match request {
                Request::Teach => self.teacher = Some(self.teacher_of(&self.weights()?)?),
                Request::Restart => {
                    self.move_back(1.0, |_| true)?;
                    self.optimizer.reset()?;
                }
                Request::Relearn { modality, weight } => {
                    let model = &self.training.session.model;
                    self.move_back(weight, |name| role(model, name) == Role::Tower(modality))?;
                }
                Request::Rehearse(samples) => {
                    self.progress.rehearsals = samples.into_iter().map(|r| (r.sample, r.shown)).collect();
                }
                other => bail!("this program cannot do what the method asks for: {other:?}"),
            }
        }
        Ok(())
    }

    /// A frozen model with these weights.
    pub(super) fn teacher_of(&self, weights: &HashMap<String, Tensor>) -> Result<(Parameters, TwoTower)> {
        let (parameters, model) = self.training.session.fresh()?;
        for (name, var) in parameters.all() {
            var.set(weights.get(&name).with_context(|| format!("the teacher lacks `{name}`"))?)?;
        }
        Ok((parameters, model))
    }

    /// Moves the chosen parameters towards their first values: `weight · first + (1 − weight) · now`.
    fn move_back(&self, weight: f64, chosen: impl Fn(&str) -> bool) -> Result<()> {
        let (first, _) = self.training.session.fresh()?;
        let first: HashMap<_, _> = first.all().into_iter().collect();
        for (name, var) in self.named.iter().filter(|(name, _)| chosen(name)) {
            let first = first.get(name).with_context(|| format!("a fresh model lacks `{name}`"))?;
            let (first, now) = (first.as_detached_tensor(), var.as_detached_tensor());
            var.set(&if weight == 1.0 { first } else { ((first * weight)? + (now * (1.0 - weight))?)? })?;
        }
        Ok(())
    }
}

/// How the model sees every sample of training and validation split.
pub(super) fn probe(training: &Training<'_>) -> Result<Probe> {
    Ok(Probe { train: split_probe(training, training.train)?, val: split_probe(training, training.val)? })
}

fn split_probe(training: &Training<'_>, data: &SplitData) -> Result<SplitProbe> {
    let (model, evaluator) = (&training.session.model, &training.evaluator);
    let mut embeddings = vec![Vec::with_capacity(data.len()); model.modalities()];
    data.feed_all(batch(data), &readers(model), evaluator.device, |_, inputs| {
        for (all, some) in embeddings.iter_mut().zip(model.embed(&inputs)?) {
            all.extend(some.detach().to_vec2::<f32>()?);
        }
        Ok(())
    })?;
    let correct = |shown: usize| {
        let data = data.showing(shown);
        Ok(evaluator.correctness(&evaluator.predict(&data)?.rows, &data))
    };
    let correct = (0..1 << model.modalities()).map(correct).collect::<Result<_>>()?;
    Ok(SplitProbe { labels: data.labels().to_vec(), embeddings, correct })
}
