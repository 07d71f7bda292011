//! The first rows of each partition in an order: LIMIT, top n per group, row_number.
//!
//! A partition is an ordered multiset of rows as bytes that compare in the asked order, ties decided by the whole
//! row. What a partition showed before the epoch is remembered when it is first touched, and the difference is
//! emitted when the epoch closes. Rows that can never be shown again are dropped when the input only grows, mostly
//! before they are even encoded.
//!
//! Boundary: text is ordered by bytes (collation "C"). A row taken back more often than it was given is reported in
//! the errors until its count recovers.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::expr::eval_error;
use crate::operator::rows::{EpochBatches, Origin, RowCodec, RowIndex};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::store::arrangement::slab::Slab;
use crate::zset::builder::compact_weights;
use crate::zset::{TARGET_ROWS, ZBatch};

/// What is kept of each partition.
#[derive(Debug, Clone)]
pub struct TopKSpec {
    /// Partition columns; none: one partition.
    pub partition: Vec<usize>,
    /// Order inside a partition; ties are broken by the other columns, ascending.
    pub order: Vec<(usize, SortOptions)>,
    /// Rows passed over.
    pub offset: u64,
    /// Rows shown.
    pub limit: u64,
    /// Append the row's number in its partition, from 1.
    pub row_number: bool,
    /// The input never takes a row back.
    pub append_only: bool,
}

/// A row as bytes that compare in the order of the partition. The first bytes are at hand, so that most comparisons
/// need not go to where the row is, which is rarely in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    prefix: [u8; PREFIX],
    bytes: Arc<[u8]>,
}

const PREFIX: usize = 16;

impl Key {
    fn new(bytes: &[u8]) -> Key {
        Key { prefix: prefix(bytes), bytes: bytes.into() }
    }

    /// Compares with a row whose prefix is known.
    #[inline]
    fn compare(&self, prefix: &[u8; PREFIX], bytes: &[u8]) -> Ordering {
        self.prefix.cmp(prefix).then_with(|| (*self.bytes).cmp(bytes))
    }

    /// Whether the row certainly comes after this one, from the bytes it starts with.
    fn precedes_all_of(&self, start: &[u8]) -> bool {
        let near = start.len().min(PREFIX);
        match start[..near].cmp(&self.prefix[..near]) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => start > &self.bytes[..start.len().min(self.bytes.len())],
        }
    }

    /// What tells live rows of the same bytes in different partitions apart.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.bytes).cast::<u8>() as usize
    }
}

/// The start of a row, filled up with zeros: they compare like an end.
fn prefix(bytes: &[u8]) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    let len = bytes.len().min(PREFIX);
    prefix[..len].copy_from_slice(&bytes[..len]);
    prefix
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.compare(&other.prefix, &other.bytes)
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.bytes
    }
}

/// Rows with their counts, in order.
type Shown = Vec<(Key, i64)>;

/// Up to here a sorted vector is faster than a tree.
const FEW: usize = 64;
/// About what a kept row costs besides its bytes.
const ROW_OVERHEAD: usize = 64;

/// The ordered multiset of a partition. No count is zero.
#[derive(Debug)]
enum Rows {
    Few(Vec<(Key, i64)>),
    Many(BTreeMap<Key, i64>),
}

