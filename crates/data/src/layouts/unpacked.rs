//! Images that stand in a large file of another form, unpacked once into a file of their own: one after the other, and an
//! index of the rows at the end. Found again by the source's path, size and time of change.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Part;
use crate::atomic::{AtomicFile, remove_leftovers};
use crate::dataset::stamp;
use crate::{DataError, stable_hash};

const MAGIC: &[u8; 8] = b"BGIMAGE1";

/// An entry of the index: kind, start and length.
const ENTRY: usize = 1 + 8 + 8;

/// What a row has: nothing, an image, the path of one.
const KINDS: [u8; 3] = [0, 1, 2];

fn file_of(folder: &Path, source: &Path) -> PathBuf {
    let whole = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let hash = stable_hash(&[whole.as_os_str().as_encoded_bytes(), stamp(source).as_bytes()]);
    folder.join(format!("{hash:016x}.images"))
}

/// The images of a source that was unpacked before.
pub(super) struct Unpacked {
    file: Arc<PathBuf>,
    index: Vec<u8>,
}

impl Unpacked {
    /// `None` where there is no such file, or none that was finished.
    pub(super) fn open(folder: &Path, source: &Path) -> Option<Self> {
        let path = file_of(folder, source);
        let mut file = File::open(&path).ok()?;
        let mut end = [0; 16];
        file.seek(SeekFrom::End(-16)).ok()?;
        file.read_exact(&mut end).ok()?;
        let (rows, magic) = end.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*rows)).ok()?.checked_mul(ENTRY)?;
        let start = file.metadata().ok()?.len().checked_sub(16 + length as u64)?;
        if magic != MAGIC {
            return None;
        }
        let mut index = vec![0; length];
        file.seek(SeekFrom::Start(start)).ok()?;
        file.read_exact(&mut index).ok()?;
        Some(Self { file: Arc::new(path), index })
    }

    /// What a row has.
    pub(super) fn picture(&self, row: usize) -> Option<Part> {
        let (kind, place) = self.index.get(row * ENTRY..(row + 1) * ENTRY)?.split_first()?;
        let (offset, len) = place.split_at(8);
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        let (offset, len) = (number(offset)?, number(len)?);
        match KINDS.iter().position(|k| k == kind)? {
            1 => Some(Part::Packed { file: Arc::clone(&self.file), offset, len }),
            2 => {
                let mut file = File::open(self.file.as_path()).ok()?;
                let mut path = String::new();
                file.seek(SeekFrom::Start(offset)).ok()?;
                file.take(len).read_to_string(&mut path).ok()?;
                Some(Part::Path(path))
            }
            _ => None,
        }
    }
}

/// Unpacks a source; nothing is left of it unless it is finished.
pub(super) struct Unpacking {
    file: Arc<PathBuf>,
    out: AtomicFile,
    at: u64,
    index: Vec<u8>,
}

impl Unpacking {
    pub(super) fn create(folder: &Path, source: &Path) -> Result<Self, DataError> {
        let file = file_of(folder, source);
        let create = || {
            fs::create_dir_all(folder)?;
            remove_leftovers(folder);
            AtomicFile::create(&file)
        };
        let out = create().map_err(|e| failed(&file, &e))?;
        Ok(Self { file: Arc::new(file), out, at: 0, index: Vec::new() })
    }

    /// Takes what the next row has, and says where it is found from now on.
    pub(super) fn keep(&mut self, picture: Option<Part>) -> Result<Option<Part>, DataError> {
        let (kind, bytes) = match &picture {
            None | Some(Part::Packed { .. } | Part::Text(_)) => (KINDS[0], &[][..]),
            Some(Part::Bytes(bytes)) => (KINDS[1], bytes.as_slice()),
            Some(Part::Path(path)) => (KINDS[2], path.as_bytes()),
        };
        self.out.write_all(bytes).map_err(|e| failed(&self.file, &e))?;
        let (offset, len) = (self.at, bytes.len() as u64);
        self.index.push(kind);
        self.index.extend(offset.to_le_bytes());
        self.index.extend(len.to_le_bytes());
        self.at += len;
        Ok(match picture {
            Some(Part::Bytes(_)) => Some(Part::Packed { file: Arc::clone(&self.file), offset, len }),
            other => other,
        })
    }

    /// Puts the file in its place.
    pub(super) fn finish(mut self) -> Result<(), DataError> {
        let file = Arc::clone(&self.file);
        let mut write = || -> io::Result<()> {
            let rows = (self.index.len() / ENTRY) as u64;
            self.out.write_all(&self.index)?;
            self.out.write_all(&rows.to_le_bytes())?;
            self.out.write_all(MAGIC)
        };
        write().and_then(|()| self.out.commit()).map_err(|e| failed(&file, &e))
    }
}

fn failed(path: &Path, error: &io::Error) -> DataError {
    DataError::invalid(path.display().to_string(), format!("images cannot be unpacked there: {error}"))
}
