//! Frozen encoders: unlearned featurisers and pretrained networks, whose features are computed once and cached.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail};
use balgrad_data::{Ahead, DataError, Framing, Modality, Sample, Split, load, stable_hash};
use balgrad_encoders::{
    CacheKey, CachedFeatures, Encoder, EncoderKind, Expects, FeatureCache, FeatureWriter, Featurizer, Input,
    ModelFiles, Parameters, Tokenizer, encoder,
};
use candle_core::{DType, Device};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Origin, framing};
use crate::Usage;
use crate::bank::unloaded;
use crate::environment::{cache_folder, hub};
use crate::readable::Readable;
use crate::shown::{Look, Piece, Shown, show};

/// Pixels a side that image featurisers look at.
const FEATURE_SIDE: u32 = 64;

/// Samples in one forward pass of a network.
const BATCH: usize = 32;

/// Samples that a featuriser describes between two looks at a signal.
const PIECE: usize = 512;

/// What must be known of a pretrained network to use its features.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NetworkCard {
    origin: Origin,
    /// Hash of weights, tokenizer and preprocessing.
    digest: String,
    /// The features of a missing modality.
    missing: Vec<f32>,
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

/// The files of a pretrained encoder: those that its origin names, else its usual model.
pub(super) fn files(name: &str, origin: &Origin) -> Result<ModelFiles> {
    let entry = encoder(name)?;
    let EncoderKind::Pretrained { model, .. } = entry.kind else { bail!("`{name}` is not pretrained") };
    let place = if origin.place.is_empty() { model } else { origin.place.strip_prefix("hf:").unwrap_or(&origin.place) };
    if place.is_empty() {
        let modality = entry.modality;
        return Err(Usage(format!(
            "`{name}` has no usual model on the hub: name a folder with its weights by --set weights.{modality}=DIR"
        ))
        .into());
    }
    let files = ModelFiles::open(place, &hub()).map_err(|e| Usage(e.to_string()))?;
    Ok(origin.apply(files))
}

/// The tokenizer of a text encoder.
pub(super) fn tokenizer(files: &ModelFiles) -> Result<Tokenizer> {
    let missing = || format!("{}: no tokenizer.json and no vocab.txt beside the weights", files.place());
    files.tokenizer()?.with_context(missing)
}

