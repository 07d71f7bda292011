//! Sums and averages by slot, exact under any retraction.
//!
//! Integers of up to 32 bits are summed in 64 bits, larger ones and decimals in 128 (256 for wide decimals). A sum
//! that leaves its width moves to a side table of 256-bit sums, so that it can come back.
//!
//! Boundary: numbers by slot.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Decimal256Array, Float32Array,
    Float64Array, Int64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::store::arrangement::slab::Slab;

use super::float::FloatSums;
use super::state::{Rows, State};

/// The integer a sum is kept in.
pub trait Accumulator: Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// Nothing yet.
    const NOTHING: Self;
    /// `self + value * weight`, if that fits.
    fn add(self, value: Self, weight: i64) -> Option<Self>;
    /// In 256 bits.
    fn wide(self) -> i256;
    /// Back from 256 bits, if it fits.
    fn narrow(wide: i256) -> Option<Self>;
    /// Whether the sum is out of the range of the result type.
    fn out_of_range(self) -> bool;
    /// The column of results.
    fn column(values: Vec<Self>, nulls: Option<NullBuffer>, scale: i8) -> Result<ArrayRef>;
}

impl Accumulator for i64 {
    const NOTHING: i64 = 0;
    #[inline]
    fn add(self, value: i64, weight: i64) -> Option<i64> {
        self.checked_add(if weight == 1 { value } else { value.checked_mul(weight)? })
    }
    fn wide(self) -> i256 {
        i256::from_i128(i128::from(self))
    }
    fn narrow(wide: i256) -> Option<i64> {
        i64::try_from(wide.to_i128()?).ok()
    }
    fn out_of_range(self) -> bool {
        false
    }
    fn column(values: Vec<i64>, nulls: Option<NullBuffer>, _: i8) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::new(values.into(), nulls)))
    }
}

/// The least number with 39 digits.
const LIMIT_128: u128 = 10_u128.pow(38);

impl Accumulator for i128 {
    const NOTHING: i128 = 0;
    #[inline]
    fn add(self, value: i128, weight: i64) -> Option<i128> {
        self.checked_add(if weight == 1 { value } else { value.checked_mul(i128::from(weight))? })
    }
    fn wide(self) -> i256 {
        i256::from_i128(self)
    }
    fn narrow(wide: i256) -> Option<i128> {
        wide.to_i128()
    }
    #[inline]
    fn out_of_range(self) -> bool {
        self.unsigned_abs() >= LIMIT_128
    }
    fn column(values: Vec<i128>, nulls: Option<NullBuffer>, scale: i8) -> Result<ArrayRef> {
        Ok(Arc::new(Decimal128Array::new(values.into(), nulls).with_precision_and_scale(38, scale)?))
    }
}

impl Accumulator for i256 {
    const NOTHING: i256 = i256::ZERO;
    fn add(self, value: i256, weight: i64) -> Option<i256> {
        self.checked_add(value.checked_mul(i256::from_i128(i128::from(weight)))?)
    }
    fn wide(self) -> i256 {
        self
    }
    fn narrow(wide: i256) -> Option<i256> {
        Some(wide)
    }
    fn out_of_range(self) -> bool {
        let limit = i256::from_i128(10_i128.pow(38)).wrapping_mul(i256::from_i128(10_i128.pow(38)));
        self >= limit || self <= limit.wrapping_neg()
    }
    fn column(values: Vec<i256>, nulls: Option<NullBuffer>, scale: i8) -> Result<ArrayRef> {
        Ok(Arc::new(Decimal256Array::new(values.into(), nulls).with_precision_and_scale(76, scale)?))
    }
}

/// Sums of a column of `T` in `A`.
#[derive(Debug)]
struct IntegerSum<T, A> {
    sums: Slab<A>,
    /// Sums that do not fit `A` at the moment.
    wide: HashMap<u32, i256>,
    scale: i8,
    result: DataType,
    input: std::marker::PhantomData<T>,
}

impl<T, A: Accumulator> IntegerSum<T, A> {
    #[cold]
    fn add_wide(&mut self, slot: u32, value: A, weight: i64) -> Result<()> {
        let before = self.wide.remove(&slot).unwrap_or_else(|| self.sums.get(slot).wide());
        let product = value.wide().checked_mul(i256::from_i128(i128::from(weight)));
        let sum = product.and_then(|p| before.checked_add(p));
        let sum = sum.ok_or_else(|| Error::internal("a sum does not fit 256 bits"))?;
        match A::narrow(sum) {
            Some(sum) => *self.sums.get_mut(slot) = sum,
            None => {
                *self.sums.get_mut(slot) = A::NOTHING;
                self.wide.insert(slot, sum);
            }
        }
        Ok(())
    }
}

impl<T, A> State for IntegerSum<T, A>
where
    T: ArrowPrimitiveType + Send + Sync + std::fmt::Debug,
    A: Accumulator + From<T::Native>,
{
    fn grow(&mut self, len: usize) {
        self.sums.grow(len, A::NOTHING);
    }

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        let values = rows.values.as_primitive::<T>().values();
        for (i, (slot, value)) in rows.slots.iter().zip(values.iter()).enumerate() {
            let (value, weight) = (A::from(*value), rows.weight(i));
            let sum = self.sums.get_mut(*slot);
            match sum.add(value, weight) {
                Some(new) if self.wide.is_empty() || !self.wide.contains_key(slot) => *sum = new,
                _ => self.add_wide(*slot, value, weight)?,
            }
        }
        Ok(())
    }

    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        let array = A::column(self.sums.gather(slots), nulls_of(counts), self.scale)?;
        Ok(if *array.data_type() == self.result { array } else { cast(&array, &self.result)? })
    }

    fn check(&self, slots: &[u32], overflow: u16, status: &mut [u16]) {
        for (slot, status) in slots.iter().zip(status) {
            if self.sums.get(*slot).out_of_range() || !self.wide.is_empty() && self.wide.contains_key(slot) {
                *status = (*status).max(overflow);
            }
        }
    }

    fn is_zero(&self, slot: u32) -> bool {
        *self.sums.get(slot) == A::NOTHING && !self.wide.contains_key(&slot)
    }

    fn clear(&mut self, slot: u32) {
        *self.sums.get_mut(slot) = A::NOTHING;
        if !self.wide.is_empty() {
            self.wide.remove(&slot);
        }
    }

    fn bytes(&self) -> usize {
        self.sums.bytes() + self.wide.capacity() * 48
    }
}

