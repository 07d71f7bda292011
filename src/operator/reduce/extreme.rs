//! Minimum and maximum by slot.
//!
//! Over append-only input a group keeps one value. Otherwise it keeps the multiset of its values: one inline, up to
//! [`FEW`] in a sorted array, more in a B-tree. A maximum is the minimum under the reversed order.
//!
//! Boundary: values by slot, compared through order-preserving words or bytes.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::DataType;
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::store::arrangement::slab::Slab;
use crate::store::arrangement::words::{WordOrder, column_of, words_of};
use crate::zset::key::RowEncoder;

use super::state::{NEGATIVE, Rows, State};
use super::sum::nulls_of;

/// Up to this many distinct values a group's multiset is an array.
pub const FEW: usize = 16;

/// A value of a multiset that can be looked up by a borrowed form.
pub trait Value: Ord + Clone + Send + Sync + Borrow<Self::Key> + std::fmt::Debug {
    /// The borrowed form.
    type Key: Ord + ?Sized;
    /// The owned form.
    fn own(key: &Self::Key) -> Self;
    /// Bytes that the owned form owns beyond the value itself.
    fn extra(key: &Self::Key) -> usize;
}

impl Value for u64 {
    type Key = u64;
    fn own(key: &u64) -> u64 {
        *key
    }
    fn extra(_: &u64) -> usize {
        0
    }
}

impl Value for Box<[u8]> {
    type Key = [u8];
    fn own(key: &[u8]) -> Self {
        key.into()
    }
    fn extra(key: &[u8]) -> usize {
        key.len() + 8
    }
}

/// The values of one group with their counts; no count is zero, all but those of a broken input are positive.
#[derive(Debug, Clone, Default)]
pub enum Multiset<V> {
    #[default]
    Empty,
    One(V, i64),
    Few(Vec<(V, i64)>),
    Many(Box<BTreeMap<V, i64>>),
}

impl<V: Value> Multiset<V> {
    /// Adds to the count of a value; returns the counts before and after.
    fn add(&mut self, key: &V::Key, weight: i64) -> (i64, i64) {
        match self {
            Multiset::Empty => {
                *self = Multiset::One(V::own(key), weight);
                (0, weight)
            }
            Multiset::One(value, count) if (*value).borrow() == key => {
                let change = (*count, count.wrapping_add(weight));
                *count = change.1;
                if *count == 0 {
                    *self = Multiset::Empty;
                }
                change
            }
            Multiset::One(..) => {
                let Multiset::One(value, count) = std::mem::take(self) else { return (0, 0) };
                let mut few = Vec::with_capacity(4);
                let new = (V::own(key), weight);
                if new.0 < value {
                    few.extend([new, (value, count)])
                } else {
                    few.extend([(value, count), new])
                }
                *self = Multiset::Few(few);
                (0, weight)
            }
            Multiset::Few(few) => match few.binary_search_by(|e| e.0.borrow().cmp(key)) {
                Ok(at) => {
                    let change = (few[at].1, few[at].1.wrapping_add(weight));
                    few[at].1 = change.1;
                    if change.1 == 0 {
                        few.remove(at);
                        if few.len() == 1
                            && let Some((value, count)) = few.pop()
                        {
                            *self = Multiset::One(value, count);
                        }
                    }
                    change
                }
                Err(at) => {
                    few.insert(at, (V::own(key), weight));
                    if few.len() > FEW {
                        *self = Multiset::Many(Box::new(std::mem::take(few).into_iter().collect()));
                    }
                    (0, weight)
                }
            },
            Multiset::Many(many) => {
                let change = match many.get_mut(key) {
                    Some(count) => {
                        let before = *count;
                        *count = before.wrapping_add(weight);
                        (before, *count)
                    }
                    None => {
                        many.insert(V::own(key), weight);
                        (0, weight)
                    }
                };
                if change.1 == 0 {
                    many.remove(key);
                    // Well below FEW, so that a group at the border does not change its form all the time.
                    if many.len() <= FEW / 2 {
                        *self = Multiset::Few(std::mem::take(many).into_iter().collect());
                    }
                }
                change
            }
        }
    }

