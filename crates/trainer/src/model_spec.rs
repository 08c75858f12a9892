//! `model.json`: all that is needed beside the weights to use a trained model.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use balgrad_data::Task;
use balgrad_encoders::{Encoder, HeadForm, ModelConfig, Parameters, TowerConfig, TwoTower, Weights};
use serde::{Deserialize, Serialize};

use crate::Usage;
use crate::calibration::Calibration;
use crate::channel::{Channel, ChannelSpec};
use crate::record::sums;
use crate::registry::registry;
use crate::storage::{create_folder, write_atomic};
use crate::targets::{Scaling, TargetEntry, target_of};

/// The version of the file's form.
const SCHEMA: u32 = 2;

/// Widths of embeddings, as in configurations.
const WIDTHS: RangeInclusive<usize> = 1..=65536;

/// What a model is made of, its weights aside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ModelSpec {
    schema: u32,
    /// The form of the task.
    pub task: Task,
    /// Class names, in the order of the probabilities; of a regression, names of its numbers.
    pub classes: Vec<String>,
    /// How true answers are learnt from: a name of the table of targets.
    pub target: String,
    /// Statistics of a regression's numbers in the training split.
    #[serde(default)]
    pub scaling: Scaling,
    /// A name of the table of fusions.
    pub fusion: String,
    /// The method that trained it, which decides whose logits are the prediction.
    pub method: String,
    /// Width of each embedding.
    pub width: usize,
    /// The form of the embedding layers.
    pub projector: HeadForm,
    /// Temperatures of its probabilities; of a model in training, none.
    #[serde(default)]
    pub calibration: Calibration,
    channels: Vec<ChannelSpec>,
}

/// What decides a model's form beside its channels.
pub(crate) struct Form<'a> {
    pub(crate) task: Task,
    pub(crate) classes: &'a [String],
    pub(crate) target: &'a str,
    pub(crate) scaling: Scaling,
    pub(crate) fusion: &'a str,
    pub(crate) method: &'a str,
    pub(crate) width: usize,
    pub(crate) projector: HeadForm,
}

impl ModelSpec {
    /// The spec of a model in training.
    pub(crate) fn new(form: Form<'_>, channels: &[Channel]) -> Self {
        Self {
            schema: SCHEMA,
            task: form.task,
            classes: form.classes.to_vec(),
            target: form.target.to_owned(),
            scaling: form.scaling,
            fusion: form.fusion.to_owned(),
            method: form.method.to_owned(),
            width: form.width,
            projector: form.projector,
            calibration: Calibration::default(),
            channels: channels.iter().map(|channel| channel.spec().clone()).collect(),
        }
    }

