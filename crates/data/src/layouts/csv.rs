//! Any CSV or TSV file, or a folder that holds one, or one for each split (`train.csv`, `val.csv`, `test.csv`).
//!
//! Encoding, delimiter and quotes are found out, columns by names and content unless the options name them. Paths of images
//! are relative to the file; images in a folder beside it, or named without ending, are found.

use std::path::Path;

use super::roles::Roles;
use super::table::{home, joined, members};
use super::{Draft, Layout, delimited};
use crate::{DataError, Dataset, ReadOptions};

pub(super) static LAYOUT: Layout = Layout {
    name: "csv",
    about: "any CSV or TSV file, or a folder that holds one or one for each split; columns are found by names and content",
    paper: "a spreadsheet and a folder of images",
    detect: |path| match members(path, endings(path)) {
        Ok(files) => {
            let (file, _) = files.first()?;
            let name = file.file_name()?.to_string_lossy();
            Some(if path.is_dir() { format!("it holds {name}") } else { format!("{name} is a table") })
        }
        Err(_) => Some("it holds tables".to_owned()),
    },
    read,
};

/// A file may be called `.txt`; in a folder that is rarely the table.
fn endings(path: &Path) -> &'static [&'static str] {
    if path.is_dir() { &["csv", "tsv", "tab"] } else { &["csv", "tsv", "tab", "txt"] }
}

fn read(path: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let place = path.display().to_string();
    let files = members(path, endings(path)).map_err(|what| DataError::invalid(place.clone(), what))?;
    if files.is_empty() {
        return Err(DataError::invalid(place, "no CSV or TSV file"));
    }
    let (folder, name) = home(path);
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    draft.name = name.unwrap_or(draft.name);
    let table = joined(files, &mut draft, delimited::read)?;
    let roles = Roles::find(&place, &table, &options.columns, &options.modalities, false, true)?;
    draft.notes.push(roles.said(&table));
    draft.fill(table, &roles, options)?;
    draft.finish(options.split_seed)
}
