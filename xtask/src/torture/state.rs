//! What a run leaves, as far as it must be the same whenever and however it was made.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bits;

/// The files of a run or a grid, and their bits: without seconds, dates and sizes of memory.
pub(super) fn of(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut all = bits::bits(folder)?;
    for (name, path) in files(folder)? {
        let is = |end: &str| name.ends_with(end);
        if is("metrics.jsonl") {
            all.insert(name, log(&fs::read_to_string(&path)?)?);
        } else if name.contains("tfevents") {
            let steps = steps(&fs::read(&path)?).with_context(|| format!("{name} is cut short"))?;
            all.insert(name, format!("{steps:?}"));
        } else if is("config.toml") || is("model.json") {
            all.insert(name, fs::read_to_string(&path)?);
        } else {
            all.entry(name).or_default();
        }
    }
    Ok(all)
}

/// What differs between two states, or none.
pub(super) fn difference(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Option<String> {
    let names = expected.keys().chain(found.keys());
    let mut differing: Vec<&str> =
        names.filter(|name| expected.get(*name) != found.get(*name)).map(String::as_str).collect();
    differing.dedup();
    let first = differing.first()?;
    let what = match (expected.get(*first), found.get(*first)) {
        (Some(_), Some(_)) => "differs",
        (Some(_), None) => "is missing",
        _ => "is too much",
    };
    Some(format!("{first} {what} ({} in all)", differing.len()))
}

/// Every file below a folder, by its name there.
pub(super) fn files(folder: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder)?.display().to_string(), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The lines of a log without the time that they took.
fn log(text: &str) -> Result<String> {
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line)?;
        value.as_object_mut().map(|map| map.remove("seconds"));
        Ok(value.to_string())
    };
    let lines: Result<Vec<String>> = text.lines().map(line).collect();
    Ok(lines?.join("\n"))
}

/// The steps that the records of an event file are of; none where it does not end with a whole record.
fn steps(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut steps) = (bytes, Vec::new());
    while !rest.is_empty() {
        let length = usize::try_from(u64::from_le_bytes(*rest.first_chunk()?)).ok()?;
        let record = rest.get(12..12 + length)?;
        // The wall time (a tag, eight bytes), then the step with its tag; the two bytes that follow tell most of it apart.
        steps.extend(record.get(9..12).unwrap_or(record));
        rest = rest.get(16 + length..)?;
    }
    Some(steps)
}
