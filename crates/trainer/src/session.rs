//! A session: the data set that a config names, its channels, and a model on them.

use std::path::Path;

use anyhow::Result;
use balgrad_data::{Columns, DataError, Dataset, Impairment, Modality, OnBadSample, ReadOptions, Split, Task, open};
use balgrad_encoders::{HeadForm, Parameters, TwoTower, View, hub_dataset};
use candle_core::{Device, Tensor};

use crate::Usage;
use crate::channel::Channel;
use crate::config::{ClassWeights, Config, Data, Plot, Projector};
use crate::environment::{cache_folder, device, hub};
use crate::evaluator::Evaluator;
use crate::model_spec::{Form, ModelSpec, build};
use crate::readable::Readable;
use crate::record::Condition;
use crate::registry::registry;
use crate::split_data::{Feed, SplitData};
use crate::targets::{Scaling, balanced_weights, target_of};

/// Opens the data set that a config names; one of the hub (`hf:owner/name[@revision]`) is downloaded first.
///
/// # Errors
/// What `balgrad-data` finds, or a hub that does not give it.
pub(crate) fn open_data(config: &Config) -> Result<Dataset> {
    let (data, options) = (&config.data.source, read_options(config));
    let Some(name) = data.strip_prefix("hf:") else { return open(data, &options).map_err(unread) };
    let folder = hub_dataset(name, &hub()).or_else(|error| {
        crate::interrupt::check()?;
        Err(anyhow::Error::from(error))
    })?;
    let mut dataset = open(&folder.to_string_lossy(), &options).map_err(unread)?;
    name.clone_into(&mut dataset.name);
    Ok(dataset)
}

/// Why data cannot be read, with the flag that mends it.
fn unread(error: DataError) -> anyhow::Error {
    match &error {
        DataError::NoColumn { role, .. } | DataError::UnknownColumn { role, .. } => {
            Usage(format!("{error}: give --{role} COLUMN")).into()
        }
        _ => error.into(),
    }
}

/// How a config wants data to be read.
fn read_options(config: &Config) -> ReadOptions {
    ReadOptions {
        layout: config.data.layout.clone(),
        on_bad_sample: config.data.on_bad_sample,
        on_missing_file: config.data.on_missing_file,
        columns: columns(&config.data),
        split_seed: config.data.split_seed,
        unpacked: Some(cache_folder().with_file_name("unpacked")),
        first_plot: config.data.plot == Plot::First,
        modalities: registry().modalities.clone(),
        ..ReadOptions::default()
    }
}

/// Which columns of a table hold what.
fn columns(data: &Data) -> Columns {
    let named = |name: &str| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    Columns {
        image: named(&data.column_image),
        text: data.column_text.split(',').filter_map(named).collect(),
        label: named(&data.column_label),
        split: named(&data.column_split),
        group: named(&data.column_group),
        target: named(&data.column_target),
    }
}

/// A data set, its channels, and a model on them.
pub(crate) struct Session {
    /// The data.
    pub data: Readable,
    /// How each modality reaches the model, in the order of its towers.
    pub channels: Vec<Channel>,
    /// What the model is made of.
    pub spec: ModelSpec,
    /// Where to compute.
    pub device: Device,
    /// The model's parameters.
    pub parameters: Parameters,
    /// The model.
    pub model: TwoTower,
    seed: u64,
    workers: usize,
    variants: usize,
}

