//! A data set with what is known of its files: which samples can be read, found out once and for every condition.

use std::sync::{Arc, OnceLock};

use anyhow::{Result, bail};
use balgrad_data::{Dataset, Sample, Split, decode};
use balgrad_encoders::{CacheKey, FeatureCache, FeatureWriter};
use rayon::prelude::*;

use crate::environment::cache_folder;

/// Samples between two looks at a signal.
const PIECE: usize = 1024;

/// Samples that are named on stderr; the rest is counted.
const NAMED: usize = 20;

/// A data set whose images were looked at.
pub struct Readable {
    /// The data.
    pub dataset: Arc<Dataset>,
    /// Its fingerprint: what caches are keyed by.
    pub fingerprint: String,
    fail_on_bad: bool,
    rows: [OnceLock<Arc<[u32]>>; 3],
}

impl Readable {
    /// Of a data set; a sample that cannot be read is left out, or an error where `fail_on_bad`.
    pub fn new(dataset: Dataset, fail_on_bad: bool) -> Self {
        let fingerprint = dataset.fingerprint();
        Self { dataset: Arc::new(dataset), fingerprint, fail_on_bad, rows: Default::default() }
    }

    /// The samples of a split that can be read, as places among those of the split: the same under every condition. Images
    /// are decoded the first time that anyone asks; the answer is kept beside the features.
    ///
    /// # Errors
    /// A sample that cannot be read, under `fail_on_bad`, or a signal.
    pub fn places(&self, split: Split) -> Result<Arc<[u32]>> {
        let known = &self.rows[split as usize];
        if let Some(places) = known.get() {
            return Ok(Arc::clone(places));
        }
        let rows = self.dataset.indices(split);
        let key = CacheKey {
            encoder: "decodes:1",
            preprocessing: "image",
            dataset: &self.fingerprint,
            condition: split.name(),
        };
        let decodes = |&row: &usize| match &self.dataset.samples[row].image {
            Some(source) => f32::from(u8::from(decode(source).is_ok())),
            None => 1.0,
        };
        let build = |writer: &mut FeatureWriter| -> Result<()> {
            for some in rows.chunks(PIECE) {
                writer.append(&some.par_iter().map(decodes).collect::<Vec<f32>>())?;
                crate::interrupt::check()?;
            }
            Ok(())
        };
        let table = FeatureCache::new(cache_folder()).get_or_build(&key, (rows.len(), 1), build)?;
        let good = |place: &u32| table.values()[*place as usize] == 1.0;
        let (places, bad): (Vec<u32>, Vec<u32>) = (0..rows.len() as u32).partition(good);
        for (count, place) in bad.iter().enumerate() {
            let sample = &self.dataset.samples[rows[*place as usize]];
            if self.fail_on_bad {
                bail!("sample `{}`: {}; use --on-bad-sample skip to go on without it", sample.id, reason(sample));
            }
            if count == NAMED {
                eprintln!("balgrad: and {} more, which `balgrad check` names", bad.len() - NAMED);
                break;
            }
            eprintln!("balgrad: skipped sample `{}`: {}", sample.id, reason(sample));
        }
        Ok(Arc::clone(known.get_or_init(|| places.into())))
    }
}

/// Why a sample's image cannot be read.
fn reason(sample: &Sample) -> String {
    let error = sample.image.as_ref().and_then(|source| decode(source).err());
    error.map_or_else(
        || "it could not be read when it was first seen, and now can: start again".to_owned(),
        |e| e.to_string(),
    )
}
