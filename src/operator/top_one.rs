//! The first row of each partition of an input that only grows: the newest, the dearest, one per key.
//!
//! The general [`TopK`](super::top_k::TopK) keeps rows as bytes; here a row stays in the Arrow columns it came in. A
//! partition holds the bytes of its order columns and a reference to its row. While an epoch lasts, the reference
//! leads into the batch the row came in; at its end the rows that are still first are copied into blocks of the
//! operator, and these blocks are what is emitted. So a row is copied at most once, and most are only compared.
//!
//! Boundary: one to three order columns of at most 64 bits; ties are decided by the whole row, as there.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::operator::rows::RowCodec;
use crate::operator::top_k::TopKSpec;
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::store::arrangement::KeyIndex;
use crate::store::arrangement::slab::Slab;
use crate::store::arrangement::words::WordKind;
use crate::zset::builder::{compact_weights, gather};
use crate::zset::{TARGET_ROWS, ZBatch};

/// Bytes of the order columns: nine for each of at most three.
const ORDER_BYTES: usize = 27;
/// Blocks of fewer rows than this are merged once [`TIER_BLOCKS`] of their tier exist.
const TIERS: [usize; 2] = [64, 512];
const TIER_BLOCKS: usize = 16;
/// Most rows that a rewritten block has.
const BLOCK_ROWS: usize = 4 * TARGET_ROWS;

/// Block and row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    block: u32,
    row: u32,
}

impl Place {
    /// The batch of this epoch in which the row is, if it is not in a block yet.
    fn batch(self) -> Option<usize> {
        (self.block >= BATCHES && self.block < MOVING).then(|| (self.block - BATCHES) as usize)
    }
}

const NOWHERE: Place = Place { block: u32::MAX, row: 0 };
/// The block of rows that are being moved to another block.
const MOVING: u32 = u32::MAX - 1;
/// This plus a number is a batch of this epoch.
const BATCHES: u32 = 1 << 31;
/// Longer epochs (first loads) do not keep more of their input than this.
const EPOCH_ROWS: usize = 64 * TARGET_ROWS;
/// Rows of several small batches are copied into one block of about so many.
const SMALL_BLOCK: usize = 1024;

/// What is kept of a partition.
#[derive(Debug, Clone, Copy)]
struct First {
    order: [u8; ORDER_BYTES],
    /// Whether it has changed in this epoch.
    touched: bool,
    place: Place,
    /// Where its first row was when the epoch began.
    before: Place,
}

const NONE: First = First { order: [0; ORDER_BYTES], touched: false, place: NOWHERE, before: NOWHERE };

#[derive(Debug)]
struct Block {
    rows: RecordBatch,
    /// The partition of each row. A row is alive if it is where its partition's row is or was.
    slots: Vec<u32>,
    live: usize,
}

/// The operator. See the module documentation.
#[derive(Debug)]
pub struct TopOne {
    partition: Vec<usize>,
    output_schema: SchemaRef,
    order_codec: RowCodec,
    row_codec: RowCodec,
    index: KeyIndex,
    firsts: Slab<First>,
    touched: Vec<u32>,
    /// The batches of this epoch that have first rows in them.
    batches: Vec<RecordBatch>,
    batch_rows: usize,
    /// Slots whose first row came into the batches; some have been entered more than once.
    arrived: Vec<u32>,
    blocks: Vec<Option<Block>>,
    free_blocks: Vec<u32>,
    tiers: [Vec<u32>; TIERS.len()],
    mostly_dead: Vec<u32>,
    block_bytes: usize,
}

impl TopOne {
    /// Whether this operator computes what `spec` asks for.
    pub fn fits(input: &SchemaRef, spec: &TopKSpec) -> bool {
        let word = |c: usize| input.fields().get(c).is_some_and(|f| WordKind::of(f.data_type()).is_some());
        spec.append_only
            && spec.offset == 0
            && spec.limit == 1
            && !spec.row_number
            && !input.fields().is_empty()
            && (1..=3).contains(&spec.order.len())
            && spec.order.iter().all(|(c, _)| word(*c))
    }

