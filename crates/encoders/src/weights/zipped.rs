//! PyTorch files since 1.6: a zip archive, uncompressed, of a pickle and a file for each storage.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use candle_core::pickle::{Object, TensorInfo};
use candle_core::{Result, Tensor, bail};
use zip::ZipArchive;

use super::{pickle, storage};

/// The tensors of a state dictionary.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut names = Vec::new();
    for name in archive.file_names() {
        names.push(name?.into_owned());
    }
    let Some(name) = names.iter().find(|name| name.ends_with("/data.pkl") || *name == "data.pkl") else {
        bail!("no data.pkl in the archive")
    };
    // Nothing of an uncompressed archive is longer than the archive, nor are all files together.
    let mut left = bytes.len();
    let mut file = |name: &str| -> Result<Vec<u8>> {
        let mut content = Vec::new();
        archive.by_name(name)?.take(left as u64 + 1).read_to_end(&mut content)?;
        let Some(less) = left.checked_sub(content.len()) else { bail!("{name} is longer than the whole archive") };
        left = less;
        Ok(content)
    };
    let pickled = file(name)?;
    let infos = tensors(pickle::read(&pickled)?.0, name.strip_suffix(".pkl").unwrap_or(name));
    let mut storages: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for info in infos {
        if !storages.contains_key(&info.path) {
            let content = file(&info.path)?;
            storages.insert(info.path.clone(), content);
        }
        found.insert(info.name.clone(), storage::tensor(&info, &storages[&info.path])?);
    }
    Ok(found)
}

/// What there is to read; entries of other kinds are no weights.
fn tensors(object: Object, folder: &str) -> Vec<TensorInfo> {
    let dictionary = match object {
        Object::Build { callable, args } => match *callable {
            Object::Reduce { .. } => *args,
            other => other,
        },
        other => other,
    };
    let Object::Dict(entries) = dictionary else { return Vec::new() };
    entries.into_iter().filter_map(|(name, value)| value.into_tensor_info(name, Path::new(folder)).ok()?).collect()
}
