//! Parquet files as the Hugging Face hub stores data sets: `data/train-00000-of-00001.parquet` and the like, with an
//! image column (`{bytes, path}`, or a path), a text column and a label column.
//!
//! Class names come from the hub's metadata in the file; without it, labels are named by their numbers. Images that stand
//! in the file are unpacked once, as they were encoded, where the options say so; else they are held in memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::unpacked::{Unpacked, Unpacking};
use super::{Answer, Draft, Found, Layout, Part, image_and_text};
use crate::{DataError, Dataset, ReadOptions, Split, Task};

pub(super) static LAYOUT: Layout = Layout {
    name: "parquet",
    about: "*.parquet or data/*.parquet, split named by the file, with image, text and label columns",
    paper: "Hugging Face data sets",
    detect: |folder| {
        let files = files(folder).ok()?;
        files.first().map(|file| format!("it holds {}", file.strip_prefix(folder).unwrap_or(file).display()))
    },
    read,
};

const IMAGES: &[&str] = &["image", "img", "images"];
const TEXTS: &[&str] = &["text", "caption", "title", "sentence", "description"];
const LABELS: &[&str] = &["label", "labels", "genres", "category", "class"];

fn files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    for place in [folder.to_owned(), folder.join("data")] {
        let Ok(entries) = std::fs::read_dir(&place) else { continue };
        for entry in entries {
            let path = entry.map_err(|e| DataError::io(&place, e))?.path();
            if path.extension().is_some_and(|e| e == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The split that a file's name starts with, if any.
fn split_of(path: &Path) -> Option<Split> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let known = [("train", Split::Train), ("val", Split::Val), ("dev", Split::Val), ("test", Split::Test)];
    known.into_iter().find(|(start, _)| name.starts_with(start)).map(|(_, split)| split)
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    let mut names = None;
    for path in files(folder)? {
        let bad =
            |e: &dyn std::fmt::Display| DataError::invalid(path.display().to_string(), format!("not Parquet: {e}"));
        let reader = File::open(&path).map_err(|e| DataError::io(&path, e))?;
        let reader = SerializedFileReader::new(reader).map_err(|e| bad(&e))?;
        let meta = reader.metadata().file_metadata();
        let columns: Vec<String> = meta.schema().get_fields().iter().map(|f| f.name().to_owned()).collect();
        let column = |known: &[&str]| known.iter().find(|k| columns.iter().any(|c| c == *k)).map(|k| (*k).to_owned());
        let (image, text) = (column(IMAGES), column(TEXTS));
        let Some(label) = column(LABELS) else {
            let what = format!("no label column ({}); found: {}", LABELS.join(", "), columns.join(", "));
            return Err(DataError::invalid(path.display().to_string(), what));
        };
        let hub = meta.key_value_metadata().into_iter().flatten().find(|kv| kv.key == "huggingface");
        names = names.or_else(|| class_names(hub?.value.as_deref()?, &label));
        // Images that were unpacked before are not read again.
        let folder = options.unpacked.as_deref().filter(|_| image.is_some());
        let before = folder.and_then(|folder| Unpacked::open(folder, &path));
        let mut now = match (folder, &before) {
            (Some(folder), None) => Some(Unpacking::create(folder, &path)?),
            _ => None,
        };
        let fields = meta.schema().get_fields().iter();
        let fields = fields.filter(|f| before.is_none() || Some(f.name()) != image.as_deref()).cloned().collect();
        let wanted = Type::group_type_builder(meta.schema().name()).with_fields(fields).build().map_err(|e| bad(&e))?;
        let rows = reader.get_row_iter(Some(wanted)).map_err(|e| bad(&e))?;
        for (number, row) in rows.enumerate() {
            let place = format!("{}: row {}", path.display(), number + 1);
            let named = image.as_deref().zip(row.as_ref().ok());
            let mut shown = named.and_then(|(name, row)| picture(field(row, name)?));
            if let Some(before) = &before {
                shown = before.picture(number);
            } else if let Some(now) = &mut now {
                shown = now.keep(shown)?;
            }
            let row = match row {
                Ok(row) => row,
                Err(e) => {
                    draft.sieve.bad(place, format!("cannot be read: {e}"))?;
                    continue;
                }
            };
            let field = |name: &Option<String>| name.as_deref().and_then(|name| field(&row, name));
            let labels = match field(&Some(label.clone())).map(|f| labels(f, names.as_deref())) {
                Some(Ok(labels)) => labels,
                Some(Err(what)) => {
                    draft.sieve.bad(place, what)?;
                    continue;
                }
                None => {
                    draft.sieve.bad(place, "no label")?;
                    continue;
                }
            };
            if matches!(field(&Some(label.clone())), Some(Field::ListInternal(_))) {
                draft.task = Some(Task::MultiLabel);
            }
            let stem = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
            draft.found.push(Found {
                place,
                id: word(field(&Some("id".to_owned()))).unwrap_or_else(|| format!("{stem}/{number}")),
                parts: image_and_text(shown, word(field(&text))),
                answer: Answer::Classes(labels),
                split: split_of(&path),
                group: None,
            });
        }
        now.map(Unpacking::finish).transpose()?;
    }
    // Some files with a split and some without: those without are training data.
    draft.classes = names;
    draft.finish(options.split_seed)
}

fn field<'a>(row: &'a Row, name: &str) -> Option<&'a Field> {
    row.get_column_iter().find(|(n, _)| *n == name).map(|(_, f)| f).filter(|f| !matches!(f, Field::Null))
}

