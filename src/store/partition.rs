//! One partition of a relation: its chunks, the slots of its rows, its indexes.
//!
//! Boundary: one writer at a time (kept by `writer`), any number of readers; `state` is locked only for short
//! stretches. Whatever a writer does between two stretches is invisible to readers: new rows begin, and ended ones
//! end, at an epoch that is not yet published, and a row that moves is the same in both places.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use super::building::Building;
use super::chunk::{Begin, Chunk};
use super::index::{Index, NIL, Paged};
use super::relation::Relation;
use super::rows::{key_equal, rows_equal};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;
use crate::zset::key::hash_columns;

/// Rows of a chunk at most.
const MAX_CHUNK: usize = 32_768;
/// Chunks of this many rows are left as they are: merging them further would copy every row once more, in an epoch
/// that has to wait for it, and scans would gain little.
const WHOLE_CHUNK: usize = 4096;
/// The same for bytes: a copy of wide rows costs most by the fresh memory that it takes.
const WHOLE_BYTES: usize = 256 * 1024;
/// This many chunks of a size class become one of the next (so at most this many copies of a row per class).
const FANOUT: usize = 8;
/// Rows touched per stretch of the lock.
const STRETCH: usize = 1024;
/// How often the builder of an index catches up with the writer before the writer waits for it, and how many
/// changes the writer can wait for.
const MAX_ROUNDS: usize = 8;
const FEW_CHANGES: usize = 4096;

/// A row's place: chunk and row.
type Place = (u32, u32);

#[derive(Debug)]
struct Held {
    chunk: Arc<Chunk>,
    /// The slot of each row; empty while the partition has no index.
    slots: Vec<u32>,
    /// How many rows have ended, and when the first of them did.
    ended: usize,
    first_end: Epoch,
}

#[derive(Debug)]
struct State {
    /// By chunk id; ids are used again.
    chunks: Vec<Option<Held>>,
    free_chunks: Vec<u32>,
    /// Ids in the order of insertion.
    order: Vec<u32>,
    places: Paged<Place>,
    free_slots: Vec<u32>,
    /// The index that finds rows to delete: over the key, or over all columns. Built at the first delete when
    /// there is no key.
    primary: Option<Index>,
    secondary: Vec<Index>,
    /// Indexes that are being built; nobody looks anything up in them.
    building: Vec<Building>,
    live: usize,
    /// Rows that have ended and are still here.
    ended: usize,
    last_epoch: Epoch,
}

/// Rows found by a lookup: chunks, and (chunk, row) of each.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) chunks: Vec<Arc<Chunk>>,
    pub(super) picks: Vec<(usize, usize)>,
}

impl Found {
    fn push(&mut self, chunk: &Arc<Chunk>, row: u32) {
        // Neighbouring hits are often in one chunk.
        let same = self.chunks.iter().rposition(|c| Arc::ptr_eq(c, chunk));
        let at = same.unwrap_or_else(|| {
            self.chunks.push(chunk.clone());
            self.chunks.len() - 1
        });
        self.picks.push((at, row as usize));
    }
}

#[derive(Debug)]
pub(super) struct Partition {
    schema: SchemaRef,
    /// Columns of the primary index, ascending.
    primary_columns: Vec<usize>,
    keyed: bool,
    /// Held by whoever changes the partition; the value is where compaction goes on.
    writer: Mutex<usize>,
    state: RwLock<State>,
}

/// Hashes of rows over some columns.
fn hashes_of(columns: &[ArrayRef], rows: usize) -> Vec<u64> {
    let mut hashes = Vec::with_capacity(rows);
    hash_columns(columns, &mut hashes);
    // Rows without columns are all equal.
    hashes.resize(rows, 0);
    hashes
}

fn hashes_over(rows: &RecordBatch, columns: &[usize]) -> Vec<u64> {
    let columns: Vec<_> = columns.iter().map(|c| rows.column(*c).clone()).collect();
    hashes_of(&columns, rows.num_rows())
}

