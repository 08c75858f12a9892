//! Where the content of one modality of a sample is.

use std::borrow::Cow;
use std::io::{Read, Seek, SeekFrom};
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
        file: Arc<PathBuf>,
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
    /// A file that cannot be read.
    pub fn bytes(&self) -> Result<(Cow<'_, [u8]>, String), DataError> {
        match self {
            Self::Text(text) => Ok((Cow::Borrowed(text.as_bytes()), "text in memory".into())),
            Self::Bytes(bytes) => Ok((Cow::Borrowed(&bytes[..]), "bytes in memory".into())),
            Self::File(path) => {
                let bytes = std::fs::read(path).map_err(|e| DataError::io(path, e))?;
                Ok((bytes.into(), path.display().to_string()))
            }
            Self::Packed { file, offset, len } => {
                let bytes = range(file, *offset, *len).map_err(|e| DataError::io(file.as_path(), e))?;
                Ok((bytes.into(), format!("{} at byte {offset}", file.display())))
            }
        }
    }
}

fn range(path: &Path, offset: u64, len: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}
