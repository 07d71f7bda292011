//! Rows as operator state: their bytes, and an index from bytes to small numbers.
//!
//! A [`RowIndex`] gives every distinct row a slot number; operators keep what they know of a row in vectors by slot.
//! The bytes live in blocks that are emptied one at a time when most of them is dead, and the table is cut into
//! shards, so that neither growing nor shrinking ever stops the world.
//!
//! Boundary: no weights and no meaning of rows.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::Rows;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::store::arrangement::slab::Slab;
use crate::zset::TARGET_ROWS;
use crate::zset::builder::{gather, rows_without_columns};
use crate::zset::key::{RowEncoder, shard_of};

/// Encodes batches of one schema to rows of bytes and back, the columns in an order of choice.
pub(super) struct RowCodec {
    encoder: RowEncoder,
    schema: SchemaRef,
    /// Input column of each encoded column.
    columns: Vec<usize>,
    rows: Rows,
}

impl RowCodec {
    /// All columns, ascending in their own order.
    pub(super) fn new(schema: &SchemaRef) -> Result<RowCodec> {
        Self::with_columns(schema, (0..schema.fields().len()).map(|c| (c, SortOptions::default())).collect())
    }

    /// Chosen columns in a chosen order. Only a codec of all columns can decode.
    pub(super) fn with_columns(schema: &SchemaRef, columns: Vec<(usize, SortOptions)>) -> Result<RowCodec> {
        let encoder = RowEncoder::with_options(
            columns.iter().map(|(c, o)| (schema.field(*c).data_type().clone(), *o)),
        )?;
        let rows = encoder.empty_rows();
        Ok(RowCodec {
            encoder,
            schema: schema.clone(),
            columns: columns.iter().map(|(c, _)| *c).collect(),
            rows,
        })
    }

    /// Encodes a batch; its rows are read with [`RowCodec::row`] until the next one.
    pub(super) fn encode(&mut self, columns: &[ArrayRef]) -> Result<()> {
        if self.columns.is_empty() {
            return Ok(());
        }
        let chosen: Vec<ArrayRef> = self.columns.iter().map(|&c| ArrayRef::clone(&columns[c])).collect();
        self.encoder.encode_into(&mut self.rows, &chosen)
    }

    /// Row `i` of the encoded batch.
    #[inline]
    pub(super) fn row(&self, i: usize) -> &[u8] {
        if self.columns.is_empty() { &[] } else { self.rows.row(i).data() }
    }

    /// The rows of these bytes as a batch of the schema.
    pub(super) fn decode<'a>(&self, rows: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<RecordBatch> {
        if self.columns.is_empty() {
            return rows_without_columns(&self.schema, rows.len());
        }
        let decoded = self.encoder.decode_bytes(rows)?;
        let mut columns: Vec<(usize, ArrayRef)> = self.columns.iter().copied().zip(decoded).collect();
        columns.sort_by_key(|(c, _)| *c);
        Ok(RecordBatch::try_new(self.schema.clone(), columns.into_iter().map(|(_, a)| a).collect())?)
    }
}

/// Where a row of this epoch's input is, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    batch: u32,
    row: u32,
}

impl Origin {
    /// Not in a batch that is kept.
    pub(super) const NONE: Origin = Origin { batch: u32::MAX, row: 0 };

    /// The origin of row `row`, when this is the one of row 0.
    #[inline]
    pub(super) fn at(self, row: usize) -> Origin {
        if self == Origin::NONE { self } else { Origin { batch: self.batch, row: row as u32 } }
    }
}

/// The input batches of the epoch: a row that comes and is emitted in one epoch is copied from its batch, which is
/// several times faster than decoding its bytes.
#[derive(Debug, Default)]
pub(super) struct EpochBatches {
    batches: Vec<RecordBatch>,
    rows: usize,
}

/// Epochs larger than this (first loads) do not keep more of their input.
const KEPT_ROWS: usize = 64 * TARGET_ROWS;

impl EpochBatches {
    /// Keeps a batch until the epoch is closed and gives the origin of its row 0.
    pub(super) fn keep(&mut self, codec: &RowCodec, batch: &RecordBatch) -> Origin {
        // Equal floats can have different bits; emitted rows must be the same bits each time.
        if codec.encoder.has_floats() || codec.columns.is_empty() || self.rows + batch.num_rows() > KEPT_ROWS
        {
            return Origin::NONE;
        }
        self.rows += batch.num_rows();
        self.batches.push(batch.clone());
        Origin { batch: (self.batches.len() - 1) as u32, row: 0 }
    }