impl State {
    fn new(primary: Option<Index>) -> State {
        State {
            chunks: Vec::new(),
            free_chunks: Vec::new(),
            order: Vec::new(),
            places: Paged::new((0, 0)),
            free_slots: Vec::new(),
            primary,
            secondary: Vec::new(),
            building: Vec::new(),
            live: 0,
            ended: 0,
            last_epoch: Epoch::ZERO,
        }
    }

    fn held(&self, id: u32) -> &Held {
        self.chunks[id as usize].as_ref().expect("ids in use have a chunk")
    }

    fn indexes_mut(&mut self) -> impl Iterator<Item = &mut Index> {
        self.primary.iter_mut().chain(&mut self.secondary)
    }

    /// Whether rows have slots.
    fn is_indexed(&self) -> bool {
        self.primary.is_some() || !self.secondary.is_empty() || !self.building.is_empty()
    }

    /// How many indexes there are; in [`Partition::index_hashes`] those that are being built follow.
    fn indexes(&self) -> usize {
        usize::from(self.primary.is_some()) + self.secondary.len()
    }

    fn add_chunk(&mut self, held: Held) -> u32 {
        match self.free_chunks.pop() {
            Some(id) => {
                self.chunks[id as usize] = Some(held);
                id
            }
            None => {
                self.chunks.push(Some(held));
                (self.chunks.len() - 1) as u32
            }
        }
    }

    /// Gives slots to `rows` rows of chunk `id`.
    fn allocate_slots(&mut self, id: u32, rows: usize) -> Result<Vec<u32>> {
        let mut slots = Vec::with_capacity(rows);
        let fresh = rows.saturating_sub(self.free_slots.len());
        let used = self.places.len();
        if used + fresh >= NIL as usize {
            return Err(Error::new(
                ErrorKind::ProgramLimit,
                "a relation has more than 4294967294 indexed rows in a partition",
            ));
        }
        self.places.grow(used + fresh);
        let len = self.places.len();
        for index in self.indexes_mut() {
            index.grow(len);
        }
        for row in 0..rows {
            let slot = self.free_slots.pop().unwrap_or((used + row + fresh - rows) as u32);
            *self.places.get_mut(slot) = (id, row as u32);
            slots.push(slot);
        }
        Ok(slots)
    }

    /// Ends one living row equal to row `i` of `rows`; `false` when there is none.
    fn end_one(&mut self, rows: &RecordBatch, hashes: &[Vec<u64>], i: usize, epoch: Epoch) -> bool {
        let Some(primary) = &self.primary else { return false };
        let mut slot = primary.head(hashes[0][i]);
        while slot != NIL {
            let (id, row) = self.places.get(slot);
            let chunk = &self.held(id).chunk;
            if !chunk.is_alive(row as usize) {
                return false;
            }
            if rows_equal(rows.columns(), i, chunk.rows().columns(), row as usize) {
                chunk.stamp(row as usize, epoch);
                let held = self.chunks[id as usize].as_mut().expect("ids in use have a chunk");
                held.ended += 1;
                held.first_end = held.first_end.min(epoch);
                for (index, hashes) in self.indexes_mut().zip(hashes) {
                    index.move_to_back(hashes[i], slot);
                }
                let finished = self.indexes();
                for (building, hashes) in self.building.iter_mut().zip(&hashes[finished..]) {
                    building.ended(hashes[i], slot);
                }
                self.live -= 1;
                self.ended += 1;
                return true;
            }
            slot = primary.next(slot);
        }
        false
    }