    /// Reads the spec in a run folder.
    ///
    /// # Errors
    /// A folder without a finished model, or a file of another version.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let path = folder.join("model.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} holds no finished model (no model.json)", folder.display()))?;
        for name in ["model.json", "model.safetensors"] {
            sums::verify(folder, name).with_context(|| folder.display().to_string())?;
        }
        let place = || path.display().to_string();
        let Version { schema } = serde_json::from_str(&text).with_context(place)?;
        if schema != SCHEMA {
            let version = if schema < SCHEMA { "an older version: train the model again" } else { "a newer version" };
            bail!("{}: schema {schema} was written by {version}; this one reads schema {SCHEMA}", path.display());
        }
        let mut spec: Self = serde_json::from_str(&text).with_context(place)?;
        spec.check().with_context(place)?;
        spec.channels.iter_mut().try_for_each(|channel| channel.within(folder)).with_context(place)?;
        Ok(spec)
    }

    /// An error if a number of the file cannot be meant. What only sizes the weights is held against them when they are loaded.
    fn check(&self) -> Result<()> {
        if !WIDTHS.contains(&self.width) {
            bail!("`width` is {}; from {} to {} are possible", self.width, WIDTHS.start(), WIDTHS.end());
        }
        if self.classes.is_empty() || self.channels.is_empty() {
            bail!("a model needs a class and a modality");
        }
        if self.task == Task::Regression && !self.scaling.fits(self.classes.len()) {
            bail!("`scaling` does not hold the statistics of {} number(s)", self.classes.len());
        }
        if !self.calibration.is_sound() {
            bail!("`calibration` holds a temperature that is not above 0");
        }
        match self.channels.iter().find(|channel| !channel.is_sound()) {
            Some(channel) => {
                bail!("the features of {}: their statistics are not finite, or of another length", channel.modality)
            }
            None => Ok(()),
        }
    }

    /// Writes `model.json` and `model.safetensors`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn save(&self, folder: &Path, parameters: &Parameters) -> Result<()> {
        write_atomic(&folder.join("model.safetensors"), &parameters.to_safetensors()?)?;
        write_atomic(&folder.join("model.json"), serde_json::to_string(self)?.as_bytes())
    }

    /// The spec of the same model standing by itself in the folder `to`, where its encoders' files are then.
    ///
    /// # Errors
    /// Pretrained weights that are gone, or a folder that cannot be written.
    pub(crate) fn enclosed(&self, to: &Path) -> Result<Self> {
        let mut spec = self.clone();
        for (own, channel) in spec.channels.iter_mut().zip(self.channels()?) {
            let folder = format!("encoders/{}", own.modality);
            let (enclosed, files) = channel.enclosed(&folder)?;
            *own = enclosed;
            if !files.is_empty() {
                create_folder(&to.join(&folder))?;
            }
            for (name, content) in files {
                write_atomic(&to.join(&folder).join(name), &content)?;
            }
        }
        Ok(spec)
    }

    /// Name and encoder of each modality, in the order of the towers.
    pub(crate) fn encoders(&self) -> impl Iterator<Item = (&str, &str)> {
        self.channels.iter().map(|channel| (channel.modality.as_str(), channel.encoder.as_str()))
    }

    /// How true answers are learnt from.
    ///
    /// # Errors
    /// A target that this program does not have.
    pub(crate) fn target(&self) -> Result<&'static TargetEntry> {
        target_of(self.task, &self.target, &registry().targets)
    }

    /// The channels of the trained model.
    ///
    /// # Errors
    /// A modality or an encoder that this program does not have.
    pub(crate) fn channels(&self) -> Result<Vec<Channel>> {
        let channel = |spec: &ChannelSpec| {
            let modality = registry().modalities.iter().copied().find(|m| m.name == spec.modality);
            let modality = modality.with_context(|| format!("this program knows no modality `{}`", spec.modality))?;
            Ok(Channel::resume(spec.clone(), modality, registry().encoder(&spec.encoder)?))
        };
        self.channels.iter().map(channel).collect()
    }
}

/// A model on its channels: as it is before training, its first values by the seed of `parameters` and those of pretrained
/// encoders by their weights; or with the values of a `model.safetensors`.
///
/// # Errors
/// An unknown fusion, sizes that make no sense, weights that are gone, or a file that does not fit.
pub(crate) fn build(
    spec: &ModelSpec,
    channels: &[Channel],
    parameters: &Parameters,
    trained: Option<&Path>,
) -> Result<TwoTower> {
    // A trained model takes its values, and with them every size, from its weights: no size of another file is believed.
    let source = match trained {
        Some(file) => &parameters.pretrained(Arc::new(Weights::open(file)?)),
        None => parameters,
    };
    let encoders = channels.iter().map(|channel| channel.encoder(source, trained));
    let encoders = encoders.collect::<Result<Vec<Box<dyn Encoder>>>>()?;
    let tower = |channel: &Channel| TowerConfig {
        name: channel.modality().name.to_owned(),
        head: spec.projector,
        norm: channel.wants_norm(),
    };
    let config = ModelConfig {
        fusion: spec.fusion.clone(),
        width: spec.width,
        classes: spec.classes.len(),
        towers: channels.iter().map(tower).collect(),
    };
    let model = TwoTower::new(&config, encoders, source).map_err(|e| match e {
        balgrad_encoders::Error::UnknownName { .. } => anyhow::Error::from(Usage(e.to_string())),
        other => other.into(),
    })?;
    if let Some(file) = trained {
        parameters.load(file)?;
    }
    Ok(model)
}
