//! Frozen encoders: unlearned featurisers and pretrained networks, whose features are computed once and cached.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};
use balgrad_data::{Dataset, Impairment, Modality, resize, stable_hash};
use balgrad_encoders::{
    CacheKey, Encoder, EncoderKind, Expects, FeatureCache, Featurizer, HubSettings, Input, ModelFiles, Parameters,
    Tokenizer, encoder,
};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::shown::{Shown, show};
use crate::Usage;

/// Pixels a side that image featurisers look at.
const FEATURE_SIDE: u32 = 64;

/// Samples in one forward pass of a network.
const BATCH: usize = 32;

/// What must be known of a pretrained network when its features are in the cache and it need not be loaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NetworkCard {
    /// The folder or the repository that its files come from.
    weights: String,
    /// Pixels a side; 0: the network's own.
    size: usize,
    /// Hash of weights and tokenizer.
    digest: String,
    /// The features of a missing modality.
    missing: Vec<f32>,
    /// The word that noise puts in a word's place.
    mask_word: Option<String>,
}

/// A frozen encoder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Frozen {
    encoder: String,
    network: Option<NetworkCard>,
    /// What was fitted to the training texts.
    #[serde(default)]
    fitted: Option<String>,
}

/// A pretrained network at work.
struct Network {
    encoder: Box<dyn Encoder>,
    tokenizer: Option<Tokenizer>,
    digest: String,
}

/// The files of a pretrained encoder: those that `weights` names, else its usual model.
pub(super) fn files(name: &str, usual: &str, weights: &str, size: usize) -> Result<ModelFiles> {
    let place = if weights.is_empty() { usual } else { weights.strip_prefix("hf:").unwrap_or(weights) };
    if place.is_empty() {
        let modality = encoder(name)?.modality;
        return Err(Usage(format!(
            "`{name}` has no usual model on the hub: name a folder with its weights by --set weights.{modality}=DIR"
        ))
        .into());
    }
    let files = ModelFiles::open(place, &HubSettings::from_env()).map_err(|e| Usage(e.to_string()))?;
    Ok(if size > 0 { files.at_size(size) } else { files })
}