    /// Visits the rows of the chain of `hash` that a reader at `epoch` sees, until `seen` wants no more.
    fn visit(&self, index: &Index, hash: u64, epoch: Epoch, mut seen: impl FnMut(&Arc<Chunk>, u32) -> bool) {
        let head = index.head(hash);
        let mut slot = head;
        // The living ones are first …
        while slot != NIL {
            let (id, row) = self.places.get(slot);
            let chunk = &self.held(id).chunk;
            if !chunk.is_alive(row as usize) {
                break;
            }
            if chunk.begin(row as usize) <= epoch && !seen(chunk, row) {
                return;
            }
            slot = index.next(slot);
        }
        if slot == NIL {
            return;
        }
        // … and the ended ones behind them, those that ended last at the very end.
        let first_ended = slot;
        slot = index.prev(head);
        loop {
            let (id, row) = self.places.get(slot);
            let chunk = &self.held(id).chunk;
            if chunk.end(row as usize) <= epoch {
                return;
            }
            if chunk.begin(row as usize) <= epoch && !seen(chunk, row) {
                return;
            }
            if slot == first_ended {
                return;
            }
            slot = index.prev(slot);
        }
    }

    /// The index over exactly these (ascending) columns.
    fn index(&self, columns: &[usize]) -> Option<&Index> {
        self.primary.iter().chain(&self.secondary).find(|i| i.columns == columns)
    }
}

impl Partition {
    pub(super) fn new(schema: SchemaRef, key: &[usize]) -> Self {
        let keyed = !key.is_empty();
        let mut primary_columns: Vec<_> =
            if keyed { key.to_vec() } else { (0..schema.fields().len()).collect() };
        primary_columns.sort_unstable();
        primary_columns.dedup();
        let state = State::new(keyed.then(|| Index::new(primary_columns.clone())));
        Partition { schema, primary_columns, keyed, writer: Mutex::new(0), state: RwLock::new(state) }
    }

    /// Applies inserts (`rows`, each once) and deletes (rows with how often). Gives the number of deletes for
    /// which no living row was found.
    pub(super) fn apply(
        &self,
        epoch: Epoch,
        horizon: Epoch,
        inserts: Option<RecordBatch>,
        deletes: Option<(RecordBatch, Vec<u64>)>,
    ) -> Result<u64> {
        let _writer = self.writer.lock();
        {
            let mut state = self.state.write();
            if epoch < state.last_epoch {
                return Err(Error::internal(format!("epoch {epoch} comes after {}", state.last_epoch)));
            }
            state.last_epoch = epoch;
        }
        if let Some(rows) = inserts {
            for start in (0..rows.num_rows()).step_by(MAX_CHUNK) {
                self.insert(rows.slice(start, MAX_CHUNK.min(rows.num_rows() - start)), epoch)?;
                self.merge_tail(horizon)?;
            }
        }
        match deletes {
            Some((rows, times)) => self.delete(&rows, &times, epoch),
            None => Ok(0),
        }
    }

    /// Rows that begin at [`Relation::HIDDEN`] begin at `epoch`.
    pub(super) fn reveal(&self, epoch: Epoch) {
        let _writer = self.writer.lock();
        let mut state = self.state.write();
        if state.last_epoch != Relation::HIDDEN {
            return;
        }
        state.last_epoch = epoch;
        for held in state.chunks.iter_mut().flatten() {
            held.chunk = Arc::new(held.chunk.revealed(Relation::HIDDEN, epoch));
            if held.first_end == Relation::HIDDEN {
                held.first_end = epoch;
            }
        }
    }

    /// Forgets everything, if it was never revealed.
    pub(super) fn discard_hidden(&self) {
        let _writer = self.writer.lock();
        let mut state = self.state.write();
        if state.last_epoch == Relation::HIDDEN {
            *state = State::new(self.keyed.then(|| Index::new(self.primary_columns.clone())));
        }
    }

    /// Makes the index that finds rows to delete.
    pub(super) fn prepare_deletes(&self) -> Result<()> {
        let _writer = self.writer.lock();
        self.build_primary()
    }

