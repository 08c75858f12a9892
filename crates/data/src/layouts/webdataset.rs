//! WebDataset: tar files whose members belong together by what stands before the first dot of their names, one sample after the
//! other: `0001.jpg`, `0001.txt`, `0001.cls`, `0001.json`.
//!
//! A `.txt` is the text and a `.cls` the class; the fields of a `.json` are columns as those of JSON lines are. Images are
//! read from where they stand in the file. A file's split is told by its name or that of a folder above, as for Parquet.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::files::{self, tables};
use super::located::is_image;
use super::roles::Roles;
use super::table::{Row, Table};
use super::{Draft, Layout, Part, Sieve};
use crate::modalities::image;
use crate::source::Pack;
use crate::{DataError, Dataset, ReadOptions, open_regular};

pub(super) static LAYOUT: Layout = Layout {
    name: "webdataset",
    about: "*.tar in the folder or below, split named by file or folder: KEY.jpg, KEY.txt, KEY.cls or KEY.json a sample",
    paper: "WebDataset, as the Hugging Face hub has it",
    detect: |folder| {
        let shards = tables(folder, ENDING).ok()?;
        let first = &shards.first()?.path;
        Some(format!("it holds {}", first.strip_prefix(folder).unwrap_or(first).display()))
    },
    read,
};

const ENDING: &str = "tar";

/// The largest text or JSON of a sample.
const MAX_FIELD: u64 = 4 << 20;

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let place = folder.display().to_string();
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    let (mut table, mut unread) = (Table::default(), BTreeMap::new());
    for shard in tables(folder, ENDING)? {
        shard_rows(&shard, &mut table, &mut unread, &mut draft.sieve)?;
    }
    table.level();
    if !unread.is_empty() {
        let kinds: Vec<String> = unread.iter().map(|(kind, count)| format!("{count} .{kind}")).collect();
        draft.notes.push(format!("members of other kinds are not read: {}", kinds.join(", ")));
    }
    if table.rows.is_empty() {
        return draft.finish(options.split_seed);
    }
    let mut roles = Roles::find(&place, &table, &options.columns, &options.modalities, false, true)?;
    // A path among the fields is that of the image before it was packed.
    roles.image = None;
    draft.notes.push(roles.said(&table));
    draft.fill(table, &roles, options)?;
    draft.finish(options.split_seed)
}

/// What stands before the first dot of a member's file name, with its folder; and what stands after.
fn key(name: &str) -> Option<(&str, &str)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = start + name[start..].find('.').filter(|dot| *dot > 0)?;
    Some((&name[..dot], &name[dot + 1..]))
}

/// Adds the samples of a file to a table; what is wrong with the file ends it.
fn shard_rows(
    shard: &files::Table,
    table: &mut Table,
    unread: &mut BTreeMap<String, usize>,
    sieve: &mut Sieve,
) -> Result<(), DataError> {
    let file = open_regular(&shard.path).map_err(|e| DataError::io(&shard.path, e))?;
    let kept = file.try_clone().map_err(|e| DataError::io(&shard.path, e))?;
    let pack = Arc::new(Pack::new(shard.path.clone(), kept));
    let place = shard.path.display().to_string();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut sample: Option<Sample> = None;
    let mut members = match archive.entries_with_seek() {
        Ok(members) => members,
        Err(e) => return sieve.bad(place, format!("not a tar file: {e}")),
    };
    loop {
        let member = match members.next() {
            None => break,
            Some(Ok(member)) => member,
            Some(Err(e)) => {
                sieve.bad(place.clone(), format!("cannot be read on, what follows is left out: {e}"))?;
                break;
            }
        };
        let name = String::from_utf8_lossy(&member.path_bytes()).trim_start_matches("./").to_owned();
        let Some((key, kind)) = key(&name).filter(|_| member.header().entry_type().is_file()) else { continue };
        if sample.as_ref().is_none_or(|sample| sample.key != key)
            && let Some(done) = sample.replace(Sample::new(key))
        {
            done.into_row(shard, table, sieve)?;
        }
        if let Some(sample) = &mut sample
            && !sample.take(kind, member, &pack)
        {
            *unread.entry(kind.to_owned()).or_default() += 1;
        }
    }
    sample.map_or(Ok(()), |last| last.into_row(shard, table, sieve))
}

/// Members that belong together.
struct Sample {
    key: String,
    cells: Map<String, Value>,
    image: Option<Part>,
    wrong: Option<String>,
}

impl Sample {
    fn new(key: &str) -> Self {
        Self { key: key.to_owned(), cells: Map::new(), image: None, wrong: None }
    }

    /// Takes what a member holds; answers whether it is read at all.
    fn take<R: Read + Seek>(&mut self, kind: &str, member: tar::Entry<'_, R>, pack: &Arc<Pack>) -> bool {
        let kind = kind.to_lowercase();
        if is_image(&format!("x.{kind}")) {
            let (offset, len) = (member.raw_file_position(), member.size());
            self.image.get_or_insert(Part::Packed { file: Arc::clone(pack), offset, len });
            return true;
        }
        if !["txt", "text", "caption", "cls", "json"].contains(&kind.as_str()) {
            return false;
        }
        match text(member) {
            Err(why) => self.wrong = Some(format!("its .{kind} {why}")),
            Ok(text) if kind == "json" => match serde_json::from_str(&text) {
                Ok(fields) => self.cells.extend::<Map<String, Value>>(fields),
                Err(e) => self.wrong = Some(format!("its .json cannot be read: {e}")),
            },
            Ok(text) if kind == "cls" => {
                let text = text.trim();
                let number = text.parse::<i64>().map(Value::from);
                self.cells.insert("label".to_owned(), number.unwrap_or_else(|_| text.into()));
            }
            Ok(text) => drop(self.cells.insert("text".to_owned(), text.trim_end().into())),
        }
        true
    }

    fn into_row(self, shard: &files::Table, table: &mut Table, sieve: &mut Sieve) -> Result<(), DataError> {
        let place = format!("{}: {}", shard.path.display(), self.key);
        if let Some(wrong) = self.wrong {
            return sieve.bad(place, wrong);
        }
        let id = format!("{}/{}", shard.name, self.key);
        let parts = self.image.map(|image| (&image::MODALITY, image)).into_iter().collect();
        let cells = table.cells(self.cells);
        table.rows.push(Row { place, id, cells, split: shard.split, class: None, base: String::new(), parts });
        Ok(())
    }
}

fn text<R: Read>(member: tar::Entry<'_, R>) -> Result<String, String> {
    let mut bytes = Vec::new();
    member.take(MAX_FIELD + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() as u64 > MAX_FIELD {
        return Err("is longer than 4 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|e| format!("is not UTF-8 from byte {} on", e.utf8_error().valid_up_to()))
}
