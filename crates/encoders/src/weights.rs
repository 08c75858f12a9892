//! Tensors read from a file, by name, with a record of which were used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Shape, Tensor};

use crate::{Error, Result};

/// The tensors of a `.safetensors` file, or of a `.pth`/`.bin` file through a reader that executes nothing.
pub struct Weights {
    place: String,
    tensors: BTreeMap<String, Tensor>,
    used: Mutex<BTreeSet<String>>,
}

impl Weights {
    /// Reads `path`; the extension decides the format.
    ///
    /// # Errors
    /// If the file cannot be read or is of neither format.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let tensors = match extension {
            "pth" | "pt" | "bin" => candle_core::pickle::read_all(path).map(|all| all.into_iter().collect()),
            _ => {
                let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
                candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map(|all| all.into_iter().collect())
            }
        };
        let tensors = tensors.map_err(|error| Error::invalid(&place, format!("not readable as weights: {error}")))?;
        Ok(Self::from_tensors(place, tensors))
    }

    /// Weights that are in memory already; `place` is what errors call them.
    pub fn from_tensors(place: impl Into<String>, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { place: place.into(), tensors, used: Mutex::default() }
    }

    /// The same tensors under the names that `rename` gives; `None` drops one.
    #[must_use]
    pub fn renamed(self, rename: impl Fn(&str) -> Option<String>) -> Self {
        let tensors = self.tensors.into_iter().filter_map(|(name, t)| Some((rename(&name)?, t))).collect();
        Self::from_tensors(self.place, tensors)
    }

    /// What errors call these weights: a path, or a repository.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names that were never [taken](Self::take), in order.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.tensors.keys().filter(|name| !used.contains(*name)).cloned().collect()
    }

    /// The tensor `name`, checked against `shape`, on `device`.
    ///
    /// # Errors
    /// If there is none, or its shape differs.
    pub fn take(&self, name: &str, shape: &Shape, device: &Device) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(Error::MissingParameter { place: self.place.clone(), name: name.into(), count: 1 });
        };
        if tensor.shape() != shape {
            return Err(Error::ShapeMismatch {
                place: self.place.clone(),
                name: name.into(),
                expected: shape.dims().to_vec(),
                found: tensor.dims().to_vec(),
            });
        }
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(tensor.to_device(device)?)
    }
}
