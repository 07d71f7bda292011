//! Window functions: every row with the results of its calls, kept up to date under insertions and retractions.
//!
//! A partition is an ordered sequence of rows with counts ([`sequence`]). At the end of an epoch the sequences before
//! and after it are both there (they share what has not changed): [`sight`] says which rows a change can reach, and
//! only those are evaluated (`evaluate`) in both and compared. With a limit only the first rows of each partition
//! are shown, and only they are evaluated.
//!
//! Rows are ordered by ORDER BY, then by the columns that break ties, then by all others, so that equal rows are
//! interchangeable and the result is a function of the input.
//!
//! Boundary: arguments are columns of the input; one order for all calls of an operator. A result that cannot be
//! computed (out of range) becomes an error row until it can.

mod adhoc;
mod evaluate;
mod frame;
mod generic;
mod range;
mod sequence;
mod sight;
mod summary;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::Rows;

pub use adhoc::evaluate_partition;
use evaluate::{Around, evaluate};
use frame::Section;
use sequence::Sequence;
use sight::{Cut, KnownScan, Sights};
use summary::{Summarizer, Summed};

use crate::error::{Error, Result};
use crate::expr::eval_error;
use crate::expr::window::{LimitBy, OverLimit, WindowCall};
use crate::operator::rows::{RowCodec, RowIndex, micros};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::zset::ZBatch;
use crate::zset::builder::{ZBatchBuilder, compact_weights};
use crate::zset::key::RowEncoder;

/// Rows that are evaluated at once.
const BLOCK: usize = 64 * 1024;
/// Changes of a partition in an epoch from which it is evaluated as a whole, if they are also many of its rows.
const MANY: usize = 256;

/// What an [`Over`] computes.
#[derive(Debug, Clone)]
pub struct OverSpec {
    /// Partition columns; none: one partition.
    pub partition: Vec<usize>,
    /// Order inside a partition.
    pub order: Vec<(usize, SortOptions)>,
    /// Columns that break ties, ascending; the other columns follow them.
    pub ties: Vec<usize>,
    /// The calls; their results follow the input's columns.
    pub calls: Vec<WindowCall>,
    /// The rows shown; `None`: all.
    pub limit: Option<OverLimit>,
    /// Column (a time) that lets a partition's state go once the watermark has reached it.
    pub closes: Option<usize>,
}

#[derive(Debug, Default)]
struct Partition {
    rows: Sequence,
    /// The rows before the epoch, if there was a change.
    before: Option<Sequence>,
    /// The rows changed in this epoch, with the length of their ORDER BY.
    changed: Vec<(Box<[u8]>, usize)>,
    /// So many rows changed that they are not told apart.
    many: bool,
    /// Rows taken back more often than given.
    missing: BTreeMap<Box<[u8]>, i64>,
    /// Those of them that have been reported.
    reported: BTreeSet<Box<[u8]>>,
}

#[derive(Debug)]
struct Calendar {
    column: usize,
    partitions: BTreeMap<i64, Vec<u32>>,
    /// By slot: when it closes.
    ends: Vec<i64>,
    watermark: i64,
}

/// The operator. See the module documentation.
#[derive(Debug)]
pub struct Over {
    spec: OverSpec,
    output_schema: SchemaRef,
    partition_codec: RowCodec,
    order_codec: RowCodec,
    /// Encodes batches; `shared` decodes.
    row_codec: RowCodec,
    shared: Arc<RowCodec>,
    summarizer: Summarizer,
    sights: Sights,
    results: RowEncoder,
    index: RowIndex,
    /// By slot of the index.
    partitions: Vec<Partition>,
    touched: Vec<u32>,
    calendar: Option<Calendar>,
    row_count: usize,
    row_bytes: usize,
}

/// Evaluated rows of one version of a partition.
struct Part<'a> {
    bytes: Vec<&'a [u8]>,
    /// Input columns and results.
    rows: RecordBatch,
    results: Rows,
    errors: BTreeMap<u32, Error>,
}

impl Part<'_> {
    /// What is compared between versions, of a row whose bytes are the same.
    fn outcome(&self, i: usize) -> (Option<&str>, &[u8]) {
        match self.errors.get(&(i as u32)) {
            Some(e) => (Some(e.message()), &[]),
            None => (None, self.results.row(i).data()),
        }
    }
}

