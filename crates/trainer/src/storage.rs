//! Files of a run folder: written whole, and a failure named as what it is.

use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::Result;

/// Writes `bytes` to `path` so that a crash leaves the old file or the new one, never half of either.
///
/// # Errors
/// When the disk is full or the folder cannot be written; the old file is then untouched.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    balgrad_data::atomic::write_atomic(path, bytes).map_err(|error| {
        let what = format!("cannot write {}; what was there before is untouched", path.display());
        refused(error, what)
    })
}

/// Makes a folder, and those above it.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| refused(error, format!("cannot create {}", path.display())))
}

/// The error of a write that failed: what was to be written, and why it could not be.
pub(crate) fn refused(error: io::Error, what: String) -> anyhow::Error {
    let why = match error.kind() {
        ErrorKind::StorageFull => Some("the disk is full: free some space"),
        ErrorKind::QuotaExceeded => Some("the disk quota is used up: free some space, or have it raised"),
        ErrorKind::ReadOnlyFilesystem => Some("the file system is read-only: choose a folder on another"),
        ErrorKind::PermissionDenied => {
            Some("the folder is not yours to write to: change its permissions, or choose another")
        }
        ErrorKind::FileTooLarge => {
            Some("the file is larger than the limit of this process (`ulimit -f`) or file system")
        }
        _ => None,
    };
    let error = anyhow::Error::new(error);
    match why {
        Some(why) => error.context(why).context(what),
        None => error.context(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_read_only_folder_are_named_as_such() {
        for (kind, says) in [(ErrorKind::StorageFull, "disk is full"), (ErrorKind::PermissionDenied, "not yours")] {
            let error = format!("{:#}", refused(kind.into(), "cannot write x".to_owned()));
            assert!(error.starts_with("cannot write x: ") && error.contains(says), "{error}");
        }
    }
}
