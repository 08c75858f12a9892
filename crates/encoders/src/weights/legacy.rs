//! PyTorch files from before the zip format (1.6), read without executing anything.
//!
//! Such a file is four pickles (magic, protocol, system, tensors), a pickled list of storage keys, and for each key
//! its length and its values. candle's pickle reader knows a fixed set of harmless objects; this adds the framing.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::pickle::{Object, TensorInfo};
use candle_core::{DType, Result, Tensor, bail};

use super::{pickle, storage};

/// The first two pickles: the magic number and protocol 1001.
const START: &[u8] = &[
    0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.', 0x80, 2, b'M', 0xe9, 3, b'.',
];

/// Whether `bytes` start like such a file.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(START)
}

/// The f32 tensors of a state dictionary; integer counters are left out.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let (_system, rest) = pickle::read(&bytes[START.len()..])?;
    let (object, rest) = pickle::read(rest)?;
    let infos = tensors(object)?;
    let (Object::List(keys), mut rest) = pickle::read(rest)? else { bail!("no list of storages") };

    let mut types: BTreeMap<&str, DType> = BTreeMap::new();
    types.extend(infos.iter().map(|info| (key(info), info.dtype)));
    let mut storages: BTreeMap<String, &[u8]> = BTreeMap::new();
    for storage in keys {
        let Object::Unicode(storage) = storage else { bail!("a storage key is no text") };
        let Some((length, values)) = rest.split_first_chunk::<8>() else { bail!("cut short before a storage") };
        let Some(dtype) = types.get(storage.as_str()) else { bail!("storage {storage} belongs to no tensor") };
        let size = (u64::from_le_bytes(*length) as usize).checked_mul(dtype.size_in_bytes());
        let Some((values, after)) = size.and_then(|size| values.split_at_checked(size)) else {
            bail!("storage {storage} is cut short")
        };
        storages.insert(storage, values);
        rest = after;
    }
    let mut found = BTreeMap::new();
    for info in infos.into_iter().filter(|info| info.dtype == DType::F32) {
        let Some(values) = storages.get(key(&info)) else { bail!("`{}` has no storage", info.name) };
        let tensor = storage::tensor(&info, values)?;
        found.insert(info.name, tensor);
    }
    Ok(found)
}

fn tensors(object: Object) -> Result<Vec<TensorInfo>> {
    let dictionary = match object {
        Object::Build { callable, .. } => *callable,
        other => other,
    };
    let Object::Dict(entries) = dictionary else { bail!("not a dictionary of tensors") };
    let mut infos = Vec::new();
    for (name, value) in entries {
        infos.extend(value.into_tensor_info(name, Path::new(""))?);
    }
    Ok(infos)
}

/// candle puts a folder before the storage's key.
fn key(info: &TensorInfo) -> &str {
    info.path.rsplit('/').next().unwrap_or_default()
}
