//! DISTINCT: each row that is there at all, once.
//!
//! State is the count of every row. A count below zero after an epoch means that the input took back a row it never
//! gave; the row is then reported in the errors until the count recovers, and nothing is clamped.
//!
//! Boundary: equality of rows is PostgreSQL's, as [`crate::zset::key`] has it.

use std::collections::BTreeMap;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::expr::eval_error;
use crate::operator::rows::{EpochBatches, Origin, RowCodec, RowIndex, micros};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::store::arrangement::slab::Slab;
use crate::time::Watermark;
use crate::zset::builder::compact_weights;
use crate::zset::{TARGET_ROWS, ZBatch};

/// The duplicate-eliminating operator.
#[derive(Debug)]
pub struct Distinct {
    codec: RowCodec,
    index: RowIndex,
    /// By slot.
    counts: Slab<i64>,
    is_touched: Slab<bool>,
    /// Slots with a change in this epoch, with their counts before it and a row of it.
    touched: Vec<(u32, i64, Origin)>,
    batches: EpochBatches,
    window: Option<Window>,
}

/// What lets the state of rows go.
#[derive(Debug)]
struct Window {
    column: usize,
    /// By slot: when its window ends.
    ends: Slab<i64>,
    /// Slots by window end. A slot may have changed hands since it was entered; `ends` tells.
    calendar: BTreeMap<i64, Vec<u32>>,
    watermark: i64,
}

impl Distinct {
    /// Distinct rows of an input with this schema. `window_end`: the column that says until when a row can come.
    pub fn new(schema: SchemaRef, window_end: Option<usize>) -> Result<Distinct> {
        let window = window_end.map(|column| Window {
            column,
            ends: Slab::new(),
            calendar: BTreeMap::new(),
            watermark: i64::MIN,
        });
        Ok(Distinct {
            codec: RowCodec::new(&schema)?,
            index: RowIndex::new(),
            counts: Slab::new(),
            is_touched: Slab::new(),
            touched: vec![],
            batches: EpochBatches::default(),
            window,
        })
    }

    fn touch(&mut self, row: usize, weight: i64, origin: Origin) -> (u32, bool) {
        let (slot, new) = self.index.find_or_insert(self.codec.row(row));
        let s = slot as usize;
        if s >= self.counts.len() {
            self.counts.push(0);
            self.is_touched.push(false);
        }
        if !self.is_touched[s] {
            self.is_touched[s] = true;
            self.touched.push((slot, self.counts[s], origin));
        }
        self.counts[s] += weight;
        (slot, new)
    }

    /// Emits rows of the state with these weights.
    fn emit(&self, changes: &[(u32, i64, Origin)], mut to: impl FnMut(ZBatch) -> Result<()>) -> Result<()> {
        for piece in changes.chunks(TARGET_ROWS) {
            let rows = self
                .batches
                .gather(&self.codec, piece.iter().map(|(slot, _, o)| (*o, self.index.key(*slot))))?;
            to(ZBatch::try_new(rows, compact_weights(piece.iter().map(|(_, w, _)| *w).collect()))?)?;
        }
        Ok(())
    }

    fn free(&mut self, slot: u32) {
        self.index.remove(slot);
        self.counts[slot as usize] = 0;
        if let Some(window) = &mut self.window {
            window.ends[slot as usize] = i64::MAX;
        }
    }

    /// Forgets rows whose window the watermark has passed; they stay in the result.
    fn forget(&mut self, watermark: Watermark) {
        let Some(window) = &mut self.window else { return };
        window.watermark = window.watermark.max(watermark.0);
        let later = match window.watermark.checked_add(1) {
            Some(next) => window.calendar.split_off(&next),
            None => BTreeMap::new(),
        };
        let closed = std::mem::replace(&mut window.calendar, later);
        for (end, slots) in closed {
            for slot in slots {
                if self.window.as_ref().is_some_and(|w| w.ends[slot as usize] == end) {
                    self.free(slot);
                }
            }
        }
    }
}

impl Window {
    fn enter(&mut self, slot: u32, end: i64) {
        self.ends.grow(slot as usize + 1, i64::MAX);
        self.ends[slot as usize] = end;
        if end != i64::MAX {
            self.calendar.entry(end).or_default().push(slot);
        }
    }
}