    /// The least value that is there.
    fn first(&self) -> Option<&V> {
        match self {
            Multiset::Empty => None,
            Multiset::One(value, count) => (*count > 0).then_some(value),
            Multiset::Few(few) => few.iter().find(|e| e.1 > 0).map(|e| &e.0),
            Multiset::Many(many) => many.iter().find(|e| *e.1 > 0).map(|e| e.0),
        }
    }

    /// All values with their counts, the least first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&V, i64)> {
        let (one, few, many) = match self {
            Multiset::Empty => (None, None, None),
            Multiset::One(value, count) => (Some((value, *count)), None, None),
            Multiset::Few(few) => (None, Some(few), None),
            Multiset::Many(many) => (None, None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(v, n)| (v, *n));
        let many = many.into_iter().flat_map(|m| m.iter()).map(|(v, n)| (v, *n));
        one.into_iter().chain(few).chain(many)
    }

    /// Whether there is nothing, not even a broken count.
    pub fn is_empty(&self) -> bool {
        matches!(self, Multiset::Empty)
    }

    /// Bytes of the array or the tree, without what the values own.
    fn frame_bytes(&self) -> usize {
        let entry = size_of::<(V, i64)>();
        match self {
            Multiset::Empty | Multiset::One(..) => 0,
            Multiset::Few(few) => few.capacity() * entry,
            // Nodes are on average two thirds full.
            Multiset::Many(many) => many.len() * (entry * 3 / 2),
        }
    }

    /// All bytes owned.
    fn bytes(&self) -> usize {
        let extra = |v: &V| V::extra(v.borrow());
        self.frame_bytes()
            + match self {
                Multiset::Empty => 0,
                Multiset::One(v, _) => extra(v),
                Multiset::Few(few) => few.iter().map(|e| extra(&e.0)).sum::<usize>(),
                Multiset::Many(many) => many.keys().map(extra).sum::<usize>(),
            }
    }
}

/// How values become words or bytes and back.
#[derive(Debug)]
enum Codec {
    Words(WordOrder),
    Bytes(Box<RowEncoder>),
}

/// Multisets of all groups.
#[derive(Debug)]
pub struct Sets<V> {
    sets: Slab<Multiset<V>>,
    /// How many values with negative counts a group has.
    negative: HashMap<u32, u32>,
    /// Bytes of all sets, kept up to date because the size of the state is asked for in every epoch.
    bytes: usize,
}

impl<V> Default for Sets<V> {
    fn default() -> Self {
        Sets { bytes: 0, sets: Slab::default(), negative: HashMap::new() }
    }
}

impl<V: Value> Sets<V> {
    /// Makes room for slots below `len`.
    pub fn grow(&mut self, len: usize) {
        self.sets.grow(len, Multiset::Empty);
    }

    /// The multiset of a slot.
    pub fn of(&self, slot: u32) -> &Multiset<V> {
        self.sets.get(slot)
    }

    /// Whether any slot has negative counts.
    pub fn has_negative(&self) -> bool {
        !self.negative.is_empty()
    }

    /// Whether a slot has.
    pub fn is_negative(&self, slot: u32) -> bool {
        self.negative.contains_key(&slot)
    }

    /// Forgets a slot.
    pub fn clear(&mut self, slot: u32) {
        self.bytes -= std::mem::take(self.sets.get_mut(slot)).bytes();
        self.negative.remove(&slot);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.sets.bytes() + self.bytes
    }

    /// Adds to the count of a value of a slot.
    pub fn add(&mut self, slot: u32, key: &V::Key, weight: i64) {
        if weight == 0 {
            return;
        }
        let set = self.sets.get_mut(slot);
        self.bytes -= set.frame_bytes();
        let (before, after) = set.add(key, weight);
        self.bytes += set.frame_bytes();
        match (before, after) {
            (0, _) => self.bytes += V::extra(key),
            (_, 0) => self.bytes -= V::extra(key),
            _ => {}
        }
        if (before < 0) != (after < 0) {
            let count = self.negative.entry(slot).or_default();
            if after < 0 {
                *count += 1;
            } else {
                *count -= 1;
                if *count == 0 {
                    self.negative.remove(&slot);
                }
            }
        }
    }
}

/// Minimum over retractable input.
#[derive(Debug)]
struct SetExtreme<V> {
    sets: Sets<V>,
    codec: Codec,
    input: DataType,
    result: DataType,
}

/// Minimum over append-only input.
#[derive(Debug)]
struct WordExtreme {
    values: Slab<u64>,
    order: WordOrder,
    result: DataType,
}

