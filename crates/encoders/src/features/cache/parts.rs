//! Parts of a feature file, which several processes build and the first reader joins.

use std::cell::OnceCell;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{CacheKey, CachedFeatures, FeatureCache, FeatureWriter, HEADER, header, read};
use crate::Error;

/// The ending of a file with some of the rows.
const PART: &str = "part";

/// The key of some of the rows of `key`.
fn part_key<'a>(key: &CacheKey<'a>, part: &Range<usize>, condition: &'a mut String) -> CacheKey<'a> {
    *condition = format!("{}#{}-{}", key.condition, part.start, part.end);
    CacheKey { condition, ..*key }
}

impl FeatureCache {
    /// [`get_or_build`](Self::get_or_build), where parts of the rows may have been built by [`build_part`](Self::build_part): these are taken, and `build` is
    /// asked for the others, in order.
    ///
    /// # Errors
    /// As for [`get_or_build`](Self::get_or_build).
    pub fn get_or_join<E: From<Error>>(
        &self,
        key: &CacheKey<'_>,
        (rows, dim): (usize, usize),
        mut build: impl FnMut(Range<usize>, &mut FeatureWriter) -> std::result::Result<(), E>,
    ) -> std::result::Result<CachedFeatures, E> {
        let parts = OnceCell::new();
        let features = self.get_or_build(key, (rows, dim), |writer| {
            let mut done = 0;
            for (part, path) in parts.get_or_init(|| self.parts(key)) {
                let header = header(&part_key(key, part, &mut String::new()), (part.len(), dim));
                // What is damaged is built again.
                if let (true, Ok(Some(file))) = (part.start >= done, read(path, &header, (part.len(), dim))) {
                    if part.start > done {
                        build(done..part.start, writer)?;
                    }
                    writer.append(file.floats().map_or(&[], |all| &all[HEADER / 4..]))?;
                    done = part.end;
                }
            }
            if done < rows { build(done..rows, writer) } else { Ok(()) }
        })?;
        for (_, path) in parts.into_inner().unwrap_or_default() {
            let _ = fs::remove_file(path);
        }
        Ok(features)
    }

    /// Builds some of the rows of `key` into a file of their own, where neither they nor all are there yet.
    ///
    /// # Errors
    /// As for [`get_or_build`](Self::get_or_build).
    pub fn build_part<E: From<Error>>(
        &self,
        key: &CacheKey<'_>,
        (rows, dim): (usize, usize),
        part: &Range<usize>,
        build: impl FnMut(&mut FeatureWriter) -> std::result::Result<(), E>,
    ) -> std::result::Result<Option<CachedFeatures>, E> {
        if part.is_empty() || matches!(read(&self.path(key), &header(key, (rows, dim)), (rows, dim)), Ok(Some(_))) {
            return Ok(None);
        }
        let path = self.path(key).with_extension(format!("{}-{}.{PART}", part.start, part.end));
        let condition = &mut String::new();
        Self::at(&path, &part_key(key, part, condition), (part.len(), dim), build).map(Some)
    }

    /// The parts of `key` that there are, by their rows.
    fn parts(&self, key: &CacheKey<'_>) -> Vec<(Range<usize>, PathBuf)> {
        let stem = self.path(key).with_extension("");
        let rows = |path: &Path| {
            let name = path.file_name()?.to_str()?.strip_prefix(stem.file_name()?.to_str()?)?;
            let (start, end) = name.strip_prefix('.')?.strip_suffix(PART)?.strip_suffix('.')?.split_once('-')?;
            Some(start.parse().ok()?..end.parse().ok()?)
        };
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut parts: Vec<_> = files.filter_map(|path| Some((rows(&path)?, path))).collect();
        parts.sort_by_key(|(rows, _)| (rows.start, rows.end));
        parts
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: CacheKey<'_> = CacheKey { encoder: "e", preprocessing: "p", dataset: "d", condition: "full" };

    #[test]
    fn parts_are_joined_and_what_is_missing_of_them_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        let rows = |rows: Range<usize>| rows.flat_map(|row| [row as f32, -0.5]).collect::<Vec<f32>>();
        let part = |part: Range<usize>| {
            cache.build_part(&KEY, (9, 2), &part, |writer| writer.append(&rows(part.clone()))).unwrap().is_some()
        };
        assert!([part(0..2), part(4..7), part(6..9), part(2..4)] == [true; 4] && !part(5..5));
        let damaged = cache.path(&KEY).with_extension("2-4.part");
        fs::write(&damaged, b"x").unwrap();
        let mut built = Vec::new();
        let join = |some: Range<usize>, writer: &mut FeatureWriter| {
            built.push(some.clone());
            writer.append(&rows(some))
        };
        let joined = cache.get_or_join(&KEY, (9, 2), join).unwrap();
        assert_eq!(built, [2..4, 7..9]);
        assert_eq!(joined.values(), rows(0..9));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "parts go when they are joined");
        assert!(!part(0..2), "nothing is left to do");
    }
}
