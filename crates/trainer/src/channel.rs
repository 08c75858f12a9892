//! A channel: how one modality of a data set reaches the model, by an encoder that is trained or by the features of a frozen one.

mod frozen;

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use balgrad_data::{Modality, Source, Split};
use balgrad_encoders::{
    Depth, Encoder, EncoderEntry, EncoderKind, FitOptions, HubSettings, ModelFiles, Parameters, Precomputed,
    Standardizer, View,
};
use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::Usage;
use crate::config::{Encoders, Freeze};
use crate::environment::hub;
use crate::readable::Readable;

pub(crate) use frozen::{Loaded, readable_row};

/// Where a pretrained encoder comes from, and what of it differs from its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    place: String,
    /// The folder with the files inside that of an exported model; empty where `place` counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    inside: String,
    image_size: usize,
    max_tokens: usize,
}

impl Origin {
    fn files(&self, entry: &EncoderEntry) -> Result<ModelFiles> {
        let EncoderKind::Pretrained { model, .. } = entry.kind else { bail!("`{}` is not pretrained", entry.name) };
        let place = if self.place.is_empty() { model } else { self.place.strip_prefix("hf:").unwrap_or(&self.place) };
        if place.is_empty() {
            let (name, modality) = (entry.name, entry.modality);
            return Err(Usage(format!(
                "`{name}` has no usual model on the hub: name a folder with its weights by --set weights.{modality}=DIR"
            ))
            .into());
        }
        let settings: HubSettings = hub();
        Ok(self.apply(ModelFiles::open(place, &settings).map_err(|e| Usage(e.to_string()))?))
    }

    fn apply(&self, files: ModelFiles) -> ModelFiles {
        let files = if self.image_size > 0 { files.at_size(self.image_size) } else { files };
        if self.max_tokens > 0 { files.at_most_tokens(self.max_tokens) } else { files }
    }
}

/// All that is needed to read a modality again as in training, beside the weights: a part of `model.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChannelSpec {
    pub(crate) modality: String,
    pub(crate) encoder: String,
    /// What was fitted to the training split; empty for a pretrained encoder.
    #[serde(default)]
    fitted: String,
    /// Of a pretrained encoder.
    #[serde(default)]
    origin: Option<Origin>,
    mode: Mode,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Mode {
    /// The model reads features that were computed once.
    Frozen {
        /// Hash of all that decides the features.
        digest: String,
        /// The features of a missing modality.
        missing: Vec<f32>,
        standardizer: Option<Standardizer>,
    },
    /// The encoder is trained with the model.
    Trained {
        /// How many of the first blocks stay as they are.
        freeze: usize,
        /// Of a pretrained encoder `config.json` and the like: what is needed beside the trained weights to build it again.
        settings: BTreeMap<String, String>,
    },
}

impl ChannelSpec {
    /// Finds what an exported model brings along in its folder.
    ///
    /// # Errors
    /// A place outside of it.
    pub(crate) fn within(&mut self, folder: &Path) -> Result<()> {
        let Some(origin) = self.origin.as_mut().filter(|origin| !origin.inside.is_empty()) else { return Ok(()) };
        let inside = Path::new(&origin.inside);
        if !inside.components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("the encoder of {} is not inside the model's folder: `{}`", self.modality, origin.inside);
        }
        let place = folder.join(inside);
        if !place.is_dir() {
            bail!("{} is missing: copy the whole folder of the model", place.display());
        }
        origin.place = place.to_str().context("the path of the model's folder is not UTF-8")?.to_owned();
        Ok(())
    }

    /// Whether the numbers that a file holds can be used.
    pub(crate) fn is_sound(&self) -> bool {
        match &self.mode {
            Mode::Frozen { missing, standardizer, .. } => {
                let fits = |standardizer: &Standardizer| standardizer.fits(missing.len());
                !missing.is_empty() && missing.iter().all(|v| v.is_finite()) && standardizer.as_ref().is_none_or(fits)
            }
            Mode::Trained { .. } => true,
        }
    }
}

