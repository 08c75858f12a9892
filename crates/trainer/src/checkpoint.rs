//! Checkpoints: one safetensors file with a checksum, and the one before it, enough for a bit-exact resume.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use balgrad::State;
use candle_core::safetensors::Load;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::sums::hex;
use crate::storage::{refused, write_atomic};

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
    /// Their SHA-256.
    pub metrics_sha256: String,
    /// Bytes of the event file that belong to the run so far.
    pub events_bytes: u64,
    /// Fingerprint of the data that the run learns from.
    pub data: String,
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
    let header = [("progress".to_owned(), serde_json::to_string(progress)?), ("sha256".to_owned(), BLANK.to_owned())];
    let mut bytes = safetensors::serialize(&all, Some(HashMap::from(header)))?;
    let place = seal_of(&bytes).context("the header of a checkpoint has no room for its checksum")?;
    let sum = hex(&Sha256::digest(&bytes));
    bytes[place].copy_from_slice(sum.as_bytes());
    // The one before stays: should this one be damaged, there is a way back.
    match std::fs::rename(path, previous(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(refused(error, format!("cannot rename {}", path.display())))
        }
        _ => write_atomic(path, &bytes),
    }
}

/// Where the checkpoint before the last stands.
pub fn previous(path: &Path) -> PathBuf {
    path.with_extension("previous.safetensors")
}

/// What stands for the checksum while it is computed.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where in a checkpoint its checksum stands: in the header, which quotes every quote inside of a value.
fn seal_of(bytes: &[u8]) -> Option<Range<usize>> {
    const NAME: &[u8] = b"\"sha256\":\"";
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let header = bytes.get(8..length.checked_add(8)?)?;
    let start = 8 + header.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    bytes.get(start..start + BLANK.len()).map(|_| start..start + BLANK.len())
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
/// When the file is missing, damaged or not a checkpoint.
pub fn load(path: &Path, device: &Device) -> Result<Loaded> {
    let place = || format!("the checkpoint {}", path.display());
    let mut bytes = std::fs::read(path).with_context(place)?;
    let Some(seal) = seal_of(&bytes) else {
        bail!("{} is damaged, or of another version: it has no checksum", place())
    };
    let sum = bytes[seal.clone()].to_vec();
    bytes[seal].copy_from_slice(BLANK.as_bytes());
    if hex(&Sha256::digest(&bytes)).as_bytes() != sum {
        bail!("{} is damaged: its checksum is not that of its content", place());
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_flipped_bit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let progress = Progress { data: "\"sha256\":\"".to_owned() + BLANK, ..Progress::default() };
        let tensors = || HashMap::from([("model.a".to_owned(), Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap())]);
        save(&path, tensors(), &State::new(), &progress).unwrap();
        assert_eq!(load(&path, &Device::Cpu).unwrap().progress, progress);
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            assert!(load(&path, &Device::Cpu).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_checkpoint_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        for step in 0..3 {
            let progress = Progress { step, ..Progress::default() };
            save(&path, HashMap::new(), &State::new(), &progress).unwrap();
        }
        let steps = [path.clone(), previous(&path)].map(|path| load(&path, &Device::Cpu).unwrap().progress.step);
        assert_eq!((steps, std::fs::read_dir(folder.path()).unwrap().count()), ([2, 1], 2));
    }
}
