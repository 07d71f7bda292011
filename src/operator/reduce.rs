//! GROUP BY: one row per key with its aggregates, kept up to date under insertions and retractions.
//!
//! Groups are slots of a [`KeyIndex`]; accumulators are columns indexed by slot, updated one aggregate after the
//! other over a whole batch. When a group is first touched in an epoch, what it showed is remembered; at the end of
//! the epoch the difference is emitted. A group without rows is not there and frees its slot.
//!
//! Errors are data here too: a group whose sum is out of range, or of which more was retracted than was there, is
//! not shown, and has an error row until it heals.
//!
//! Boundary: columns in, columns out; arguments are evaluated before.

mod aggregate;
mod big;
mod bits;
mod extreme;
pub(super) mod float;
pub mod groups;
mod json;
mod moments;
mod ordered;
mod state;
mod sum;
mod value_set;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Error, Result};
use crate::expr::aggregate::AggregateCall;
use crate::expr::eval_error::error_batch;
use crate::store::arrangement::KeyIndex;
use crate::store::arrangement::slab::Slab;
use crate::store::arrangement::words::{WordKind, words_of};
use crate::time::Watermark;
use crate::zset::{TARGET_ROWS, ZBatch};

use super::{Operator, Output, Progress, TimeFacts};
use aggregate::{Aggregate, add_weights};
use state::{ABSENT, NEGATIVE, OVERFLOW, PRESENT};

/// Batches emitted before the operator lets others run.
const BATCHES_AT_ONCE: usize = 8;
/// From so many rows on, what groups showed and what they show now are emitted apart: the columns are there as they
/// are. Fewer rows are copied into one batch, because what comes after has costs per batch.
const APART_ROWS: usize = 1024;
/// The window end of a slot that is not in use.
const UNUSED: i64 = i64::MAX;
/// The window end of a group whose window end is NULL: it never closes.
const NEVER: i64 = i64::MAX - 1;

/// What a [`Reduce`] computes.
#[derive(Debug, Clone)]
pub struct ReduceSpec {
    /// Group columns of the input; they are the first output columns. None: exactly one row, always.
    pub keys: Vec<usize>,
    /// The aggregates; they follow the keys.
    pub aggregates: Vec<AggregateCall>,
    /// Which of `keys` is a window end (exclusive, timestamp in µs): once the watermark has reached it, the group is closed
    /// and its state dropped; later rows of closed windows are ignored.
    pub window_end: Option<usize>,
    /// Groups are shown only when they close, once.
    pub on_window_close: bool,
    /// The input never retracts.
    pub append_only: bool,
    /// Without keys: whether this instance emits the one row.
    pub global_owner: bool,
}

/// When which groups close.
#[derive(Debug)]
struct Calendar {
    /// Which key column is the window end.
    key: usize,
    /// Window end of each slot.
    ends: Slab<i64>,
    /// Slots by window end. A slot may be listed though its group is gone: `ends` decides.
    due: BTreeMap<i64, Vec<u32>>,
    /// Windows that end here or before are closed.
    closed: i64,
}

/// Groups touched in this epoch and what they showed before.
#[derive(Debug, Default)]
struct Captured {
    slots: Vec<u32>,
    /// `None`: the groups were not there.
    old: Option<(Vec<u16>, Vec<ArrayRef>)>,
}

#[derive(Debug)]
enum Work {
    Changed(Captured),
    Close(i64, Vec<u32>),
}

/// The operator. See the module documentation.
#[derive(Debug)]
pub struct Reduce {
    spec: ReduceSpec,
    output_schema: SchemaRef,
    key_schema: SchemaRef,
    index: KeyIndex,
    /// Sum of the weights of each group's rows.
    rows: Slab<i64>,
    touched: Slab<bool>,
    aggregates: Vec<Aggregate>,
    calendar: Option<Calendar>,
    captured: Vec<Captured>,
    work: VecDeque<Work>,
    late: u64,
}