impl Network {
    /// Loads a network, once per process.
    fn open(name: &str, weights: &str, size: usize) -> Result<Arc<Self>> {
        type Loaded = Mutex<HashMap<(String, String, usize), Arc<Network>>>;
        static LOADED: OnceLock<Loaded> = OnceLock::new();
        let mut loaded = LOADED.get_or_init(Loaded::default).lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), weights.to_owned(), size);
        if let Some(network) = loaded.get(&key) {
            return Ok(Arc::clone(network));
        }
        let EncoderKind::Pretrained { model, build } = encoder(name)?.kind else { bail!("`{name}` is not pretrained") };
        let files = files(name, model, weights, size)?;
        let parameters = Parameters::new(0, &Device::Cpu).frozen();
        let encoder = build(&files, &parameters).with_context(|| format!("`{name}` from {}", files.place()))?;
        let tokenizer = match encoder.expects() {
            Expects::Tokens { .. } => Some(
                files.tokenizer()?.with_context(|| format!("{}: no tokenizer.json, no vocab.txt", files.place()))?,
            ),
            _ => None,
        };
        let split = tokenizer.as_ref().map(Tokenizer::key).transpose()?.unwrap_or_default();
        let digest = format!("{}:{split}", parameters.digest()?);
        let network = Arc::new(Self { encoder, tokenizer, digest });
        loaded.insert(key, Arc::clone(&network));
        Ok(network)
    }

    /// Features of some images or texts, one row each; `None` is the missing modality.
    fn features(&self, shown: Vec<Option<Shown>>) -> Result<Vec<f32>> {
        let input = match (self.encoder.expects(), &self.tokenizer) {
            (expects @ Expects::Pixels { size, .. }, _) => {
                let side = *size as u32;
                let images: Vec<_> = shown.into_par_iter().map(|s| s.and_then(|s| s.pixels(side))).collect();
                expects.pixels(&images.iter().map(Option::as_deref).collect::<Vec<_>>(), &Device::Cpu)?
            }
            (expects, Some(tokenizer)) => {
                let ids = shown.into_iter().map(|s| s.map_or(Ok(Vec::new()), |s| s.tokens(tokenizer)));
                let ids = ids.collect::<Result<Vec<_>>>()?;
                expects.tokens(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>(), &Device::Cpu)?
            }
            (Expects::Features(_) | Expects::Tokens { .. }, None) => bail!("an encoder that reads neither"),
        };
        self.rows(&input)
    }

    fn rows(&self, input: &Input) -> Result<Vec<f32>> {
        Ok(self.encoder.forward(input)?.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

/// A featuriser, with what was fitted for it; built once per process.
fn featurizer(name: &str, fitted: Option<&str>) -> Result<Arc<dyn Featurizer>> {
    type Built = Mutex<HashMap<(String, String), Arc<dyn Featurizer>>>;
    static BUILT: OnceLock<Built> = OnceLock::new();
    let mut built = BUILT.get_or_init(Built::default).lock().unwrap_or_else(PoisonError::into_inner);
    let key = (name.to_owned(), fitted.unwrap_or_default().to_owned());
    if let Some(featurizer) = built.get(&key) {
        return Ok(Arc::clone(featurizer));
    }
    let featurizer: Arc<dyn Featurizer> = match (encoder(name)?.kind, fitted) {
        (EncoderKind::Featurizer(make), _) => make().into(),
        (EncoderKind::Fitted { build, .. }, Some(fitted)) => build(fitted)?.into(),
        _ => bail!("`{name}` is no featuriser, or lacks what was fitted for it"),
    };
    built.insert(key, Arc::clone(&featurizer));
    Ok(featurizer)
}

fn described(featurizer: &dyn Featurizer, shown: Shown) -> Option<Vec<f32>> {
    match shown {
        Shown::Image(image) => {
            let image = resize(&image, FEATURE_SIDE);
            featurizer.image(image.as_raw(), image.width() as usize, image.height() as usize)
        }
        Shown::Text(text) => featurizer.text(&text),
    }
}

/// Which samples, and as what.
pub(super) struct Wanted<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) rows: &'a [usize],
    pub(super) modality: Modality,
    pub(super) impairment: Option<&'a Impairment>,
    pub(super) seed: u64,
    pub(super) fingerprint: &'a str,
}

impl Frozen {
    /// An unlearned featuriser.
    pub(super) fn featurizer(name: &str) -> Self {
        Self { encoder: name.to_owned(), network: None, fitted: None }
    }

    /// A featuriser fitted to training texts.
    pub(super) fn fitted(name: &str, fitted: String) -> Self {
        Self { fitted: Some(fitted), ..Self::featurizer(name) }
    }

    fn described_by(&self) -> Result<Arc<dyn Featurizer>> {
        featurizer(&self.encoder, self.fitted.as_deref())
    }

    /// A pretrained network, loaded to know what it makes of nothing.
    pub(super) fn network(name: &str, weights: &str, size: usize) -> Result<Self> {
        let network = Network::open(name, weights, size)?;
        let nothing = network.encoder.expects().missing(1, DType::F32, &Device::Cpu)?;
        let card = NetworkCard {
            weights: weights.to_owned(),
            size,
            digest: network.digest.clone(),
            missing: network.rows(&nothing)?,
            mask_word: network.tokenizer.as_ref().and_then(Tokenizer::mask_word).map(str::to_owned),
        };
        Ok(Self { network: Some(card), ..Self::featurizer(name) })
    }

    /// Whether it is a network, whose features want a norm before anything learns from them.
    pub(super) fn is_network(&self) -> bool {
        self.network.is_some()
    }

    /// The length of its features.
    pub(super) fn dim(&self) -> Result<usize> {
        match &self.network {
            Some(card) => Ok(card.missing.len()),
            None => Ok(self.described_by()?.dim()),
        }
    }

    /// The features of a missing modality; `None` where they are zeros.
    pub(super) fn missing(&self) -> Option<&[f32]> {
        self.network.as_ref().map(|card| card.missing.as_slice())
    }

    /// [`missing`](Self::missing) as `[1, dim]`.
    pub(super) fn missing_row(&self, device: &Device) -> Result<Option<Tensor>> {
        Ok(self.missing().map(|row| Tensor::from_slice(row, (1, row.len()), device)).transpose()?)
    }