/// The changes to emit.
struct Changes {
    rows: ZBatchBuilder,
    errors: Vec<(RecordBatch, usize, i64, Error)>,
}

impl Over {
    /// Window calls over rows of `input_schema`; the output has the input's columns, then the results.
    pub fn new(input_schema: SchemaRef, output_schema: SchemaRef, spec: OverSpec) -> Result<Over> {
        let ascending = SortOptions::default();
        let width = input_schema.fields().len();
        if output_schema.fields().len() != width + spec.calls.len() {
            return Err(Error::internal("window calls whose results do not fit the output"));
        }
        let mut columns: Vec<(usize, SortOptions)> = vec![];
        let ties = spec.ties.iter().chain(&spec.partition).copied().chain(0..width).map(|c| (c, ascending));
        for (column, options) in spec.order.iter().copied().chain(ties) {
            if !columns.iter().any(|(c, _)| *c == column) {
                columns.push((column, options));
            }
        }
        let order: Vec<(usize, SortOptions)> =
            columns.iter().copied().filter(|(c, _)| spec.order.iter().any(|(o, _)| o == c)).collect();
        let summed = || -> Result<Vec<(WindowCall, Summed)>> {
            let of = |c: &WindowCall| {
                let argument = c.args.first().map(|a| input_schema.field(*a).data_type());
                Ok((c.clone(), Summed::of(c, argument)?))
            };
            spec.calls.iter().map(of).collect()
        };
        let shared = Arc::new(RowCodec::with_columns(&input_schema, columns.clone())?);
        let types: Vec<DataType> =
            output_schema.fields()[width..].iter().map(|f| f.data_type().clone()).collect();
        let results = if types.is_empty() { vec![DataType::Boolean] } else { types };
        Ok(Over {
            partition_codec: RowCodec::with_columns(
                &input_schema,
                spec.partition.iter().map(|c| (*c, ascending)).collect(),
            )?,
            order_codec: RowCodec::with_columns(&input_schema, order.clone())?,
            row_codec: RowCodec::with_columns(&input_schema, columns)?,
            sights: Sights::new(&summed()?, &input_schema, &order)?,
            summarizer: Summarizer::new(Arc::clone(&shared), summed()?),
            shared,
            results: RowEncoder::new(results)?,
            output_schema,
            index: RowIndex::new(),
            partitions: vec![],
            touched: vec![],
            calendar: spec.closes.map(|column| Calendar {
                column,
                partitions: BTreeMap::new(),
                ends: vec![],
                watermark: i64::MIN,
            }),
            spec: OverSpec { order, ..spec },
            row_count: 0,
            row_bytes: 0,
        })
    }

    fn slot(&mut self, row: usize, end: Option<i64>) -> u32 {
        let (slot, new) = self.index.find_or_insert(self.partition_codec.row(row));
        if slot as usize >= self.partitions.len() {
            self.partitions.push(Partition::default());
        }
        if new && let (Some(calendar), Some(end)) = (&mut self.calendar, end) {
            calendar.ends.resize(self.partitions.len(), i64::MAX);
            calendar.ends[slot as usize] = end;
            calendar.partitions.entry(end).or_default().push(slot);
        }
        slot
    }

    fn change(&mut self, slot: u32, row: usize, weight: i64) {
        let partition = &mut self.partitions[slot as usize];
        if partition.before.is_none() {
            partition.before = Some(partition.rows.clone());
            self.touched.push(slot);
        }
        let bytes = self.row_codec.row(row);
        let order = self.order_codec.row(row).len();
        let owed = match partition.missing.is_empty() {
            true => 0,
            false => partition.missing.remove(bytes).unwrap_or(0),
        };
        let missing = partition.rows.add(bytes, order, weight.saturating_add(owed));
        if missing < 0 {
            partition.missing.insert(bytes.into(), missing);
        }
        if self.spec.limit.is_some() || partition.many {
            return;
        }
        partition.changed.push((bytes.into(), order));
        if partition.changed.len() > MANY && partition.changed.len() > partition.rows.rows() / 8 {
            partition.many = true;
            partition.changed = vec![];
        }
    }

