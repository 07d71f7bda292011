//! One open file: bytes or rows from an offset on, cut into records and decoded.
//!
//! Boundary: one file, read forward. The list of files, and when to look again, are the parent's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use flate2::read::MultiGzDecoder;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::{Value, json};

use super::{FileOptions, could_not};
use crate::connector::format::csv::CsvDecoder;
use crate::connector::format::json::JsonDecoder;
use crate::connector::format::{Format, RecordDecoder, parquet as parquet_format};
use crate::connector::source::DeadLetter;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a record that is too long which its dead letter keeps.
const KEPT_OF_LONG: usize = 1024;
/// Bytes of a line's end that a record does not count.
const LINE_END: usize = 2;

/// What reading on gives.
pub(super) enum Piece {
    /// Rows; perhaps none, if all records were bad.
    Rows { rows: RecordBatch, dead_letters: Vec<DeadLetter>, offset_after: u64 },
    /// Nothing more for now, or (done) for ever. `size`: the file's size when it was opened.
    Exhausted { size: u64, done: bool },
}

/// A file being read.
pub(super) enum OpenFile {
    Text(Box<TextFile>),
    Parquet(Box<ParquetFile>),
}

impl OpenFile {
    pub(super) fn open(
        path: &str,
        options: &FileOptions,
        schema: SchemaRef,
        offset: u64,
        follow: bool,
    ) -> Result<Self> {
        Ok(match &options.format {
            Format::Parquet => OpenFile::Parquet(Box::new(ParquetFile::open(path, schema, offset)?)),
            Format::Csv(o) => {
                let decoder = RecordDecoder::Csv(CsvDecoder::new(o.clone(), schema));
                OpenFile::Text(Box::new(TextFile::open(path, options, decoder, offset, follow)?))
            }
            Format::Json => {
                let decoder = RecordDecoder::Json(JsonDecoder::new(schema));
                OpenFile::Text(Box::new(TextFile::open(path, options, decoder, offset, follow)?))
            }
        })
    }

    pub(super) fn next(&mut self, path: &str, max_rows: usize, max_bytes: usize) -> Result<Piece> {
        match self {
            OpenFile::Text(f) => f.next(path, max_rows, max_bytes),
            OpenFile::Parquet(f) => f.next(path, max_rows),
        }
    }

    pub(super) fn offset_json(&self, offset: u64) -> Value {
        match self {
            OpenFile::Text(_) => json!({ "byte": offset }),
            OpenFile::Parquet(_) => json!({ "row": offset }),
        }
    }
}

/// A file of records of text, compressed or not.
pub(super) struct TextFile {
    input: Box<dyn Read + Send>,
    decoder: RecordDecoder,
    buffer: Vec<u8>,
    /// Offset of the first byte of the buffer.
    offset: u64,
    /// Where to go on: bytes before it have been taken earlier.
    resume: u64,
    at_end: bool,
    /// Why reading stopped, to be reported after what was read before.
    damage: Option<std::io::Error>,
    /// Whether what is there is all: an unfinished last line is then a record.
    complete: bool,
    /// Header still to be read.
    wants_header: bool,
    /// Within a line that is too long: where it began, and its first bytes.
    skipping: Option<(u64, Vec<u8>)>,
    size: u64,
    max_record: usize,
}