impl Session {
    /// Reads data, fits whatever of the encoders is fitted (on the training split alone), builds the model.
    ///
    /// # Errors
    /// Unusable data, an unknown encoder or fusion, or a device that is not there.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        Self::on(config, readable(config)?)
    }

    /// The same, on data that was read already.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub(crate) fn on(config: &Config, data: Readable) -> Result<Self> {
        let device = device(config.device)?;
        let mut channels = channels(config, &data)?;
        channels.iter_mut().try_for_each(|channel| channel.standardize(&data))?;
        let (task, known) = (data.dataset.task, &registry().targets);
        let train = || data.indices(Split::Train).iter().map(|&i| &data.dataset.samples[i]);
        let form = Form {
            task,
            classes: &data.dataset.classes,
            target: target_of(task, &config.model.target, known)?.name,
            scaling: if task == Task::Regression { Scaling::fit(train()) } else { Scaling::default() },
            fusion: &config.model.fusion,
            method: config.method.name,
            width: config.model.width,
            projector: match config.model.projector {
                Projector::Mlp => HeadForm::Mlp,
                Projector::Linear => HeadForm::Linear,
            },
        };
        let spec = ModelSpec::new(form, &channels);
        let parameters = Parameters::new(config.seed, &device);
        let model = build(&spec, &channels, &parameters, None)?;
        Ok(Self::of(config, data, channels, spec, device, parameters, model))
    }

    /// The session of a finished run, its weights and whatever was fitted read from its folder.
    ///
    /// # Errors
    /// An unfinished run, or data that is no longer there.
    pub(crate) fn resume(config: &Config, folder: &Path) -> Result<Self> {
        let device = device(config.device)?;
        let spec = ModelSpec::load(folder)?;
        let channels = spec.channels()?;
        let parameters = Parameters::new(config.seed, &device);
        let model = build(&spec, &channels, &parameters, Some(&folder.join("model.safetensors")))?;
        let data = readable(config)?;
        Ok(Self::of(config, data, channels, spec, device, parameters, model))
    }

    fn of(
        config: &Config,
        data: Readable,
        channels: Vec<Channel>,
        spec: ModelSpec,
        device: Device,
        parameters: Parameters,
        model: TwoTower,
    ) -> Self {
        let (seed, variants) = (config.seed, config.encoders.feature_variants);
        Self { data, channels, spec, device, parameters, model, seed, workers: workers(config), variants }
    }

    /// The same model anew, with the values that its parameters started from.
    ///
    /// # Errors
    /// Pretrained weights that are gone.
    pub(crate) fn fresh(&self) -> Result<(Parameters, TwoTower)> {
        let parameters = Parameters::new(self.seed, &self.device);
        let model = build(&self.spec, &self.channels, &parameters, None)?;
        Ok((parameters, model))
    }

    /// The data set.
    pub(crate) fn dataset(&self) -> &Dataset {
        &self.data.dataset
    }

    /// Names of the modalities, in the order of the towers.
    pub(crate) fn modalities(&self) -> Vec<&'static str> {
        self.channels.iter().map(|channel| channel.modality().name).collect()
    }

    /// An error if there is no sample.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn need(&self, split: Split, data: &SplitData) -> Result<()> {
        if data.is_empty() {
            let (name, split) = (&self.dataset().name, split.name());
            anyhow::bail!("{name}: the split `{split}` has no usable sample; `balgrad check` lists why");
        }
        Ok(())
    }

    /// How the model predicts.
    ///
    /// # Errors
    /// A target that does not suit the task.
    pub(crate) fn evaluator(&self, config: &Config) -> Result<Evaluator<'_>> {
        let method = config.method_on(&self.modalities())?;
        Evaluator::new(&self.model, &self.spec, &method, &self.device)
    }

    /// Weights of the classes in the losses, from their counts in the training split.
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub(crate) fn class_weights(&self, config: &Config, train: &SplitData) -> Result<Option<Tensor>> {
        let task = self.spec.task;
        let balanced = match config.training.class_weights {
            ClassWeights::Balanced => task != Task::Regression,
            ClassWeights::Auto => task == Task::MultiLabel,
            ClassWeights::None => false,
        };
        balanced.then(|| balanced_weights(train, self.spec.classes.len(), task, &self.device)).transpose()
    }

    /// [`impairment`] of these modalities.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn impairment(&self, config: &Config, condition: &Condition) -> Result<Option<Impairment>> {
        let modalities: Vec<_> = self.channels.iter().map(Channel::modality).collect();
        impairment(config, condition, &modalities)
    }

    /// The usable samples of a split under a condition, its seed the run's.
    ///
    /// # Errors
    /// A sample that cannot be read (under `on_bad_sample = fail`).
    pub(crate) fn split(&self, split: Split, impairment: Option<Impairment>) -> Result<SplitData> {
        self.view(split, impairment, 0)
    }

    /// The samples to learn from: those of the training split, or cached variants of them.
    ///
    /// # Errors
    /// As for [`split`](Self::split).
    pub(crate) fn training_split(&self) -> Result<SplitData> {
        self.view(Split::Train, None, self.variants)
    }

    /// Lets frozen encoders go: their features are cached.
    pub(crate) fn release_encoders(&self) {
        self.channels.iter().for_each(Channel::release);
    }

    fn view(&self, split: Split, impairment: Option<Impairment>, variants: usize) -> Result<SplitData> {
        let first = View { variant: (variants > 0).then_some(0), ..View::default() };
        let places = self.data.places(split, &self.channels, first)?;
        let mut shown = usize::MAX;
        let mut feeds = Vec::with_capacity(self.channels.len());
        for (m, channel) in self.channels.iter().enumerate() {
            let touched = impairment.filter(|i| i.modality == channel.modality());
            let gone = touched.is_some_and(|i| i == Impairment::missing(channel.modality()));
            if gone {
                shown &= !(1 << m);
            }
            let view = View { impairment: touched.map(|impairment| (impairment, self.seed)), variant: None };
            feeds.push(if channel.is_frozen() {
                let views: Vec<View> = match (gone, variants) {
                    (true, _) => Vec::new(),
                    (false, 0) => vec![view],
                    (false, n) => (0..n as u64).map(|v| View { variant: Some(v), ..view }).collect(),
                };
                Feed::Frozen(channel.features(&self.data, split, &views)?)
            } else {
                Feed::Live(view)
            });
        }
        let all = self.data.indices(split);
        let positions = places.iter().map(|&place| all[place as usize]).collect();
        Ok(SplitData::new(self.data.dataset.clone(), positions, places, feeds, self.workers).showing(shown))
    }
}

