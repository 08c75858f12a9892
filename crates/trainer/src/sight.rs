//! How the towers see a data set: encoders, and whatever of them is fitted on the training split.

pub(crate) mod depth;
mod frozen;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use balgrad_data::{Dataset, Filter, Framing, ImageSource, Impairment, Modality, Sample, Split};
use balgrad_encoders::{
    CachedFeatures, Encoder, EncoderEntry, EncoderKind, Expects, HeadForm, ModelConfig, ModelFiles, Parameters,
    Precomputed, Resample, ScratchShape, Standardizer, Tokenizer, TowerConfig, TwoTower, encoder,
};
use candle_core::Device;
use serde::{Deserialize, Serialize};

use self::depth::Freeze;
use self::frozen::{Frozen, Wanted};

use crate::Usage;
use crate::bank::{Bank, Seen};
use crate::config::{Config, MODALITIES};
use crate::readable::Readable;
use crate::shown::Look;

/// How one modality is seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Eye {
    /// Features of a frozen encoder, standardised with the training split's statistics where it is an image's featuriser.
    Features { frozen: Frozen, standardizer: Option<Standardizer> },
    /// Pixels for an encoder that learns, from nothing or from weights.
    Pixels { encoder: String, framing: Framing, weights: Option<Weights> },
    /// Tokens for an encoder that learns, with the vocabulary as a `tokenizer.json`.
    Tokens { encoder: String, vocabulary: String, weights: Option<Weights> },
}

/// Where a pretrained encoder comes from, and what of it differs from its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Origin {
    /// A folder or a repository; empty: the encoder's usual model.
    place: String,
    /// Pixels a side; 0: the encoder's own.
    size: usize,
    /// Tokens that a text encoder sees; 0: as many as it can.
    max_tokens: usize,
}

impl Origin {
    fn apply(&self, files: ModelFiles) -> ModelFiles {
        let files = if self.size > 0 { files.at_size(self.size) } else { files };
        if self.max_tokens > 0 { files.at_most_tokens(self.max_tokens) } else { files }
    }
}

/// What a trained encoder starts from.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Weights {
    origin: Origin,
    /// How many of the first blocks stay as they are.
    freeze: usize,
    /// Its `config.json` and the like: what is needed beside the trained weights to build it again.
    settings: BTreeMap<String, String>,
}

/// How the towers see a data set. Everything in it was fitted on the training split alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sight {
    eyes: Vec<Eye>,
    width: usize,
    projector: HeadForm,
}

/// How the images of an encoder are framed; of one that reads none, its default.
fn framing(expects: &Expects) -> Framing {
    let Expects::Pixels { size, framing, .. } = expects else { return Framing::whole(0) };
    let filter = match framing.resample {
        Resample::Bilinear => Filter::Bilinear,
        Resample::Bicubic => Filter::Bicubic,
        Resample::Lanczos => Filter::Lanczos,
    };
    Framing { size: *size as u32, edge: framing.edge.map(|edge| edge as u32), filter }
}

/// The entry of an encoder for a modality.
fn entry(name: &str, modality: Modality) -> Result<&'static EncoderEntry> {
    let entry = encoder(name).map_err(|e| Usage(e.to_string()))?;
    if entry.modality != modality.name() {
        let (reads, modality) = (entry.modality, modality.name());
        return Err(
            Usage(format!("`encoders.{modality} = {name}`: `{name}` reads {reads}s; see `balgrad encoders`")).into()
        );
    }
    Ok(entry)
}

