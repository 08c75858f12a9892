//! Tensors read from a file, by name, with a record of which were used.

mod legacy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use balgrad_nn::InitialValues;
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
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let tensors = match extension {
            "pth" | "pt" | "bin" if legacy::is_legacy(&bytes) => legacy::read(&bytes),
            "pth" | "pt" | "bin" => candle_core::pickle::read_all(path).map(|all| all.into_iter().collect()),
            _ => candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map(|all| all.into_iter().collect()),
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

    /// The same tensors with `name` split along its first dimension into `parts`, equal and in order.
    ///
    /// # Errors
    /// If the dimension is no multiple of the number of parts.
    pub fn split(mut self, name: &str, parts: &[String]) -> Result<Self> {
        if let Some(whole) = self.tensors.remove(name) {
            let pieces = whole.chunk(parts.len(), 0)?;
            self.tensors.extend(parts.iter().cloned().zip(pieces));
        }
        Ok(self)
    }

    /// An error if any tensor was never [taken](InitialValues::take), apart from those whose name contains one of `ignored`:
    /// heads and counters that an encoder has no use for.
    ///
    /// # Errors
    /// Names the first and counts all.
    pub fn expect_used(&self, ignored: &[&str]) -> balgrad_nn::Result<()> {
        let unused = self.unused();
        let mut unused = unused.iter().filter(|name| !ignored.iter().any(|part| name.contains(part)));
        match unused.next() {
            None => Ok(()),
            Some(name) => {
                let place = self.place.clone();
                Err(balgrad_nn::Error::UnexpectedParameter { place, name: name.clone(), count: 1 + unused.count() })
            }
        }
    }

    /// What errors call these weights: a path, or a repository.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The names that were never [taken](InitialValues::take), in order.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.tensors.keys().filter(|name| !used.contains(*name)).cloned().collect()
    }
}

impl InitialValues for Weights {
    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn take(&self, name: &str, shape: &Shape, device: &Device) -> balgrad_nn::Result<Tensor> {
        use balgrad_nn::Error;
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
