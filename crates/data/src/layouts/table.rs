//! Tables whatever they came from: rows of named cells, and how they become samples.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::draft::HeldOut;
use super::labels::{self, Label};
use super::located::Located;
use super::roles::Roles;
use super::{Answer, Draft, Found, Part, Sieve, json_lines};
use crate::{DataError, Modality, ReadOptions, Split, Task};

/// A row, with what its file says of it.
pub(super) struct Row {
    /// File and line.
    pub(super) place: String,
    /// The id of a row that brings none.
    pub(super) id: String,
    /// One for each name of the table.
    pub(super) cells: Vec<Value>,
    /// The split that the file stands for.
    pub(super) split: Option<Split>,
    /// The class that the folder stands for.
    pub(super) class: Option<String>,
    /// Where paths start, below the data folder; empty or with a slash at its end.
    pub(super) base: String,
    /// What its file holds of the sample besides the cells.
    pub(super) parts: Vec<(&'static Modality, Part)>,
}

/// Rows of named cells.
#[derive(Default)]
pub(super) struct Table {
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// Whether cells are texts that may hold numbers or several labels, as in CSV.
    pub(super) flat: bool,
}

impl Table {
    /// JSON lines; a name may be missing in some.
    pub(super) fn of_json(path: &Path, sieve: &mut Sieve) -> Result<Self, DataError> {
        let mut table = Self::default();
        for (place, line) in json_lines::<Map<String, Value>>(path, sieve)? {
            let cells = table.cells(line);
            let id = (table.rows.len() + 1).to_string();
            table.rows.push(Row { place, id, cells, split: None, class: None, base: String::new(), parts: Vec::new() });
        }
        table.level();
        Ok(table)
    }

    /// Adds the rows of another table, whose columns are found by name.
    pub(super) fn append(&mut self, other: Self) {
        self.flat |= other.flat;
        for name in &other.names {
            if !self.names.contains(name) {
                self.names.push(name.clone());
            }
        }
        let places: Vec<usize> =
            other.names.iter().filter_map(|name| self.names.iter().position(|known| known == name)).collect();
        for mut row in other.rows {
            let mut cells = vec![Value::Null; self.names.len()];
            places.iter().zip(row.cells).for_each(|(&i, cell)| cells[i] = cell);
            row.cells = cells;
            self.rows.push(row);
        }
        self.level();
    }

    /// The cells of a row that has these values by name.
    pub(super) fn cells(&mut self, values: impl IntoIterator<Item = (String, Value)>) -> Vec<Value> {
        let mut cells = vec![Value::Null; self.names.len()];
        for (name, cell) in values {
            match self.names.iter().position(|known| *known == name) {
                Some(i) => cells[i] = cell,
                None => {
                    self.names.push(name);
                    cells.push(cell);
                }
            }
        }
        cells
    }

    pub(super) fn level(&mut self) {
        let width = self.names.len();
        self.rows.iter_mut().for_each(|row| row.cells.resize(width, Value::Null));
    }

