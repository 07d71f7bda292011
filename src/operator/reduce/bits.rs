//! bool_and, bool_or and the bitwise aggregates by slot: counts of ones, so that a retraction takes back what it gave.
//!
//! Boundary: booleans and integers by slot.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int16Array, Int32Array, Int64Array};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};

use crate::error::{Error, Result};
use crate::expr::aggregate::AggregateKind;
use crate::store::arrangement::slab::Slab;

use super::state::{NEGATIVE, Rows, State};
use super::sum::nulls_of;

/// How many values of each group are true.
#[derive(Debug)]
struct Trues {
    counts: Slab<i64>,
    all: bool,
}

impl State for Trues {
    fn grow(&mut self, len: usize) {
        self.counts.grow(len, 0);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let values = rows.values.as_boolean().values();
        for (i, slot) in rows.slots.iter().enumerate() {
            if values.value(i) {
                let count = self.counts.get_mut(*slot);
                *count = count.saturating_add(rows.weight(i));
            }
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        let values = slots.iter().zip(counts).map(|(slot, count)| {
            let trues = *self.counts.get(*slot);
            if self.all { trues >= *count } else { trues > 0 }
        });
        Ok(Arc::new(BooleanArray::new(values.collect(), nulls_of(counts))))
    }
    fn check(&self, slots: &[u32], _: u16, status: &mut [u16]) {
        for (slot, status) in slots.iter().zip(status) {
            if *self.counts.get(*slot) < 0 {
                *status = NEGATIVE;
            }
        }
    }
    fn is_zero(&self, slot: u32) -> bool {
        *self.counts.get(slot) == 0
    }
    fn clear(&mut self, slot: u32) {
        *self.counts.get_mut(slot) = 0;
    }
    fn bytes(&self) -> usize {
        self.counts.bytes()
    }
}

/// How many values of each group have each bit.
#[derive(Debug)]
struct Bits {
    /// One count per bit; nothing for a group without ones.
    counts: Slab<Option<Box<[i64]>>>,
    kind: AggregateKind,
    width: usize,
}

impl Bits {
    fn add(&mut self, slot: u32, value: u64, weight: i64) {
        let mut rest = value;
        if rest == 0 {
            return;
        }
        let width = self.width;
        let counts = self.counts.get_mut(slot).get_or_insert_with(|| vec![0; width].into_boxed_slice());
        while rest != 0 {
            let bit = rest.trailing_zeros() as usize;
            counts[bit] = counts[bit].wrapping_add(weight);
            rest &= rest - 1;
        }
    }

    fn value(&self, slot: u32, count: i64) -> u64 {
        let Some(counts) = self.counts.get(slot) else { return 0 };
        let one = |ones: i64| match self.kind {
            AggregateKind::BitAnd => ones >= count,
            AggregateKind::BitOr => ones > 0,
            _ => ones & 1 == 1,
        };
        counts.iter().enumerate().filter(|(_, c)| one(**c)).fold(0, |v, (bit, _)| v | 1 << bit)
    }
}

impl State for Bits {
    fn grow(&mut self, len: usize) {
        self.counts.grow(len, None);
    }
    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        macro_rules! each {
            ($type:ty, $unsigned:ty) => {
                for (i, value) in rows.values.as_primitive::<$type>().values().iter().enumerate() {
                    self.add(rows.slots[i], u64::from(*value as $unsigned), rows.weight(i));
                }
            };
        }
        match self.width {
            16 => each!(Int16Type, u16),
            32 => each!(Int32Type, u32),
            _ => each!(Int64Type, u64),
        }
        Ok(())
    }
    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        let values = slots.iter().zip(counts).map(|(slot, count)| self.value(*slot, *count));
        let nulls = nulls_of(counts);
        Ok(match self.width {
            16 => Arc::new(Int16Array::new(values.map(|v| v as i16).collect::<Vec<_>>().into(), nulls)),
            32 => Arc::new(Int32Array::new(values.map(|v| v as i32).collect::<Vec<_>>().into(), nulls)),
            _ => Arc::new(Int64Array::new(values.map(|v| v as i64).collect::<Vec<_>>().into(), nulls)),
        })
    }
    fn check(&self, slots: &[u32], _: u16, status: &mut [u16]) {
        for (slot, status) in slots.iter().zip(status) {
            if self.counts.get(*slot).as_ref().is_some_and(|c| c.iter().any(|n| *n < 0)) {
                *status = NEGATIVE;
            }
        }
    }
    fn is_zero(&self, slot: u32) -> bool {
        self.counts.get(slot).as_ref().is_none_or(|c| c.iter().all(|n| *n == 0))
    }
    fn clear(&mut self, slot: u32) {
        *self.counts.get_mut(slot) = None;
    }
    fn bytes(&self) -> usize {
        let used = (0..self.counts.len() as u32).filter(|s| self.counts.get(*s).is_some()).count();
        self.counts.bytes() + used * self.width * 8
    }
}

/// The state of `bool_and` (or `bool_or`).
pub fn boolean_state(input: &DataType, all: bool) -> Result<Box<dyn State>> {
    if *input != DataType::Boolean {
        return Err(Error::internal(format!("bool_and of {input}")));
    }
    Ok(Box::new(Trues { counts: Slab::new(), all }))
}

/// The state of a bitwise aggregate.
pub fn bit_state(input: &DataType, kind: AggregateKind) -> Result<Box<dyn State>> {
    let width = match input {
        DataType::Int16 => 16,
        DataType::Int32 => 32,
        DataType::Int64 => 64,
        other => return Err(Error::internal(format!("bitwise aggregate of {other}"))),
    };
    Ok(Box::new(Bits { counts: Slab::new(), kind, width }))
}