/// How one modality reaches the model.
pub(crate) struct Channel {
    modality: &'static Modality,
    entry: &'static EncoderEntry,
    spec: ChannelSpec,
    /// A frozen encoder at work.
    loaded: Mutex<Option<Arc<Loaded>>>,
}

impl Channel {
    /// Fits what the settings ask for on the training split.
    ///
    /// # Errors
    /// An encoder of another modality, weights that do not fit, or training samples that cannot be read.
    pub(crate) fn fit(
        modality: &'static Modality,
        entry: &'static EncoderEntry,
        config: &Encoders,
        data: &Readable,
    ) -> Result<Self> {
        let (name, reads) = (entry.name, entry.modality);
        if reads != modality.name {
            let wanted = modality.name;
            return Err(Usage(format!(
                "`encoders.{wanted} = {name}`: `{name}` reads {reads}s; see `balgrad encoders`"
            ))
            .into());
        }
        let mut options = FitOptions::default();
        (options.image_size, options.vocabulary) = (config.image_size, config.vocab_size);
        let sources = || data.sources(modality, Split::Train);
        let origin = Origin {
            place: config.weights.get(modality.name).cloned().unwrap_or_default(),
            inside: String::new(),
            image_size: config.image_size,
            max_tokens: config.max_tokens,
        };
        let trained = |freeze, settings| Mode::Trained { freeze, settings };
        let (fitted, origin, mode) = match entry.kind {
            EncoderKind::Handcrafted { fit, .. } => (fit(&sources(), &options)?, None, None),
            EncoderKind::Scratch { fit, .. } => (fit(&sources(), &options)?, None, Some(trained(0, BTreeMap::new()))),
            EncoderKind::Pretrained { .. } => match config.freeze {
                Freeze::All => (String::new(), Some(origin), None),
                Freeze::First(freeze) => {
                    let files = origin.files(entry)?;
                    // Built once to find what is wrong before any work is done.
                    let whole = || -> balgrad_encoders::Result<()> {
                        let encoder = entry.pretrained(&files, &Parameters::new(0, &Device::Cpu))?;
                        if let Some(encoder) = encoder.filter(|_| modality.inline) {
                            encoder.reader().item(&Source::Text("a".into()), "a", &View::default())?;
                        }
                        Ok(())
                    };
                    whole().with_context(|| format!("`{name}` from {}", files.place()))?;
                    let mut settings = files.settings()?;
                    if let Some(tokenizer) = files.tokenizer()? {
                        settings.insert("tokenizer.json".to_owned(), tokenizer.to_json()?);
                    }
                    (String::new(), Some(origin), Some(trained(freeze, settings)))
                }
            },
        };
        let frozen = mode.is_none();
        let nothing = Mode::Frozen { digest: String::new(), missing: Vec::new(), standardizer: None };
        let spec = ChannelSpec {
            modality: modality.name.to_owned(),
            encoder: name.to_owned(),
            fitted,
            origin,
            mode: mode.unwrap_or(nothing),
        };
        let mut channel = Self { modality, entry, spec, loaded: Mutex::new(None) };
        if frozen {
            channel.settle()?;
        }
        Ok(channel)
    }

    /// The channel of a trained model.
    pub(crate) fn resume(spec: ChannelSpec, modality: &'static Modality, entry: &'static EncoderEntry) -> Self {
        Self { modality, entry, spec, loaded: Mutex::new(None) }
    }

    /// What a `model.json` keeps.
    pub(crate) fn spec(&self) -> &ChannelSpec {
        &self.spec
    }