    /// The cells of a column.
    pub(super) fn column(&self, i: usize) -> impl Iterator<Item = &Value> {
        self.rows.iter().map(move |row| &row.cells[i])
    }
}

/// The text of a cell; of a list the first, and nothing of what is empty.
pub(super) fn word(cell: &Value) -> Option<String> {
    match cell {
        Value::String(text) => Some(text.clone()).filter(|t| !t.trim().is_empty()),
        Value::Number(_) | Value::Bool(_) => Some(cell.to_string()),
        Value::Array(cells) => cells.iter().find_map(word),
        Value::Null | Value::Object(_) => None,
    }
}

/// The running text of a cell: of a list all of it.
pub(super) fn prose(cell: &Value) -> Option<String> {
    match cell {
        Value::Array(cells) => Some(cells.iter().filter_map(word).collect::<Vec<_>>().join(" ")),
        cell => word(cell),
    }
}

/// A file of a data set, and the split that its name stands for.
pub(super) type Member = (PathBuf, Option<Split>);

/// The tables that a folder or a path stands for: one file, or one for each split.
///
/// # Errors
/// What is wrong, if several files could be meant.
pub(super) fn members(path: &Path, endings: &[&str]) -> Result<Vec<Member>, String> {
    let fits = |path: &Path| {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        path.is_file() && ending.is_some_and(|e| endings.contains(&e.as_str()))
    };
    if !path.is_dir() {
        return Ok(if fits(path) { vec![(path.to_owned(), None)] } else { Vec::new() });
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|file| fits(file) && file.file_stem().is_some_and(|stem| stem != "metadata"));
    files.sort();
    let split = |file: &PathBuf| Split::starting(&file.file_stem()?.to_string_lossy());
    let members: Vec<Member> = files.iter().map(|file| (file.clone(), split(file))).collect();
    let of_splits: Vec<Member> = members.iter().filter(|(_, split)| split.is_some()).cloned().collect();
    match (members.len(), of_splits.len()) {
        (0 | 1, _) => Ok(files.into_iter().map(|file| (file, None)).collect()),
        (_, 2..) => Ok(of_splits),
        _ => {
            let names: Vec<String> =
                files.iter().filter_map(|f| f.file_name()).map(|n| n.to_string_lossy().into_owned()).collect();
            Err(format!("several tables ({}); name one of the files as the data", names.join(", ")))
        }
    }
}

/// The folder that paths of the data start from, and a name for it.
pub(super) fn home(path: &Path) -> (&Path, Option<String>) {
    match path.parent() {
        Some(parent) if !path.is_dir() => {
            let here = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            (here, path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        }
        _ => (path, None),
    }
}

/// The tables of some files as one, each read by `parse`.
pub(super) fn joined(
    members: Vec<Member>,
    draft: &mut Draft<'_>,
    parse: impl Fn(&Path, &mut Draft<'_>) -> Result<Table, DataError>,
) -> Result<Table, DataError> {
    let many = members.len() > 1;
    let mut whole = Table::default();
    for (file, split) in members {
        let mut table = parse(&file, draft)?;
        let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        for row in &mut table.rows {
            row.split = split;
            if many {
                row.id = format!("{stem}/{}", row.id);
            }
        }
        whole.append(table);
    }
    Ok(whole)
}

impl Draft<'_> {
    /// Takes the rows of a table over as samples.
    ///
    /// # Errors
    /// Under `fail` the first row that cannot be used.
    pub(super) fn fill(&mut self, mut table: Table, roles: &Roles, options: &ReadOptions) -> Result<(), DataError> {
        let answers = self.answers(&mut table, roles);
        let repeated = !roles.strict && roles.id.is_some_and(|i| repeats(&table, i));
        if let (true, Some(i)) = (repeated, roles.id) {
            let what = "repeats: rows are numbered, and those of one id stay in one split";
            self.notes.push(format!("`{}` {what}", table.names[i]));
        }
        let located = roles.image.map(|i| Located::find(self.folder, table.column(i), &table.rows));
        self.notes.extend(located.as_ref().and_then(Located::said));
        for (row, answer) in table.rows.into_iter().zip(answers) {
            let cell = |i: Option<usize>| i.and_then(|i| word(&row.cells[i]));
            let split = match cell(roles.split) {
                None => row.split,
                Some(name) => match Split::named(&name) {
                    None => {
                        self.sieve.bad(row.place, format!("unknown split `{name}`; expected train, val or test"))?;
                        continue;
                    }
                    split => split,
                },
            };
            let answer = match answer {
                Ok(Label::Known(answer)) => answer,
                Ok(Label::Unknown) => {
                    self.sieve.bad(row.place, "no label")?;
                    continue;
                }
                Err(what) => {
                    self.sieve.bad(row.place, what)?;
                    continue;
                }
            };
            let mut parts = row.parts;
            for &(modality, i) in &roles.others {
                let part = if modality.inline {
                    prose(&row.cells[i]).map(Part::Text)
                } else {
                    cell(Some(i)).map(|p| Part::Path(format!("{}{p}", row.base)))
                };
                parts.extend(part.map(|part| (modality, part)));
            }
            if let (Some(path), Some(located)) = (cell(roles.image), &located) {
                parts.push((&crate::modalities::image::MODALITY, Part::Path(located.path(&row.base, &path))));
            }
            let texts: Vec<String> = roles.texts.iter().filter_map(|&i| prose(&row.cells[i])).collect();
            if !texts.is_empty() {
                parts.push((&crate::modalities::text::MODALITY, Part::Text(texts.join(" "))));
            }
            let own = cell(roles.id);
            let group = cell(roles.group).or_else(|| own.clone().filter(|_| repeated));
            let id = own.filter(|_| !repeated).unwrap_or(row.id);
            self.found.push(Found { place: row.place, id, parts, answer, split, group });
        }
        for (modality, _) in &roles.others {
            if !self.modalities.contains(modality) {
                self.modalities.push(modality);
            }
        }
        self.keep_used_modalities(&options.modalities);
        for modality in &self.modalities {
            if !self.found.is_empty() && !self.found.iter().any(|f| f.parts.iter().any(|(of, _)| of == modality)) {
                self.notes.push(format!("no sample has any {}: it is missing in all of them", modality.name));
            }
        }
        self.held_out = HeldOut::SEVENTY;
        Ok(())
    }

    /// The answers of all rows; settles the task where their form does.
    fn answers(&mut self, table: &mut Table, roles: &Roles) -> Vec<Result<Label, String>> {
        if let Some(i) = roles.target {
            self.task = Some(Task::Regression);
            self.classes.get_or_insert_with(|| vec![table.names[i].clone()]);
        }
        let take = |row: &Row| match roles.target.or(roles.label) {
            Some(i) => row.cells[i].clone(),
            None => row.class.clone().map_or(Value::Null, Value::String),
        };
        let values: Vec<Value> = table.rows.iter().map(take).collect();
        let labels = labels::read(values, self.classes.as_deref(), self.task, table.flat);
        self.task = labels.task.or(self.task);
        self.numbered = labels.numbered;
        self.notes.extend(labels.note);
        labels.answers
    }
}

/// Whether ids repeat so often that they name something that several rows share.
fn repeats(table: &Table, i: usize) -> bool {
    let ids: Vec<String> = table.column(i).filter_map(word).collect();
    let distinct: std::collections::HashSet<&String> = ids.iter().collect();
    ids.len() - distinct.len() > ids.len() / 20
}

impl Label {
    pub(super) fn classes(names: Vec<String>) -> Self {
        Self::Known(Answer::Classes(names))
    }
}
