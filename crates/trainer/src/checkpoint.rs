//! Checkpoints: one safetensors file, written beside its place and renamed onto it, enough for a bit-exact resume.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use balgrad::State;
use candle_core::safetensors::Load;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

/// Where in the run a checkpoint stands, and what of it is not a tensor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs finished.
    pub epoch: usize,
    /// Batches of the current epoch finished.
    pub batch: usize,
    /// Steps finished.
    pub step: usize,
    /// The epoch whose weights are kept, 1-based; 0 before the first validation.
    pub best_epoch: usize,
    /// Its validation score.
    #[serde(with = "bits")]
    pub best_score: f64,
    /// Validation metrics of that epoch, as the JSON text that results show.
    pub best_val: String,
    /// Sums over the batches of the current epoch: the training loss, and the number of samples.
    #[serde(with = "bits")]
    pub loss_sum: f64,
    /// Samples in `loss_sum`.
    #[serde(with = "bits")]
    pub loss_count: f64,
    /// Bytes of metrics.jsonl that belong to the run so far.
    pub metrics_bytes: u64,
    /// Seconds of work so far.
    pub seconds: f64,
    /// Steps skipped because their loss was not finite.
    pub nan_steps: usize,
    /// Samples that this epoch trains on once more, each with the one modality that is shown.
    #[serde(default)]
    pub rehearsals: Vec<(usize, usize)>,
    /// Cosines between task and KL gradient so far, per modality: counts per bin before and after projection.
    pub conflict: Vec<ConflictCounts>,
}

/// A number as its bits: the JSON reader may lose the last one, and with it a tie between two epochs.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// Histogram of cosines of one modality.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConflictCounts {
    /// Steps with a cosine.
    pub steps: u64,
    /// Of those, the steps where it was negative before projection.
    pub conflicting: u64,
    /// Counts of the cosine before projection, over [`BINS`] equal bins of [−1, 1].
    pub before: Vec<u64>,
    /// The same after projection.
    pub after: Vec<u64>,
}

/// Bins of the cosine histograms.
pub const BINS: usize = 40;

impl ConflictCounts {
    /// Counts one step.
    pub fn add(&mut self, before: f64, after: f64) {
        self.before.resize(BINS, 0);
        self.after.resize(BINS, 0);
        let bin = |cosine: f64| (((cosine + 1.0) / 2.0 * BINS as f64) as usize).min(BINS - 1);
        self.before[bin(before)] += 1;
        self.after[bin(after)] += 1;
        self.steps += 1;
        self.conflicting += u64::from(before < 0.0);
    }
}

/// Writes `bytes` to `path` so that a crash leaves the old file or the new one, never half of either.
///
/// # Errors
/// When the disk is full or the folder cannot be written; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    balgrad_data::atomic::write_atomic(path, bytes)
        .with_context(|| format!("cannot write {}; what was there before is untouched", path.display()))
}

/// Writes tensors and progress to `path`.
///
/// # Errors
/// When the file cannot be written.
pub fn save(path: &Path, tensors: HashMap<String, Tensor>, state: &State, progress: &Progress) -> Result<()> {
    let mut all = tensors;
    for (name, values) in state {
        let tensor = Tensor::from_vec(values.clone(), values.len(), &Device::Cpu)?;
        all.insert(format!("state.{name}"), tensor);
    }
    let header = HashMap::from([("progress".to_owned(), serde_json::to_string(progress)?)]);
    let bytes = safetensors::serialize(&all, Some(header))?;
    write_atomic(path, &bytes)
}

/// A checkpoint's tensors by name, the method's state, and where the run stood.
pub struct Loaded {
    /// Tensors by name.
    pub tensors: HashMap<String, Tensor>,
    /// The balancer's state.
    pub state: State,
    /// Where the run stood.
    pub progress: Progress,
}

/// Reads a checkpoint.
///
/// # Errors
/// When the file is missing, cut short or not a checkpoint.
pub fn load(path: &Path, device: &Device) -> Result<Loaded> {
    let place = || format!("the checkpoint {}", path.display());
    let bytes = std::fs::read(path).with_context(place)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).with_context(place)?;
    let Some(progress) = header.metadata().as_ref().and_then(|m| m.get("progress")) else {
        bail!("{} has no progress in it: it was not written by a run", place());
    };
    let progress = serde_json::from_str(progress).with_context(place)?;
    let file = SafeTensors::deserialize(&bytes).with_context(place)?;
    let (mut tensors, mut state) = (HashMap::new(), State::new());
    for (name, view) in file.tensors() {
        match name.strip_prefix("state.") {
            Some(name) => drop(state.insert(name.to_owned(), view.load(&Device::Cpu)?.to_vec1()?)),
            None => drop(tensors.insert(name, view.load(device)?)),
        }
    }
    Ok(Loaded { tensors, state, progress })
}
