//! A stage: the data set that a config names, seen through its encoders, and a model for it.

use std::path::Path;

use anyhow::Result;
use balgrad_data::{Dataset, Impairment, ReadOptions, Split, Task};
use balgrad_encoders::{Parameters, TwoTower, hub_dataset};
use candle_core::{Device, Tensor};

use crate::Usage;
use crate::bank::{Bank, balanced_weights};
use crate::card::Card;
use crate::config::Config;
use crate::environment::{cache_folder, device, hub};
use crate::evaluation::Judge;
use crate::readable::Readable;
use crate::sight::Sight;

/// Opens the data set that a config names; one of the hub (`hf:owner/name[@revision]`) is downloaded first.
///
/// # Errors
/// What `balgrad-data` finds, or a hub that does not give it.
pub fn open_data(config: &Config) -> Result<Dataset> {
    let (data, options) = (config.word("data"), read_options(config));
    let Some(name) = data.strip_prefix("hf:") else { return Ok(balgrad_data::open(data, &options)?) };
    let folder = hub_dataset(name, &hub()).or_else(|error| {
        crate::interrupt::check()?;
        Err(anyhow::Error::from(error))
    })?;
    let mut dataset = balgrad_data::open(&folder.to_string_lossy(), &options)?;
    name.clone_into(&mut dataset.name);
    Ok(dataset)
}

/// The same, with what is known of its files.
///
/// # Errors
/// As for [`open_data`].
pub(crate) fn readable(config: &Config) -> Result<Readable> {
    Ok(Readable::new(open_data(config)?, config.word("on_bad_sample") == "fail"))
}

/// How a config wants data to be read.
fn read_options(config: &Config) -> ReadOptions {
    let layout = match config.word("layout") {
        "auto" => None,
        name => Some(name.to_owned()),
    };
    let on_bad_sample = match config.word("on_bad_sample") {
        "fail" => balgrad_data::OnBadSample::Fail,
        _ => balgrad_data::OnBadSample::Skip,
    };
    ReadOptions {
        layout,
        on_bad_sample,
        split_seed: config.count("split_seed") as u64,
        unpacked: Some(cache_folder().with_file_name("unpacked")),
        first_plot: config.word("plot") == "first",
        ..ReadOptions::default()
    }
}

/// A data set seen through a config's encoders, and a fresh model for it.
pub struct Stage {
    /// The data.
    pub data: Readable,
    /// How towers see it.
    pub sight: Sight,
    /// Where to compute.
    pub device: Device,
    /// The model's parameters.
    pub parameters: Parameters,
    /// The model.
    pub model: TwoTower,
}

impl Stage {
    /// Reads data, fits whatever of the encoders is fitted (on the training split alone), builds the model.
    ///
    /// # Errors
    /// Unusable data, an unknown encoder or fusion, or a device that is not there.
    pub fn set(config: &Config) -> Result<Self> {
        let device = device(config.word("device"))?;
        let data = readable(config)?;
        let sight = Sight::fit(config, &data)?;
        let parameters = Parameters::new(config.seed(), &device);
        let model = sight.model(config.word("fusion"), data.dataset.classes.len(), &parameters)?;
        Ok(Self { data, sight, device, parameters, model })
    }

    /// The stage of a finished run, its weights and whatever was fitted read from its folder.
    ///
    /// # Errors
    /// An unfinished run, or data that is no longer there.
    pub fn resume(config: &Config, folder: &Path) -> Result<Self> {
        let device = device(config.word("device"))?;
        let card = Card::load(folder)?;
        let parameters = Parameters::new(config.seed(), &device);
        let weights = folder.join("model.safetensors");
        let model = card.sight.trained_model(&card.fusion, card.classes.len(), &parameters, &weights)?;
        Ok(Self { data: readable(config)?, sight: card.sight, device, parameters, model })
    }

    /// Whether there is anything in the bank of a split.
    ///
    /// # Errors
    /// If there is not.
    pub(crate) fn need(&self, split: Split, bank: &Bank) -> Result<()> {
        if bank.is_empty() {
            let (name, split) = (&self.dataset().name, split.name());
            anyhow::bail!("{name}: the split `{split}` has no usable sample; `balgrad check` says why");
        }
        Ok(())
    }

    /// How the model answers.
    pub fn judge(&self, config: &Config) -> Judge<'_> {
        Judge {
            model: &self.model,
            task: self.dataset().task,
            classes: self.dataset().classes.len(),
            prediction: config.method.prediction,
            trains_heads: config.method.trains_heads,
            class_weights: None,
            device: &self.device,
        }
    }

    /// Weights of the classes in the losses, from their counts in the training split.
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn class_weights(&self, config: &Config, train: &Bank) -> Result<Option<Tensor>> {
        let many = self.dataset().task == Task::MultiLabel;
        let balanced = match config.word("class_weights") {
            "balanced" => true,
            "auto" => many,
            _ => false,
        };
        let weights = || balanced_weights(train, self.dataset().classes.len(), many, &self.device);
        balanced.then(weights).transpose()
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.data.dataset
    }

    /// The samples of a split under a condition, its seed the run's.
    ///
    /// # Errors
    /// A sample that cannot be read (under `on_bad_sample = fail`).
    pub fn bank(&self, config: &Config, split: Split, impairment: Option<Impairment>) -> Result<Bank> {
        let impairment = impairment.map(|impairment| (impairment, config.seed()));
        self.sight.bank(&self.data, split, impairment, 0, workers(config))
    }

    /// The samples to learn from: those of the training split, or cached variants of them.
    ///
    /// # Errors
    /// As for [`bank`](Self::bank).
    pub fn lessons(&self, config: &Config) -> Result<Bank> {
        self.sight.bank(&self.data, Split::Train, None, config.count("feature_variants"), workers(config))
    }
}

/// Threads that work ahead.
fn workers(config: &Config) -> usize {
    match config.count("workers") {
        0 => rayon::current_num_threads(),
        count => count,
    }
}

/// A condition's name, with the config's kind and severity of noise where the name leaves them open.
///
/// # Errors
/// A name that is no condition.
pub fn impairment(config: &Config, name: &str) -> Result<Option<Impairment>> {
    if name == "full" {
        return Ok(None);
    }
    let full = match name {
        "noisy-image" | "noisy-text" => {
            let modality = name.trim_start_matches("noisy-");
            let (kind, severity) = (config.word(&format!("noise.{modality}")), config.count("noise.severity"));
            format!("{name}:{kind}:{severity}")
        }
        other => other.to_owned(),
    };
    Ok(Some(Impairment::parse(&full).map_err(|e| Usage(e.to_string()))?))
}
