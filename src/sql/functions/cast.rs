//! Casts between PostgreSQL types: which exist, and the expressions that do them.
//!
//! Boundary: one value at a time from one type to another; when a cast is applied is the binder's business.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Decimal256Array, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int16Type, Int32Type, Int64Type, i256};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, Volatility, lit};

use super::{DfResult, as_arrays, df_error, from_array, native, native_with, operators};
use crate::error::{Error, ErrorKind, Result};
use crate::types::text::{TextFormatter, TextOptions, parse_column, parse_text};
use crate::types::{PgType, oid};

/// When a cast is applied without being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// Anywhere.
    Implicit,
    /// When a value is stored in a column.
    Assignment,
    /// Only where it is written.
    Explicit,
}

/// Rank of a type among the numbers, if it is one.
fn number(oid: u32) -> Option<u8> {
    Some(match oid {
        oid::INT2 => 0,
        oid::INT4 => 1,
        oid::INT8 | oid::OID => 2,
        oid::NUMERIC => 3,
        oid::FLOAT4 => 4,
        oid::FLOAT8 => 5,
        _ => return None,
    })
}

/// Whether values of the type are character strings.
pub fn is_text(oid: u32) -> bool {
    matches!(oid, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::UNKNOWN)
}

fn is_json(oid: u32) -> bool {
    matches!(oid, oid::JSON | oid::JSONB)
}

/// The weakest context in which PostgreSQL casts between these types, if it does at all.
pub fn cast_context(from: PgType, to: PgType) -> Option<CastContext> {
    use CastContext::{Assignment, Explicit, Implicit};
    let (f, t) = (from.oid, to.oid);
    if f == t || f == oid::UNKNOWN {
        return Some(Implicit);
    }
    if let (Some(a), Some(b)) = (number(f), number(t)) {
        return Some(if a <= b { Implicit } else { Assignment });
    }
    match (f, t) {
        _ if is_text(f) && is_text(t) => Some(Implicit),
        (oid::DATE, oid::TIMESTAMP | oid::TIMESTAMPTZ) | (oid::TIMESTAMP, oid::TIMESTAMPTZ) => Some(Implicit),
        (oid::TIME, oid::INTERVAL) => Some(Implicit),
        (oid::TIMESTAMPTZ, oid::TIMESTAMP | oid::DATE | oid::TIME)
        | (oid::TIMESTAMP, oid::DATE | oid::TIME) => Some(Assignment),
        (oid::BOOL, oid::INT4) | (oid::INT4, oid::BOOL) => Some(Explicit),
        _ if is_json(f) && is_json(t) => Some(Assignment),
        (oid::INT4 | oid::INT8, oid::REGCLASS | oid::REGTYPE | oid::REGPROC)
        | (oid::REGCLASS | oid::REGTYPE | oid::REGPROC, oid::INT4 | oid::INT8 | oid::OID)
        | (oid::OID, oid::REGCLASS | oid::REGTYPE | oid::REGPROC) => Some(Implicit),
        _ if is_text(t) => Some(Assignment),
        _ if is_text(f) => Some(Explicit),
        _ => match (from.element(), to.element()) {
            (Some(a), Some(b)) => cast_context(a, b).map(|c| c.max(Implicit)),
            _ => None,
        },
    }
}

/// The constant that a literal of unknown type becomes in its context.
pub fn literal(text: &str, to: PgType, context: CastContext, time_zone: &str) -> Result<Expr> {
    let value = if to.oid == oid::NUMERIC && to.typmod < 0 {
        own_scale(text).map_or_else(|| parse(to, text, time_zone), Ok)?
    } else {
        let base = if to.max_chars().is_some() { PgType::of(to.oid) } else { to };
        parse(base, text, time_zone)?
    };
    let metadata = to.field("", true).metadata().clone();
    let metadata = (!metadata.is_empty()).then(|| metadata.into());
    let literal = Expr::Literal(value, metadata);
    Ok(match to.max_chars() {
        Some(_) => length(literal, to, context),
        None => literal,
    })
}

fn parse(to: PgType, text: &str, time_zone: &str) -> Result<ScalarValue> {
    parse_text(to, text, &TextOptions::default().with_time_zone(time_zone)?)
}

