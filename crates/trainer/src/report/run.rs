//! One run folder, as far as a report reads it.

use std::path::{Path, PathBuf};

use crate::metrics::Score;
use crate::record::{Log, Measure, RecordError, RunRecord};

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
        Ok(Self {
            path: folder.to_owned(),
            record: RunRecord::read(folder)?,
            log: Log::read(folder),
            config: std::fs::read_to_string(folder.join("config.toml")).unwrap_or_default(),
        })
    }

    /// A row of a table.
    pub fn measure(&self, measure: &Measure, score: Score) -> Option<f64> {
        self.record.measure(measure, score)
    }
}
