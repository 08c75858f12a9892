//! `SHA256SUMS`: the checksums of a finished run's files, as `sha256sum -c` reads them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::RecordError;
use crate::storage::write_atomic;

/// The file in a run folder.
pub(crate) const FILE: &str = "SHA256SUMS";

/// 64 hexadecimal digits.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the checksums of all that stands in `folder`, and of one file that is about to.
///
/// # Errors
/// A file that cannot be read, or a disk that refuses.
pub(crate) fn write(folder: &Path, (coming, bytes): (&str, &[u8])) -> Result<()> {
    let mut sums = BTreeMap::from([(coming.to_owned(), hex(&Sha256::digest(bytes)))]);
    for (prefix, place) in [("", folder.to_owned()), ("predictions/", folder.join("predictions"))] {
        let entries = std::fs::read_dir(&place).with_context(|| place.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_file() && !name.starts_with('.') && name != FILE {
                let sum = sum_of(&entry.path()).with_context(|| entry.path().display().to_string())?;
                sums.insert(format!("{prefix}{name}"), sum);
            }
        }
    }
    let lines: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    write_atomic(&folder.join(FILE), lines.as_bytes())
}

/// Writes the checksums of all that stands in `folder` and below, and returns the names of the files, in order.
///
/// # Errors
/// As for [`write`].
pub(crate) fn write_all(folder: &Path) -> Result<Vec<String>> {
    let (mut sums, mut left) = (BTreeMap::new(), vec![String::new()]);
    while let Some(below) = left.pop() {
        let place = folder.join(&below);
        let entries = std::fs::read_dir(&place).with_context(|| place.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                left.push(format!("{name}/"));
            } else if name != FILE {
                let sum = sum_of(&entry.path()).with_context(|| entry.path().display().to_string())?;
                sums.insert(name, sum);
            }
        }
    }
    let lines: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    write_atomic(&folder.join(FILE), lines.as_bytes())?;
    Ok(sums.into_keys().chain([FILE.to_owned()]).collect())
}

/// Checks a file of a run folder. A folder without checksums, such as that of an unfinished run, is taken as it is.
///
/// # Errors
/// A file that is not what it was when the run ended.
pub(crate) fn verify(folder: &Path, name: &str) -> Result<(), RecordError> {
    let sums = match std::fs::read_to_string(folder.join(FILE)) {
        Ok(sums) => sums,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => return Err(RecordError::Changed { name: FILE.to_owned() }),
    };
    let known = sums.lines().find_map(|line| line.split_once("  ").filter(|(_, known)| *known == name));
    let found = match sum_of(&folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.map_err(RecordError::Unreadable)?),
    };
    if known.map(|(sum, _)| sum) != found.as_deref() {
        return Err(RecordError::Changed { name: name.to_owned() });
    }
    Ok(())
}

fn sum_of(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex(&hash.finalize()))
}
