//! CSV and its relatives: encoding, delimiter, quotes and header are found out.

use std::path::Path;

use serde_json::Value;

use super::Draft;
use super::located::is_image;
use super::table::{Row, Table};
use crate::DataError;

/// Bytes that the delimiter is judged by.
const LOOKED_AT: usize = 1 << 16;
/// Line breaks in one field from which on a quote was not closed.
const LINES: usize = 200;

/// Reads a file, and notes what it is written in.
pub(super) fn read(path: &Path, draft: &mut Draft<'_>) -> Result<Table, DataError> {
    let place = path.display().to_string();
    let bytes = crate::read_regular(path).map_err(|e| DataError::io(path, e))?;
    let (text, encoding) = decode(&bytes);
    if text.contains('\0') {
        return Err(DataError::invalid(place, "not a table: it holds bytes that no text has"));
    }
    let dialect = Dialect::of(&text);
    let mut reader = dialect.reader(&text);
    let mut table = Table { flat: true, ..Table::default() };
    for record in reader.records() {
        let record = record.map_err(|e| DataError::invalid(place.clone(), e.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line) + dialect.skipped;
        if record.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        if record.iter().any(|field| field.matches('\n').count() > LINES) {
            let what =
                "a quote in this record is not closed, and the record swallows the lines after it: close the quote";
            return Err(DataError::invalid(format!("{place}:{line}"), what));
        }
        if table.names.is_empty() {
            let headed = !record.iter().any(is_image);
            let name = |(i, field): (usize, &str)| if headed { field.trim().to_owned() } else { (i + 1).to_string() };
            table.names = record.iter().enumerate().map(name).collect();
            if headed {
                continue;
            }
            draft.notes.push("the file has no header: columns are called 1, 2, …".to_owned());
        }
        let row_place = format!("{place}:{line}");
        let width = table.names.len();
        if record.len() < width || record.iter().skip(width).any(|field| !field.trim().is_empty()) {
            draft.sieve.bad(row_place, format!("{} columns; the header has {width}", record.len()))?;
            continue;
        }
        let cells = record.iter().take(width).map(Value::from).collect();
        // The line in the file may change with its texts; the number of the row does not.
        let id = (table.rows.len() + 1).to_string();
        table.rows.push(Row {
            place: row_place,
            id,
            cells,
            split: None,
            class: None,
            base: String::new(),
            parts: Vec::new(),
        });
    }
    if table.names.is_empty() {
        return Err(DataError::invalid(place, "the table is empty"));
    }
    let by = match dialect.delimiter {
        b'\t' => "tabs".to_owned(),
        other => format!("`{}`", char::from(other)),
    };
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    draft.notes.push(format!("{name}: {} rows in {encoding}, separated by {by}", table.rows.len()));
    Ok(table)
}

/// Text, and what it was encoded in: by its byte-order mark, else UTF-8, else the Windows code page of Western Europe.
fn decode(bytes: &[u8]) -> (String, &'static str) {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        (String::from_utf16_lossy(&units), "UTF-16")
    };
    let zeros = |first: usize| bytes.iter().skip(first).step_by(2).take(64).filter(|b| **b == 0).count() >= 16;
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ if zeros(1) && !zeros(0) => wide(bytes, u16::from_le_bytes),
        _ if zeros(0) && !zeros(1) => wide(bytes, u16::from_be_bytes),
        _ => {
            let rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            match std::str::from_utf8(rest) {
                Ok(text) => (text.to_owned(), "UTF-8"),
                Err(_) => (rest.iter().map(|&b| western(b)).collect(), "Windows-1252"),
            }
        }
    }
}

/// A character of Windows-1252.
fn western(byte: u8) -> char {
    const UPPER: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => UPPER[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// How fields are told from each other.
struct Dialect {
    delimiter: u8,
    quote: u8,
    escape: Option<u8>,
    /// Lines before the header.
    skipped: u64,
    /// Where the table starts.
    start: usize,
}

impl Dialect {
    fn of(text: &str) -> Self {
        let mut dialect = Self { delimiter: b',', quote: b'"', escape: None, skipped: 0, start: 0 };
        // A spreadsheet's own hint.
        if let Some(line) = text.lines().next().filter(|line| line.len() == 5 && line.starts_with("sep=")) {
            dialect.delimiter = line.as_bytes()[4];
            (dialect.skipped, dialect.start) = (1, 5);
        }
        let body = text.get(dialect.start..).unwrap_or_default();
        if body.trim_start().starts_with('\'') {
            dialect.quote = b'\'';
        }
        if body.contains("\\\"") && !body.contains("\"\"") {
            dialect.escape = Some(b'\\');
        }
        if dialect.skipped == 0 {
            let mut end = body.len().min(LOOKED_AT);
            while !body.is_char_boundary(end) {
                end -= 1;
            }
            let some =
                if end < body.len() { body[..end].rsplit_once('\n').map_or(&body[..end], |(s, _)| s) } else { body };
            let mut best = (0, 0);
            for delimiter in [b',', b';', b'\t', b'|'] {
                let score = Self { delimiter, ..dialect }.score(some);
                if score > best {
                    (best, dialect.delimiter) = (score, delimiter);
                }
            }
        }
        dialect
    }

    fn reader<'a>(&self, text: &'a str) -> csv::Reader<&'a [u8]> {
        let mut builder = csv::ReaderBuilder::new();
        builder.delimiter(self.delimiter).quote(self.quote).escape(self.escape).has_headers(false).flexible(true);
        builder.from_reader(text.get(self.start..).unwrap_or_default().as_bytes())
    }

    /// How many records of twenty agree with the first on their number of fields, and that number; nothing if it is one.
    fn score(&self, text: &str) -> (usize, usize) {
        let widths: Vec<usize> = self.reader(text).records().flatten().map(|record| record.len()).collect();
        let first = widths.first().copied().unwrap_or(0);
        let agree = widths.iter().filter(|w| **w == first).count();
        if first < 2 { (0, 0) } else { (agree * 20 / widths.len().max(1), first) }
    }
}
