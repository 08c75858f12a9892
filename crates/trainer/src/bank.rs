//! A bank: the samples of one split under one condition, as the towers will see them. It holds references; images are
//! decoded, texts split and features fetched batch by batch.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use balgrad::Labels;
use balgrad_data::{Ahead, Dataset, Framing, LoadError, Modality, Sample, load};
use balgrad_encoders::{Augment, CachedFeatures, Draw, Expects, Input, Standardizer, Tokenizer};
use candle_core::{DType, Device, Tensor};

use crate::shown::{Look, Piece, has, show};

/// How one modality is fetched.
pub enum Seen {
    /// Features of a frozen encoder.
    Features {
        /// One table, a row for each place; or several, of which each epoch draws one for each sample.
        tables: Vec<Arc<CachedFeatures>>,
        /// The row of each sample.
        places: Arc<[u32]>,
        /// Applied to the rows of samples that have the modality.
        standardizer: Option<Standardizer>,
        /// The features of a missing modality.
        missing: Vec<f32>,
    },
    /// Images that are decoded and framed.
    Images {
        /// The square that is seen.
        framing: Framing,
        /// What is done to the image first.
        look: Look,
    },
    /// Texts that are split into tokens.
    Tokens {
        /// Splits them.
        tokenizer: Box<Tokenizer>,
        /// What is done to the text first.
        look: Look,
    },
}

/// The samples of one split under one condition. Copies share everything.
#[derive(Clone)]
pub struct Bank {
    dataset: Arc<Dataset>,
    /// The samples, as positions in the data set.
    rows: Arc<[usize]>,
    /// Class indices of each sample, ascending.
    pub labels: Arc<[Vec<u32>]>,
    seen: Arc<[Seen]>,
    /// Bit `m`: modality `m` is taken away from every sample.
    hidden: usize,
    workers: usize,
}

/// A sample that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which of the bank's samples.
    pub row: usize,
    /// The one modality that it is shown with, where it is not shown whole.
    pub shown: Option<usize>,
}

impl From<usize> for Place {
    fn from(row: usize) -> Self {
        Self { row, shown: None }
    }
}

/// How a training sample differs from what stands in the bank.
#[derive(Debug, Clone, Copy)]
pub struct Variation {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: usize,
    /// Chance that a sample loses a given modality (never both).
    pub dropout: f64,
    /// Small changes to images and texts for encoders that start from nothing.
    pub augment: Augment,
}

impl Variation {
    fn draw<'a>(&self, id: &'a str) -> Draw<'a> {
        Draw { seed: self.seed, epoch: self.epoch as u64, id }
    }

    fn hash(&self, purpose: &[u8], id: &str) -> u64 {
        balgrad_data::stable_hash(&[
            &self.seed.to_le_bytes(),
            &(self.epoch as u64).to_le_bytes(),
            purpose,
            id.as_bytes(),
        ])
    }

    /// The modality that a sample loses in this epoch, if any (ModDrop, Neverova et al. 2015): with `u ~ U(0, 1)` the
    /// first if `u < p`, the second if `p ≤ u < 2p`.
    fn lost(&self, id: &str, modalities: usize) -> Option<usize> {
        if self.dropout <= 0.0 {
            return None;
        }
        let u = self.hash(b"modality dropout", id) as f64 / u64::MAX as f64;
        (0..modalities).find(|m| u < self.dropout * (*m as f64 + 1.0))
    }
}

