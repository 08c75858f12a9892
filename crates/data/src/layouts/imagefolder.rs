//! Folders of images as Hugging Face's `imagefolder` has them: a folder for each class, below one for each split or not; or
//! `metadata.csv` or `metadata.jsonl` beside the images, whose column `file_name` names them and whose others are texts and labels.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::located::is_image;
use super::roles::Roles;
use super::table::{Row, Table};
use super::{Draft, Layout, delimited};
use crate::{DataError, Dataset, ReadOptions, Split};

pub(super) static LAYOUT: Layout = Layout {
    name: "imagefolder",
    about: "a folder for each class, with folders for splits or without; or metadata.csv or .jsonl (file_name, text, label)",
    paper: "Hugging Face's imagefolder",
    detect: |folder| {
        let files = below(folder);
        if let Some(metadata) = files.iter().find(|file| is_metadata(file)) {
            return Some(format!("it holds {}", shown(folder, metadata)));
        }
        let (splits, depth) = splits(folder);
        let mut classes: Vec<String> =
            splits.iter().flat_map(|(root, _)| below(root).into_iter().filter_map(|f| class(root, &f))).collect();
        classes.sort();
        classes.dedup();
        let where_ = if depth { "its split folders hold" } else { "it holds" };
        (classes.len() >= 2).then(|| format!("{where_} a folder of images for each of {} classes", classes.len()))
    },
    read,
};

/// How deep folders may be nested.
const DEPTH: usize = 6;

/// Images and metadata below a folder, in order of name.
fn below(folder: &Path) -> Vec<PathBuf> {
    fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            if path.is_dir() && depth > 0 && !hidden {
                walk(&path, depth - 1, found);
            } else if !hidden && (is_image(&path.to_string_lossy()) || is_metadata(&path)) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, DEPTH, &mut found);
    found
}

fn is_metadata(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n == "metadata.csv" || n == "metadata.jsonl")
}

fn shown(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).display().to_string()
}

/// The folders of splits, and whether there are any; else the folder itself.
fn splits(folder: &Path) -> (Vec<(PathBuf, Option<Split>)>, bool) {
    let mut found: Vec<(PathBuf, Option<Split>)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let split = Split::named(&entry.file_name().to_string_lossy());
        if split.is_some() && entry.path().is_dir() {
            found.push((entry.path(), split));
        }
    }
    found.sort();
    // Metadata above the splits lists all of their images.
    let above = ["metadata.csv", "metadata.jsonl"].into_iter().any(|name| folder.join(name).is_file());
    if found.is_empty() || above { (vec![(folder.to_owned(), None)], false) } else { (found, true) }
}

/// The folder right below a split's that a file lies in.
fn class(root: &Path, file: &Path) -> Option<String> {
    let mut parts = file.strip_prefix(root).ok()?.components();
    let first = parts.next()?.as_os_str().to_string_lossy().into_owned();
    parts.next().map(|_| first)
}

/// All images with what is said of them, and how many no metadata file lists.
pub(super) fn table(folder: &Path, draft: &mut Draft<'_>) -> Result<(Table, usize), DataError> {
    let mut table = Table { names: vec!["file_name".to_owned()], ..Table::default() };
    let mut unlisted = 0;
    for (root, split) in splits(folder).0 {
        let files = below(&root);
        let (metadata, images): (Vec<&PathBuf>, Vec<&PathBuf>) = files.iter().partition(|file| is_metadata(file));
        let mut listed = 0;
        for file in &metadata {
            let mut of_file = match file.extension().is_some_and(|e| e == "csv") {
                true => delimited::read(file, draft)?,
                false => Table::of_json(file, &mut draft.sieve)?,
            };
            let home = file.parent().map(|f| shown(folder, f)).filter(|f| !f.is_empty());
            let base = home.map_or_else(String::new, |home| format!("{home}/"));
            let name = of_file.names.iter().position(|n| n == "file_name");
            for row in &mut of_file.rows {
                let path = name.and_then(|i| row.cells[i].as_str()).map(|n| format!("{base}{n}"));
                let start = path.as_deref().and_then(|path| path.split_once('/')).map(|(start, _)| start);
                let inner = start.filter(|_| split.is_none()).and_then(Split::named);
                (row.split, row.base) = (split.or(inner), base.clone());
                let root = if inner.is_some() { root.join(start.unwrap_or_default()) } else { root.clone() };
                row.class = path.as_ref().and_then(|path| class(&root, &folder.join(path)));
                row.id = path.unwrap_or_else(|| format!("{base}{}", row.id));
            }
            listed += of_file.rows.len();
            table.append(of_file);
        }
        if !metadata.is_empty() {
            unlisted += images.len().saturating_sub(listed);
            continue;
        }
        for image in images {
            let path = shown(folder, image);
            let mut cells = vec![Value::Null; table.names.len()];
            cells[0] = Value::from(path.as_str());
            let place = image.display().to_string();
            let class = class(&root, image);
            table.rows.push(Row { place, id: path, cells, split, class, base: String::new(), parts: Vec::new() });
        }
    }
    Ok((table, unlisted))
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    let (table, unlisted) = table(folder, &mut draft)?;
    if unlisted > 0 {
        draft.notes.push(format!("{unlisted} images that no metadata file lists were passed over"));
    }
    let mut classes: Vec<&String> = table.rows.iter().filter_map(|row| row.class.as_ref()).collect();
    classes.sort();
    classes.dedup();
    let classed = classes.len() >= 2;
    let place = folder.display().to_string();
    let roles = Roles::find(&place, &table, &options.columns, &options.modalities, false, !classed)?;
    draft.notes.push(roles.said(&table));
    if roles.label.is_none() && roles.target.is_none() {
        draft.notes.push("classes are the names of folders".to_owned());
    }
    draft.fill(table, &roles, options)?;
    draft.finish(options.split_seed)
}
