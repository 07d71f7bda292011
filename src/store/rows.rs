//! Equality of single rows of different batches, as the hash of rows sees it: NULL equals NULL, -0.0 equals 0.0,
//! all NaN are equal.
//!
//! Boundary: no copies and no allocation for flat types; columns of one pair must have the same Arrow type.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::*;

/// Whether row `i` of `left` equals row `j` of `right`, column by column.
#[inline]
pub(super) fn rows_equal(left: &[ArrayRef], i: usize, right: &[ArrayRef], j: usize) -> bool {
    left.iter().zip(right).all(|(l, r)| values_equal(&**l, i, &**r, j))
}

/// Whether row `i` of `keys` equals the columns `columns` of row `j` of `rows`.
#[inline]
pub(super) fn key_equal(keys: &[ArrayRef], i: usize, rows: &[ArrayRef], columns: &[usize], j: usize) -> bool {
    keys.iter().zip(columns).all(|(k, c)| values_equal(&**k, i, &*rows[*c], j))
}

fn primitive<T: ArrowPrimitiveType>(l: &dyn Array, i: usize, r: &dyn Array, j: usize) -> bool {
    l.as_primitive::<T>().value(i) == r.as_primitive::<T>().value(j)
}

fn values_equal(l: &dyn Array, i: usize, r: &dyn Array, j: usize) -> bool {
    match (l.is_null(i), r.is_null(j)) {
        (true, true) => return true,
        (false, false) => {}
        _ => return false,
    }
    match l.data_type() {
        DataType::Int64 => primitive::<Int64Type>(l, i, r, j),
        DataType::Int32 => primitive::<Int32Type>(l, i, r, j),
        DataType::Int16 => primitive::<Int16Type>(l, i, r, j),
        DataType::Utf8 => l.as_string::<i32>().value(i) == r.as_string::<i32>().value(j),
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(l, i, r, j),
        DataType::Decimal128(..) => primitive::<Decimal128Type>(l, i, r, j),
        DataType::Decimal256(..) => primitive::<Decimal256Type>(l, i, r, j),
        DataType::Boolean => l.as_boolean().value(i) == r.as_boolean().value(j),
        DataType::Float64 => {
            let (a, b) = (l.as_primitive::<Float64Type>().value(i), r.as_primitive::<Float64Type>().value(j));
            a == b || (a.is_nan() && b.is_nan())
        }
        DataType::Float32 => {
            let (a, b) = (l.as_primitive::<Float32Type>().value(i), r.as_primitive::<Float32Type>().value(j));
            a == b || (a.is_nan() && b.is_nan())
        }
        DataType::Date32 => primitive::<Date32Type>(l, i, r, j),
        DataType::Time64(TimeUnit::Microsecond) => primitive::<Time64MicrosecondType>(l, i, r, j),
        DataType::Interval(IntervalUnit::MonthDayNano) => primitive::<IntervalMonthDayNanoType>(l, i, r, j),
        DataType::UInt64 => primitive::<UInt64Type>(l, i, r, j),
        DataType::UInt32 => primitive::<UInt32Type>(l, i, r, j),
        DataType::Binary => l.as_binary::<i32>().value(i) == r.as_binary::<i32>().value(j),
        DataType::Utf8View => l.as_string_view().value(i) == r.as_string_view().value(j),
        DataType::BinaryView => l.as_binary_view().value(i) == r.as_binary_view().value(j),
        DataType::LargeUtf8 => l.as_string::<i64>().value(i) == r.as_string::<i64>().value(j),
        DataType::LargeBinary => l.as_binary::<i64>().value(i) == r.as_binary::<i64>().value(j),
        DataType::FixedSizeBinary(_) => {
            l.as_fixed_size_binary().value(i) == r.as_fixed_size_binary().value(j)
        }
        DataType::List(_) => {
            let (a, b) = (l.as_list::<i32>().value(i), r.as_list::<i32>().value(j));
            a.len() == b.len() && (0..a.len()).all(|k| values_equal(&*a, k, &*b, k))
        }
        DataType::LargeList(_) => {
            let (a, b) = (l.as_list::<i64>().value(i), r.as_list::<i64>().value(j));
            a.len() == b.len() && (0..a.len()).all(|k| values_equal(&*a, k, &*b, k))
        }
        DataType::Struct(_) => rows_equal(l.as_struct().columns(), i, r.as_struct().columns(), j),
        // Rare types: whatever Arrow's own equality says.
        _ => l.slice(i, 1).as_ref() == r.slice(j, 1).as_ref(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, ListArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn equality_of_values_is_that_of_the_hash() {
        let floats: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), None]));
        let one = std::slice::from_ref(&floats);
        let mut hashes = Vec::new();
        crate::zset::key::hash_columns(one, &mut hashes);
        for i in 0..5 {
            for j in 0..5 {
                assert_eq!(rows_equal(one, i, one, j), hashes[i] == hashes[j], "{i} {j}");
            }
        }
        let l: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![Some(1)]),
            None,
        ]));
        let k: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 1]));
        let both = [l, k];
        assert!(rows_equal(&both, 0, &both, 0));
        assert!(!rows_equal(&both, 0, &both, 1));
        assert!(!rows_equal(&both, 1, &both, 2));
    }
}
