//! The resident state of operators: hash indexes from keys to slots, columnar slabs indexed by slot, and
//! lists of retained rows per key.
//!
//! [`KeyIndex`] gives every distinct key a slot, a small number that is the key's position in any number of
//! [`Slab`]s. It is divided into 256 virtual shards by the top bits of the hash, so that growing never
//! stalls; keys of up to three words (a text among them is a number) and single texts are kept raw, others as row
//! bytes.
//! [`RowLists`](row_lists::RowLists) keeps rows per key as references into shared Arrow blocks.
//!
//! Boundary: keys, slots and rows; what slots mean is the operators' affair.

pub mod arena;
pub mod row_lists;
pub mod slab;
pub mod table;
mod texts;
pub mod words;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericBinaryBuilder, StringBuilder};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use arrow::row::Rows;

use crate::error::{Error, Result};
use crate::zset::key::{RowEncoder, hash_columns, hash_columns_keeping};

use arena::{Arena, NOWHERE};
use slab::Slab;
use table::{NONE, ShardedTable, tag_of};
use texts::{TextColumn, Texts, UNKNOWN, is_text};
use words::{WordKind, column_of, words_of};

/// The bit that says that a column of a key of several columns is NULL.
const NULL_BITS: [u8; 3] = [1, 2, 4];
const FREE: u8 = 8;

/// How a column of a key becomes a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It is one.
    Word(WordKind),
    /// By its number in the texts of this number.
    Text(usize),
}

/// How keys of certain columns are kept.
#[derive(Debug)]
enum Layout {
    /// No columns: one key.
    Unit,
    /// One column of at most 64 bits.
    One(WordKind),
    /// Two columns of at most 64 bits, or texts.
    Two([Part; 2]),
    /// Three columns of at most 64 bits, or texts: what groups by a key and a window have.
    Three([Part; 3]),
    /// One text or bytea column.
    Bytes,
    /// Anything else, as row bytes.
    Rows(Box<RowEncoder>),
}

/// The keys of a batch, hashed and laid out once for any number of look-ups.
#[derive(Debug)]
pub struct KeyBatch {
    hashes: Vec<u64>,
    values: Values,
    /// Text columns whose words are not known before an index has been asked for their numbers.
    texts: Vec<(usize, TextColumn)>,
}

#[derive(Debug)]
enum Values {
    Unit,
    One { words: ScalarBuffer<u64>, nulls: Option<NullBuffer> },
    Two { words: Vec<[u64; 2]>, flags: Option<Vec<u8>> },
    Three { words: Vec<[u64; 3]>, flags: Option<Vec<u8>> },
    Bytes { offsets: OffsetBuffer<i32>, data: Buffer, nulls: Option<NullBuffer> },
    Rows(Rows),
}

impl KeyBatch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }
    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
    /// The hash of each row's key.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

impl Values {
    #[inline]
    fn bytes(&self, i: usize) -> &[u8] {
        match self {
            Values::Bytes { offsets, data, .. } => &data[offsets[i] as usize..offsets[i + 1] as usize],
            Values::Rows(rows) => rows.row(i).data(),
            _ => &[],
        }
    }
    #[inline]
    fn is_null(&self, i: usize) -> bool {
        match self {
            Values::One { nulls, .. } | Values::Bytes { nulls, .. } => {
                nulls.as_ref().is_some_and(|n| n.is_null(i))
            }
            _ => false,
        }
    }
}

/// An index from keys to slots. Slots are dense: those of removed keys are given out again.
#[derive(Debug)]
pub struct KeyIndex {
    types: Vec<DataType>,
    layout: Layout,
    table: ShardedTable,
    /// Keys by slot; only the columns of the layout are used.
    one: Slab<u64>,
    two: Slab<[u64; 2]>,
    three: Slab<[u64; 3]>,
    places: Slab<u64>,
    arena: Arena,
    /// NULL bits of keys of two or three columns; empty while no NULL has been seen.
    flags: Slab<u8>,
    /// The texts of the text columns of a key of several columns.
    texts: Vec<Texts>,
    /// The slot of the NULL key of a one-column layout.
    null_slot: u32,
    free: Vec<u32>,
    bound: u32,
}

