//! The layouts that data sets have on disk: one file each, one line each in [`LAYOUTS`].

use std::collections::HashSet;
use std::path::{Component, Path};

use draft::{Answer, Draft, Found, HeldOut, Part, image_and_text};
use rows::{csv_rows, json_lines, text_of};

use crate::{DataError, Dataset, OnBadSample, Problem, ReadOptions};

mod appstream;
mod csv;
mod cub;
mod delimited;
mod draft;
mod files;
mod food101;
mod hateful_memes;
mod imagefolder;
mod jsonl;
mod labels;
mod located;
pub(crate) mod manifest;
mod memotion;
mod mm_imdb;
mod parquet;
mod roles;
mod rows;
mod table;
mod unlabelled;
mod unpacked;
mod webdataset;

pub use unlabelled::{Unlabelled, UnlabelledSamples, unlabelled, unlabelled_record};

/// A way to lay out a data set on disk: a row of [`LAYOUTS`].
#[derive(Debug)]
pub struct Layout {
    /// Name on the command line.
    pub name: &'static str,
    /// One line: what it looks like.
    pub about: &'static str,
    /// The data set that comes so, and who published it.
    pub paper: &'static str,
    /// Why a folder or file looks like this layout, if it does.
    pub detect: fn(&Path) -> Option<String>,
    /// Reads a folder or file; an error is data that cannot be used, or under `OnBadSample::Fail` the first bad sample.
    pub read: fn(&Path, &ReadOptions) -> Result<Dataset, DataError>,
}

/// Every layout, in the order in which a folder or file is looked at.
pub static LAYOUTS: &[&Layout] = &[
    &manifest::LAYOUT,
    &hateful_memes::LAYOUT,
    &food101::LAYOUT,
    &mm_imdb::LAYOUT,
    &memotion::LAYOUT,
    &cub::LAYOUT,
    &appstream::LAYOUT,
    &parquet::LAYOUT,
    &webdataset::LAYOUT,
    &jsonl::LAYOUT,
    &csv::LAYOUT,
    &imagefolder::LAYOUT,
];

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
    leads_out(folder, &folder.join(path)).then(|| {
        format!(
            "the path `{}` links to neither the data folder nor what lies beside it; copy the file in",
            path.display()
        )
    })
}

/// Whether a path, all links followed, ends outside the data folder, the folders beside it and the blobs of a hub's cache.
/// The root and a home are too much to lie beside.
pub(crate) fn leads_out(folder: &Path, path: &Path) -> bool {
    let Some((inside, target)) = folder.canonicalize().ok().zip(path.canonicalize().ok()) else { return false };
    let above =
        inside.parent().filter(|above| above.parent().is_some() && std::env::home_dir().as_deref() != Some(*above));
    let snapshots = inside.parent().filter(|above| above.ends_with("snapshots")).and_then(Path::parent);
    let blob = snapshots.is_some_and(|repository| target.starts_with(repository.join("blobs")));
    !blob && !target.starts_with(&inside) && !above.is_some_and(|above| target.starts_with(above))
}

/// The first line of a file that is not empty, of its first 64 KiB.
pub(crate) fn first_line(path: &Path) -> Option<String> {
    first_lines(path)?.into_iter().next()
}

/// The lines of a file's first 64 KiB that are not empty; the last may be cut short.
pub(crate) fn first_lines(path: &Path) -> Option<Vec<String>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    crate::open_regular(path).ok()?.take(1 << 16).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.trim_start_matches('\u{feff}')
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into()
}