    /// The epoch is closed.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.rows = 0;
    }

    /// A batch of these rows, each from where it is or else from its bytes.
    pub(super) fn gather<'a>(
        &self,
        codec: &RowCodec,
        rows: impl ExactSizeIterator<Item = (Origin, &'a [u8])>,
    ) -> Result<RecordBatch> {
        if self.batches.is_empty() {
            return codec.decode(rows.map(|(_, bytes)| bytes));
        }
        let mut encoded: Vec<&[u8]> = vec![];
        let picks: Vec<(usize, usize)> = rows
            .map(|(origin, bytes)| {
                if origin == Origin::NONE {
                    encoded.push(bytes);
                    (self.batches.len(), encoded.len() - 1)
                } else {
                    (origin.batch as usize, origin.row as usize)
                }
            })
            .collect();
        let decoded = codec.decode(encoded.into_iter())?;
        let batches: Vec<&RecordBatch> = self.batches.iter().chain([&decoded]).collect();
        gather(&codec.schema, &batches, &picks)
    }
}

impl fmt::Debug for RowCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowCodec").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// A time column in µs, whatever kind of time it is.
pub(super) fn micros(array: &ArrayRef) -> Result<Int64Array> {
    match array.data_type() {
        DataType::Int64 => Ok(array.as_primitive::<Int64Type>().clone()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>())
        }
        DataType::Timestamp(_, zone) => {
            // With its zone kept, a cast changes the unit only.
            let in_micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            Ok(in_micros.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>())
        }
        DataType::Date32 | DataType::Date64 => {
            let in_micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            Ok(in_micros.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>())
        }
        other => Err(Error::internal(format!("a column of type {other} is not a time"))),
    }
}

/// What the table holds: 32 bits of the hash, so that growing never reads keys, and the slot.
#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    slot: u32,
}

/// The tag spread over the 64 bits that the table wants.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Default)]
struct Block {
    /// Records: slot (4 bytes), length (4 bytes), key.
    bytes: Vec<u8>,
    dead: usize,
}

const HEADER: usize = 8;
const BLOCK_BYTES: usize = 256 * 1024;
const SHARDS: usize = 256;
const FREE: u64 = u64::MAX;

/// Numbers for distinct rows of bytes. A number is free again once its row is removed.
pub(super) struct RowIndex {
    tables: Vec<HashTable<Entry>>,
    /// Block (high half) and offset (low half) of the record of each slot.
    places: Slab<u64>,
    free_slots: Vec<u32>,
    blocks: Vec<Block>,
    free_blocks: Vec<usize>,
    /// The block that new records go to.
    current: usize,
    block_bytes: usize,
    live: usize,
}

impl RowIndex {
    pub(super) fn new() -> RowIndex {
        Self::with_block_bytes(BLOCK_BYTES)
    }

    fn with_block_bytes(block_bytes: usize) -> RowIndex {
        RowIndex {
            tables: (0..SHARDS).map(|_| HashTable::new()).collect(),
            places: Slab::new(),
            free_slots: vec![],
            blocks: vec![Block::default()],
            free_blocks: vec![],
            current: 0,
            block_bytes,
            live: 0,
        }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// The slot of `key`, and whether it is new.
    #[inline]
    pub(super) fn find_or_insert(&mut self, key: &[u8]) -> (u32, bool) {
        let (shard, tag) = split(xxh3_64(key));
        let found = self.tables[shard]
            .find(spread(tag), |e| e.tag == tag && key_at(&self.blocks, self.places[e.slot as usize]) == key);
        if let Some(entry) = found {
            return (entry.slot, false);
        }
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None => {
                self.places.push(FREE);
                (self.places.len() - 1) as u32
            }
        };
        self.places[slot as usize] = self.append(slot, key);
        self.tables[shard].insert_unique(spread(tag), Entry { tag, slot }, |e| spread(e.tag));
        self.live += 1;
        (slot, true)
    }

