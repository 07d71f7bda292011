//! Rows of one input, as many as the equal rows of another input allow: semi and anti joins whose matches were found
//! before, INTERSECT ALL and EXCEPT ALL.
//!
//! State is two counts for every row. Nothing is emitted before the epoch is closed, so that a match that comes and
//! goes within it leaves no trace.
//!
//! Boundary: equality of rows is PostgreSQL's, as [`crate::zset::key`] has it; NULL is equal to NULL.

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::operator::rows::{EpochBatches, Origin, RowCodec, RowIndex};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::zset::builder::compact_weights;
use crate::zset::keep::Keep;
use crate::zset::{TARGET_ROWS, ZBatch};

/// The operator. See the module documentation.
#[derive(Debug)]
pub struct Counted {
    keep: Keep,
    codec: RowCodec,
    index: RowIndex,
    /// By slot.
    counts: Vec<[i64; 2]>,
    is_touched: Vec<bool>,
    /// Slots with a change in this epoch, with their counts before it and a row of it.
    touched: Vec<(u32, [i64; 2], Origin)>,
    batches: EpochBatches,
}

impl Counted {
    /// Over two inputs of this schema.
    pub fn new(schema: SchemaRef, keep: Keep) -> Result<Counted> {
        Ok(Counted {
            keep,
            codec: RowCodec::new(&schema)?,
            index: RowIndex::new(),
            counts: vec![],
            is_touched: vec![],
            touched: vec![],
            batches: EpochBatches::default(),
        })
    }
}

impl Operator for Counted {
    fn name(&self) -> &'static str {
        match self.keep {
            Keep::IfThere => "semi",
            Keep::IfNotThere => "anti",
            Keep::Least => "intersect",
            Keep::Excess => "except",
        }
    }

    fn absorb(&mut self, port: usize, changes: ZBatch, _out: &mut Output) -> Result<Progress> {
        self.codec.encode(changes.columns())?;
        // Rows of the second input have the same values under other names.
        let origin = if port == 0 { self.batches.keep(&self.codec, changes.rows()) } else { Origin::NONE };
        for row in 0..changes.num_rows() {
            let (slot, _) = self.index.find_or_insert(self.codec.row(row));
            let s = slot as usize;
            if s >= self.counts.len() {
                self.counts.resize(s + 1, [0, 0]);
                self.is_touched.resize(s + 1, false);
            }
            if !self.is_touched[s] {
                self.is_touched[s] = true;
                self.touched.push((slot, self.counts[s], origin.at(row)));
            }
            self.counts[s][port.min(1)] += changes.weight(row);
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, _time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress> {
        let touched = std::mem::take(&mut self.touched);
        let mut changes = vec![];
        for &(slot, before, origin) in &touched {
            self.is_touched[slot as usize] = false;
            let weight = self.keep.of(self.counts[slot as usize]) - self.keep.of(before);
            if weight != 0 {
                changes.push((slot, weight, origin));
            }
        }
        for piece in changes.chunks(TARGET_ROWS) {
            let rows = piece.iter().map(|(slot, _, o)| (*o, self.index.key(*slot)));
            let rows = self.batches.gather(&self.codec, rows)?;
            out.push(ZBatch::try_new(rows, compact_weights(piece.iter().map(|(_, w, _)| *w).collect()))?);
        }
        self.batches.clear();
        for (slot, ..) in touched {
            if self.counts[slot as usize] == [0, 0] {
                self.index.remove(slot);
            }
        }
        Ok(Progress::Done)
    }

    fn state_bytes(&self) -> usize {
        self.index.memory_bytes() + self.counts.capacity() * 17
    }

    fn state_rows(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::operator::testing::{Relation, batch, random_row, schema, text};
    use crate::time::{Epoch, EventTime, Watermark};

    fn close(op: &mut Counted) -> Output {
        let mut out = Output::default();
        let watermarks = [Watermark(0), Watermark(0)];
        let time = TimeFacts { epoch: Epoch(1), now: EventTime(0), watermarks: &watermarks };
        op.close_epoch(&time, &mut out).unwrap();
        out
    }

    #[test]
    fn what_is_left_is_what_the_counts_allow_after_any_changes() {
        for seed in 0..40 {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let keep = [Keep::IfThere, Keep::IfNotThere, Keep::Least, Keep::Excess][seed as usize % 4];
            let mut op = Counted::new(schema(), keep).unwrap();
            let mut model: [BTreeMap<_, i64>; 2] = Default::default();
            let mut shown = Relation::default();
            for _ in 0..10 {
                let mut out = Output::default();
                for _ in 0..rng.random_range(0..12) {
                    let (port, row) = (rng.random_range(0..2), random_row(&mut rng));
                    let have = model[port].entry(row.clone()).or_insert(0);
                    let weight = if *have > 0 && rng.random_bool(0.5) { -1 } else { rng.random_range(1..3) };
                    *have += weight;
                    op.absorb(port, batch(&[(row, weight)]), &mut out).unwrap();
                }
                shown.add_batches(&close(&mut op).rows);
                let mut expected = Relation::default();
                for (row, a) in &model[0] {
                    let b = model[1].get(row).copied().unwrap_or(0);
                    expected.add(text(row), keep.of([*a, b]));
                }
                expected.0.retain(|_, w| *w != 0);
                assert_eq!(shown, expected, "seed {seed} {keep:?}");
            }
        }
    }

    #[test]
    fn rows_that_are_gone_leave_no_state() {
        let mut op = Counted::new(schema(), Keep::Excess).unwrap();
        let row = (Some(1), None, None);
        let mut out = Output::default();
        for weight in [1, -1] {
            op.absorb(0, batch(&[(row.clone(), weight)]), &mut out).unwrap();
            op.absorb(1, batch(&[(row.clone(), weight)]), &mut out).unwrap();
            assert!(close(&mut op).rows.is_empty());
        }
        assert_eq!(op.state_rows(), 0);
    }
}