/// How each modality of a data set reaches the model, before its features are standardised.
///
/// # Errors
/// An unknown encoder, or a method that cannot learn from the data.
pub(crate) fn channels(config: &Config, data: &Readable) -> Result<Vec<Channel>> {
    for named in config.encoders.names.keys().chain(config.encoders.weights.keys()) {
        let known = &data.dataset.modalities;
        if !known.iter().any(|m| m.name == named) && !["image", "text"].contains(&named.as_str()) {
            let names: Vec<&str> = known.iter().map(|m| m.name).collect();
            let (data, names) = (&data.dataset.name, names.join(", "));
            return Err(Usage(format!("`encoders.{named}`: {data} has no {named}; it has {names}")).into());
        }
    }
    let names: Vec<&str> = data.dataset.modalities.iter().map(|modality| modality.name).collect();
    let method = config.method_on(&names)?;
    if data.dataset.task == Task::Regression && method.targets == balgrad::Targets::Classes {
        let (data, method) = (&data.dataset.name, method.name);
        return Err(Usage(format!(
            "`{method}` needs classes, and {data} asks for numbers: choose another method, such as balgrad"
        ))
        .into());
    }
    let channel = |modality: &&'static balgrad_data::Modality| {
        let entry = match config.encoders.names.get(modality.name) {
            Some(name) => registry().encoder(name)?,
            None => registry().encoder_for(modality.name)?,
        };
        Channel::fit(modality, entry, &config.encoders, data)
    };
    data.dataset.modalities.iter().map(channel).collect()
}

/// The data of a config, with what is known of its files.
///
/// # Errors
/// As for [`open_data`].
pub(crate) fn readable(config: &Config) -> Result<Readable> {
    Ok(Readable::new(open_data(config)?, config.data.on_bad_sample == OnBadSample::Fail))
}

/// What a condition does to a sample, the config deciding kind and severity of noise where the condition leaves them open.
///
/// # Errors
/// A condition of other modalities, or an unknown kind of noise.
pub(crate) fn impairment(
    config: &Config,
    condition: &Condition,
    modalities: &[&'static Modality],
) -> Result<Option<Impairment>> {
    let name = match condition {
        Condition::Full => return Ok(None),
        Condition::Noisy { modality, kind: None, severity: None } => {
            let known = modalities.iter().find(|known| known.name == modality.as_str());
            let usual = known.and_then(|modality| modality.noises.first().copied()).unwrap_or_default();
            let kind = config.evaluation.noise.get(modality).map_or(usual, String::as_str);
            format!("{condition}:{kind}:{}", config.evaluation.severity)
        }
        other => other.to_string(),
    };
    Ok(Some(Impairment::parse(&name, modalities).map_err(|e| Usage(e.to_string()))?))
}

/// Threads that work ahead.
fn workers(config: &Config) -> usize {
    match config.data.workers {
        0 => rayon::current_num_threads(),
        count => count,
    }
}