    /// The positions that are shown.
    fn shown(&self, rows: &Sequence) -> Range<usize> {
        let Some(limit) = self.spec.limit else { return 0..rows.len() };
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(rows.len());
        let last = size(limit.offset.saturating_add(limit.limit));
        let end = match limit.by {
            LimitBy::Rows => last,
            LimitBy::Groups => rows.group_start(last),
            LimitBy::Ties if limit.limit == 0 => 0,
            LimitBy::Ties => match last.checked_sub(1).and_then(|l| rows.at(l)) {
                Some(row) => rows.peers_end(row.peers()),
                None => 0,
            },
        };
        size(limit.offset).min(end)..end
    }

    /// Evaluates rows of one version.
    fn part<'a>(&self, rows: &'a Sequence, range: Range<usize>) -> Result<Part<'a>> {
        let known = KnownScan { codec: &self.shared };
        let hold = self.sights.hold(rows, range.clone(), &known)?;
        let body = hold.first..hold.end;
        let ends = [0..hold.head, body.clone(), rows.len() - hold.tail..rows.len()];
        let mut bytes: Vec<&[u8]> = Vec::with_capacity(hold.head + body.len() + hold.tail);
        let mut groups: Vec<usize> = vec![];
        let mut last: Option<&[u8]> = None;
        for (i, piece) in ends.into_iter().enumerate() {
            rows.visit(piece, |row| {
                if i == 1 && last != Some(row.peers()) {
                    last = Some(row.peers());
                    groups.push(bytes.len() - hold.head);
                }
                bytes.extend(std::iter::repeat_n(row.bytes, row.count));
            });
        }
        groups.push(body.len());
        let batch = self.shared.decode(bytes.iter().copied())?;
        let cut = rows
            .at(body.start)
            .is_some_and(|row| body.start > 0 && rows.peers_start(row.peers()) < body.start);
        let section = Section {
            total: rows.len(),
            first: body.start,
            head: hold.head,
            body: body.len(),
            tail: hold.tail,
            columns: batch.columns(),
            groups,
            first_group: rows.groups_before(body.start) - usize::from(cut),
            order: &self.spec.order,
        };
        let before = rows.summary(0..body.start, &self.summarizer)?;
        let behind = rows.summary(body.end..rows.len(), &self.summarizer)?;
        let at = hold.head + range.start - body.start;
        let mut columns: Vec<ArrayRef> = batch.columns().iter().map(|c| c.slice(at, range.len())).collect();
        let mut errors = BTreeMap::new();
        for (i, (call, (before, behind))) in
            self.spec.calls.iter().zip(before.into_iter().zip(behind)).enumerate()
        {
            let around = Around { before, behind };
            let (column, failed) =
                evaluate(call, self.summarizer.summed(i), &section, &around, range.clone())?;
            columns.push(column);
            for (row, error) in failed {
                errors.entry(row).or_insert(error);
            }
        }
        let width = columns.len() - self.spec.calls.len();
        let results = if self.spec.calls.is_empty() {
            self.results.encode(&[arrow::array::new_null_array(&DataType::Boolean, range.len())])?
        } else {
            self.results.encode(&columns[width..])?
        };
        let options = RecordBatchOptions::new().with_row_count(Some(range.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.output_schema), columns, &options)?;
        Ok(Part { bytes: bytes[at..at + range.len()].to_vec(), rows, results, errors })
    }

    /// The difference of two evaluated parts.
    fn difference(&self, old: &Part<'_>, new: &Part<'_>, changes: &mut Changes) -> Result<()> {
        let (before, after) =
            (changes.rows.add_batch(old.rows.clone()), changes.rows.add_batch(new.rows.clone()));
        let mut push = |part: &Part<'_>, row: usize, weight: i64| match part.errors.get(&(row as u32)) {
            None => {
                let batch = if weight < 0 { before } else { after };
                changes.rows.push(batch, row, weight);
            }
            Some(e) => {
                let copy = Error::new(e.kind(), e.message());
                changes.errors.push((part.rows.clone(), row, weight, copy));
            }
        };
        let run = |part: &Part<'_>, from: usize| {
            let bytes = part.bytes[from];
            part.bytes[from..].iter().take_while(|b| **b == bytes).count()
        };
        let (mut i, mut j) = (0, 0);
        while i < old.bytes.len() || j < new.bytes.len() {
            let order = match (old.bytes.get(i), new.bytes.get(j)) {
                (Some(a), Some(b)) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            match order {
                Ordering::Less => {
                    push(old, i, -1);
                    i += 1;
                }
                Ordering::Greater => {
                    push(new, j, 1);
                    j += 1;
                }
                Ordering::Equal => {
                    let (many, more) = (run(old, i), run(new, j));
                    if many == 1 && more == 1 {
                        if old.outcome(i) != new.outcome(j) {
                            push(old, i, -1);
                            push(new, j, 1);
                        }
                    } else {
                        copies((old, i..i + many), (new, j..j + more), &mut push);
                    }
                    i += many;
                    j += more;
                }
            }
        }
        Ok(())
    }

    /// Compares a region of two versions, block by block.
    fn compare(
        &self,
        old: &Sequence,
        new: &Sequence,
        (from, to): (Cut, Cut),
        changes: &mut Changes,
        out: &mut Output,
    ) -> Result<()> {
        let mut at = from;
        loop {
            let left = (to.old - at.old).max(to.new - at.new);
            let mut next = to;
            if left > 2 * BLOCK {
                let (rows, start) =
                    if to.old - at.old > to.new - at.new { (old, at.old) } else { (new, at.new) };
                if let Some(row) = rows.at(start + BLOCK) {
                    next = Cut { old: old.upper_bound(row.bytes), new: new.upper_bound(row.bytes) };
                    next = Cut { old: next.old.min(to.old), new: next.new.min(to.new) };
                }
            }
            let (before, after) = (self.part(old, at.old..next.old)?, self.part(new, at.new..next.new)?);
            self.difference(&before, &after, changes)?;
            if changes.rows.len() >= BLOCK {
                self.emit(changes, out)?;
            }
            if next == to {
                return Ok(());
            }
            at = next;
        }
    }

    fn emit(&self, changes: &mut Changes, out: &mut Output) -> Result<()> {
        let fresh = ZBatchBuilder::new(Arc::clone(&self.output_schema));
        for batch in std::mem::replace(&mut changes.rows, fresh).finish_pieces()? {
            out.push(batch);
        }
        for (rows, row, weight, error) in changes.errors.drain(..) {
            let width = rows.num_columns() - self.spec.calls.len();
            let row = rows.slice(row, 1).project(&(0..width).collect::<Vec<_>>())?;
            let row = ZBatch::try_new(row, compact_weights(vec![weight]))?;
            out.push_errors(eval_error::error_batch(&row, &[(0, error)], self.name())?);
        }
        Ok(())
    }

    /// Reports rows taken back more often than given, and takes back the reports of those that have recovered.
    fn report_missing(&mut self, slot: u32, out: &mut Output) -> Result<()> {
        let partition = &mut self.partitions[slot as usize];
        if partition.missing.is_empty() && partition.reported.is_empty() {
            return Ok(());
        }
        let now: BTreeSet<Box<[u8]>> = partition.missing.keys().cloned().collect();
        let was = std::mem::take(&mut partition.reported);
        let changes: Vec<(&[u8], i64)> =
            now.difference(&was).map(|b| (&**b, 1)).chain(was.difference(&now).map(|b| (&**b, -1))).collect();
        if !changes.is_empty() {
            let rows = self.shared.decode(changes.iter().map(|(b, _)| *b))?;
            let rows = ZBatch::try_new(rows, compact_weights(changes.iter().map(|(_, w)| *w).collect()))?;
            let refusal = || Error::internal("row was taken back more often than it was given");
            let errors: Vec<(u32, Error)> = (0..rows.num_rows() as u32).map(|row| (row, refusal())).collect();
            out.push_errors(eval_error::error_batch(&rows, &errors, "over")?);
        }
        self.partitions[slot as usize].reported = now;
        Ok(())
    }

    /// Emits what the epoch has changed in a partition.
    fn close_partition(&mut self, slot: u32, changes: &mut Changes, out: &mut Output) -> Result<()> {
        let partition = &mut self.partitions[slot as usize];
        let old = partition.before.take().unwrap_or_default();
        let mut changed = std::mem::take(&mut partition.changed);
        let many = std::mem::take(&mut partition.many);
        let new = partition.rows.clone();
        self.row_count = (self.row_count + new.rows()).saturating_sub(old.rows());
        self.row_bytes = (self.row_bytes + new.bytes()).saturating_sub(old.bytes());
        let regions = if self.spec.limit.is_some() || many {
            let (o, n) = (self.shown(&old), self.shown(&new));
            vec![(Cut { old: o.start, new: n.start }, Cut { old: o.end, new: n.end })]
        } else {
            changed.sort_unstable();
            changed.dedup();
            let known = KnownScan { codec: &self.shared };
            self.sights.regions(&old, &new, &changed, &self.summarizer, &known)?
        };
        for region in regions {
            self.compare(&old, &new, region, changes, out)?;
        }
        drop((old, new));
        self.report_missing(slot, out)?;
        let partition = &self.partitions[slot as usize];
        if partition.rows.len() == 0 && partition.missing.is_empty() && partition.reported.is_empty() {
            self.index.remove(slot);
            if let Some(calendar) = &mut self.calendar
                && let Some(end) = calendar.ends.get_mut(slot as usize)
            {
                *end = i64::MAX;
            }
        }
        Ok(())
    }

    /// Lets go of partitions to which no row can come any more.
    fn forget(&mut self, watermark: i64) {
        let Some(calendar) = &mut self.calendar else { return };
        calendar.watermark = calendar.watermark.max(watermark);
        let later = match calendar.watermark.checked_add(1) {
            Some(next) => calendar.partitions.split_off(&next),
            None => BTreeMap::new(),
        };
        for (end, slots) in std::mem::replace(&mut calendar.partitions, later) {
            for slot in slots {
                // A slot may have changed hands since.
                if std::mem::replace(&mut calendar.ends[slot as usize], i64::MAX) != end {
                    continue;
                }
                let partition = std::mem::take(&mut self.partitions[slot as usize]);
                self.row_count = self.row_count.saturating_sub(partition.rows.rows());
                self.row_bytes = self.row_bytes.saturating_sub(partition.rows.bytes());
                self.index.remove(slot);
            }
        }
    }
}