/// A plain decimal constant with just the scale it is written with.
fn own_scale(text: &str) -> Option<ScalarValue> {
    let t = text.trim();
    let (negative, digits) = match t.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, t.strip_prefix('+').unwrap_or(t)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() + fraction.len() > 38 {
        return None;
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let v: i128 = format!("{whole}{fraction}").parse().ok()?;
    let precision = u8::try_from(whole.trim_start_matches('0').len() + fraction.len()).ok()?.max(1);
    let scale = i8::try_from(fraction.len()).ok()?;
    Some(ScalarValue::Decimal128(Some(if negative { -v } else { v }), precision, scale))
}

/// The expression that casts `expr`, of this type, to `to`.
pub fn cast(expr: Expr, from: &Field, to: PgType, context: CastContext, time_zone: &str) -> Result<Expr> {
    match cast_inner(expr, from, to, context, time_zone)? {
        // A cast whose field has no metadata would keep its operand's.
        Expr::Cast(c) if c.field.metadata().is_empty() && !from.metadata().is_empty() => {
            let field = c.field.as_ref().clone().with_nullable(from.is_nullable());
            let metadata = PgType::of_field(&field).metadata();
            Ok(Expr::Cast(Cast::new_from_field(c.expr, Arc::new(field.with_metadata(metadata)))))
        }
        e => Ok(e),
    }
}

fn cast_inner(expr: Expr, from: &Field, to: PgType, context: CastContext, time_zone: &str) -> Result<Expr> {
    let source = PgType::of_field(from);
    if cast_context(source, to).is_none_or(|c| c > context) && *from.data_type() != DataType::Null {
        return Err(if context == CastContext::Explicit {
            Error::new(
                ErrorKind::CannotCoerce,
                format!("cannot cast type {} to {}", source.sql_name(), to.sql_name()),
            )
        } else {
            Error::new(
                ErrorKind::DatatypeMismatch,
                format!("type {} cannot be cast to type {} here", source.sql_name(), to.sql_name()),
            )
        });
    }
    let target = to.arrow();
    let data_type = from.data_type();
    if *data_type == DataType::Null {
        return Ok(plain(expr, to, target));
    }
    if to.max_chars().is_some() {
        let text = to_text(expr, from, PgType::of(to.oid), time_zone);
        return Ok(length(text, to, context));
    }
    let number_to_number = number(source.oid).is_some() && number(to.oid).is_some();
    Ok(match (source.oid, to.oid) {
        _ if number_to_number => numbers(expr, data_type, to, context),
        (_, t) if is_text(t) => to_text(expr, from, to, time_zone),
        (f, t) if (is_text(f) || is_json(f)) && !(is_json(f) && is_json(t)) => native_with(
            format!("{}_in", to.typname()),
            to.field("", true),
            TEXT_IN,
            Volatility::Immutable,
            vec![expr, lit(to.oid as i64), lit(i64::from(to.typmod)), lit(time_zone)],
        ),
        (oid::DATE, oid::TIMESTAMPTZ) | (oid::TIMESTAMP, oid::TIMESTAMPTZ) if time_zone != "UTC" => {
            let ts = if source.oid == oid::DATE {
                plain(expr, PgType::TIMESTAMP, PgType::TIMESTAMP.arrow())
            } else {
                expr
            };
            super::datetime::at_time_zone(ts, &PgType::TIMESTAMP.arrow(), lit(time_zone))
        }
        (oid::TIMESTAMPTZ, oid::TIMESTAMP | oid::DATE | oid::TIME) if time_zone != "UTC" => {
            let local = super::datetime::at_time_zone(expr, &PgType::TIMESTAMPTZ.arrow(), lit(time_zone));
            if to.oid == oid::TIMESTAMP { local } else { plain(local, to, target) }
        }
        _ => plain(expr, to, target),
    })
}

/// DataFusion's own cast.
fn plain(expr: Expr, to: PgType, target: DataType) -> Expr {
    let field = to.field("", true).with_data_type(target);
    Expr::Cast(Cast::new_from_field(Box::new(expr), Arc::new(field)))
}

fn numbers(expr: Expr, from: &DataType, to: PgType, context: CastContext) -> Expr {
    let target = to.arrow();
    match (from, &target) {
        (
            DataType::Decimal128(..) | DataType::Decimal256(..),
            DataType::Decimal128(..) | DataType::Decimal256(..),
        ) if to.typmod < 0 && context != CastContext::Assignment => expr,
        (
            DataType::Decimal128(_, s) | DataType::Decimal256(_, s),
            DataType::Decimal128(_, t) | DataType::Decimal256(_, t),
        ) => {
            if *from == target {
                expr
            } else if to.typmod < 0 && t < s {
                native("numeric_exact", target, exact_numeric, vec![expr])
            } else {
                native_with("numeric", to.field("", true), fit_numeric, Volatility::Immutable, vec![expr])
            }
        }
        (DataType::Int16 | DataType::Int32 | DataType::Int64, DataType::Decimal128(..)) => {
            let digits = match from {
                DataType::Int16 => 5,
                DataType::Int32 => 10,
                _ => 19,
            };
            let free = plain(expr, PgType::NUMERIC, DataType::Decimal128(digits, 0));
            if to.typmod < 0 && context != CastContext::Assignment {
                free
            } else {
                native_with("numeric", to.field("", true), fit_numeric, Volatility::Immutable, vec![free])
            }
        }
        (DataType::Float32 | DataType::Float64, DataType::Decimal128(..)) => {
            native_with("numeric", to.field("", true), float_to_numeric, Volatility::Immutable, vec![expr])
        }
        (
            DataType::Decimal128(..) | DataType::Decimal256(..),
            DataType::Int16 | DataType::Int32 | DataType::Int64,
        ) => {
            let rounded = native("round", DataType::Decimal128(38, 0), operators::round_to_scale, vec![expr]);
            plain(rounded, to, target)
        }
        (DataType::Float32 | DataType::Float64, DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            native(to.typname(), target, float_to_int, vec![expr])
        }
        _ if *from == target && to.typmod < 0 && PgType::from_arrow(from) == to => expr,
        _ => plain(expr, to, target),
    }
}

fn to_text(expr: Expr, from: &Field, to: PgType, time_zone: &str) -> Expr {
    let field = to.field("", true);
    let source = PgType::of_field(from);
    if is_text(source.oid) || is_json(source.oid) {
        if source.oid == to.oid && source.typmod == to.typmod {
            return expr;
        }
        return plain(expr, to, DataType::Utf8);
    }
    native_with(to.typname(), field, TEXT_OUT, Volatility::Immutable, vec![expr, lit(time_zone)])
}

/// varchar(n) and char(n): a cast cuts silently, an assignment only cuts spaces.
fn length(expr: Expr, to: PgType, context: CastContext) -> Expr {
    let name =
        if context == CastContext::Explicit { to.typname() } else { format!("{}_assign", to.typname()) };
    let n = to.max_chars().unwrap_or_default() as i64;
    let kernel = match (context == CastContext::Explicit, to.oid == oid::BPCHAR) {
        (true, false) => |a: &ScalarFunctionArgs, _: &DataType| cut(a, true, "varying", false),
        (true, true) => |a: &ScalarFunctionArgs, _: &DataType| cut(a, true, "", true),
        (false, false) => |a: &ScalarFunctionArgs, _: &DataType| cut(a, false, "varying", false),
        (false, true) => |a: &ScalarFunctionArgs, _: &DataType| cut(a, false, "", true),
    };
    native_with(name, to.field("", true), kernel, Volatility::Immutable, vec![expr, lit(n)])
}

fn cut(args: &ScalarFunctionArgs, explicit: bool, varying: &str, pad: bool) -> DfResult<ColumnarValue> {
    let ColumnarValue::Scalar(ScalarValue::Int64(Some(n))) = &args.args[1] else {
        return Err(df_error(Error::internal("length is not a constant")));
    };
    let n = usize::try_from(*n).unwrap_or(0);
    let (arrays, scalar) = as_arrays(args)?;
    let values = arrays[0].as_string::<i32>();
    let mut out = StringBuilder::with_capacity(values.len(), values.value_data().len());
    for v in values {
        let Some(v) = v else {
            out.append_null();
            continue;
        };
        match v.char_indices().nth(n) {
            None => out.append_value(v),
            Some((end, _)) if explicit || v[end..].bytes().all(|b| b == b' ') => out.append_value(&v[..end]),
            Some(_) => {
                let name =
                    if varying.is_empty() { "character".to_string() } else { format!("character {varying}") };
                return Err(df_error(Error::new(
                    ErrorKind::StringTooLong,
                    format!("value too long for type {name}({n})"),
                )));
            }
        }
    }
    let array = out.finish();
    let array = if pad { blank_pad(&array, n) } else { array };
    from_array(Arc::new(array), scalar)
}

fn blank_pad(values: &StringArray, n: usize) -> StringArray {
    let mut out = StringBuilder::with_capacity(values.len(), values.len() * n);
    let mut buffer = String::new();
    for v in values {
        match v {
            None => out.append_null(),
            Some(v) => {
                buffer.clear();
                buffer.push_str(v);
                buffer.extend(std::iter::repeat_n(' ', n.saturating_sub(v.chars().count())));
                out.append_value(&buffer);
            }
        }
    }
    out.finish()
}

fn scalar_i64(v: &ColumnarValue) -> i64 {
    match v {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(n))) => *n,
        _ => -1,
    }
}