    /// The same for a model that stands by itself, the files that it then needs in `folder` of the model's folder among them, and what
    /// its preprocessing learnt as files of their own.
    ///
    /// # Errors
    /// Pretrained weights that are gone, or others than those that were trained with.
    pub(crate) fn enclosed(&self, folder: &str) -> Result<(ChannelSpec, BTreeMap<String, Vec<u8>>)> {
        let mut spec = self.spec.clone();
        let mut files = BTreeMap::new();
        if !spec.fitted.is_empty() {
            let fitted: serde_json::Value = serde_json::from_str(&spec.fitted).unwrap_or_default();
            let name = if fitted.get("model").is_some() { "tokenizer.json" } else { "fitted.json" };
            files.insert(name.to_owned(), spec.fitted.clone().into_bytes());
        }
        if let Some(origin) = &mut spec.origin {
            match &spec.mode {
                Mode::Frozen { .. } => {
                    self.loaded()?;
                    files.extend(origin.files(self.entry)?.contents()?);
                    folder.clone_into(&mut origin.inside);
                }
                Mode::Trained { settings, .. } => {
                    files.extend(settings.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes())));
                }
            }
            origin.place.clear();
        }
        Ok((spec, files))
    }

    /// The modality.
    pub(crate) fn modality(&self) -> &'static Modality {
        self.modality
    }

    /// Whether the model reads features that were computed once.
    pub(crate) fn is_frozen(&self) -> bool {
        matches!(self.spec.mode, Mode::Frozen { .. })
    }

    /// Whether the embedding layers should begin with a norm: yes above a deep encoder; the scale of hand-crafted features, and
    /// with it what "missing" looks like, would be undone by one.
    pub(crate) fn wants_norm(&self) -> bool {
        !matches!(self.entry.kind, EncoderKind::Handcrafted { .. })
    }

    /// How deep in its encoder a parameter stands, by its name below the encoder.
    pub(crate) fn depth(&self, parameter: &str) -> Depth {
        self.entry.depth(parameter)
    }

    /// The encoder as a part of a model: of a frozen one, a place for its features. With `trained`, a `model.safetensors`, the
    /// weights that a pretrained encoder started from are not needed any more.
    ///
    /// # Errors
    /// Weights that are gone, or do not fit.
    pub(crate) fn encoder(&self, parameters: &Parameters, trained: Option<&Path>) -> Result<Box<dyn Encoder>> {
        let (freeze, settings) = match &self.spec.mode {
            Mode::Frozen { missing, .. } => return Ok(Box::new(Precomputed::new(missing.len()))),
            Mode::Trained { freeze, settings } => (*freeze, settings),
        };
        let scope = parameters.scope(self.modality.name).scope("encoder");
        match (self.entry.kind, &self.spec.origin) {
            (EncoderKind::Scratch { build, .. }, _) => Ok(build(&self.spec.fitted, &scope)?),
            (EncoderKind::Pretrained { .. }, Some(origin)) => {
                let above = format!("{}.encoder.", self.modality.name);
                let files = match trained {
                    Some(file) => origin.apply(ModelFiles::kept(settings.clone(), file, &above)),
                    None => origin.files(self.entry)?,
                };
                let entry = self.entry;
                let stays = move |name: &str| match entry.depth(name.strip_prefix(&above).unwrap_or(name)) {
                    Depth::Stem => freeze > 0,
                    Depth::Block(block) => block < freeze,
                    Depth::Head => false,
                };
                entry.pretrained(&files, &scope.frozen_where(stays))?.context("the encoder is pretrained")
            }
            _ => bail!("`{}` cannot be trained like this", self.entry.name),
        }
    }

    /// Lets a frozen encoder go: its features are cached. It is loaded again where others are asked for.
    pub(crate) fn release(&self) {
        *frozen::lock(&self.loaded) = None;
    }
}

/// The factor on a parameter's learning rate: `decay` to the power of its distance from the end of an encoder of `blocks` blocks.
pub(crate) fn layer_rate(depth: Depth, blocks: usize, decay: f64) -> f64 {
    let above = match depth {
        Depth::Block(block) => blocks.saturating_sub(block),
        Depth::Stem => blocks + 1,
        Depth::Head => 0,
    };
    decay.powi(above as i32)
}
