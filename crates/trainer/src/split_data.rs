//! The samples of one split under one condition, as the encoders will read them. Sources are decoded, and features fetched, batch
//! by batch.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use balgrad_data::{Ahead, Dataset, LoadError, Sample, Task, load, stable_hash};
use balgrad_encoders::{CachedFeatures, Draw, Input, Item, Reader, Standardizer, View};
use candle_core::{Device, Tensor};

use crate::channel::readable_row;
use crate::metrics::Truth;

#[cfg(all(test, target_os = "linux"))]
mod memory;

/// The features of one modality.
pub(crate) struct Table {
    /// One table, a row for each sample of the split; or several, of which each epoch draws one for each sample.
    pub(crate) tables: Vec<Arc<CachedFeatures>>,
    /// Applied to the rows of samples that have the modality.
    pub(crate) standardizer: Option<Standardizer>,
    /// The features of a missing modality.
    pub(crate) missing: Vec<f32>,
}

/// How one modality is fetched.
pub(crate) enum Feed {
    /// From a table of features.
    Frozen(Table),
    /// By the model's encoder, which reads each part under this view.
    Live(View),
}

/// The samples of one split under one condition. Copies share everything.
#[derive(Clone)]
pub(crate) struct SplitData {
    dataset: Arc<Dataset>,
    /// The samples, as positions in the data set, and as rows of the tables.
    positions: Arc<[usize]>,
    places: Arc<[u32]>,
    truth: Arc<Truths>,
    feeds: Arc<[Feed]>,
    /// Bit `m`: modality `m` is taken away from every sample.
    hidden: usize,
    workers: usize,
}

/// The true answers of all samples, as scores read them.
enum Truths {
    /// Class indices, ascending.
    Labels(Vec<Vec<u32>>),
    /// Numbers, in their own units.
    Values(Vec<Vec<f64>>),
}

/// A sample that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pick {
    /// Which of the split's samples.
    pub sample: usize,
    /// The one modality that it is shown with, where it is not shown whole.
    pub only: Option<usize>,
}

impl From<usize> for Pick {
    fn from(sample: usize) -> Self {
        Self { sample, only: None }
    }
}

/// How training samples differ from the split's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variation {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: usize,
    /// Chance that a sample loses a given modality; it never loses two.
    pub dropout: f64,
    /// Whether what trained encoders read is changed a little.
    pub augment: bool,
}

impl Variation {
    fn hash(&self, purpose: &[u8], id: &str) -> u64 {
        stable_hash(&[&self.seed.to_le_bytes(), &(self.epoch as u64).to_le_bytes(), purpose, id.as_bytes()])
    }

    /// The modality that a sample loses in this epoch, if any (ModDrop, Neverova et al. 2015): with `u ~ U(0, 1)` the
    /// first if `u < p`, the second if `p ≤ u < 2p`, and so on.
    fn lost(&self, id: &str, modalities: usize) -> Option<usize> {
        if self.dropout <= 0.0 {
            return None;
        }
        let u = self.hash(b"modality dropout", id) as f64 / u64::MAX as f64;
        (0..modalities).find(|m| u < self.dropout * (*m as f64 + 1.0))
    }
}

impl SplitData {
    /// The samples at `positions` of a data set, which stand at `places` in the tables; with `workers` threads that work ahead where
    /// sources are read.
    pub(crate) fn new(
        dataset: Arc<Dataset>,
        positions: Vec<usize>,
        places: Arc<[u32]>,
        feeds: Vec<Feed>,
        workers: usize,
    ) -> Self {
        let targets = || positions.iter().map(|&position| &dataset.samples[position].target);
        let truth = match dataset.task {
            Task::Regression => {
                Truths::Values(targets().map(|t| t.values().iter().map(|v| f64::from(*v)).collect()).collect())
            }
            _ => Truths::Labels(targets().map(|t| t.classes().to_vec()).collect()),
        };
        let truth = Arc::new(truth);
        Self { dataset, positions: positions.into(), places, truth, feeds: feeds.into(), hidden: 0, workers }
    }