/// A text or a whole number as text.
fn word(field: Option<&Field>) -> Option<String> {
    match field? {
        Field::Str(text) => Some(text.clone()),
        other => number(other).map(|n| n.to_string()),
    }
}

fn number(field: &Field) -> Option<i64> {
    Some(match field {
        Field::Bool(v) => i64::from(*v),
        Field::Byte(v) => i64::from(*v),
        Field::Short(v) => i64::from(*v),
        Field::Int(v) => i64::from(*v),
        Field::Long(v) => *v,
        Field::UByte(v) => i64::from(*v),
        Field::UShort(v) => i64::from(*v),
        Field::UInt(v) => i64::from(*v),
        _ => return None,
    })
}

/// An image column: bytes, else a path relative to the data folder.
fn picture(field: &Field) -> Option<Part> {
    match field {
        Field::Bytes(bytes) => Some(Part::Bytes(bytes.data().to_vec())),
        Field::Str(path) => Some(Part::Path(path.clone())),
        Field::Group(group) => {
            self::field(group, "bytes").and_then(picture).or_else(|| self::field(group, "path").and_then(picture))
        }
        _ => None,
    }
}

fn labels(field: &Field, names: Option<&[String]>) -> Result<Vec<String>, String> {
    if let Field::ListInternal(list) = field {
        return list.elements().iter().map(|f| label(f, names)).collect();
    }
    Ok(vec![label(field, names)?])
}

fn label(field: &Field, names: Option<&[String]>) -> Result<String, String> {
    match (field, number(field), names) {
        (Field::Str(name), ..) => Ok(name.clone()),
        (_, Some(n), None) => Ok(n.to_string()),
        (_, Some(n), Some(names)) => usize::try_from(n)
            .ok()
            .and_then(|n| names.get(n))
            .cloned()
            .ok_or_else(|| format!("label {n}, but the classes are 0 to {}", names.len() - 1)),
        _ => Err("the label is neither a text nor a whole number".to_owned()),
    }
}

/// The names of a label column's classes, in the metadata that the hub's library writes.
fn class_names(metadata: &str, label: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(metadata).ok()?;
    let feature = &json["info"]["features"][label];
    let names = feature["names"].as_array().or_else(|| feature["feature"]["names"].as_array())?;
    let names: Vec<String> = names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect();
    (!names.is_empty()).then_some(names)
}