/// Copies of a row are interchangeable: their outcomes are compared as multisets.
fn copies(
    (old, before): (&Part<'_>, Range<usize>),
    (new, after): (&Part<'_>, Range<usize>),
    push: &mut impl FnMut(&Part<'_>, usize, i64),
) {
    let (mut a, mut b): (Vec<usize>, Vec<usize>) = (before.collect(), after.collect());
    a.sort_by(|x, y| old.outcome(*x).cmp(&old.outcome(*y)));
    b.sort_by(|x, y| new.outcome(*x).cmp(&new.outcome(*y)));
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let order = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => old.outcome(*x).cmp(&new.outcome(*y)),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        if order == Ordering::Less {
            push(old, a[i], -1);
        } else if order == Ordering::Greater {
            push(new, b[j], 1);
        }
        i += usize::from(order != Ordering::Greater);
        j += usize::from(order != Ordering::Less);
    }
}

impl Operator for Over {
    fn name(&self) -> &'static str {
        "over"
    }

    fn absorb(&mut self, _port: usize, changes: ZBatch, _out: &mut Output) -> Result<Progress> {
        self.partition_codec.encode(changes.columns())?;
        self.order_codec.encode(changes.columns())?;
        self.row_codec.encode(changes.columns())?;
        let ends = self.calendar.as_ref().map(|c| micros(changes.column(c.column))).transpose()?;
        for row in 0..changes.num_rows() {
            let weight = changes.weight(row);
            let end = ends.as_ref().map(|e| if e.is_valid(row) { e.value(row) } else { i64::MAX });
            // The state of a closed partition is gone: what comes for it now was late already at the source.
            let late = self.calendar.as_ref().is_some_and(|c| end.is_some_and(|end| end <= c.watermark));
            if weight == 0 || late {
                continue;
            }
            let slot = self.slot(row, end);
            self.change(slot, row, weight);
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress> {
        let mut changes =
            Changes { rows: ZBatchBuilder::new(Arc::clone(&self.output_schema)), errors: vec![] };
        for slot in std::mem::take(&mut self.touched) {
            self.close_partition(slot, &mut changes, out)?;
        }
        self.emit(&mut changes, out)?;
        if let Some(watermark) = time.watermarks.first() {
            self.forget(watermark.0);
        }
        Ok(Progress::Done)
    }

    fn waits_for_watermark(&self) -> bool {
        self.calendar.as_ref().is_some_and(|c| !c.partitions.is_empty())
    }

    fn state_bytes(&self) -> usize {
        self.index.memory_bytes() + self.partitions.capacity() * size_of::<Partition>() + self.row_bytes
    }

    fn state_rows(&self) -> usize {
        self.row_count
    }
}
