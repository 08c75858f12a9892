//! What can be wrong with data: one line each, with what, where and the mend.

use std::path::PathBuf;

use crate::Problem;

/// Why a data set, or one of its files, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Neither a bundled task nor a folder.
    #[error(
        "no data called `{name}`: it is no folder, no file and no bundled task{} (bundled: {known})", meant(nearest.as_deref())
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// The bundled task that was meant, if one is near.
        nearest: Option<String>,
        /// All bundled tasks.
        known: String,
    },
    /// A layout that does not exist.
    #[error("unknown layout `{name}`{} (known: {known})", meant(nearest.as_deref()))]
    UnknownLayout {
        /// What was asked for.
        name: String,
        /// The layout that was meant, if one is near.
        nearest: Option<String>,
        /// All layouts.
        known: String,
    },
    /// A condition or kind of noise that does not exist.
    #[error("unknown condition `{name}`; known: {known}")]
    UnknownCondition {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A folder or file that no layout recognises.
    #[error("{}: no layout recognises this {}; name one with --layout (known: {known})", path.display(), if path.is_dir() { "folder" } else { "file" })]
    Unrecognised {
        /// The folder or file.
        path: PathBuf,
        /// All layouts.
        known: String,
    },
    /// A table in which nothing looks like what is needed.
    #[error("{place}: no column is surely the {role} (there are: {columns})")]
    NoColumn {
        /// The file.
        place: String,
        /// What the column is to hold.
        role: &'static str,
        /// All columns.
        columns: String,
    },
    /// A column that the table does not have.
    #[error("{place}: no column `{name}` for the {role} (there are: {columns})")]
    UnknownColumn {
        /// The file.
        place: String,
        /// What was asked for.
        name: String,
        /// What the column is to hold.
        role: &'static str,
        /// All columns.
        columns: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Content that makes no sense.
    #[error("{place}: {what}")]
    Invalid {
        /// File and line.
        place: String,
        /// What is wrong, and the mend.
        what: String,
    },
    /// A sample that cannot be used, under the policy `fail`.
    #[error("{0}; use --on-bad-sample skip to go on without it")]
    BadSample(Problem),
}

impl DataError {
    /// Whether the mistake can be seen from arguments alone.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::UnknownLayout { .. } | Self::UnknownCondition { .. })
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// Something at `place` that cannot be read for what it is: `what` is wrong with it.
    pub fn invalid(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), what: what.into() }
    }
}

/// The candidate with the fewest edits from `word`, where these are few enough for it to have been meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let most = (word.chars().count() / 3).clamp(1, 3);
    let distances = candidates.map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c));
    distances.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, near)| near)
}

/// What is asked about a name that is near.
pub(crate) fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}
