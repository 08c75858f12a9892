//! The layouts that data sets have on disk: one file each, one line each in [`LAYOUTS`].

use std::collections::HashSet;
use std::path::{Component, Path};

use crate::{DataError, Dataset, OnBadSample, Problem, ReadOptions};

pub(crate) mod manifest;

/// A way to lay out a data set on disk.
pub trait Layout: Sync {
    /// Name on the command line.
    fn name(&self) -> &'static str;
    /// One line: what it looks like.
    fn about(&self) -> &'static str;
    /// The data set that comes so, and who published it.
    fn paper(&self) -> &'static str;
    /// Why `folder` looks like this layout, if it does.
    fn detect(&self, folder: &Path) -> Option<String>;
    /// Reads `folder`.
    ///
    /// # Errors
    /// Data that cannot be used, or under `OnBadSample::Fail` the first bad sample.
    fn read(&self, folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError>;
}

/// Every layout, in the order in which a folder is looked at.
pub static LAYOUTS: &[&dyn Layout] = &[&manifest::MANIFEST];

/// What all readers do with samples that cannot be used, and with ids seen twice.
pub(crate) struct Sieve {
    policy: OnBadSample,
    seen: HashSet<String>,
    pub(crate) problems: Vec<Problem>,
}

impl Sieve {
    pub(crate) fn new(options: &ReadOptions) -> Self {
        Self { policy: options.on_bad_sample, seen: HashSet::new(), problems: Vec::new() }
    }

    /// Notes a sample that cannot be used.
    pub(crate) fn bad(&mut self, place: impl Into<String>, what: impl Into<String>) -> Result<(), DataError> {
        let problem = Problem { place: place.into(), what: what.into() };
        if self.policy == OnBadSample::Fail {
            return Err(DataError::BadSample(problem));
        }
        self.problems.push(problem);
        Ok(())
    }

    /// Whether the id is new.
    pub(crate) fn is_new(&mut self, id: &str) -> bool {
        self.seen.insert(id.to_owned())
    }
}

/// Why a relative path may not be followed, if it may not.
pub(crate) fn escapes(folder: &Path, path: &Path) -> Option<String> {
    if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Some(format!("the path `{}` leads out of the data folder", path.display()));
    }
    // A link may point anywhere: what it leads to must lie inside, too.
    let (inside, target) = (folder.canonicalize().ok()?, folder.join(path).canonicalize().ok()?);
    (!target.starts_with(inside)).then(|| format!("the path `{}` links out of the data folder", path.display()))
}
