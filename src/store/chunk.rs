//! A chunk: immutable rows with the epochs in which each begins and ends.
//!
//! Boundary: one batch of rows. Ends are stamped in place by the partition's only writer; a reader at epoch E
//! cares only whether an end is at most E, and all such stamps were made before E was published.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;

use crate::error::Result;
use crate::time::Epoch;

/// The end of a row that still lives.
const ALIVE: u64 = Epoch::MAX.0;

#[derive(Debug)]
pub(super) enum Begin {
    /// All rows begin in one epoch (or before anyone can look).
    One(Epoch),
    /// The epoch of each row.
    Each(Box<[u64]>),
}

#[derive(Debug)]
pub(super) struct Chunk {
    rows: RecordBatch,
    begin: Begin,
    /// Allocated with the first end: rows that are only inserted pay nothing.
    ends: OnceLock<Box<[AtomicU64]>>,
    bytes: usize,
}

impl Chunk {
    pub(super) fn new(rows: RecordBatch, begin: Begin) -> Chunk {
        let bytes = rows
            .columns()
            .iter()
            .map(|c| c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_buffer_memory_size()))
            .sum();
        Chunk { rows, begin, ends: OnceLock::new(), bytes }
    }

    /// The same rows, those that begin at `hidden` beginning at `epoch`; what ended at `hidden` ends there too.
    pub(super) fn revealed(&self, hidden: Epoch, epoch: Epoch) -> Chunk {
        let shown = |e: u64| if e == hidden.0 { epoch.0 } else { e };
        let begin = match &self.begin {
            Begin::One(begin) => Begin::One(Epoch(shown(begin.0))),
            Begin::Each(begins) => Begin::Each(begins.iter().map(|b| shown(*b)).collect()),
        };
        let ends = OnceLock::new();
        if let Some(old) = self.ends.get() {
            ends.get_or_init(|| {
                old.iter().map(|e| AtomicU64::new(shown(e.load(Ordering::Relaxed)))).collect()
            });
        }
        Chunk { rows: self.rows.clone(), begin, ends, bytes: self.bytes }
    }

    pub(super) fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    pub(super) fn len(&self) -> usize {
        self.rows.num_rows()
    }

    pub(super) fn begin(&self, row: usize) -> Epoch {
        match &self.begin {
            Begin::One(epoch) => *epoch,
            Begin::Each(epochs) => Epoch(epochs[row]),
        }
    }

    /// The end of a row, [`Epoch::MAX`] while it lives.
    pub(super) fn end(&self, row: usize) -> Epoch {
        Epoch(self.ends.get().map_or(ALIVE, |ends| ends[row].load(Ordering::Relaxed)))
    }

    pub(super) fn is_alive(&self, row: usize) -> bool {
        self.end(row) == Epoch::MAX
    }

    pub(super) fn stamp(&self, row: usize, epoch: Epoch) {
        let ends = self.ends.get_or_init(|| (0..self.len()).map(|_| AtomicU64::new(ALIVE)).collect());
        ends[row].store(epoch.0, Ordering::Relaxed);
    }

    /// Whether a reader at `epoch` can see any row, as far as that can be told at once.
    pub(super) fn may_be_seen(&self, epoch: Epoch) -> bool {
        !matches!(self.begin, Begin::One(begin) if begin > epoch)
    }

    /// Whether any row may begin after `epoch`, as far as that can be told at once.
    pub(super) fn may_begin_after(&self, epoch: Epoch) -> bool {
        !matches!(self.begin, Begin::One(begin) if begin <= epoch)
    }

    /// Which rows a reader at `epoch` sees; `None`: all of them.
    pub(super) fn visible(&self, epoch: Epoch) -> Option<BooleanBuffer> {
        let ends = self.ends.get();
        let seen = match (&self.begin, ends) {
            (Begin::One(begin), _) if *begin > epoch => BooleanBuffer::new_unset(self.len()),
            (Begin::One(_), None) => return None,
            (Begin::One(_), Some(ends)) => {
                BooleanBuffer::collect_bool(self.len(), |i| epoch.0 < ends[i].load(Ordering::Relaxed))
            }
            (Begin::Each(begin), None) => BooleanBuffer::collect_bool(self.len(), |i| begin[i] <= epoch.0),
            (Begin::Each(begin), Some(ends)) => BooleanBuffer::collect_bool(self.len(), |i| {
                begin[i] <= epoch.0 && epoch.0 < ends[i].load(Ordering::Relaxed)
            }),
        };
        (seen.count_set_bits() < self.len()).then_some(seen)
    }

    /// The rows a reader at `epoch` sees, only the columns `projection`; `None`: no rows.
    pub(super) fn read(&self, epoch: Epoch, projection: Option<&[usize]>) -> Result<Option<RecordBatch>> {
        if !self.may_be_seen(epoch) {
            return Ok(None);
        }
        let rows = match projection {
            Some(columns) => self.rows.project(columns)?,
            None => self.rows.clone(),
        };
        Ok(match self.visible(epoch) {
            None => Some(rows),
            Some(seen) if seen.count_set_bits() == 0 => None,
            Some(seen) => Some(filter_record_batch(&rows, &BooleanArray::new(seen, None))?),
        })
    }

    /// How many rows ended at or before `horizon`.
    pub(super) fn ended_by(&self, horizon: Epoch) -> usize {
        let ends = self.ends.get().map_or(&[][..], |ends| ends);
        ends.iter().filter(|e| e.load(Ordering::Relaxed) <= horizon.0).count()
    }

    pub(super) fn bytes(&self) -> usize {
        let begins = match &self.begin {
            Begin::One(_) => 0,
            Begin::Each(epochs) => epochs.len() * 8,
        };
        self.bytes + begins + self.ends.get().map_or(0, |e| e.len() * 8) + size_of::<Chunk>()
    }
}
