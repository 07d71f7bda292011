//! The write-ahead log: records in segments, with group commit, torn tails and a base snapshot.
//!
//! Boundary: keeps records in order and durable, and gives them back. Who waits for which sync is the caller's
//! business. File format and what is synced when: [`super`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::base::{Base, BaseTicket, Binding, FinishedBase, base_name, read_base};
use super::frame::{FILE_HEADER, FileHeader, Frames, SEGMENT_MAGIC, corrupted, write_frame};
use super::fs::{Fs, FsFile};
pub use super::record::{LogEntry, LogRecord};
use super::record::{RecordWriter, read_payload};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// Size at which a new segment is begun.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// What was in the log when it was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The base snapshot, if one was ever written.
    pub base: Option<Base>,
    /// The records after it, in order.
    pub records: Vec<LogRecord>,
    /// Bytes of an unfinished write that were cut off the end.
    pub torn_bytes: u64,
}

/// The log, open for appending.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    segment: Segment,
    /// Sequence number of the next record, and checksum of the one before.
    next_seq: u64,
    prev: u32,
    /// Highest durable sequence number.
    durable: u64,
    epoch: Epoch,
    /// Bytes of finished segments since the base.
    finished_bytes: u64,
    base_bytes: u64,
    segment_bytes: u64,
    records: RecordWriter,
    buffer: Vec<u8>,
    /// Why nothing is accepted any more.
    failed: Option<String>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: Box<dyn FsFile>,
    first_seq: u64,
    len: u64,
}

impl Log {
    /// Opens the log in `dir` (created if it is not there), cuts off a torn tail and reads everything.
    /// Damage anywhere else is refused with [`ErrorKind::DataCorrupted`], naming file and offset.
    pub fn open(dir: &Path, fs: Arc<dyn Fs>) -> Result<(Log, Recovery)> {
        Log::open_with(dir, fs, SEGMENT_BYTES)
    }

    /// As [`Log::open`], with another size of segments.
    pub fn open_with(dir: &Path, fs: Arc<dyn Fs>, segment_bytes: u64) -> Result<(Log, Recovery)> {
        fs.create_dir_all(dir).map_err(|e| io_error("create", dir, e))?;
        if let Some(parent) = dir.parent() {
            fs.sync_dir(parent).map_err(|e| io_error("sync", parent, e))?;
        }
        let contents = read_directory(dir, &*fs)?;
        for name in contents.obsolete {
            fs.remove(&dir.join(&name)).map_err(|e| io_error("remove", &dir.join(&name), e))?;
        }
        let segment = match contents.last {
            Some(last) if last.usable => {
                let mut file = fs.open(&last.path).map_err(|e| io_error("open", &last.path, e))?;
                if contents.recovery.torn_bytes > 0 {
                    file.truncate(last.len).map_err(|e| io_error("truncate", &last.path, e))?;
                }
                // What was read may still be in the cache only.
                file.sync().map_err(|e| io_error("sync", &last.path, e))?;
                Segment { path: last.path, file, first_seq: last.first_seq, len: last.len }
            }
            _ => create_segment(dir, &*fs, contents.next_seq, contents.prev)?,
        };
        let epoch = contents.recovery.records.last().map(|r| r.epoch);
        let log = Log {
            dir: dir.to_path_buf(),
            fs,
            segment,
            next_seq: contents.next_seq,
            prev: contents.prev,
            durable: contents.next_seq - 1,
            epoch: epoch.or(contents.recovery.base.as_ref().map(|b| b.epoch)).unwrap_or(Epoch::ZERO),
            finished_bytes: contents.finished_bytes,
            base_bytes: contents.base_bytes,
            segment_bytes,
            records: RecordWriter::default(),
            buffer: Vec::new(),
            failed: None,
        };
        Ok((log, contents.recovery))
    }