impl Sight {
    /// Fits what a config asks for on the training split.
    ///
    /// # Errors
    /// An unknown encoder, weights that do not fit, or training images that cannot be read (under `on_bad_sample = fail`).
    pub fn fit(config: &Config, data: &Readable) -> Result<Self> {
        let projector = if config.word("projector") == "linear" { HeadForm::Linear } else { HeadForm::Mlp };
        let mut sight = Self { eyes: Vec::new(), width: config.count("width"), projector };
        for modality in Modality::ALL {
            let name = config.word(&format!("encoders.{}", modality.name())).to_owned();
            let kind = entry(&name, modality)?.kind;
            let origin = Origin {
                place: config.word(&format!("weights.{}", modality.name())).to_owned(),
                size: config.count("image_size"),
                max_tokens: config.count("max_tokens"),
            };
            sight.eyes.push(match kind {
                EncoderKind::Featurizer(_) => {
                    let frozen = Frozen::featurizer(&name);
                    let standardizer = match modality {
                        Modality::Image => Some(standardizer(&frozen, data)?),
                        Modality::Text => None,
                    };
                    Eye::Features { frozen, standardizer }
                }
                EncoderKind::Fitted { fit, .. } => {
                    let train = data.dataset.samples.iter().filter(|sample| sample.split == Split::Train);
                    let fitted = fit(&train.filter_map(|sample| sample.text.as_deref()).collect::<Vec<_>>())?;
                    Eye::Features { frozen: Frozen::fitted(&name, fitted), standardizer: None }
                }
                EncoderKind::Pretrained { build, .. } => match config.word("freeze").parse()? {
                    Freeze::All => Eye::Features { frozen: Frozen::network(&name, &origin)?, standardizer: None },
                    Freeze::First(freeze) => {
                        let files = frozen::files(&name, &origin)?;
                        let built = build(&files, &Parameters::new(0, &Device::Cpu))
                            .with_context(|| format!("`{name}` from {}", files.place()))?;
                        let weights = Some(Weights { origin, freeze, settings: files.settings()? });
                        match built.expects() {
                            reads @ Expects::Pixels { .. } => {
                                Eye::Pixels { encoder: name, framing: framing(reads), weights }
                            }
                            _ => {
                                let vocabulary = frozen::tokenizer(&files)?.to_json()?;
                                Eye::Tokens { encoder: name, vocabulary, weights }
                            }
                        }
                    }
                },
                EncoderKind::Scratch(_) if modality == Modality::Image => {
                    let size = if origin.size == 0 { ScratchShape::default().image_size } else { origin.size };
                    Eye::Pixels { encoder: name, framing: Framing::whole(size as u32), weights: None }
                }
                EncoderKind::Scratch(_) => {
                    let train = data.dataset.indices(Split::Train);
                    let texts = train.iter().filter_map(|&i| data.dataset.samples[i].text.as_deref());
                    let vocabulary = Tokenizer::train(texts, config.count("vocabulary"))?.to_json()?;
                    Eye::Tokens { encoder: name, vocabulary, weights: None }
                }
            });
        }
        Ok(sight)
    }

    /// A two-tower model for what is seen, as it is before training: its initial values depend on the seed of
    /// `parameters`, those of pretrained encoders on their weights.
    ///
    /// # Errors
    /// An unknown fusion, sizes that make no sense, or weights that are gone.
    pub fn model(&self, fusion: &str, classes: usize, parameters: &Parameters) -> Result<TwoTower> {
        self.build(fusion, classes, parameters, None)
    }

    /// The model of a finished run with the values in its `model.safetensors`; the weights that trained encoders started
    /// from are not needed any more.
    ///
    /// # Errors
    /// A file that does not fit.
    pub fn trained_model(
        &self,
        fusion: &str,
        classes: usize,
        parameters: &Parameters,
        file: &Path,
    ) -> Result<TwoTower> {
        let model = self.build(fusion, classes, parameters, Some(file))?;
        parameters.load(file)?;
        Ok(model)
    }

    fn build(&self, fusion: &str, classes: usize, parameters: &Parameters, trained: Option<&Path>) -> Result<TwoTower> {
        let mut encoders: Vec<Box<dyn Encoder>> = Vec::new();
        let mut towers = Vec::new();
        for (name, eye) in MODALITIES.iter().zip(&self.eyes) {
            let scope = parameters.scope(name).scope("encoder");
            let learns = |encoder_name: &str, shape: &ScratchShape, weights: &Option<Weights>, vocabulary: &str| {
                let entry = encoder(encoder_name)?;
                match (entry.kind, weights) {
                    (EncoderKind::Scratch(build), None) => Ok(build(shape, &scope)?),
                    (EncoderKind::Pretrained { build, .. }, Some(Weights { origin, freeze, settings })) => {
                        let (freeze, above) = (*freeze, format!("{name}.encoder."));
                        let files = match trained {
                            Some(file) => {
                                let mut settings = settings.clone();
                                settings.insert("tokenizer.json".to_owned(), vocabulary.to_owned());
                                origin.apply(ModelFiles::kept(settings, file, &above))
                            }
                            None => frozen::files(encoder_name, origin)?,
                        };
                        let still = move |name: &str| depth::stays(name.strip_prefix(&above).unwrap_or(name), freeze);
                        Ok(build(&files, &scope.frozen_where(still))?)
                    }
                    _ => bail!("`{encoder_name}` cannot be trained like this"),
                }
            };
            encoders.push(match eye {
                Eye::Features { frozen, .. } => Box::new(Precomputed::new(frozen.dim()?)),
                Eye::Pixels { encoder, framing, weights } => {
                    let shape = ScratchShape { image_size: framing.size as usize, ..ScratchShape::default() };
                    learns(encoder, &shape, weights, "")?
                }
                Eye::Tokens { encoder, vocabulary, weights } => {
                    let tokens = Tokenizer::from_json(vocabulary)?.vocabulary();
                    learns(
                        encoder,
                        &ScratchShape { vocabulary: tokens, ..ScratchShape::default() },
                        weights,
                        vocabulary,
                    )?
                }
            });
            // A norm would undo the scale of descriptors, and with it what "missing" looks like.
            let norm = !matches!(eye, Eye::Features { frozen, .. } if !frozen.is_network());
            towers.push(TowerConfig { name: (*name).to_owned(), head: self.projector, norm });
        }
        let config = ModelConfig { fusion: fusion.to_owned(), width: self.width, classes, towers };
        TwoTower::new(&config, encoders, parameters).map_err(|e| match e {
            balgrad_encoders::Error::UnknownName { .. } => Usage(e.to_string()).into(),
            other => other.into(),
        })
    }

