//! Parquet files as the Hugging Face hub stores data sets: `data/train-00000-of-00001.parquet` and the like, with an
//! image column (`{bytes, path}`, or a path), a text column and a label column.
//!
//! Class names come from the hub's metadata in the file; without it, labels are named by their numbers, and decimals are
//! numbers to predict unless all are whole. A file's split is told by its name, that of a folder above or a column `split`.
//! Images that stand in the file are unpacked once, as they were encoded, where the options say so; else they are held in
//! memory.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use parquet::record::{Field, Row};

use super::files::{Table, split_named, tables};
use super::unpacked::{Unpacked, Unpacking};
use super::{Answer, Draft, Found, Layout, Part, image_and_text};
use crate::{DataError, Dataset, ReadOptions, Split, Task};
use columns::{Columns, answer, class_names, field, numbered, picture, word};
use sheet::Sheet;

mod codec;
mod columns;
mod pages;
mod sheet;
mod thrift;

pub(super) static LAYOUT: Layout = Layout {
    name: "parquet",
    about: "*.parquet in the folder or below, split named by file, folder or column, with image, text and label columns",
    paper: "Hugging Face data sets",
    detect: |folder| {
        let tables = tables(folder, ENDING).ok()?;
        let first = &tables.first()?.path;
        Some(format!("it holds {}", first.strip_prefix(folder).unwrap_or(first).display()))
    },
    read,
};

const ENDING: &str = "parquet";

/// What is gathered over all files.
struct Reading<'a> {
    draft: Draft<'a>,
    /// Of the classes.
    names: Option<Vec<String>>,
    notes: BTreeSet<String>,
    /// Per sample, its table where it has an id of its own.
    own: Vec<Option<usize>>,
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let draft = Draft::new(folder, LAYOUT.name, options);
    let mut all = Reading { draft, names: None, notes: BTreeSet::new(), own: Vec::new() };
    let tables = tables(folder, ENDING)?;
    for (number, table) in tables.iter().enumerate() {
        let before = (all.draft.found.len(), all.draft.sieve.problems.len());
        let unpacked = options.unpacked.as_deref();
        if let Some(why) = all.table(number, table, unpacked)? {
            all.draft.found.truncate(before.0);
            all.own.truncate(before.0);
            all.draft.sieve.problems.truncate(before.1);
            all.notes.insert(format!("{why}; images are held in memory"));
            all.table(number, table, None)?;
        }
    }
    let unnamed: Vec<&str> = tables.iter().filter(|t| t.split.is_none()).map(|t| t.name.as_str()).collect();
    if let Some(first) = unnamed.first().filter(|_| all.draft.found.iter().any(|f| f.split.is_some())) {
        let (n, train) = (unnamed.len(), "what names no split is training data");
        all.notes.insert(format!("{n} file(s) name no split, such as {first}: {train}"));
    }
    all.name_ids(&tables);
    all.settle_numbers()?;
    all.draft.classes = all.names;
    all.draft.notes.extend(all.notes);
    all.draft.finish(options.split_seed)
}

