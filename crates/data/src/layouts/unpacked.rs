//! Images that stand in a large file of another form, unpacked once into a file of their own: one after the other, and an
//! index of the rows at the end. Found again by the source's path, size and time of change.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::Part;
use crate::atomic::{AtomicFile, remove_leftovers};
use crate::dataset::stamp;
use crate::source::{Pack, open_regular};
use crate::stable_hash;

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
    file: Arc<Pack>,
    index: Vec<u8>,
}

impl Unpacked {
    /// `None` where there is no such file, or none of so many rows.
    pub(super) fn open(folder: &Path, source: &Path, rows: u64) -> Option<Self> {
        let path = file_of(folder, source);
        let mut file = open_regular(&path).ok()?;
        let mut end = [0; 16];
        file.seek(SeekFrom::End(-16)).ok()?;
        file.read_exact(&mut end).ok()?;
        let (count, magic) = end.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*count) != rows {
            return None;
        }
        let length = usize::try_from(rows).ok()?.checked_mul(ENTRY)?;
        let start = file.metadata().ok()?.len().checked_sub(16 + length as u64)?;
        if magic != MAGIC {
            return None;
        }
        let mut index = vec![0; length];
        file.seek(SeekFrom::Start(start)).ok()?;
        file.read_exact(&mut index).ok()?;
        Some(Self { file: Arc::new(Pack::new(path, file)), index })
    }

    /// What a row has.
    pub(super) fn picture(&self, row: u64) -> Option<Part> {
        let row = usize::try_from(row).ok()?;
        let (kind, place) = self.index.get(row * ENTRY..(row + 1) * ENTRY)?.split_first()?;
        let (offset, len) = place.split_at(8);
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        let (offset, len) = (number(offset)?, number(len)?);
        match KINDS.iter().position(|k| k == kind)? {
            1 => Some(Part::Packed { file: Arc::clone(&self.file), offset, len }),
            2 => self.file.read(offset, len).ok().and_then(|path| String::from_utf8(path).ok()).map(Part::Path),
            _ => None,
        }
    }
}

/// Unpacks a source; nothing is left of it unless it is finished.
pub(super) struct Unpacking {
    file: Arc<Pack>,
    out: AtomicFile,
    at: u64,
    index: Vec<u8>,
    /// When the source was changed.
    changed: Option<SystemTime>,
}

impl Unpacking {
    /// An error says in words why the folder cannot be used, here and below.
    pub(super) fn create(folder: &Path, source: &Path) -> Result<Self, String> {
        let file = file_of(folder, source);
        let create = || {
            fs::create_dir_all(folder)?;
            remove_leftovers(folder);
            let out = AtomicFile::create(&file)?;
            Ok((out.file()?.try_clone()?, out))
        };
        let (kept, out) = create().map_err(|e| failed(&file, &e))?;
        let changed = fs::metadata(source).and_then(|meta| meta.modified()).ok();
        Ok(Self { file: Arc::new(Pack::new(file, kept)), out, at: 0, index: Vec::new(), changed })
    }

    /// Takes what the next row has, and says where it is found from now on.
    pub(super) fn keep(&mut self, picture: Option<Part>) -> Result<Option<Part>, String> {
        let (kind, bytes) = match &picture {
            None | Some(Part::Packed { .. } | Part::Text(_)) => (KINDS[0], &[][..]),
            Some(Part::Bytes(bytes)) => (KINDS[1], bytes.as_slice()),
            Some(Part::Path(path)) => (KINDS[2], path.as_bytes()),
        };
        self.out.write_all(bytes).map_err(|e| failed(self.file.path(), &e))?;
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

    /// Puts the file in its place. It bears the time of its source, so that the data are the same when it is made again.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let file = Arc::clone(&self.file);
        let mut write = || -> io::Result<()> {
            let rows = (self.index.len() / ENTRY) as u64;
            self.out.write_all(&self.index)?;
            self.out.write_all(&rows.to_le_bytes())?;
            self.out.write_all(MAGIC)?;
            self.out.flush()?;
            self.changed.map_or(Ok(()), |changed| self.out.file()?.set_modified(changed))
        };
        write().and_then(|()| self.out.commit()).map_err(|e| failed(file.path(), &e))
    }
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("images cannot be unpacked to {}: {error}", path.display())
}
