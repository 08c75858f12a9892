//! What methods ask of the loop between epochs: a teacher, a fresh start, a step back, samples once more, a survey.

use std::collections::HashMap;

use anyhow::{Context, Result};
use balgrad::{Panel, Request, Role, Survey};
use balgrad_encoders::{Parameters, TwoTower};
use candle_core::Tensor;

use super::{Course, Run, role};
use crate::bank::Bank;
use crate::evaluation::{batch, expects};

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
                    let model = self.course.model;
                    self.move_back(weight, |name| role(model, name) == Role::Tower(modality))?;
                }
                Request::Rehearse(samples) => {
                    self.progress.rehearsals = samples.into_iter().map(|r| (r.sample, r.shown)).collect();
                }
            }
        }
        Ok(())
    }

    /// A frozen model with these weights.
    pub(super) fn teacher_of(&self, weights: &HashMap<String, Tensor>) -> Result<(Parameters, TwoTower)> {
        let (parameters, model) = (self.course.fresh)()?;
        for (name, var) in parameters.all() {
            var.set(weights.get(&name).with_context(|| format!("the teacher lacks `{name}`"))?)?;
        }
        Ok((parameters, model))
    }

    /// Moves the chosen parameters towards their first values: `weight · first + (1 − weight) · now`.
    fn move_back(&self, weight: f64, chosen: impl Fn(&str) -> bool) -> Result<()> {
        let (first, _) = (self.course.fresh)()?;
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
pub(super) fn survey(course: &Course<'_>) -> Result<Survey> {
    Ok(Survey { train: panel(course, course.train)?, val: panel(course, course.val)? })
}

fn panel(course: &Course<'_>, bank: &Bank) -> Result<Panel> {
    let (model, judge) = (course.model, &course.judge);
    let reads = expects(model);
    let mut embeddings = vec![Vec::with_capacity(bank.len()); model.modalities()];
    bank.feed_all(batch(&reads), &reads, judge.device, |_, inputs| {
        for (all, some) in embeddings.iter_mut().zip(model.embed(&inputs)?) {
            all.extend(some.detach().to_vec2::<f32>()?);
        }
        Ok(())
    })?;
    let correct = |shown: usize| {
        let bank = bank.showing(shown);
        Ok(judge.correct(&judge.answers(&bank, &reads)?.probs, &bank))
    };
    let correct = (0..1 << model.modalities()).map(correct).collect::<Result<_>>()?;
    Ok(Panel { labels: bank.labels.to_vec(), embeddings, correct })
}