/// Groups without values are NULL.
pub fn nulls_of(counts: &[i64]) -> Option<NullBuffer> {
    counts.iter().any(|c| *c <= 0).then(|| counts.iter().map(|c| *c > 0).collect())
}

/// Sum or average of floats.
#[derive(Debug)]
struct FloatSum {
    sums: FloatSums,
    average: bool,
    result: DataType,
}

impl FloatSum {
    fn overflows(&self, slot: u32) -> bool {
        let sum = self.sums.value(slot);
        let infinite =
            if self.result == DataType::Float32 { !(sum as f32).is_finite() } else { !sum.is_finite() };
        infinite && !self.sums.is_special(slot)
    }
}

impl State for FloatSum {
    fn grow(&mut self, len: usize) {
        self.sums.grow(len);
    }

    fn update(&mut self, rows: &Rows<'_>) -> Result<()> {
        match rows.values.data_type() {
            DataType::Float32 => {
                let values = rows.values.as_primitive::<Float32Type>().values();
                for (i, (slot, value)) in rows.slots.iter().zip(values.iter()).enumerate() {
                    self.sums.add(*slot, f64::from(*value), rows.weight(i));
                }
            }
            _ => {
                let values = rows.values.as_primitive::<Float64Type>().values();
                for (i, (slot, value)) in rows.slots.iter().zip(values.iter()).enumerate() {
                    self.sums.add(*slot, *value, rows.weight(i));
                }
            }
        }
        Ok(())
    }

    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef> {
        let divisor = |count: i64| if self.average { count as f64 } else { 1.0 };
        let values = slots.iter().zip(counts).map(|(s, c)| self.sums.value(*s) / divisor(*c));
        let array: ArrayRef = match self.result {
            DataType::Float32 => {
                let values: Vec<f32> = values.map(|v| v as f32).collect();
                Arc::new(Float32Array::new(values.into(), nulls_of(counts)))
            }
            _ => Arc::new(Float64Array::new(values.collect::<Vec<f64>>().into(), nulls_of(counts))),
        };
        Ok(array)
    }

    fn check(&self, slots: &[u32], overflow: u16, status: &mut [u16]) {
        // Without values beyond the window no sum comes near the limits of a double.
        if !self.sums.has_wide() && self.result != DataType::Float32 {
            return;
        }
        for (slot, status) in slots.iter().zip(status) {
            if self.overflows(*slot) {
                *status = (*status).max(overflow);
            }
        }
    }

    fn is_zero(&self, slot: u32) -> bool {
        self.sums.is_zero(slot)
    }

    fn clear(&mut self, slot: u32) {
        self.sums.clear(slot);
    }

    fn bytes(&self) -> usize {
        self.sums.bytes()
    }
}

/// The state of `sum` or `avg` over a column of type `input` with results of type `result`.
pub fn sum_state(input: &DataType, result: &DataType, average: bool) -> Result<Box<dyn State>> {
    fn integers<T, A>(scale: i8, result: &DataType) -> Box<dyn State>
    where
        T: ArrowPrimitiveType + Send + Sync + std::fmt::Debug,
        A: Accumulator + From<T::Native>,
    {
        let (sums, wide) = (Slab::new(), HashMap::new());
        Box::new(IntegerSum::<T, A> {
            sums,
            wide,
            scale,
            result: result.clone(),
            input: std::marker::PhantomData,
        })
    }
    Ok(match input {
        DataType::Float32 | DataType::Float64 => {
            if !matches!(result, DataType::Float32 | DataType::Float64) {
                return Err(Error::internal(format!("sum of {input} as {result}")));
            }
            Box::new(FloatSum { sums: FloatSums::default(), average, result: result.clone() })
        }
        _ if average => return Err(Error::internal(format!("average of {input}"))),
        DataType::Int8 => integers::<Int8Type, i64>(0, result),
        DataType::Int16 => integers::<Int16Type, i64>(0, result),
        DataType::Int32 => integers::<Int32Type, i64>(0, result),
        DataType::UInt8 => integers::<UInt8Type, i64>(0, result),
        DataType::UInt16 => integers::<UInt16Type, i64>(0, result),
        DataType::UInt32 => integers::<UInt32Type, i64>(0, result),
        DataType::Int64 => integers::<Int64Type, i128>(0, result),
        DataType::UInt64 => integers::<UInt64Type, i128>(0, result),
        DataType::Decimal32(_, s) => integers::<Decimal32Type, i128>(*s, result),
        DataType::Decimal64(_, s) => integers::<Decimal64Type, i128>(*s, result),
        DataType::Decimal128(_, s) => integers::<Decimal128Type, i128>(*s, result),
        DataType::Decimal256(_, s) => integers::<Decimal256Type, i256>(*s, result),
        other => return Err(Error::unsupported(format!("sum of {other} is not supported"))),
    })
}
