//! JSON lines of any make: one file, or one for each split (`train.jsonl`, `dev.jsonl`, `test.jsonl`), as MMBT has its data.
//! Fields are found by names and content unless the options name them.

use std::path::Path;

use super::roles::Roles;
use super::table::{Table, joined, members};
use super::{Draft, Layout};
use crate::{DataError, Dataset, ReadOptions};

pub(super) static LAYOUT: Layout = Layout {
    name: "jsonl",
    about: "a folder with one .jsonl file, or one for each split; fields are found by names and content",
    paper: "Kiela et al., MMBT, 2019, and many others",
    detect: |folder| {
        let files = if folder.is_dir() { members(folder, ENDINGS).ok()? } else { Vec::new() };
        Some(format!("it holds {}", files.first()?.0.file_name()?.to_string_lossy()))
    },
    read,
};

const ENDINGS: &[&str] = &["jsonl", "ndjson"];

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let place = folder.display().to_string();
    let files = members(folder, ENDINGS).map_err(|what| DataError::invalid(place.clone(), what))?;
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    let table = joined(files, &mut draft, |path, draft| Table::of_json(path, &mut draft.sieve))?;
    if table.rows.is_empty() {
        return draft.finish(options.split_seed);
    }
    let roles = Roles::find(&place, &table, &options.columns, &options.modalities, false, true)?;
    draft.notes.push(roles.said(&table));
    draft.fill(table, &roles, options)?;
    draft.finish(options.split_seed)
}
