//! A relation: rows versioned by epoch, in partitions, with hash indexes.
//!
//! Writers (one per partition at a time) append chunks and stamp ends; readers at epoch E see the rows with
//! begin ≤ E < end, whatever is written meanwhile. Small chunks are merged as they come; rows that no reader can
//! see any more go when [`Relation::compact`] is told the oldest reader.
//!
//! Boundary: the rows only. A key makes an index, not a constraint: whoever writes keeps it unique. Readers pin the
//! epoch they read (see [`super::snapshot`]) while they look rows up or take a snapshot; a snapshot that has been
//! taken needs no pin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use parking_lot::Mutex;

use super::chunk::Chunk;
use super::partition::{Found, Partition};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;
use crate::zset::ZBatch;
use crate::zset::builder::gather;
use crate::zset::consolidate::consolidate;
use crate::zset::key::hash_columns;

/// Rows that one call of [`Relation::compact`] rewrites at most, about.
const COMPACT_ROWS: usize = 131_072;
/// Rows that one change may insert: repeated rows take memory each.
const MAX_REPEATED: i128 = 1 << 30;

/// A versioned multiset of rows. Shared as `Arc<Relation>`.
#[derive(Debug)]
pub struct Relation {
    name: String,
    schema: SchemaRef,
    key: Vec<usize>,
    partitions: Vec<Partition>,
    /// Columns of the declared indexes (ascending), with how many indexes want them.
    indexes: Mutex<Vec<(Vec<usize>, usize)>>,
    /// Those of them that no definition names: over prefixes of keys and indexes that queries have asked for.
    prefixes: Mutex<Vec<Vec<usize>>>,
    /// Held while an index is built.
    build: Mutex<()>,
    /// No reader looks before this epoch.
    horizon: AtomicU64,
    /// The partition at which the next compaction begins, so that each gets its turn.
    compact_next: AtomicUsize,
}

impl Relation {
    /// The epoch at which rows begin that nobody may see yet: no reader looks so late.
    pub const HIDDEN: Epoch = Epoch(Epoch::MAX.0 - 1);

    /// An empty relation. `key` are the columns of its unique key, if it has one; `name` is for messages.
    pub fn new(name: &str, schema: SchemaRef, key: Vec<usize>, partitions: usize) -> Relation {
        let partitions = (0..partitions.max(1)).map(|_| Partition::new(schema.clone(), &key)).collect();
        Relation {
            name: name.to_string(),
            schema,
            key,
            partitions,
            indexes: Mutex::new(Vec::new()),
            prefixes: Mutex::new(Vec::new()),
            build: Mutex::new(()),
            horizon: AtomicU64::new(0),
            compact_next: AtomicUsize::new(0),
        }
    }