impl KeyIndex {
    /// An empty index for keys of columns of these types.
    pub fn new(types: Vec<DataType>) -> Result<KeyIndex> {
        let layout = match types.as_slice() {
            [] => Layout::Unit,
            [DataType::Utf8 | DataType::Binary] => Layout::Bytes,
            [a] if WordKind::of(a).is_some() => Layout::One(WordKind::of(a).unwrap_or(WordKind::B8)),
            several => match parts_of(several).as_deref() {
                Some([a, b]) => Layout::Two([*a, *b]),
                Some([a, b, c]) => Layout::Three([*a, *b, *c]),
                _ => Layout::Rows(Box::new(RowEncoder::new(types.iter().cloned())?)),
            },
        };
        let texts = match layout {
            Layout::Two(_) | Layout::Three(_) => types.iter().filter(|t| is_text(t)).count(),
            _ => 0,
        };
        Ok(KeyIndex {
            types,
            layout,
            table: ShardedTable::default(),
            one: Slab::new(),
            two: Slab::new(),
            three: Slab::new(),
            places: Slab::new(),
            arena: Arena::default(),
            flags: Slab::new(),
            texts: (0..texts).map(|_| Texts::default()).collect(),
            null_slot: NONE,
            free: Vec::new(),
            bound: 0,
        })
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.bound as usize - self.free.len()
    }
    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All slots in use are below this.
    pub fn slot_bound(&self) -> usize {
        self.bound as usize
    }
    /// Types of the key columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Hashes and lays out the keys of `rows` rows.
    pub fn prepare(&self, columns: &[ArrayRef], rows: usize) -> Result<KeyBatch> {
        if columns.len() != self.types.len()
            || columns.iter().zip(&self.types).any(|(c, t)| c.data_type() != t)
        {
            return Err(Error::internal("key columns of other types than the index has"));
        }
        let mut hashes = Vec::with_capacity(rows);
        let mut texts = vec![];
        if self.texts.is_empty() {
            hash_columns(columns, &mut hashes);
        } else {
            let words = hash_columns_keeping(columns, |c| is_text(&self.types[c]), &mut hashes);
            let kept = words.into_iter().enumerate().filter(|(c, _)| is_text(&self.types[*c]));
            texts = kept.map(|(c, words)| (c, TextColumn::new(&columns[c], words))).collect();
        }
        let values = match &self.layout {
            Layout::Unit => {
                hashes.resize(rows, 0);
                Values::Unit
            }
            Layout::One(kind) => {
                Values::One { words: words_of(&columns[0], *kind), nulls: some_nulls(&columns[0]) }
            }
            Layout::Two(parts) => {
                let (words, flags) = joined_words(columns, *parts);
                Values::Two { words, flags }
            }
            Layout::Three(parts) => {
                let (words, flags) = joined_words(columns, *parts);
                Values::Three { words, flags }
            }
            Layout::Bytes if self.types[0] == DataType::Utf8 => {
                let a = columns[0].as_string::<i32>();
                Values::Bytes {
                    offsets: a.offsets().clone(),
                    data: a.values().clone(),
                    nulls: some_nulls(&columns[0]),
                }
            }
            Layout::Bytes => {
                let a = columns[0].as_binary::<i32>();
                Values::Bytes {
                    offsets: a.offsets().clone(),
                    data: a.values().clone(),
                    nulls: some_nulls(&columns[0]),
                }
            }
            Layout::Rows(encoder) => Values::Rows(encoder.encode(columns)?),
        };
        Ok(KeyBatch { hashes, values, texts })
    }