fn scalar_text(v: Option<&ColumnarValue>) -> &str {
    match v {
        Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(s)))) => s,
        _ => "UTC",
    }
}

const TEXT_IN: super::Kernel = |args, _| {
    let to = PgType { oid: scalar_i64(&args.args[1]) as u32, typmod: scalar_i64(&args.args[2]) as i32 };
    let options = TextOptions::default().with_time_zone(scalar_text(args.args.get(3))).map_err(df_error)?;
    let (arrays, _) = as_arrays(args)?;
    match &args.args[0] {
        ColumnarValue::Scalar(v) => match v.try_as_str().flatten() {
            Some(text) => Ok(ColumnarValue::Scalar(parse_text(to, text, &options).map_err(df_error)?)),
            None => Ok(ColumnarValue::Scalar(ScalarValue::try_from(&to.arrow())?)),
        },
        ColumnarValue::Array(_) => {
            let parsed = parse_column(to, arrays[0].as_string::<i32>().iter(), &options).map_err(df_error)?;
            Ok(ColumnarValue::Array(parsed))
        }
    }
};

const TEXT_OUT: super::Kernel = |args, _| {
    let options = TextOptions::default().with_time_zone(scalar_text(args.args.get(1))).map_err(df_error)?;
    let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
    let array = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
    let out: StringArray = if let DataType::Boolean = array.data_type() {
        array.as_boolean().iter().map(|v| v.map(|b| if b { "true" } else { "false" })).collect()
    } else {
        let field = args.arg_fields[0].as_ref().clone().with_data_type(array.data_type().clone());
        format_column(&field, &array, &options)
    };
    from_array(Arc::new(out), scalar)
};