    /// The name it was created with.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Columns of its rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    /// Columns of its unique key; empty: none.
    pub fn key(&self) -> &[usize] {
        &self.key
    }
    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Applies a change at `epoch`, invisible to readers at earlier epochs. Epochs of a partition never go
    /// back. A weight of n is n equal rows. All inserts of `delta` come before all deletes; a delete that finds no
    /// equal row is reported after everything else has been applied.
    pub fn apply(&self, partition: usize, epoch: Epoch, delta: &ZBatch) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        let target = self.partition(partition)?;
        let (inserts, deletes) = self.split(delta)?;
        let horizon = Epoch(self.horizon.load(Ordering::Relaxed));
        let missing = target.apply(epoch, horizon, inserts, deletes)?;
        if missing > 0 {
            return Err(Error::internal("retraction of a row that is not there").with_detail(format!(
                "{missing} rows were deleted from relation \"{}\" at epoch {epoch} that it did not have.",
                self.name
            )));
        }
        Ok(())
    }

    /// What has been applied at [`Relation::HIDDEN`] begins at `epoch`; what ended there never was.
    pub fn reveal(&self, epoch: Epoch) {
        self.partitions.iter().for_each(|p| p.reveal(epoch));
    }

    /// Throws everything away that was applied at [`Relation::HIDDEN`] and not revealed.
    pub fn discard_hidden(&self) {
        self.partitions.iter().for_each(Partition::discard_hidden);
    }

    /// Builds the index that deletes need, if it is not there. It comes by itself with the first delete, and takes its
    /// time if there are many rows by then.
    pub fn build_primary_index(&self) -> Result<()> {
        self.partitions.iter().try_for_each(Partition::prepare_deletes)
    }

    fn partition(&self, partition: usize) -> Result<&Partition> {
        self.partitions.get(partition).ok_or_else(|| {
            Error::internal(format!("relation \"{}\" has no partition {partition}", self.name))
        })
    }

    /// Rows to insert, and rows to delete with how often.
    #[allow(clippy::type_complexity)]
    fn split(&self, delta: &ZBatch) -> Result<(Option<RecordBatch>, Option<(RecordBatch, Vec<u64>)>)> {
        let rows = self.adopt(delta.rows())?;
        let Some(weights) = delta.weights() else { return Ok((Some(rows), None)) };
        let weights = weights.values();
        let (mut plain, mut deletes) = (true, 0);
        for w in weights {
            plain &= *w <= 1;
            deletes += usize::from(*w < 0);
        }
        if plain && deletes == 0 && !weights.contains(&0) {
            return Ok((Some(rows), None));
        }
        let repeated: i128 = weights.iter().map(|w| i128::from((*w).max(0))).sum();
        if repeated > MAX_REPEATED {
            return Err(Error::new(
                ErrorKind::ProgramLimit,
                format!("{repeated} rows in one change of relation \"{}\"", self.name),
            ));
        }
        let inserts = if plain && deletes < weights.len() {
            let mask: BooleanArray = weights.iter().map(|w| Some(*w > 0)).collect();
            Some(filter_record_batch(&rows, &mask)?)
        } else {
            let repeat =
                |(row, w): (usize, &i64)| std::iter::repeat_n((0, row), usize::try_from(*w).unwrap_or(0));
            let picks: Vec<_> = weights.iter().enumerate().flat_map(repeat).collect();
            Some(gather(&self.schema, &[&rows], &picks)?)
        };
        let deletes = if deletes == 0 {
            None
        } else if deletes == weights.len() {
            Some((rows, weights.iter().map(|w| w.unsigned_abs()).collect()))
        } else {
            let mask: BooleanArray = weights.iter().map(|w| Some(*w < 0)).collect();
            let times = weights.iter().filter(|w| **w < 0).map(|w| w.unsigned_abs()).collect();
            Some((filter_record_batch(&rows, &mask)?, times))
        };
        Ok((inserts.filter(|rows| rows.num_rows() > 0), deletes))
    }

    /// The rows under the relation's own schema (names and metadata may differ, types may not).
    fn adopt(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        if Arc::ptr_eq(rows.schema_ref(), &self.schema) {
            return Ok(rows.clone());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), rows.columns().to_vec(), &options).map_err(
            |e| Error::internal(format!("rows do not fit relation \"{}\": {e}", self.name)).with_source(e),
        )
    }

    /// The rows at `epoch`. Cheap: shares all chunks, and holds no lock afterwards.
    pub fn snapshot(&self, epoch: Epoch) -> RelationSnapshot {
        let chunks = self.partitions.iter().flat_map(|p| p.chunks(epoch)).collect();
        RelationSnapshot { schema: self.schema.clone(), epoch, chunks }
    }

    /// What has changed after the epoch `after` until `up_to`, epoch by epoch; equal rows that came and went within one
    /// epoch cancel out. Both epochs are closed, and `after` is pinned by the caller.
    pub fn changes(&self, after: Epoch, up_to: Epoch) -> Result<Vec<(Epoch, ZBatch)>> {
        let mut chunks = Vec::new();
        let mut found: BTreeMap<Epoch, (Vec<(usize, usize)>, Vec<i64>)> = BTreeMap::new();
        let within = |epoch: Epoch| after < epoch && epoch <= up_to;
        for (chunk, has_ended) in self.partitions.iter().flat_map(Partition::all_chunks) {
            if !has_ended && !chunk.may_begin_after(after) {
                continue;
            }
            for row in 0..chunk.len() {
                let (begin, end) = (chunk.begin(row), chunk.end(row));
                for (epoch, weight) in [(begin, 1), (end, -1)] {
                    if within(epoch) && begin != end {
                        let (picks, weights) = found.entry(epoch).or_default();
                        picks.push((chunks.len(), row));
                        weights.push(weight);
                    }
                }
            }
            chunks.push(chunk);
        }
        let batches: Vec<&RecordBatch> = chunks.iter().map(|c| c.rows()).collect();
        let one = |(epoch, (picks, weights)): (Epoch, (Vec<_>, Vec<i64>))| {
            let rows = gather(&self.schema, &batches, &picks)?;
            let change = ZBatch::try_new(rows, Some(weights.into()))?;
            Ok((epoch, consolidate(&self.schema, &[change])?))
        };
        let changes = found.into_iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(changes.into_iter().filter(|(_, change)| !change.is_empty()).collect())
    }

    /// Whether [`Relation::lookup`] can find rows by exactly these columns (in any order).
    pub fn has_index(&self, columns: &[usize]) -> bool {
        let columns = ascending(columns);
        (!self.key.is_empty() && columns == ascending(&self.key))
            || self.indexes.lock().iter().any(|(indexed, _)| *indexed == columns)
    }

    /// The column sets by which rows can be looked up, each ascending; the key is first.
    pub fn indexed_columns(&self) -> Vec<Vec<usize>> {
        let key = (!self.key.is_empty()).then(|| ascending(&self.key));
        key.into_iter().chain(self.indexes.lock().iter().map(|(columns, _)| columns.clone())).collect()
    }

    /// Builds an index over these columns; if there is one already, it is shared. Writers go on meanwhile.
    pub fn create_index(&self, columns: Vec<usize>) -> Result<()> {
        let columns = ascending(&columns);
        if columns.last().is_none_or(|c| *c >= self.schema.fields().len()) {
            return Err(Error::internal(format!("relation \"{}\" has no columns {columns:?}", self.name)));
        }
        // Whoever needs no building does not wait for the building of another.
        if self.share_index(&columns) {
            return Ok(());
        }
        let _build = self.build.lock();
        if self.share_index(&columns) {
            return Ok(());
        }
        if self.key.is_empty() || columns != ascending(&self.key) {
            for partition in &self.partitions {
                partition.create_index(columns.clone())?;
            }
        }
        self.indexes.lock().push((columns, 1));
        Ok(())
    }

    fn share_index(&self, columns: &[usize]) -> bool {
        let mut indexes = self.indexes.lock();
        let found = indexes.iter_mut().find(|(indexed, _)| indexed == columns);
        found.map(|(_, uses)| *uses += 1).is_some()
    }

    /// Builds an index over a prefix of a key or index, because a query wants it. It goes with the next index that is
    /// dropped: whoever still wants it asks again. `false`: somebody else is building it.
    pub fn create_prefix_index(&self, columns: &[usize]) -> Result<bool> {
        let columns = ascending(columns);
        {
            let mut prefixes = self.prefixes.lock();
            if prefixes.contains(&columns) {
                return Ok(false);
            }
            prefixes.push(columns.clone());
        }
        let built = self.create_index(columns.clone());
        if built.is_err() {
            self.prefixes.lock().retain(|c| *c != columns);
        }
        built.map(|()| true)
    }

    /// Undoes one [`Relation::create_index`] of these columns, for good: the indexes over prefixes go too.
    pub fn drop_index(&self, columns: &[usize]) {
        let unnamed = {
            // Those that are still being built stay.
            let indexes = self.indexes.lock();
            let built = |columns: &mut Vec<usize>| indexes.iter().any(|(indexed, _)| indexed == columns);
            self.prefixes.lock().extract_if(.., built).collect::<Vec<_>>()
        };
        for columns in unnamed.into_iter().chain([ascending(columns)]) {
            self.release_index(&columns);
        }
    }

    /// Undoes one [`Relation::create_index`] of these columns and nothing else.
    pub fn release_index(&self, columns: &[usize]) {
        let columns = &*ascending(columns);
        let mut indexes = self.indexes.lock();
        let Some(at) = indexes.iter().position(|(indexed, _)| indexed == columns) else { return };
        indexes[at].1 -= 1;
        if indexes[at].1 == 0 {
            indexes.remove(at);
            drop(indexes);
            self.partitions.iter().for_each(|p| p.drop_index(columns));
        }
    }

    /// The rows at `epoch` whose `columns` (an index's, in any order) equal one of the tuples in `keys`: arrays of
    /// the columns' types and one length, in the order of `columns`. NULL equals nothing. Each row comes once.
    pub fn lookup(&self, columns: &[usize], keys: &[ArrayRef], epoch: Epoch) -> Result<RecordBatch> {
        self.lookup_one(columns, keys, epoch, None)
    }

    /// As [`Relation::lookup`], only the columns of `projection`, and any number of rows.
    pub fn lookup_one(
        &self,
        columns: &[usize],
        keys: &[ArrayRef],
        epoch: Epoch,
        projection: Option<&[usize]>,
    ) -> Result<RecordBatch> {
        let found = self.lookup_few(columns, keys, epoch, projection, usize::MAX)?;
        found.ok_or_else(|| Error::internal("a lookup without a limit has met it"))
    }

    /// As [`Relation::lookup`], only the columns of `projection`; `None` when there are more than `most` rows, for which
    /// reading everything is the better way. With arrays of length one this is the way of a point query: one hash,
    /// one probe per partition, and a slice of the chunk that holds the row.
    pub fn lookup_few(
        &self,
        columns: &[usize],
        keys: &[ArrayRef],
        epoch: Epoch,
        projection: Option<&[usize]>,
        most: usize,
    ) -> Result<Option<RecordBatch>> {
        let tuples = keys.first().map_or(0, |k| k.len());
        let reordered;
        let (columns, keys) = if columns.is_sorted() {
            (columns, keys)
        } else {
            let mut pairs: Vec<_> = columns.iter().copied().zip(keys.iter().cloned()).collect();
            pairs.sort_by_key(|(column, _)| *column);
            reordered = pairs.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
            (&reordered.0[..], &reordered.1[..])
        };
        let fits = |(k, c): (&ArrayRef, &usize)| {
            self.schema.fields().get(*c).is_some_and(|f| f.data_type() == k.data_type()) && k.len() == tuples
        };
        if keys.len() != columns.len() || !keys.iter().zip(columns).all(fits) {
            return Err(Error::internal(format!(
                "lookup keys do not fit the columns of relation \"{}\"",
                self.name
            )));
        }
        let mut hashes = Vec::with_capacity(tuples);
        hash_columns(keys, &mut hashes);
        let mut found = Found::default();
        for partition in &self.partitions {
            if !partition.lookup(columns, keys, &hashes, epoch, most, &mut found) {
                return Err(Error::internal(format!(
                    "relation \"{}\" has no index on {columns:?}",
                    self.name
                )));
            }
        }
        if found.picks.len() > most {
            return Ok(None);
        }
        if tuples > 1 {
            found.picks.sort_unstable();
            found.picks.dedup();
        }
        self.gather(&found, projection).map(Some)
    }

    fn gather(&self, found: &Found, projection: Option<&[usize]>) -> Result<RecordBatch> {
        let project = |rows: &RecordBatch| match projection {
            Some(columns) => rows.project(columns),
            None => Ok(rows.clone()),
        };
        match found.picks[..] {
            [] => Ok(project(&RecordBatch::new_empty(self.schema.clone()))?),
            [(chunk, row)] => Ok(project(found.chunks[chunk].rows())?.slice(row, 1)),
            _ => {
                let batches =
                    found.chunks.iter().map(|c| project(c.rows())).collect::<Result<Vec<_>, _>>()?;
                let schema = batches[0].schema();
                Ok(gather(&schema, &batches.iter().collect::<Vec<_>>(), &found.picks)?)
            }
        }
    }

    /// How often each of `rows` (whole rows, NULL equals NULL) is there at `epoch`.
    pub fn live_weight(&self, rows: &RecordBatch, epoch: Epoch) -> Result<Vec<i64>> {
        let rows = self.adopt(rows)?;
        let mut counts = vec![0; rows.num_rows()];
        for partition in &self.partitions {
            partition.count(&rows, epoch, &mut counts)?;
        }
        Ok(counts)
    }

    /// Number of rows after everything that has been applied.
    pub fn row_count(&self) -> usize {
        self.partitions.iter().map(Partition::live).sum()
    }

    /// Bytes held: rows, epochs, slots and indexes.
    pub fn memory_bytes(&self) -> usize {
        self.partitions.iter().map(Partition::bytes).sum()
    }

    /// Number of chunks, for introspection.
    pub fn chunk_count(&self) -> usize {
        self.partitions.iter().map(Partition::chunk_count).sum()
    }

    /// No reader looks before `oldest_reader` any more: chunks of which much has ended by then are rewritten.
    /// Bounded work per call; later calls go on where this one stopped.
    pub fn compact(&self, oldest_reader: Epoch) -> Result<()> {
        let horizon = self.horizon.fetch_max(oldest_reader.0, Ordering::Relaxed).max(oldest_reader.0);
        let mut budget = COMPACT_ROWS;
        let start = self.compact_next.fetch_add(1, Ordering::Relaxed);
        for i in 0..self.partitions.len() {
            let partition = &self.partitions[(start.wrapping_add(i)) % self.partitions.len()];
            budget = budget.saturating_sub(partition.compact(Epoch(horizon), budget)?);
        }
        Ok(())
    }
}