    /// The first row of each partition; `spec` is one that [`TopOne::fits`].
    pub fn new(input: SchemaRef, output_schema: SchemaRef, spec: TopKSpec) -> Result<TopOne> {
        if !TopOne::fits(&input, &spec) {
            return Err(Error::internal("a first row that is not the only one asked for"));
        }
        let mut columns: Vec<(usize, SortOptions)> = vec![];
        let rest = (0..input.fields().len()).map(|c| (c, SortOptions::default()));
        for (column, options) in spec.order.iter().copied().chain(rest) {
            if !columns.iter().any(|(c, _)| *c == column) {
                columns.push((column, options));
            }
        }
        let is_order = |c: usize| spec.order.iter().any(|(o, _)| *o == c);
        let order = columns.iter().copied().filter(|(c, _)| is_order(*c)).collect();
        let types = spec.partition.iter().map(|c| input.field(*c).data_type().clone()).collect();
        Ok(TopOne {
            order_codec: RowCodec::with_columns(&input, order)?,
            row_codec: RowCodec::with_columns(&input, columns)?,
            index: KeyIndex::new(types)?,
            partition: spec.partition,
            output_schema,
            firsts: Slab::new(),
            touched: vec![],
            batches: vec![],
            batch_rows: 0,
            arrived: vec![],
            blocks: vec![],
            free_blocks: vec![],
            tiers: Default::default(),
            mostly_dead: vec![],
            block_bytes: 0,
        })
    }

    /// Compares the rest of row `row` of `rows` with the first row of a partition whose order columns are equal.
    fn compare_whole(&mut self, rows: &RecordBatch, row: usize, first: Place) -> Result<Ordering> {
        let other = match (first.batch(), self.blocks.get(first.block as usize)) {
            (Some(batch), _) => self.batches.get(batch).unwrap_or(rows),
            (None, Some(Some(block))) => &block.rows,
            _ => return Err(Error::internal("the first row of a partition is not there")),
        };
        let other = other.slice(first.row as usize, 1);
        self.row_codec.encode(other.columns())?;
        let other = self.row_codec.row(0).to_vec();
        self.row_codec.encode(rows.slice(row, 1).columns())?;
        Ok(self.row_codec.row(0).cmp(&other))
    }

    fn absorb_rows(&mut self, changes: &ZBatch) -> Result<()> {
        let rows = changes.rows();
        let keys: Vec<ArrayRef> = self.partition.iter().map(|c| Arc::clone(rows.column(*c))).collect();
        let keys = self.index.prepare(&keys, rows.num_rows())?;
        let mut slots = Vec::new();
        self.index.find_or_insert(&keys, &mut slots)?;
        self.firsts.grow(self.index.slot_bound(), NONE);
        self.order_codec.encode(rows.columns())?;
        let here = BATCHES + self.batches.len() as u32;
        let mut any = false;
        for (row, slot) in slots.iter().enumerate() {
            if changes.weight(row) == 0 {
                continue;
            }
            let order = self.order_codec.row(row);
            let first = *self.firsts.get(*slot);
            if first.place != NOWHERE {
                let ahead = match order.cmp(&first.order[..order.len()]) {
                    Ordering::Equal => self.compare_whole(rows, row, first.place)?,
                    other => other,
                };
                if ahead != Ordering::Less {
                    continue;
                }
            }
            any = true;
            if first.place.block != here {
                self.arrived.push(*slot);
                self.replaced(*slot, first);
            }
            let order = self.order_codec.row(row);
            let first = self.firsts.get_mut(*slot);
            first.order[..order.len()].copy_from_slice(order);
            first.place = Place { block: here, row: row as u32 };
        }
        if any {
            self.batches.push(rows.clone());
            self.batch_rows += rows.num_rows();
            if self.batch_rows > EPOCH_ROWS {
                self.settle(|_| Ok(()))?;
            }
        }
        Ok(())
    }

    /// The row of a partition is no longer its first.
    fn replaced(&mut self, slot: u32, first: First) {
        if !first.touched {
            let now = self.firsts.get_mut(slot);
            now.touched = true;
            // It is emitted at the close, and goes then.
            now.before = first.place;
            self.touched.push(slot);
        } else if first.place != NOWHERE {
            self.kill(first.place);
        }
    }

    fn kill(&mut self, place: Place) {
        if let Some(Some(block)) = self.blocks.get_mut(place.block as usize) {
            block.live -= 1;
            if block.live * 2 < block.slots.len() {
                self.mostly_dead.push(place.block);
            }
        }
    }

