//! Why a run folder has no record that this version reads.

use thiserror::Error;

/// What is wrong with the `results.json` of a run folder. The folder is named by whoever reports it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// There is none.
    #[error("not finished (no results.json): go on with it by `balgrad train --resume RUN`")]
    Unfinished,
    /// It cannot be read.
    #[error("results.json cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// It is no JSON.
    #[error("results.json is damaged: {0}; remove it, and train the run again with --resume")]
    Damaged(serde_json::Error),
    /// It is not that of a run.
    #[error("results.json has no `schema`: it is not a run's")]
    Foreign,
    /// A later version wrote it.
    #[error("results.json has schema {schema}, but this version ({ours}) reads schemas {first} to {last}: use balgrad {version} or newer",
        ours = env!("CARGO_PKG_VERSION"), first = super::SCHEMAS.start(), last = super::SCHEMAS.end())]
    Newer {
        /// The schema that it has.
        schema: String,
        /// The version that wrote it.
        version: String,
    },
    /// It, or a file that goes with it, is not what it was when the run ended.
    #[error(
        "{name} does not match SHA256SUMS: it was changed or damaged after the run; restore it from a copy, or train the run again"
    )]
    Changed {
        /// The file.
        name: String,
    },
    /// Something is missing in it, or is not what it should be.
    #[error("results.json is incomplete: {0}")]
    Incomplete(serde_json::Error),
}