impl Operator for Distinct {
    fn name(&self) -> &'static str {
        "distinct"
    }

    fn absorb(&mut self, _port: usize, changes: ZBatch, _out: &mut Output) -> Result<Progress> {
        self.codec.encode(changes.columns())?;
        let ends = self.window.as_ref().map(|w| micros(changes.column(w.column))).transpose()?;
        let origin = self.batches.keep(&self.codec, changes.rows());
        for row in 0..changes.num_rows() {
            let end =
                ends.as_ref().map_or(i64::MAX, |e| if e.is_valid(row) { e.value(row) } else { i64::MAX });
            // The state of a closed window is gone: what comes for it now was late already at the source.
            if self.window.as_ref().is_some_and(|w| end <= w.watermark) {
                continue;
            }
            let (slot, new) = self.touch(row, changes.weight(row), origin.at(row));
            if new && let Some(window) = &mut self.window {
                window.enter(slot, end);
            }
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress> {
        let touched = std::mem::take(&mut self.touched);
        let mut changes = vec![];
        let mut negative = vec![];
        for &(slot, before, origin) in &touched {
            let after = self.counts[slot as usize];
            self.is_touched[slot as usize] = false;
            changes.push((slot, i64::from(after > 0) - i64::from(before > 0), origin));
            negative.push((slot, i64::from(after < 0) - i64::from(before < 0), origin));
        }
        changes.retain(|(_, weight, _)| *weight != 0);
        negative.retain(|(_, weight, _)| *weight != 0);
        self.emit(&changes, |batch| {
            out.push(batch);
            Ok(())
        })?;
        let name = self.name();
        self.emit(&negative, |batch| {
            let errors: Vec<(u32, Error)> = (0..batch.num_rows() as u32)
                .map(|row| (row, Error::internal("row was taken back more often than it was given")))
                .collect();
            out.push_errors(eval_error::error_batch(&batch, &errors, name)?);
            Ok(())
        })?;
        self.batches.clear();
        for (slot, ..) in touched {
            if self.counts[slot as usize] == 0 {
                self.free(slot);
            }
        }
        self.forget(time.watermarks.first().copied().unwrap_or(Watermark::NONE));
        Ok(Progress::Done)
    }

    fn waits_for_watermark(&self) -> bool {
        self.window.as_ref().is_some_and(|w| !w.calendar.is_empty())
    }

    fn state_bytes(&self) -> usize {
        let window = self.window.as_ref().map_or(0, |w| {
            w.ends.bytes() + w.calendar.values().map(|slots| 48 + slots.capacity() * 4).sum::<usize>()
        });
        self.index.memory_bytes()
            + self.counts.bytes()
            + self.is_touched.bytes()
            + self.touched.capacity() * 16
            + window
    }

    fn state_rows(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::operator::testing::{Relation, Row, cut, epoch, random_row, schema, text};

    #[test]
    fn random_changes_give_each_present_row_once_and_report_negative_counts() {
        for seed in 0..400 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut op = Distinct::new(schema(), None).unwrap();
            let (mut input, mut output, mut errors) =
                (Relation::default(), Relation::default(), Relation::default());
            for now in 0..6 {
                let changes: Vec<(Row, i64)> = (0..rng.random_range(0..40))
                    .map(|_| (random_row(&mut rng), rng.random_range(-2..3)))
                    .collect();
                for (row, weight) in &changes {
                    input.add(text(row), *weight);
                }
                let batches = cut(&mut rng, &changes);
                let out = epoch(&mut op, batches, now, i64::MIN);
                output.add_batches(&out.rows);
                errors.add_batches(&out.errors);
                let expected = input.0.iter().filter(|(_, n)| **n > 0).map(|(r, _)| (r.clone(), 1)).collect();
                assert_eq!(output.0, expected, "seed {seed}, epoch {now}");
                assert_eq!(errors.0.len(), input.0.values().filter(|n| **n < 0).count(), "seed {seed}");
                assert_eq!(op.state_rows(), input.0.len(), "seed {seed}");
            }
        }
    }

    #[test]
    fn floats_that_compare_equal_are_one_row() {
        let field = arrow::datatypes::Field::new("f", arrow::datatypes::DataType::Float64, true);
        let schema: SchemaRef = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![field]));
        let floats = |text| crate::zset::pretty::parse(&schema, text);
        let mut op = Distinct::new(schema.clone(), None).unwrap();
        let mut output = Relation::default();
        output.add_batches(
            &epoch(&mut op, vec![floats("+1 -0.0 | +1 NaN | +1 0.0 | +1 NULL")], 1, i64::MIN).rows,
        );
        assert_eq!(output.0.keys().collect::<Vec<_>>(), ["0.0", "NULL", "NaN"]);
        output.add_batches(&epoch(&mut op, vec![floats("-2 0.0 | -1 NaN | -1 NULL")], 2, i64::MIN).rows);
        assert_eq!((output, op.state_rows()), (Relation::default(), 0));
    }

    #[test]
    fn state_of_closed_windows_is_let_go_and_the_result_stays() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            // Column a is the window end.
            let mut op = Distinct::new(schema(), Some(1)).unwrap();
            let (mut input, mut output) = (Relation::default(), Relation::default());
            let mut open: Vec<Row> = vec![];
            let mut watermark = 0;
            for now in 0..10 {
                let mut changes: Vec<(Row, i64)> = vec![];
                for _ in 0..rng.random_range(0..20) {
                    if !open.is_empty() && rng.random_bool(0.4) {
                        changes.push((open.swap_remove(rng.random_range(0..open.len())), -1));
                    } else {
                        let (p, a, b) = random_row(&mut rng);
                        let row = (p, a.map(|a| a + watermark + 1), b);
                        open.push(row.clone());
                        changes.push((row, 1));
                    }
                }
                for (row, weight) in &changes {
                    input.add(text(row), *weight);
                }
                watermark += rng.random_range(0..3);
                open.retain(|row| row.1.is_none_or(|end| end > watermark));
                let batches = cut(&mut rng, &changes);
                output.add_batches(&epoch(&mut op, batches, now, watermark).rows);
                let expected = input.0.keys().map(|r| (r.clone(), 1)).collect();
                assert_eq!(output.0, expected, "seed {seed}, epoch {now}");
                let mut rows: Vec<String> = open.iter().map(text).collect();
                rows.sort();
                rows.dedup();
                assert_eq!(op.state_rows(), rows.len(), "seed {seed}, epoch {now}");
            }
        }
    }
}