impl Reduce {
    /// A Reduce over rows of `input_schema` that emits rows of `output_schema` (keys, then aggregates).
    pub fn new(input_schema: SchemaRef, output_schema: SchemaRef, spec: ReduceSpec) -> Result<Reduce> {
        if output_schema.fields().len() != spec.keys.len() + spec.aggregates.len()
            || spec.keys.iter().any(|k| *k >= input_schema.fields().len())
            || spec.on_window_close && spec.window_end.is_none()
        {
            return Err(Error::internal("a Reduce whose columns do not fit its schemas"));
        }
        let types: Vec<DataType> =
            spec.keys.iter().map(|k| input_schema.field(*k).data_type().clone()).collect();
        let calendar = match spec.window_end {
            None => None,
            Some(key) if types.get(key).and_then(WordKind::of) == Some(WordKind::B8) => {
                Some(Calendar { key, ends: Slab::new(), due: BTreeMap::new(), closed: i64::MIN })
            }
            Some(_) => return Err(Error::internal("a window end that is not a timestamp among the keys")),
        };
        let aggregates = spec
            .aggregates
            .iter()
            .map(|call| Aggregate::new(call.clone(), &input_schema, spec.append_only, calendar.is_some()))
            .collect::<Result<Vec<_>>>()?;
        let key_schema = Arc::new(output_schema.project(&(0..spec.keys.len()).collect::<Vec<_>>())?);
        let mut reduce = Reduce {
            key_schema,
            output_schema,
            index: KeyIndex::new(types)?,
            rows: Slab::new(),
            touched: Slab::new(),
            aggregates,
            calendar,
            captured: Vec::new(),
            work: VecDeque::new(),
            late: 0,
            spec,
        };
        if reduce.is_global() {
            reduce.grow(1);
            // Shown at the first closing, whether there is input or not.
            *reduce.touched.get_mut(0) = true;
            reduce.captured.push(Captured { slots: vec![0], old: None });
        }
        Ok(reduce)
    }

    /// Rows that came after their window was closed.
    pub fn late_rows(&self) -> u64 {
        self.late
    }

    fn is_global(&self) -> bool {
        self.spec.keys.is_empty()
    }

    fn grow(&mut self, len: usize) {
        self.rows.grow(len, 0);
        if !self.spec.on_window_close {
            self.touched.grow(len, false);
        }
        self.aggregates.iter_mut().for_each(|a| a.grow(len));
        if let Some(calendar) = &mut self.calendar {
            calendar.ends.grow(len, UNUSED);
        }
    }

    fn absorb_piece(&mut self, batch: &ZBatch) -> Result<()> {
        let kept;
        let batch = match self.without_late(batch)? {
            Some(rest) => {
                kept = rest;
                &kept
            }
            None => batch,
        };
        if batch.is_empty() {
            return Ok(());
        }
        let key_columns: Vec<ArrayRef> =
            self.spec.keys.iter().map(|k| Arc::clone(batch.column(*k))).collect();
        let keys = self.index.prepare(&key_columns, batch.num_rows())?;
        let mut slots = Vec::new();
        self.index.find_or_insert(&keys, &mut slots)?;
        self.grow(self.index.slot_bound());
        if let Some(calendar) = &mut self.calendar {
            calendar.register(&key_columns, &slots);
        }
        if !self.spec.on_window_close {
            self.capture(&slots)?;
        }
        let weights = batch.weights().map(|w| w.values().as_ref());
        for aggregate in &mut self.aggregates {
            aggregate.update(&slots, weights, batch.columns(), &self.rows)?;
        }
        add_weights(&mut self.rows, &slots, weights);
        Ok(())
    }

    /// The batch without the rows of closed windows, if there are such rows.
    fn without_late(&mut self, batch: &ZBatch) -> Result<Option<ZBatch>> {
        let Some(calendar) = self.calendar.as_ref().filter(|c| c.closed > i64::MIN) else { return Ok(None) };
        let column = batch.column(self.spec.keys[calendar.key]);
        let ends = words_of(column, WordKind::B8);
        let late = |i: usize| ends[i] as i64 <= calendar.closed && column.is_valid(i);
        if !(0..ends.len()).any(late) {
            return Ok(None);
        }
        let mask: BooleanArray = (0..ends.len()).map(|i| Some(!late(i))).collect();
        let rest = batch.filter(&mask)?;
        self.late += (batch.num_rows() - rest.num_rows()) as u64;
        Ok(Some(rest))
    }

    /// Remembers what the groups show that this batch is the first of the epoch to touch.
    fn capture(&mut self, slots: &[u32]) -> Result<()> {
        let (mut fresh, mut known) = (vec![], vec![]);
        for slot in slots {
            let touched = self.touched.get_mut(*slot);
            if !*touched {
                *touched = true;
                if *self.rows.get(*slot) == 0 { fresh.push(*slot) } else { known.push(*slot) }
            }
        }
        // Without rows, a group is usually new. One with an error, or the only row of a global one, is not.
        if !fresh.is_empty() {
            let status = self.status(&fresh);
            if status.iter().all(|s| *s == ABSENT) {
                self.captured.push(Captured { slots: fresh, old: None });
            } else {
                known.append(&mut fresh);
            }
        }
        if !known.is_empty() {
            let old = Some((self.status(&known), self.results(&known)?));
            self.captured.push(Captured { slots: known, old });
        }
        Ok(())
    }

