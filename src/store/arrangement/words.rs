//! Columns of at most 64 bits per value as machine words, and back.
//!
//! Boundary: values only. Words are equal exactly when the values are (floats are normalised); ordered words
//! compare like the values.

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, Int64Array, TimestampMicrosecondArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Int64Type, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};

use crate::error::Result;

/// How the values of a type lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordKind {
    /// A bit.
    Bool,
    /// One byte.
    B1,
    /// Two bytes.
    B2,
    /// Four bytes.
    B4,
    /// Eight bytes.
    B8,
    /// Four bytes of float.
    F4,
    /// Eight bytes of float.
    F8,
}

impl WordKind {
    /// The kind of a type, `None` when its values do not fit a word.
    pub fn of(t: &DataType) -> Option<WordKind> {
        Some(match t {
            DataType::Boolean => WordKind::Bool,
            DataType::Int8 | DataType::UInt8 => WordKind::B1,
            DataType::Int16 | DataType::UInt16 => WordKind::B2,
            DataType::Int32
            | DataType::UInt32
            | DataType::Date32
            | DataType::Time32(_)
            | DataType::Interval(IntervalUnit::YearMonth) => WordKind::B4,
            DataType::Int64
            | DataType::UInt64
            | DataType::Date64
            | DataType::Time64(_)
            | DataType::Timestamp(..)
            | DataType::Duration(_) => WordKind::B8,
            DataType::Float32 => WordKind::F4,
            DataType::Float64 => WordKind::F8,
            _ => return None,
        })
    }
}

fn scalars<T: arrow::datatypes::ArrowNativeType>(array: &dyn Array) -> ScalarBuffer<T> {
    let data = array.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

/// Values of eight bytes as words.
fn same_bits<T: ArrowNativeType>(values: &ScalarBuffer<T>) -> ScalarBuffer<u64> {
    ScalarBuffer::new(values.inner().clone(), 0, values.len())
}

/// The values of a column as words (without copying for most 64-bit types); what stands at a NULL is arbitrary.
pub fn words_of(array: &dyn Array, kind: WordKind) -> ScalarBuffer<u64> {
    match kind {
        WordKind::Bool => array.as_boolean().values().iter().map(u64::from).collect(),
        WordKind::B1 => scalars::<u8>(array).iter().map(|v| u64::from(*v)).collect(),
        WordKind::B2 => scalars::<u16>(array).iter().map(|v| u64::from(*v)).collect(),
        WordKind::B4 => scalars::<u32>(array).iter().map(|v| u64::from(*v)).collect(),
        // The usual types without the detour, which allocates: small epochs come through here often.
        WordKind::B8 => match array.data_type() {
            DataType::Int64 => same_bits(array.as_primitive::<Int64Type>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                same_bits(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            _ => scalars::<u64>(array),
        },
        WordKind::F4 => scalars::<f32>(array)
            .iter()
            .map(|v| u64::from((if v.is_nan() { f32::NAN } else { *v + 0.0 }).to_bits()))
            .collect(),
        WordKind::F8 => scalars::<f64>(array)
            .iter()
            .map(|v| (if v.is_nan() { f64::NAN } else { *v + 0.0 }).to_bits())
            .collect(),
    }
}

/// The column of type `t` whose values are `words`.
pub fn column_of(
    t: &DataType,
    kind: WordKind,
    words: Vec<u64>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let len = words.len();
    match t {
        DataType::Int64 => {
            let values = ScalarBuffer::new(Buffer::from_vec(words), 0, len);
            return Ok(std::sync::Arc::new(Int64Array::try_new(values, nulls)?));
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = ScalarBuffer::new(Buffer::from_vec(words), 0, len);
            let times = TimestampMicrosecondArray::try_new(values, nulls)?;
            return Ok(std::sync::Arc::new(times.with_data_type(t.clone())));
        }
        _ => {}
    }
    let buffer = match kind {
        WordKind::Bool => {
            let values = words.iter().map(|w| *w != 0).collect();
            return Ok(std::sync::Arc::new(BooleanArray::new(values, nulls)));
        }
        WordKind::B1 => Buffer::from_vec(words.iter().map(|w| *w as u8).collect::<Vec<u8>>()),
        WordKind::B2 => Buffer::from_vec(words.iter().map(|w| *w as u16).collect::<Vec<u16>>()),
        WordKind::B4 | WordKind::F4 => {
            Buffer::from_vec(words.iter().map(|w| *w as u32).collect::<Vec<u32>>())
        }
        WordKind::B8 | WordKind::F8 => Buffer::from_vec(words),
    };
    Ok(make_array(ArrayData::builder(t.clone()).len(len).add_buffer(buffer).nulls(nulls).build()?))
}

/// Turns words of a type into words that compare (unsigned) like its values; NaN is the greatest float, as in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WordOrder {
    kind: WordKind,
    signed: bool,
    descending: bool,
}

impl WordOrder {
    /// The order of a type, reversed on wish; `None` when its values do not fit a word.
    pub fn of(t: &DataType, descending: bool) -> Option<WordOrder> {
        let unsigned = matches!(t, DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64);
        let kind = WordKind::of(t)?;
        Some(WordOrder { kind, signed: !unsigned && kind != WordKind::Bool, descending })
    }

    /// How values lie in memory.
    pub fn kind(self) -> WordKind {
        self.kind
    }

    fn sign_bit(self) -> u64 {
        match self.kind {
            WordKind::Bool => 0,
            WordKind::B1 => 1 << 7,
            WordKind::B2 => 1 << 15,
            WordKind::B4 | WordKind::F4 => 1 << 31,
            WordKind::B8 | WordKind::F8 => 1 << 63,
        }
    }

    /// The ordered word of a plain word.
    #[inline]
    pub fn encode(self, word: u64) -> u64 {
        let sign = self.sign_bit();
        let ordered = match self.kind {
            WordKind::F4 | WordKind::F8 if word & sign != 0 => !word & (sign | (sign - 1)),
            _ if self.signed => word ^ sign,
            _ => word,
        };
        if self.descending { !ordered } else { ordered }
    }

    /// The plain word of an ordered word.
    #[inline]
    pub fn decode(self, ordered: u64) -> u64 {
        let sign = self.sign_bit();
        let ordered = if self.descending { !ordered } else { ordered };
        match self.kind {
            WordKind::F4 | WordKind::F8 if ordered & sign == 0 => !ordered & (sign | (sign - 1)),
            _ if self.signed => ordered ^ sign,
            _ => ordered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int16Array};

    #[test]
    fn ordered_words_compare_like_values_and_decode() {
        let floats = [f64::NEG_INFINITY, -5.5, -0.0, 1e-300, 2.0, f64::INFINITY, f64::NAN];
        let small = [i16::MIN, -3, 0, 5, i16::MAX];
        for descending in [false, true] {
            for array in [
                std::sync::Arc::new(Float64Array::from(floats.to_vec())) as ArrayRef,
                std::sync::Arc::new(Int16Array::from(small.to_vec())),
            ] {
                let order = WordOrder::of(array.data_type(), descending).unwrap();
                let words = words_of(&array, order.kind());
                let encoded: Vec<u64> = words.iter().map(|w| order.encode(*w)).collect();
                assert!(encoded.windows(2).all(|p| (p[0] < p[1]) != descending));
                assert!(encoded.iter().zip(words.iter()).all(|(e, w)| order.decode(*e) == *w));
                let back = column_of(array.data_type(), order.kind(), words.to_vec(), None).unwrap();
                assert_eq!(words_of(&back, order.kind()), words);
            }
        }
    }
}