    fn insert(&self, rows: RecordBatch, epoch: Epoch) -> Result<()> {
        let count = rows.num_rows();
        let hashes = self.index_hashes(&rows);
        let chunk = Arc::new(Chunk::new(rows, Begin::One(epoch)));
        let mut state = self.state.write();
        let held = Held { chunk, slots: Vec::new(), ended: 0, first_end: Epoch::MAX };
        let id = state.add_chunk(held);
        state.order.push(id);
        state.live += count;
        if hashes.is_empty() {
            return Ok(());
        }
        let slots = state.allocate_slots(id, count)?;
        for (stretch, part) in slots.chunks(STRETCH).enumerate() {
            if stretch > 0 {
                RwLockWriteGuard::bump(&mut state);
            }
            for (index, hashes) in state.indexes_mut().zip(&hashes) {
                for (slot, hash) in part.iter().zip(&hashes[stretch * STRETCH..]) {
                    index.push_front(*hash, *slot);
                }
            }
            let finished = state.indexes();
            for (building, hashes) in state.building.iter_mut().zip(&hashes[finished..]) {
                for (slot, hash) in part.iter().zip(&hashes[stretch * STRETCH..]) {
                    building.inserted(*hash, *slot);
                }
            }
        }
        state.chunks[id as usize].as_mut().expect("just added").slots = slots;
        Ok(())
    }

    fn delete(&self, rows: &RecordBatch, times: &[u64], epoch: Epoch) -> Result<u64> {
        self.build_primary()?;
        let hashes = self.index_hashes(rows);
        let mut missing = 0;
        let mut state = self.state.write();
        let mut done = 0;
        for (i, times) in times.iter().enumerate() {
            for n in 0..*times {
                if !state.end_one(rows, &hashes, i, epoch) {
                    missing += times - n;
                    break;
                }
                done += 1;
                if done % STRETCH == 0 {
                    RwLockWriteGuard::bump(&mut state);
                }
            }
        }
        Ok(missing)
    }

    /// Hashes of rows for each index, the primary one first, those that are being built last.
    fn index_hashes(&self, rows: &RecordBatch) -> Vec<Vec<u64>> {
        // Only the writer changes the set of indexes, and this is called by the writer.
        let columns: Vec<_> = {
            let state = self.state.read();
            let indexes = state.primary.iter().chain(&state.secondary).map(|i| &i.columns);
            indexes.chain(state.building.iter().map(|b| &b.columns)).cloned().collect()
        };
        columns.iter().map(|columns| hashes_over(rows, columns)).collect()
    }

    /// Builds the index over whole rows if it is needed now for the first time.
    fn build_primary(&self) -> Result<()> {
        if self.keyed || self.state.read().primary.is_some() {
            return Ok(());
        }
        let index = self.build_index(self.primary_columns.clone())?;
        self.state.write().primary = Some(index);
        Ok(())
    }

    /// Builds an index over all rows there are. Called by the writer.
    fn build_index(&self, columns: Vec<usize>) -> Result<Index> {
        self.assign_slots()?;
        let (rows, slots) = self.rows_with_slots();
        Ok(index_over(columns, &rows, slots))
    }

    /// All chunks with the slots of their rows, and the number of slots. Called by the writer.
    fn rows_with_slots(&self) -> (Vec<(Arc<Chunk>, Vec<u32>)>, usize) {
        let state = self.state.read();
        let rows = state.order.iter().map(|id| state.held(*id)).map(|h| (h.chunk.clone(), h.slots.clone()));
        (rows.collect(), state.places.len())
    }

    /// Gives slots to all rows, if there was no index so far.
    fn assign_slots(&self) -> Result<()> {
        let mut state = self.state.write();
        if state.is_indexed() {
            return Ok(());
        }
        for at in 0..state.order.len() {
            let id = state.order[at];
            let rows = state.held(id).chunk.len();
            if state.held(id).slots.len() != rows {
                let slots = state.allocate_slots(id, rows)?;
                state.chunks[id as usize].as_mut().expect("in order").slots = slots;
            }
            RwLockWriteGuard::bump(&mut state);
        }
        Ok(())
    }

