//! `SHA256SUMS`: one line for every other file of a folder, as `sha256sum --check` reads it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

pub(crate) const FILE: &str = "SHA256SUMS";

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of every file below `folder` but `SHA256SUMS` itself, by path with `/` between the parts.
pub(crate) fn measure(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    walk(folder, "", &mut hashes)?;
    hashes.remove(FILE);
    Ok(hashes)
}

fn walk(folder: &Path, prefix: &str, hashes: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), hashes)?;
        } else {
            hashes.insert(path, sha256(&fs::read(entry.path())?));
        }
    }
    Ok(())
}

/// The committed hashes, by path.
pub(crate) fn read(folder: &Path) -> Result<BTreeMap<String, String>> {
    let path = folder.join(FILE);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.lines()
        .enumerate()
        .map(|(at, line)| {
            let (hash, file) = line
                .split_once("  ")
                .with_context(|| format!("{}:{}: expected `HASH  PATH`", path.display(), at + 1))?;
            Ok((file.to_owned(), hash.to_owned()))
        })
        .collect()
}

/// Measures the folder and writes its `SHA256SUMS`.
#[cfg(any(feature = "datasets-build", test))]
pub(crate) fn write(folder: &Path) -> Result<()> {
    let lines: String = measure(folder)?.iter().map(|(path, hash)| format!("{hash}  {path}\n")).collect();
    fs::write(folder.join(FILE), lines)?;
    Ok(())
}
