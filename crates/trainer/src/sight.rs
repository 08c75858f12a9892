//! How the towers see a data set: encoders, and whatever of them is fitted on the training split.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use balgrad_data::{DataError, Dataset, Impairment, Modality, Sample, Split, decode, decode_bytes, resize};
use balgrad_encoders::{
    CacheKey, Encoder, EncoderEntry, EncoderKind, FeatureCache, Featurizer, HeadForm, ModelConfig, Parameters,
    Precomputed, ScratchShape, Standardizer, Tokenizer, TowerConfig, TwoTower, encoder,
};
use candle_core::{Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Usage;
use crate::bank::{Bank, Seen};
use crate::config::Config;
use crate::run::MODALITIES;

/// Pixels a side that image featurisers look at.
const FEATURE_SIDE: u32 = 64;

/// How one modality is seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Eye {
    /// Features of a frozen featuriser, standardised with the training split's statistics where it is an image's.
    Features { encoder: String, standardizer: Option<Standardizer> },
    /// Pixels for an encoder that learns.
    Pixels { encoder: String, size: u32 },
    /// Tokens for an encoder that learns, with the vocabulary as a `tokenizer.json`.
    Tokens { encoder: String, vocabulary: String },
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

fn featurizer(name: &str) -> Result<Box<dyn Featurizer>> {
    match encoder(name)?.kind {
        EncoderKind::Featurizer(make) => Ok(make()),
        EncoderKind::Scratch(_) | EncoderKind::Pretrained { .. } => bail!("`{name}` is no featuriser"),
    }
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
            let eye = match (entry(&name, modality)?.kind, modality) {
                (EncoderKind::Featurizer(make), Modality::Image) => {
                    let features = sight.features(&*make(), dataset, &train, modality, None, 0)?;
                    let dim = features.dim;
                    let present = train.iter().zip(features.values.chunks_exact(dim)).filter(|(i, row)| {
                        dataset.samples[**i].image.is_some() && row.first().is_some_and(|v| v.is_finite())
                    });
                    let rows: Vec<&[f32]> = present.map(|(_, row)| row).collect();
                    Eye::Features { encoder: name, standardizer: Some(Standardizer::fit(dim, rows.iter().copied())) }
                }
                (EncoderKind::Featurizer(_), Modality::Text) => Eye::Features { encoder: name, standardizer: None },
                (EncoderKind::Pretrained { .. }, _) => {
                    let what =
                        "runs take pretrained encoders in a later version; the crate `balgrad-encoders` loads them";
                    return Err(Usage(format!("`encoders.{} = {name}`: {what}", modality.name())).into());
                }
                (EncoderKind::Scratch(_), Modality::Image) => {
                    Eye::Pixels { encoder: name, size: config.count("image_size") as u32 }
                }
                (EncoderKind::Scratch(_), Modality::Text) => {
                    let texts = train.iter().filter_map(|&i| dataset.samples[i].text.as_deref());
                    let tokenizer = Tokenizer::train(texts, config.count("vocabulary"))?;
                    Eye::Tokens { encoder: name, vocabulary: tokenizer.to_json()? }
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
            let scratch = |encoder_name: &str, shape: &ScratchShape| match encoder(encoder_name)?.kind {
                EncoderKind::Scratch(build) => Ok(build(shape, &scope)?),
                EncoderKind::Featurizer(_) | EncoderKind::Pretrained { .. } => {
                    bail!("`{encoder_name}` does not start from nothing")
                }
            };
            encoders.push(match eye {
                Eye::Features { encoder, .. } => Box::new(Precomputed::new(featurizer(encoder)?.dim())),
                Eye::Pixels { encoder, size } => {
                    scratch(encoder, &ScratchShape { image_size: *size as usize, ..ScratchShape::default() })?
                }
                Eye::Tokens { encoder, vocabulary } => {
                    let vocabulary = Tokenizer::from_json(vocabulary)?.vocabulary();
                    scratch(encoder, &ScratchShape { vocabulary, ..ScratchShape::default() })?
                }
            });
            // A norm would undo the scale of descriptors, and with it what "missing" looks like.
            let norm = !matches!(eye, Eye::Features { .. });
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
        let seen = views.into_iter().map(|v| v.pick(&kept, device)).collect::<Result<_>>()?;
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
                Eye::Features { encoder, standardizer } => {
                    let featurizer = featurizer(encoder)?;
                    let mut row = vec![0f32; featurizer.dim()];
                    if let Some(features) = shown.and_then(|s| s.features(&*featurizer)) {
                        row = features;
                        if let Some(s) = standardizer {
                            s.apply(&mut row);
                        }
                    }
                    Raw::Features(row, featurizer.dim())
                }
                Eye::Pixels { size, .. } => Raw::Images(vec![shown.and_then(|s| s.pixels(*size))]),
                Eye::Tokens { vocabulary, .. } => {
                    let tokenizer = Tokenizer::from_json(vocabulary)?;
                    Raw::Tokens(vec![shown.map_or(Ok(Vec::new()), |s| s.tokens(&tokenizer))?])
                }
            };
            seen.push(raw.pick(&[0], device)?);
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
            Eye::Features { encoder, standardizer } => {
                let featurizer = featurizer(encoder)?;
                let dim = featurizer.dim();
                if gone {
                    return Ok(View { seen: Raw::Features(vec![0.0; rows.len() * dim], dim), broken: nothing });
                }
                let mut features = self.features(&*featurizer, dataset, rows, modality, impairment, seed)?;
                let mut broken = nothing;
                for ((row, sample), broken) in features.values.chunks_exact_mut(dim).zip(&samples).zip(&mut broken) {
                    if row.first().is_some_and(|v| v.is_nan()) {
                        *broken = Some(reason(sample));
                    } else if let (Some(standardizer), true) = (standardizer, has(sample, modality)) {
                        standardizer.apply(row);
                    }
                }
                Ok(View { seen: Raw::Features(features.values, dim), broken })
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

    /// Features of some samples under a condition, from the cache where they are there. A sample that cannot be read
    /// has NaN for features, one without the modality zeros.
    fn features(
        &self,
        featurizer: &dyn Featurizer,
        dataset: &Dataset,
        rows: &[usize],
        modality: Modality,
        impairment: Option<&Impairment>,
        seed: u64,
    ) -> Result<Features> {
        let dim = featurizer.dim();
        let one = |&i: &usize| -> Vec<f32> {
            match show(&dataset.samples[i], modality, impairment, None, seed) {
                Ok(None) => vec![0.0; dim],
                Ok(Some(shown)) => shown.features(featurizer).unwrap_or_else(|| vec![0.0; dim]),
                Err(_) => vec![f32::NAN; dim],
            }
        };
        let build = || rows.par_iter().map(one).collect::<Vec<_>>().concat();
        let split = rows.first().map_or("", |&i| dataset.samples[i].split.name());
        let condition = match impairment {
            None => format!("{split}:full"),
            Some(i) => format!("{split}:{}:{seed}", i.key()),
        };
        let key = CacheKey {
            encoder: &featurizer.key(),
            preprocessing: &format!("{}:{FEATURE_SIDE}", modality.name()),
            dataset: &self.fingerprint,
            condition: &condition,
        };
        let cached = FeatureCache::new(cache_folder()).get_or_build(&key, (rows.len(), dim), || Ok(build()));
        let values = match cached {
            Ok(cached) => {
                if let Some(note) = &cached.note {
                    eprintln!("balgrad: {note}");
                }
                cached.values().to_vec()
            }
            // A cache that cannot be written costs time, nothing else.
            Err(error) => {
                eprintln!("balgrad: going on without the feature cache: {error}");
                build()
            }
        };
        Ok(Features { values, dim })
    }
}

/// Where features are kept: `BALGRAD_CACHE`, else the user's cache folder.
fn cache_folder() -> PathBuf {
    let named = std::env::var_os("BALGRAD_CACHE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let user = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    named.unwrap_or_else(|| user().unwrap_or_else(std::env::temp_dir).join("balgrad")).join("features")
}

struct Features {
    values: Vec<f32>,
    dim: usize,
}

/// One modality of some samples, and what was wrong with those that cannot be read.
struct View {
    seen: Raw,
    broken: Vec<Option<String>>,
}

enum Raw {
    Features(Vec<f32>, usize),
    Images(Vec<Option<Box<[u8]>>>),
    Tokens(Vec<Vec<u32>>),
}

impl Raw {
    fn pick(self, kept: &[usize], device: &Device) -> Result<Seen> {
        Ok(match self {
            Self::Features(values, dim) => {
                let all = kept.len() * dim == values.len();
                let values = if all {
                    values
                } else {
                    kept.iter().flat_map(|&i| &values[i * dim..(i + 1) * dim]).copied().collect()
                };
                Seen::Features(Tensor::from_vec(values, (kept.len(), dim), device)?)
            }
            Self::Images(mut all) => Seen::Images(kept.iter().map(|&i| all[i].take()).collect()),
            Self::Tokens(mut all) => Seen::Tokens(kept.iter().map(|&i| std::mem::take(&mut all[i])).collect()),
        })
    }
}

/// What a sample shows of one modality.
enum Shown {
    Image(RgbImage),
    Text(String),
}

impl Shown {
    fn features(self, featurizer: &dyn Featurizer) -> Option<Vec<f32>> {
        match self {
            Self::Image(image) => {
                let image = resize(&image, FEATURE_SIDE);
                featurizer.image(image.as_raw(), image.width() as usize, image.height() as usize)
            }
            Self::Text(text) => featurizer.text(&text),
        }
    }

    fn pixels(self, size: u32) -> Option<Box<[u8]>> {
        match self {
            Self::Image(image) => Some(resize(&image, size).into_raw().into()),
            Self::Text(_) => None,
        }
    }

    fn tokens(self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        match self {
            Self::Text(text) => tokenizer.encode(&text).context("cannot tokenise"),
            Self::Image(_) => Ok(Vec::new()),
        }
    }
}

fn has(sample: &Sample, modality: Modality) -> bool {
    match modality {
        Modality::Image => sample.image.is_some(),
        Modality::Text => sample.text.is_some(),
    }
}

/// The sample's image or text under a condition; `None` where it is missing.
fn show(
    sample: &Sample,
    modality: Modality,
    impairment: Option<&Impairment>,
    mask_word: Option<&str>,
    seed: u64,
) -> Result<Option<Shown>, DataError> {
    Ok(match modality {
        Modality::Image => {
            let Some(source) = &sample.image else { return Ok(None) };
            let image = decode(source)?;
            let image = match impairment {
                Some(i) => i.image(image, seed, &sample.id),
                None => Some(image),
            };
            image.map(Shown::Image)
        }
        Modality::Text => {
            let Some(text) = &sample.text else { return Ok(None) };
            let text = match impairment {
                Some(i) => i.text(text, mask_word, seed, &sample.id),
                None => Some(text.clone()),
            };
            text.map(Shown::Text)
        }
    })
}

/// Why a sample's image cannot be read.
fn reason(sample: &Sample) -> String {
    let error = sample.image.as_ref().and_then(|source| decode(source).err());
    error.map_or_else(|| "its features are not finite".to_owned(), |e| e.to_string())
}
