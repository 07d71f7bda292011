//! String and math functions where DataFusion's differ from PostgreSQL's or know no limits.
//!
//! Boundary: kernels only.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::{DfResult, as_arrays, df_error, from_array, operators};
use crate::error::{Error, ErrorKind};

/// Longest text one call may make.
const MAX_TEXT: usize = 64 << 20;

fn too_long() -> datafusion::error::DataFusionError {
    df_error(Error::new(ErrorKind::ProgramLimit, "requested length too large"))
}

/// Room in one result column: offsets are 32 bit.
fn charge(total: &mut usize, bytes: usize) -> DfResult<()> {
    *total = total.saturating_add(bytes);
    if bytes > MAX_TEXT || *total > i32::MAX as usize { Err(too_long()) } else { Ok(()) }
}

/// repeat(text, n).
pub fn repeat(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let (text, counts) = (arrays[0].as_string::<i32>(), arrays[1].as_primitive::<Int32Type>());
    let mut total = 0;
    let mut out = StringBuilder::new();
    for (text, n) in text.iter().zip(counts) {
        match (text, n) {
            (Some(text), Some(n)) => {
                let n = usize::try_from(n).unwrap_or(0);
                charge(&mut total, text.len().saturating_mul(n))?;
                out.append_value(text.repeat(n));
            }
            _ => out.append_null(),
        }
    }
    from_array(Arc::new(out.finish()), scalar)
}

/// lpad(text, n [, fill]).
pub fn lpad(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    pad(args, true)
}

/// rpad(text, n [, fill]).
pub fn rpad(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    pad(args, false)
}

fn pad(args: &ScalarFunctionArgs, left: bool) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let (text, lengths) = (arrays[0].as_string::<i32>(), arrays[1].as_primitive::<Int32Type>());
    let fills = arrays.get(2).map(|a| a.as_string::<i32>());
    let mut total = 0;
    let mut out = StringBuilder::new();
    let mut buffer = String::new();
    for row in 0..text.len() {
        if text.is_null(row) || lengths.is_null(row) || fills.is_some_and(|f| f.is_null(row)) {
            out.append_null();
            continue;
        }
        let (value, n) = (text.value(row), usize::try_from(lengths.value(row)).unwrap_or(0));
        let fill = fills.map_or(" ", |f| f.value(row));
        charge(&mut total, value.len().min(n * 4) + n * fill.chars().next().map_or(0, char::len_utf8))?;
        let missing = n.saturating_sub(value.chars().count());
        buffer.clear();
        if left {
            buffer.extend(fill.chars().cycle().take(missing));
            buffer.extend(value.chars().take(n));
        } else {
            buffer.extend(value.chars().take(n));
            buffer.extend(fill.chars().cycle().take(missing));
        }
        out.append_value(&buffer);
    }
    from_array(Arc::new(out.finish()), scalar)
}

/// length(bytea).
pub fn byte_length(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out: Int32Array = arrays[0].as_binary::<i32>().iter().map(|v| v.map(|v| v.len() as i32)).collect();
    from_array(Arc::new(out), scalar)
}

fn power_domain(message: &str) -> Error {
    Error::new(ErrorKind::InvalidPower, message)
}

fn log_domain(message: &str) -> Error {
    Error::new(ErrorKind::InvalidLogarithm, message)
}

/// upper(text): characters whose upper case is several characters stay, as in PostgreSQL.
pub fn upper(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    each_character(args, |c, _| single(c.to_uppercase(), c))
}

/// lower(text).
pub fn lower(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    each_character(args, |c, _| single(c.to_lowercase(), c))
}

/// initcap(text): the first character of each word upper case, the others lower case.
pub fn initcap(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    each_character(
        args,
        |c, begins| if begins { single(c.to_uppercase(), c) } else { single(c.to_lowercase(), c) },
    )
}

/// The one character of a mapping, or the original.
fn single(mut mapped: impl ExactSizeIterator<Item = char>, original: char) -> char {
    if mapped.len() == 1 { mapped.next().unwrap_or(original) } else { original }
}

/// Text with each character mapped; the second argument says whether a word begins with it.
fn each_character(args: &ScalarFunctionArgs, map: fn(char, bool) -> char) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let texts = arrays[0].as_string::<i32>();
    let mut out = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut buffer = String::new();
    for text in texts {
        let Some(text) = text else {
            out.append_null();
            continue;
        };
        buffer.clear();
        let mut begins = true;
        for c in text.chars() {
            buffer.push(map(c, begins));
            begins = !c.is_alphanumeric();
        }
        out.append_value(&buffer);
    }
    from_array(Arc::new(out.finish()), scalar)
}

/// sqrt(float8).
pub fn sqrt(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    operators::float_unary::<Float64Type>(args, |v| {
        if v < 0.0 { Err(power_domain("cannot take square root of a negative number")) } else { Ok(v.sqrt()) }
    })
}

fn logarithm(v: f64, f: fn(f64) -> f64) -> Result<f64, Error> {
    if v == 0.0 {
        Err(log_domain("cannot take logarithm of zero"))
    } else if v < 0.0 {
        Err(log_domain("cannot take logarithm of a negative number"))
    } else {
        Ok(f(v))
    }
}

/// ln(float8).
pub fn ln(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    operators::float_unary::<Float64Type>(args, |v| logarithm(v, f64::ln))
}

/// log(float8), base 10.
pub fn log10(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    operators::float_unary::<Float64Type>(args, |v| logarithm(v, f64::log10))
}

/// power(float8, float8).
pub fn power(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out: arrow::array::Float64Array = arrow::compute::try_binary(
        arrays[0].as_primitive::<Float64Type>(),
        arrays[1].as_primitive::<Float64Type>(),
        |a: f64, b: f64| {
            let r = a.powf(b);
            let e = if a == 0.0 && b < 0.0 {
                power_domain("zero raised to a negative power is undefined")
            } else if a < 0.0 && b.fract() != 0.0 {
                power_domain("a negative number raised to a non-integer power yields a complex result")
            } else if r.is_infinite() && a.is_finite() && b.is_finite() {
                Error::new(ErrorKind::NumericOutOfRange, "value out of range: overflow")
            } else {
                return Ok(r);
            };
            Err(arrow::error::ArrowError::ExternalError(Box::new(e)))
        },
    )?;
    from_array(Arc::new(out), scalar)
}
