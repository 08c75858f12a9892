//! Samples as JSON lines, from a file or a pipe, of whatever length and make.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use balgrad_data::{ReadOptions, unlabelled_record};
use serde_json::{Map, Value};

use super::Asked;
use crate::Usage;
use crate::registry::registry;

/// The longest line, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// Whether a path is read as JSON lines.
pub(super) fn are_json(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    path.as_os_str() == "-"
        || !path.is_dir() && ending.is_some_and(|e| ["jsonl", "ndjson", "json"].contains(&e.as_str()))
}

/// Lines with samples.
pub(super) struct Lines {
    reader: BufReader<Box<dyn Read>>,
    /// What errors call the file.
    name: String,
    /// Where paths of images start.
    base: PathBuf,
    number: usize,
    options: ReadOptions,
}

impl Lines {
    /// The lines of a file, or of the standard input (`-`).
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (reader, name, base): (Box<dyn Read>, _, _) = if path.as_os_str() == "-" {
            (Box::new(std::io::stdin()), "line".to_owned(), PathBuf::new())
        } else {
            let file = File::open(path).map_err(|e| Usage(format!("cannot read {}: {e}", path.display())))?;
            (Box::new(file), path.display().to_string(), path.parent().map(Path::to_owned).unwrap_or_default())
        };
        let options = ReadOptions { modalities: registry().modalities.clone(), ..ReadOptions::default() };
        Ok(Self { reader: BufReader::with_capacity(1 << 16, reader), name, base, number: 0, options })
    }

    /// The next samples, up to `most`, and the fields of them that nothing is read from. Of a pipe those that have arrived, so that
    /// whoever waits for an answer gets it.
    pub(super) fn batch(&mut self, most: usize) -> Result<(Vec<Asked>, Vec<String>)> {
        let (mut batch, mut unused) = (Vec::new(), Vec::new());
        while batch.len() < most && (batch.is_empty() || self.reader.buffer().contains(&b'\n')) {
            let Some(line) = self.line()? else { break };
            let place = format!("{}:{}", self.name, self.number);
            let record = line.and_then(|line| match line.trim() {
                "" => Ok(None),
                line => record(line).map(Some),
            });
            match record {
                Ok(None) => {}
                Ok(Some(record)) => {
                    let id = record.get("id").filter(|id| !id.is_null()).cloned();
                    let (found, fields) = unlabelled_record(record, &self.base, &self.options);
                    unused.extend(fields);
                    batch.push(Asked { id, place, parts: found.parts });
                }
                Err(what) => batch.push(Asked { id: None, place, parts: Err(what) }),
            }
        }
        Ok((batch, unused))
    }

    /// The next line, or what is wrong with it; nothing at the end.
    fn line(&mut self) -> Result<Option<Result<String, String>>> {
        let mut bytes = Vec::new();
        let read = |error| format!("cannot go on reading {}: {error}", self.name);
        let count = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes);
        if count.map_err(|e| anyhow::anyhow!(read(e)))? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if bytes.len() as u64 == MAX_LINE && !bytes.ends_with(b"\n") {
            self.reader.skip_until(b'\n').context("reading on")?;
            return Ok(Some(Err(format!("the line is longer than {} MiB", MAX_LINE >> 20))));
        }
        let bytes = if self.number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes) } else { &bytes };
        let text = std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8 from byte {} on", e.valid_up_to()));
        Ok(Some(text.map(str::to_owned)))
    }
}

fn record(line: &str) -> Result<Map<String, Value>, String> {
    let expected = r#"expected a line such as {"image": "a.png", "text": "a red apple"}"#;
    match serde_json::from_str(line) {
        Ok(Value::Object(record)) => Ok(record),
        Ok(_) => Err(format!("not an object: {expected}")),
        Err(error) => Err(format!("not JSON ({error}): {expected}")),
    }
}