    /// Copies the rows of the epoch's batches that are first in their partitions into blocks, and shows these.
    fn settle(&mut self, mut show: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let mut rows: Vec<(Place, u32)> = std::mem::take(&mut self.arrived)
            .into_iter()
            .map(|slot| (self.firsts.get(slot).place, slot))
            .filter(|(place, _)| place.batch().is_some())
            .collect();
        rows.sort_unstable_by_key(|(place, _)| (place.block, place.row));
        rows.dedup();
        let batches = std::mem::take(&mut self.batches);
        self.batch_rows = 0;
        let mut rest = rows.as_slice();
        while let Some((first, _)) = rest.first() {
            let mut len = rest.partition_point(|(place, _)| place.block == first.block);
            while len < SMALL_BLOCK && len < rest.len() {
                let next = rest[len].0.block;
                len += rest[len..].partition_point(|(place, _)| place.block == next);
            }
            let (block, later) = rest.split_at(len);
            rest = later;
            let first = (first.block - BATCHES) as usize;
            let last = (block[len - 1].0.block - BATCHES) as usize;
            let copied = if first == last {
                let picks: UInt32Array = block.iter().map(|(place, _)| place.row).collect::<Vec<_>>().into();
                let copied = take_record_batch(&batches[first], &picks)?;
                RecordBatch::try_new(self.output_schema.clone(), copied.columns().to_vec())?
            } else {
                let near: Vec<&RecordBatch> = batches[first..=last].iter().collect();
                let picks: Vec<(usize, usize)> = block
                    .iter()
                    .map(|(place, _)| ((place.block - BATCHES) as usize - first, place.row as usize))
                    .collect();
                gather(&self.output_schema, &near, &picks)?
            };
            show(copied.clone())?;
            self.place_block(copied, block.iter().map(|(_, slot)| *slot).collect());
        }
        Ok(())
    }

    fn place_block(&mut self, rows: RecordBatch, slots: Vec<u32>) {
        let id = self.free_blocks.pop().unwrap_or(self.blocks.len() as u32);
        if id as usize == self.blocks.len() {
            self.blocks.push(None);
        }
        for (row, slot) in slots.iter().enumerate() {
            self.firsts.get_mut(*slot).place = Place { block: id, row: row as u32 };
        }
        if let Some(tier) = TIERS.iter().position(|limit| slots.len() < *limit) {
            self.tiers[tier].push(id);
        }
        self.block_bytes += bytes_of(&rows) + slots.len() * 4;
        self.blocks[id as usize] = Some(Block { rows, live: slots.len(), slots });
    }

    fn take_block(&mut self, id: u32) -> Option<Block> {
        let block = self.blocks.get_mut(id as usize)?.take()?;
        self.block_bytes -= bytes_of(&block.rows) + block.slots.len() * 4;
        self.free_blocks.push(id);
        Some(block)
    }

    /// Rewrites blocks that are mostly dead, and small ones together. Only between epochs.
    fn maintain(&mut self) -> Result<()> {
        let mut rewrite = std::mem::take(&mut self.mostly_dead);
        for (tier, limit) in TIERS.iter().enumerate() {
            if self.tiers[tier].len() >= TIER_BLOCKS {
                let blocks = &self.blocks;
                let small = |id: &u32| blocks[*id as usize].as_ref().is_some_and(|b| b.slots.len() < *limit);
                rewrite.extend(std::mem::take(&mut self.tiers[tier]).into_iter().filter(small));
            }
        }
        rewrite.sort_unstable();
        rewrite.dedup();
        let mut taken: Vec<(RecordBatch, Vec<(u32, u32)>)> = vec![];
        let mut rows = 0;
        for id in rewrite {
            let Some(block) = self.take_block(id) else { continue };
            let is_alive =
                |(row, slot): &(u32, u32)| self.firsts.get(*slot).place == Place { block: id, row: *row };
            let slots = block.slots.iter().enumerate().map(|(row, slot)| (row as u32, *slot));
            let alive: Vec<(u32, u32)> = slots.filter(is_alive).collect();
            // The number of the block may be given out again before its rows have found their new place.
            for (_, slot) in &alive {
                self.firsts.get_mut(*slot).place = Place { block: MOVING, row: 0 };
            }
            rows += alive.len();
            taken.push((block.rows, alive));
            if rows >= BLOCK_ROWS {
                self.merge(std::mem::take(&mut taken))?;
                rows = 0;
            }
        }
        self.merge(taken)
    }

    fn merge(&mut self, taken: Vec<(RecordBatch, Vec<(u32, u32)>)>) -> Result<()> {
        let number = |(at, (_, alive)): (usize, &(RecordBatch, Vec<(u32, u32)>))| {
            alive.iter().map(|(row, _)| (at, *row as usize)).collect::<Vec<_>>()
        };
        let picks: Vec<(usize, usize)> = taken.iter().enumerate().flat_map(number).collect();
        if picks.is_empty() {
            return Ok(());
        }
        let batches: Vec<&RecordBatch> = taken.iter().map(|(rows, _)| rows).collect();
        let rows = gather(&batches[0].schema(), &batches, &picks)?;
        let slots = taken.iter().flat_map(|(_, alive)| alive.iter().map(|(_, slot)| *slot)).collect();
        self.place_block(rows, slots);
        Ok(())
    }

