//! Pages read and decompressed by ourselves, so that no number in a file is believed: the decoder of values gets pages that
//! were measured.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Encoding, Type as Physical};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::RowGroupReader;
use parquet::record::reader::RowIter;

use super::codec::decompress;
use super::thrift::Thrift;

/// The longest header of a page; some writers put whole values there.
const MAX_HEADER: u64 = 16 << 20;

/// Entries of a dictionary.
const MAX_DICTIONARY: usize = 4 << 20;

/// Values of a column of lists, where its file has fewer bytes.
const MIN_LISTED: u64 = 1 << 20;

fn bad(what: impl Into<String>) -> ParquetError {
    ParquetError::General(what.into())
}

/// A group of rows whose pages are measured.
pub(super) struct Group<'a> {
    pub(super) file: &'a Arc<File>,
    pub(super) meta: &'a RowGroupMetaData,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.meta
    }

    fn num_columns(&self) -> usize {
        self.meta.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        Ok(Box::new(Pages::new(Arc::clone(self.file), self.meta, i)?))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<parquet::schema::types::Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// What is read of a page's header.
#[derive(Default)]
struct Header {
    kind: usize,
    unpacked: usize,
    packed: usize,
    crc: Option<u32>,
    values: usize,
    encoding: usize,
    nulls: usize,
    rows: usize,
    definition: usize,
    repetition: usize,
    compressed: bool,
}

impl Header {
    /// `None` where it is cut short, or no header.
    fn read(thrift: &mut Thrift) -> Option<Self> {
        let mut header = Self { compressed: true, ..Self::default() };
        thrift.fields(|t, id, kind| match (id, kind) {
            (1, 4..=6) => t.size().map(|n| header.kind = n),
            (2, 4..=6) => t.size().map(|n| header.unpacked = n),
            (3, 4..=6) => t.size().map(|n| header.packed = n),
            (4, 4..=6) => t.int().map(|n| header.crc = Some(n as u32)),
            // Of a page of values, of a dictionary, of a page of the second version: their fields have other numbers.
            (5 | 7, 12) => t.fields(|t, id, kind| match (id, kind) {
                (1, 4..=6) => t.size().map(|n| header.values = n),
                (2, 4..=6) => t.size().map(|n| header.encoding = n),
                _ => t.skip(kind),
            }),
            (8, 12) => t.fields(|t, id, kind| match (id, kind) {
                (1, 4..=6) => t.size().map(|n| header.values = n),
                (2, 4..=6) => t.size().map(|n| header.nulls = n),
                (3, 4..=6) => t.size().map(|n| header.rows = n),
                (4, 4..=6) => t.size().map(|n| header.encoding = n),
                (5, 4..=6) => t.size().map(|n| header.definition = n),
                (6, 4..=6) => t.size().map(|n| header.repetition = n),
                (7, 1 | 2) => {
                    header.compressed = kind == 1;
                    Some(())
                }
                _ => t.skip(kind),
            }),
            _ => t.skip(kind),
        })?;
        Some(header)
    }
}

/// The pages of one column of a group of rows.
struct Pages {
    file: Arc<File>,
    column: ColumnChunkMetaData,
    at: u64,
    end: u64,
    /// Values that may still come.
    values: u64,
}

impl Pages {
    fn new(file: Arc<File>, group: &RowGroupMetaData, i: usize) -> Result<Self> {
        let column = group.column(i).clone();
        let size = file.metadata()?.len();
        let first =
            column.dictionary_page_offset().filter(|at| *at > 0).unwrap_or(i64::MAX).min(column.data_page_offset());
        let within = |n: i64| u64::try_from(n).ok().filter(|n| *n <= size);
        let at = within(first).zip(within(column.compressed_size()));
        let Some((at, end)) = at.map(|(at, length)| (at, at + length)).filter(|(_, end)| *end <= size) else {
            return Err(bad(format!("the column `{}` lies outside the file", column.column_path())));
        };
        let listed = column.column_descr().max_rep_level() > 0;
        let values = if listed { size.max(MIN_LISTED) } else { u64::try_from(group.num_rows()).unwrap_or(0) };
        Ok(Self { file, column, at, end, values })
    }

    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(bad("the file ends within a page")) }
    }

    fn header(&mut self) -> Result<Header> {
        let most = (self.end - self.at).min(MAX_HEADER);
        let mut length = 1 << 12;
        loop {
            length = most.min(length);
            let bytes = self.bytes(self.at, length)?;
            let mut thrift = Thrift::new(&bytes);
            if let Some(header) = Header::read(&mut thrift) {
                self.at += thrift.at() as u64;
                return Ok(header);
            }
            if length == most {
                return Err(bad("the header of a page is damaged"));
            }
            length <<= 4;
        }
    }

    fn page(&mut self, header: &Header, packed: Vec<u8>) -> Result<Page> {
        if header.crc.is_some_and(|crc| crc != crc32fast::hash(&packed)) {
            return Err(bad("a page is damaged: its checksum differs"));
        }
        let levels = header.definition.saturating_add(header.repetition);
        let Some((plain, rest)) = packed.split_at_checked(levels).filter(|_| levels <= header.unpacked) else {
            return Err(bad("the header of a page is damaged"));
        };
        let bytes = if header.unpacked == levels {
            plain.to_vec()
        } else if header.compressed {
            let mut bytes = plain.to_vec();
            bytes.extend(decompress(self.column.compression(), rest, header.unpacked - levels).map_err(bad)?);
            bytes
        } else if packed.len() == header.unpacked {
            packed
        } else {
            return Err(bad("a page is not as long as it says"));
        };
        let (buf, num_values) = (Bytes::from(bytes), number(header.values)?);
        let encoding = encoding(header.encoding, &self.column)?;
        if header.kind == 2 {
            let each = match self.column.column_type() {
                Physical::INT64 | Physical::DOUBLE => 8,
                Physical::INT96 => 12,
                Physical::FIXED_LEN_BYTE_ARRAY => self.column.column_descr().type_length().max(1) as usize,
                _ => 4,
            };
            if header.values > MAX_DICTIONARY || header.values > buf.len() / each {
                return Err(bad("a dictionary holds fewer values than it says"));
            }
            return Ok(Page::DictionaryPage { buf, num_values, encoding, is_sorted: false });
        }
        self.values = self.values.checked_sub(header.values as u64).ok_or_else(|| bad("a page has too many values"))?;
        let start = if header.kind == 3 { Some(levels) } else { self.levels(&buf) };
        if matches!(encoding, Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY)
            && !start.is_some_and(|start| delta_is_sound(&buf[start..], header.values))
        {
            return Err(bad("a page has fewer values than it says"));
        }
        Ok(match header.kind {
            3 => Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls: number(header.nulls)?,
                num_rows: number(header.rows)?,
                def_levels_byte_len: number(header.definition)?,
                rep_levels_byte_len: number(header.repetition)?,
                is_compressed: header.compressed,
                statistics: None,
            },
            _ => Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            },
        })
    }

    /// Where the values of a page of the first version begin, after their levels.
    fn levels(&self, bytes: &[u8]) -> Option<usize> {
        let column = self.column.column_descr();
        let mut at = 0usize;
        for _ in [column.max_rep_level(), column.max_def_level()].into_iter().filter(|level| *level > 0) {
            let length = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
            at = at.checked_add(4)?.checked_add(length).filter(|at| *at <= bytes.len())?;
        }
        Some(at)
    }
}