impl TextFile {
    fn open(
        path: &str,
        options: &FileOptions,
        decoder: RecordDecoder,
        resume: u64,
        follow: bool,
    ) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| could_not("open", path, e))?;
        let size = file.metadata().map_err(|e| could_not("read", path, e))?.len();
        let compressed = path.to_ascii_lowercase().ends_with(".gz");
        let wants_header = matches!(&decoder, RecordDecoder::Csv(d) if d.wants_header());
        let mut offset = 0;
        if !compressed {
            if resume > size {
                return Err(Error::new(
                    ErrorKind::DataCorrupted,
                    format!("file \"{path}\" has become shorter"),
                )
                .with_detail(format!("It has {size} bytes, of which {resume} were read earlier.")));
            }
            if !wants_header {
                file.seek(SeekFrom::Start(resume)).map_err(|e| could_not("read", path, e))?;
                offset = resume;
            }
        }
        let input: Box<dyn Read + Send> = if compressed {
            Box::new(MultiGzDecoder::new(std::io::BufReader::new(file)))
        } else {
            Box::new(file)
        };
        Ok(TextFile {
            input,
            decoder,
            buffer: Vec::new(),
            offset,
            resume,
            at_end: false,
            damage: None,
            complete: compressed || !follow,
            wants_header,
            skipping: None,
            size,
            max_record: options.max_record,
        })
    }

    fn next(&mut self, path: &str, max_rows: usize, max_bytes: usize) -> Result<Piece> {
        let chunk = max_bytes.clamp(4096, 4 << 20);
        if !self.prepare(path, chunk)? {
            return Ok(self.exhausted());
        }
        let mut records = Vec::new();
        loop {
            if self.skipping.is_some() {
                if let Some(piece) = self.skip_line(path)? {
                    return Ok(piece);
                }
            } else {
                records.clear();
                let ended = self.at_end && self.complete;
                let used = self.decoder.frame(&self.buffer, ended, max_rows, &mut records);
                // Whether a record is too long must not depend on how much of the file was read at once.
                let long = records.iter().position(|r| r.len() > self.max_record);
                let used = long.map_or(used, |i| records[i].start);
                records.truncate(long.unwrap_or(records.len()));
                if !records.is_empty() || (used > 0 && long.is_none()) {
                    return self.take(path, used, &records);
                }
                self.drop_front(used);
                if long.is_some() || self.buffer.len() > self.max_record + LINE_END {
                    if let Some(piece) = self.too_long(path)? {
                        return Ok(piece);
                    }
                    continue;
                }
            }
            if self.at_end {
                return Ok(self.exhausted());
            }
            self.fill(path, chunk)?;
        }
    }

    /// Reads the header, if there is one, and goes to where reading stopped earlier. False: not there yet.
    fn prepare(&mut self, path: &str, chunk: usize) -> Result<bool> {
        while self.wants_header {
            let mut records = Vec::new();
            let used = self.decoder.frame(&self.buffer, self.at_end && self.complete, 1, &mut records);
            if let (Some(header), RecordDecoder::Csv(d)) = (records.first(), &mut self.decoder) {
                d.read_header(&self.buffer[header.clone()])?;
                self.wants_header = false;
                self.drop_front(used);
            } else if self.at_end || self.buffer.len() > self.max_record {
                return Ok(false);
            } else {
                self.fill(path, chunk)?;
            }
        }
        while self.offset < self.resume {
            let skip = (self.resume - self.offset).min(self.buffer.len() as u64) as usize;
            self.drop_front(skip);
            if self.offset < self.resume {
                if self.at_end {
                    return Ok(false);
                }
                self.fill(path, chunk)?;
            }
        }
        Ok(true)
    }

    fn drop_front(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.offset += bytes as u64;
    }

    /// Reads up to `chunk` more bytes.
    fn fill(&mut self, path: &str, chunk: usize) -> Result<()> {
        if let Some(e) = self.damage.take() {
            return Err(could_not("read", path, e));
        }
        let before = self.buffer.len();
        let read = self.input.by_ref().take(chunk as u64).read_to_end(&mut self.buffer);
        match read {
            Ok(n) => self.at_end = n < chunk,
            // What was decompressed before the damage is good and is taken first.
            Err(e) if self.buffer.len() > before => self.damage = Some(e),
            Err(e) => return Err(could_not("read", path, e)),
        }
        Ok(())
    }

    fn exhausted(&self) -> Piece {
        Piece::Exhausted { size: self.size, done: self.complete }
    }

    fn take(&mut self, path: &str, used: usize, records: &[Range<usize>]) -> Result<Piece> {
        let decoded = self.decoder.decode(&self.buffer, records)?;
        let dead_letters = decoded
            .errors
            .into_iter()
            .map(|(i, error)| DeadLetter {
                partition: path.to_string(),
                offset: (self.offset + records[i].start as u64) as i64,
                error,
                raw: self.buffer[records[i].clone()].to_vec(),
            })
            .collect();
        self.drop_front(used);
        Ok(Piece::Rows { rows: decoded.rows, dead_letters, offset_after: self.offset })
    }

    /// A record that does not fit. If the end of its first line is in sight, that line becomes a dead letter;
    /// otherwise its beginning is kept until the end of the line is found.
    fn too_long(&mut self, path: &str) -> Result<Option<Piece>> {
        match self.buffer.iter().position(|b| *b == b'\n') {
            Some(line) => {
                let (offset, raw) = (self.offset, self.buffer[..line.min(KEPT_OF_LONG)].to_vec());
                self.drop_front(line + 1);
                self.long_letter(path, offset, raw).map(Some)
            }
            None => {
                let raw = self.buffer[..self.buffer.len().min(KEPT_OF_LONG)].to_vec();
                self.skipping = Some((self.offset, raw));
                let all = self.buffer.len();
                self.drop_front(all);
                Ok(None)
            }
        }
    }

    /// Within a line that is too long: its dead letter once its end is there. Until then the offset given out stays
    /// before the line, so that a restart finds all of it.
    fn skip_line(&mut self, path: &str) -> Result<Option<Piece>> {
        let end = self.buffer.iter().position(|b| *b == b'\n');
        self.drop_front(end.map_or(self.buffer.len(), |n| n + 1));
        if end.is_none() && !(self.at_end && self.complete) {
            return Ok(None);
        }
        match self.skipping.take() {
            Some((offset, raw)) => self.long_letter(path, offset, raw).map(Some),
            None => Ok(None),
        }
    }

    fn long_letter(&mut self, path: &str, offset: u64, raw: Vec<u8>) -> Result<Piece> {
        let error = Error::new(
            ErrorKind::ProgramLimit,
            format!("record is longer than {} bytes or has a quote that is never closed", self.max_record),
        )
        .with_hint("The option \"max.record.size\" is the limit.");
        let letter = DeadLetter { partition: path.to_string(), offset: offset as i64, error, raw };
        let rows = self.decoder.decode(&[], &[])?.rows;
        Ok(Piece::Rows { rows, dead_letters: vec![letter], offset_after: self.offset })
    }
}