    /// Emits rows of blocks, all with the same weight.
    fn emit(&self, places: &[Place], weight: i64, out: &mut Output) -> Result<()> {
        for places in places.chunks(TARGET_ROWS) {
            // Where each block stands among those that are gathered from.
            let mut numbers: Vec<u32> = places.iter().map(|p| p.block).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let mut batches: Vec<&RecordBatch> = Vec::with_capacity(numbers.len());
            for id in &numbers {
                match self.blocks.get(*id as usize) {
                    Some(Some(block)) => batches.push(&block.rows),
                    _ => return Err(Error::internal("a row to emit is not there")),
                }
            }
            let number = |block: u32| numbers.partition_point(|n| *n < block);
            let picks: Vec<(usize, usize)> =
                places.iter().map(|p| (number(p.block), p.row as usize)).collect();
            let rows = gather(&self.output_schema, &batches, &picks)?;
            out.push(ZBatch::try_new(rows, compact_weights(vec![weight; places.len()]))?);
        }
        Ok(())
    }
}

fn bytes_of(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|c| c.get_buffer_memory_size()).sum()
}

impl Operator for TopOne {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn absorb(&mut self, _port: usize, changes: ZBatch, _out: &mut Output) -> Result<Progress> {
        if changes.weights().is_some_and(|w| w.values().iter().any(|w| *w < 0)) {
            return Err(Error::internal("an append-only input took a row back"));
        }
        if !changes.is_empty() {
            self.absorb_rows(&changes)?;
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, _time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress> {
        let touched = std::mem::take(&mut self.touched);
        let places = |of: fn(&First) -> Place| -> Vec<Place> {
            touched.iter().map(|slot| of(self.firsts.get(*slot))).collect()
        };
        let (mut gone, mut settled) = (places(|f| f.before), places(|f| f.place));
        gone.retain(|place| *place != NOWHERE);
        // What a long epoch has moved into blocks before its end.
        settled.retain(|place| place.batch().is_none());
        self.emit(&gone, -1, out)?;
        self.emit(&settled, 1, out)?;
        self.settle(|rows| {
            out.push(ZBatch::inserts(rows));
            Ok(())
        })?;
        for slot in touched {
            let first = self.firsts.get_mut(slot);
            first.touched = false;
            let before = std::mem::replace(&mut first.before, NOWHERE);
            if before != NOWHERE {
                self.kill(before);
            }
        }
        self.maintain()?;
        Ok(Progress::Done)
    }

    fn state_bytes(&self) -> usize {
        self.index.bytes() + self.firsts.bytes() + self.block_bytes
    }

    fn state_rows(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::operator::testing::{Relation, cut, epoch, random_row, schema};
    use crate::operator::top_k::TopK;

    fn spec(rng: &mut StdRng) -> TopKSpec {
        let options = SortOptions { descending: rng.random_bool(0.5), nulls_first: rng.random_bool(0.5) };
        TopKSpec {
            partition: if rng.random_bool(0.8) { vec![0] } else { vec![] },
            order: vec![(if rng.random_bool(0.8) { 1 } else { 0 }, options)],
            offset: 0,
            limit: 1,
            row_number: false,
            append_only: true,
        }
    }

    fn check(seed: u64, epochs: i64, rows: usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let spec = spec(&mut rng);
        let mut one = TopOne::new(schema(), schema(), spec.clone()).unwrap();
        let mut all = TopK::new(schema(), schema(), spec).unwrap();
        for now in 0..epochs {
            let changes: Vec<_> = (0..rng.random_range(0..=rows))
                .map(|_| (random_row(&mut rng), rng.random_range(0..3)))
                .collect();
            let batches = cut(&mut rng, &changes);
            let out = epoch(&mut one, batches.clone(), now, i64::MIN);
            let expected = epoch(&mut all, batches, now, i64::MIN);
            let (mut is, mut should) = (Relation::default(), Relation::default());
            is.add_batches(&out.rows);
            should.add_batches(&expected.rows);
            assert_eq!(is, should, "seed {seed}, epoch {now}");
            let live: usize = one.blocks.iter().flatten().map(|b| b.live).sum();
            let kept: BTreeMap<u32, Place> =
                (0..one.index.slot_bound() as u32).map(|s| (s, one.firsts.get(s).place)).collect();
            assert_eq!(live, kept.values().filter(|p| **p != NOWHERE).count(), "seed {seed}");
            let held: usize = one.blocks.iter().flatten().map(|b| b.slots.len()).sum();
            assert!(held <= 2 * live + 1, "{held} rows held for {live}, seed {seed}");
        }
    }

    #[test]
    fn it_emits_what_the_general_operator_emits() {
        (0..400).for_each(|seed| check(seed, 8, 30));
    }

    #[test]
    fn blocks_are_merged_over_many_small_epochs() {
        (0..10).for_each(|seed| check(seed, 120, 5));
    }
}
