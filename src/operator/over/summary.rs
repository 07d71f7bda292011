//! What an aggregate over many rows comes to, so that a frame that reaches far need not be read row by row.
//!
//! Boundary: sums and counts exactly, extremes as comparable bytes; other functions have no summary.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int64Type, i256};

use super::sequence::RowRef;
use crate::error::{Error, Result};
use crate::expr::window::{WindowCall, WindowKind};
use crate::operator::reduce::float::ExactSum;
use crate::operator::rows::RowCodec;
use crate::zset::key::RowEncoder;

/// The summary of some rows for one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Summary {
    /// Rows that pass the filter and whose argument is not NULL.
    pub count: usize,
    /// Their exact sum.
    pub sum: i256,
    /// Their exact sum, of floats.
    pub float: Option<Box<ExactSum>>,
    /// The least or greatest of them.
    pub extreme: Option<Arc<[u8]>>,
}

/// How rows are summed up for one call.
#[derive(Debug)]
pub(super) enum Summed {
    /// They are not.
    Not,
    /// Only counted.
    Counted,
    /// As exact integers.
    Integers,
    /// As floats.
    Floats,
    /// By their least (`false`) or greatest (`true`) bytes.
    Extreme(RowEncoder, bool),
}

impl Summed {
    /// How rows are summed up for a call whose argument has this type.
    pub fn of(call: &WindowCall, argument: Option<&DataType>) -> Result<Summed> {
        let missing = || Error::internal("an aggregate without its argument");
        Ok(match (&call.kind, argument) {
            (WindowKind::Count, _) => Summed::Counted,
            (WindowKind::Sum | WindowKind::Avg, Some(DataType::Float32 | DataType::Float64)) => {
                Summed::Floats
            }
            (
                WindowKind::Sum,
                Some(DataType::Int64 | DataType::Decimal128(..) | DataType::Decimal256(..)),
            ) => Summed::Integers,
            (WindowKind::Sum | WindowKind::Avg, Some(other)) => {
                return Err(Error::unsupported(format!("sum of {other} over a window is not supported")));
            }
            (WindowKind::Min | WindowKind::Max, Some(t)) => {
                Summed::Extreme(RowEncoder::new([t.clone()])?, call.kind == WindowKind::Max)
            }
            (WindowKind::Sum | WindowKind::Avg | WindowKind::Min | WindowKind::Max, None) => {
                return Err(missing());
            }
            _ => Summed::Not,
        })
    }
}