/// What became of a row by adding to its count.
struct Added {
    row: Key,
    count: i64,
    /// Whether it was not there.
    new: bool,
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Rows::Few(rows) => rows.len(),
            Rows::Many(rows) => rows.len(),
        }
    }

    fn last(&self) -> Option<(&Key, i64)> {
        match self {
            Rows::Few(rows) => rows.last().map(|(k, n)| (k, *n)),
            Rows::Many(rows) => rows.last_key_value().map(|(k, n)| (k, *n)),
        }
    }

    /// Adds to the count of a row.
    fn add(&mut self, bytes: &[u8], weight: i64) -> Added {
        match self {
            Rows::Few(rows) => {
                let start = prefix(bytes);
                match rows.binary_search_by(|(key, _)| key.compare(&start, bytes)) {
                    Ok(at) => {
                        rows[at].1 += weight;
                        let count = rows[at].1;
                        let row = if count == 0 { rows.remove(at).0 } else { rows[at].0.clone() };
                        Added { row, count, new: false }
                    }
                    Err(at) => {
                        let row = Key::new(bytes);
                        if rows.len() < 4 {
                            // Most partitions of most queries have very few rows.
                            rows.reserve_exact(1);
                        }
                        rows.insert(at, (row.clone(), weight));
                        if rows.len() > FEW {
                            *self = Rows::Many(std::mem::take(rows).into_iter().collect());
                        }
                        Added { row, count: weight, new: true }
                    }
                }
            }
            Rows::Many(rows) => match rows.entry(Key::new(bytes)) {
                Entry::Occupied(mut entry) => {
                    *entry.get_mut() += weight;
                    let (row, count) = (entry.key().clone(), *entry.get());
                    if count == 0 {
                        entry.remove();
                    }
                    Added { row, count, new: false }
                }
                Entry::Vacant(entry) => {
                    let row = entry.key().clone();
                    entry.insert(weight);
                    Added { row, count: weight, new: true }
                }
            },
        }
    }

    fn count(&self, bytes: &[u8]) -> i64 {
        match self {
            Rows::Few(rows) => {
                let start = prefix(bytes);
                rows.binary_search_by(|(key, _)| key.compare(&start, bytes)).map_or(0, |at| rows[at].1)
            }
            Rows::Many(rows) => rows.get(bytes).copied().unwrap_or(0),
        }
    }

    /// Whether a row is certainly behind the first `capacity` ones, so that no change of it can show.
    fn is_behind(&self, capacity: usize, bytes: &[u8]) -> bool {
        let Rows::Few(rows) = self else { return false };
        if capacity == 0 || rows.len() < capacity {
            return false;
        }
        let first = &rows[..capacity];
        first.iter().all(|(_, count)| *count > 0)
            && first[capacity - 1].0.compare(&prefix(bytes), bytes) == Ordering::Less
    }

    /// Copies `offset .. offset + limit`, counts clipped to them.
    fn window(&self, offset: u64, limit: u64) -> Shown {
        match self {
            Rows::Few(rows) => window(rows.iter().map(|(k, n)| (k, *n)), offset, limit),
            Rows::Many(rows) => window(rows.iter().map(|(k, n)| (k, *n)), offset, limit),
        }
    }
}

fn window<'a>(rows: impl Iterator<Item = (&'a Key, i64)>, offset: u64, limit: u64) -> Shown {
    let (mut pass, mut left) = (offset, limit);
    let mut shown = vec![];
    for (key, count) in rows {
        if left == 0 {
            break;
        }
        let count = u64::try_from(count).unwrap_or(0);
        let passed = count.min(pass);
        pass -= passed;
        let copies = (count - passed).min(left);
        left -= copies;
        if copies > 0 {
            // At most `count`, which came from an i64.
            shown.push((key.clone(), copies as i64));
        }
    }
    shown
}

#[derive(Debug)]
struct Partition {
    rows: Rows,
    /// Sum of the counts; used for input that only grows.
    copies: u64,
    touched: bool,
}

/// The top-k operator.
#[derive(Debug)]
pub struct TopK {
    spec: TopKSpec,
    input_schema: SchemaRef,
    output_schema: SchemaRef,
    partition_codec: RowCodec,
    order_codec: RowCodec,
    row_codec: RowCodec,
    index: RowIndex,
    /// By slot of the index.
    partitions: Slab<Partition>,
    /// Partitions with a change in this epoch, with what they showed before it.
    touched: Vec<(u32, Shown)>,
    /// What came and went, where that is all there is to know.
    log: Log,
    batches: EpochBatches,
    /// Where rows that are new in this epoch are, by the address of their bytes.
    origins: HashMap<usize, Origin>,
    /// Rows whose count went below zero in this epoch, perhaps only for a moment.
    suspects: Vec<(u32, Key)>,
    /// Rows that are reported as negative.
    negative: BTreeSet<(u32, Key)>,
    row_count: usize,
    row_bytes: usize,
}