/// The column in PostgreSQL's text form.
fn format_column(field: &Field, array: &ArrayRef, options: &TextOptions) -> StringArray {
    let formatter = TextFormatter::new(field, options);
    let mut out = StringBuilder::with_capacity(array.len(), array.len() * 8);
    let mut buffer = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
            continue;
        }
        buffer.clear();
        formatter.write(array.as_ref(), row, &mut buffer);
        out.append_value(String::from_utf8_lossy(&buffer));
    }
    out.finish()
}

fn field_overflow(precision: u8, scale: i8) -> Error {
    Error::new(ErrorKind::NumericOutOfRange, "numeric field overflow").with_detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{}.",
        i16::from(precision) - i16::from(scale)
    ))
}

/// numeric(p,s): rounded to the scale, refused beyond the precision.
fn fit_numeric(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let rounded = operators::round_to_scale(args, result)?;
    check_precision(rounded, result)
}

fn check_precision(value: ColumnarValue, result: &DataType) -> DfResult<ColumnarValue> {
    let DataType::Decimal128(p, s) = result else { return Ok(value) };
    let limit = 10u128.pow(u32::from((*p).min(38)));
    let too_big = |v: i128| v.unsigned_abs() >= limit;
    let overflow = match &value {
        ColumnarValue::Scalar(ScalarValue::Decimal128(v, ..)) => v.is_some_and(too_big),
        ColumnarValue::Array(a) => a.as_primitive::<Decimal128Type>().iter().flatten().any(too_big),
        ColumnarValue::Scalar(_) => false,
    };
    if overflow { Err(df_error(field_overflow(*p, *s))) } else { Ok(value) }
}