    /// The usable samples of a split under a condition, as the towers will see them. With `variants`, of frozen features so
    /// many training variants instead of the one that stands there.
    ///
    /// # Errors
    /// A sample that cannot be read, under `on_bad_sample = fail`.
    pub fn bank(
        &self,
        data: &Readable,
        split: Split,
        impairment: Option<(Impairment, u64)>,
        variants: usize,
        workers: usize,
    ) -> Result<Bank> {
        let places = data.places(split)?;
        let all = data.dataset.indices(split);
        let mut seen = Vec::new();
        let mut shown = usize::MAX;
        for (modality, eye) in Modality::ALL.into_iter().zip(&self.eyes) {
            let touched = impairment.filter(|(i, _)| i.modality() == modality);
            let gone = matches!(touched, Some((Impairment::Missing(_), _)));
            if gone {
                shown &= !(1 << modality.index());
            }
            let look = Look { impairment: touched, variant: None };
            seen.push(match eye {
                Eye::Features { frozen, standardizer } => {
                    let looks: Vec<Look> = match (gone, variants) {
                        (true, _) => Vec::new(),
                        (false, 0) => vec![look],
                        (false, n) => (0..n as u64).map(|v| Look { variant: Some(v), ..look }).collect(),
                    };
                    let table = |look| frozen.features(&Wanted { data, split, rows: &all, modality, look });
                    Seen::Features {
                        tables: looks.into_iter().map(table).collect::<Result<_>>()?,
                        places: Arc::clone(&places),
                        standardizer: standardizer.clone(),
                        missing: frozen.missing()?,
                    }
                }
                Eye::Pixels { framing, .. } => Seen::Images { framing: *framing, look },
                Eye::Tokens { vocabulary, .. } => {
                    Seen::Tokens { tokenizer: Box::new(Tokenizer::from_json(vocabulary)?), look }
                }
            });
        }
        let rows = places.iter().map(|&place| all[place as usize]).collect();
        Ok(Bank::new(Arc::clone(&data.dataset), rows, seen, workers).showing(shown))
    }

    /// One sample from outside any data set: an image as a file's bytes, a text.
    ///
    /// # Errors
    /// Bytes that are no image.
    pub fn one(&self, image: Option<&[u8]>, text: Option<&str>) -> Result<Bank> {
        let sample = Sample {
            id: "input".to_owned(),
            image: image.map(|bytes| ImageSource::Bytes(bytes.into())),
            text: text.filter(|t| !t.trim().is_empty()).map(str::to_owned),
            labels: vec![0],
            split: Split::Test,
            group: None,
        };
        let mut seen = Vec::new();
        for (modality, eye) in Modality::ALL.into_iter().zip(&self.eyes) {
            let look = Look::default();
            seen.push(match eye {
                Eye::Features { frozen, standardizer } => Seen::Features {
                    tables: vec![Arc::new(CachedFeatures::in_memory(frozen.one(&sample, modality)?, frozen.dim()?))],
                    places: [0].into(),
                    standardizer: standardizer.clone(),
                    missing: frozen.missing()?,
                },
                Eye::Pixels { framing, .. } => Seen::Images { framing: *framing, look },
                Eye::Tokens { vocabulary, .. } => {
                    Seen::Tokens { tokenizer: Box::new(Tokenizer::from_json(vocabulary)?), look }
                }
            });
        }
        Ok(Bank::new(Arc::new(Dataset::of(sample)), vec![0], seen, 0))
    }
}

/// Statistics of an image's features over the training samples that have one.
fn standardizer(frozen: &Frozen, data: &Readable) -> Result<Standardizer> {
    let all = data.dataset.indices(Split::Train);
    let (split, modality, look) = (Split::Train, Modality::Image, Look::default());
    let table = frozen.features(&Wanted { data, split, rows: &all, modality, look })?;
    let places = data.places(split)?;
    let present = places.iter().filter(|place| data.dataset.samples[all[**place as usize]].image.is_some());
    let rows: Vec<&[f32]> = present.filter_map(|place| table.row(*place as usize)).collect();
    Ok(Standardizer::fit(table.dim(), rows.iter().copied()))
}