/// The same for values that are not words.
#[derive(Debug)]
struct ByteExtreme {
    values: Slab<Option<Box<[u8]>>>,
    /// Bytes of all values.
    bytes: usize,
    encoder: Box<RowEncoder>,
    input: DataType,
    result: DataType,
}

fn word_column(result: &DataType, order: WordOrder, words: Vec<u64>, counts: &[i64]) -> Result<ArrayRef> {
    let words = words.into_iter().map(|w| order.decode(w)).collect();
    column_of(result, order.kind(), words, nulls_of(counts))
}

/// Decodes values, NULL where there is none.
fn byte_column<'a>(
    encoder: &RowEncoder,
    input: &DataType,
    result: &DataType,
    values: impl Iterator<Item = Option<&'a [u8]>>,
) -> Result<ArrayRef> {
    let (mut some, mut picks) = (vec![], vec![]);
    for value in values {
        picks.push(value.map(|v| {
            some.push(v);
            some.len() as u32 - 1
        }));
    }
    let array = if some.is_empty() {
        new_null_array(input, picks.len())
    } else {
        let decoded = encoder.decode_bytes(some)?;
        let picks: arrow::array::UInt32Array = picks.into_iter().collect();
        arrow::compute::take(&decoded[0], &picks, None)?
    };
    Ok(if array.data_type() == result { array } else { cast(&array, result)? })
}

fn retracted() -> Error {
    Error::internal("a retraction came out of an input that is planned as append-only")
}