    /// Builds an index; the partition is written meanwhile, but for short stretches at the begin and the end. The
    /// same columns are not indexed twice at a time (the caller sees to that).
    pub(super) fn create_index(&self, columns: Vec<usize>) -> Result<()> {
        let (rows, slots) = {
            let _writer = self.writer.lock();
            if self.state.read().index(&columns).is_some() {
                return Ok(());
            }
            self.assign_slots()?;
            let listed = self.rows_with_slots();
            self.state.write().building.push(Building::new(columns.clone()));
            listed
        };
        let mut index = index_over(columns, &rows, slots);
        drop(rows);
        let mut rounds = 0;
        loop {
            // What is left after some rounds is little, or comes faster than it can be made: the writer waits for it.
            let last = rounds == MAX_ROUNDS;
            let writer = last.then(|| self.writer.lock());
            let noted = {
                let mut state = self.state.write();
                let slots = state.places.len();
                let building = state.building.iter_mut().find(|b| b.columns == index.columns);
                building.map(|b| (b.take(), slots))
            };
            let Some((changes, slots)) = noted else {
                // All rows have been taken back meanwhile.
                drop(writer);
                return self.create_index(index.columns);
            };
            index.grow(slots);
            rounds = if changes.len() <= FEW_CHANGES { MAX_ROUNDS } else { (rounds + 1).min(MAX_ROUNDS) };
            changes.make_in(&mut index);
            if writer.is_some() {
                let mut state = self.state.write();
                state.building.retain(|b| b.columns != index.columns);
                state.secondary.push(index);
                return Ok(());
            }
        }
    }

    pub(super) fn drop_index(&self, columns: &[usize]) {
        let _writer = self.writer.lock();
        let mut state = self.state.write();
        state.secondary.retain(|i| i.columns != columns);
        if !state.is_indexed() {
            state.places = Paged::new((0, 0));
            state.free_slots = Vec::new();
            for held in state.chunks.iter_mut().flatten() {
                held.slots = Vec::new();
            }
        }
    }

    /// Merges small chunks at the end, so that there are few of each size class.
    fn merge_tail(&self, horizon: Epoch) -> Result<()> {
        loop {
            let run = {
                let state = self.state.read();
                let class = |rows: usize| rows.max(1).ilog2() / FANOUT.ilog2();
                // A whole chunk ends the run like one that is too long.
                let mut rows = state.order.iter().rev().map(|id| {
                    let chunk = &state.held(*id).chunk;
                    if chunk.bytes() >= WHOLE_BYTES { usize::MAX >> 1 } else { chunk.len() }
                });
                let Some(last) = rows.next().filter(|last| *last < WHOLE_CHUNK) else { return Ok(()) };
                let (mut run, mut total) = (1, last);
                for rows in rows.take_while(|rows| class(*rows) <= class(last)) {
                    if total + rows > MAX_CHUNK {
                        break;
                    }
                    run += 1;
                    total += rows;
                }
                if run < FANOUT {
                    return Ok(());
                }
                state.order.len() - run..state.order.len()
            };
            self.merge(run, horizon)?;
        }
    }

    /// Rewrites chunks of which much has ended by `horizon`, touching about `budget` rows. Gives the rows touched.
    pub(super) fn compact(&self, horizon: Epoch, budget: usize) -> Result<usize> {
        let mut cursor = self.writer.lock();
        let mut touched = 0;
        while touched < budget {
            let range = {
                let state = self.state.read();
                let chunks = state.order.len();
                if state.ended == 0 || chunks == 0 {
                    break;
                }
                let start = *cursor % chunks;
                (start..chunks).chain(0..start).find_map(|at| {
                    if touched >= budget {
                        return None;
                    }
                    *cursor = at;
                    compaction(&state, at, horizon, &mut touched)
                })
            };
            let Some(range) = range else { break };
            self.merge(range, horizon)?;
        }
        Ok(touched)
    }

