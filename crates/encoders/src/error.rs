//! What can go wrong when a model is built, saved, loaded or fed.

use std::path::{Path, PathBuf};

/// What, where, expected, found: one readable line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter is missing, unknown, or of another shape; or a file of parameters cannot be read or written.
    #[error(transparent)]
    Parameters(#[from] balgrad_nn::Error),
    /// A name that no table has.
    #[error("unknown {what} `{found}`; known: {known}")]
    UnknownName {
        /// What was named: `fusion`, `encoder`, …
        what: &'static str,
        /// The name as given.
        found: String,
        /// The names that exist, comma-separated.
        known: String,
    },
    /// A configuration or a file whose content makes no sense.
    #[error("{place}: {problem}")]
    Invalid {
        /// The file, field or model concerned.
        place: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// The system's own word.
        source: std::io::Error,
    },
    /// A part of a sample that cannot be read.
    #[error(transparent)]
    Data(#[from] balgrad_data::DataError),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The result of building, saving or loading; forward passes return [`candle_core::Result`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn invalid(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), problem: problem.into() }
    }

    pub(crate) fn unknown<'a>(what: &'static str, found: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known = known.collect::<Vec<_>>().join(", ");
        Self::UnknownName { what, found: found.to_owned(), known }
    }
}