    /// Appends a record; it is durable after the next [`Log::sync`]. When the disk is full, nothing of the
    /// record stays and the same call works once there is space again.
    pub fn append(&mut self, record: &LogRecord) -> Result<()> {
        self.check()?;
        self.buffer.clear();
        let records = &mut self.records;
        let crc = write_frame(&mut self.buffer, self.next_seq, self.durable, self.prev, |out| {
            records.write(record, out)
        })?;
        let full = self.segment.len + self.buffer.len() as u64 > self.segment_bytes;
        if full && self.next_seq > self.segment.first_seq {
            self.roll()?;
        }
        if let Err(e) = self.segment.file.append(&self.buffer) {
            if let Err(cut) = self.segment.file.truncate(self.segment.len) {
                self.fail(&format!("could not cut off an unfinished write: {cut}"));
            }
            return Err(io_error("write to", &self.segment.path, e));
        }
        self.segment.len += self.buffer.len() as u64;
        self.buffer.shrink_to(1 << 20);
        self.next_seq += 1;
        self.prev = crc;
        self.epoch = record.epoch;
        Ok(())
    }

    /// Makes everything appended so far durable. The first failure is final: afterwards nobody knows what the
    /// disk holds, so the log refuses everything until the server has been restarted.
    pub fn sync(&mut self) -> Result<()> {
        self.check()?;
        if self.durable + 1 == self.next_seq {
            return Ok(());
        }
        if let Err(e) = self.segment.file.sync() {
            let error = io_error("sync", &self.segment.path, e);
            self.fail(error.message());
            return Err(error);
        }
        self.durable = self.next_seq - 1;
        Ok(())
    }

    /// Syncs and leaves a last record that vouches for all others, so that any later damage is noticed.
    pub fn close(mut self) -> Result<()> {
        self.sync()?;
        if self.next_seq > self.segment.first_seq {
            self.append(&LogRecord { epoch: self.epoch, entries: Vec::new() })?;
        }
        self.sync()
    }

    /// Bytes of log that recovery would read after the base, and bytes of the base.
    pub fn sizes(&self) -> (u64, u64) {
        (self.finished_bytes + self.segment.len, self.base_bytes)
    }

    /// Whether a failed sync has closed the log.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// A table was dropped: what the log remembers of its schema can go.
    pub fn forget(&mut self, object: u32) {
        self.records.forget(object);
    }

    /// Begins a base snapshot that replaces all records appended so far. The log can be appended to meanwhile.
    pub fn begin_base(&mut self) -> Result<BaseTicket> {
        self.check()?;
        if self.next_seq > self.segment.first_seq {
            self.roll()?;
        }
        Ok(BaseTicket {
            dir: self.dir.clone(),
            fs: self.fs.clone(),
            seq: self.next_seq,
            prev: self.prev,
            replaced: self.finished_bytes,
        })
    }

    /// Deletes the files that the base replaces.
    pub fn finish_base(&mut self, base: FinishedBase) -> Result<()> {
        let names = self.fs.list(&self.dir).map_err(|e| io_error("list", &self.dir, e))?;
        for name in names {
            let old = sequence_of(&name).is_some_and(|(seq, _)| seq < base.seq);
            if old && self.dir.join(&name) != self.segment.path {
                let path = self.dir.join(&name);
                self.fs.remove(&path).map_err(|e| io_error("remove", &path, e))?;
            }
        }
        self.base_bytes = base.bytes;
        self.finished_bytes = self.finished_bytes.saturating_sub(base.replaced);
        Ok(())
    }

    /// Writes a base snapshot at once: [`Log::begin_base`], [`BaseTicket::write`] and [`Log::finish_base`].
    pub fn write_base(
        &mut self,
        epoch: Epoch,
        ddl: &[u8],
        tables: &mut dyn Iterator<Item = Result<(u32, RecordBatch)>>,
        bindings: &[Binding],
    ) -> Result<()> {
        let ticket = self.begin_base()?;
        let base = ticket.write(epoch, ddl, tables, bindings)?;
        self.finish_base(base)
    }

