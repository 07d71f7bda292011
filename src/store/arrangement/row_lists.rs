//! Rows per key, kept as references into shared Arrow blocks.
//!
//! A batch of rows is kept as it came (a block); a key's list holds (block, row, weight). A key with one row has
//! its entry inline, so unique keys cost no list. Deletes find the equal row in the list; blocks that are mostly
//! dead, or very small, are rewritten together.
//!
//! Boundary: keeps, finds and forgets rows; joining them is the operator's affair.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};

use crate::error::Result;
use crate::zset::builder::{gather, rows_without_columns};
use crate::zset::key::hash_columns;

use super::slab::Slab;
use super::table::NONE;
use super::{KeyBatch, KeyIndex};

/// Most rows of one block; [`RowLists::apply`] takes no larger batch.
pub const BLOCK_ROWS: usize = 1 << 16;
/// The position of a key's inline entry.
const FIRST: u32 = u32::MAX - 1;
/// Blocks of fewer rows than this are merged once [`TIER_BLOCKS`] of their tier exist.
const TIERS: [usize; 2] = [64, 512];
const TIER_BLOCKS: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Entry {
    next: u32,
    /// `NONE` in an inline entry: the list is empty.
    block: u32,
    weight: i32,
    row: u16,
    /// Part of the row's hash; 0: not computed.
    hash: u16,
}

const VACANT: Entry = Entry { next: NONE, block: NONE, weight: 0, row: 0, hash: 0 };

/// When rows of a block expire: times, and rows in the order of their times from `due` on.
#[derive(Debug)]
struct Expiry {
    times: Vec<i64>,
    order: Vec<u16>,
    due: usize,
}

impl Expiry {
    fn new(times: Vec<i64>) -> Expiry {
        let mut order: Vec<u16> = (0..times.len()).map(|i| i as u16).collect();
        order.sort_by_key(|i| times[*i as usize]);
        Expiry { times, order, due: 0 }
    }
    fn next(&self) -> Option<i64> {
        self.order.get(self.due).map(|i| self.times[*i as usize]).filter(|t| *t != i64::MAX)
    }
}

#[derive(Debug)]
struct Block {
    rows: RecordBatch,
    /// The key slot of each row, `NONE` when the row is dead.
    slots: Vec<u32>,
    live: usize,
    expiry: Option<Expiry>,
}

impl Block {
    fn bytes(&self) -> usize {
        self.rows.get_array_memory_size()
            + self.slots.capacity() * 4
            + self.expiry.as_ref().map_or(0, |e| e.times.capacity() * 8 + e.order.capacity() * 2)
    }
}

/// Pairs of (row of the probing batch, kept row) with the weight of the kept row.
#[derive(Debug, Default)]
pub struct Matches {
    /// Row of the probing batch.
    pub probe: Vec<u32>,
    /// Block and row of the kept row.
    pub kept: Vec<(u32, u32)>,
    /// Weight of the kept row.
    pub weights: Vec<i32>,
}

/// Where a walk over the lists of a batch's keys stands.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cursor {
    row: usize,
    /// Next key slot, in a walk over everything.
    slot: u32,
    /// Next entry of the list of `row`; `None`: from its beginning.
    entry: Option<u32>,
}

/// Multisets of rows by key.
#[derive(Debug)]
pub struct RowLists {
    index: KeyIndex,
    schema: SchemaRef,
    first: Slab<Entry>,
    more: Slab<Entry>,
    free_more: Vec<u32>,
    blocks: Vec<Option<Block>>,
    free_blocks: Vec<u32>,
    tiers: [Vec<u32>; TIERS.len()],
    mostly_dead: Vec<u32>,
    due: BTreeSet<(i64, u32)>,
    emptied: Vec<u32>,
    entries: usize,
    negatives: usize,
    /// Bytes of all blocks, kept up to date because the size of the state is asked for in every epoch.
    block_bytes: usize,
}

impl RowLists {
    /// No rows yet; keys have these types, rows this schema.
    pub fn new(key_types: Vec<DataType>, schema: SchemaRef) -> Result<RowLists> {
        Ok(RowLists {
            index: KeyIndex::new(key_types)?,
            schema,
            first: Slab::new(),
            more: Slab::new(),
            free_more: Vec::new(),
            blocks: Vec::new(),
            free_blocks: Vec::new(),
            tiers: Default::default(),
            mostly_dead: Vec::new(),
            due: BTreeSet::new(),
            emptied: Vec::new(),
            entries: 0,
            negatives: 0,
            block_bytes: 0,
        })
    }

