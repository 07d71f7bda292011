//! The first row of each partition of an input that only grows: the newest, the dearest, one per key.
//!
//! The general [`TopK`](super::top_k::TopK) keeps rows as bytes; here a row stays in the Arrow columns it came in. A
//! partition holds the bytes of its order columns and a reference to its row, so that a row is copied once when it
//! becomes the first and once when it is emitted, and rows that do not are only compared.
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
const TIERS: [usize; 3] = [64, 512, 4096];
const TIER_BLOCKS: usize = 16;
/// Most rows that a rewritten block has.
const BLOCK_ROWS: usize = 4 * TARGET_ROWS;

/// Block and row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    block: u32,
    row: u32,
}

const NOWHERE: Place = Place { block: u32::MAX, row: 0 };
/// The block of rows of the batch at hand.
const HERE: u32 = u32::MAX - 1;

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
            blocks: vec![],
            free_blocks: vec![],
            tiers: Default::default(),
            mostly_dead: vec![],
            block_bytes: 0,
        })
    }

    /// Compares the rest of row `row` of `rows` with the first row of a partition whose order columns are equal.
    fn compare_whole(&mut self, rows: &RecordBatch, row: usize, first: Place) -> Result<Ordering> {
        let other = match self.blocks.get(first.block as usize) {
            _ if first.block == HERE => rows,
            Some(Some(block)) => &block.rows,
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
        let mut chosen: Vec<u32> = vec![];
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
            if first.place.block != HERE {
                chosen.push(*slot);
                self.replaced(*slot, first);
            }
            let order = self.order_codec.row(row);
            let first = self.firsts.get_mut(*slot);
            first.order[..order.len()].copy_from_slice(order);
            first.place = Place { block: HERE, row: row as u32 };
        }
        self.keep(rows, chosen)
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

    /// Keeps the rows of this batch that are first in their partitions.
    fn keep(&mut self, rows: &RecordBatch, chosen: Vec<u32>) -> Result<()> {
        if chosen.is_empty() {
            return Ok(());
        }
        let picks: UInt32Array =
            chosen.iter().map(|s| self.firsts.get(*s).place.row).collect::<Vec<_>>().into();
        let rows = take_record_batch(rows, &picks)?;
        self.place_block(rows, chosen);
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
        self.block_bytes += bytes_of(&rows);
        self.blocks[id as usize] = Some(Block { rows, live: slots.len(), slots });
    }

    fn take_block(&mut self, id: u32) -> Option<Block> {
        let block = self.blocks.get_mut(id as usize)?.take()?;
        self.block_bytes -= bytes_of(&block.rows);
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
                self.firsts.get_mut(*slot).place = Place { block: HERE, row: 0 };
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

    /// Emits rows with their weights.
    fn emit(&self, changes: &[(Place, i64)], out: &mut Output) -> Result<()> {
        // Where each block stands among those that are gathered from.
        let mut numbers: Vec<u32> = changes.iter().map(|(p, _)| p.block).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut batches: Vec<&RecordBatch> = Vec::with_capacity(numbers.len());
        for id in &numbers {
            match self.blocks.get(*id as usize) {
                Some(Some(block)) => batches.push(&block.rows),
                _ => return Err(Error::internal("a row to emit is not there")),
            }
        }
        let picks: Vec<(usize, usize)> = changes
            .iter()
            .map(|(p, _)| (numbers.partition_point(|n| *n < p.block), p.row as usize))
            .collect();
        let rows = gather(&self.output_schema, &batches, &picks)?;
        out.push(ZBatch::try_new(rows, compact_weights(changes.iter().map(|(_, w)| *w).collect()))?);
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
        for slots in touched.chunks(TARGET_ROWS / 2) {
            let mut changes = Vec::with_capacity(2 * slots.len());
            for slot in slots {
                let first = self.firsts.get(*slot);
                if first.before != NOWHERE {
                    changes.push((first.before, -1));
                }
                changes.push((first.place, 1));
            }
            self.emit(&changes, out)?;
        }
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
        let slots: usize = self.blocks.iter().flatten().map(|b| b.slots.capacity() * 4).sum();
        self.index.bytes() + self.firsts.bytes() + self.block_bytes + slots
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