    fn roll(&mut self) -> Result<()> {
        self.sync()?;
        let next = create_segment(&self.dir, &*self.fs, self.next_seq, self.prev)?;
        self.finished_bytes += self.segment.len;
        self.segment = next;
        Ok(())
    }

    fn fail(&mut self, why: &str) {
        self.failed = Some(why.to_string());
    }

    fn check(&self) -> Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::Io, "the log is closed after a failed write")
                .with_detail(format!("The failure was: {why}."))
                .with_hint("Check the disk and restart the server.")),
        }
    }
}

/// Creates a segment with its header; header and name are durable when it returns.
fn create_segment(dir: &Path, fs: &dyn Fs, seq: u64, prev: u32) -> Result<Segment> {
    let path = dir.join(format!("{seq:020}.log"));
    let create = || -> Result<Box<dyn FsFile>> {
        let mut file = fs.create(&path).map_err(|e| io_error("create", &path, e))?;
        let header = FileHeader { seq, epoch: 0, prev }.encode(SEGMENT_MAGIC);
        file.append(&header).map_err(|e| io_error("write to", &path, e))?;
        file.sync().map_err(|e| io_error("sync", &path, e))?;
        fs.sync_dir(dir).map_err(|e| io_error("sync", dir, e))?;
        Ok(file)
    };
    match create() {
        Ok(file) => Ok(Segment { path, file, first_seq: seq, len: FILE_HEADER as u64 }),
        Err(e) => {
            let _ = fs.remove(&path);
            Err(e)
        }
    }
}

/// The sequence number in a file's name, and whether it is a base.
fn sequence_of(name: &str) -> Option<(u64, bool)> {
    let (number, extension) = name.split_once('.')?;
    let base = match extension {
        "log" => false,
        "base" => true,
        _ => return None,
    };
    (number.len() == 20).then(|| number.parse().ok()).flatten().map(|seq| (seq, base))
}

/// What the log's directory holds.
pub(super) struct Contents {
    pub(super) recovery: Recovery,
    pub(super) last: Option<LastSegment>,
    pub(super) next_seq: u64,
    pub(super) prev: u32,
    pub(super) finished_bytes: u64,
    pub(super) base_bytes: u64,
    /// Files that the base has replaced, and unfinished ones.
    pub(super) obsolete: Vec<String>,
    /// Files that were read, with the number of records in each.
    pub(super) files: Vec<(String, usize)>,
}

pub(super) struct LastSegment {
    pub(super) path: PathBuf,
    pub(super) first_seq: u64,
    /// Length without the torn tail.
    pub(super) len: u64,
    /// Whether its header was complete.
    pub(super) usable: bool,
}

/// Reads the whole directory and changes nothing.
pub(super) fn read_directory(dir: &Path, fs: &dyn Fs) -> Result<Contents> {
    let names = fs.list(dir).map_err(|e| io_error("list", dir, e))?;
    let known = || names.iter().filter_map(|n| sequence_of(n).map(|(seq, base)| (seq, base, n)));
    let base_seq = known().filter(|(_, base, _)| *base).map(|(seq, ..)| seq).max();
    let mut contents = Contents {
        recovery: Recovery::default(),
        last: None,
        next_seq: base_seq.unwrap_or(1),
        prev: 0,
        finished_bytes: 0,
        base_bytes: 0,
        obsolete: names.iter().filter(|n| n.ends_with(".tmp")).cloned().collect(),
        files: Vec::new(),
    };
    if let Some(seq) = base_seq {
        let name = base_name(seq);
        let (header, base) = read_base(&dir.join(&name), fs)?;
        if header.seq != seq {
            return Err(corrupted(
                &dir.join(&name),
                8,
                "the sequence number is not the one of the file's name",
            ));
        }
        contents.prev = header.prev;
        contents.files.push((name, base.tables.values().map(Vec::len).sum()));
        contents.recovery.base = Some(base);
    }
    let first = contents.next_seq;
    contents.obsolete.extend(known().filter(|(seq, ..)| *seq < first).map(|(_, _, n)| n.clone()));
    let segments: Vec<_> = known().filter(|(seq, base, _)| !base && *seq >= first).collect();
    for (i, (seq, _, name)) in segments.iter().enumerate() {
        if contents.last.is_some() {
            // A roll that failed has left a file without records; the segment before it went on.
            contents.obsolete.push((*name).clone());
            continue;
        }
        if *seq != contents.next_seq {
            let missing = format!("{:020}.log", contents.next_seq);
            return Err(corrupted(&dir.join(missing), 0, "the file is missing"));
        }
        // Everything before the next segment was durable when that was created.
        let tail_from = match segments[i + 1..] {
            [] => Some(0),
            [(next, _, next_name)] if is_without_records(&dir.join(next_name), fs)? => Some(next),
            _ => None,
        };
        read_segment(dir, fs, name, tail_from, &mut contents)?;
    }
    if segments.is_empty() && base_seq.is_some() {
        return Err(corrupted(&dir.join(format!("{first:020}.log")), 0, "the file is missing"));
    }
    Ok(contents)
}