impl Reading<'_> {
    /// Reads one file; answers why its images cannot be unpacked, if they cannot.
    fn table(&mut self, number: usize, table: &Table, unpacked: Option<&Path>) -> Result<Option<String>, DataError> {
        let place = table.path.display().to_string();
        let bad = |what: String| DataError::invalid(place.clone(), what);
        let sheet = Sheet::open(&table.path).map_err(bad)?;
        let columns = Columns::of(sheet.fields()).map_err(bad)?;
        self.notes.insert(columns.note.clone());
        let splits = sheet.hub().and_then(|hub| class_names(hub, "split"));
        if self.names.is_none() {
            self.names = sheet.hub().and_then(|hub| class_names(hub, &columns.label));
        }
        // Images that were unpacked before are not read again.
        let cache = unpacked.filter(|_| columns.image.is_some());
        let before = cache.and_then(|folder| Unpacked::open(folder, &table.path, sheet.rows));
        let mut now = match cache.filter(|_| before.is_none()).map(|folder| Unpacking::create(folder, &table.path)) {
            Some(Err(why)) => return Ok(Some(why)),
            Some(Ok(now)) => Some(now),
            None => None,
        };
        let wanted = |name: &str| columns.has(name) && (before.is_none() || columns.image.as_deref() != Some(name));
        let ended = sheet.each(&wanted, |row_number, row| {
            let mut shown = columns.image.as_deref().and_then(|name| picture(field(row, name)?));
            if let Some(before) = &before {
                shown = before.picture(row_number);
            } else if let Some(now) = &mut now {
                shown = now.keep(shown).map_err(Stop::Unpacking)?;
            }
            let place = format!("{place}: row {}", row_number + 1);
            match self.found(&columns, splits.as_deref(), table, row_number, row, shown) {
                Ok(mut found) => {
                    found.place = place;
                    self.own.push(columns.id.as_ref().and_then(|id| field(row, id)).map(|_| number));
                    self.draft.found.push(found);
                    Ok(())
                }
                Err(what) => self.draft.sieve.bad(place, what).map_err(Stop::Data),
            }
        });
        match ended {
            Ok(None) => {}
            Ok(Some((at, why))) => {
                let left = sheet.rows.saturating_sub(at);
                let place = format!("{place}: row {}", at + 1);
                self.draft.sieve.bad(place, format!("cannot be read: {why}; the last {left} row(s) are left out"))?;
            }
            Err(Stop::Data(error)) => return Err(error),
            Err(Stop::Unpacking(why)) => return Ok(Some(why)),
        }
        Ok(now.and_then(|now| now.finish().err()))
    }

    /// A row's sample.
    fn found(
        &mut self,
        columns: &Columns,
        splits: Option<&[String]>,
        table: &Table,
        number: u64,
        row: &Row,
        shown: Option<Part>,
    ) -> Result<Found, String> {
        let named = |name: &Option<String>| name.as_deref().and_then(|name| field(row, name));
        let texts = |name: &Option<String>| named(name).map_or(Ok(None), word);
        let label = field(row, &columns.label).ok_or("no label")?;
        let answer = answer(label, self.names.as_deref())?;
        if matches!((label, &answer), (Field::ListInternal(_), Answer::Classes(_))) {
            self.draft.task = Some(Task::MultiLabel);
        }
        let split = match texts(&columns.split)? {
            None => table.split,
            Some(word) => {
                let name = word.parse().ok().filter(|_| splits.is_some()).map_or(Ok(word), |n| numbered(n, splits))?;
                let words = name.split(|c: char| !c.is_alphabetic()).find_map(split_named);
                Some(words.ok_or_else(|| format!("unknown split `{name}`; expected train, validation or test"))?)
            }
        };
        let id = texts(&columns.id)?.unwrap_or_else(|| format!("{}/{number}", table.name));
        let parts = image_and_text(shown, texts(&columns.text)?);
        Ok(Found { place: String::new(), id, parts, answer, split, group: None })
    }

    /// Ids that count anew in each file or split get its name before them.
    fn name_ids(&mut self, tables: &[Table]) {
        let counts = |id: &str| id.bytes().all(|b| b.is_ascii_digit());
        let (mut seen, mut anew) = (HashMap::new(), false);
        for (found, own) in self.draft.found.iter().zip(&self.own).filter(|(_, own)| own.is_some()) {
            if !counts(&found.id) {
                return;
            }
            anew |= *seen.entry(found.id.as_str()).or_insert((own, found.split)) != (own, found.split);
        }
        if !anew {
            return;
        }
        for (found, own) in self.draft.found.iter_mut().zip(&self.own) {
            if let Some(table) = own.and_then(|own| tables.get(own)) {
                let split = found.split.filter(|_| table.split.is_none()).map_or("", Split::name);
                let dash = if split.is_empty() { "" } else { "-" };
                found.id = format!("{}{dash}{split}/{}", table.name, found.id);
            }
        }
        self.notes.insert("ids count anew in each file or split: they are read as file/id".to_owned());
    }

    /// Decimals that are all whole numbers are classes: a column of numbers with gaps is written so.
    fn settle_numbers(&mut self) -> Result<(), DataError> {
        let whole = |f: &Found| match &f.answer {
            Answer::Values(values) => matches!(values[..], [v] if v.fract() == 0.0 && v.abs() < 16_777_216.0),
            Answer::Classes(_) => true,
        };
        let values = |f: &Found| matches!(f.answer, Answer::Values(_));
        if !self.draft.found.iter().any(values) || !self.draft.found.iter().all(whole) {
            return Ok(());
        }
        self.notes.insert("the labels are whole numbers written as decimals: they are read as classes".to_owned());
        for mut found in std::mem::take(&mut self.draft.found) {
            if let Answer::Values(values) = &found.answer {
                match numbered(values.first().map_or(0, |v| *v as i128), self.names.as_deref()) {
                    Ok(name) => found.answer = Answer::Classes(vec![name]),
                    Err(what) => {
                        self.draft.sieve.bad(found.place, what)?;
                        continue;
                    }
                }
            }
            self.draft.found.push(found);
        }
        Ok(())
    }
}

/// Why a file is not read on.
enum Stop {
    Data(DataError),
    Unpacking(String),
}
