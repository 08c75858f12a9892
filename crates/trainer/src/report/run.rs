//! One run folder, as far as a report reads it.

use std::path::{Path, PathBuf};

use crate::metrics::Score;
use crate::record::{Log, Measure, RecordError, RunRecord, sums};

/// A finished run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its folder.
    pub path: PathBuf,
    /// `results.json`.
    pub record: RunRecord,
    /// `metrics.jsonl`.
    pub log: Log,
    /// `config.toml`, or nothing.
    pub config: String,
}

impl Run {
    /// Reads a run folder.
    pub(super) fn read(folder: &Path) -> Result<Self, RecordError> {
        // What a report says of a run is what the run was.
        if folder.join("config.toml").exists() {
            sums::verify(folder, "config.toml")?;
        }
        Ok(Self {
            path: folder.to_owned(),
            record: RunRecord::read(folder)?,
            log: Log::read(folder),
            config: std::fs::read_to_string(folder.join("config.toml")).unwrap_or_default(),
        })
    }

    /// The end of its path, which says which run it is and not on whose machine.
    pub(super) fn place(&self) -> String {
        place(&self.path)
    }

    /// A row of a table.
    pub fn measure(&self, measure: &Measure, score: Score) -> Option<f64> {
        self.record.measure(measure, score)
    }
}

/// The last folders of a path.
pub(super) fn place(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts[parts.len().saturating_sub(3)..].join("/")
}
