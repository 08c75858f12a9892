//! One writer per run folder.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::storage::refused;

/// The file of the lock.
pub(super) const FILE: &str = ".lock";

/// The right to write a run folder. The system takes it back from a process that ends, however it ends.
pub(super) struct RunLock {
    _file: File,
    path: PathBuf,
}

/// Another process writes the run folder.
#[derive(Debug)]
pub(crate) struct Busy(PathBuf);

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, writer) = (self.0.display(), writer(&self.0));
        write!(f, "{folder} is being written by {writer}: wait for it, or choose another --out")
    }
}

impl std::error::Error for Busy {}

/// Who writes a run folder, as its lock says.
pub(crate) fn writer(folder: &Path) -> String {
    let owner = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    if owner.trim().is_empty() { "another process".to_owned() } else { owner.trim().to_owned() }
}

impl RunLock {
    /// Takes the lock of a folder that exists. Where there are no such locks, several may write.
    ///
    /// # Errors
    /// [`Busy`], or a folder that cannot be written.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        loop {
            let open = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path);
            let mut file = open.map_err(|e| refused(e, format!("cannot write {}", path.display())))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Err(Busy(folder.to_owned()).into()),
                // The one before has removed the file between opening and locking.
                Ok(()) if !is_at(&file, &path) => continue,
                _ => {}
            }
            let owner = format!("process {} on {}\n", std::process::id(), balgrad_data::atomic::host());
            let _ = file.set_len(0).and_then(|()| file.write_all(owner.as_bytes()));
            return Ok(Self { _file: file, path });
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the open file is the one that stands at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let inode = |found: std::io::Result<std::fs::Metadata>| found.ok().map(|f| (f.dev(), f.ino()));
        inode(file.metadata()) == inode(std::fs::metadata(path))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        true
    }
}