    /// The features of one image or text.
    pub(super) fn one(&self, shown: Option<Shown>) -> Result<Vec<f32>> {
        match &self.network {
            Some(card) => self.open(card)?.features(vec![shown]),
            None => {
                let featurizer = self.described_by()?;
                let row = shown.and_then(|shown| described(&*featurizer, shown));
                Ok(row.unwrap_or_else(|| vec![0.0; featurizer.dim()]))
            }
        }
    }

    fn open(&self, card: &NetworkCard) -> Result<Arc<Network>> {
        let network = Network::open(&self.encoder, &card.weights, card.size)?;
        if network.digest != card.digest {
            bail!("{}: other weights of `{}` than those that were trained with", card.weights, self.encoder);
        }
        Ok(network)
    }

    /// Features of some samples, `rows × dim`, from the cache where they are there. A sample that cannot be read has NaN
    /// for features.
    pub(super) fn features(&self, wanted: &Wanted<'_>) -> Result<Vec<f32>> {
        let Wanted { dataset, rows, modality, impairment, seed, fingerprint } = *wanted;
        let split = rows.first().map_or("", |&i| dataset.samples[i].split.name());
        let condition = match impairment {
            None => format!("{split}:full"),
            Some(i) => format!("{split}:{}:{seed}", i.key()),
        };
        let dim = self.dim()?;
        let (encoder, preprocessing) = match &self.network {
            Some(card) => (format!("{}:{}", self.encoder, card.digest), format!("{}:{}", modality.name(), card.size)),
            None => {
                let fitted = self.fitted.as_deref().map_or(0, |fitted| stable_hash(&[fitted.as_bytes()]));
                let encoder = format!("{}:{fitted:x}", self.described_by()?.key());
                (encoder, format!("{}:{FEATURE_SIDE}", modality.name()))
            }
        };
        let key =
            CacheKey { encoder: &encoder, preprocessing: &preprocessing, dataset: fingerprint, condition: &condition };
        let cached = FeatureCache::new(cache_folder()).get_or_build(&key, (rows.len(), dim), || self.make(wanted))?;
        if let Some(note) = &cached.note {
            eprintln!("balgrad: {note}");
        }
        Ok(cached.values().to_vec())
    }

    fn make(&self, wanted: &Wanted<'_>) -> Result<Vec<f32>> {
        let Wanted { dataset, rows, modality, impairment, seed, .. } = *wanted;
        let dim = self.dim()?;
        let Some(card) = &self.network else {
            let featurizer = self.described_by()?;
            let one = |&i: &usize| -> Vec<f32> {
                match show(&dataset.samples[i], modality, impairment, None, seed) {
                    Ok(shown) => shown.and_then(|s| described(&*featurizer, s)).unwrap_or_else(|| vec![0.0; dim]),
                    Err(_) => vec![f32::NAN; dim],
                }
            };
            return Ok(rows.par_iter().map(one).collect::<Vec<_>>().concat());
        };
        let network = self.open(card)?;
        let mut values = Vec::with_capacity(rows.len() * dim);
        let progress = progress(rows.len(), modality);
        for some in rows.chunks(BATCH) {
            let sample = |&i: &usize| show(&dataset.samples[i], modality, impairment, card.mask_word.as_deref(), seed);
            let shown: Vec<_> = some.par_iter().map(sample).collect();
            let broken: Vec<bool> = shown.iter().map(Result::is_err).collect();
            let mut made = network.features(shown.into_iter().map(|s| s.ok().flatten()).collect())?;
            for (row, _) in made.chunks_exact_mut(dim).zip(broken).filter(|(_, broken)| *broken) {
                row.fill(f32::NAN);
            }
            values.extend(made);
            progress.inc(some.len() as u64);
            crate::interrupt::check()?;
        }
        progress.finish_and_clear();
        Ok(values)
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(samples: usize, modality: Modality) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    let bar = indicatif::ProgressBar::new(samples as u64).with_message(format!("{} features", modality.name()));
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

/// Where features are kept: `BALGRAD_CACHE`, else the user's cache folder.
fn cache_folder() -> PathBuf {
    let named = std::env::var_os("BALGRAD_CACHE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let user = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    named.unwrap_or_else(|| user().unwrap_or_else(std::env::temp_dir).join("balgrad")).join("features")
}