    /// How many samples.
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is no sample.
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// A sample, as the data set has it.
    pub(crate) fn sample(&self, i: usize) -> &Sample {
        &self.dataset.samples[self.positions[i]]
    }

    /// All samples, in order.
    pub(crate) fn samples(&self) -> impl ExactSizeIterator<Item = &Sample> {
        self.positions.iter().map(|&position| &self.dataset.samples[position])
    }

    /// The true answers of all samples, in order.
    pub(crate) fn truth(&self) -> Truth<'_> {
        match &*self.truth {
            Truths::Labels(labels) => Truth::Labels(labels),
            Truths::Values(values) => Truth::Values(values),
        }
    }

    /// Class indices of each sample, ascending; none of a regression.
    pub(crate) fn labels(&self) -> &[Vec<u32>] {
        if let Truths::Labels(labels) = &*self.truth { labels } else { &[] }
    }

    /// The modalities that a sample has and is shown with: bit `m` stands for modality `m`.
    pub(crate) fn shown(&self, i: usize) -> usize {
        let has = |(m, part): (usize, &Option<_>)| usize::from(part.is_some()) << m;
        self.sample(i).parts.iter().enumerate().map(has).sum::<usize>() & !self.hidden
    }

    /// Whether every modality is read from a table, so that a batch costs little.
    pub(crate) fn is_frozen(&self) -> bool {
        self.feeds.iter().all(|feed| matches!(feed, Feed::Frozen(_)))
    }

    /// The same samples as if only the modalities in `shown` were there: bit `m` stands for modality `m`.
    #[must_use]
    pub(crate) fn showing(&self, shown: usize) -> Self {
        Self { hidden: self.hidden | !shown, ..self.clone() }
    }

    /// Gives `with` all samples in order, with their inputs, up to `batch` at a time.
    ///
    /// # Errors
    /// As for [`feed`](Self::feed).
    pub(crate) fn feed_all(
        &self,
        batch: usize,
        readers: &[&dyn Reader],
        device: &Device,
        mut with: impl FnMut(&[usize], Vec<Input>) -> Result<()>,
    ) -> Result<()> {
        let picks: Vec<Pick> = (0..self.len()).map(Pick::from).collect();
        self.feed(&picks, batch, None, readers, device, |batches| {
            for made in batches {
                let (picks, inputs) = made?;
                with(&picks.iter().map(|pick| pick.sample).collect::<Vec<_>>(), inputs)?;
            }
            Ok(())
        })
    }

    /// Gives `with` an iterator of batches of the samples in `picks`, in order, with their inputs, one for each modality: up to
    /// `batch` at a time, as they stand or varied for training. While one is worked on the next are made.
    ///
    /// # Errors
    /// What `with` returns. The iterator yields an error for a sample that cannot be read any more, or a device that refuses the
    /// memory.
    pub(crate) fn feed<R>(
        &self,
        picks: &[Pick],
        batch: usize,
        variation: Option<&Variation>,
        readers: &[&dyn Reader],
        device: &Device,
        with: impl FnOnce(&mut dyn Iterator<Item = Result<(&[Pick], Vec<Input>)>>) -> Result<R>,
    ) -> Result<R> {
        if readers.len() != self.feeds.len() {
            bail!("the model has {} modalities, the data {}", readers.len(), self.feeds.len());
        }
        // Fetching features is no work for a thread.
        let ahead = Ahead { batch, workers: if self.is_frozen() { 0 } else { self.workers }, batches: 2 };
        let items = |pick: &Pick| self.items(*pick, variation, readers);
        load(picks, ahead, items, |batches| {
            let inputs = |made: Result<_, _>| {
                let (picks, items): (&[Pick], Vec<Vec<Item>>) = made.map_err(unloaded)?;
                Ok((picks, self.inputs(picks, items, variation, readers, device)?))
            };
            with(&mut batches.map(inputs))
        })
    }

    /// Whether a sample is shown with a modality.
    fn shows(&self, pick: Pick, m: usize, variation: Option<&Variation>) -> bool {
        self.hidden >> m & 1 == 0
            && match (pick.only, variation) {
                (Some(only), _) => only == m,
                (None, Some(v)) => v.lost(&self.sample(pick.sample).id, self.feeds.len()) != Some(m),
                (None, None) => true,
            }
    }

    /// What a worker makes of a sample: an item for each modality.
    fn items(&self, pick: Pick, variation: Option<&Variation>, readers: &[&dyn Reader]) -> Result<Vec<Item>> {
        let sample = self.sample(pick.sample);
        let item = |(m, (feed, reader)): (usize, (&Feed, &&dyn Reader))| -> Result<Item> {
            let (Feed::Live(view), Some(Some(source))) = (feed, sample.parts.get(m)) else { return Ok(Item::Missing) };
            if !self.shows(pick, m, variation) {
                return Ok(Item::Missing);
            }
            let mut item = reader.item(source, &sample.id, view)?;
            if let Some(v) = variation.filter(|v| v.augment) {
                reader.augment(&mut item, Draw { seed: v.seed, epoch: v.epoch as u64, id: &sample.id });
            }
            Ok(item)
        };
        let all = self.feeds.iter().zip(readers).enumerate().map(item).collect::<Result<_>>();
        all.with_context(|| format!("sample `{}`", sample.id))
    }

    /// The inputs of some samples, one for each modality.
    fn inputs(
        &self,
        picks: &[Pick],
        items: Vec<Vec<Item>>,
        variation: Option<&Variation>,
        readers: &[&dyn Reader],
        device: &Device,
    ) -> Result<Vec<Input>> {
        let mut items: Vec<_> = items.into_iter().map(Vec::into_iter).collect();
        let one = |(m, (feed, reader)): (usize, (&Feed, &&dyn Reader))| -> Result<Input> {
            let column: Vec<Item> = items.iter_mut().filter_map(Iterator::next).collect();
            Ok(match feed {
                Feed::Frozen(table) => Input::Features(self.features(m, table, picks, variation, device)?),
                Feed::Live(_) => reader.collate(&column, device)?,
            })
        };
        self.feeds.iter().zip(readers).enumerate().map(one).collect()
    }

    /// Features of some samples, `[picks, dim]`.
    fn features(
        &self,
        m: usize,
        table: &Table,
        picks: &[Pick],
        variation: Option<&Variation>,
        device: &Device,
    ) -> Result<Tensor> {
        let Table { tables, standardizer, missing } = table;
        let mut values = Vec::with_capacity(picks.len() * missing.len());
        for pick in picks {
            if !self.shows(*pick, m, variation) {
                values.extend_from_slice(missing);
                continue;
            }
            let sample = self.sample(pick.sample);
            let table = match (variation, tables.len() as u64) {
                (Some(v), count @ 2..) => (v.hash(b"feature variant", &sample.id) % count) as usize,
                _ => 0,
            };
            let row = tables.get(table).and_then(|table| readable_row(table, self.places[pick.sample] as usize));
            let row = row.with_context(|| {
                format!("sample `{}`: it has no features; was it changed while this ran? Start again", sample.id)
            })?;
            let start = values.len();
            values.extend_from_slice(row);
            if let (Some(standardizer), Some(Some(_))) = (standardizer, sample.parts.get(m)) {
                standardizer.apply(&mut values[start..]);
            }
        }
        Ok(Tensor::from_vec(values, (picks.len(), missing.len()), device)?)
    }
}

/// Why a batch could not be made.
pub(crate) fn unloaded(error: LoadError<anyhow::Error>) -> anyhow::Error {
    match error {
        LoadError::Sample(error) => error,
        LoadError::Panicked(_) => anyhow!(error),
    }
}