/// Fewer digits, but none lost: what is stored in a numeric without a modifier is stored exactly.
fn exact_numeric(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let (from, to) = match (arrays[0].data_type(), result) {
        (
            DataType::Decimal128(_, from) | DataType::Decimal256(_, from),
            DataType::Decimal128(_, to) | DataType::Decimal256(_, to),
        ) => (*from, *to),
        _ => return Err(df_error(Error::internal("operand is not numeric"))),
    };
    // A quotient already is rounded; its last digits carry nothing exact.
    let rounded = args.arg_fields[0].metadata().get(super::NUMERIC_DISPLAY);
    let rounded = rounded.is_some_and(|v| v == super::NUMERIC_DIVISION);
    let divisor = operators::pow10((from - to).unsigned_abs().into());
    let out: Decimal256Array = operators::widened(&arrays[0])?.try_unary(|v| {
        if !rounded && v.wrapping_rem(divisor) != i256::ZERO {
            return Err(df_error(
                Error::new(ErrorKind::NumericOutOfRange, "numeric field overflow")
                    .with_detail(format!("A numeric without precision keeps at most {to} fraction digits.")),
            ));
        }
        Ok(v.wrapping_div(divisor))
    })?;
    from_array(operators::fitted(out, result)?, scalar)
}

/// Floats become numeric through their 15 (float4: 6) significant digits, as in PostgreSQL.
fn float_to_numeric(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let DataType::Decimal128(p, s) = result else {
        return Err(df_error(Error::internal("result is not numeric")));
    };
    let (arrays, scalar) = as_arrays(args)?;
    let digits = if *arrays[0].data_type() == DataType::Float32 { 5 } else { 14 };
    let wide = arrow::compute::cast(&arrays[0], &DataType::Float64)?;
    let out: Decimal128Array = wide.as_primitive::<Float64Type>().try_unary(|v| {
        if !v.is_finite() {
            return Err(df_error(Error::unsupported("numeric NaN and infinity are not supported")));
        }
        scientific(&format!("{v:.digits$e}"), *s).ok_or_else(|| df_error(field_overflow(*p, *s)))
    })?;
    check_precision(from_array(Arc::new(out.with_data_type(result.clone())), scalar)?, result)
}

/// `1.23e4` at this scale, rounded half away from zero.
fn scientific(text: &str, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let fraction = mantissa.split_once('.').map_or(0, |(_, f)| f.len() as i32);
    let digits: i128 = mantissa.replace('.', "").parse().ok()?;
    let shift = exponent - fraction + i32::from(scale);
    if shift >= 0 {
        return digits.checked_mul(10i128.checked_pow(shift.unsigned_abs())?);
    }
    let Some(divisor) = 10i128.checked_pow(shift.unsigned_abs()) else { return Some(0) };
    let (q, r) = (digits / divisor, digits % divisor);
    Some(if r.abs() * 2 >= divisor { q + r.signum() } else { q })
}

/// Floats round to the nearest even integer.
fn float_to_int(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let wide = arrow::compute::cast(&arrays[0], &DataType::Float64)?;
    let floats = wide.as_primitive::<Float64Type>();
    macro_rules! convert {
        ($t:ty, $n:ty, $name:literal) => {{
            // -2^(bits-1) is exact as a float; the upper bound is its negation, exclusive.
            let low = <$n>::MIN as f64;
            let out: arrow::array::PrimitiveArray<$t> = floats.try_unary(|v| {
                let r = v.round_ties_even();
                if r >= low && r < -low {
                    Ok(r as $n)
                } else {
                    Err(df_error(Error::new(ErrorKind::NumericOutOfRange, concat!($name, " out of range"))))
                }
            })?;
            Arc::new(out) as ArrayRef
        }};
    }
    let out = match result {
        DataType::Int16 => convert!(Int16Type, i16, "smallint"),
        DataType::Int32 => convert!(Int32Type, i32, "integer"),
        _ => convert!(Int64Type, i64, "bigint"),
    };
    from_array(out, scalar)
}