    /// Lays out keys for this (or another) index over keys of the same types.
    pub fn prepare(&self, columns: &[ArrayRef], rows: usize) -> Result<KeyBatch> {
        self.index.prepare(columns, rows)
    }
    /// Number of kept rows.
    pub fn len(&self) -> usize {
        self.entries
    }
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
    /// Columns of the kept rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    /// Whether any row is kept with a negative weight, which after an epoch means a retraction of a row never seen.
    pub fn has_negative(&self) -> bool {
        self.negatives > 0
    }

    /// Adds a change of at most [`BLOCK_ROWS`] rows: `keys` are the rows' keys, `expires` the moment of each
    /// row after which it may go (`i64::MAX`: never).
    pub fn apply(
        &mut self,
        keys: &KeyBatch,
        rows: &RecordBatch,
        weights: Option<&[i64]>,
        expires: Option<Vec<i64>>,
    ) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let mut slots = Vec::new();
        self.index.find_or_insert(keys, &mut slots)?;
        self.first.grow(self.index.slot_bound(), VACANT);
        let id = self.free_blocks.pop().unwrap_or(self.blocks.len() as u32);
        if id as usize == self.blocks.len() {
            self.blocks.push(None);
        }
        let simple = self.negatives == 0 && weights.is_none_or(|w| w.iter().all(|w| *w == 1));
        let (appended, block_slots, dead) = if simple {
            for (row, slot) in slots.iter().enumerate() {
                self.add(*slot, Entry { next: NONE, block: id, weight: 1, row: row as u16, hash: 0 });
            }
            (None, slots, 0)
        } else {
            let (appended, slots, dead) = self.apply_mixed(id, rows, &slots, weights)?;
            (Some(appended), slots, dead)
        };
        self.keep_block(id, rows, appended, block_slots, dead, expires)?;
        self.drop_emptied()?;
        self.maintain()
    }

    /// Applies rows of any weight one by one: a row that cancels a kept one is not kept itself.
    /// Returns which rows of the batch make the block, their key slots, and how many died again.
    fn apply_mixed(
        &mut self,
        id: u32,
        rows: &RecordBatch,
        slots: &[u32],
        weights: Option<&[i64]>,
    ) -> Result<(Vec<u32>, Vec<u32>, usize)> {
        let mut hashes = Vec::new();
        hash_columns(rows.columns(), &mut hashes);
        hashes.resize(rows.num_rows(), 1);
        let weight = |i: usize| weights.map_or(1, |w| w[i]);
        let mut block = Building { id, rows, appended: vec![], slots: vec![], dead: 0 };
        // Insertions first: a retraction finds its row though it stands before it in the batch.
        for positive in [true, false] {
            for i in (0..rows.num_rows()).filter(|i| weight(*i) != 0 && (weight(*i) > 0) == positive) {
                let hash = (hashes[i] >> 16) as u16 | 1;
                let mut left = weight(i);
                if !positive || self.negatives > 0 {
                    left = self.cancel(slots[i], left, i, hash, &mut block);
                }
                while left != 0 {
                    let part = left.clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32;
                    left -= i64::from(part);
                    if block.appended.len() == BLOCK_ROWS {
                        return Err(crate::error::Error::new(
                            crate::error::ErrorKind::ProgramLimit,
                            "a row occurs too often to be joined",
                        ));
                    }
                    let row = block.appended.len() as u16;
                    block.appended.push(i as u32);
                    block.slots.push(slots[i]);
                    self.add(slots[i], Entry { next: NONE, block: id, weight: part, row, hash });
                }
            }
        }
        Ok((block.appended, block.slots, block.dead))
    }

    /// Lets weight `left` of row `i` cancel kept equal rows of the opposite sign; returns what remains.
    fn cancel(&mut self, slot: u32, mut left: i64, i: usize, hash: u16, block: &mut Building<'_>) -> i64 {
        while left != 0 {
            let Some((previous, at)) = self.find_equal(slot, left < 0, i, hash, block) else { break };
            let entry = if at == FIRST { self.first.get_mut(slot) } else { self.more.get_mut(at) };
            let was_negative = entry.weight < 0;
            let part = left.abs().min(i64::from(entry.weight).abs()) as i32 * if left < 0 { -1 } else { 1 };
            entry.weight += part;
            left -= i64::from(part);
            if entry.weight == 0 {
                let gone = *entry;
                self.negatives -= usize::from(was_negative);
                self.unlink(slot, previous, at);
                if gone.block == block.id {
                    block.slots[gone.row as usize] = NONE;
                    block.dead += 1;
                } else {
                    self.kill(gone.block, gone.row);
                }
            }
        }
        left
    }

    fn find_equal(
        &self,
        slot: u32,
        positive: bool,
        i: usize,
        hash: u16,
        block: &Building<'_>,
    ) -> Option<(u32, u32)> {
        let (mut previous, mut at) = (NONE, FIRST);
        let mut entry = self.first.get(slot);
        if entry.block == NONE {
            return None;
        }
        loop {
            if (entry.weight > 0) == positive && (entry.hash == hash || entry.hash == 0) {
                let equal = if entry.block == block.id {
                    rows_equal(block.rows, block.appended[entry.row as usize] as usize, block.rows, i)
                } else {
                    let kept = self.blocks[entry.block as usize].as_ref();
                    kept.is_some_and(|b| rows_equal(&b.rows, entry.row as usize, block.rows, i))
                };
                if equal {
                    return Some((previous, at));
                }
            }
            if entry.next == NONE {
                return None;
            }
            (previous, at) = (at, entry.next);
            entry = self.more.get(at);
        }
    }

    #[inline]
    fn add(&mut self, slot: u32, entry: Entry) {
        self.entries += 1;
        self.negatives += usize::from(entry.weight < 0);
        let first = self.first.get_mut(slot);
        if first.block == NONE {
            *first = entry;
            return;
        }
        let id = self.free_more.pop().unwrap_or(self.more.len() as u32);
        let next = std::mem::replace(&mut first.next, id);
        self.more.put(id, Entry { next, ..entry });
    }

    fn unlink(&mut self, slot: u32, previous: u32, at: u32) {
        self.entries -= 1;
        if at == FIRST {
            let next = self.first.get(slot).next;
            if next == NONE {
                *self.first.get_mut(slot) = VACANT;
                self.emptied.push(slot);
            } else {
                *self.first.get_mut(slot) = *self.more.get(next);
                self.free_more.push(next);
            }
        } else {
            let next = self.more.get(at).next;
            if previous == FIRST {
                self.first.get_mut(slot).next = next;
            } else {
                self.more.get_mut(previous).next = next;
            }
            self.free_more.push(at);
        }
    }

    fn kill(&mut self, block: u32, row: u16) {
        if let Some(b) = &mut self.blocks[block as usize] {
            b.slots[row as usize] = NONE;
            b.live -= 1;
            if b.live == 0 || b.live * 2 + 2 == b.slots.len() || b.live * 2 + 1 == b.slots.len() {
                self.mostly_dead.push(block);
            }
        }
    }

    fn keep_block(
        &mut self,
        id: u32,
        rows: &RecordBatch,
        appended: Option<Vec<u32>>,
        slots: Vec<u32>,
        dead: usize,
        expires: Option<Vec<i64>>,
    ) -> Result<()> {
        let live = slots.len() - dead;
        if live == 0 {
            self.free_blocks.push(id);
            return Ok(());
        }
        let (rows, expires) = match appended {
            None => (owned(rows)?, expires),
            Some(picks) => {
                let expires = expires.map(|e| picks.iter().map(|i| e[*i as usize]).collect());
                (take(rows, picks)?, expires)
            }
        };
        self.place_block(id, Block { rows, slots, live, expiry: expires.map(Expiry::new) });
        if dead > live {
            self.mostly_dead.push(id);
        }
        Ok(())
    }

    fn place_block(&mut self, id: u32, block: Block) {
        if let Some(tier) = TIERS.iter().position(|limit| block.live < *limit) {
            self.tiers[tier].push(id);
        }
        if let Some(time) = block.expiry.as_ref().and_then(Expiry::next) {
            self.due.insert((time, id));
        }
        self.block_bytes += block.bytes();
        self.blocks[id as usize] = Some(block);
    }

    fn take_block(&mut self, id: u32) -> Option<Block> {
        let block = self.blocks[id as usize].take()?;
        self.block_bytes -= block.bytes();
        Some(block)
    }

    fn drop_emptied(&mut self) -> Result<()> {
        let mut emptied = std::mem::take(&mut self.emptied);
        if !emptied.is_empty() {
            emptied.sort_unstable();
            emptied.dedup();
            emptied.retain(|s| self.first.get(*s).block == NONE);
            self.index.remove(&emptied)?;
        }
        Ok(())
    }

    /// Drops dead blocks and rewrites mostly dead and small ones.
    fn maintain(&mut self) -> Result<()> {
        let mut rewrite = Vec::new();
        for id in std::mem::take(&mut self.mostly_dead) {
            match &self.blocks[id as usize] {
                Some(b) if b.live == 0 => self.free_block(id),
                Some(b) if b.live * 2 < b.slots.len() => rewrite.push(id),
                _ => {}
            }
        }
        for (tier, limit) in TIERS.iter().enumerate() {
            if self.tiers[tier].len() >= TIER_BLOCKS {
                let mut ids = std::mem::take(&mut self.tiers[tier]);
                ids.sort_unstable();
                ids.dedup();
                ids.retain(|id| self.blocks[*id as usize].as_ref().is_some_and(|b| b.live < *limit));
                if ids.len() >= TIER_BLOCKS / 2 {
                    rewrite.extend(ids);
                } else {
                    self.tiers[tier] = ids;
                }
            }
        }
        rewrite.sort_unstable();
        rewrite.dedup();
        let mut rest = rewrite.as_slice();
        while !rest.is_empty() {
            let (mut n, mut rows) = (0, 0);
            while n < rest.len() {
                rows += self.blocks[rest[n] as usize].as_ref().map_or(0, |b| b.live);
                if n > 0 && rows > BLOCK_ROWS {
                    break;
                }
                n += 1;
            }
            self.rewrite(&rest[..n])?;
            rest = &rest[n..];
        }
        Ok(())
    }

    fn free_block(&mut self, id: u32) {
        if let Some(block) = self.take_block(id) {
            if let Some(time) = block.expiry.as_ref().and_then(Expiry::next) {
                self.due.remove(&(time, id));
            }
            self.free_blocks.push(id);
        }
    }

    /// Copies the living rows of some blocks into one new block and redirects their entries.
    fn rewrite(&mut self, ids: &[u32]) -> Result<()> {
        let mut old = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(block) = self.take_block(*id) {
                if let Some(time) = block.expiry.as_ref().and_then(Expiry::next) {
                    self.due.remove(&(time, *id));
                }
                old.push((*id, block));
            }
        }
        // New row of each old row, by old block.
        let mut moved: Vec<Vec<u32>> = Vec::with_capacity(old.len());
        let (mut picks, mut slots, mut times) = (vec![], vec![], vec![]);
        for (k, (_, block)) in old.iter().enumerate() {
            let mut to = vec![NONE; block.slots.len()];
            for (row, slot) in block.slots.iter().enumerate().filter(|(_, s)| **s != NONE) {
                to[row] = picks.len() as u32;
                picks.push((k, row));
                slots.push(*slot);
                times.extend(block.expiry.as_ref().map(|e| e.times[row]));
            }
            moved.push(to);
        }
        let batches: Vec<&RecordBatch> = old.iter().map(|(_, b)| &b.rows).collect();
        let rows = owned(&gather(&self.schema, &batches, &picks)?)?;
        // The smallest of the freed numbers names the new block, so its entries differ from all old ones only by row;
        // each list is therefore visited exactly once.
        self.free_blocks.extend(ids.iter().skip(1));
        let id = ids[0];
        let mut visit = slots.clone();
        visit.sort_unstable();
        visit.dedup();
        for slot in visit {
            let mut at = FIRST;
            loop {
                let entry = if at == FIRST { self.first.get_mut(slot) } else { self.more.get_mut(at) };
                if let Ok(k) = ids.binary_search(&entry.block) {
                    entry.row = moved[k][entry.row as usize] as u16;
                    entry.block = id;
                }
                if entry.next == NONE {
                    break;
                }
                at = entry.next;
            }
        }
        let expiry = (!times.is_empty()).then(|| Expiry::new(times));
        self.place_block(id, Block { rows, live: slots.len(), slots, expiry });
        Ok(())
    }

    /// The key slot of each probing key, [`NONE`] where nothing is kept.
    pub fn find(&self, keys: &KeyBatch, slots: &mut Vec<u32>) {
        self.index.find(keys, slots);
    }

    /// Walks the lists of `slots` from `cursor` on and appends matches until `limit` are there; says whether the
    /// walk is over. Nothing may be applied between the steps of one walk.
    pub fn walk(&self, slots: &[u32], cursor: &mut Cursor, limit: usize, out: &mut Matches) -> bool {
        while cursor.row < slots.len() {
            let slot = slots[cursor.row];
            if slot == NONE {
                cursor.row += 1;
                continue;
            }
            if out.probe.len() >= limit {
                return false;
            }
            let entry = match cursor.entry {
                None => self.first.get(slot),
                Some(at) => self.more.get(at),
            };
            out.probe.push(cursor.row as u32);
            out.kept.push((entry.block, u32::from(entry.row)));
            out.weights.push(entry.weight);
            if entry.next == NONE {
                cursor.row += 1;
                cursor.entry = None;
            } else {
                cursor.entry = Some(entry.next);
            }
        }
        true
    }

    /// Like [`RowLists::walk`], but every one of `rows` probing rows meets every kept row.
    pub fn walk_all(&self, rows: usize, cursor: &mut Cursor, limit: usize, out: &mut Matches) -> bool {
        let bound = self.index.slot_bound() as u32;
        while cursor.row < rows {
            while cursor.slot < bound {
                let entry = match cursor.entry {
                    None => self.first.get(cursor.slot),
                    Some(at) => self.more.get(at),
                };
                if entry.block != NONE {
                    if out.probe.len() >= limit {
                        return false;
                    }
                    out.probe.push(cursor.row as u32);
                    out.kept.push((entry.block, u32::from(entry.row)));
                    out.weights.push(entry.weight);
                }
                cursor.entry = (entry.next != NONE).then_some(entry.next);
                cursor.slot += u32::from(cursor.entry.is_none());
            }
            cursor.slot = 0;
            cursor.row += 1;
        }
        true
    }

    /// The given columns of kept rows.
    pub fn gather(&self, kept: &[(u32, u32)], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        if columns.is_empty() {
            return Ok(vec![]);
        }
        if kept.is_empty() {
            return Ok(columns
                .iter()
                .map(|c| arrow::array::new_empty_array(self.schema.field(*c).data_type()))
                .collect());
        }
        // Blocks in the order of their first use, so that the cost follows the rows and not the blocks.
        let mut numbers = hashbrown::HashMap::<u32, usize>::new();
        let mut dense =
            if self.blocks.len() <= 4 * kept.len() + 64 { vec![NONE; self.blocks.len()] } else { vec![] };
        let mut used: Vec<&RecordBatch> = vec![];
        let mut picks: Vec<(usize, usize)> = Vec::with_capacity(kept.len());
        for (block, row) in kept {
            let mut fresh = || {
                let b = self.blocks[*block as usize].as_ref().expect("an entry refers to a living block");
                used.push(&b.rows);
                used.len() - 1
            };
            let number = if dense.is_empty() {
                *numbers.entry(*block).or_insert_with(fresh)
            } else {
                if dense[*block as usize] == NONE {
                    dense[*block as usize] = fresh() as u32;
                }
                dense[*block as usize] as usize
            };
            picks.push((number, *row as usize));
        }
        if let [only] = used.as_slice() {
            let indices: UInt32Array = kept.iter().map(|k| k.1).collect();
            return columns.iter().map(|c| Ok(compute::take(only.column(*c), &indices, None)?)).collect();
        }
        columns
            .iter()
            .map(|c| {
                let arrays: Vec<&dyn Array> = used.iter().map(|b| b.column(*c).as_ref()).collect();
                Ok(compute::interleave(&arrays, &picks)?)
            })
            .collect()
    }

    /// Forgets the rows whose moment lies before `now`.
    pub fn expire(&mut self, now: i64) -> Result<()> {
        let mut visit = Vec::new();
        while let Some(&(time, id)) = self.due.first() {
            if time >= now {
                break;
            }
            self.due.pop_first();
            let Some(block) = &mut self.blocks[id as usize] else { continue };
            let Some(expiry) = &mut block.expiry else { continue };
            while expiry.next().is_some_and(|t| t < now) {
                let slot = block.slots[expiry.order[expiry.due] as usize];
                visit.extend((slot != NONE).then_some(slot));
                expiry.due += 1;
            }
            if let Some(next) = expiry.next() {
                self.due.insert((next, id));
            }
        }
        visit.sort_unstable();
        visit.dedup();
        for slot in visit {
            self.expire_list(slot, now);
        }
        self.drop_emptied()?;
        self.maintain()
    }

    fn expire_list(&mut self, slot: u32, now: i64) {
        let (mut previous, mut at) = (NONE, FIRST);
        loop {
            let entry = if at == FIRST { *self.first.get(slot) } else { *self.more.get(at) };
            if entry.block == NONE {
                return;
            }
            let expiry = self.blocks[entry.block as usize].as_ref().and_then(|b| b.expiry.as_ref());
            if expiry.is_some_and(|e| e.times[entry.row as usize] < now) {
                self.negatives -= usize::from(entry.weight < 0);
                self.unlink(slot, previous, at);
                self.kill(entry.block, entry.row);
                // The inline entry has been replaced by the next one; otherwise go on behind the removed one.
                if at != FIRST {
                    at = entry.next;
                }
            } else {
                (previous, at) = (at, entry.next);
            }
            if at == NONE {
                return;
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.index.bytes()
            + self.first.bytes()
            + self.more.bytes()
            + self.free_more.capacity() * 4
            + self.blocks.capacity() * size_of::<Option<Block>>()
            + self.block_bytes
    }
}

/// A block while the rows of its batch are applied.
struct Building<'a> {
    id: u32,
    rows: &'a RecordBatch,
    appended: Vec<u32>,
    slots: Vec<u32>,
    dead: usize,
}

