//! Frozen encoders at work: features computed once, and cached.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use balgrad_data::{Ahead, Sample, Source, Split, load, stable_hash};
use balgrad_encoders::{
    CacheKey, CachedFeatures, Encoder, EncoderKind, Error, FeatureCache, FeatureWriter, Input, Item, Parameters,
    Reader, Standardizer, View,
};
use candle_core::{DType, Device, Tensor};

use super::{Channel, Mode};
use crate::environment::cache_folder;
use crate::readable::Readable;
use crate::split_data::{Table, unloaded};

/// Samples in one forward pass.
const BATCH: usize = 32;

/// A frozen encoder, and a hash of all that decides its features.
pub(crate) struct Loaded {
    encoder: Box<dyn Encoder>,
    digest: String,
}

impl Loaded {
    pub(super) fn reader(&self) -> &dyn Reader {
        self.encoder.reader()
    }

    /// The features of some items, one row each.
    pub(super) fn rows(&self, items: &[Item]) -> Result<Vec<f32>> {
        let input = self.encoder.reader().collate(items, &Device::Cpu)?;
        Ok(self.encoder.forward(&input)?.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    /// Finds out what features are.
    pub(super) fn settle(&mut self) -> Result<()> {
        let loaded = self.loaded()?;
        let (digest, missing) = (loaded.digest.clone(), loaded.rows(&[Item::Missing])?);
        self.spec.mode = Mode::Frozen { digest, missing, standardizer: None };
        Ok(())
    }

    /// Standardises features where they want it, as those of the training split need it.
    pub(crate) fn standardize(&mut self, data: &Readable) -> Result<()> {
        if let EncoderKind::Handcrafted { standardize: true, .. } = self.entry.kind {
            let table = self.table(data, Split::Train, View::default())?;
            let has = |place: &usize| data.has(self.modality, data.indices(Split::Train)[*place]);
            let rows =
                (0..data.indices(Split::Train).len()).filter(has).filter_map(|place| readable_row(&table, place));
            let fitted = Standardizer::fit(table.dim(), rows.collect::<Vec<_>>().into_iter());
            if let Mode::Frozen { standardizer, .. } = &mut self.spec.mode {
                *standardizer = Some(fitted);
            }
        }
        Ok(())
    }

    /// The encoder, loaded once for each time that it is let go.
    pub(super) fn loaded(&self) -> Result<Arc<Loaded>> {
        let mut slot = lock(&self.loaded);
        if let Some(loaded) = &*slot {
            return Ok(Arc::clone(loaded));
        }
        let name = self.entry.name;
        let (encoder, digest) = match (self.entry.kind, &self.spec.origin) {
            (EncoderKind::Handcrafted { build, .. }, _) => {
                let encoder = build(&self.spec.fitted)?;
                let fitted = stable_hash(&[self.spec.fitted.as_bytes()]);
                let digest = format!("{}:{fitted:016x}", encoder.reader().key()?);
                (encoder, digest)
            }
            (EncoderKind::Pretrained { .. }, Some(origin)) => {
                let files = origin.files(self.entry)?;
                let parameters = Parameters::new(0, &Device::Cpu).frozen();
                let encoder = self.entry.pretrained(&files, &parameters);
                let encoder = encoder.with_context(|| format!("`{name}` from {}", files.place()))?;
                let encoder = encoder.context("the encoder is pretrained")?;
                let reads = stable_hash(&[encoder.reader().key()?.as_bytes()]);
                let digest = format!("{name}:{}:{reads:016x}", parameters.digest()?);
                (encoder, digest)
            }
            _ => bail!("`{name}` has no features that could be computed once"),
        };
        if let Mode::Frozen { digest: known, .. } = &self.spec.mode
            && !known.is_empty()
            && *known != digest
        {
            let place = self.spec.origin.as_ref().map_or("", |origin| &origin.place);
            bail!("{place}: other weights of `{name}` than those that were trained with");
        }
        Ok(Arc::clone(slot.insert(Arc::new(Loaded { encoder, digest }))))
    }

    /// What is read of a part from outside any data set; `live` is the reader of an encoder that is part of the model.
    ///
    /// # Errors
    /// A part that cannot be decoded, or an encoder whose weights are gone.
    pub(crate) fn item(&self, source: &Source, live: &dyn Reader) -> Result<Item> {
        match self.is_frozen() {
            true => Ok(self.loaded()?.reader().item(source, "input", &View::default())?),
            false => Ok(live.item(source, "input", &View::default())?),
        }
    }

    /// What the model reads of such items.
    ///
    /// # Errors
    /// As for [`item`](Self::item), or a device that refuses the memory.
    pub(crate) fn input(&self, items: &[Item], live: &dyn Reader, device: &Device) -> Result<Input> {
        let Mode::Frozen { missing, standardizer, .. } = &self.spec.mode else {
            return Ok(live.collate(items, device)?);
        };
        let dim = missing.len();
        let mut values = missing.repeat(items.len());
        let here: Vec<usize> = (0..items.len()).filter(|&i| items[i] != Item::Missing).collect();
        for some in here.chunks(BATCH) {
            let present: Vec<Item> = some.iter().map(|&i| items[i].clone()).collect();
            let rows = self.loaded()?.rows(&present)?;
            if rows.len() != dim * some.len() {
                let (name, found) = (self.entry.name, rows.len() / some.len());
                bail!("`{name}` gives {found} features where the model reads {dim}");
            }
            for (&i, row) in some.iter().zip(rows.chunks_exact(dim)) {
                let place = &mut values[i * dim..][..dim];
                place.copy_from_slice(row);
                if let Some(standardizer) = standardizer {
                    standardizer.apply(place);
                }
            }
        }
        Ok(Input::Features(Tensor::from_vec(values, (items.len(), dim), device)?))
    }

    /// The features of a split as the model reads them: with `variants`, so many training variants of each sample in place of the
    /// sample as it is; where the modality is taken away, none.
    pub(crate) fn features(&self, data: &Readable, split: Split, views: &[View]) -> Result<Table> {
        let Mode::Frozen { missing, standardizer, .. } = &self.spec.mode else { bail!("the encoder is trained") };
        let tables = views.iter().map(|view| self.table(data, split, *view)).collect::<Result<_>>()?;
        Ok(Table { tables, standardizer: standardizer.clone(), missing: missing.clone() })
    }

    /// Which samples of a split can be read, by the first table that is made of them.
    pub(crate) fn readable(&self, data: &Readable, split: Split, view: View) -> Result<Vec<bool>> {
        let table = self.table(data, split, view)?;
        Ok((0..data.indices(split).len()).map(|place| readable_row(&table, place).is_some()).collect())
    }

    /// A table of features, a row for each sample of the split, from the cache where it is there. A sample that cannot be read has
    /// NaN for features.
    fn table(&self, data: &Readable, split: Split, view: View) -> Result<Arc<CachedFeatures>> {
        let (dim, condition) = (self.features_each()?, condition(split, &view));
        let shape = (data.indices(split).len(), dim);
        let build = |rows, writer: &mut FeatureWriter| self.compute(data, split, &view, rows, writer);
        let cached = FeatureCache::new(cache_folder()).get_or_join(&self.key(data, &condition)?, shape, build)?;
        if let Some(note) = &cached.note {
            say!("balgrad: {note}");
        }
        Ok(Arc::new(cached))
    }

    /// Computes some rows of such a table ahead, for whoever wants the whole; `part` says which of so many batches.
    pub(crate) fn compute_part(
        &self,
        data: &Readable,
        split: Split,
        view: View,
        part: impl Fn(usize) -> Range<usize>,
    ) -> Result<()> {
        let (dim, condition) = (self.features_each()?, condition(split, &view));
        let rows = data.indices(split).len();
        // Whole batches: the features of a sample may depend, in the last bit, on those beside it.
        let batches = part(rows.div_ceil(BATCH));
        let part = (batches.start * BATCH).min(rows)..(batches.end * BATCH).min(rows);
        let build = |writer: &mut FeatureWriter| self.compute(data, split, &view, part.clone(), writer);
        let cache = FeatureCache::new(cache_folder());
        let cached = cache.build_part(&self.key(data, &condition)?, (rows, dim), &part, build)?;
        if let Some(note) = cached.and_then(|cached| cached.note) {
            bail!("{note}: parts need a folder that all can write; BALGRAD_CACHE names another");
        }
        Ok(())
    }

    fn features_each(&self) -> Result<usize> {
        let Mode::Frozen { missing, .. } = &self.spec.mode else { bail!("the encoder is trained") };
        Ok(missing.len())
    }

    fn key<'a>(&'a self, data: &'a Readable, condition: &'a str) -> Result<CacheKey<'a>> {
        let Mode::Frozen { digest, .. } = &self.spec.mode else { bail!("the encoder is trained") };
        let (preprocessing, dataset) = (self.modality.name, data.fingerprint.as_str());
        Ok(CacheKey { encoder: digest, preprocessing, dataset, condition })
    }

