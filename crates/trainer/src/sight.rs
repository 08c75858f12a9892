//! How the towers see a data set: encoders, and whatever of them is fitted on the training split.

pub(crate) mod depth;
mod frozen;
mod shown;

use anyhow::{Context, Result, bail};
use balgrad_data::{Dataset, Impairment, Modality, Sample, Split, decode_bytes};
use balgrad_encoders::{
    Encoder, EncoderEntry, EncoderKind, Expects, HeadForm, ModelConfig, Parameters, Precomputed, ScratchShape,
    Standardizer, Tokenizer, TowerConfig, TwoTower, encoder,
};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::depth::Freeze;
use self::frozen::{Frozen, Wanted};
use self::shown::{Shown, has, reason, show};

use crate::Usage;
use crate::bank::{Bank, Seen};
use crate::config::Config;
use crate::run::MODALITIES;

/// How one modality is seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Eye {
    /// Features of a frozen encoder, standardised with the training split's statistics where it is an image's featuriser.
    Features { frozen: Frozen, standardizer: Option<Standardizer> },
    /// Pixels for an encoder that learns, from nothing or from weights.
    Pixels { encoder: String, size: u32, weights: Option<Weights> },
    /// Tokens for an encoder that learns, with the vocabulary as a `tokenizer.json`.
    Tokens { encoder: String, vocabulary: String, weights: Option<Weights> },
}

/// Where a trained encoder starts from.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Weights {
    /// A folder or a repository; empty: the encoder's usual model.
    place: String,
    /// How many of the first blocks stay as they are.
    freeze: usize,
}