    /// Replaces neighbouring chunks by one without the rows that ended by `horizon`. Called by the writer.
    fn merge(&self, range: std::ops::Range<usize>, horizon: Epoch) -> Result<()> {
        let (ids, sources): (Vec<u32>, Vec<(Arc<Chunk>, Vec<u32>)>) = {
            let state = self.state.read();
            let ids = state.order[range.clone()].to_vec();
            let sources = ids.iter().map(|id| state.held(*id)).map(|h| (h.chunk.clone(), h.slots.clone()));
            (ids.clone(), sources.collect())
        };
        let merged = Merged::new(&self.schema, &sources, horizon)?;
        let dropped_hashes: Vec<Vec<u64>> = match &merged.dropped {
            Some(rows) if !merged.dropped_slots.is_empty() => self.index_hashes(rows),
            _ => Vec::new(),
        };
        let mut state = self.state.write();
        let replacement = merged.chunk.map(|chunk| {
            let held = Held { chunk, slots: Vec::new(), ended: merged.ended, first_end: merged.first_end };
            state.add_chunk(held)
        });
        if let Some(id) = replacement {
            for (stretch, part) in merged.slots.chunks(STRETCH).enumerate() {
                for (i, slot) in part.iter().enumerate() {
                    *state.places.get_mut(*slot) = (id, (stretch * STRETCH + i) as u32);
                }
                RwLockWriteGuard::bump(&mut state);
            }
            state.chunks[id as usize].as_mut().expect("just added").slots = merged.slots;
        }
        for (index, hashes) in state.indexes_mut().zip(&dropped_hashes) {
            for (slot, hash) in merged.dropped_slots.iter().zip(hashes) {
                index.unlink(*hash, *slot);
            }
        }
        if !dropped_hashes.is_empty() {
            let finished = state.indexes();
            for (building, hashes) in state.building.iter_mut().zip(&dropped_hashes[finished..]) {
                for (slot, hash) in merged.dropped_slots.iter().zip(hashes) {
                    building.dropped(*hash, *slot);
                }
            }
        }
        state.free_slots.extend(merged.dropped_slots);
        state.ended -= merged.dropped_rows;
        for id in ids {
            state.chunks[id as usize] = None;
            state.free_chunks.push(id);
        }
        state.order.splice(range, replacement);
        Ok(())
    }

    /// All chunks, with whether any of their rows has ended.
    pub(super) fn all_chunks(&self) -> Vec<(Arc<Chunk>, bool)> {
        let state = self.state.read();
        state.order.iter().map(|id| state.held(*id)).map(|h| (h.chunk.clone(), h.ended > 0)).collect()
    }

    /// The chunks a reader at `epoch` may see something of.
    pub(super) fn chunks(&self, epoch: Epoch) -> Vec<Arc<Chunk>> {
        let state = self.state.read();
        let held = state.order.iter().map(|id| &state.held(*id).chunk);
        held.filter(|c| c.may_be_seen(epoch)).cloned().collect()
    }

    /// Finds the rows visible at `epoch` whose `columns` (ascending, indexed) equal a row of `keys`.
    /// `false`: there is no such index. More than `most` rows altogether are not looked for.
    pub(super) fn lookup(
        &self,
        columns: &[usize],
        keys: &[ArrayRef],
        hashes: &[u64],
        epoch: Epoch,
        most: usize,
        found: &mut Found,
    ) -> bool {
        let state = self.state.read();
        let Some(index) = state.index(columns) else { return false };
        for (i, hash) in hashes.iter().enumerate() {
            // SQL's equality: NULL equals nothing.
            if keys.iter().any(|k| k.is_null(i)) {
                continue;
            }
            state.visit(index, *hash, epoch, |chunk, row| {
                if key_equal(keys, i, chunk.rows().columns(), columns, row as usize) {
                    found.push(chunk, row);
                }
                found.picks.len() <= most
            });
            if found.picks.len() > most {
                break;
            }
        }
        true
    }

