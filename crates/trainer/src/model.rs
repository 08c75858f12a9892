//! A trained model at work: from Rust, and for `predict`.

mod reply;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use balgrad_data::{Source, Task};
use balgrad_encoders::{Item, Parameters, Reader, TwoTower};
use candle_core::Device;
use rayon::prelude::*;
use serde::Serialize;

use crate::calibration;
use crate::channel::Channel;
use crate::config::{self, Words};
use crate::environment::device;
use crate::evaluator::{Evaluator, Rows, readers};
use crate::metrics::decide;
use crate::model_spec::{ModelSpec, build};
use crate::registry::registry;

/// Samples in one forward pass.
const BATCH: usize = 64;

/// The longest text, in bytes, as in data sets.
const LONGEST: usize = 1 << 20;

/// A trained model with its preprocessing.
pub struct Model {
    spec: ModelSpec,
    channels: Vec<Channel>,
    model: TwoTower,
    device: Device,
}

/// What there is of one sample, by the names of its modalities; what is not there is missing.
pub type Parts = BTreeMap<String, Source>;

/// What a model predicts for one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Answer {
    /// The likeliest class, or every class whose probability reaches one half; empty when the model abstains, and of a regression.
    pub labels: Vec<String>,
    /// One probability per class, in the model's order, as the model gives them; of a regression, its numbers.
    pub probs: Vec<f32>,
    /// The same probabilities after temperature scaling, by the modalities that the sample had. The order of the classes is the
    /// same.
    pub calibrated: Vec<f32>,
    /// Which modalities the sample had.
    pub got: Vec<&'static str>,
    /// What each modality that the sample had predicts alone, by its own head or its slice of the fused head; none where the model has
    /// neither.
    pub views: BTreeMap<&'static str, Option<OwnView>>,
    /// The largest calibrated probability (multi-label: that of the least certain decision); 0 of a regression.
    pub confidence: f32,
    /// Whether the confidence lies below the threshold asked for.
    pub abstained: bool,
}

/// What one modality predicts alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OwnView {
    /// As [`Answer::labels`].
    pub labels: Vec<String>,
    /// As [`Answer::probs`].
    pub probs: Vec<f32>,
    /// As [`Answer::calibrated`].
    pub calibrated: Vec<f32>,
    /// As [`Answer::confidence`].
    pub confidence: f32,
}

impl Answer {
    /// Takes the labels back where the confidence lies below a threshold.
    pub fn abstain_below(&mut self, threshold: f32) {
        if self.confidence < threshold {
            self.abstained = true;
            self.labels.clear();
        }
    }
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

    /// What the model was trained for.
    pub fn task(&self) -> Task {
        self.spec.task
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
        let image = image.map(|bytes| ("image", Source::Bytes(bytes.into())));
        let text = text.map(|text| ("text", Source::Text(text.to_owned())));
        self.predict_parts(image.into_iter().chain(text))
    }

    /// Predicts for whatever there is of each modality, by its name; the others are missing.
    ///
    /// # Errors
    /// A modality that the model does not read, or a part that cannot be decoded.
    pub fn predict_parts(&self, parts: impl IntoIterator<Item = (impl AsRef<str>, Source)>) -> Result<Answer> {
        let parts: Parts = parts.into_iter().map(|(name, source)| (name.as_ref().to_owned(), source)).collect();
        self.predict_all(&[parts])?.pop().context("one sample has one prediction")?
    }

    /// Predicts for many samples, in order. A sample that cannot be read has an error of its own; the others are predicted.
    ///
    /// Probabilities are those of [`predict`](Self::predict) to rounding. A text of nothing but white space is missing.
    ///
    /// # Errors
    /// Where no sample can be predicted: weights of a frozen encoder that are gone, or a device that fails.
    pub fn predict_all(&self, samples: &[Parts]) -> Result<Vec<Result<Answer>>> {
        let mut answers = Vec::with_capacity(samples.len());
        for some in samples.chunks(BATCH) {
            let read: Vec<Result<Vec<Item>>> = some.par_iter().map(|parts| self.read(parts)).collect();
            let good: Vec<&Vec<Item>> = read.iter().filter_map(|items| items.as_ref().ok()).collect();
            let mut predicted = self.answers(&good)?.into_iter();
            for items in read {
                answers.push(items.and_then(|_| predicted.next().context("one sample has one prediction")?));
            }
        }
        Ok(answers)
    }

