//! Temporal filters: rows are in while `from <= now() < until`.
//!
//! The operator is linear: what comes is kept with its weight until its time, given out when the time has come, and
//! taken back when it is over. Rows that are over for good are forgotten, and rows that are in for ever pass through
//! without being kept. Rows wait in a calendar, so nothing is done at times at which nothing happens.
//!
//! Boundary: `now()` comes with the epoch and never goes back. A row with a NULL bound is never in.

use std::collections::BTreeSet;

use arrow::array::{Array, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::expr::eval_error;
use crate::expr::scalar::{ScalarExpr, evaluate_all};
use crate::operator::rows::{EpochBatches, Origin, RowCodec, RowIndex, micros};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::store::arrangement::slab::Slab;
use crate::time::EventTime;
use crate::zset::builder::compact_weights;
use crate::zset::{TARGET_ROWS, ZBatch};

/// No such moment.
const NEVER: i64 = i64::MAX;

/// A row that is kept.
#[derive(Debug, Clone, Copy)]
struct Slot {
    from: i64,
    until: i64,
    /// How often the input has the row.
    count: i64,
    /// How often the output has it.
    shown: i64,
    /// When it is next looked at, as entered in the calendar.
    scheduled: i64,
    touched: bool,
}

/// The temporal filter operator.
#[derive(Debug)]
pub struct Temporal {
    from: Option<ScalarExpr>,
    until: Option<ScalarExpr>,
    codec: RowCodec,
    index: RowIndex,
    slots: Slab<Slot>,
    /// Slots with a change in this epoch, with a row of it.
    touched: Vec<(u32, Origin)>,
    batches: EpochBatches,
    calendar: BTreeSet<(i64, u32)>,
    /// `now()` of the last closed epoch.
    now: i64,
}

impl Temporal {
    /// Rows of an input with this schema while `from <= now() < until`; a bound that is absent always holds.
    pub fn new(schema: SchemaRef, from: Option<ScalarExpr>, until: Option<ScalarExpr>) -> Result<Temporal> {
        Ok(Temporal {
            from,
            until,
            codec: RowCodec::new(&schema)?,
            index: RowIndex::new(),
            slots: Slab::new(),
            touched: vec![],
            batches: EpochBatches::default(),
            calendar: BTreeSet::new(),
            now: i64::MIN,
        })
    }

    /// The rows whose bounds can be computed, with their bounds; the others go to the errors.
    fn bounds(
        &self,
        changes: ZBatch,
        out: &mut Output,
    ) -> Result<(ZBatch, Option<Int64Array>, Option<Int64Array>)> {
        let exprs: Vec<&ScalarExpr> = self.from.iter().chain(&self.until).collect();
        let evaluation = evaluate_all(&exprs, changes.rows())?;
        out.push_errors(eval_error::error_batch(&changes, &evaluation.errors, self.name())?);
        let changes = match &evaluation.kept {
            None => changes,
            Some(kept) => changes.take(kept)?,
        };
        let mut columns = evaluation.columns.iter().map(micros);
        let from = if self.from.is_some() { columns.next().transpose()? } else { None };
        let until = if self.until.is_some() { columns.next().transpose()? } else { None };
        Ok((changes, from, until))
    }

    fn keep(&mut self, row: usize, origin: Origin, from: i64, until: i64, weight: i64) {
        let (slot, new) = self.index.find_or_insert(self.codec.row(row));
        let fresh = Slot { from, until, count: 0, shown: 0, scheduled: NEVER, touched: false };
        if slot as usize >= self.slots.len() {
            self.slots.push(fresh);
        } else if new {
            self.slots[slot as usize] = fresh;
        }
        let kept = &mut self.slots[slot as usize];
        kept.count += weight;
        if !kept.touched {
            kept.touched = true;
            self.touched.push((slot, origin));
        }
    }

    /// Brings a row up to `now`: what the output changes by, and whether the row need not be kept any longer.
    fn settle(&mut self, slot: u32) -> (i64, bool) {
        let now = self.now;
        let kept = &mut self.slots[slot as usize];
        kept.touched = false;
        let shown = if kept.from <= now && now < kept.until { kept.count } else { 0 };
        let change = shown - kept.shown;
        kept.shown = shown;
        let next = if kept.from > now { kept.from } else { kept.until };
        // Over, in for ever, or gone from the input.
        let done = kept.count == 0 || kept.until <= now || next == NEVER;
        let next = if done { NEVER } else { next };
        if kept.scheduled != next {
            if kept.scheduled != NEVER {
                self.calendar.remove(&(kept.scheduled, slot));
            }
            if next != NEVER {
                self.calendar.insert((next, slot));
            }
            kept.scheduled = next;
        }
        (change, done)
    }
}

impl Operator for Temporal {
    fn name(&self) -> &'static str {
        "temporal"
    }

    fn absorb(&mut self, _port: usize, changes: ZBatch, out: &mut Output) -> Result<Progress> {
        if changes.is_empty() {
            return Ok(Progress::Done);
        }
        let (changes, from, until) = self.bounds(changes, out)?;
        let mut through = vec![];
        let mut waiting = vec![];
        for row in 0..changes.num_rows() {
            // NULL bounds become an interval that is empty.
            let starts =
                from.as_ref().map_or(i64::MIN, |f| if f.is_valid(row) { f.value(row) } else { NEVER });
            let ends =
                until.as_ref().map_or(NEVER, |u| if u.is_valid(row) { u.value(row) } else { i64::MIN });
            if ends <= self.now || starts >= ends {
                continue;
            }
            if ends == NEVER && starts <= self.now {
                through.push(row as u32);
            } else {
                waiting.push((row as u32, starts, ends));
            }
        }
        if through.len() == changes.num_rows() {
            out.push(changes);
            return Ok(Progress::Done);
        }
        if !through.is_empty() {
            out.push(changes.take(&UInt32Array::from(through))?);
        }
        if waiting.is_empty() {
            return Ok(Progress::Done);
        }
        if waiting.len() == changes.num_rows() {
            self.codec.encode(changes.columns())?;
        } else {
            let chosen = UInt32Array::from_iter_values(waiting.iter().map(|(row, ..)| *row));
            self.codec.encode(compute::take_record_batch(changes.rows(), &chosen)?.columns())?;
        }
        let origin = self.batches.keep(&self.codec, changes.rows());
        for (i, &(row, starts, ends)) in waiting.iter().enumerate() {
            let row = row as usize;
            self.keep(i, origin.at(row), starts, ends, changes.weight(row));
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress> {
        self.now = self.now.max(time.now.0);
        let mut due = std::mem::take(&mut self.touched);
        while let Some(&(at, slot)) = self.calendar.first() {
            if at > self.now {
                break;
            }
            self.calendar.pop_first();
            self.slots[slot as usize].scheduled = NEVER;
            if !self.slots[slot as usize].touched {
                due.push((slot, Origin::NONE));
            }
        }
        let mut changes = vec![];
        let mut done = vec![];
        for (slot, origin) in due {
            let (change, over) = self.settle(slot);
            if change != 0 {
                changes.push((slot, change, origin));
            }
            if over {
                done.push(slot);
            }
        }
        for piece in changes.chunks(TARGET_ROWS) {
            let rows = self
                .batches
                .gather(&self.codec, piece.iter().map(|(slot, _, o)| (*o, self.index.key(*slot))))?;
            out.push(ZBatch::try_new(rows, compact_weights(piece.iter().map(|(_, w, _)| *w).collect()))?);
        }
        self.batches.clear();
        for slot in done {
            self.index.remove(slot);
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<EventTime> {
        self.calendar.first().map(|(at, _)| EventTime(*at))
    }

    fn state_bytes(&self) -> usize {
        self.index.memory_bytes() + self.slots.bytes() + self.calendar.len() * 24
    }

    fn state_rows(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::{Expr, col, lit};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::operator::testing::{Relation, Row, cut, epoch, schema, text};
    use crate::zset::pretty;

    fn bound(expr: Expr) -> Option<ScalarExpr> {
        Some(ScalarExpr::compile(&expr, &DFSchema::try_from(schema()).unwrap()).unwrap())
    }

    fn random_row(rng: &mut StdRng) -> Row {
        let mut number = || rng.random_bool(0.9).then(|| rng.random_range(0..40));
        (number(), number(), None)
    }

    /// Rows at `now` by definition: p is the lower bound, a the upper one.
    fn expected(input: &Relation, now: i64, has_from: bool, has_until: bool) -> Relation {
        let mut result = Relation::default();
        for (row, weight) in &input.0 {
            let mut words = row.split(' ').map(|w| w.parse::<i64>().ok());
            let (p, a) = (words.next().flatten(), words.next().flatten());
            if (!has_from || p.is_some_and(|p| p <= now)) && (!has_until || a.is_some_and(|a| now < a)) {
                result.add(row.clone(), *weight);
            }
        }
        result
    }

    #[test]
    fn at_every_epoch_the_output_is_what_the_bounds_say() {
        for seed in 0..600 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (has_from, has_until) = (seed % 3 != 0, seed % 3 != 1);
            let from = if has_from { bound(col("p")) } else { None };
            let until = if has_until { bound(col("a")) } else { None };
            let mut op = Temporal::new(schema(), from, until).unwrap();
            let (mut input, mut output) = (Relation::default(), Relation::default());
            let mut rows: Vec<Row> = vec![];
            let mut now = 0;
            while now < 45 {
                // Sometimes exactly when the operator asks for it, as an idle server does.
                now = match op.next_timer() {
                    Some(at) if rng.random_bool(0.3) => at.0,
                    _ => now + rng.random_range(1..8),
                };
                let mut changes: Vec<(Row, i64)> = vec![];
                for _ in 0..rng.random_range(0..12) {
                    if !rows.is_empty() && rng.random_bool(0.5) {
                        let row = rows[rng.random_range(0..rows.len())].clone();
                        changes.push((row, rng.random_range(-2..2)));
                    } else {
                        let row = random_row(&mut rng);
                        rows.push(row.clone());
                        changes.push((row, 1));
                    }
                }
                for (row, weight) in &changes {
                    input.add(text(row), *weight);
                }
                let batches = cut(&mut rng, &changes);
                output.add_batches(&epoch(&mut op, batches, now, i64::MIN).rows);
                assert_eq!(output, expected(&input, now, has_from, has_until), "seed {seed}, now {now}");
                assert!(op.next_timer().is_none_or(|at| at.0 > now), "seed {seed}");
            }
            assert_eq!((op.state_rows(), op.calendar.len()), (0, 0), "everything is over, seed {seed}");
        }
    }

    #[test]
    fn rows_that_are_in_for_ever_are_not_kept() {
        let mut op = Temporal::new(schema(), bound(col("p")), None).unwrap();
        epoch(&mut op, vec![], 10, i64::MIN);
        let change = pretty::parse(&schema(), "+1 5 NULL x | +2 10 NULL y | -1 12 NULL z");
        let out = epoch(&mut op, vec![change], 11, i64::MIN);
        assert_eq!(pretty::format(&out.rows[0]), "+1 5 NULL x | +2 10 NULL y");
        assert_eq!((op.state_rows(), op.next_timer()), (1, Some(EventTime(12))));
    }

    #[test]
    fn a_bound_that_fails_is_an_error_of_its_row() {
        let mut op = Temporal::new(schema(), bound(lit(100i64) / col("p")), None).unwrap();
        let change = pretty::parse(&schema(), "+1 0 1 x | +1 50 1 y");
        let out = epoch(&mut op, vec![change.clone()], 11, i64::MIN);
        assert_eq!(pretty::format(&out.rows[0]), "+1 50 1 y");
        assert_eq!(out.errors[0].num_rows(), 1);
        let back = epoch(&mut op, vec![change.negate()], 12, i64::MIN);
        assert_eq!(pretty::format(&out.errors[0].negate()), pretty::format(&back.errors[0]));
    }
}