    /// The keys with the numbers of their texts; texts without a number match nothing.
    fn with_numbers(&self, keys: &KeyBatch) -> Values {
        fn fill<const N: usize>(
            index: &KeyIndex,
            keys: &KeyBatch,
            words: &mut [[u64; N]],
            flags: &Option<Vec<u8>>,
        ) {
            for (texts, (at, column)) in index.texts.iter().zip(&keys.texts) {
                texts.numbers(column, |i, number| {
                    let null = flags.as_ref().is_some_and(|f| f[i] & NULL_BITS[*at] != 0);
                    words[i][*at] = if null { 0 } else { number };
                });
            }
        }
        match &keys.values {
            Values::Two { words, flags } => {
                let (mut words, flags) = (words.clone(), flags.clone());
                fill(self, keys, &mut words, &flags);
                Values::Two { words, flags }
            }
            Values::Three { words, flags } => {
                let (mut words, flags) = (words.clone(), flags.clone());
                fill(self, keys, &mut words, &flags);
                Values::Three { words, flags }
            }
            _ => Values::Unit,
        }
    }

    /// Gives numbers to the texts that have none yet.
    fn number_texts(&mut self, keys: &KeyBatch, values: &mut Values) -> Result<()> {
        fn fill<const N: usize>(texts: &mut [Texts], keys: &KeyBatch, words: &mut [[u64; N]]) -> Result<()> {
            for (texts, (at, column)) in texts.iter_mut().zip(&keys.texts) {
                for (i, word) in words.iter_mut().enumerate() {
                    if word[*at] == UNKNOWN {
                        word[*at] = texts.add(column, i)?;
                    }
                }
            }
            Ok(())
        }
        match values {
            Values::Two { words, .. } => fill(&mut self.texts, keys, words),
            Values::Three { words, .. } => fill(&mut self.texts, keys, words),
            _ => Ok(()),
        }
    }

    /// Whether slot `slot` holds key `i` of the batch (which is not a one-column NULL).
    #[inline]
    fn holds(&self, slot: u32, values: &Values, i: usize) -> bool {
        match values {
            Values::Unit => true,
            Values::One { words, .. } => *self.one.get(slot) == words[i],
            Values::Two { words, flags } => {
                *self.two.get(slot) == words[i] && self.same_nulls(slot, flags, i)
            }
            Values::Three { words, flags } => {
                *self.three.get(slot) == words[i] && self.same_nulls(slot, flags, i)
            }
            _ => self.arena.get(*self.places.get(slot)) == values.bytes(i),
        }
    }

    #[inline]
    fn same_nulls(&self, slot: u32, flags: &Option<Vec<u8>>, i: usize) -> bool {
        self.flags.is_empty() && flags.is_none() || self.flag(slot) == flags.as_ref().map_or(0, |f| f[i])
    }

    #[inline]
    fn flag(&self, slot: u32) -> u8 {
        if (slot as usize) < self.flags.len() { *self.flags.get(slot) } else { 0 }
    }

    /// Probes for all keys at once; `slots` gets the slot or [`NONE`], `misses` the rows whose first guess was wrong.
    fn probe(&self, hashes: &[u64], values: &Values, slots: &mut Vec<u32>, misses: &mut Vec<u32>) {
        self.table.guess(hashes, slots);
        misses.clear();
        misses.resize(slots.len(), 0);
        let mut count = 0;
        let mut check = |i: usize, right: bool| {
            misses[count] = i as u32;
            count += usize::from(!right);
        };
        match values {
            Values::One { words, nulls: None } => {
                for (i, (slot, word)) in slots.iter().zip(words.iter()).enumerate() {
                    check(i, *slot != NONE && *self.one.get(*slot) == *word);
                }
            }
            Values::Two { words, flags: None } if self.flags.is_empty() => {
                for (i, (slot, pair)) in slots.iter().zip(words.iter()).enumerate() {
                    check(i, *slot != NONE && *self.two.get(*slot) == *pair);
                }
            }
            Values::Three { words, flags: None } if self.flags.is_empty() => {
                for (i, (slot, three)) in slots.iter().zip(words.iter()).enumerate() {
                    check(i, *slot != NONE && *self.three.get(*slot) == *three);
                }
            }
            values => {
                for (i, slot) in slots.iter().enumerate() {
                    check(i, *slot != NONE && !values.is_null(i) && self.holds(*slot, values, i));
                }
            }
        }
        misses.truncate(count);
    }

