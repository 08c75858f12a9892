//! Rows of text files, each with its place: JSON lines, CSV, plain lines.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::Sieve;
use crate::{DataError, read_regular};

/// A text file without its byte-order mark.
pub(crate) fn text_of(path: &Path) -> Result<String, DataError> {
    let bytes = read_regular(path).map_err(|e| DataError::io(path, e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let what = format!("not UTF-8 text from byte {} on; save it as UTF-8", e.utf8_error().valid_up_to());
        DataError::invalid(path.display().to_string(), what)
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Each line that can be read as a `T`, with its place; the others are bad samples.
pub(crate) fn json_lines<T: DeserializeOwned>(path: &Path, sieve: &mut Sieve) -> Result<Vec<(String, T)>, DataError> {
    let mut rows = Vec::new();
    for (number, line) in text_of(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{}:{}", path.display(), number + 1);
        match serde_json::from_str(line) {
            Ok(row) => rows.push((place, row)),
            Err(e) => sieve.bad(place, format!("not a sample: {e}"))?,
        }
    }
    Ok(rows)
}

/// The fields of each CSV record, with its place; quoted fields may hold commas and line breaks. Records without text
/// are left out.
pub(crate) fn csv_rows(path: &Path, sieve: &mut Sieve) -> Result<Vec<(String, Vec<String>)>, DataError> {
    let bytes = read_regular(path).map_err(|e| DataError::io(path, e))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut rows = Vec::new();
    for record in reader.byte_records() {
        let record = record.map_err(|e| DataError::invalid(path.display().to_string(), e.to_string()))?;
        let place = format!("{}:{}", path.display(), record.position().map_or(0, csv::Position::line));
        let fields: Result<Vec<String>, _> = record.iter().map(|f| std::str::from_utf8(f).map(str::to_owned)).collect();
        match fields {
            Ok(fields) if fields.iter().all(|f| f.trim().is_empty()) => {}
            Ok(fields) => rows.push((place, fields)),
            Err(_) => sieve.bad(place, "not UTF-8 text")?,
        }
    }
    Ok(rows)
}