    fn compute(
        &self,
        data: &Readable,
        split: Split,
        view: &View,
        rows: Range<usize>,
        writer: &mut FeatureWriter,
    ) -> Result<()> {
        let loaded = self.loaded()?;
        let samples: Vec<&Sample> = data.indices(split)[rows].iter().map(|&row| &data.dataset.samples[row]).collect();
        let Some(m) = data.dataset.modalities.iter().position(|m| *m == self.modality) else {
            bail!("{} has no {}", data.dataset.name, self.modality.name)
        };
        let dim = loaded.encoder.dim();
        let progress = progress(samples.len(), &format!("{} {} {}", split.name(), self.modality.name, view.key()));
        let ahead = Ahead { batch: BATCH, workers: rayon::current_num_threads(), batches: 2 };
        // What cannot be read has no features; that is no failure of the others.
        let item = |sample: &&Sample| match &sample.parts[m] {
            None => Ok(Some(Item::Missing)),
            Some(source) => match loaded.reader().item(source, &sample.id, view) {
                Ok(item) => Ok(Some(item)),
                Err(Error::Data(_)) => Ok(None),
                Err(error) => Err(anyhow::Error::from(error)),
            },
        };
        load(&samples, ahead, item, |batches| -> Result<()> {
            for batch in batches {
                let (_, items) = batch.map_err(unloaded)?;
                let broken: Vec<bool> = items.iter().map(Option::is_none).collect();
                let items: Vec<Item> = items.into_iter().map(|item| item.unwrap_or(Item::Missing)).collect();
                let mut rows = loaded.rows(&items)?;
                for (row, _) in rows.chunks_exact_mut(dim).zip(broken).filter(|(_, broken)| *broken) {
                    row.fill(f32::NAN);
                }
                writer.append(&rows)?;
                progress.inc(items.len() as u64);
                crate::interrupt::check()?;
            }
            Ok(())
        })?;
        progress.finish_and_clear();
        Ok(())
    }
}

fn condition(split: Split, view: &View) -> String {
    format!("{}:{}", split.name(), view.key())
}

/// The row of a sample that could be read.
pub(crate) fn readable_row(table: &CachedFeatures, place: usize) -> Option<&[f32]> {
    table.row(place).filter(|row| row.first().is_some_and(|v| !v.is_nan()))
}

/// A bar on a terminal; nothing elsewhere.
fn progress(total: usize, name: &str) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    let bar = indicatif::ProgressBar::new(total as u64).with_message(name.to_owned());
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}
