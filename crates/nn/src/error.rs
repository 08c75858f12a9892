//! What can go wrong when parameters are made, saved or loaded.

use std::path::{Path, PathBuf};

/// What, where, expected, found: one readable line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model has a parameter that the file has not.
    #[error("{place}: {count} parameter(s) of the model are missing, first `{name}`")]
    MissingParameter {
        /// Where it was looked for: a path, or a repository.
        place: String,
        /// The first missing name.
        name: String,
        /// How many are missing.
        count: usize,
    },
    /// The file has a parameter that the model has not.
    #[error("{place}: {count} parameter(s) are unknown to the model, first `{name}`")]
    UnexpectedParameter {
        /// Where it was found.
        place: String,
        /// The first unexpected name.
        name: String,
        /// How many are unexpected.
        count: usize,
    },
    /// A parameter has another shape than the model asks for.
    #[error("{place}: parameter `{name}` has shape {found:?}, expected {expected:?}")]
    ShapeMismatch {
        /// Where it was found.
        place: String,
        /// The parameter's name.
        name: String,
        /// The shape that the model asks for.
        expected: Vec<usize>,
        /// The shape that was found.
        found: Vec<usize>,
    },
    /// A parameter holds NaN or an infinity.
    #[error("{place}: `{name}` holds values that are not finite: the file is damaged, or its training diverged")]
    NotFinite {
        /// Where it was found.
        place: String,
        /// The parameter's name.
        name: String,
    },
    /// A name that no table has.
    #[error("unknown {what} `{found}`; known: {known}")]
    UnknownName {
        /// What was named: `optimizer`.
        what: &'static str,
        /// The name as given.
        found: String,
        /// The names that exist, comma-separated.
        known: String,
    },
    /// A file that is not what its name says.
    #[error("{}: not readable as weights: {problem}", path.display())]
    Unreadable {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong.
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
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The result of making, saving or loading parameters; forward passes and optimisers return [`candle_core::Result`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn unknown<'a>(what: &'static str, found: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known = known.collect::<Vec<_>>().join(", ");
        Self::UnknownName { what, found: found.to_owned(), known }
    }
}