/// A column of exact integers.
pub(super) enum Integers<'a> {
    Small(&'a [i64]),
    Large(&'a [i128]),
    Huge(&'a [i256]),
}

impl<'a> Integers<'a> {
    /// The values of an int8 or numeric column.
    pub fn of(array: &'a ArrayRef) -> Integers<'a> {
        match array.data_type() {
            DataType::Int64 => Integers::Small(array.as_primitive::<Int64Type>().values()),
            DataType::Decimal256(..) => Integers::Huge(array.as_primitive::<Decimal256Type>().values()),
            _ => Integers::Large(array.as_primitive::<Decimal128Type>().values()),
        }
    }

    /// One of them.
    #[inline]
    pub fn value(&self, i: usize) -> i256 {
        match self {
            Integers::Small(v) => i256::from_i128(i128::from(v[i])),
            Integers::Large(v) => i256::from_i128(v[i]),
            Integers::Huge(v) => v[i],
        }
    }
}

/// A value of a float column.
#[inline]
pub(super) fn float_at(array: &ArrayRef, i: usize) -> f64 {
    match array.data_type() {
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(i)),
        _ => array.as_primitive::<Float64Type>().value(i),
    }
}

/// Which rows take part: the filter is true and the argument not NULL.
pub(super) fn takes_part(call: &WindowCall, columns: &[ArrayRef], rows: usize) -> Vec<bool> {
    let mut part = vec![true; rows];
    if let Some(filter) = call.filter {
        let filter = columns[filter].as_boolean();
        for (i, p) in part.iter_mut().enumerate() {
            *p = filter.is_valid(i) && filter.value(i);
        }
    }
    if let Some(argument) = call.args.first()
        && let Some(nulls) = columns[*argument].logical_nulls()
    {
        for (p, valid) in part.iter_mut().zip(nulls.iter()) {
            *p &= valid;
        }
    }
    part
}

/// Sums rows up for all calls of an operator.
#[derive(Debug)]
pub(super) struct Summarizer {
    codec: Arc<RowCodec>,
    calls: Vec<(WindowCall, Summed)>,
    idle: bool,
}

impl Summarizer {
    /// Of rows that `codec` decodes.
    pub fn new(codec: Arc<RowCodec>, calls: Vec<(WindowCall, Summed)>) -> Summarizer {
        let idle = calls.iter().all(|(_, s)| matches!(s, Summed::Not));
        Summarizer { codec, calls, idle }
    }

    /// How call `i` is summed up.
    pub fn summed(&self, i: usize) -> &Summed {
        &self.calls[i].1
    }

    /// The summaries of no rows.
    pub fn nothing(&self) -> Vec<Summary> {
        vec![Summary::default(); self.calls.len()]
    }

    /// The summaries of these rows.
    pub fn rows<'a>(&self, rows: impl Iterator<Item = RowRef<'a>>) -> Result<Vec<Summary>> {
        let mut all = self.nothing();
        if self.idle {
            return Ok(all);
        }
        let rows: Vec<RowRef<'_>> = rows.collect();
        let batch: RecordBatch = self.codec.decode(rows.iter().map(|r| r.bytes))?;
        for ((call, summed), summary) in self.calls.iter().zip(&mut all) {
            let part = takes_part(call, batch.columns(), rows.len());
            let argument = call.args.first().map(|a| batch.column(*a));
            match (summed, argument) {
                (Summed::Not, _) => continue,
                (Summed::Integers, Some(values)) => {
                    let values = Integers::of(values);
                    for (i, row) in rows.iter().enumerate().filter(|(i, _)| part[*i]) {
                        let product = values.value(i).wrapping_mul(i256::from_i128(row.count as i128));
                        summary.sum = summary.sum.wrapping_add(product);
                    }
                }
                (Summed::Floats, Some(values)) => {
                    let sum = summary.float.get_or_insert_default();
                    for (i, row) in rows.iter().enumerate().filter(|(i, _)| part[*i]) {
                        sum.add(float_at(values, i), row.count as i64);
                    }
                }
                (Summed::Extreme(encoder, greatest), Some(values)) => {
                    let encoded = encoder.encode(&[Arc::clone(values)])?;
                    let bytes = (0..rows.len()).filter(|i| part[*i]).map(|i| encoded.row(i).data());
                    let extreme = if *greatest { bytes.max() } else { bytes.min() };
                    summary.extreme = extreme.map(Arc::from);
                }
                _ => {}
            }
            summary.count = rows.iter().zip(&part).filter(|(_, p)| **p).map(|(r, _)| r.count).sum();
        }
        Ok(all)
    }

    /// Adds summaries of further rows.
    pub fn merge(&self, into: &mut [Summary], other: &[Summary]) {
        for (((_, summed), into), other) in self.calls.iter().zip(into).zip(other) {
            into.count += other.count;
            into.sum = into.sum.wrapping_add(other.sum);
            if let Some(sum) = &other.float {
                into.float.get_or_insert_default().merge(sum);
            }
            if let (Summed::Extreme(_, greatest), Some(bytes)) = (summed, &other.extreme) {
                merge_extreme(&mut into.extreme, bytes, *greatest);
            }
        }
    }
}

/// Keeps the less or the greater of two.
pub(super) fn merge_extreme(into: &mut Option<Arc<[u8]>>, bytes: &Arc<[u8]>, greatest: bool) {
    let better = match into {
        None => true,
        Some(old) => {
            if greatest {
                bytes > old
            } else {
                bytes < old
            }
        }
    };
    if better {
        *into = Some(Arc::clone(bytes));
    }
}
