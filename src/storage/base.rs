//! Base snapshots: everything the log said before a point, so that the log before it can go.
//!
//! Boundary: writes and reads one file; when to write one, and what is in it, is the caller's business. A base
//! may be written on any thread while the log is appended to: the [`BaseTicket`] says where it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::frame::{BASE_MAGIC, FileHeader, Frames, corrupted, write_frame};
use super::fs::Fs;
use super::log::io_error;
use super::record::{LogEntry, LogRecord, RecordWriter, read_payload};
use crate::error::Result;
use crate::time::{Epoch, Watermark};
use crate::zset::ZBatch;

/// Rows per frame: bounds the memory of writing and reading.
const FRAME_ROWS: usize = 65_536;

/// Offsets and watermark of a source, as they were bound to an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The source.
    pub object: u32,
    /// Offsets of its partitions, in the connector's notation.
    pub offsets: Vec<u8>,
    /// Its watermark.
    pub watermark: Watermark,
}

/// A base snapshot that was read.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// The epoch it shows.
    pub epoch: Epoch,
    /// The whole catalog, in the catalog's own notation.
    pub ddl: Vec<u8>,
    /// Rows of the tables.
    pub tables: BTreeMap<u32, Vec<RecordBatch>>,
    /// Bindings of the sources.
    pub bindings: Vec<Binding>,
}

/// The place in the log that a base snapshot replaces everything before.
#[derive(Debug)]
pub struct BaseTicket {
    pub(super) dir: PathBuf,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) seq: u64,
    pub(super) prev: u32,
    /// Bytes of segments before it.
    pub(super) replaced: u64,
}

/// A base snapshot that is durable; give it to [`super::log::Log::finish_base`].
#[derive(Debug)]
pub struct FinishedBase {
    pub(super) seq: u64,
    pub(super) bytes: u64,
    pub(super) replaced: u64,
}

/// Name of the base file before `seq`.
pub(super) fn base_name(seq: u64) -> String {
    format!("{seq:020}.base")
}

impl BaseTicket {
    /// Writes the snapshot: the state at `epoch`, which must be what all records before the ticket amount to
    /// (later ones must not be in it).
    pub fn write(
        self,
        epoch: Epoch,
        ddl: &[u8],
        tables: &mut dyn Iterator<Item = Result<(u32, RecordBatch)>>,
        bindings: &[Binding],
    ) -> Result<FinishedBase> {
        let path = self.dir.join(base_name(self.seq));
        let temporary = path.with_extension("tmp");
        let written = self.write_to(&temporary, epoch, ddl, tables, bindings).and_then(|bytes| {
            self.fs.rename(&temporary, &path).map_err(|e| io_error("rename", &temporary, e))?;
            self.fs.sync_dir(&self.dir).map_err(|e| io_error("sync", &self.dir, e))?;
            Ok(FinishedBase { seq: self.seq, bytes, replaced: self.replaced })
        });
        if written.is_err() {
            // Best effort: opening the log removes what is left.
            let _ = self.fs.remove(&temporary);
        }
        written
    }

    fn write_to(
        &self,
        path: &Path,
        epoch: Epoch,
        ddl: &[u8],
        tables: &mut dyn Iterator<Item = Result<(u32, RecordBatch)>>,
        bindings: &[Binding],
    ) -> Result<u64> {
        let mut file = self.fs.create(path).map_err(|e| io_error("create", path, e))?;
        let mut frames = FrameWriter { seq: 1, prev: 0, bytes: 0, records: RecordWriter::default() };
        let header = FileHeader { seq: self.seq, epoch: epoch.0, prev: self.prev };
        let mut buffer = header.encode(BASE_MAGIC).to_vec();
        let mut flush = |buffer: &mut Vec<u8>, limit: usize| -> Result<u64> {
            if buffer.len() < limit {
                return Ok(0);
            }
            file.append(buffer).map_err(|e| io_error("write to", path, e))?;
            let n = buffer.len() as u64;
            buffer.clear();
            Ok(n)
        };
        frames.put(LogRecord { epoch, entries: vec![LogEntry::Ddl(ddl.to_vec())] }, &mut buffer)?;
        for table in tables {
            let (object, rows) = table?;
            for start in (0..rows.num_rows()).step_by(FRAME_ROWS) {
                let part = rows.slice(start, FRAME_ROWS.min(rows.num_rows() - start));
                let entries = vec![LogEntry::Table { object, change: ZBatch::inserts(part) }];
                frames.put(LogRecord { epoch, entries }, &mut buffer)?;
                frames.bytes += flush(&mut buffer, 1 << 20)?;
            }
        }
        let entries = bindings
            .iter()
            .map(|b| LogEntry::Binding {
                object: b.object,
                offsets: b.offsets.clone(),
                watermark: b.watermark,
            })
            .collect();
        frames.put(LogRecord { epoch, entries }, &mut buffer)?;
        write_frame(&mut buffer, frames.seq, 0, frames.prev, |out| {
            RecordWriter::write_end(epoch, out);
            Ok(())
        })?;
        frames.bytes += flush(&mut buffer, 0)?;
        file.sync().map_err(|e| io_error("sync", path, e))?;
        Ok(frames.bytes)
    }
}

struct FrameWriter {
    seq: u64,
    prev: u32,
    bytes: u64,
    records: RecordWriter,
}

impl FrameWriter {
    fn put(&mut self, record: LogRecord, buffer: &mut Vec<u8>) -> Result<()> {
        self.prev = write_frame(buffer, self.seq, 0, self.prev, |out| self.records.write(&record, out))?;
        self.seq += 1;
        Ok(())
    }
}

/// Reads a base file; also gives its header.
pub(super) fn read_base(path: &Path, fs: &dyn Fs) -> Result<(FileHeader, Base)> {
    let bytes = fs.read(path).map_err(|e| io_error("read", path, e))?;
    let header =
        FileHeader::decode(&bytes, BASE_MAGIC).ok_or_else(|| corrupted(path, 0, "bad file header"))?;
    let mut base = Base { epoch: Epoch(header.epoch), ..Base::default() };
    let mut frames = Frames::new(&bytes, 1, 0);
    let mut ended = false;
    while let Some(frame) = frames.next_frame() {
        let (record, end) =
            read_payload(frame.payload).map_err(|what| corrupted(path, frame.offset, &what))?;
        ended = end;
        for entry in record.entries {
            match entry {
                LogEntry::Ddl(ddl) => base.ddl = ddl,
                LogEntry::Table { object, change } => {
                    base.tables.entry(object).or_default().push(change.into_parts().0);
                }
                LogEntry::Binding { object, offsets, watermark } => {
                    base.bindings.push(Binding { object, offsets, watermark });
                }
            }
        }
    }
    if !ended || !frames.at_end() {
        return Err(corrupted(path, frames.offset, "bad frame"));
    }
    Ok((header, base))
}
