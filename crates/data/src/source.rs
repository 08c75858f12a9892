//! Where the content of one modality of a sample is.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::DataError;

/// Where the content of one modality of a sample is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Here: a text.
    Text(String),
    /// A file of its own.
    File(PathBuf),
    /// A range of a file's bytes.
    Packed {
        /// The file.
        file: Arc<Pack>,
        /// Where the content starts, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        len: u64,
    },
    /// In memory.
    Bytes(Arc<[u8]>),
}

impl Source {
    /// The text, where the source is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The bytes, and how errors name their place.
    ///
    /// # Errors
    /// A file that cannot be read, or is none.
    pub fn bytes(&self) -> Result<(Cow<'_, [u8]>, String), DataError> {
        match self {
            Self::Text(text) => Ok((Cow::Borrowed(text.as_bytes()), "text in memory".into())),
            Self::Bytes(bytes) => Ok((Cow::Borrowed(&bytes[..]), "bytes in memory".into())),
            Self::File(path) => {
                let bytes = content(path).map_err(|e| DataError::io(path, e))?;
                Ok((bytes.into(), path.display().to_string()))
            }
            Self::Packed { file, offset, len } => {
                let bytes = file.read(*offset, *len).map_err(|e| DataError::io(file.path(), e))?;
                Ok((bytes.into(), format!("{} at byte {offset}", file.path().display())))
            }
        }
    }
}

/// The largest file of a single sample.
const MAX_FILE: u64 = 1 << 30;

fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 GiB"));
    }
    Ok(bytes)
}

/// A file that holds the content of many samples, held open: it may be deleted meanwhile.
#[derive(Debug)]
pub struct Pack {
    path: PathBuf,
    file: File,
}

impl PartialEq for Pack {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Pack {}

impl Pack {
    /// An open file, and its path.
    pub(crate) fn new(path: PathBuf, file: File) -> Self {
        Self { path, file }
    }

    /// Where the file is, or was.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file.metadata()
    }

    /// A range of the file's bytes; of the one that stands at its path, where this one was cut short.
    pub(crate) fn read(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        range(&self.file, offset, len).or_else(|e| range(&File::open(&self.path).map_err(|_| e)?, offset, len))
    }
}

fn range(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    if offset.saturating_add(len) > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?];
    #[cfg(unix)]
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, offset)?;
    #[cfg(not(unix))]
    {
        use std::io::Seek;
        // One that does not share its place with other threads.
        let mut file = file.try_clone()?;
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
    }
    Ok(bytes)
}

/// Opens a file, and nothing that only looks like one: a pipe or device would hang or never end.
///
/// # Errors
/// No such file, none that may be read, or another kind of thing.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let refused = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a file")));
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return refused("a folder");
    }
    if !kind.is_file() {
        return refused("a pipe, socket or device");
    }
    File::open(path)
}

/// The content of a file, which must be one.
///
/// # Errors
/// As for [`open_regular`].
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
