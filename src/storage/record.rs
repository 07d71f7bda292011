//! Log records: what a closed epoch or a DDL statement changed, and their bytes.
//!
//! Boundary: DDL and partition offsets are opaque bytes. Table changes are Arrow IPC streams, so that a record
//! can be read without the catalog. Byte layout: [`super`].

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::error::{Error, Result};
use crate::time::{Epoch, Watermark};
use crate::zset::ZBatch;

const DDL: u8 = 1;
const TABLE: u8 = 2;
const BINDING: u8 = 3;
const END: u8 = 4;

const WEIGHTED: u8 = 1;
const WEIGHT_COLUMN: &str = "weight";

/// One record of the log: all or nothing of it survives.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// The epoch its entries belong to.
    pub epoch: Epoch,
    /// What happened.
    pub entries: Vec<LogEntry>,
}

/// One thing that happened in an epoch.
#[derive(Debug, Clone)]
pub enum LogEntry {
    /// A change of the catalog, in the catalog's own notation.
    Ddl(Vec<u8>),
    /// A change of a table's rows.
    Table {
        /// The table.
        object: u32,
        /// Its change.
        change: ZBatch,
    },
    /// How far a source had been read.
    Binding {
        /// The source.
        object: u32,
        /// Offsets of its partitions, in the connector's notation.
        offsets: Vec<u8>,
        /// Its watermark.
        watermark: Watermark,
    },
}

/// Writes records; remembers the schema message of each table so that a small change is cheap.
#[derive(Default)]
pub struct RecordWriter {
    streams: HashMap<(u32, bool), Stream>,
}

/// An IPC stream whose schema message is written once and copied in front of every batch.
struct Stream {
    schema: SchemaRef,
    stored: SchemaRef,
    head: Vec<u8>,
    writer: StreamWriter<Vec<u8>>,
}

impl Stream {
    fn new(schema: &SchemaRef, weighted: bool) -> Result<Self> {
        let stored = if weighted {
            let weight = Arc::new(Field::new(WEIGHT_COLUMN, DataType::Int64, false));
            let fields = schema.fields().iter().cloned().chain([weight]).collect::<Vec<_>>();
            Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
        } else {
            schema.clone()
        };
        let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &stored, options)?;
        let head = std::mem::take(writer.get_mut());
        Ok(Stream { schema: schema.clone(), stored, head, writer })
    }
}

impl RecordWriter {
    /// Appends the payload of a record.
    pub fn write(&mut self, record: &LogRecord, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&record.epoch.0.to_le_bytes());
        out.extend_from_slice(&length(record.entries.len())?.to_le_bytes());
        for entry in &record.entries {
            match entry {
                LogEntry::Ddl(bytes) => {
                    out.push(DDL);
                    put_bytes(out, bytes)?;
                }
                LogEntry::Table { object, change } => self.write_table(*object, change, out)?,
                LogEntry::Binding { object, offsets, watermark } => {
                    out.push(BINDING);
                    out.extend_from_slice(&object.to_le_bytes());
                    out.extend_from_slice(&watermark.0.to_le_bytes());
                    put_bytes(out, offsets)?;
                }
            }
        }
        Ok(())
    }

    fn write_table(&mut self, object: u32, change: &ZBatch, out: &mut Vec<u8>) -> Result<()> {
        let weighted = change.weights().is_some();
        let schema = change.schema();
        let key = (object, weighted);
        let known =
            self.streams.get(&key).is_some_and(|s| Arc::ptr_eq(&s.schema, &schema) || s.schema == schema);
        // A stream remembers the dictionaries it has written, so with such columns every record needs its own.
        let reusable = !schema.fields().iter().any(|f| has_dictionary(f.data_type()));
        if !known || !reusable {
            self.streams.insert(key, Stream::new(&schema, weighted)?);
        }
        let stream = self.streams.get_mut(&key).expect("inserted above");
        let rows = match change.weights() {
            None => change.rows().clone(),
            Some(w) => {
                let mut columns = change.columns().to_vec();
                columns.push(Arc::new(w.clone()));
                RecordBatch::try_new(stream.stored.clone(), columns)?
            }
        };
        out.push(TABLE);
        out.extend_from_slice(&object.to_le_bytes());
        out.push(if weighted { WEIGHTED } else { 0 });
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&stream.head);
        stream.writer.get_mut().clear();
        stream.writer.write(&rows)?;
        out.extend_from_slice(stream.writer.get_ref());
        let len = length(out.len() - at - 4)?;
        out[at..at + 4].copy_from_slice(&len.to_le_bytes());
        // One large change must not keep its memory for ever.
        stream.writer.get_mut().shrink_to(1 << 20);
        Ok(())
    }

    /// Forgets the schema of a dropped table.
    pub fn forget(&mut self, object: u32) {
        self.streams.retain(|(o, _), _| *o != object);
    }

    /// The payload that ends a base file.
    pub fn write_end(epoch: Epoch, out: &mut Vec<u8>) {
        out.extend_from_slice(&epoch.0.to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
        out.push(END);
    }
}