    /// Adds to `counts` how often each row is visible at `epoch`.
    pub(super) fn count(&self, rows: &RecordBatch, epoch: Epoch, counts: &mut [i64]) -> Result<()> {
        if self.state.read().primary.is_none() {
            let _writer = self.writer.lock();
            self.build_primary()?;
        }
        let hashes = hashes_over(rows, &self.primary_columns);
        let state = self.state.read();
        let Some(index) = &state.primary else { return Ok(()) };
        for (i, hash) in hashes.into_iter().enumerate() {
            state.visit(index, hash, epoch, |chunk, row| {
                if rows_equal(rows.columns(), i, chunk.rows().columns(), row as usize) {
                    counts[i] += 1;
                }
                true
            });
        }
        Ok(())
    }

    pub(super) fn live(&self) -> usize {
        self.state.read().live
    }

    pub(super) fn chunk_count(&self) -> usize {
        self.state.read().order.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let state = self.state.read();
        let chunks: usize =
            state.chunks.iter().flatten().map(|h| h.chunk.bytes() + h.slots.len() * size_of::<u32>()).sum();
        let indexes: usize = state.primary.iter().chain(&state.secondary).map(Index::bytes).sum();
        let building: usize = state.building.iter().map(Building::bytes).sum();
        chunks + indexes + building + state.places.bytes() + state.free_slots.len() * size_of::<u32>()
    }
}

/// An index over listed rows. Some of them may end meanwhile: the writer has noted which.
fn index_over(columns: Vec<usize>, rows: &[(Arc<Chunk>, Vec<u32>)], slots: usize) -> Index {
    let mut index = Index::new(columns);
    index.grow(slots);
    let mut ended = Vec::new();
    for (chunk, slots) in rows {
        let hashes = hashes_over(chunk.rows(), &index.columns);
        for (row, (hash, slot)) in hashes.into_iter().zip(slots).enumerate() {
            match chunk.end(row) {
                Epoch::MAX => index.push_front(hash, *slot),
                end => ended.push((end, hash, *slot)),
            }
        }
    }
    ended.sort_unstable_by_key(|(end, ..)| *end);
    for (_, hash, slot) in ended {
        index.push_back(hash, slot);
    }
    index
}

/// Which chunks from `at` on should be rewritten as one, if any.
fn compaction(
    state: &State,
    at: usize,
    horizon: Epoch,
    touched: &mut usize,
) -> Option<std::ops::Range<usize>> {
    let gone = |at: usize| {
        let held = state.held(state.order[at]);
        if held.ended == 0 || held.first_end > horizon { 0 } else { held.chunk.ended_by(horizon) }
    };
    let held = state.held(state.order[at]);
    // A quarter gone: a row is copied at most four times per row that goes.
    if held.ended * 4 < held.chunk.len() || held.first_end > horizon {
        return None;
    }
    *touched += held.chunk.len();
    let mut left = held.chunk.len() - gone(at);
    if (held.chunk.len() - left) * 4 < held.chunk.len() {
        return None;
    }
    let mut end = at + 1;
    while end < state.order.len() {
        let next = state.held(state.order[end]);
        // Neighbours with as much to drop, and small ones so that chunks do not become ever smaller.
        let worth = next.ended * 4 >= next.chunk.len() || next.chunk.len() < left;
        if left + next.chunk.len() - next.ended > MAX_CHUNK || !worth {
            break;
        }
        let stays = next.chunk.len() - gone(end);
        *touched += next.chunk.len();
        if left + stays > MAX_CHUNK {
            break;
        }
        left += stays;
        end += 1;
    }
    Some(at..end)
}

/// Several chunks as one.
struct Merged {
    /// `None` when no row is left.
    chunk: Option<Arc<Chunk>>,
    slots: Vec<u32>,
    ended: usize,
    first_end: Epoch,
    /// The rows that are not in it, with their slots (if they have any).
    dropped: Option<RecordBatch>,
    dropped_slots: Vec<u32>,
    dropped_rows: usize,
}

impl Merged {
    fn new(schema: &SchemaRef, sources: &[(Arc<Chunk>, Vec<u32>)], horizon: Epoch) -> Result<Merged> {
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