impl TopK {
    /// Rows `offset .. offset + limit` of each partition. The output has the input's columns, and after them the
    /// row number if it is asked for.
    pub fn new(input_schema: SchemaRef, output_schema: SchemaRef, spec: TopKSpec) -> Result<TopK> {
        let ascending = SortOptions::default();
        let mut columns: Vec<(usize, SortOptions)> = vec![];
        let order = spec.order.iter().copied();
        for (column, options) in order.chain((0..input_schema.fields().len()).map(|c| (c, ascending))) {
            if !columns.iter().any(|(c, _)| *c == column) {
                columns.push((column, options));
            }
        }
        // The bytes of the order columns are the start of the bytes of the row.
        let order = columns.iter().copied().filter(|(c, _)| spec.order.iter().any(|(o, _)| o == c)).collect();
        Ok(TopK {
            partition_codec: RowCodec::with_columns(
                &input_schema,
                spec.partition.iter().map(|c| (*c, ascending)).collect(),
            )?,
            order_codec: RowCodec::with_columns(&input_schema, order)?,
            row_codec: RowCodec::with_columns(&input_schema, columns)?,
            spec,
            input_schema,
            output_schema,
            index: RowIndex::new(),
            partitions: Slab::new(),
            touched: vec![],
            log: Log::default(),
            batches: EpochBatches::default(),
            origins: HashMap::new(),
            suspects: vec![],
            negative: BTreeSet::new(),
            row_count: 0,
            row_bytes: 0,
        })
    }

    /// How many rows of a partition can ever be of use when the input only grows.
    fn capacity(&self) -> u64 {
        self.spec.offset.saturating_add(self.spec.limit)
    }

    fn slot(&mut self, row: usize) -> u32 {
        let (slot, new) = self.index.find_or_insert(self.partition_codec.row(row));
        let fresh = || Partition { rows: Rows::Few(vec![]), copies: 0, touched: false };
        if slot as usize >= self.partitions.len() {
            self.partitions.push(fresh());
        } else if new {
            self.partitions[slot as usize] = fresh();
        }
        slot
    }

    /// Remembers what the partition shows, if this is its first change in the epoch.
    fn touch(&mut self, slot: u32) {
        let partition = &mut self.partitions[slot as usize];
        if !partition.touched {
            partition.touched = true;
            let before = partition.rows.window(self.spec.offset, self.spec.limit);
            self.touched.push((slot, before));
        }
    }

    /// Any change of any row.
    fn absorb_changes(&mut self, changes: &ZBatch) -> Result<()> {
        self.partition_codec.encode(changes.columns())?;
        self.row_codec.encode(changes.columns())?;
        let origin = self.batches.keep(&self.row_codec, changes.rows());
        let capacity = usize::try_from(self.capacity()).unwrap_or(usize::MAX);
        for row in 0..changes.num_rows() {
            let weight = changes.weight(row);
            if weight == 0 {
                continue;
            }
            let slot = self.slot(row);
            let key = self.row_codec.row(row);
            let partition = &self.partitions[slot as usize];
            if !partition.touched && !partition.rows.is_behind(capacity, key) {
                self.touch(slot);
            }
            let key = self.row_codec.row(row);
            let added = self.partitions[slot as usize].rows.add(key, weight);
            if added.new {
                self.row_count += 1;
                self.row_bytes += key.len();
                remember(&mut self.origins, &added.row, origin.at(row));
            } else if added.count == 0 {
                self.row_count -= 1;
                self.row_bytes -= key.len();
            }
            if added.count < 0 {
                self.suspects.push((slot, added.row));
            }
        }
        Ok(())
    }