impl Bank {
    /// The samples at `rows` of a data set; with `workers` threads that work ahead where images or texts are read.
    pub fn new(dataset: Arc<Dataset>, rows: Vec<usize>, seen: Vec<Seen>, workers: usize) -> Self {
        let labels = rows.iter().map(|&row| dataset.samples[row].labels.clone()).collect();
        Self { dataset, rows: rows.into(), labels, seen: seen.into(), hidden: 0, workers }
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A sample's id.
    pub fn id(&self, row: usize) -> &str {
        &self.sample(row).id
    }

    fn sample(&self, row: usize) -> &Sample {
        &self.dataset.samples[self.rows[row]]
    }

    /// The same samples as if only the modalities in `shown` were there: bit `m` stands for modality `m`.
    #[must_use]
    pub fn showing(&self, shown: usize) -> Self {
        Self { hidden: self.hidden | !shown, ..self.clone() }
    }

    /// Gives `with` all samples in order, with their inputs, up to `batch` at a time.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed).
    pub fn feed_all(
        &self,
        batch: usize,
        expects: &[&Expects],
        device: &Device,
        mut with: impl FnMut(&[usize], Vec<Input>) -> Result<()>,
    ) -> Result<()> {
        let places: Vec<Place> = (0..self.len()).map(Place::from).collect();
        self.feed(&places, batch, None, expects, device, |places, inputs| {
            with(&places.iter().map(|place| place.row).collect::<Vec<_>>(), inputs)?;
            Ok(true)
        })
    }

    /// Gives `with` the samples at `places` in order, with their inputs, one for each modality: up to `batch` at a time, as
    /// they stand or varied for training, until it answers `false`. While it works the next batches are made.
    ///
    /// # Errors
    /// A sample that cannot be read any more, a device that refuses the memory, or what `with` answers.
    pub fn feed(
        &self,
        places: &[Place],
        batch: usize,
        variation: Option<&Variation>,
        expects: &[&Expects],
        device: &Device,
        mut with: impl FnMut(&[Place], Vec<Input>) -> Result<bool>,
    ) -> Result<()> {
        // Fetching features is no work for a thread.
        let fetched = self.seen.iter().all(|seen| matches!(seen, Seen::Features { .. }));
        let ahead = Ahead { batch, workers: if fetched { 0 } else { self.workers }, batches: 2 };
        load(
            places,
            ahead,
            |place| self.pieces(*place, variation),
            |batches| {
                for made in batches {
                    let (places, pieces) = made.map_err(unloaded)?;
                    if !with(places, self.inputs(places, pieces, variation, expects, device)?)? {
                        break;
                    }
                }
                Ok(())
            },
        )
    }

    /// Whether a sample is shown with a modality.
    fn keeps(&self, place: Place, m: usize, variation: Option<&Variation>) -> bool {
        self.hidden >> m & 1 == 0
            && match (place.shown, variation) {
                (Some(shown), _) => shown == m,
                (None, Some(v)) => v.lost(self.id(place.row), self.seen.len()) != Some(m),
                (None, None) => true,
            }
    }

    /// What a worker makes of a sample.
    fn pieces(&self, place: Place, variation: Option<&Variation>) -> Result<Vec<Piece>> {
        let sample = self.sample(place.row);
        let piece = |(m, (seen, modality)): (usize, (&Seen, Modality))| -> Result<Piece> {
            let (look, mask_word, framing) = match seen {
                Seen::Features { .. } => return Ok(Piece::Missing),
                Seen::Images { look, framing } => (look, None, Some(framing)),
                Seen::Tokens { tokenizer, look } => (look, tokenizer.mask_word(), None),
            };
            let shown = match self.keeps(place, m, variation) {
                true => show(sample, modality, look, mask_word, framing)?,
                false => None,
            };
            let Some(shown) = shown else { return Ok(Piece::Missing) };
            let mut piece = match seen {
                Seen::Tokens { tokenizer, .. } => shown.tokens(tokenizer)?,
                Seen::Images { framing, .. } => shown.pixels(framing, look, sample),
                Seen::Features { .. } => Piece::Missing,
            };
            if let Some(v) = variation {
                match (&mut piece, seen) {
                    (Piece::Tokens(tokens), Seen::Tokens { tokenizer, .. }) => {
                        v.augment.tokens(tokens, tokenizer.splits(), v.draw(&sample.id));
                    }
                    (Piece::Pixels(pixels), Seen::Images { framing, .. }) => {
                        v.augment.pixels(pixels, framing.size as usize, v.draw(&sample.id));
                    }
                    _ => {}
                }
            }
            Ok(piece)
        };
        let all = self.seen.iter().zip(Modality::ALL).enumerate().map(piece).collect::<Result<_>>();
        all.with_context(|| format!("sample `{}`", sample.id))
    }

    /// The inputs of some samples, one for each modality.
    fn inputs(
        &self,
        places: &[Place],
        pieces: Vec<Vec<Piece>>,
        variation: Option<&Variation>,
        expects: &[&Expects],
        device: &Device,
    ) -> Result<Vec<Input>> {
        let mut pieces: Vec<_> = pieces.into_iter().map(Vec::into_iter).collect();
        let one = |(m, seen): (usize, &Seen)| -> Result<Input> {
            let Some(expects) = expects.get(m) else { bail!("the model has no tower for modality {m}") };
            let column: Vec<Piece> = pieces.iter_mut().filter_map(Iterator::next).collect();
            Ok(match seen {
                Seen::Features { .. } => Input::Features(self.features(m, places, variation, device)?),
                Seen::Images { .. } | Seen::Tokens { .. } => Piece::batch(&column, expects, device)?,
            })
        };
        self.seen.iter().enumerate().map(one).collect()
    }

    /// Features of some samples, `[places, dim]`.
    fn features(&self, m: usize, places: &[Place], variation: Option<&Variation>, device: &Device) -> Result<Tensor> {
        let Seen::Features { tables, places: rows, standardizer, missing } = &self.seen[m] else {
            bail!("modality {m} is not seen by its features")
        };
        let mut values = Vec::with_capacity(places.len() * missing.len());
        for place in places {
            if !self.keeps(*place, m, variation) {
                values.extend_from_slice(missing);
                continue;
            }
            let sample = self.sample(place.row);
            let table = match (variation, tables.len() as u64) {
                (Some(v), count @ 2..) => (v.hash(b"feature variant", &sample.id) % count) as usize,
                _ => 0,
            };
            let row = tables.get(table).and_then(|table| table.row(rows[place.row] as usize));
            let row = row.filter(|row| row.first().is_some_and(|v| !v.is_nan())).with_context(|| {
                format!("sample `{}`: it has no features; was it changed while this ran? Start again", sample.id)
            })?;
            let start = values.len();
            values.extend_from_slice(row);
            if let (Some(standardizer), true) = (standardizer, has(sample, Modality::ALL[m])) {
                standardizer.apply(&mut values[start..]);
            }
        }
        Ok(Tensor::from_vec(values, (places.len(), missing.len()), device)?)
    }
}

/// Why a batch could not be made.
pub(crate) fn unloaded(error: LoadError<anyhow::Error>) -> anyhow::Error {
    match error {
        LoadError::Sample(error) => error,
        LoadError::Panicked(_) => anyhow!(error),
    }
}

/// The truth of some rows as the losses read it, with optional class weights `[classes]`.
///
/// # Errors
/// When the device refuses the memory.
pub fn labels(
    bank: &Bank,
    rows: &[usize],
    classes: usize,
    multilabel: bool,
    weights: Option<&Tensor>,
    device: &Device,
) -> Result<Labels> {
    if multilabel {
        let mut targets = vec![0f32; rows.len() * classes];
        for (row, target) in rows.iter().zip(targets.chunks_exact_mut(classes)) {
            bank.labels[*row].iter().for_each(|&c| target[c as usize] = 1.0);
        }
        let targets = Tensor::from_vec(targets, (rows.len(), classes), device)?;
        return Ok(Labels::Many { targets, positive_weights: weights.cloned() });
    }
    let ids: Vec<u32> = rows.iter().map(|&r| bank.labels[r].first().copied().unwrap_or(0)).collect();
    Ok(Labels::Classes { ids: Tensor::new(ids, device)?, weights: weights.cloned() })
}

/// Weights that make up for unequal class counts: `n / (classes · n_c)`, or for multi-label tasks negatives over
/// positives; 1 for a class without samples.
///
/// # Errors
/// When the device refuses the memory.
pub fn balanced_weights(bank: &Bank, classes: usize, multilabel: bool, device: &Device) -> Result<Tensor> {
    let mut counts = vec![0f64; classes];
    bank.labels.iter().flatten().for_each(|&c| counts[c as usize] += 1.0);
    let n = bank.len() as f64;
    let weight = |c: &f64| match (multilabel, *c) {
        (_, 0.0) => 1.0,
        (true, c) => (n - c) / c,
        (false, c) => n / (classes as f64 * c),
    };
    let weights: Vec<f64> = counts.iter().map(weight).collect();
    Ok(Tensor::new(weights, device)?.to_dtype(DType::F32)?)
}