/// A Parquet file.
pub(super) struct ParquetFile {
    reader: ParquetRecordBatchReader,
    /// Position in the batches of each declared column.
    order: Vec<usize>,
    schema: SchemaRef,
    row: u64,
    pending: Option<RecordBatch>,
    size: u64,
}

impl ParquetFile {
    fn open(path: &str, schema: SchemaRef, row: u64) -> Result<Self> {
        let file = File::open(path).map_err(|e| could_not("open", path, e))?;
        let size = file.metadata().map_err(|e| could_not("read", path, e))?.len();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(path, &e))?;
        let wanted = parquet_format::columns_in(builder.schema(), &schema)?;
        let mut sorted = wanted.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let order = wanted.iter().map(|c| sorted.partition_point(|s| s < c)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), sorted);
        let reader = builder
            .with_projection(mask)
            .with_batch_size(crate::zset::TARGET_ROWS)
            .with_offset(row as usize)
            .build()
            .map_err(|e| unreadable(path, &e))?;
        Ok(ParquetFile { reader, order, schema, row, pending: None, size })
    }

    fn next(&mut self, path: &str, max_rows: usize) -> Result<Piece> {
        let batch = match self.pending.take() {
            Some(b) => b,
            None => match self.reader.next() {
                None => return Ok(Piece::Exhausted { size: self.size, done: true }),
                Some(b) => b.map_err(|e| unreadable(path, &e))?,
            },
        };
        let rows = batch.num_rows().min(max_rows);
        if rows < batch.num_rows() {
            self.pending = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        let part = batch.slice(0, rows);
        let columns: Vec<_> = self.order.iter().map(|c| part.column(*c).clone()).collect();
        let decoded = parquet_format::shape(&self.schema, columns.clone(), rows)?;
        let dead_letters = decoded
            .errors
            .into_iter()
            .map(|(i, error)| DeadLetter {
                partition: path.to_string(),
                offset: (self.row + i as u64) as i64,
                error,
                raw: parquet_format::row_as_json(&self.schema, &columns, i),
            })
            .collect();
        self.row += rows as u64;
        Ok(Piece::Rows { rows: decoded.rows, dead_letters, offset_after: self.row })
    }
}

fn unreadable(path: &str, e: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::DataCorrupted, format!("could not read \"{path}\" as Parquet"))
        .with_detail(format!("{e}."))
}