    /// The bytes of a row that is in.
    pub(super) fn key(&self, slot: u32) -> &[u8] {
        key_at(&self.blocks, self.places[slot as usize])
    }

    /// Removes a row that is in.
    pub(super) fn remove(&mut self, slot: u32) {
        let place = self.places[slot as usize];
        let key = key_at(&self.blocks, place);
        let (shard, tag) = split(xxh3_64(key));
        let record = HEADER + key.len();
        if let Ok(entry) = self.tables[shard].find_entry(spread(tag), |e| e.slot == slot) {
            entry.remove();
        }
        self.places[slot as usize] = FREE;
        self.free_slots.push(slot);
        self.live -= 1;
        let block = (place >> 32) as usize;
        self.blocks[block].dead += record;
        if block != self.current && self.blocks[block].dead * 2 > self.blocks[block].bytes.len() {
            self.evacuate(block);
        }
    }

    fn append(&mut self, slot: u32, key: &[u8]) -> u64 {
        let full = self.blocks[self.current].bytes.len() + HEADER + key.len() > self.block_bytes;
        if full && !self.blocks[self.current].bytes.is_empty() {
            self.current = match self.free_blocks.pop() {
                Some(block) => block,
                None => {
                    self.blocks.push(Block::default());
                    self.blocks.len() - 1
                }
            };
        }
        let bytes = &mut self.blocks[self.current].bytes;
        let place = ((self.current as u64) << 32) | bytes.len() as u64;
        bytes.extend_from_slice(&slot.to_le_bytes());
        bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        bytes.extend_from_slice(key);
        place
    }

    /// Moves what lives in a block to the current one and frees the block.
    fn evacuate(&mut self, block: usize) {
        let bytes = std::mem::take(&mut self.blocks[block]).bytes;
        let mut offset = 0;
        while offset < bytes.len() {
            let (slot, len) = header(&bytes, offset);
            let key = &bytes[offset + HEADER..offset + HEADER + len];
            if self.places[slot as usize] == ((block as u64) << 32) | offset as u64 {
                self.places[slot as usize] = self.append(slot, key);
            }
            offset += HEADER + len;
        }
        self.free_blocks.push(block);
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(HashTable::allocation_size).sum();
        let blocks: usize = self.blocks.iter().map(|b| b.bytes.capacity()).sum();
        tables + blocks + self.places.bytes() + self.free_slots.capacity() * 4
    }
}

impl fmt::Debug for RowIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowIndex").field("live", &self.live).finish_non_exhaustive()
    }
}

fn split(hash: u64) -> (usize, u32) {
    (usize::from(shard_of(hash)), hash as u32)
}

fn header(bytes: &[u8], offset: usize) -> (u32, usize) {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (word(offset), word(offset + 4) as usize)
}

#[inline]
fn key_at(blocks: &[Block], place: u64) -> &[u8] {
    let bytes = &blocks[(place >> 32) as usize].bytes;
    let offset = (place & u64::from(u32::MAX)) as usize;
    let (_, len) = header(bytes, offset);
    &bytes[offset + HEADER..offset + HEADER + len]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn the_index_behaves_like_a_map_and_gives_back_its_memory() {
        for seed in 0..20 {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let mut index = RowIndex::with_block_bytes(200);
            let mut model: HashMap<Vec<u8>, u32> = HashMap::new();
            for _ in 0..3000 {
                let key = format!(
                    "key {}",
                    "x".repeat(rng.random_range(0..30)) + &rng.random_range(0..9).to_string()
                );
                let key = key.into_bytes();
                if rng.random_bool(0.5) {
                    let (slot, new) = index.find_or_insert(&key);
                    assert_eq!(model.insert(key.clone(), slot), (!new).then_some(slot), "seed {seed}");
                } else if let Some(slot) = model.remove(&key) {
                    index.remove(slot);
                }
                assert_eq!(index.len(), model.len());
            }
            for (key, slot) in &model {
                assert_eq!(index.key(*slot), key, "seed {seed}");
            }
            let bytes: usize = index.blocks.iter().map(|b| b.bytes.len()).sum();
            let live: usize = model.keys().map(|k| k.len() + HEADER).sum();
            assert!(bytes <= 3 * live + 600, "{bytes} bytes for {live}, seed {seed}");
        }
    }
}
