//! Numbers for the texts of a key column, so that a key of texts and words is as cheap as one of words.
//!
//! Boundary: texts and how often keys use them; a text that no key uses any more loses its number.

use arrow::array::{Array, ArrayRef, AsArray, GenericBinaryArray, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;

use crate::error::{Error, ErrorKind, Result};

use super::arena::{Arena, NOWHERE};
use super::slab::Slab;
use super::table::{NONE, ShardedTable, tag_of};

/// Stands for a text that has no number; no key holds it.
pub const UNKNOWN: u64 = u64::MAX;

/// A text (or bytea) column of a batch of keys, with the hash of each value.
#[derive(Debug)]
pub struct TextColumn {
    offsets: OffsetBuffer<i32>,
    data: Buffer,
    hashes: Vec<u64>,
}

impl TextColumn {
    /// The column; `hashes` are the hashes of its values.
    pub fn new(column: &ArrayRef, hashes: Vec<u64>) -> TextColumn {
        let (offsets, data) = match column.data_type() {
            DataType::Binary => {
                let a = column.as_binary::<i32>();
                (a.offsets().clone(), a.values().clone())
            }
            _ => {
                let a = column.as_string::<i32>();
                (a.offsets().clone(), a.values().clone())
            }
        };
        TextColumn { offsets, data, hashes }
    }

    #[inline]
    fn bytes(&self, i: usize) -> &[u8] {
        &self.data[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}

/// Whether a column of this type can have its values numbered.
pub fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::Binary)
}

/// The texts of a key column by number.
#[derive(Debug, Default)]
pub struct Texts {
    table: ShardedTable,
    places: Slab<u64>,
    /// How many keys use each text.
    uses: Slab<u32>,
    hashes: Slab<u64>,
    arena: Arena,
    free: Vec<u32>,
}

impl Texts {
    fn find(&self, hash: u64, bytes: &[u8]) -> u32 {
        self.table.find(tag_of(hash), |id| self.arena.get(*self.places.get(id)) == bytes)
    }

    /// The number of each text of a column, [`UNKNOWN`] for those that have none. Neighbours are often equal.
    pub fn numbers(&self, column: &TextColumn, mut put: impl FnMut(usize, u64)) {
        let mut last: Option<(u64, &[u8], u64)> = None;
        for (i, hash) in column.hashes.iter().enumerate() {
            let bytes = column.bytes(i);
            let number = match last {
                Some((h, b, number)) if h == *hash && b == bytes => number,
                _ => match self.find(*hash, bytes) {
                    NONE => UNKNOWN,
                    id => u64::from(id),
                },
            };
            last = Some((*hash, bytes, number));
            put(i, number);
        }
    }

    /// Gives a number to value `i` of a column, unless it has one.
    pub fn add(&mut self, column: &TextColumn, i: usize) -> Result<u64> {
        let (hash, bytes) = (column.hashes[i], column.bytes(i));
        let known = self.find(hash, bytes);
        if known != NONE {
            return Ok(u64::from(known));
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.places.len() as u64 >= u64::from(NONE) => {
                return Err(Error::new(ErrorKind::ProgramLimit, "too many texts in one operator"));
            }
            None => {
                self.places.push(NOWHERE);
                self.uses.push(0);
                self.hashes.push(0);
                self.places.len() as u32 - 1
            }
        };
        *self.places.get_mut(id) = self.arena.add(bytes);
        *self.hashes.get_mut(id) = hash;
        self.table.insert(tag_of(hash), id);
        Ok(u64::from(id))
    }

    /// A key uses the text of this number.
    pub fn take_up(&mut self, number: u64) {
        *self.uses.get_mut(number as u32) += 1;
    }

    /// A key uses the text no longer.
    pub fn let_go(&mut self, number: u64) {
        let id = number as u32;
        let uses = self.uses.get_mut(id);
        *uses -= 1;
        if *uses == 0 {
            self.table.remove(tag_of(*self.hashes.get(id)), id);
            self.arena.remove(std::mem::replace(self.places.get_mut(id), NOWHERE));
            self.free.push(id);
        }
    }

    /// Moves the texts together if too much of their memory is dead.
    pub fn maintain(&mut self) {
        if !self.arena.wants_rewrite() {
            return;
        }
        let old = std::mem::take(&mut self.arena);
        for id in 0..self.places.len() as u32 {
            let place = self.places.get_mut(id);
            if *place != NOWHERE {
                *place = self.arena.add(old.get(*place));
            }
        }
    }

    /// The column of type `t` whose values have these numbers.
    pub fn column(
        &self,
        t: &DataType,
        numbers: impl ExactSizeIterator<Item = u64>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        let mut bytes: Vec<u8> = Vec::with_capacity(numbers.len() * 12);
        let mut offsets = Vec::with_capacity(numbers.len() + 1);
        offsets.push(0_i32);
        for (i, number) in numbers.enumerate() {
            if nulls.as_ref().is_none_or(|n| n.is_valid(i)) {
                bytes.extend_from_slice(self.arena.get(*self.places.get(number as u32)));
            }
            let end = i32::try_from(bytes.len());
            offsets.push(end.map_err(|_| Error::new(ErrorKind::ProgramLimit, "too much text in one batch"))?);
        }
        let (offsets, bytes) = (OffsetBuffer::new(offsets.into()), Buffer::from_vec(bytes));
        Ok(match t {
            DataType::Binary => {
                std::sync::Arc::new(GenericBinaryArray::<i32>::try_new(offsets, bytes, nulls)?)
            }
            _ => std::sync::Arc::new(StringArray::try_new(offsets, bytes, nulls)?),
        })
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
            + self.places.bytes()
            + self.uses.bytes()
            + self.hashes.bytes()
            + self.arena.bytes()
            + self.free.capacity() * 4
    }
}