impl std::fmt::Debug for RecordWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordWriter").field("streams", &self.streams.len()).finish()
    }
}

fn has_dictionary(t: &DataType) -> bool {
    match t {
        DataType::Dictionary(..) => true,
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::Map(f, _) => {
            has_dictionary(f.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|f| has_dictionary(f.data_type())),
        _ => false,
    }
}

fn length(len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_| {
        Error::new(
            crate::error::ErrorKind::ProgramLimit,
            "a transaction may not write more than 4 GB to the log",
        )
    })
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    out.extend_from_slice(&length(bytes.len())?.to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Reads a record's payload; `true` when it is the end of a base file. Errors say what is wrong, not where.
pub fn read_payload(payload: &[u8]) -> Result<(LogRecord, bool), String> {
    let mut r = Reader(payload);
    let epoch = Epoch(r.u64()?);
    let count = r.u32()?;
    let mut entries = Vec::new();
    let mut end = false;
    for _ in 0..count {
        match r.u8()? {
            DDL => entries.push(LogEntry::Ddl(r.bytes()?.to_vec())),
            TABLE => {
                let (object, flags) = (r.u32()?, r.u8()?);
                let change = read_table(r.bytes()?, flags & WEIGHTED != 0)
                    .map_err(|e| format!("change of object {object}: {}", e.message()))?;
                entries.extend(change.into_iter().map(|change| LogEntry::Table { object, change }));
            }
            BINDING => {
                let object = r.u32()?;
                let watermark = Watermark(r.u64()?.cast_signed());
                entries.push(LogEntry::Binding { object, offsets: r.bytes()?.to_vec(), watermark });
            }
            END => end = true,
            kind => return Err(format!("entry of unknown kind {kind}")),
        }
    }
    if !r.0.is_empty() {
        return Err(format!("{} bytes behind the last entry", r.0.len()));
    }
    Ok((LogRecord { epoch, entries }, end))
}

fn read_table(bytes: &[u8], weighted: bool) -> Result<Vec<ZBatch>> {
    let mut changes = Vec::new();
    let mut schema: Option<SchemaRef> = None;
    for batch in StreamReader::try_new(Cursor::new(bytes), None)? {
        let batch = batch?;
        let Some((weights, columns)) = batch.columns().split_last().filter(|_| weighted) else {
            changes.push(ZBatch::inserts(batch));
            continue;
        };
        let weights = weights
            .as_primitive_opt::<Int64Type>()
            .filter(|w| w.null_count() == 0)
            .ok_or_else(|| Error::internal("the last column is not a weight"))?;
        let stored = batch.schema();
        let schema = schema.get_or_insert_with(|| {
            let fields = stored.fields().iter().take(columns.len()).cloned().collect::<Vec<_>>();
            Arc::new(Schema::new_with_metadata(fields, stored.metadata().clone()))
        });
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(schema.clone(), columns.to_vec(), &options)?;
        changes.push(ZBatch::try_new(rows, Some(weights.clone()))?);
    }
    Ok(changes)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(n).ok_or("the record ends too early")?;
        self.0 = rest;
        Ok(head)
    }
    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }
    fn u32(&mut self) -> Result<u32, String> {
        Ok(super::frame::u32_at(self.take(4)?, 0))
    }
    fn u64(&mut self) -> Result<u64, String> {
        Ok(super::frame::u64_at(self.take(8)?, 0))
    }
    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let len = self.u32()? as usize;
        self.take(len)
    }
}
