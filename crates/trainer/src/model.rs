//! A trained model taken up again: from Rust, and for `predict` and `evaluate`.

use std::path::Path;

use anyhow::{Context, Result};
use balgrad_data::Task;
use balgrad_encoders::{Parameters, TwoTower};
use candle_core::Device;
use serde::Serialize;

use crate::card::Card;
use crate::config::MODALITIES;
use crate::environment::device;
use crate::evaluation::{Judge, expects};

/// A trained model with its preprocessing.
pub struct Model {
    card: Card,
    model: TwoTower,
    device: Device,
}

/// What a model says of one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The likeliest class, or every class whose probability reaches one half; empty when the model abstains.
    pub labels: Vec<String>,
    /// One probability per class, in the model's order.
    pub probs: Vec<f32>,
    /// Which modalities the sample had.
    pub got: Vec<&'static str>,
    /// What each modality says alone, by its own head or its slice of the fused head.
    pub views: serde_json::Map<String, serde_json::Value>,
    /// The confidence: the largest probability (multi-label: the least certain decision's).
    pub confidence: f32,
    /// Whether the confidence lies below the threshold asked for.
    pub abstained: bool,
}

impl Model {
    /// Takes up the model of a run folder.
    ///
    /// # Errors
    /// A folder without a finished model, or files that do not fit together.
    pub fn load(run: impl AsRef<Path>) -> Result<Self> {
        Self::load_on(run, "auto")
    }

    /// [`load`](Self::load) on a device: `auto`, `cpu`, `cuda` or `metal`.
    ///
    /// # Errors
    /// As [`load`](Self::load), or a device that is not there.
    pub fn load_on(run: impl AsRef<Path>, device_name: &str) -> Result<Self> {
        let run = run.as_ref();
        let card = Card::load(run)?;
        let device = device(device_name)?;
        let parameters = Parameters::new(0, &device);
        let weights = run.join("model.safetensors");
        let model = card.sight.trained_model(&card.fusion, card.classes.len(), &parameters, &weights)?;
        Ok(Self { card, model, device })
    }

    /// Class names, in the order of the probabilities.
    pub fn classes(&self) -> &[String] {
        &self.card.classes
    }

    /// Says what the model makes of an image (encoded as a file is), a text, or both; `None` is a missing modality.
    ///
    /// # Errors
    /// Bytes that are no image.
    pub fn predict(&self, image: Option<&[u8]>, text: Option<&str>) -> Result<Answer> {
        let bank = self.card.sight.one(image, text)?;
        let answers = self.judge()?.answers(&bank, &expects(&self.model))?;
        let probs = answers.probs.into_iter().next().context("one sample has one answer")?;
        let got = [image.is_some(), text.is_some_and(|t| !t.trim().is_empty())];
        let got = MODALITIES.iter().zip(got).filter(|(_, got)| *got).map(|(name, _)| *name).collect();
        let views = MODALITIES.iter().zip(answers.views).map(|(name, view)| {
            let view = view.and_then(|v| v.into_iter().next());
            ((*name).to_owned(), view.map_or(serde_json::Value::Null, |v| self.named(&v)))
        });
        let (labels, confidence) = self.decide(&probs);
        Ok(Answer { labels, got, views: views.collect(), confidence, abstained: false, probs })
    }

    fn judge(&self) -> Result<Judge<'_>> {
        let method = balgrad::find(&self.card.method).map_err(crate::Usage::from)?;
        Ok(Judge {
            model: &self.model,
            task: self.card.task,
            classes: self.card.classes.len(),
            prediction: method.prediction,
            trains_heads: method.trains_heads,
            class_weights: None,
            device: &self.device,
        })
    }

    fn decide(&self, probs: &[f32]) -> (Vec<String>, f32) {
        if self.card.task == Task::MultiLabel {
            let labels = self.card.classes.iter().zip(probs).filter(|(_, p)| **p >= 0.5).map(|(c, _)| c.clone());
            let least = probs.iter().map(|p| p.max(1.0 - p)).fold(1.0, f32::min);
            return (labels.collect(), least);
        }
        let best = probs.iter().enumerate().fold((0, f32::MIN), |best, (i, &p)| if p > best.1 { (i, p) } else { best });
        (self.card.classes.get(best.0).cloned().into_iter().collect(), best.1)
    }

    fn named(&self, probs: &[f32]) -> serde_json::Value {
        let (labels, confidence) = self.decide(probs);
        serde_json::json!({"labels": labels, "confidence": confidence})
    }
}