fn take(rows: &RecordBatch, picks: Vec<u32>) -> Result<RecordBatch> {
    if rows.num_columns() == 0 {
        return rows_without_columns(&rows.schema(), picks.len());
    }
    Ok(compute::take_record_batch(rows, &UInt32Array::from(picks))?)
}

/// The rows themselves, copied if they are a small part of larger buffers, which would stay in memory with them.
fn owned(rows: &RecordBatch) -> Result<RecordBatch> {
    let needed: usize =
        rows.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(usize::MAX)).sum();
    let held: usize = rows.columns().iter().map(|c| c.get_buffer_memory_size()).sum();
    if held / 2 <= needed.saturating_add(1024) {
        return Ok(rows.clone());
    }
    take(rows, (0..rows.num_rows() as u32).collect())
}

/// Whether two rows of the same columns are equal, NULL being equal to NULL and NaN to NaN.
fn rows_equal(a: &RecordBatch, i: usize, b: &RecordBatch, j: usize) -> bool {
    a.columns().iter().zip(b.columns()).all(|(a, b)| values_equal(a, i, b, j))
}

fn values_equal(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize) -> bool {
    if a.is_null(i) || b.is_null(j) {
        return a.is_null(i) && b.is_null(j);
    }
    fn primitive<T: ArrowPrimitiveType>(
        a: &ArrayRef,
        i: usize,
        b: &ArrayRef,
        j: usize,
    ) -> Option<(T::Native, T::Native)> {
        Some((a.as_primitive_opt::<T>()?.value(i), b.as_primitive_opt::<T>()?.value(j)))
    }
    let quick = match a.data_type() {
        DataType::Int64 => primitive::<Int64Type>(a, i, b, j).map(|(x, y)| x == y),
        DataType::Int32 => primitive::<Int32Type>(a, i, b, j).map(|(x, y)| x == y),
        DataType::Int16 => primitive::<Int16Type>(a, i, b, j).map(|(x, y)| x == y),
        DataType::Date32 => primitive::<Date32Type>(a, i, b, j).map(|(x, y)| x == y),
        DataType::Decimal128(..) => primitive::<Decimal128Type>(a, i, b, j).map(|(x, y)| x == y),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            primitive::<TimestampMicrosecondType>(a, i, b, j).map(|(x, y)| x == y)
        }
        DataType::Float64 => {
            primitive::<Float64Type>(a, i, b, j).map(|(x, y)| x == y || x.is_nan() && y.is_nan())
        }
        DataType::Float32 => {
            primitive::<Float32Type>(a, i, b, j).map(|(x, y)| x == y || x.is_nan() && y.is_nan())
        }
        DataType::Utf8 => match (a.as_string_opt::<i32>(), b.as_string_opt::<i32>()) {
            (Some(a), Some(b)) => Some(a.value(i) == b.value(j)),
            _ => None,
        },
        DataType::Boolean => match (a.as_boolean_opt(), b.as_boolean_opt()) {
            (Some(a), Some(b)) => Some(a.value(i) == b.value(j)),
            _ => None,
        },
        _ => None,
    };
    quick.unwrap_or_else(|| Arc::ptr_eq(a, b) && i == j || a.slice(i, 1).to_data() == b.slice(j, 1).to_data())
}
