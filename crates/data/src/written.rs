//! A data set written down as a manifest.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::atomic::{AtomicFile, write_atomic};
use crate::layouts::manifest::card_of;
use crate::{DataError, Dataset, Source, Target};

/// Writes a data set as JSON lines and a card beside them, which read back as the same samples. Images that stand in other
/// files are written out, into a folder beside the manifest.
///
/// # Errors
/// A file that does not lie in the manifest's folder or below it, or a disk that refuses.
pub fn write_manifest(dataset: &Dataset, out: &Path) -> Result<(), DataError> {
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = parent.canonicalize().map_err(|e| DataError::io(parent, e))?;
    let stem = out.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    // All lines before the first byte is written.
    let mut lines = Vec::with_capacity(dataset.samples.len());
    let mut images: Vec<(PathBuf, &Source)> = Vec::new();
    for (number, sample) in dataset.samples.iter().enumerate() {
        let mut line = Map::new();
        line.insert("id".into(), sample.id.as_str().into());
        for (modality, part) in dataset.modalities.iter().zip(&sample.parts) {
            let value = match part {
                None => Value::Null,
                Some(Source::Text(text)) => text.as_str().into(),
                Some(Source::File(path)) => {
                    let whole = path.canonicalize().map_err(|e| DataError::io(path, e))?;
                    let inside = whole.strip_prefix(&folder).map_err(|_| {
                        let what = format!("not below {}: write the manifest into the data folder", folder.display());
                        DataError::invalid(path.display().to_string(), what)
                    })?;
                    inside.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/").into()
                }
                Some(source) => {
                    let name = format!("{stem}-{}/{number:06}", modality.name);
                    images.push((folder.join(&name), source));
                    name.into()
                }
            };
            line.insert(modality.name.into(), value);
        }
        let class = |i: &u32| dataset.classes.get(*i as usize).map_or(Value::Null, |name| name.as_str().into());
        let label = match &sample.target {
            Target::Class(i) => class(i),
            Target::Labels(all) => all.iter().map(class).collect(),
            Target::Value(values) => json!(values),
        };
        line.insert("label".into(), label);
        line.insert("split".into(), sample.split.name().into());
        if let Some(group) = &sample.group {
            line.insert("group".into(), group.as_str().into());
        }
        lines.push(Value::Object(line));
    }
    let refused = |path: &Path| {
        let place = path.display().to_string();
        move |e: std::io::Error| DataError::invalid(place, format!("cannot be written: {e}"))
    };
    for (path, source) in images {
        let (bytes, _) = source.bytes()?;
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).and_then(|()| write_atomic(&path, &bytes)).map_err(refused(&path))?;
    }
    let card = card_of(out);
    write_atomic(&card, card_text(dataset).as_bytes()).map_err(refused(&card))?;
    let write = || {
        let mut file = AtomicFile::create(out)?;
        lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
        file.commit()
    };
    write().map_err(refused(out))
}

/// What the lines do not say.
fn card_text(dataset: &Dataset) -> String {
    let mut card = toml::Table::new();
    card.insert("name".into(), dataset.name.clone().into());
    card.insert("task".into(), dataset.task.name().into());
    card.insert("classes".into(), dataset.classes.clone().into());
    card.insert("show_samples".into(), dataset.show_samples.into());
    for (key, value) in [("licence", &dataset.licence), ("metric", &dataset.metric)] {
        if let Some(value) = value {
            card.insert(key.into(), value.clone().into());
        }
    }
    card.to_string()
}