impl State for WordExtreme {
    fn grow(&mut self, len: usize) {
        self.values.grow(len, u64::MAX);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        if rows.weights.is_some_and(|w| w.iter().any(|w| *w < 0)) {
            return Err(retracted());
        }
        let words = words_of(rows.values, self.order.kind());
        for (i, (slot, word)) in rows.slots.iter().zip(words.iter()).enumerate() {
            if rows.weight(i) > 0 {
                let value = self.values.get_mut(*slot);
                *value = (*value).min(self.order.encode(*word));
            }
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        word_column(&self.result, self.order, self.values.gather(slots), counts)
    }
    fn check(&self, _: &[u32], _: u16, _: &mut [u16]) {}
    fn is_zero(&self, _: u32) -> bool {
        true
    }
    fn clear(&mut self, slot: u32) {
        *self.values.get_mut(slot) = u64::MAX;
    }
    fn bytes(&self) -> usize {
        self.values.bytes()
    }
}

impl State for ByteExtreme {
    fn grow(&mut self, len: usize) {
        self.values.grow(len, None);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        if rows.weights.is_some_and(|w| w.iter().any(|w| *w < 0)) {
            return Err(retracted());
        }
        let encoded = self.encoder.encode(std::slice::from_ref(rows.values))?;
        for (i, slot) in rows.slots.iter().enumerate() {
            let new = encoded.row(i);
            let value = self.values.get_mut(*slot);
            if rows.weight(i) > 0 && value.as_ref().is_none_or(|old| new.data() < &**old) {
                self.bytes += <Box<[u8]> as Value>::extra(new.data());
                if let Some(old) = value.replace(new.data().into()) {
                    self.bytes -= <Box<[u8]> as Value>::extra(&old);
                }
            }
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], _: &[i64]) -> Result<ArrayRef> {
        let values = slots.iter().map(|s| self.values.get(*s).as_deref());
        byte_column(&self.encoder, &self.input, &self.result, values)
    }
    fn check(&self, _: &[u32], _: u16, _: &mut [u16]) {}
    fn is_zero(&self, _: u32) -> bool {
        true
    }
    fn clear(&mut self, slot: u32) {
        if let Some(old) = self.values.get_mut(slot).take() {
            self.bytes -= <Box<[u8]> as Value>::extra(&old);
        }
    }
    fn bytes(&self) -> usize {
        self.values.bytes() + self.bytes
    }
    fn needs_counts(&self) -> bool {
        false
    }
}

/// The parts of [`SetExtreme`] that differ between words and bytes.
trait SetValue: Value {
    fn update(sets: &mut Sets<Self>, codec: &Codec, rows: &Rows<'_>) -> Result<()>;
    fn output(of: &SetExtreme<Self>, slots: &[u32]) -> Result<ArrayRef>;
}

impl SetValue for u64 {
    fn update(sets: &mut Sets<u64>, codec: &Codec, rows: &Rows<'_>) -> Result<()> {
        let Codec::Words(order) = codec else { return Err(Error::internal("words without an order")) };
        let words = words_of(rows.values, order.kind());
        for (i, (slot, word)) in rows.slots.iter().zip(words.iter()).enumerate() {
            sets.add(*slot, &order.encode(*word), rows.weight(i));
        }
        Ok(())
    }
    fn output(of: &SetExtreme<u64>, slots: &[u32]) -> Result<ArrayRef> {
        let Codec::Words(order) = of.codec else { return Err(Error::internal("words without an order")) };
        let (words, counts): (Vec<u64>, Vec<i64>) =
            slots.iter().map(|s| of.sets.sets.get(*s).first().map_or((0, 0), |w| (*w, 1))).unzip();
        word_column(&of.result, order, words, &counts)
    }
}

impl SetValue for Box<[u8]> {
    fn update(sets: &mut Sets<Self>, codec: &Codec, rows: &Rows<'_>) -> Result<()> {
        let Codec::Bytes(encoder) = codec else { return Err(Error::internal("bytes without an encoder")) };
        let encoded = encoder.encode(std::slice::from_ref(rows.values))?;
        for (i, slot) in rows.slots.iter().enumerate() {
            sets.add(*slot, encoded.row(i).data(), rows.weight(i));
        }
        Ok(())
    }
    fn output(of: &SetExtreme<Self>, slots: &[u32]) -> Result<ArrayRef> {
        let Codec::Bytes(encoder) = &of.codec else {
            return Err(Error::internal("bytes without an encoder"));
        };
        let values = slots.iter().map(|s| of.sets.sets.get(*s).first().map(|v| &**v));
        byte_column(encoder, &of.input, &of.result, values)
    }
}

impl<V: SetValue + 'static> State for SetExtreme<V> {
    fn grow(&mut self, len: usize) {
        self.sets.sets.grow(len, Multiset::Empty);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        V::update(&mut self.sets, &self.codec, rows)
    }
    fn output(&self, slots: &[u32], _: &[i64]) -> Result<ArrayRef> {
        V::output(self, slots)
    }
    fn check(&self, slots: &[u32], _: u16, status: &mut [u16]) {
        if !self.sets.negative.is_empty() {
            for (slot, status) in slots.iter().zip(status) {
                if self.sets.negative.contains_key(slot) {
                    *status = NEGATIVE;
                }
            }
        }
    }
    fn is_zero(&self, slot: u32) -> bool {
        self.sets.sets.get(slot).is_empty()
    }
    fn clear(&mut self, slot: u32) {
        self.sets.bytes -= std::mem::take(self.sets.sets.get_mut(slot)).bytes();
        self.sets.negative.remove(&slot);
    }
    fn bytes(&self) -> usize {
        self.sets.sets.bytes() + self.sets.bytes
    }
    fn needs_counts(&self) -> bool {
        false
    }
}

/// The state of `min` (or `max`) over a column of type `input`.
pub fn extreme_state(
    input: &DataType,
    result: &DataType,
    max: bool,
    append_only: bool,
) -> Result<Box<dyn State>> {
    let words = WordOrder::of(input, max).filter(|_| input == result);
    let encoder = || {
        let options = SortOptions { descending: max, nulls_first: true };
        Ok::<_, Error>(Box::new(RowEncoder::with_options([(input.clone(), options)])?))
    };
    let (input, result) = (input.clone(), result.clone());
    Ok(match (words, append_only) {
        (Some(order), true) => Box::new(WordExtreme { values: Slab::new(), order, result }),
        (None, true) => {
            Box::new(ByteExtreme { values: Slab::new(), bytes: 0, encoder: encoder()?, input, result })
        }
        (Some(order), false) => {
            let sets = Sets::<u64> { sets: Slab::new(), negative: HashMap::new(), bytes: 0 };
            Box::new(SetExtreme { sets, codec: Codec::Words(order), input, result })
        }
        (None, false) => {
            let sets = Sets::<Box<[u8]>> { sets: Slab::new(), negative: HashMap::new(), bytes: 0 };
            Box::new(SetExtreme { sets, codec: Codec::Bytes(encoder()?), input, result })
        }
    })
}
