//! Tensors read from a file, by name, with a record of which were used.

mod legacy;
mod pickle;
mod storage;
mod zipped;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use balgrad_nn::InitialValues;
use candle_core::{CpuStorage, Device, Shape, Storage, Tensor};

use crate::guard::guarded;
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
        // A pipe would never end.
        if std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
            return Err(Error::invalid(&place, "not a regular file"));
        }
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let tensors = guarded(&place, "the reader of weights", || {
            let tensors = match extension {
                "pth" | "pt" | "bin" if legacy::is_legacy(&bytes) => legacy::read(&bytes),
                "pth" | "pt" | "bin" => zipped::read(&bytes),
                _ => candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map(|all| all.into_iter().collect()),
            };
            tensors.map_err(|error| Error::invalid(&place, format!("not readable as weights: {error}")))
        })?;
        Ok(Self::from_tensors(place, tensors))
    }

    /// The tensors of both, under the name of the first.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.tensors.extend(other.tensors);
        self
    }

    /// The same tensors without what wrappers put before all names: `module.` of data-parallel training, `_orig_mod.` of
    /// compiled models.
    #[must_use]
    pub(crate) fn unwrapped(self) -> Self {
        let wrapper = |prefix: &&&str| self.tensors.keys().all(|name| name.starts_with(**prefix));
        match ["module.", "_orig_mod."].iter().find(wrapper) {
            Some(prefix) if !self.tensors.is_empty() => {
                self.renamed(|name| Some(name.strip_prefix(prefix)?.to_owned())).unwrapped()
            }
            _ => self,
        }
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

    /// All tensors as the content of a safetensors file.
    ///
    /// # Errors
    /// Tensors of a kind that safetensors cannot hold.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
        Ok(safetensors::serialize(tensors, None).map_err(candle_core::Error::from)?)
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
        if !is_finite(tensor) {
            return Err(Error::NotFinite { place: self.place.clone(), name: name.into() });
        }
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(tensor.to_device(device)?)
    }
}

/// Whether all values are; those of a tensor on another device have been looked at on the way there.
fn is_finite(tensor: &Tensor) -> bool {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(CpuStorage::F32(values)) => values.iter().all(|v| v.is_finite()),
        Storage::Cpu(CpuStorage::F64(values)) => values.iter().all(|v| v.is_finite()),
        Storage::Cpu(CpuStorage::F16(values)) => values.iter().all(|v| v.is_finite()),
        Storage::Cpu(CpuStorage::BF16(values)) => values.iter().all(|v| v.is_finite()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::DType;

    #[test]
    fn names_of_wrappers_are_taken_off_all_or_none() {
        let of = |names: &[&str]| {
            let one = |name: &&str| ((*name).to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
            Weights::from_tensors("x", names.iter().map(one).collect()).unwrapped().unused()
        };
        assert_eq!(of(&["module.a", "module.b"]), ["a", "b"]);
        assert_eq!(of(&["_orig_mod.module.a"]), ["a"]);
        assert_eq!(of(&["module.a", "b"]), ["b", "module.a"]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn values_that_are_not_finite_are_refused_where_they_are_used() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
                let tensor = Tensor::new(&[1.0, bad], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let good = Tensor::new(&[1.0f32, 2.0], &Device::Cpu).unwrap();
                let weights = Weights::from_tensors("m", BTreeMap::from([("a".into(), tensor), ("b".into(), good)]));
                let take = |name: &str| weights.take(name, &Shape::from(2), &Device::Cpu);
                assert!(take("a").unwrap_err().to_string().contains("`a` holds values that are not finite"));
                assert!(take("b").is_ok(), "what is not used may be anything");
            }
        }
    }
}
