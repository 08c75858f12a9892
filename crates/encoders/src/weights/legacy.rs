//! PyTorch files from before the zip format (1.6), read without executing anything.
//!
//! Such a file is four pickles (magic, protocol, system, tensors), a pickled list of storage keys, and for each key
//! its length and its values. candle's pickle reader knows a fixed set of harmless objects; this adds the framing, and
//! tensors that are not contiguous.

use std::collections::BTreeMap;
use std::io::{BufRead, Cursor};
use std::path::Path;

use candle_core::pickle::{Object, Stack, TensorInfo};
use candle_core::{DType, Device, Result, Tensor, bail};

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
    let mut reader = Cursor::new(bytes);
    reader.consume(START.len());
    pickle(&mut reader)?;
    let infos = tensors(pickle(&mut reader)?)?;
    let Object::List(keys) = pickle(&mut reader)? else { bail!("no list of storages") };

    let mut types: BTreeMap<&str, DType> = BTreeMap::new();
    types.extend(infos.iter().map(|info| (key(info), info.dtype)));
    let mut storages: BTreeMap<String, &[u8]> = BTreeMap::new();
    let mut rest = &bytes[(reader.position() as usize).min(bytes.len())..];
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
        let Some(storage) = storages.get(key(&info)) else { bail!("`{}` has no storage", info.name) };
        let tensor = gather(&info, storage)?;
        found.insert(info.name, tensor);
    }
    Ok(found)
}

fn pickle(reader: &mut Cursor<&[u8]>) -> Result<Object> {
    let mut stack = Stack::empty();
    stack.read_loop(reader)?;
    stack.finalize()
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

/// The values in row-major order, whatever the strides.
fn gather(info: &TensorInfo, storage: &[u8]) -> Result<Tensor> {
    let start = info.layout.start_offset() / info.dtype.size_in_bytes();
    let dims = info.layout.dims();
    let strides = info.layout.stride();
    let value = |mut index: usize| {
        let mut at = start;
        for (dim, stride) in dims.iter().zip(strides).rev() {
            at += index % dim * stride;
            index /= dim;
        }
        storage.get(at * 4..at * 4 + 4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    };
    let values: Option<Vec<f32>> = (0..info.layout.shape().elem_count()).map(value).collect();
    let Some(values) = values else { bail!("`{}` reaches beyond its storage", info.name) };
    Tensor::from_vec(values, dims, &Device::Cpu)
}