    /// What the model reads of each modality.
    fn read(&self, parts: &Parts) -> Result<Vec<Item>> {
        let names = self.modalities();
        if let Some(name) = parts.keys().find(|name| !names.contains(&name.as_str())) {
            bail!("the model reads no {name}; it reads {}", names.join(", "));
        }
        let long = |(_, source): &(&String, &Source)| source.text().is_some_and(|text| text.len() > LONGEST);
        if let Some((name, source)) = parts.iter().find(long) {
            let length = source.text().map_or(0, str::len);
            bail!("a {name} of {} KiB; {} at most", length >> 10, LONGEST >> 10);
        }
        let item = |(channel, live): (&Channel, &dyn Reader)| match parts.get(channel.modality().name) {
            Some(source) if source.text().is_none_or(|text| !text.trim().is_empty()) => channel.item(source, live),
            _ => Ok(Item::Missing),
        };
        self.channels.iter().zip(readers(&self.model)).map(item).collect()
    }

    /// Predicts for samples that were read.
    fn answers(&self, samples: &[&Vec<Item>]) -> Result<Vec<Result<Answer>>> {
        if samples.is_empty() {
            return Ok(Vec::new());
        }
        let input = |(m, (channel, live)): (usize, (&Channel, &dyn Reader))| {
            let items: Vec<Item> = samples.iter().map(|items| items[m].clone()).collect();
            channel.input(&items, live, &self.device)
        };
        let inputs = self.channels.iter().zip(readers(&self.model)).enumerate().map(input);
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let names = self.modalities();
        let method = registry().method_on(&self.spec.method, &names)?;
        let evaluator = Evaluator::new(&self.model, &self.spec, &method, &self.device)?;
        let (outputs, views) = evaluator.views(&inputs)?;
        let rows = evaluator.predicted(&outputs)?;
        let views = views.map(|views| views.iter().map(|z| evaluator.rows(z)).collect::<Result<Vec<Rows>>>());
        let (views, calibration) = (views.transpose()?, &self.spec.calibration);
        let answer = |(i, probs): (usize, Vec<f32>)| {
            if !probs.iter().all(|p| p.is_finite()) {
                bail!("the model's output is not finite: this sample is too far from what it was trained on");
            }
            let has = |m: &usize| samples[i][*m] != Item::Missing;
            let set = (0..names.len()).filter(has).map(|m| 1usize << m).sum();
            let all = self.view(probs, calibration.of(set, &names));
            let view = |m: usize| {
                let rows = views.as_ref().filter(|_| has(&m))?;
                Some(self.view(rows[m][i].clone(), calibration.view(names[m])))
            };
            Ok(Answer {
                labels: all.labels,
                probs: all.probs,
                calibrated: all.calibrated,
                got: (0..names.len()).filter(has).map(|m| names[m]).collect(),
                views: names.iter().enumerate().map(|(m, name)| (*name, view(m))).collect(),
                confidence: all.confidence,
                abstained: false,
            })
        };
        Ok(rows.into_iter().enumerate().map(answer).collect())
    }

    /// What some probabilities say at a temperature.
    fn view(&self, probs: Vec<f32>, temperature: f64) -> OwnView {
        let task = self.spec.task;
        let calibrated = calibration::apply(task, temperature, &probs);
        let (labels, confidence) = match task {
            Task::Regression => (Vec::new(), 0.0),
            Task::MultiLabel => (decide(task, &probs), calibrated.iter().map(|p| p.max(1.0 - p)).fold(1.0, f32::min)),
            _ => (decide(task, &probs), calibrated.iter().copied().fold(0.0, f32::max)),
        };
        let labels = labels.iter().filter_map(|c| self.spec.classes.get(*c as usize).cloned()).collect();
        OwnView { labels, probs, calibrated, confidence }
    }
}
