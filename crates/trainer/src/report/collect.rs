//! Run folders, wherever they are under some folders.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::run::Run;

/// Runs that were found, and what was left out.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// Finished runs, in the order of their paths.
    pub runs: Vec<Run>,
    /// Folders that look like runs and cannot be shown.
    pub skipped: Vec<Skipped>,
}

/// A run that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its folder.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// How deep runs are looked for.
const DEPTH: usize = 8;

/// Reads every run in `folders` and below.
///
/// # Errors
/// A folder that is not there, or no run that can be shown; then the message names each run and its reason.
pub fn collect(folders: &[PathBuf]) -> Result<Collected> {
    let mut found = BTreeSet::new();
    for folder in folders {
        if !folder.is_dir() {
            bail!("{} is not a folder: name run folders, or folders that hold them", folder.display());
        }
        search(folder, DEPTH, &mut found);
    }
    let mut collected = Collected::default();
    let mut seen = BTreeSet::new();
    for folder in found {
        if !seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        match Run::read(&folder) {
            Ok(run) => collected.runs.push(run),
            Err(why) => collected.skipped.push(Skipped { path: folder.display().to_string(), reason: why.to_string() }),
        }
    }
    if collected.runs.is_empty() {
        let names: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        let skipped: String = collected.skipped.iter().map(|s| format!("\n  {}: {}", s.path, s.reason)).collect();
        bail!("no finished run in {}{skipped}", names.join(", "));
    }
    Ok(collected)
}

/// A folder is a run if a run's files are in it; nothing below a run is looked at.
fn search(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    if ["results.json", "metrics.jsonl", "config.toml"].iter().any(|name| folder.join(name).is_file()) {
        found.insert(folder.to_owned());
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // Links are not followed: they may lead around in circles.
        if depth > 0 && entry.file_type().is_ok_and(|t| t.is_dir()) {
            search(&entry.path(), depth - 1, found);
        }
    }
}
