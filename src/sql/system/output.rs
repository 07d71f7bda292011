//! Results as Arrow columns.
//!
//! Boundary: types and values of a result as a client is told of them. Types that have no Arrow form of their own
//! (regclass, int2vector, aclitem, …) are shown as text, as PostgreSQL's text format would.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};

use super::SystemContext;
use super::cast::to_text;
use super::coerce::is_reg;
use crate::catalog::system::{Value, types};
use crate::error::{Error, Result};
use crate::types::{PgType, oid};

/// The type under which a client sees values of a type.
pub(super) fn shown_type(ty: PgType) -> PgType {
    if PgType::of(ty.oid).array_oid().is_some() && !is_reg(ty.oid) && ty.oid != oid::UNKNOWN {
        return ty;
    }
    if let Some(element) =
        types::element(ty.oid).filter(|_| !matches!(ty.oid, types::INT2VECTOR | types::OIDVECTOR))
    {
        let shown = shown_type(PgType::of(element));
        return PgType::of(shown.array_oid().unwrap_or(1009));
    }
    if ty.oid == oid::VOID { ty } else { PgType::TEXT }
}

/// Values of a type as a column of the type it is shown under.
pub(super) fn shown(context: &SystemContext<'_>, values: &[Value], ty: PgType) -> Result<ArrayRef> {
    let to = shown_type(ty);
    if to.oid == ty.oid {
        return array(context, values, ty);
    }
    let values =
        values.iter().map(|v| super::cast::cast(context, v, ty, to, true)).collect::<Result<Vec<_>>>()?;
    array(context, &values, to)
}

/// A column of values.
pub(super) fn array(context: &SystemContext<'_>, values: &[Value], ty: PgType) -> Result<ArrayRef> {
    let ints = || values.iter().map(Value::as_int);
    let floats = || values.iter().map(Value::as_float);
    let times = || {
        values.iter().map(|v| match v {
            Value::Timestamp(t) => Some(*t),
            _ => None,
        })
    };
    Ok(match ty.arrow() {
        DataType::Boolean => Arc::new(
            values
                .iter()
                .map(|v| match v {
                    Value::Bool(b) => Some(*b),
                    _ => None,
                })
                .collect::<BooleanArray>(),
        ),
        DataType::Int16 => {
            Arc::new(ints().map(|i| i.and_then(|i| i16::try_from(i).ok())).collect::<Int16Array>())
        }
        DataType::Int32 => {
            Arc::new(ints().map(|i| i.and_then(|i| i32::try_from(i).ok())).collect::<Int32Array>())
        }
        DataType::Int64 => Arc::new(ints().collect::<Int64Array>()),
        DataType::Float32 => Arc::new(floats().map(|f| f.map(|f| f as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(floats().collect::<Float64Array>()),
        DataType::Decimal128(precision, scale) => {
            let unit = 10i128.checked_pow(u32::try_from(scale).unwrap_or_default()).unwrap_or(1);
            let scaled = values.iter().map(|v| match v {
                Value::Int(i) => i128::from(*i).checked_mul(unit),
                Value::Float(f) if f.is_finite() => Some((f * unit as f64).round() as i128),
                _ => None,
            });
            Arc::new(scaled.collect::<Decimal128Array>().with_precision_and_scale(precision, scale)?)
        }
        DataType::Date32 => Arc::new(
            times()
                .map(|t| t.and_then(|t| i32::try_from(t.div_euclid(86_400_000_000)).ok()))
                .collect::<Date32Array>(),
        ),
        DataType::Timestamp(_, zone) => {
            Arc::new(times().collect::<TimestampMicrosecondArray>().with_timezone_opt(zone))
        }
        DataType::Interval(_) => Arc::new(
            values
                .iter()
                .map(|v| match v {
                    Value::Interval { months, days, micros } => {
                        Some(IntervalMonthDayNano::new(*months, *days, micros.saturating_mul(1000)))
                    }
                    _ => None,
                })
                .collect::<IntervalMonthDayNanoArray>(),
        ),
        DataType::Binary => Arc::new(
            values
                .iter()
                .map(|v| match v {
                    Value::Bytes(b) => Some(&**b),
                    _ => None,
                })
                .collect::<BinaryArray>(),
        ),
        DataType::List(field) => return list(context, values, ty, field.data_type()),
        DataType::Utf8 => {
            let texts = values
                .iter()
                .map(|v| match v {
                    Value::Null => Ok(None),
                    v => to_text(context, v, ty).map(Some),
                })
                .collect::<Result<Vec<_>>>()?;
            Arc::new(texts.into_iter().collect::<StringArray>())
        }
        other => return Err(Error::unsupported(format!("results of type {other} are not supported here"))),
    })
}

fn list(context: &SystemContext<'_>, values: &[Value], ty: PgType, item: &DataType) -> Result<ArrayRef> {
    let element = ty.element().unwrap_or(PgType::TEXT);
    let empty = vec![];
    let rows: Vec<&Vec<Value>> = values.iter().map(|v| v.as_array().map_or(&empty, |a| &a.items)).collect();
    let flat: Vec<Value> = rows.iter().flat_map(|r| r.iter().cloned()).collect();
    let items = array(context, &flat, element)?;
    let field = Arc::new(Field::new("item", item.clone(), true));
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|r| r.len()));
    let nulls = NullBuffer::from_iter(values.iter().map(|v| !v.is_null()));
    Ok(Arc::new(ListArray::try_new(field, offsets, items, Some(nulls))?))
}
