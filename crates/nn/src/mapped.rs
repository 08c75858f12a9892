use candle_core::{Result, bail};
use memmap2::Mmap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file mapped read-only into memory: a large feature table is paged in as it is read and shared between processes.
///
/// The file must not be truncated while it is mapped: reading past its new end would end the process (that is the operating
/// system's rule for mapped files). Write to a temporary file and rename it over the old one instead.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    /// `None` for an empty file, which some systems refuse to map.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped; the message names it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let open = || -> std::io::Result<Option<Mmap>> {
            let file = File::open(&path)?;
            if file.metadata()?.len() == 0 {
                return Ok(None);
            }
            // SAFETY: the map is read-only and private to this value; that nobody truncates or rewrites the file in place
            // meanwhile is the documented condition of use.
            unsafe { Mmap::map(&file) }.map(Some)
        };
        match open() {
            Ok(map) => Ok(Self { path, map }),
            Err(error) => bail!("cannot map {}: {error}", path.display()),
        }
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The file as little-endian f32 values.
    ///
    /// # Errors
    /// When the length is no multiple of 4, or on a big-endian machine.
    pub fn floats(&self) -> Result<&[f32]> {
        if cfg!(target_endian = "big") {
            bail!("{}: little-endian floats cannot be viewed on a big-endian machine", self.path.display());
        }
        // SAFETY: every pattern of four bytes is an f32.
        let (before, floats, after) = unsafe { self.bytes().align_to::<f32>() };
        if !before.is_empty() || !after.is_empty() {
            bail!("{}: expected a multiple of 4 bytes, found {}", self.path.display(), self.bytes().len());
        }
        Ok(floats)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("balgrad-mapped-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn floats_come_back() {
        let values = [1.5f32, -0.0, f32::INFINITY];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let path = file("floats", &bytes);
        let mapped = MappedFile::open(&path).unwrap();
        assert_eq!(mapped.bytes(), bytes);
        assert_eq!(mapped.floats().unwrap(), values);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn odd_lengths_and_missing_files_are_named() {
        let path = file("odd", &[0; 7]);
        let error = MappedFile::open(&path).unwrap().floats().unwrap_err().to_string();
        assert!(error.contains("odd") && error.contains("found 7"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = MappedFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("odd"), "{error}");
    }

    #[test]
    fn an_empty_file_is_an_empty_slice() {
        let path = file("empty", &[]);
        let mapped = MappedFile::open(&path).unwrap();
        assert!(mapped.bytes().is_empty() && mapped.floats().unwrap().is_empty());
        std::fs::remove_file(path).unwrap();
    }
}
