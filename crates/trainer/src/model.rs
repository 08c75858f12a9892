//! A trained model at work: from Rust, and for `predict`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use balgrad_data::{Dataset, Sample, Source, Split, Target, Task};
use balgrad_encoders::{Parameters, TwoTower};
use candle_core::Device;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::channel::Channel;
use crate::config::{self, Words};
use crate::environment::device;
use crate::evaluator::Evaluator;
use crate::metrics::{argmax, decide};
use crate::model_spec::{ModelSpec, build};
use crate::registry::registry;
use crate::session::single;
use crate::split_data::SplitData;

/// A trained model with its preprocessing.
pub struct Model {
    spec: ModelSpec,
    channels: Vec<Channel>,
    model: TwoTower,
    device: Device,
}

/// What a model predicts for one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The likeliest class, or every class whose probability reaches one half; empty when the model abstains, and of a regression.
    pub labels: Vec<String>,
    /// One probability per class, in the model's order; of a regression, its numbers.
    pub probs: Vec<f32>,
    /// Which modalities the sample had.
    pub got: Vec<&'static str>,
    /// What each modality predicts alone, by its own head or its slice of the fused head.
    pub views: Map<String, Value>,
    /// The confidence: the largest probability (multi-label: the least certain decision's); 0 of a regression.
    pub confidence: f32,
    /// Whether the confidence lies below the threshold asked for.
    pub abstained: bool,
}

impl Model {
    /// Loads the model of a run folder.
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
        let spec = ModelSpec::load(run)?;
        let known = || config::Device::WORDS.join(", ");
        let named =
            config::Device::parse(device_name).with_context(|| format!("unknown device; known: {}", known()))?;
        let device = device(named)?;
        let parameters = Parameters::new(0, &device);
        let channels = spec.channels()?;
        let model = build(&spec, &channels, &parameters, Some(&run.join("model.safetensors")))?;
        Ok(Self { spec, channels, model, device })
    }

    /// Class names, in the order of the probabilities; of a regression, names of its numbers.
    pub fn classes(&self) -> &[String] {
        &self.spec.classes
    }

    /// Names of the modalities that the model reads.
    pub fn modalities(&self) -> Vec<&'static str> {
        self.channels.iter().map(|channel| channel.modality().name).collect()
    }

    /// Predicts for an image (encoded as a file is), a text, or both; `None` is a missing modality.
    ///
    /// # Errors
    /// Bytes that are no image.
    pub fn predict(&self, image: Option<&[u8]>, text: Option<&str>) -> Result<Answer> {
        let text = text.filter(|text| !text.trim().is_empty());
        let image = image.map(|bytes| ("image", Source::Bytes(bytes.into())));
        let parts = image.into_iter().chain(text.map(|text| ("text", Source::Text(text.to_owned()))));
        self.predict_parts(parts)
    }

    /// Predicts for whatever there is of each modality, by its name; the others are missing.
    ///
    /// # Errors
    /// A modality that the model does not read, or a part that cannot be decoded.
    pub fn predict_parts(&self, parts: impl IntoIterator<Item = (impl AsRef<str>, Source)>) -> Result<Answer> {
        let names = self.modalities();
        let mut sources: Vec<Option<Source>> = vec![None; names.len()];
        for (name, source) in parts {
            let name = name.as_ref();
            let m = names.iter().position(|known| *known == name);
            let m = m.with_context(|| format!("the model reads no {name}; it reads {}", names.join(", ")))?;
            sources[m] = Some(source);
        }
        let got = names.iter().zip(&sources).filter(|(_, source)| source.is_some()).map(|(name, _)| *name).collect();
        let evaluator = self.evaluator()?;
        let predictions = evaluator.predict(&self.one(sources)?)?;
        let probs = predictions.rows.into_iter().next().context("one sample has one prediction")?;
        let views = names.iter().zip(predictions.views).map(|(name, view)| {
            let view = view.and_then(|v| v.into_iter().next());
            ((*name).to_owned(), view.map_or(Value::Null, |v| self.named(&v)))
        });
        let (labels, confidence) = self.decide(&probs);
        Ok(Answer { labels, got, views: views.collect(), confidence, abstained: false, probs })
    }

    /// A data set of one sample.
    fn one(&self, parts: Vec<Option<Source>>) -> Result<SplitData> {
        let feeds = self.channels.iter().zip(&parts).map(|(channel, part)| single(channel, part.as_ref()));
        let feeds = feeds.collect::<Result<Vec<_>>>()?;
        let target = match self.spec.task {
            Task::MultiClass | Task::Binary => Target::Class(0),
            Task::MultiLabel => Target::Labels(Vec::new()),
            Task::Regression => Target::Value(vec![0.0; self.spec.classes.len()]),
        };
        let sample = Sample { id: "input".to_owned(), parts, target, split: Split::Test, group: None };
        let modalities = self.channels.iter().map(Channel::modality).collect();
        let dataset = Dataset { task: self.spec.task, ..Dataset::of(sample, modalities) };
        Ok(SplitData::new(Arc::new(dataset), vec![0], [0].into(), feeds, 0))
    }

    fn evaluator(&self) -> Result<Evaluator<'_>> {
        let modalities: Vec<&str> = self.channels.iter().map(|channel| channel.modality().name).collect();
        let method = registry().method_on(&self.spec.method, &modalities)?;
        Evaluator::new(&self.model, &self.spec, &method, &self.device)
    }

    fn decide(&self, probs: &[f32]) -> (Vec<String>, f32) {
        let name = |c: &u32| self.spec.classes.get(*c as usize).cloned();
        match self.spec.task {
            Task::Regression => (Vec::new(), 0.0),
            Task::MultiLabel => {
                let labels = decide(self.spec.task, probs).iter().filter_map(name).collect();
                (labels, probs.iter().map(|p| p.max(1.0 - p)).fold(1.0, f32::min))
            }
            _ => {
                let confidence = argmax(probs).and_then(|best| probs.get(best)).copied().unwrap_or_default();
                (decide(self.spec.task, probs).iter().filter_map(name).collect(), confidence)
            }
        }
    }

    fn named(&self, probs: &[f32]) -> Value {
        if self.spec.task == Task::Regression {
            return json!({"values": probs});
        }
        let (labels, confidence) = self.decide(probs);
        json!({"labels": labels, "confidence": confidence})
    }
}
