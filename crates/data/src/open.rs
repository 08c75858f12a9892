//! From a name or a folder to a data set.

use std::path::{Path, PathBuf};

use crate::error::nearest;
use crate::layouts::manifest;
use crate::{Columns, DataError, Dataset, LAYOUTS, MODALITIES, Modality};

/// The bundled tasks.
const BUNDLED: &[&str] = &["emoji", "emoji:subgroup", "icons", "icons:tags", "clipart", "clipart:living", "sentiment"];

/// What to do with a sample that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadSample {
    /// Go on without it, and count it.
    #[default]
    Skip,
    /// Stop.
    Fail,
}

/// What to do with a sample that names a file which does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissingFile {
    /// It cannot be used, as [`OnBadSample`] says.
    #[default]
    Skip,
    /// Its modality is missing.
    Missing,
    /// Stop.
    Fail,
}

/// How to read a data set.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// A name of the table of layouts; `None` looks at the folder or file.
    pub layout: Option<String>,
    /// What to do with a sample that cannot be used.
    pub on_bad_sample: OnBadSample,
    /// What to do with a sample that names a file which does not exist.
    pub on_missing_file: OnMissingFile,
    /// Which columns of a table hold what.
    pub columns: Columns,
    /// Decides the splits that a data set does not bring.
    pub split_seed: u64,
    /// A second label set or text of the same images: `manifest.<variant>.jsonl`.
    pub variant: Option<String>,
    /// Where images that stand in Parquet files are unpacked, once; `None`: they are held in memory.
    pub unpacked: Option<PathBuf>,
    /// MM-IMDb: each film's first plot, not its longest.
    pub first_plot: bool,
    /// The modalities that a data set may have, in the order of a model's towers.
    pub modalities: Vec<&'static Modality>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            layout: None,
            on_bad_sample: OnBadSample::default(),
            on_missing_file: OnMissingFile::default(),
            columns: Columns::default(),
            split_seed: 0,
            variant: None,
            unpacked: None,
            first_plot: false,
            modalities: MODALITIES.to_vec(),
        }
    }
}

/// Opens a bundled task (`emoji`, `emoji:subgroup`, …), or a folder or file in one of the layouts.
///
/// # Errors
/// A name that is none of these, a folder or file that no layout recognises, or data that cannot be used.
pub fn open(name_or_dir: &str, options: &ReadOptions) -> Result<Dataset, DataError> {
    if BUNDLED.contains(&name_or_dir) {
        let (name, variant) = name_or_dir.split_once(':').map_or((name_or_dir, None), |(n, v)| (n, Some(v.to_owned())));
        let folder = bundled(name).ok_or_else(|| {
            DataError::invalid(
                name_or_dir,
                "the bundled task was not found: set BALGRAD_DATASETS to the folder that holds it, or run inside the checkout",
            )
        })?;
        return (manifest::LAYOUT.read)(&folder, &ReadOptions { variant, ..options.clone() });
    }
    let path = Path::new(name_or_dir);
    if !path.is_dir() && !path.is_file() {
        return Err(DataError::Unknown {
            name: name_or_dir.to_owned(),
            nearest: nearest(name_or_dir, BUNDLED.iter().copied()).map(str::to_owned),
            known: BUNDLED.join(", "),
        });
    }
    let known = || LAYOUTS.iter().map(|l| l.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = &options.layout {
        let layout = LAYOUTS.iter().find(|l| l.name == name).ok_or_else(|| DataError::UnknownLayout {
            name: name.clone(),
            nearest: nearest(name, LAYOUTS.iter().map(|l| l.name)).map(str::to_owned),
            known: known(),
        })?;
        return (layout.read)(path, options);
    }
    let recognised = LAYOUTS.iter().find_map(|l| (l.detect)(path).map(|why| (l, why)));
    let (layout, why) = recognised.ok_or_else(|| DataError::Unrecognised { path: path.to_owned(), known: known() })?;
    let mut dataset = (layout.read)(path, options)?;
    dataset.notes.insert(0, format!("read as `{}`: {why}", layout.name));
    Ok(dataset)
}

/// The folder of a bundled task: under `BALGRAD_DATASETS`, beside the installed program, or in the checkout.
fn bundled(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let installed = program.as_deref().and_then(Path::parent).map(|bin| bin.join("../share/balgrad/datasets"));
    let named = std::env::var_os("BALGRAD_DATASETS").map(PathBuf::from);
    let here = std::env::current_dir().ok();
    let above = [here.as_deref(), program.as_deref()].into_iter().flatten().flat_map(Path::ancestors);
    let above = above.map(|folder| folder.join("datasets"));
    named.into_iter().chain(installed).chain(above).map(|d| d.join(name)).find(|d| d.join("dataset.toml").is_file())
}
