//! Saving and loading all parameters as one safetensors file.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use super::{Entry, Parameters};
use crate::{Error, Result};

impl Parameters {
    /// Every parameter and buffer of this scope as the content of a safetensors file.
    ///
    /// # Errors
    /// If values cannot be copied from their device.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let store = self.store();
        let here = store.entries.iter().filter(|(name, _)| name.starts_with(&self.prefix));
        let tensors = here.map(|(name, entry)| (name.clone(), entry.var.as_detached_tensor()));
        Ok(safetensors::serialize(tensors, None).map_err(candle_core::Error::from)?)
    }

    /// A hash of the names, shapes and values of all parameters and buffers of this scope, for caches: 64 hexadecimal digits.
    ///
    /// # Errors
    /// If values cannot be copied from their device.
    pub fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let store = self.store();
        for (name, entry) in store.entries.iter().filter(|(name, _)| name.starts_with(&self.prefix)) {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(format!("{:?}", entry.var.dims()));
            let values = entry.var.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            hash.update(&bytes);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads what [`to_safetensors`](Self::to_safetensors) made into the parameters of this scope. All names and shapes are checked
    /// before the first value changes.
    ///
    /// # Errors
    /// If the file lacks a parameter, holds one that the model has not, or one of another shape.
    pub fn load(&self, path: &Path) -> Result<()> {
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let unreadable =
            |error: candle_core::Error| Error::Unreadable { path: path.into(), problem: error.to_string() };
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(unreadable)?;
        let store = self.store();
        let here: Vec<_> = store.entries.iter().filter(|(name, _)| name.starts_with(&self.prefix)).collect();
        let place = || path.display().to_string();
        let mut missing = here.iter().filter(|(name, _)| !tensors.contains_key(*name));
        if let Some((name, _)) = missing.next() {
            return Err(Error::MissingParameter { place: place(), name: (*name).clone(), count: 1 + missing.count() });
        }
        let mut values: Vec<(&Entry, Tensor)> = Vec::with_capacity(here.len());
        for (name, entry) in &here {
            let tensor = &tensors[*name];
            if tensor.shape() != entry.var.shape() {
                return Err(Error::ShapeMismatch {
                    place: place(),
                    name: (*name).clone(),
                    expected: entry.var.dims().to_vec(),
                    found: tensor.dims().to_vec(),
                });
            }
            values.push((entry, tensor.to_device(&self.device)?));
        }
        let known = |name: &str| name.starts_with(&self.prefix) && store.entries.contains_key(name);
        let mut unknown: Vec<&String> = tensors.keys().filter(|name| !known(name)).collect();
        unknown.sort();
        if let Some(name) = unknown.first() {
            return Err(Error::UnexpectedParameter { place: place(), name: (*name).clone(), count: unknown.len() });
        }
        for (entry, value) in values {
            entry.var.set(&value.to_dtype(entry.var.dtype())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Init;

    fn model(seed: u64, wide: usize) -> Parameters {
        let p = Parameters::new(seed, &Device::Cpu);
        p.get("a.weight", (wide, 2), Init::Normal(1.0)).unwrap();
        p.buffer("a.mean", 3, Init::Normal(1.0)).unwrap();
        p
    }

    fn first(p: &Parameters) -> Vec<f32> {
        p.all()[0].1.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_round_trip_is_exact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let (saved, loaded) = (model(1, 3), model(2, 3));
        let in_graph = loaded.get("a.weight", (3, 2), Init::Const(0.0)).unwrap();
        std::fs::write(&path, saved.to_safetensors().unwrap()).unwrap();
        assert_ne!(first(&saved), first(&loaded));
        loaded.load(&path).unwrap();
        assert_eq!(first(&saved), first(&loaded));
        assert_eq!(in_graph.flatten_all().unwrap().to_vec1::<f32>().unwrap(), first(&saved));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_say_what_and_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, model(1, 3).to_safetensors().unwrap()).unwrap();

        let error = model(1, 4).load(&path).unwrap_err().to_string();
        assert!(error.contains("a.weight") && error.contains("[3, 2]") && error.contains("[4, 2]"), "{error}");

        let more = model(1, 3);
        more.get("b.bias", 1, Init::Const(0.0)).unwrap();
        let error = more.load(&path).unwrap_err().to_string();
        assert!(error.contains("missing") && error.contains("b.bias"), "{error}");

        let before = model(9, 3);
        let fewer = before.scope("a");
        std::fs::write(&path, more.to_safetensors().unwrap()).unwrap();
        let old = first(&before);
        let error = fewer.load(&path).unwrap_err().to_string();
        assert!(error.contains("unknown") && error.contains("b.bias"), "{error}");
        assert_eq!(first(&before), old, "a refused file changes nothing");

        std::fs::write(&path, b"not a model").unwrap();
        let error = model(1, 3).load(&path).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }
}