fn ascending(columns: &[usize]) -> Vec<usize> {
    let mut columns = columns.to_vec();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// The rows of a relation at one epoch. Independent of what is written later.
#[derive(Debug, Clone)]
pub struct RelationSnapshot {
    schema: SchemaRef,
    epoch: Epoch,
    chunks: Vec<Arc<Chunk>>,
}

impl RelationSnapshot {
    /// Columns of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    /// The epoch it shows.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The rows, chunk by chunk, only the columns of `projection`. Batches are not empty.
    pub fn batch_iter(
        &self,
        projection: Option<&[usize]>,
    ) -> impl Iterator<Item = Result<RecordBatch>> + Send + use<> {
        let (chunks, epoch) = (self.chunks.clone(), self.epoch);
        let projection = projection.map(<[usize]>::to_vec);
        chunks.into_iter().filter_map(move |c| c.read(epoch, projection.as_deref()).transpose())
    }

    /// All rows.
    pub fn batches(&self, projection: Option<&[usize]>) -> Result<Vec<RecordBatch>> {
        self.batch_iter(projection).collect()
    }

    /// The schema of the columns of `projection`.
    pub fn projected_schema(&self, projection: Option<&[usize]>) -> Result<SchemaRef> {
        Ok(match projection {
            None => self.schema.clone(),
            Some(columns) => Arc::new(Schema::project(&self.schema, columns)?),
        })
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        let visible = |c: &Arc<Chunk>| c.visible(self.epoch).map_or(c.len(), |seen| seen.count_set_bits());
        self.chunks.iter().map(visible).sum()
    }

    /// At least this many rows must be looked at to read it all (ended ones included).
    pub fn rows_to_scan(&self) -> usize {
        self.chunks.iter().map(|c| c.len()).sum()
    }

    /// Cuts it into at most `n` parts of about the same number of rows.
    pub fn split(&self, n: usize) -> Vec<RelationSnapshot> {
        let share = self.rows_to_scan().div_ceil(n.max(1)).max(1);
        let mut parts: Vec<RelationSnapshot> = Vec::new();
        let mut rows = share;
        for chunk in &self.chunks {
            if rows >= share && parts.len() < n.max(1) {
                parts.push(RelationSnapshot { chunks: Vec::new(), ..self.clone_empty() });
                rows = 0;
            }
            rows += chunk.len();
            if let Some(part) = parts.last_mut() {
                part.chunks.push(chunk.clone());
            }
        }
        if parts.is_empty() {
            parts.push(self.clone_empty());
        }
        parts
    }

    fn clone_empty(&self) -> RelationSnapshot {
        RelationSnapshot { schema: self.schema.clone(), epoch: self.epoch, chunks: Vec::new() }
    }
}

#[cfg(test)]
#[path = "relation_tests.rs"]
mod tests;
