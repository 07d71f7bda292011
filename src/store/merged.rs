//! Several chunks as one, without the rows that nobody can see any more.
//!
//! Boundary: rows in, rows out; where the chunks stand and who knows their slots is the partition's business.

use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;

use super::chunk::{Begin, Chunk};
use crate::error::Result;
use crate::time::Epoch;

/// Several chunks as one.
pub(super) struct Merged {
    /// `None` when no row is left.
    pub(super) chunk: Option<Arc<Chunk>>,
    pub(super) slots: Vec<u32>,
    pub(super) ended: usize,
    pub(super) first_end: Epoch,
    /// The rows that are not in it, with their slots (if they have any).
    pub(super) dropped: Option<RecordBatch>,
    pub(super) dropped_slots: Vec<u32>,
    pub(super) dropped_rows: usize,
}

impl Merged {
    pub(super) fn new(
        schema: &SchemaRef,
        sources: &[(Arc<Chunk>, Vec<u32>)],
        horizon: Epoch,
    ) -> Result<Merged> {
        let total = sources.iter().map(|(c, _)| c.len()).sum();
        let mut kept = Vec::with_capacity(sources.len());
        let mut dropped = Vec::new();
        let mut begins = Vec::with_capacity(total);
        let mut ends = Vec::new();
        let (mut slots, mut dropped_slots, mut dropped_rows) = (Vec::with_capacity(total), Vec::new(), 0);
        for (chunk, chunk_slots) in sources {
            let mut gone = Vec::new();
            for row in 0..chunk.len() {
                let end = chunk.end(row);
                let slot = chunk_slots.get(row);
                if end <= horizon {
                    gone.push(row);
                    dropped_slots.extend(slot);
                    continue;
                }
                if end != Epoch::MAX {
                    ends.push((begins.len(), end));
                }
                begins.push(chunk.begin(row).0);
                slots.extend(slot);
            }
            dropped_rows += gone.len();
            if gone.is_empty() {
                kept.push(chunk.rows().clone());
                continue;
            }
            let mut drop = BooleanBufferBuilder::new(chunk.len());
            drop.append_n(chunk.len(), false);
            gone.iter().for_each(|row| drop.set_bit(*row, true));
            let drop = drop.finish();
            kept.push(filter_record_batch(chunk.rows(), &BooleanArray::new(!&drop, None))?);
            if !chunk_slots.is_empty() {
                dropped.push(filter_record_batch(chunk.rows(), &BooleanArray::new(drop, None))?);
            }
        }
        let dropped = if dropped.is_empty() { None } else { Some(concat_batches(schema, &dropped)?) };
        let chunk = if begins.is_empty() {
            None
        } else {
            let newest = begins.iter().copied().max().unwrap_or(0);
            // Nobody looks before the horizon, and epochs that are all the same need no array.
            let one = newest <= horizon.0 || begins.iter().all(|b| *b == newest);
            let begin = if one { Begin::One(Epoch(newest)) } else { Begin::Each(begins.into_boxed_slice()) };
            let chunk = Chunk::new(concat_batches(schema, &kept)?, begin);
            ends.iter().for_each(|(row, end)| chunk.stamp(*row, *end));
            Some(Arc::new(chunk))
        };
        let first_end = ends.iter().map(|(_, end)| *end).min().unwrap_or(Epoch::MAX);
        Ok(Merged { chunk, slots, ended: ends.len(), first_end, dropped, dropped_slots, dropped_rows })
    }
}