fn is_without_records(path: &Path, fs: &dyn Fs) -> Result<bool> {
    Ok(fs.read(path).map_err(|e| io_error("read", path, e))?.len() <= FILE_HEADER)
}

/// Reads one segment. `tail_from`: where a torn tail may begin (0: anywhere, this is the last segment).
fn read_segment(
    dir: &Path,
    fs: &dyn Fs,
    name: &str,
    tail_from: Option<u64>,
    contents: &mut Contents,
) -> Result<()> {
    let path = dir.join(name);
    let bytes = fs.read(&path).map_err(|e| io_error("read", &path, e))?;
    let first_seq = contents.next_seq;
    let Some(header) = FileHeader::decode(&bytes, SEGMENT_MAGIC) else {
        // The header is synced before the first record is written, so a short file without one holds nothing.
        if tail_from == Some(0) && bytes.len() <= FILE_HEADER {
            contents.recovery.torn_bytes = bytes.len() as u64;
            contents.last = Some(LastSegment { path, first_seq, len: 0, usable: false });
            return Ok(());
        }
        return Err(corrupted(&path, 0, "bad file header"));
    };
    if header.seq != first_seq || header.prev != contents.prev {
        return Err(corrupted(&path, 8, "it does not continue the file before it"));
    }
    let mut frames = Frames::new(&bytes, first_seq, contents.prev);
    while let Some(frame) = frames.next_frame() {
        let (record, _) =
            read_payload(frame.payload).map_err(|what| corrupted(&path, frame.offset, &what))?;
        if !record.entries.is_empty() {
            contents.recovery.records.push(record);
        }
    }
    if !frames.at_end() {
        if tail_from.is_none_or(|from| frames.seq < from) || frames.damaged() {
            return Err(corrupted(&path, frames.offset, "bad record"));
        }
        contents.recovery.torn_bytes = (bytes.len() - frames.offset) as u64;
    }
    contents.files.push((name.to_string(), usize::try_from(frames.seq - first_seq).unwrap_or(usize::MAX)));
    contents.next_seq = frames.seq;
    contents.prev = frames.prev;
    let len = frames.offset as u64;
    let goes_on = tail_from.is_some_and(|from| frames.seq > from || contents.recovery.torn_bytes > 0);
    if tail_from == Some(0) || goes_on {
        contents.last = Some(LastSegment { path, first_seq, len, usable: true });
    } else {
        contents.finished_bytes += len;
    }
    Ok(())
}

/// An error of the operating system, with what was tried on which file.
pub(super) fn io_error(what: &str, path: &Path, e: io::Error) -> Error {
    let kind = Error::from(io::Error::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO))).kind();
    let error = Error::new(kind, format!("could not {what} file \"{}\": {e}", path.display())).with_source(e);
    if kind == ErrorKind::DiskFull { error.with_hint("Check free disk space.") } else { error }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
