//! A data set with what is known of its files: which samples can be read, found out once and for every condition.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, bail};
use balgrad_data::{DataError, Dataset, Modality, Sample, Source, Split};
use balgrad_encoders::{CacheKey, FeatureCache, FeatureWriter, View};
use rayon::prelude::*;

use crate::channel::Channel;
use crate::environment::cache_folder;

/// Samples that are checked between two looks at a signal.
const CHUNK: usize = 1024;

/// Samples that are named on stderr; the rest is counted.
const NAMED: usize = 20;

/// A data set whose sources were looked at.
pub(crate) struct Readable {
    /// The data.
    pub dataset: Arc<Dataset>,
    /// Its fingerprint: what caches are keyed by.
    pub fingerprint: String,
    fail_on_bad: bool,
    indices: [Vec<usize>; 3],
    places: [OnceLock<Arc<[u32]>>; 3],
}

impl Readable {
    /// Of a data set; a sample that cannot be read is left out, or an error where `fail_on_bad`.
    pub(crate) fn new(dataset: Dataset, fail_on_bad: bool) -> Self {
        let fingerprint = dataset.fingerprint();
        let indices = Split::ALL.map(|split| dataset.indices(split));
        Self { dataset: Arc::new(dataset), fingerprint, fail_on_bad, indices, places: Default::default() }
    }

    /// Positions of a split's samples in the data set, readable or not.
    pub(crate) fn indices(&self, split: Split) -> &[usize] {
        &self.indices[split as usize]
    }

    /// Whether the sample at a position has a modality.
    pub(crate) fn has(&self, modality: &Modality, position: usize) -> bool {
        self.part(modality, &self.dataset.samples[position]).is_some()
    }

    fn part<'a>(&self, modality: &Modality, sample: &'a Sample) -> Option<&'a Source> {
        let m = self.dataset.modalities.iter().position(|m| *m == modality)?;
        sample.parts.get(m)?.as_ref()
    }

    /// What the samples of a split have of a modality, in order.
    pub(crate) fn sources(&self, modality: &Modality, split: Split) -> Vec<&Source> {
        let part = |&i: &usize| self.part(modality, &self.dataset.samples[i]);
        self.indices(split).iter().filter_map(part).collect()
    }

    /// The samples of a split that every channel can read, as places among those of the split: the same under every condition. The
    /// first reader finds out, which is the encoder where it is frozen; `view` is what is read of the training split.
    ///
    /// # Errors
    /// A sample that cannot be read, under `fail_on_bad`, or a signal.
    pub(crate) fn places(&self, split: Split, channels: &[Channel], view: View) -> Result<Arc<[u32]>> {
        let known = &self.places[split as usize];
        if let Some(places) = known.get() {
            return Ok(Arc::clone(places));
        }
        let mut good = vec![true; self.indices(split).len()];
        for channel in channels {
            let readable = match channel.is_frozen() {
                true => channel.readable(self, split, view)?,
                false => self.check(channel.modality(), split)?,
            };
            good.iter_mut().zip(readable).for_each(|(good, readable)| *good &= readable);
        }
        let (places, bad): (Vec<u32>, Vec<u32>) = (0..good.len() as u32).partition(|&place| good[place as usize]);
        for (count, place) in bad.iter().enumerate() {
            let sample = &self.dataset.samples[self.indices(split)[*place as usize]];
            if self.fail_on_bad {
                bail!("sample `{}`: {}; use --on-bad-sample skip to go on without it", sample.id, self.reason(sample));
            }
            if count == NAMED {
                say!("balgrad: and {} more, which `balgrad check` names", bad.len() - NAMED);
                break;
            }
            say!("balgrad: skipped sample `{}`: {}", sample.id, self.reason(sample));
        }
        Ok(Arc::clone(known.get_or_init(|| places.into())))
    }

    /// Which samples of a split can be decoded: every source is, the first time that anyone asks, and the answer is kept beside
    /// the features.
    fn check(&self, modality: &'static Modality, split: Split) -> Result<Vec<bool>> {
        let rows = self.indices(split);
        let part = |row: usize| self.part(modality, &self.dataset.samples[row]);
        if rows.iter().all(|&row| part(row).is_none_or(|source| source.text().is_some())) {
            return Ok(vec![true; rows.len()]);
        }
        let key = CacheKey {
            encoder: "decodes:2",
            preprocessing: modality.name,
            dataset: &self.fingerprint,
            condition: split.name(),
        };
        // A file that could not be read may be readable tomorrow: such an answer is not kept.
        let (unread, mut found) = (AtomicBool::new(false), Vec::with_capacity(rows.len()));
        let decodes = |&row: &usize| {
            let checked = part(row).map_or(Ok(()), |source| (modality.check)(source).map(drop));
            unread.fetch_or(matches!(checked, Err(DataError::Io { .. })), Ordering::Relaxed);
            f32::from(u8::from(checked.is_ok()))
        };
        let build = |writer: &mut FeatureWriter| -> Result<()> {
            found.clear();
            for some in rows.chunks(CHUNK) {
                found.extend(some.par_iter().map(decodes).collect::<Vec<f32>>());
                crate::interrupt::check()?;
            }
            if unread.load(Ordering::Relaxed) {
                bail!("a file could not be read");
            }
            Ok(writer.append(&found)?)
        };
        let table = FeatureCache::new(cache_folder()).get_or_build(&key, (rows.len(), 1), build);
        let flags = |values: &[f32]| values.iter().map(|decodes| *decodes == 1.0).collect();
        match table {
            Err(_) if unread.load(Ordering::Relaxed) => Ok(flags(&found)),
            table => Ok(flags(table?.values())),
        }
    }

    /// Why a sample cannot be read.
    fn reason(&self, sample: &Sample) -> String {
        self.dataset.fault(sample).map_or_else(
            || "it could not be read when it was first seen, and now can: start again".to_owned(),
            |e| e.to_string(),
        )
    }
}
