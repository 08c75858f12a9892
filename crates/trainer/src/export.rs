//! A trained model as one folder that needs nothing else: no data, no hub, no place of the machine that it was trained on.

mod card;

use std::path::Path;

use anyhow::{Context, Result};

use crate::Usage;
use crate::model_spec::ModelSpec;
use crate::record::{RunRecord, sums};
use crate::storage::{create_folder, write_atomic};

/// Writes the model of a run folder to a folder of its own, and returns the names of its files, in order.
///
/// `model.safetensors` and `model.json` are what [`Model::load`](crate::Model::load) reads, with `encoders/M` of a frozen pretrained
/// encoder. `README.md` is a model card, `encoders/M` of other encoders what was fitted or learnt of their preprocessing, for people
/// and other programs, and `SHA256SUMS` holds the checksums of all.
///
/// # Errors
/// An unfinished run, a folder that holds something, pretrained weights that are gone, or a disk that refuses.
pub fn export(run: &Path, to: &Path) -> Result<Vec<String>> {
    if std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Usage(format!("{} holds something already: choose another --to", to.display())).into());
    }
    let spec = ModelSpec::load(run)?;
    let record = RunRecord::read(run).with_context(|| run.display().to_string())?;
    create_folder(to)?;
    let weights = std::fs::read(run.join("model.safetensors")).context("model.safetensors")?;
    let tensors = tensors(&weights).context("model.safetensors")?;
    write_atomic(&to.join("model.safetensors"), &weights)?;
    let spec = spec.enclosed(to)?;
    write_atomic(&to.join("model.json"), serde_json::to_string_pretty(&spec)?.as_bytes())?;
    write_atomic(&to.join("README.md"), card::card(&record, &spec, &tensors).as_bytes())?;
    sums::write_all(to)
}

/// Names of the tensors of a safetensors file, with how many numbers each holds.
fn tensors(bytes: &[u8]) -> Result<Vec<(String, usize)>> {
    let file = safetensors::SafeTensors::deserialize(bytes)?;
    let mut all: Vec<(String, usize)> =
        file.iter().map(|(name, view)| (name.to_owned(), view.shape().iter().product())).collect();
    all.sort();
    Ok(all)
}