/// How the towers see a data set. Everything in it was fitted on the training split alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sight {
    eyes: Vec<Eye>,
    width: usize,
    projector: HeadForm,
    fingerprint: String,
    fail_on_bad: bool,
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
    /// An unknown encoder, or training images that cannot be read (under `on_bad_sample = fail`).
    pub fn fit(config: &Config, dataset: &Dataset) -> Result<Self> {
        let mut sight = Self {
            eyes: Vec::new(),
            width: config.count("width"),
            projector: if config.word("projector") == "linear" { HeadForm::Linear } else { HeadForm::Mlp },
            fingerprint: dataset.fingerprint(),
            fail_on_bad: config.word("on_bad_sample") == "fail",
        };
        let train = dataset.indices(Split::Train);
        for modality in Modality::ALL {
            let name = config.word(&format!("encoders.{}", modality.name())).to_owned();
            let (weights, size) = (config.word(&format!("weights.{}", modality.name())), config.count("image_size"));
            let freeze: Freeze = config.word("freeze").parse()?;
            let eye = match (entry(&name, modality)?.kind, modality) {
                (EncoderKind::Featurizer(_), Modality::Image) => {
                    let frozen = Frozen::featurizer(&name);
                    let fingerprint = &sight.fingerprint;
                    let wanted = Wanted { dataset, rows: &train, modality, impairment: None, seed: 0, fingerprint };
                    let (values, dim) = (frozen.features(&wanted)?, frozen.dim()?);
                    let present = train.iter().zip(values.chunks_exact(dim)).filter(|(i, row)| {
                        dataset.samples[**i].image.is_some() && row.first().is_some_and(|v| v.is_finite())
                    });
                    let rows: Vec<&[f32]> = present.map(|(_, row)| row).collect();
                    Eye::Features { frozen, standardizer: Some(Standardizer::fit(dim, rows.iter().copied())) }
                }
                (EncoderKind::Featurizer(_), Modality::Text) => {
                    Eye::Features { frozen: Frozen::featurizer(&name), standardizer: None }
                }
                (EncoderKind::Fitted { fit, .. }, _) => {
                    let texts = train.iter().filter_map(|&i| dataset.samples[i].text.as_deref());
                    let fitted = fit(&texts.collect::<Vec<_>>())?;
                    Eye::Features { frozen: Frozen::fitted(&name, fitted), standardizer: None }
                }
                (EncoderKind::Pretrained { model, build }, _) => match freeze {
                    Freeze::All => Eye::Features { frozen: Frozen::network(&name, weights, size)?, standardizer: None },
                    Freeze::First(freeze) => {
                        let files = frozen::files(&name, model, weights, size)?;
                        let reads = build(&files, &Parameters::new(0, &Device::Cpu))?;
                        let weights = Some(Weights { place: weights.to_owned(), freeze });
                        match reads.expects() {
                            Expects::Pixels { size, .. } => Eye::Pixels { encoder: name, size: *size as u32, weights },
                            _ => {
                                let tokenizer = files.tokenizer()?;
                                let tokenizer =
                                    tokenizer.with_context(|| format!("{}: no tokenizer", files.place()))?;
                                Eye::Tokens { encoder: name, vocabulary: tokenizer.to_json()?, weights }
                            }
                        }
                    }
                },
                (EncoderKind::Scratch(_), Modality::Image) => {
                    let size = if size == 0 { ScratchShape::default().image_size } else { size };
                    Eye::Pixels { encoder: name, size: size as u32, weights: None }
                }
                (EncoderKind::Scratch(_), Modality::Text) => {
                    let texts = train.iter().filter_map(|&i| dataset.samples[i].text.as_deref());
                    let tokenizer = Tokenizer::train(texts, config.count("vocabulary"))?;
                    Eye::Tokens { encoder: name, vocabulary: tokenizer.to_json()?, weights: None }
                }
            };
            sight.eyes.push(eye);
        }
        Ok(sight)
    }

    /// The data set's fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A two-tower model for what is seen; its initial values depend on the seed of `parameters`.
    ///
    /// # Errors
    /// An unknown fusion, or sizes that make no sense.
    pub fn model(&self, fusion: &str, classes: usize, parameters: &Parameters) -> Result<TwoTower> {
        let mut encoders: Vec<Box<dyn Encoder>> = Vec::new();
        let mut towers = Vec::new();
        for (name, eye) in MODALITIES.iter().zip(&self.eyes) {
            let scope = parameters.scope(name).scope("encoder");
            let learns = |encoder_name: &str, shape: &ScratchShape, weights: &Option<Weights>| {
                let entry = encoder(encoder_name)?;
                match (entry.kind, weights) {
                    (EncoderKind::Scratch(build), None) => Ok(build(shape, &scope)?),
                    (EncoderKind::Pretrained { model, build }, Some(Weights { place, freeze })) => {
                        // At the model's own size, or at that of the pixels for networks that take any.
                        let size = if entry.modality == "image" { shape.image_size } else { 0 };
                        let files = frozen::files(encoder_name, model, place, size)?;
                        let (freeze, above) = (*freeze, format!("{name}.encoder."));
                        let still = move |name: &str| depth::stays(name.strip_prefix(&above).unwrap_or(name), freeze);
                        Ok(build(&files, &scope.frozen_where(still))?)
                    }
                    _ => bail!("`{encoder_name}` cannot be trained like this"),
                }
            };
            encoders.push(match eye {
                Eye::Features { frozen, .. } => Box::new(Precomputed::new(frozen.dim()?)),
                Eye::Pixels { encoder, size, weights } => {
                    let shape = ScratchShape { image_size: *size as usize, ..ScratchShape::default() };
                    learns(encoder, &shape, weights)?
                }
                Eye::Tokens { encoder, vocabulary, weights } => {
                    let vocabulary = Tokenizer::from_json(vocabulary)?.vocabulary();
                    learns(encoder, &ScratchShape { vocabulary, ..ScratchShape::default() }, weights)?
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

    /// Some samples under a condition, as the towers will see them; samples that cannot be read are left out, with a
    /// word on stderr.
    ///
    /// # Errors
    /// A sample that cannot be read, under `on_bad_sample = fail`.
    pub fn bank(
        &self,
        dataset: &Dataset,
        rows: &[usize],
        impairment: Option<&Impairment>,
        seed: u64,
        device: &Device,
    ) -> Result<Bank> {
        let mut views = Vec::new();
        let mut usable = vec![true; rows.len()];
        for (modality, eye) in Modality::ALL.into_iter().zip(&self.eyes) {
            let touched = impairment.filter(|i| i.modality() == modality);
            let view = self.view(eye, dataset, rows, modality, touched, seed)?;
            for ((ok, broken), &row) in usable.iter_mut().zip(&view.broken).zip(rows) {
                if let Some(why) = broken {
                    let id = &dataset.samples[row].id;
                    if self.fail_on_bad {
                        bail!("sample `{id}`: {why}; use --on-bad-sample skip to go on without it");
                    }
                    eprintln!("balgrad: skipped sample `{id}`: {why}");
                    *ok = false;
                }
            }
            views.push(view.seen);
        }
        let kept: Vec<usize> = (0..rows.len()).filter(|&i| usable[i]).collect();
        let seen = views.into_iter().map(|v| v.pick(&kept, rows.len(), device)).collect::<Result<_>>()?;
        let samples = kept.iter().map(|&i| &dataset.samples[rows[i]]);
        Ok(Bank {
            ids: samples.clone().map(|s| s.id.clone()).collect(),
            labels: samples.map(|s| s.labels.clone()).collect(),
            seen,
        })
    }

    /// One sample from outside any data set: an image as a file's bytes, a text.
    ///
    /// # Errors
    /// Bytes that are no image.
    pub fn one(&self, image: Option<&[u8]>, text: Option<&str>, device: &Device) -> Result<Bank> {
        let image = image.map(|bytes| decode_bytes(bytes, "the image")).transpose()?;
        let text = text.filter(|t| !t.trim().is_empty());
        let mut seen = Vec::new();
        for (modality, eye) in Modality::ALL.into_iter().zip(&self.eyes) {
            let shown = match modality {
                Modality::Image => image.clone().map(Shown::Image),
                Modality::Text => text.map(|t| Shown::Text(t.to_owned())),
            };
            let raw = match eye {
                Eye::Features { frozen, standardizer } => {
                    let present = shown.is_some();
                    let mut row = frozen.one(shown)?;
                    if let (Some(standardizer), true) = (standardizer, present) {
                        standardizer.apply(&mut row);
                    }
                    Raw::Features(row, frozen.missing_row(device)?)
                }
                Eye::Pixels { size, .. } => Raw::Images(vec![shown.and_then(|s| s.pixels(*size))]),
                Eye::Tokens { vocabulary, .. } => {
                    let tokenizer = Tokenizer::from_json(vocabulary)?;
                    Raw::Tokens(vec![shown.map_or(Ok(Vec::new()), |s| s.tokens(&tokenizer))?])
                }
            };
            seen.push(raw.pick(&[0], 1, device)?);
        }
        Ok(Bank { ids: vec![String::new()], labels: vec![vec![0]], seen })
    }

    fn view(
        &self,
        eye: &Eye,
        dataset: &Dataset,
        rows: &[usize],
        modality: Modality,
        impairment: Option<&Impairment>,
        seed: u64,
    ) -> Result<View> {
        let gone = matches!(impairment, Some(Impairment::Missing(_)));
        let samples: Vec<&Sample> = rows.iter().map(|&i| &dataset.samples[i]).collect();
        let nothing = vec![None; rows.len()];
        match eye {
            Eye::Features { frozen, standardizer } => {
                let (dim, missing) = (frozen.dim()?, frozen.missing_row(&Device::Cpu)?);
                if gone {
                    let row = frozen.missing().map_or_else(|| vec![0.0; dim], <[f32]>::to_vec);
                    return Ok(View { seen: Raw::Features(row.repeat(rows.len()), missing), broken: nothing });
                }
                let fingerprint = &self.fingerprint;
                let mut values = frozen.features(&Wanted { dataset, rows, modality, impairment, seed, fingerprint })?;
                let mut broken = nothing;
                for ((row, sample), broken) in values.chunks_exact_mut(dim).zip(&samples).zip(&mut broken) {
                    if row.first().is_some_and(|v| v.is_nan()) {
                        *broken = Some(reason(sample));
                    } else if let (Some(standardizer), true) = (standardizer, has(sample, modality)) {
                        standardizer.apply(row);
                    }
                }
                Ok(View { seen: Raw::Features(values, missing), broken })
            }
            Eye::Pixels { size, .. } => {
                if gone {
                    return Ok(View { seen: Raw::Images(vec![None; rows.len()]), broken: nothing });
                }
                let shown: Vec<Result<Option<Box<[u8]>>, String>> = samples
                    .par_iter()
                    .map(|s| {
                        Ok(show(s, modality, impairment, None, seed)
                            .map_err(|e| e.to_string())?
                            .and_then(|s| s.pixels(*size)))
                    })
                    .collect();
                let broken = shown.iter().map(|s| s.as_ref().err().cloned()).collect();
                Ok(View { seen: Raw::Images(shown.into_iter().map(|s| s.ok().flatten()).collect()), broken })
            }
            Eye::Tokens { vocabulary, .. } => {
                let tokenizer = Tokenizer::from_json(vocabulary)?;
                let ids = |s: &&Sample| match show(s, modality, impairment, tokenizer.mask_word(), seed)? {
                    Some(shown) => shown.tokens(&tokenizer),
                    None => Ok(Vec::new()),
                };
                Ok(View { seen: Raw::Tokens(samples.iter().map(ids).collect::<Result<_>>()?), broken: nothing })
            }
        }
    }
}

/// One modality of some samples, and what was wrong with those that cannot be read.
struct View {
    seen: Raw,
    broken: Vec<Option<String>>,
}

enum Raw {
    /// Rows one after the other, and the row of a missing modality.
    Features(Vec<f32>, Option<Tensor>),
    Images(Vec<Option<Box<[u8]>>>),
    Tokens(Vec<Vec<u32>>),
}

impl Raw {
    fn pick(self, kept: &[usize], samples: usize, device: &Device) -> Result<Seen> {
        Ok(match self {
            Self::Features(values, missing) => {
                let dim = values.len() / samples.max(1);
                let values = if kept.len() == samples {
                    values
                } else {
                    kept.iter().flat_map(|&i| &values[i * dim..(i + 1) * dim]).copied().collect()
                };
                let missing = missing.map(|row| row.to_device(device)).transpose()?;
                Seen::Features { all: Tensor::from_vec(values, (kept.len(), dim), device)?, missing }
            }
            Self::Images(mut all) => Seen::Images(kept.iter().map(|&i| all[i].take()).collect()),
            Self::Tokens(mut all) => Seen::Tokens(kept.iter().map(|&i| std::mem::take(&mut all[i])).collect()),
        })
    }
}