fn number(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| bad("the header of a page is damaged"))
}

fn encoding(number: usize, column: &ColumnChunkMetaData) -> Result<Encoding> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => {
            let (column, name) = (column.column_path(), if number == 7 { " (DELTA_BYTE_ARRAY)" } else { "" });
            let what = format!("the column `{column}` has the encoding {number}{name}, which is not read");
            return Err(bad(format!("{what}; write the file anew with pyarrow's defaults")));
        }
    })
}

/// Whether a delta encoding, which allocates by its own header, has no more values than its page.
fn delta_is_sound(bytes: &[u8], values: usize) -> bool {
    let mut numbers = Thrift::new(bytes);
    let mut next = || numbers.varint();
    // The size of a block, blocks in it, values.
    let header = (next(), next(), next());
    matches!(header, (Some(..=65_536), Some(1..=4096), Some(count)) if count <= values as u64)
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        while self.at < self.end {
            let header = self.header()?;
            if header.packed as u64 > self.end - self.at {
                return Err(bad("a page is longer than its column"));
            }
            let packed = self.bytes(self.at, header.packed as u64)?;
            self.at += header.packed as u64;
            // Of values, of a dictionary, of values in the second version; an index is passed over.
            match header.kind {
                0 | 2 | 3 => return self.page(&header, packed).map(Some),
                1 => {}
                _ => return Err(bad("a page is of no known kind")),
            }
        }
        Ok(None)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        Ok(self.at == self.end)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Err(bad("pages are read in order"))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(bad("pages are read in order"))
    }
}
