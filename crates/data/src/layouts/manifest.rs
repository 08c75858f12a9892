//! `manifest.jsonl` with an optional `dataset.toml`: our own layout, the one to convert others to.
//!
//! A line is `{"id", "image", "text", "label", "split", "group"}`. `image` is a path relative to the folder, `text` a text; any
//! other modality goes by its name, and each may be null or left out, as may everything but `label`. That is a class or a list of
//! classes, by name, by number, or as a list of 0 and 1; for a regression a number or a list of numbers; null, and -1 among the
//! numbers of classes, is no label. Other fields are not read. `dataset.toml` may give `name`, `task`, `classes`, `metric`,
//! `licence` and `show_samples`; what it leaves out is read off the lines. Any other file of such lines may be named as the data;
//! `FILE.toml` is then its card.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::roles::Roles;
use super::table::{Table, home};
use super::{Draft, Layout};
use crate::{DataError, Dataset, ReadOptions, Task};

pub(crate) static LAYOUT: Layout = Layout {
    name: "manifest",
    about: "manifest.jsonl (id, image, text, label, split, group) and dataset.toml",
    paper: "BalGrad's own",
    detect: |path| {
        let held = path.join("manifest.jsonl").is_file().then(|| "it holds a manifest.jsonl".to_owned());
        held.or_else(|| is_file(path).then(|| "it is a file of JSON lines".to_owned()))
    },
    read,
};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Description {
    name: Option<String>,
    task: Option<Task>,
    classes: Option<Vec<String>>,
    metric: Option<String>,
    licence: Option<String>,
    #[serde(rename = "source")]
    _source: Option<String>,
    show_samples: Option<bool>,
}

/// A `.jsonl` file that is named as the data.
fn is_file(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|e| e == "jsonl" || e == "ndjson")
}

fn read(path: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let dot = options.variant.as_deref().map_or_else(String::new, |v| format!(".{v}"));
    let (folder, stem) = home(path);
    let path = if stem.is_some() { path.to_owned() } else { folder.join(format!("manifest{dot}.jsonl")) };
    let card = description(&card_of(&path))?;
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    draft.name = card.name.or(stem).unwrap_or(draft.name);
    if let Some(variant) = options.variant.as_ref().filter(|_| !draft.name.contains(':')) {
        draft.name = format!("{}:{variant}", draft.name);
    }
    (draft.task, draft.classes, draft.licence) = (card.task, card.classes, card.licence);
    draft.show_samples = card.show_samples.unwrap_or(false);
    draft.metric = card.metric;
    let table = Table::of_json(&path, &mut draft.sieve)?;
    if !table.rows.is_empty() {
        let roles =
            Roles::find(&path.display().to_string(), &table, &options.columns, &options.modalities, true, true)?;
        draft.notes.extend(roles.unused(&table).map(|fields| format!("fields that are not used: {fields}")));
        draft.fill(table, &roles, options)?;
    }
    draft.finish(options.split_seed)
}

/// The card of `manifest.jsonl` is `dataset.toml`; that of another file has its name.
pub(crate) fn card_of(path: &Path) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let variant = stem.strip_prefix("manifest").filter(|rest| rest.is_empty() || rest.starts_with('.'));
    path.with_file_name(format!("{}.toml", variant.map_or(stem.clone(), |variant| format!("dataset{variant}"))))
}

fn description(path: &Path) -> Result<Description, DataError> {
    match crate::read_regular(path).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Description::default()),
        Err(e) => Err(DataError::io(path, e)),
        Ok(text) => {
            toml::from_str(&text).map_err(|e| DataError::invalid(path.display().to_string(), e.message().to_owned()))
        }
    }
}