    fn find_one(&self, hashes: &[u64], values: &Values, i: usize) -> u32 {
        match values {
            Values::Unit => {
                if self.bound == 0 {
                    NONE
                } else {
                    0
                }
            }
            values if values.is_null(i) => self.null_slot,
            values => self.table.find(tag_of(hashes[i]), |slot| self.holds(slot, values, i)),
        }
    }

    /// The slot of each key, [`NONE`] for keys that are not there.
    pub fn find(&self, keys: &KeyBatch, slots: &mut Vec<u32>) {
        if let Values::Unit = keys.values {
            slots.clear();
            slots.resize(keys.len(), self.unit_slot());
            return;
        }
        let numbered = (!keys.texts.is_empty()).then(|| self.with_numbers(keys));
        let values = numbered.as_ref().unwrap_or(&keys.values);
        let mut misses = Vec::new();
        self.probe(&keys.hashes, values, slots, &mut misses);
        for i in misses {
            if slots[i as usize] != NONE || values.is_null(i as usize) {
                slots[i as usize] = self.find_one(&keys.hashes, values, i as usize);
            }
        }
    }

    fn unit_slot(&self) -> u32 {
        if self.is_empty() { NONE } else { 0 }
    }

    /// The slot of each key; keys that are not there get one.
    pub fn find_or_insert(&mut self, keys: &KeyBatch, slots: &mut Vec<u32>) -> Result<()> {
        if let Values::Unit = keys.values {
            if !keys.is_empty() && self.is_empty() {
                self.free.clear();
                self.bound = 1;
            }
            slots.clear();
            slots.resize(keys.len(), self.unit_slot());
            return Ok(());
        }
        let mut numbered = (!keys.texts.is_empty()).then(|| self.with_numbers(keys));
        if let Some(numbered) = &mut numbered {
            self.number_texts(keys, numbered)?;
        }
        let values = numbered.as_ref().unwrap_or(&keys.values);
        let mut misses = Vec::new();
        self.probe(&keys.hashes, values, slots, &mut misses);
        for i in misses {
            let i = i as usize;
            let mut slot = self.find_one(&keys.hashes, values, i);
            if slot == NONE {
                slot = self.insert(keys.hashes[i], values, i)?;
            }
            slots[i] = slot;
        }
        Ok(())
    }