    fn status(&self, slots: &[u32]) -> Vec<u16> {
        let global = self.is_global();
        let mut status: Vec<u16> = slots
            .iter()
            .map(|s| match *self.rows.get(*s) {
                0 if !self.aggregates.iter().all(|a| a.is_zero(*s)) => NEGATIVE,
                0 if !global => ABSENT,
                c if c < 0 => NEGATIVE,
                _ => PRESENT,
            })
            .collect();
        for (i, aggregate) in self.aggregates.iter().enumerate() {
            aggregate.check(slots, &self.rows, OVERFLOW + i as u16, &mut status);
        }
        status
    }

    fn results(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.aggregates.iter().map(|a| a.output(slots, &self.rows)).collect()
    }

    /// Turns what was captured into work, in pieces of good size.
    fn queue_changes(&mut self) -> Result<()> {
        let mut known: Vec<Captured> = vec![];
        let mut fresh: Vec<u32> = vec![];
        for captured in std::mem::take(&mut self.captured) {
            captured.slots.iter().for_each(|s| *self.touched.get_mut(*s) = false);
            if captured.old.is_none() {
                if fresh.len() + captured.slots.len() > TARGET_ROWS && !fresh.is_empty() {
                    let slots = std::mem::take(&mut fresh);
                    self.work.push_back(Work::Changed(Captured { slots, old: None }));
                }
                fresh.extend(captured.slots);
            } else {
                let rows: usize = known.iter().map(|c| c.slots.len()).sum();
                if rows + captured.slots.len() > TARGET_ROWS && !known.is_empty() {
                    self.work.push_back(Work::Changed(merge(std::mem::take(&mut known))?));
                }
                known.push(captured);
            }
        }
        if !known.is_empty() {
            self.work.push_back(Work::Changed(merge(known)?));
        }
        if !fresh.is_empty() {
            self.work.push_back(Work::Changed(Captured { slots: fresh, old: None }));
        }
        Ok(())
    }

    fn queue_closed_windows(&mut self, watermark: Watermark) {
        let Some(calendar) = &mut self.calendar else { return };
        if watermark.0 <= calendar.closed {
            return;
        }
        calendar.closed = watermark.0;
        let later = match watermark.0.checked_add(1) {
            Some(next) => calendar.due.split_off(&next),
            None => BTreeMap::new(),
        };
        for (end, slots) in std::mem::replace(&mut calendar.due, later) {
            self.work.extend(slots.chunks(TARGET_ROWS).map(|c| Work::Close(end, c.to_vec())));
        }
    }

    fn run(&mut self, out: &mut Output) -> Result<Progress> {
        for _ in 0..BATCHES_AT_ONCE {
            match self.work.pop_front() {
                None => return Ok(Progress::Done),
                Some(Work::Changed(captured)) => self.emit_changes(captured, out)?,
                Some(Work::Close(end, slots)) => self.close_groups(end, slots, out)?,
            }
        }
        Ok(if self.work.is_empty() { Progress::Done } else { Progress::More })
    }

    /// Emits the difference between what groups showed and what they show now; frees groups that are gone.
    fn emit_changes(&mut self, captured: Captured, out: &mut Output) -> Result<()> {
        let Captured { slots, old } = captured;
        let status = self.status(&slots);
        let columns = self.results(&slots)?;
        let (old_status, old_columns) = old.unwrap_or_else(|| (vec![ABSENT; slots.len()], vec![]));
        let differs = differences(&old_columns, &columns)?;
        let (mut delete, mut insert) = (vec![], vec![]);
        let mut errors = vec![];
        for i in 0..slots.len() {
            let (was, is) = (old_status[i], status[i]);
            let same = was == is && (is != PRESENT || !differs.as_ref().is_some_and(|d| d.value(i)));
            if same {
                continue;
            }
            match was {
                ABSENT => {}
                PRESENT => delete.push(i as u32),
                error => errors.push((slots[i], error, -1)),
            }
            match is {
                ABSENT => {}
                PRESENT => insert.push(i as u32),
                error => errors.push((slots[i], error, 1)),
            }
        }
        if !self.is_global() || self.spec.global_owner {
            self.emit_rows(&slots, &old_columns, &columns, &delete, &insert, out)?;
            self.emit_errors(&errors, out)?;
        }
        if !self.is_global() {
            let gone: Vec<u32> =
                slots.iter().zip(&status).filter(|(_, s)| **s == ABSENT).map(|(slot, _)| *slot).collect();
            self.forget(&gone)?;
        }
        Ok(())
    }

