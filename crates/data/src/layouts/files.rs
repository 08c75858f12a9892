//! The files of one kind in a folder and the folders below, and the split that a name tells.

use std::path::{Path, PathBuf};

use crate::{DataError, Split};

/// Folders within folders: `config/split/0000.parquet` of a hub, and some to spare.
const MAX_DEPTH: usize = 4;

/// Entries of folders that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// A file of a data set.
pub(super) struct Table {
    pub(super) path: PathBuf,
    /// Unique among the files; the start of its samples' ids.
    pub(super) name: String,
    /// What its name or that of a folder above tells, if anything.
    pub(super) split: Option<Split>,
}

/// The files with this ending in a folder and the folders below, in order of path.
pub(super) fn tables(folder: &Path, ending: &str) -> Result<Vec<Table>, DataError> {
    let mut paths = Vec::new();
    let mut left = MAX_ENTRIES;
    walk(folder, ending, MAX_DEPTH, &mut left, &mut paths)?;
    paths.sort();
    let stem = |path: &PathBuf| path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let mut stems: Vec<String> = paths.iter().map(stem).collect();
    stems.sort_unstable();
    stems.dedup();
    let unique = stems.len() == paths.len();
    let table = |path: PathBuf| {
        let inside = path.strip_prefix(folder).unwrap_or(&path).to_owned();
        let long = inside.with_extension("").to_string_lossy().replace('\\', "/");
        Table { name: if unique { stem(&path) } else { long }, split: split_of(&inside), path }
    };
    Ok(paths.into_iter().map(table).collect())
}

fn walk(
    folder: &Path,
    ending: &str,
    depth: usize,
    left: &mut usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), DataError> {
    for entry in std::fs::read_dir(folder).map_err(|e| DataError::io(folder, e))? {
        let Some(after) = left.checked_sub(1) else { return Ok(()) };
        *left = after;
        let entry = entry.map_err(|e| DataError::io(folder, e))?;
        let (path, hidden) = (entry.path(), entry.file_name().as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        } else if !hidden && depth > 0 && path.is_dir() {
            // A folder that may not be read is nobody's data.
            let _ = walk(&path, ending, depth - 1, left, found);
        }
    }
    Ok(())
}

/// The split that a word names; hubs know some words more.
pub(super) fn split_named(word: &str) -> Option<Split> {
    Split::named(word).or_else(|| match word.to_lowercase().as_str() {
        "training" => Some(Split::Train),
        "testing" | "eval" | "evaluation" => Some(Split::Test),
        _ => None,
    })
}

/// The split that a path tells, by a whole word of the file's name, else of the nearest folder that has one.
fn split_of(path: &Path) -> Option<Split> {
    let stem = path.with_extension("");
    let named = |part: std::path::Component| {
        let part = part.as_os_str().to_string_lossy().into_owned();
        part.split(|c: char| !c.is_alphabetic()).find_map(split_named)
    };
    stem.components().rev().find_map(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_told_by_whole_words_of_the_nearest_name() {
        for (path, split) in [
            ("data/train-00000-of-00001.parquet", Some(Split::Train)),
            ("data/validation-00000-of-00001.parquet", Some(Split::Val)),
            ("dev_seen.parquet", Some(Split::Val)),
            ("memes-valid.parquet", Some(Split::Val)),
            ("val2014.parquet", Some(Split::Val)),
            ("default/test/0000.parquet", Some(Split::Test)),
            ("test/train/0.parquet", Some(Split::Train)),
            ("Partial-Training/0001.parquet", Some(Split::Train)),
            ("testimonials.parquet", None),
            ("values.parquet", None),
            ("data/all.parquet", None),
        ] {
            assert_eq!(split_of(Path::new(path)), split, "{path}");
        }
    }
}