    fn insert(&mut self, hash: u64, values: &Values, i: usize) -> Result<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.bound == NONE => {
                return Err(Error::new(
                    crate::error::ErrorKind::ProgramLimit,
                    "too many keys in one operator",
                ));
            }
            None => {
                self.bound += 1;
                self.bound - 1
            }
        };
        let null = values.is_null(i);
        match values {
            Values::Unit => {}
            Values::One { words, .. } => self.one.put(slot, if null { 0 } else { words[i] }),
            Values::Two { words, flags } => {
                self.two.put(slot, words[i]);
                self.put_flag(slot, flags.as_ref().map_or(0, |f| f[i]));
                self.take_up_texts(slot, &words[i]);
            }
            Values::Three { words, flags } => {
                self.three.put(slot, words[i]);
                self.put_flag(slot, flags.as_ref().map_or(0, |f| f[i]));
                self.take_up_texts(slot, &words[i]);
            }
            values => {
                let place = if null { NOWHERE } else { self.arena.add(values.bytes(i)) };
                self.places.put(slot, place);
            }
        }
        if null {
            self.null_slot = slot;
        } else {
            self.table.insert(tag_of(hash), slot);
        }
        Ok(slot)
    }

    /// Where the text columns of a key of several columns stand.
    fn text_columns(&self) -> impl Iterator<Item = usize> + use<> {
        let is_text: Vec<bool> = match self.texts.len() {
            0 => vec![],
            _ => self.types.iter().map(is_text).collect(),
        };
        (0..is_text.len()).filter(move |c| is_text[*c])
    }

    fn take_up_texts(&mut self, slot: u32, words: &[u64]) {
        if self.texts.is_empty() {
            return;
        }
        let flag = self.flag(slot);
        for (texts, at) in self.text_columns().enumerate() {
            if flag & NULL_BITS[at] == 0 {
                self.texts[texts].take_up(words[at]);
            }
        }
    }

    fn let_go_of_texts(&mut self, slot: u32) {
        let flag = self.flag(slot);
        for (texts, at) in self.text_columns().enumerate() {
            if flag & NULL_BITS[at] == 0 {
                let word = match self.layout {
                    Layout::Two(_) => self.two.get(slot)[at],
                    _ => self.three.get(slot)[at],
                };
                self.texts[texts].let_go(word);
            }
        }
    }

    fn put_flag(&mut self, slot: u32, flag: u8) {
        if flag != 0 || (slot as usize) < self.flags.len() {
            self.flags.grow(slot as usize + 1, 0);
            *self.flags.get_mut(slot) = flag;
        }
    }

    /// Column `column` of keys of several words.
    fn gather_words<const N: usize>(
        &self,
        slab: &Slab<[u64; N]>,
        column: usize,
        part: Part,
        slots: &[u32],
    ) -> Result<ArrayRef> {
        let null = NULL_BITS[column];
        let nulls = (!self.flags.is_empty())
            .then(|| slots.iter().map(|s| self.flag(*s) & null == 0).collect::<NullBuffer>());
        let words = slots.iter().map(|s| slab.get(*s)[column]);
        match part {
            Part::Word(kind) => column_of(&self.types[column], kind, words.collect(), nulls),
            Part::Text(number) => self.texts[number].column(&self.types[column], words, nulls),
        }
    }

    /// The key columns of these slots.
    pub fn gather(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let null = |slot: u32| slot == self.null_slot;
        let nulls =
            || (self.null_slot != NONE).then(|| slots.iter().map(|s| !null(*s)).collect::<NullBuffer>());
        Ok(match &self.layout {
            Layout::Unit => vec![],
            Layout::One(kind) => {
                vec![column_of(&self.types[0], *kind, self.one.gather(slots), nulls())?]
            }
            Layout::Two(parts) => {
                gather_parts(parts, |c, part| self.gather_words(&self.two, c, part, slots))?
            }
            Layout::Three(parts) => {
                gather_parts(parts, |c, part| self.gather_words(&self.three, c, part, slots))?
            }
            Layout::Bytes if self.types[0] == DataType::Utf8 => {
                let mut builder = StringBuilder::with_capacity(slots.len(), slots.len() * 16);
                for slot in slots {
                    match null(*slot) {
                        true => builder.append_null(),
                        false => {
                            let bytes = self.arena.get(*self.places.get(*slot));
                            let text = std::str::from_utf8(bytes);
                            builder.append_value(
                                text.map_err(|_| Error::internal("a text key that is not UTF-8"))?,
                            );
                        }
                    }
                }
                vec![Arc::new(builder.finish())]
            }
            Layout::Bytes => {
                let mut builder = GenericBinaryBuilder::<i32>::with_capacity(slots.len(), slots.len() * 16);
                for slot in slots {
                    match null(*slot) {
                        true => builder.append_null(),
                        false => builder.append_value(self.arena.get(*self.places.get(*slot))),
                    }
                }
                vec![Arc::new(builder.finish())]
            }
            Layout::Rows(encoder) => {
                encoder.decode_bytes(slots.iter().map(|s| self.arena.get(*self.places.get(*s))))?
            }
        })
    }

    /// Forgets the keys of these slots (each in use, each once).
    pub fn remove(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut hashes = Vec::new();
        hash_columns(&self.gather(slots)?, &mut hashes);
        for (k, slot) in slots.iter().enumerate() {
            if *slot == self.null_slot {
                self.null_slot = NONE;
            } else if !hashes.is_empty() && !self.table.remove(tag_of(hashes[k]), *slot) {
                return Err(Error::internal("a key to remove is not in the index"));
            }
            if matches!(self.layout, Layout::Bytes | Layout::Rows(_)) {
                let place = std::mem::replace(self.places.get_mut(*slot), NOWHERE);
                if place != NOWHERE {
                    self.arena.remove(place);
                }
            }
            if !self.texts.is_empty() {
                self.let_go_of_texts(*slot);
            }
            if (*slot as usize) < self.flags.len() {
                *self.flags.get_mut(*slot) = FREE;
            }
            self.free.push(*slot);
        }
        if self.arena.wants_rewrite() {
            self.rewrite_arena();
        }
        self.texts.iter_mut().for_each(Texts::maintain);
        Ok(())
    }

    fn rewrite_arena(&mut self) {
        let old = std::mem::take(&mut self.arena);
        for slot in 0..self.places.len() as u32 {
            let place = self.places.get_mut(slot);
            if *place != NOWHERE {
                *place = self.arena.add(old.get(*place));
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.table.bytes()
            + self.one.bytes()
            + self.two.bytes()
            + self.three.bytes()
            + self.places.bytes()
            + self.arena.bytes()
            + self.flags.bytes()
            + self.texts.iter().map(|t| size_of::<Texts>() + t.bytes()).sum::<usize>()
            + self.free.capacity() * 4
    }
}

/// How two or three columns become words; `None` when one of them does not.
fn parts_of(types: &[DataType]) -> Option<Vec<Part>> {
    if !(2..=3).contains(&types.len()) {
        return None;
    }
    let mut texts = 0..;
    let part = |t: &DataType| match is_text(t) {
        true => texts.next().map(Part::Text),
        false => WordKind::of(t).map(Part::Word),
    };
    types.iter().map(part).collect()
}

fn gather_parts(parts: &[Part], gather: impl Fn(usize, Part) -> Result<ArrayRef>) -> Result<Vec<ArrayRef>> {
    parts.iter().enumerate().map(|(c, part)| gather(c, *part)).collect()
}

fn some_nulls(array: &ArrayRef) -> Option<NullBuffer> {
    array.nulls().filter(|n| n.null_count() > 0).cloned()
}

/// The words of several columns side by side, with the NULL bits of each row if there are any.
fn joined_words<const N: usize>(columns: &[ArrayRef], parts: [Part; N]) -> (Vec<[u64; N]>, Option<Vec<u8>>) {
    let mut words = vec![[0; N]; columns[0].len()];
    let mut flags = None;
    for (at, (column, part)) in columns.iter().zip(parts).enumerate() {
        if let Part::Word(kind) = part {
            for (row, word) in words.iter_mut().zip(words_of(column, kind).iter()) {
                row[at] = *word;
            }
        }
        if let Some(nulls) = some_nulls(column) {
            let flags = flags.get_or_insert_with(|| vec![0_u8; words.len()]);
            for i in (0..words.len()).filter(|i| nulls.is_null(*i)) {
                words[i][at] = 0;
                flags[i] |= NULL_BITS[at];
            }
        }
    }
    (words, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray};
    use rand::{Rng, SeedableRng};
    use std::collections::HashMap;

    fn columns(types: &[DataType], picks: &[Vec<Option<i64>>]) -> Vec<ArrayRef> {
        types
            .iter()
            .enumerate()
            .map(|(c, t)| {
                let v = picks.iter().map(|row| row[c]);
                match t {
                    DataType::Int64 => Arc::new(v.collect::<Int64Array>()) as ArrayRef,
                    DataType::Int32 => Arc::new(v.map(|x| x.map(|x| x as i32)).collect::<Int32Array>()),
                    DataType::Float64 => {
                        Arc::new(v.map(|x| x.map(|x| x as f64 - 2.0)).collect::<Float64Array>())
                    }
                    DataType::Utf8 => Arc::new(
                        v.map(|x| x.map(|x| "é".repeat(x as usize % 50) + &x.to_string()))
                            .collect::<StringArray>(),
                    ),
                    DataType::Binary => {
                        Arc::new(v.map(|x| x.map(|x| x.to_le_bytes())).collect::<BinaryArray>())
                    }
                    _ => Arc::new(v.map(|x| x.map(i128::from)).collect::<Decimal128Array>()),
                }
            })
            .collect()
    }

    #[test]
    fn every_layout_agrees_with_a_map_under_inserts_finds_and_removals() {
        let layouts: Vec<Vec<DataType>> = vec![
            vec![],
            vec![DataType::Int64],
            vec![DataType::Float64],
            vec![DataType::Int32, DataType::Int64],
            vec![DataType::Int64, DataType::Float64, DataType::Int32],
            vec![DataType::Utf8],
            vec![DataType::Binary],
            vec![DataType::Utf8, DataType::Int64],
            vec![DataType::Binary, DataType::Float64, DataType::Utf8],
            vec![DataType::Decimal128(38, 10)],
        ];
        for types in layouts {
            let seed = 42;
            println!("{types:?} seed {seed}");
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut index = KeyIndex::new(types.clone()).unwrap();
            let mut model: HashMap<Vec<Option<i64>>, u32> = HashMap::new();
            for round in 0..30 {
                let n = rng.random_range(1..400);
                let picks: Vec<Vec<Option<i64>>> = (0..n)
                    .map(|_| {
                        types
                            .iter()
                            .map(|_| rng.random_bool(0.95).then(|| rng.random_range(0..3000)))
                            .collect()
                    })
                    .collect();
                let keys = index.prepare(&columns(&types, &picks), n).unwrap();
                let mut slots = vec![];
                index.find(&keys, &mut slots);
                for (p, s) in picks.iter().zip(&slots) {
                    assert_eq!(model.get(p).copied().unwrap_or(NONE), *s);
                }
                index.find_or_insert(&keys, &mut slots).unwrap();
                for (p, s) in picks.iter().zip(&slots) {
                    assert_eq!(model.entry(p.clone()).or_insert(*s), s);
                }
                let distinct: std::collections::HashSet<u32> = model.values().copied().collect();
                assert_eq!(distinct.len(), model.len());
                assert_eq!(index.len(), model.len());
                let all: Vec<_> = model.iter().map(|(k, s)| (k.clone(), *s)).collect();
                let order: Vec<u32> = all.iter().map(|x| x.1).collect();
                let wanted: Vec<Vec<Option<i64>>> = all.iter().map(|x| x.0.clone()).collect();
                for (a, b) in index.gather(&order).unwrap().iter().zip(columns(&types, &wanted)) {
                    assert_eq!(a, &b);
                }
                if round % 3 == 2 {
                    let gone: Vec<u32> = all.iter().filter(|_| rng.random_bool(0.7)).map(|x| x.1).collect();
                    index.remove(&gone).unwrap();
                    model.retain(|_, s| !gone.contains(s));
                }
            }
        }
    }

    #[test]
    fn an_empty_index_costs_less_than_a_kilobyte() {
        assert!(KeyIndex::new(vec![DataType::Int64]).unwrap().bytes() < 1000);
    }
}