    fn emit_rows(
        &self,
        slots: &[u32],
        old: &[ArrayRef],
        new: &[ArrayRef],
        delete: &[u32],
        insert: &[u32],
        out: &mut Output,
    ) -> Result<()> {
        let len = delete.len() + insert.len();
        if len == 0 {
            return Ok(());
        }
        if len >= APART_ROWS && !delete.is_empty() && !insert.is_empty() {
            let keys = if delete == insert { Some(self.keys_of(slots, delete)?) } else { None };
            self.emit_part(slots, keys.clone(), old, delete, -1, out)?;
            return self.emit_part(slots, keys, new, insert, 1, out);
        }
        if delete.is_empty() {
            return self.emit_part(slots, None, new, insert, 1, out);
        }
        let both: Vec<u32> = delete.iter().chain(insert).map(|i| slots[*i as usize]).collect();
        let mut columns = self.index.gather(&both)?;
        let deleted = delete.iter().map(|i| (0, *i as usize));
        let picks: Vec<(usize, usize)> = deleted.chain(insert.iter().map(|i| (1, *i as usize))).collect();
        for (old, new) in old.iter().zip(new) {
            columns.push(interleave(&[old.as_ref(), new.as_ref()], &picks)?);
        }
        let weights = (0..len).map(|i| if i < delete.len() { -1 } else { 1 }).collect::<Int64Array>();
        self.push_rows(columns, len, Some(weights), out)
    }

    /// The keys of some of these groups (ascending, each once).
    fn keys_of(&self, slots: &[u32], picks: &[u32]) -> Result<Vec<ArrayRef>> {
        if picks.len() == slots.len() {
            return self.index.gather(slots);
        }
        self.index.gather(&picks.iter().map(|i| slots[*i as usize]).collect::<Vec<u32>>())
    }

    /// Emits results of some of these groups, all with the same weight; if it is all of them, nothing is copied.
    fn emit_part(
        &self,
        slots: &[u32],
        keys: Option<Vec<ArrayRef>>,
        results: &[ArrayRef],
        picks: &[u32],
        weight: i64,
        out: &mut Output,
    ) -> Result<()> {
        let mut columns = match keys {
            Some(keys) => keys,
            None => self.keys_of(slots, picks)?,
        };
        if picks.len() == slots.len() {
            columns.extend(results.iter().cloned());
        } else {
            let picks = UInt32Array::from(picks.to_vec());
            for column in results {
                columns.push(take(column, &picks, None)?);
            }
        }
        let weights = (weight != 1).then(|| Int64Array::from_value(weight, picks.len()));
        self.push_rows(columns, picks.len(), weights, out)
    }

    fn push_rows(
        &self,
        columns: Vec<ArrayRef>,
        len: usize,
        weights: Option<Int64Array>,
        out: &mut Output,
    ) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.output_schema), columns, &options)?;
        out.push(ZBatch::try_new(rows, weights)?);
        Ok(())
    }

    /// Emits changes of errors: (group, status, weight).
    fn emit_errors(&self, errors: &[(u32, u16, i64)], out: &mut Output) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        let slots: Vec<u32> = errors.iter().map(|e| e.0).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let keys = RecordBatch::try_new_with_options(
            Arc::clone(&self.key_schema),
            self.index.gather(&slots)?,
            &options,
        )?;
        let rows = ZBatch::try_new(keys, Some(errors.iter().map(|e| e.2).collect::<Int64Array>()))?;
        let described: Vec<(u32, Error)> = errors
            .iter()
            .enumerate()
            .map(|(i, (_, status, _))| {
                let error = match self.aggregates.get(status.wrapping_sub(OVERFLOW) as usize) {
                    Some(aggregate) if *status != NEGATIVE => aggregate.overflow(),
                    _ => Error::internal("more rows of this group were deleted than inserted"),
                };
                (i as u32, error)
            })
            .collect();
        out.push_errors(error_batch(&rows, &described, self.name())?);
        Ok(())
    }

    /// Closes windows: shows their groups if that was still to be done, and drops their state.
    fn close_groups(&mut self, end: i64, mut slots: Vec<u32>, out: &mut Output) -> Result<()> {
        let calendar =
            self.calendar.as_mut().ok_or_else(|| Error::internal("windows close without a calendar"))?;
        slots.retain(|s| std::mem::replace(calendar.ends.get_mut(*s), UNUSED) == end);
        if slots.is_empty() {
            return Ok(());
        }
        if self.spec.on_window_close {
            let status = self.status(&slots);
            let columns = self.results(&slots)?;
            let insert: Vec<u32> =
                (0..slots.len() as u32).filter(|i| status[*i as usize] == PRESENT).collect();
            let errors: Vec<(u32, u16, i64)> = slots
                .iter()
                .zip(&status)
                .filter(|(_, s)| ![ABSENT, PRESENT].contains(s))
                .map(|(slot, s)| (*slot, *s, 1))
                .collect();
            self.emit_rows(&slots, &[], &columns, &[], &insert, out)?;
            self.emit_errors(&errors, out)?;
        }
        self.forget(&slots)
    }

    fn forget(&mut self, slots: &[u32]) -> Result<()> {
        for slot in slots {
            *self.rows.get_mut(*slot) = 0;
            for aggregate in &mut self.aggregates {
                aggregate.clear(*slot)?;
            }
            if let Some(calendar) = &mut self.calendar {
                *calendar.ends.get_mut(*slot) = UNUSED;
            }
        }
        self.index.remove(slots)
    }
}

