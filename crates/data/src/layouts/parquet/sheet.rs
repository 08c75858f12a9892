//! A Parquet file opened with nothing in it believed: an error ends it, and a panic of the decoder is one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use super::pages::Group;
use super::thrift::is_footer;
use crate::caught::caught;
use crate::source::open_regular;

/// The longest description of a file.
const MAX_FOOTER: u64 = 16 << 20;

/// Rows of a file that has fewer bytes.
const MIN_ROWS: u64 = 1 << 20;

/// Columns, or fields of theirs, that are read at a time.
const MAX_LEAVES: usize = 16;

/// What a file's rows may add up to, in bytes, where it is smaller than a hundredth of it.
const MIN_CONTENT: u64 = 64 << 20;

/// An open file.
pub(super) struct Sheet {
    file: Arc<File>,
    size: u64,
    meta: ParquetMetaData,
    pub(super) rows: u64,
}

impl Sheet {
    /// Reads the footer, which describes all else.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let mut file = open_regular(path).map_err(|e| e.to_string())?;
        let size = file.metadata().map_err(|e| e.to_string())?.len();
        let short = |e: std::io::Error| format!("not Parquet: {e}");
        let mut tail = [0; 8];
        file.seek(SeekFrom::End(-8)).map_err(|_| "not Parquet: it is too short".to_owned())?;
        file.read_exact(&mut tail).map_err(short)?;
        let [a, b, c, d, magic @ ..] = tail;
        match &magic {
            b"PAR1" => {}
            b"PARE" => return Err("it is encrypted; decrypt it first".to_owned()),
            _ => return Err("not Parquet: its end is missing or damaged".to_owned()),
        }
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        if length > MAX_FOOTER || length + 12 > size {
            return Err(format!("not Parquet: it claims {length} bytes of description"));
        }
        file.seek(SeekFrom::Start(size - 8 - length)).map_err(short)?;
        let mut footer = vec![0; length as usize];
        file.read_exact(&mut footer).map_err(short)?;
        if !is_footer(&footer) {
            return Err("not Parquet: its description is damaged, or has too many columns".to_owned());
        }
        let damaged = |e: &dyn std::fmt::Display| format!("not Parquet: {e}");
        let meta = caught(|| ParquetMetaDataReader::decode_metadata(&footer));
        let meta = meta.map_err(|e| damaged(&e))?.map_err(|e| damaged(&e))?;
        let rows = meta.row_groups().iter().map(|g| u64::try_from(g.num_rows()).ok());
        let rows = rows.sum::<Option<u64>>().filter(|rows| *rows <= size.max(MIN_ROWS));
        let rows = rows.ok_or_else(|| "not Parquet: it claims more rows than it has bytes".to_owned())?;
        Ok(Self { file: Arc::new(file), size, meta, rows })
    }

    /// Its columns.
    pub(super) fn fields(&self) -> &[TypePtr] {
        self.meta.file_metadata().schema().get_fields()
    }

    /// What the hub's library wrote about it.
    pub(super) fn hub(&self) -> Option<&str> {
        let all = self.meta.file_metadata().key_value_metadata().into_iter().flatten();
        all.filter(|kv| kv.key == "huggingface").find_map(|kv| kv.value.as_deref())
    }

    /// Gives `take` each row with the columns `wanted`, until it fails. Answers where and why the file ended too early, if it
    /// did.
    pub(super) fn each<E>(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        mut take: impl FnMut(u64, &Row) -> Result<(), E>,
    ) -> Result<Option<(u64, String)>, E> {
        let mut left = (100 * self.size).max(MIN_CONTENT);
        let mut number = 0;
        for meta in self.meta.row_groups() {
            let group = Group { file: &self.file, meta };
            let mut rows = match caught(|| self.rows(&group, wanted)) {
                Ok(Ok(rows)) => rows,
                Ok(Err(why)) => return Ok(Some((number, why))),
                Err(panic) => return Ok(Some((number, panic))),
            };
            loop {
                let row = match caught(|| rows.next()) {
                    Ok(None) => break,
                    Ok(Some(Ok(row))) => row,
                    Ok(Some(Err(e))) => return Ok(Some((number, words(&e)))),
                    Err(panic) => return Ok(Some((number, panic))),
                };
                let weight = row.get_column_iter().map(|(_, field)| weight(field)).sum();
                let Some(after) = left.checked_sub(weight) else {
                    return Ok(Some((number, "its rows add up to more than a hundred times the file".to_owned())));
                };
                left = after;
                take(number, &row)?;
                number += 1;
            }
        }
        Ok(None)
    }

    fn rows<'a>(&self, group: &'a Group, wanted: &dyn Fn(&str) -> bool) -> Result<RowIter<'a>, String> {
        let fields = self.fields().iter().filter(|f| wanted(f.name())).cloned().collect();
        let name = self.meta.file_metadata().schema().name();
        let wanted = Type::group_type_builder(name).with_fields(fields).build().map_err(|e| e.to_string())?;
        let leaves = SchemaDescriptor::new(Arc::new(wanted.clone())).num_columns();
        if leaves > MAX_LEAVES {
            return Err(format!(
                "its image, text and label columns have {leaves} fields; {MAX_LEAVES} are read at most"
            ));
        }
        RowIter::from_row_group(Some(wanted), group).map_err(|e| words(&e))
    }
}

/// An error of the decoder, without its name.
fn words(error: &ParquetError) -> String {
    let words = error.to_string();
    words.strip_prefix("Parquet error: ").unwrap_or(&words).to_owned()
}

/// What a field takes in memory, in bytes.
fn weight(field: &Field) -> u64 {
    match field {
        Field::Str(text) => text.len() as u64,
        Field::Bytes(bytes) => bytes.len() as u64,
        Field::Group(row) => row.get_column_iter().map(|(_, field)| weight(field)).sum(),
        Field::ListInternal(list) => list.elements().iter().map(|field| 40 + weight(field)).sum(),
        _ => 8,
    }
}