impl Network {
    /// Loads a network, once per process.
    fn open(name: &str, origin: &Origin) -> Result<Arc<Self>> {
        type Loaded = Mutex<HashMap<(String, Origin), Arc<Network>>>;
        static LOADED: OnceLock<Loaded> = OnceLock::new();
        let mut loaded = LOADED.get_or_init(Loaded::default).lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), origin.clone());
        if let Some(network) = loaded.get(&key) {
            return Ok(Arc::clone(network));
        }
        let files = files(name, origin)?;
        let EncoderKind::Pretrained { build, .. } = encoder(name)?.kind else { bail!("`{name}` is not pretrained") };
        let parameters = Parameters::new(0, &Device::Cpu).frozen();
        let encoder = build(&files, &parameters).with_context(|| format!("`{name}` from {}", files.place()))?;
        let tokenizer = match encoder.expects() {
            Expects::Tokens { .. } => Some(tokenizer(&files)?),
            _ => None,
        };
        let split = tokenizer.as_ref().map(Tokenizer::key).transpose()?.unwrap_or_default();
        let reads = stable_hash(&[split.as_bytes(), format!("{:?}", encoder.expects()).as_bytes()]);
        let digest = format!("{}:{reads:016x}", parameters.digest()?);
        let network = Arc::new(Self { encoder, tokenizer, digest });
        loaded.insert(key, Arc::clone(&network));
        Ok(network)
    }

    fn mask_word(&self) -> Option<&str> {
        self.tokenizer.as_ref().and_then(Tokenizer::mask_word)
    }

    /// What enters the network of a sample's image or text.
    fn prepare(&self, sample: &Sample, modality: Modality, look: &Look) -> Result<Piece> {
        let framing = framing(self.encoder.expects());
        let Some(shown) = show(sample, modality, look, self.mask_word(), Some(&framing))? else {
            return Ok(Piece::Missing);
        };
        match &self.tokenizer {
            Some(tokenizer) => shown.tokens(tokenizer),
            None => Ok(shown.pixels(&framing, look, sample)),
        }
    }

    /// The features of some samples, one row each.
    fn features(&self, pieces: &[Piece]) -> Result<Vec<f32>> {
        self.rows(&Piece::batch(pieces, self.encoder.expects(), &Device::Cpu)?)
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

/// A featuriser's row of a sample, zeros where it lacks the modality.
fn described(
    featurizer: &dyn Featurizer,
    sample: &Sample,
    modality: Modality,
    look: &Look,
) -> Result<Vec<f32>, DataError> {
    let framing = Framing::whole(FEATURE_SIDE);
    let row = match show(sample, modality, look, None, Some(&framing))? {
        Some(Shown::Text(text)) => featurizer.text(&text),
        Some(image) => {
            let side = FEATURE_SIDE as usize;
            let piece = image.pixels(&framing, look, sample);
            piece.as_pixels().and_then(|pixels| featurizer.image(pixels, side, side))
        }
        None => None,
    };
    Ok(row.unwrap_or_else(|| vec![0.0; featurizer.dim()]))
}

/// Which samples, and as what.
pub(super) struct Wanted<'a> {
    pub(super) data: &'a Readable,
    pub(super) split: Split,
    /// All samples of the split, as positions in the data set.
    pub(super) rows: &'a [usize],
    pub(super) modality: Modality,
    pub(super) look: Look,
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
    pub(super) fn network(name: &str, origin: &Origin) -> Result<Self> {
        let network = Network::open(name, origin)?;
        let nothing = network.encoder.expects().missing(1, DType::F32, &Device::Cpu)?;
        let (origin, digest) = (origin.clone(), network.digest.clone());
        let card = NetworkCard { origin, digest, missing: network.rows(&nothing)? };
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

    /// The features of a missing modality.
    pub(super) fn missing(&self) -> Result<Vec<f32>> {
        match &self.network {
            Some(card) => Ok(card.missing.clone()),
            None => Ok(vec![0.0; self.dim()?]),
        }
    }

    /// The features of one sample.
    pub(super) fn one(&self, sample: &Sample, modality: Modality) -> Result<Vec<f32>> {
        let look = Look::default();
        match &self.network {
            Some(card) => {
                let network = self.open(card)?;
                network.features(&[network.prepare(sample, modality, &look)?])
            }
            None => Ok(described(&*self.described_by()?, sample, modality, &look)?),
        }
    }

    fn open(&self, card: &NetworkCard) -> Result<Arc<Network>> {
        let network = Network::open(&self.encoder, &card.origin)?;
        if network.digest != card.digest {
            let (place, name) = (&card.origin.place, &self.encoder);
            bail!("{place}: other weights of `{name}` than those that were trained with");
        }
        Ok(network)
    }

    /// A table of features, a row for each sample, from the cache where it is there. A sample that cannot be read has NaN
    /// for features.
    pub(super) fn features(&self, wanted: &Wanted<'_>) -> Result<Arc<CachedFeatures>> {
        let (encoder, side) = match &self.network {
            Some(card) => (format!("{}:{}", self.encoder, card.digest), 0),
            None => {
                let fitted = stable_hash(&[self.fitted.as_deref().unwrap_or_default().as_bytes()]);
                (format!("{}:{fitted:016x}", self.described_by()?.key()), FEATURE_SIDE)
            }
        };
        let (preprocessing, condition) =
            (format!("{}:{side}", wanted.modality.name()), format!("{}:{}", wanted.split.name(), wanted.look.key()));
        let key = CacheKey {
            encoder: &encoder,
            preprocessing: &preprocessing,
            dataset: &wanted.data.fingerprint,
            condition: &condition,
        };
        let shape = (wanted.rows.len(), self.dim()?);
        let cache = FeatureCache::new(cache_folder());
        let cached = cache.get_or_build(&key, shape, |writer| self.make(wanted, writer))?;
        if let Some(note) = &cached.note {
            eprintln!("balgrad: {note}");
        }
        Ok(Arc::new(cached))
    }

    fn make(&self, wanted: &Wanted<'_>, writer: &mut FeatureWriter) -> Result<()> {
        let Wanted { data, rows, modality, look, .. } = wanted;
        let samples: Vec<&Sample> = rows.iter().map(|&row| &data.dataset.samples[row]).collect();
        let dim = self.dim()?;
        let progress = progress(wanted);
        let mut keep = |values: &[f32]| -> Result<()> {
            writer.append(values)?;
            progress.inc((values.len() / dim.max(1)) as u64);
            Ok(crate::interrupt::check()?)
        };
        if let Some(card) = &self.network {
            let network = self.open(card)?;
            let ahead = Ahead { batch: BATCH, workers: rayon::current_num_threads(), batches: 2 };
            // What cannot be read has no features; that is no failure of the others.
            let prepare = |sample: &&Sample| match network.prepare(sample, *modality, look) {
                Err(error) if error.is::<DataError>() => Ok(None),
                piece => piece.map(Some),
            };
            load(&samples, ahead, prepare, |batches| -> Result<()> {
                for batch in batches {
                    let (_, pieces) = batch.map_err(unloaded)?;
                    let broken: Vec<bool> = pieces.iter().map(Option::is_none).collect();
                    let pieces: Vec<Piece> = pieces.into_iter().map(|p| p.unwrap_or(Piece::Missing)).collect();
                    let mut made = network.features(&pieces)?;
                    for (row, _) in made.chunks_exact_mut(dim).zip(broken).filter(|(_, broken)| *broken) {
                        row.fill(f32::NAN);
                    }
                    keep(&made)?;
                }
                Ok(())
            })?;
        } else {
            let featurizer = self.described_by()?;
            let one = |sample: &&Sample| {
                described(&*featurizer, sample, *modality, look).unwrap_or_else(|_| vec![f32::NAN; dim])
            };
            for some in samples.chunks(PIECE) {
                keep(&some.par_iter().map(one).collect::<Vec<_>>().concat())?;
            }
        }
        progress.finish_and_clear();
        Ok(())
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress(wanted: &Wanted<'_>) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    let name = format!("{} {} {}", wanted.split.name(), wanted.modality.name(), wanted.look.key());
    let bar = indicatif::ProgressBar::new(wanted.rows.len() as u64).with_message(name);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}