impl Calendar {
    /// Enters new groups.
    fn register(&mut self, key_columns: &[ArrayRef], slots: &[u32]) {
        let column = &key_columns[self.key];
        let ends = words_of(column, WordKind::B8);
        for (i, slot) in slots.iter().enumerate() {
            let end = self.ends.get_mut(*slot);
            if *end == UNUSED {
                *end = if column.is_null(i) { NEVER } else { (ends[i] as i64).min(NEVER) };
                if *end != NEVER {
                    self.due.entry(*end).or_default().push(*slot);
                }
            }
        }
    }
}

/// Where any of the columns differ (NULL equals NULL, NaN equals NaN); `None`: there are no columns.
fn differences(old: &[ArrayRef], new: &[ArrayRef]) -> Result<Option<BooleanArray>> {
    let mut all: Option<BooleanArray> = None;
    for (old, new) in old.iter().zip(new) {
        let here = distinct(old, new)?;
        all = Some(match all {
            None => here,
            Some(before) => BooleanArray::new(before.values() | here.values(), None),
        });
    }
    Ok(all)
}

/// Several captures in one.
fn merge(mut parts: Vec<Captured>) -> Result<Captured> {
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let (mut slots, mut status, mut columns) = (vec![], vec![], vec![]);
    for part in parts {
        slots.extend(part.slots);
        if let Some((s, c)) = part.old {
            status.extend(s);
            columns.push(c);
        }
    }
    let width = columns.first().map_or(0, Vec::len);
    let merged = (0..width)
        .map(|i| {
            let parts: Vec<&dyn Array> = columns.iter().map(|c| c[i].as_ref()).collect();
            Ok(concat(&parts)?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Captured { slots, old: Some((status, merged)) })
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn absorb(&mut self, _: usize, changes: ZBatch, _: &mut Output) -> Result<Progress> {
        for start in (0..changes.num_rows()).step_by(TARGET_ROWS) {
            let len = TARGET_ROWS.min(changes.num_rows() - start);
            if len == changes.num_rows() {
                self.absorb_piece(&changes)?;
            } else {
                self.absorb_piece(&changes.slice(start, len))?;
            }
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress> {
        self.queue_changes()?;
        if let Some(watermark) = time.watermarks.first() {
            self.queue_closed_windows(*watermark);
        }
        self.run(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.run(out)
    }

    fn waits_for_watermark(&self) -> bool {
        self.calendar.as_ref().is_some_and(|c| !c.due.is_empty())
    }

    fn state_bytes(&self) -> usize {
        let calendar = self
            .calendar
            .as_ref()
            .map_or(0, |c| c.ends.bytes() + c.due.values().map(|v| v.capacity() * 4 + 64).sum::<usize>());
        size_of::<Self>()
            + self.index.bytes()
            + self.rows.bytes()
            + self.touched.bytes()
            + self.aggregates.iter().map(|a| size_of::<Aggregate>() + a.bytes()).sum::<usize>()
            + calendar
    }

    fn state_rows(&self) -> usize {
        if self.is_global() { 1 } else { self.index.len() }
    }
}

#[cfg(test)]
mod tests;