    /// Rows of an input that never takes one back: most are turned away by their order columns alone.
    fn absorb_appends(&mut self, changes: &ZBatch) -> Result<()> {
        if changes.weights().is_some_and(|w| w.values().iter().any(|w| *w < 0)) {
            return Err(Error::internal("an append-only input took a row back"));
        }
        let capacity = self.capacity();
        if capacity == 0 {
            return Ok(());
        }
        self.partition_codec.encode(changes.columns())?;
        self.order_codec.encode(changes.columns())?;
        let mut chosen: Vec<u32> = vec![];
        let mut slots: Vec<u32> = vec![];
        for row in 0..changes.num_rows() {
            if changes.weight(row) == 0 {
                continue;
            }
            let slot = self.slot(row);
            let partition = &self.partitions[slot as usize];
            let order = self.order_codec.row(row);
            let useless = partition.copies >= capacity
                && partition.rows.last().is_some_and(|(last, _)| last.precedes_all_of(order));
            if !useless {
                chosen.push(row as u32);
                slots.push(slot);
            }
        }
        if chosen.len() == changes.num_rows() {
            self.row_codec.encode(changes.columns())?;
        } else {
            let rows = take_record_batch(changes.rows(), &UInt32Array::from(chosen.clone()))?;
            self.row_codec.encode(rows.columns())?;
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let origin = self.batches.keep(&self.row_codec, changes.rows());
        for (i, (slot, row)) in slots.into_iter().zip(chosen).enumerate() {
            let row = row as usize;
            self.append(slot, i, origin.at(row), changes.weight(row), capacity);
        }
        Ok(())
    }

    /// Adds encoded row `row` to a partition unless it is behind the last one of use, which then may have to go.
    fn append(&mut self, slot: u32, row: usize, origin: Origin, weight: i64, capacity: u64) {
        let partition = &self.partitions[slot as usize];
        let key = self.row_codec.row(row);
        let behind =
            partition.rows.last().is_some_and(|(last, _)| last.compare(&prefix(key), key) == Ordering::Less);
        if partition.copies >= capacity && behind {
            return;
        }
        if !self.shows_all() {
            self.touch(slot);
        }
        let key = self.row_codec.row(row);
        let shows_all = self.shows_all();
        let partition = &mut self.partitions[slot as usize];
        let added = partition.rows.add(key, weight);
        if added.new {
            self.row_count += 1;
            self.row_bytes += key.len();
            remember(&mut self.origins, &added.row, origin);
        }
        if shows_all {
            self.log.add(added.row, weight);
        }
        partition.copies = partition.copies.saturating_add(weight.unsigned_abs());
        while partition.copies > capacity {
            let Some((last, count)) = partition.rows.last() else { break };
            let last = last.clone();
            let gone = (partition.copies - capacity).min(count.unsigned_abs());
            partition.copies -= gone;
            // Not more than `count`, which is an i64.
            if partition.rows.add(&last.bytes, -(gone as i64)).count == 0 {
                self.row_count -= 1;
                self.row_bytes -= last.bytes.len();
            }
            if shows_all {
                self.log.add(last, -(gone as i64));
            }
        }
    }

    /// Whether all rows kept are shown, without numbers: then what comes and goes is the change of the output, and
    /// the rest of a partition need not be looked at.
    fn shows_all(&self) -> bool {
        self.spec.append_only && self.spec.offset == 0 && !self.spec.row_number
    }

    /// Reports rows whose count is now below zero, and takes back reports of those that have recovered.
    fn report_negative(&mut self, out: &mut Output) -> Result<()> {
        let mut changes: Vec<(Key, i64)> = vec![];
        let recovered: Vec<(u32, Key)> = self
            .negative
            .iter()
            .filter(|(slot, key)| self.partitions[*slot as usize].rows.count(&key.bytes) >= 0)
            .cloned()
            .collect();
        for entry in recovered {
            self.negative.remove(&entry);
            changes.push((entry.1, -1));
        }
        for (slot, key) in std::mem::take(&mut self.suspects) {
            if self.partitions[slot as usize].rows.count(&key.bytes) < 0
                && self.negative.insert((slot, key.clone()))
            {
                changes.push((key, 1));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let rows = self.row_codec.decode(changes.iter().map(|(k, _)| &*k.bytes))?;
        let rows = ZBatch::try_new(rows, compact_weights(changes.iter().map(|(_, w)| *w).collect()))?;
        let errors: Vec<(u32, Error)> = (0..rows.num_rows() as u32)
            .map(|row| (row, Error::internal("row was taken back more often than it was given")))
            .collect();
        out.push_errors(eval_error::error_batch(&rows, &errors, self.name())?);
        Ok(())
    }

    fn flush(&self, pending: &mut Pending, out: &mut Output) -> Result<()> {
        if pending.keys.is_empty() {
            return Ok(());
        }
        let origin = |key: &Key| self.origins.get(&key.address()).copied().unwrap_or(Origin::NONE);
        let rows =
            self.batches.gather(&self.row_codec, pending.keys.iter().map(|k| (origin(k), &*k.bytes)))?;
        let rows = if self.spec.row_number {
            let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
            columns.push(Arc::new(Int64Array::from(std::mem::take(&mut pending.numbers))));
            RecordBatch::try_new(Arc::clone(&self.output_schema), columns)?
        } else if self.input_schema.fields().is_empty() {
            rows
        } else {
            RecordBatch::try_new(Arc::clone(&self.output_schema), rows.columns().to_vec())?
        };
        out.push(ZBatch::try_new(rows, compact_weights(std::mem::take(&mut pending.weights)))?);
        pending.keys.clear();
        Ok(())
    }
}

/// Notes where a new row is. Its address may be that of a row which has gone again.
fn remember(origins: &mut HashMap<usize, Origin>, row: &Key, origin: Origin) {
    if origin != Origin::NONE {
        origins.insert(row.address(), origin);
    } else if !origins.is_empty() {
        origins.remove(&row.address());
    }
}

/// Rows that came and went in this epoch, each once. Being in the log keeps a row's address its own.
#[derive(Debug, Default)]
struct Log {
    rows: Vec<(Key, i64)>,
    positions: HashMap<usize, usize>,
}

impl Log {
    fn add(&mut self, row: Key, weight: i64) {
        let next = self.rows.len();
        let at = *self.positions.entry(row.address()).or_insert(next);
        if at == next {
            self.rows.push((row, weight));
        } else {
            self.rows[at].1 += weight;
        }
    }

    fn take(&mut self) -> Vec<(Key, i64)> {
        self.positions.clear();
        std::mem::take(&mut self.rows)
    }
}

/// Output that is not yet a batch.
#[derive(Default)]
struct Pending {
    keys: Vec<Key>,
    weights: Vec<i64>,
    numbers: Vec<i64>,
}

impl Pending {
    /// The difference of two windows as multisets.
    fn difference(&mut self, before: &[(Key, i64)], after: &[(Key, i64)]) {
        let (mut b, mut a) = (before.iter().peekable(), after.iter().peekable());
        loop {
            let (key, weight) = match (b.peek(), a.peek()) {
                (None, None) => break,
                (Some((old, count)), None) => {
                    b.next();
                    (old, -count)
                }
                (None, Some((new, count))) => {
                    a.next();
                    (new, *count)
                }
                (Some((old, was)), Some((new, is))) => match old.cmp(new) {
                    Ordering::Less => {
                        b.next();
                        (old, -was)
                    }
                    Ordering::Greater => {
                        a.next();
                        (new, *is)
                    }
                    Ordering::Equal => {
                        b.next();
                        a.next();
                        (new, is - was)
                    }
                },
            };
            if weight != 0 {
                self.keys.push(key.clone());
                self.weights.push(weight);
            }
        }
    }

    /// The difference of two windows as numbered lists; the first row has number `first`.
    fn numbered_difference(&mut self, before: &[(Key, i64)], after: &[(Key, i64)], first: i64) {
        let copies = |rows: &[(Key, i64)]| -> Vec<Key> {
            rows.iter().flat_map(|(k, n)| std::iter::repeat_n(k.clone(), *n as usize)).collect()
        };
        let (before, after) = (copies(before), copies(after));
        for i in 0..before.len().max(after.len()) {
            let (old, new) = (before.get(i), after.get(i));
            if old == new {
                continue;
            }
            for (key, weight) in [(old, -1), (new, 1)] {
                if let Some(key) = key {
                    self.keys.push(key.clone());
                    self.weights.push(weight);
                    self.numbers.push(first + i as i64);
                }
            }
        }
    }
}

impl Operator for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn absorb(&mut self, _port: usize, changes: ZBatch, _out: &mut Output) -> Result<Progress> {
        if self.spec.append_only {
            self.absorb_appends(&changes)?;
        } else {
            self.absorb_changes(&changes)?;
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, _time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress> {
        let mut pending = Pending::default();
        let touched = std::mem::take(&mut self.touched);
        let first = i64::try_from(self.spec.offset).unwrap_or(i64::MAX).saturating_add(1);
        for (slot, before) in &touched {
            let partition = &mut self.partitions[*slot as usize];
            partition.touched = false;
            let after = partition.rows.window(self.spec.offset, self.spec.limit);
            if self.spec.row_number {
                pending.numbered_difference(before, &after, first);
            } else {
                pending.difference(before, &after);
            }
            if pending.keys.len() >= TARGET_ROWS {
                self.flush(&mut pending, out)?;
            }
        }
        for (key, weight) in self.log.take() {
            if weight != 0 {
                pending.keys.push(key);
                pending.weights.push(weight);
            }
            if pending.keys.len() >= TARGET_ROWS {
                self.flush(&mut pending, out)?;
            }
        }
        self.flush(&mut pending, out)?;
        if !self.suspects.is_empty() || !self.negative.is_empty() {
            self.report_negative(out)?;
        }
        self.batches.clear();
        self.origins.clear();
        for (slot, _) in touched {
            let partition = &mut self.partitions[slot as usize];
            if partition.rows.len() == 0 {
                partition.rows = Rows::Few(vec![]);
                self.index.remove(slot);
            }
        }
        Ok(Progress::Done)
    }

    fn state_bytes(&self) -> usize {
        self.index.memory_bytes() + self.partitions.bytes() + self.row_bytes + self.row_count * ROW_OVERHEAD
    }

    fn state_rows(&self) -> usize {
        self.row_count
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use arrow::datatypes::{DataType, Field, Schema};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::operator::testing::{Relation, Row, cut, epoch, random_row, schema, text};
    use crate::zset::pretty;

    fn numbered_schema() -> SchemaRef {
        let mut fields = schema().fields().to_vec();
        fields.push(Arc::new(Field::new("n", DataType::Int64, false)));
        Arc::new(Schema::new(fields))
    }

    fn operator(spec: TopKSpec) -> TopK {
        let output = if spec.row_number { numbered_schema() } else { schema() };
        TopK::new(schema(), output, spec).unwrap()
    }

    /// Column a descending with NULLs first, as PostgreSQL orders by default.
    fn random_spec(rng: &mut StdRng, append_only: bool) -> TopKSpec {
        TopKSpec {
            partition: if rng.random_bool(0.7) { vec![0] } else { vec![] },
            order: vec![(1, SortOptions { descending: true, nulls_first: true })],
            offset: rng.random_range(0..3),
            limit: if rng.random_bool(0.1) { u64::MAX } else { rng.random_range(0..5) },
            row_number: rng.random_bool(0.5),
            append_only,
        }
    }

    /// The result by its definition, from the counts of all rows.
    fn expected(input: &BTreeMap<Row, i64>, spec: &TopKSpec) -> Relation {
        let mut copies: Vec<&Row> = input
            .iter()
            .flat_map(|(row, n)| std::iter::repeat_n(row, usize::try_from(*n).unwrap_or(0)))
            .collect();
        // None is less than Some, so that descending is NULLs last and has to be turned around.
        copies.sort_by_key(|(p, a, b)| (a.is_some(), Reverse(*a), *p, b.clone()));
        let mut seen: BTreeMap<Option<i64>, u64> = BTreeMap::new();
        let mut result = Relation::default();
        for row in copies {
            let partition = if spec.partition.is_empty() { None } else { row.0 };
            let n = seen.entry(partition).or_default();
            *n += 1;
            if *n > spec.offset && *n - spec.offset <= spec.limit {
                let row = if spec.row_number { format!("{} {n}", text(row)) } else { text(row) };
                result.add(row, 1);
            }
        }
        result
    }

    fn check(seed: u64, append_only: bool, weights: std::ops::Range<i64>, rows_per_epoch: usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let spec = random_spec(&mut rng, append_only);
        let mut op = operator(spec.clone());
        let mut input: BTreeMap<Row, i64> = BTreeMap::new();
        let (mut output, mut errors) = (Relation::default(), Relation::default());
        for now in 0..6 {
            let changes: Vec<(Row, i64)> = (0..rng.random_range(0..=rows_per_epoch))
                .map(|_| (random_row(&mut rng), rng.random_range(weights.clone())))
                .collect();
            for (row, weight) in &changes {
                *input.entry(row.clone()).or_default() += weight;
            }
            let batches = cut(&mut rng, &changes);
            let out = epoch(&mut op, batches, now, i64::MIN);
            output.add_batches(&out.rows);
            errors.add_batches(&out.errors);
            assert_eq!(output, expected(&input, &spec), "seed {seed}, epoch {now}, {spec:?}");
            assert_eq!(errors.0.len(), input.values().filter(|n| **n < 0).count(), "seed {seed}");
            if !append_only {
                let kept: usize = (0..op.partitions.len()).map(|s| op.partitions[s].rows.len()).sum();
                assert_eq!((op.row_count, kept), (input.values().filter(|n| **n != 0).count(), kept));
                assert_eq!(op.row_count, kept, "seed {seed}");
            }
        }
        if append_only && spec.limit < 10 {
            let most = (spec.offset + spec.limit) as usize * op.index.len();
            assert!(op.row_count <= most, "{} rows of {most}, seed {seed}", op.row_count);
        }
    }

    #[test]
    fn random_changes_show_the_first_rows_of_each_partition() {
        (0..500).for_each(|seed| check(seed, false, -2..3, 30));
    }

    #[test]
    fn growing_input_shows_the_first_rows_and_keeps_no_others() {
        (0..400).for_each(|seed| check(seed, true, 0..3, 30));
    }

    #[test]
    fn large_partitions_behave_like_small_ones() {
        (0..40).for_each(|seed| check(seed, seed % 2 == 0, 1..2, 400));
    }

    #[test]
    fn state_of_empty_partitions_is_let_go() {
        let mut op = operator(TopKSpec {
            partition: vec![0],
            order: vec![(1, SortOptions::default())],
            offset: 0,
            limit: 1,
            row_number: false,
            append_only: false,
        });
        let change = pretty::parse(&schema(), "+1 1 1 x | +1 1 2 y | +1 2 1 z");
        let out = epoch(&mut op, vec![change.clone()], 1, i64::MIN);
        assert_eq!(pretty::format(&out.rows[0]), "+1 1 1 x | +1 2 1 z");
        let out = epoch(&mut op, vec![change.negate()], 2, i64::MIN);
        assert_eq!(pretty::format(&out.rows[0]), "-1 1 1 x | -1 2 1 z");
        assert_eq!((op.state_rows(), op.index.len(), op.row_bytes), (0, 0, 0));
    }
}
