//! One writer per run folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;
use crate::storage::refused;

/// The file of the lock.
pub(super) const FILE: &str = ".lock";

/// How long a run of a grid waits for one before it that is about to leave, as its grid has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// The right to write a run folder. The system takes it back from a process that ends, however it ends.
pub(super) struct RunLock {
    _file: File,
    path: PathBuf,
}

impl RunLock {
    /// Takes the lock of a folder that exists. Where there are no such locks, several may write.
    ///
    /// # Errors
    /// Another process has it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let began = Instant::now();
        loop {
            let open = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path);
            let mut file = open.map_err(|e| refused(e, format!("cannot write {}", path.display())))?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    if std::env::var_os(interrupt::LEASH).is_some() && began.elapsed() < PATIENCE {
                        std::thread::sleep(Duration::from_millis(100));
                        continue;
                    }
                    let owner = std::fs::read_to_string(&path).unwrap_or_default();
                    let owner = if owner.trim().is_empty() { "another process" } else { owner.trim() };
                    bail!("{} is being written by {owner}: wait for it, or choose another --out", folder.display());
                }
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
