//! Arithmetic as PostgreSQL does it: checked integers, exact numerics, floats that do not overflow silently.
//!
//! Boundary: kernels over Arrow columns and the expressions that call them; operand types are settled before.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, Decimal128Array, Decimal256Array, PrimitiveArray,
};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, i256,
};
use arrow::error::ArrowError;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs};
use datafusion::physical_expr_common::datum::apply;

use super::{
    DIVISION_SCALE, DfResult, Kernel, NUMERIC_DISPLAY, as_arrays, df_error, from_array, native,
    native_quotient, native_trimmed,
};
use crate::error::{Error, ErrorKind};
use crate::types::FREE_NUMERIC_SCALE;

/// Greatest scale of a product that is kept in 128 bits; products with more digits are kept in 256.
const NARROW_PRODUCT_SCALE: i16 = 20;
/// Greatest scale of a product: digits beyond it must be zero (22003 otherwise).
const WIDE_PRODUCT_SCALE: i16 = 56;

/// `left op right` over operands of one type (or two decimals), op one of + - * / %.
pub fn arithmetic(op: &str, left: Expr, right: Expr, left_field: &Field, right_field: &Field) -> Expr {
    let args = vec![left, right];
    let (l, r) = (left_field.data_type(), right_field.data_type());
    match (decimal(l), decimal(r)) {
        (Some(a), Some(b)) => {
            let trimmed = shows_own_digits(left_field) || shows_own_digits(right_field);
            numeric_arithmetic(op, args, a, b, trimmed)
        }
        _ if matches!(l, DataType::Float32 | DataType::Float64) => {
            native(op, l.clone(), float_kernel(op), args)
        }
        _ => native(op, l.clone(), int_kernel(op), args),
    }
}

/// Precision, scale, and whether it has 256 bits.
fn decimal(t: &DataType) -> Option<(u8, i8, bool)> {
    match t {
        DataType::Decimal128(p, s) => Some((*p, *s, false)),
        DataType::Decimal256(p, s) => Some((*p, *s, true)),
        _ => None,
    }
}

/// Whether the values of a numeric column show as many digits as they have, not as many as the column's scale.
fn shows_own_digits(field: &Field) -> bool {
    field.metadata().contains_key(NUMERIC_DISPLAY) || is_free(field.data_type())
}

/// numeric without a modifier.
fn is_free(t: &DataType) -> bool {
    matches!(t, DataType::Decimal128(38, FREE_NUMERIC_SCALE))
}

fn numeric_arithmetic(
    op: &str,
    args: Vec<Expr>,
    (p1, s1, wide1): (u8, i8, bool),
    (p2, s2, wide2): (u8, i8, bool),
    trimmed: bool,
) -> Expr {
    let wide = wide1 || wide2;
    let max = |wide: bool| if wide { 76i16 } else { 38 };
    let whole = |p: u8, s: i8| i16::from(p) - i16::from(s);
    let (precision, scale, wide, kernel): (i16, i16, bool, Kernel) = match op {
        "+" | "-" => {
            let s = i16::from(s1.max(s2));
            let p = whole(p1, s1).max(whole(p2, s2)) + s + 1;
            (p, s, wide, if op == "+" { numeric_add } else { numeric_sub })
        }
        "*" => {
            let s = i16::from(s1) + i16::from(s2);
            let wide = wide || s > NARROW_PRODUCT_SCALE;
            (i16::from(p1) + i16::from(p2) + 1, s.min(WIDE_PRODUCT_SCALE), wide, numeric_mul)
        }
        "/" => {
            return native_quotient(op, DataType::Decimal128(38, DIVISION_SCALE), numeric_div, args);
        }
        _ => (max(wide), i16::from(s1.max(s2)), wide, numeric_rem),
    };
    let precision = precision.clamp(scale.max(1), max(wide)) as u8;
    let result = if wide {
        DataType::Decimal256(precision, scale as i8)
    } else {
        DataType::Decimal128(precision, scale as i8)
    };
    if trimmed && !is_free(&result) {
        return native_trimmed(op, result, kernel, args);
    }
    native(op, result, kernel, args)
}

/// A numeric sum divided by a count: avg.
pub fn numeric_average(sum: Expr, count: Expr) -> Expr {
    native_quotient("/", DataType::Decimal128(38, DIVISION_SCALE), numeric_div, vec![sum, count])
}

/// `- operand`.
pub fn negate(operand: Expr, data_type: &DataType) -> Expr {
    native("-", data_type.clone(), negate_kernel, vec![operand])
}

fn division_by_zero() -> Error {
    Error::new(ErrorKind::DivisionByZero, "division by zero")
}

fn out_of_range(data_type: &DataType) -> Error {
    let name = match data_type {
        DataType::Int16 => "smallint out of range",
        DataType::Int32 => "integer out of range",
        DataType::Int64 => "bigint out of range",
        DataType::Decimal128(..) | DataType::Decimal256(..) => "numeric field overflow",
        DataType::Interval(_) => "interval out of range",
        _ => "value out of range: overflow",
    };
    Error::new(ErrorKind::NumericOutOfRange, name)
}

fn arrow_error(e: ArrowError, data_type: &DataType) -> Error {
    match e {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(_) => out_of_range(data_type),
        other => Error::from(other),
    }
}

type ArrowOp = fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError>;

fn binary(args: &ScalarFunctionArgs, result: &DataType, op: ArrowOp) -> DfResult<ColumnarValue> {
    apply(&args.args[0], &args.args[1], |l, r| {
        op(l, r).map_err(|e| ArrowError::ExternalError(Box::new(arrow_error(e, result))))
    })
}

macro_rules! int_ops {
    ($($name:ident = $op:path;)*) => {
        $(fn $name(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
            binary(args, result, $op)
        })*
    };
}

int_ops! {
    int_add = numeric::add;
    int_sub = numeric::sub;
    int_mul = numeric::mul;
    int_div = numeric::div;
}

fn int_kernel(op: &str) -> super::Kernel {
    match op {
        "+" => int_add,
        "-" => int_sub,
        "*" => int_mul,
        "/" => int_div,
        _ => int_rem,
    }
}

/// PostgreSQL gives 0 for `min % -1`, where Arrow sees an overflow.
fn int_rem(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (mut arrays, scalar) = as_arrays(args)?;
    for array in &mut arrays {
        // The optimizer asks what an expression gives for NULL with a NULL that has no type.
        if array.data_type().is_null() {
            *array = arrow::array::new_null_array(result, array.len());
        }
    }
    macro_rules! rem {
        ($t:ty) => {{
            let r = arrow::compute::try_binary::<_, _, _, $t>(
                arrays[0].as_primitive::<$t>(),
                arrays[1].as_primitive::<$t>(),
                |a, b| if b == 0 { Err(ArrowError::DivideByZero) } else { Ok(a.wrapping_rem(b)) },
            );
            Arc::new(r.map_err(|e| df_error(arrow_error(e, result)))?) as ArrayRef
        }};
    }
    let out = match result {
        DataType::Int16 => rem!(Int16Type),
        DataType::Int32 => rem!(Int32Type),
        _ => rem!(Int64Type),
    };
    from_array(out, scalar)
}

fn float_kernel(op: &str) -> super::Kernel {
    match op {
        "+" => |a, t| float_op(a, t, |x, y| x + y, |x, y| x + y, false),
        "-" => |a, t| float_op(a, t, |x, y| x - y, |x, y| x - y, false),
        "*" => |a, t| float_op(a, t, |x, y| x * y, |x, y| x * y, false),
        _ => |a, t| float_op(a, t, |x, y| x / y, |x, y| x / y, true),
    }
}

/// Infinite results of finite operands are 22003, a zero divisor 22012.
fn float_op(
    args: &ScalarFunctionArgs,
    result: &DataType,
    f64_op: fn(f64, f64) -> f64,
    f32_op: fn(f32, f32) -> f32,
    division: bool,
) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    macro_rules! run {
        ($t:ty, $op:expr) => {{
            arrow::compute::try_binary::<_, _, _, $t>(
                arrays[0].as_primitive::<$t>(),
                arrays[1].as_primitive::<$t>(),
                |a, b| {
                    if division && b == 0.0 && !a.is_nan() {
                        return Err(ArrowError::DivideByZero);
                    }
                    let r = $op(a, b);
                    if r.is_infinite() && a.is_finite() && b.is_finite() {
                        return Err(ArrowError::ArithmeticOverflow(String::new()));
                    }
                    Ok(r)
                },
            )
            .map(|a: PrimitiveArray<$t>| Arc::new(a) as ArrayRef)
        }};
    }
    let out = match result {
        DataType::Float32 => run!(Float32Type, f32_op),
        _ => run!(Float64Type, f64_op),
    };
    from_array(out.map_err(|e| df_error(arrow_error(e, result)))?, scalar)
}

fn negate_kernel(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out = numeric::neg(arrays[0].as_ref()).map_err(|e| df_error(arrow_error(e, result)))?;
    from_array(out, scalar)
}

pub(super) fn pow10(n: u32) -> i256 {
    let mut r = i256::ONE;
    for _ in 0..n {
        r = r.wrapping_mul(i256::from_i128(10));
    }
    r
}

/// Runs a function of (left, right) over two Decimal128 columns and checks that results have at most 38 digits.
fn decimal_op(
    args: &ScalarFunctionArgs,
    result: &DataType,
    op: impl Fn(i128, i128) -> Result<i128, ArrowError>,
) -> DfResult<ColumnarValue> {
    const LIMIT: u128 = 10u128.pow(38);
    let (arrays, scalar) = as_arrays(args)?;
    let out: Decimal128Array = arrow::compute::try_binary(
        arrays[0].as_primitive::<Decimal128Type>(),
        arrays[1].as_primitive::<Decimal128Type>(),
        |a, b| match op(a, b) {
            Ok(v) if v.unsigned_abs() >= LIMIT => Err(ArrowError::ArithmeticOverflow(String::new())),
            r => r,
        },
    )
    .map_err(|e| df_error(arrow_error(e, result)))?;
    from_array(Arc::new(out.with_data_type(result.clone())), scalar)
}

/// The same where an operand or the result has 256 bits; results have at most 76 digits.
fn wide_op(
    args: &ScalarFunctionArgs,
    result: &DataType,
    op: impl Fn(i256, i256) -> Result<i256, ArrowError>,
) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let limit = pow10(76);
    let (left, right) = (widened(&arrays[0])?, widened(&arrays[1])?);
    let out: Decimal256Array = arrow::compute::try_binary(&left, &right, |a, b| match op(a, b) {
        Ok(v) if v >= limit || v <= limit.wrapping_neg() => Err(overflow()),
        r => r,
    })
    .map_err(|e| df_error(arrow_error(e, result)))?;
    from_array(fitted(out, result)?, scalar)
}

/// A decimal column with 256 bits and its own scale.
pub(super) fn widened(array: &ArrayRef) -> DfResult<Decimal256Array> {
    match array.data_type() {
        DataType::Decimal128(_, s) => {
            let wide: Decimal256Array = array.as_primitive::<Decimal128Type>().unary(i256::from_i128);
            Ok(wide.with_data_type(DataType::Decimal256(76, *s)))
        }
        DataType::Decimal256(..) => Ok(array.as_primitive::<Decimal256Type>().clone()),
        other => Err(df_error(Error::internal(format!("{other} is not numeric")))),
    }
}

/// Values in the width of the result type; 22003 if one does not fit.
pub(super) fn fitted(values: Decimal256Array, result: &DataType) -> DfResult<ArrayRef> {
    if matches!(result, DataType::Decimal256(..)) {
        return Ok(Arc::new(values.with_data_type(result.clone())));
    }
    const LIMIT: u128 = 10u128.pow(38);
    let narrow: Decimal128Array = values.try_unary(|v| {
        v.to_i128()
            .filter(|v| v.unsigned_abs() < LIMIT)
            .ok_or_else(|| df_error(arrow_error(overflow(), result)))
    })?;
    Ok(Arc::new(narrow.with_data_type(result.clone())))
}

fn is_wide(args: &ScalarFunctionArgs, result: &DataType) -> bool {
    let wide = |t: &DataType| matches!(t, DataType::Decimal256(..));
    wide(result) || args.args.iter().any(|a| wide(&a.data_type()))
}

fn scales(args: &ScalarFunctionArgs) -> (i8, i8) {
    let scale = |i: usize| decimal(&args.args[i].data_type()).map_or(0, |(_, s, _)| s);
    (scale(0), scale(1))
}

fn overflow() -> ArrowError {
    ArrowError::ArithmeticOverflow(String::new())
}

/// The factor that brings a value of scale `from` to scale `to`.
fn factor(from: i8, to: i8) -> i128 {
    10i128.pow(u32::try_from(i32::from(to) - i32::from(from)).unwrap_or(0).min(38))
}

fn wide_factor(from: i8, to: i8) -> i256 {
    pow10(u32::try_from(i32::from(to) - i32::from(from)).unwrap_or(0))
}

/// Brings both operands to the greater scale and combines them.
fn numeric_sum(
    args: &ScalarFunctionArgs,
    result: &DataType,
    op: fn(i128, i128) -> Result<i128, ArrowError>,
    wide: fn(i256, i256) -> Result<i256, ArrowError>,
) -> DfResult<ColumnarValue> {
    let (s1, s2) = scales(args);
    let s = s1.max(s2);
    if is_wide(args, result) {
        let (f1, f2) = (wide_factor(s1, s), wide_factor(s2, s));
        return wide_op(args, result, |a, b| {
            wide(a.checked_mul(f1).ok_or_else(overflow)?, b.checked_mul(f2).ok_or_else(overflow)?)
        });
    }
    let (f1, f2) = (factor(s1, s), factor(s2, s));
    decimal_op(args, result, |a, b| {
        op(a.checked_mul(f1).ok_or_else(overflow)?, b.checked_mul(f2).ok_or_else(overflow)?)
    })
}

fn numeric_add(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    numeric_sum(
        args,
        result,
        |a, b| a.checked_add(b).ok_or_else(overflow),
        |a, b| a.checked_add(b).ok_or_else(overflow),
    )
}

fn numeric_sub(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    numeric_sum(
        args,
        result,
        |a, b| a.checked_sub(b).ok_or_else(overflow),
        |a, b| a.checked_sub(b).ok_or_else(overflow),
    )
}

fn numeric_rem(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    numeric_sum(
        args,
        result,
        |a, b| if b == 0 { Err(ArrowError::DivideByZero) } else { Ok(a % b) },
        |a, b| if b == i256::ZERO { Err(ArrowError::DivideByZero) } else { Ok(a.wrapping_rem(b)) },
    )
}

/// Exact: digits beyond the result's scale must be zero, otherwise the product does not fit (22003).
fn numeric_mul(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (s1, s2) = scales(args);
    let Some((_, s, _)) = decimal(result) else {
        return Err(df_error(Error::internal("product is not numeric")));
    };
    let surplus = i32::from(s1) + i32::from(s2) - i32::from(s);
    if !is_wide(args, result) {
        return decimal_op(args, result, |a, b| a.checked_mul(b).ok_or_else(overflow));
    }
    let divisor = pow10(surplus.max(0).unsigned_abs());
    wide_op(args, result, |a, b| {
        let product = a.checked_mul(b).ok_or_else(overflow)?;
        if surplus <= 0 {
            return Ok(product);
        }
        if product.wrapping_rem(divisor) != i256::ZERO {
            return Err(overflow());
        }
        Ok(product.wrapping_div(divisor))
    })
}

/// The quotient with the digits that PostgreSQL gives it (`select_div_scale`, at most 20 after the point), kept at
/// scale 20; rounded half away from zero.
fn numeric_div(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (s1, s2) = scales(args);
    // Digits that the operands show count at least; those without a scale of their own are taken as whole.
    let shown = |i: usize, s: i8| if shows_own_digits(&args.arg_fields[i]) { 0 } else { i32::from(s) };
    let least = shown(0, s1).max(shown(1, s2)).max(0);
    let (s1, s2) = (i32::from(s1), i32::from(s2));
    let digits = move |a: u128, s1: i32, b: u128, s2: i32| {
        quotient_digits((a, s1), (b, s2)).max(least).clamp(0, i32::from(DIVISION_SCALE))
    };
    let pad = |digits: i32| 10i128.pow((i32::from(DIVISION_SCALE) - digits).unsigned_abs());
    let wide_quotient = move |a: i256, b: i256| {
        let ((u, us), (v, vs)) = (narrowed(a, s1), narrowed(b, s2));
        let digits = digits(u, us, v, vs);
        let shift = digits - s1 + s2;
        let (up, down) = (pow10(shift.max(0).unsigned_abs()), pow10((-shift).max(0).unsigned_abs()));
        let n = a.checked_mul(up).ok_or_else(overflow)?;
        let d = b.checked_mul(down).ok_or_else(overflow)?;
        round_half_away(n, d).checked_mul(i256::from_i128(pad(digits))).ok_or_else(overflow)
    };
    if is_wide(args, result) {
        return wide_op(args, result, |a, b| {
            if b == i256::ZERO { Err(ArrowError::DivideByZero) } else { wide_quotient(a, b) }
        });
    }
    decimal_op(args, result, |a, b| {
        if b == 0 {
            return Err(ArrowError::DivideByZero);
        }
        let digits = digits(a.unsigned_abs(), s1, b.unsigned_abs(), s2);
        let shift = digits - s1 + s2;
        // a / 10^s1 divided by b / 10^s2, with so many digits: a * 10^shift / b
        let small = u32::try_from(shift).ok().filter(|s| *s <= 38).and_then(|s| a.checked_mul(10i128.pow(s)));
        if let Some(n) = small {
            let (q, r) = (n / b, n % b);
            let up = r.unsigned_abs() >= b.unsigned_abs() - r.unsigned_abs();
            let q = if !up {
                q
            } else if (n < 0) != (b < 0) {
                q - 1
            } else {
                q + 1
            };
            return q.checked_mul(pad(digits)).ok_or_else(overflow);
        }
        wide_quotient(i256::from_i128(a), i256::from_i128(b))?.to_i128().ok_or_else(overflow)
    })
}

/// The first digits of a magnitude and its scale, without those that do not fit.
fn narrowed(v: i256, mut scale: i32) -> (u128, i32) {
    let mut v = v.wrapping_abs();
    loop {
        match v.to_i128() {
            Some(small) => return (small.unsigned_abs(), scale),
            None => {
                v = v.wrapping_div(i256::from_i128(10));
                scale -= 1;
            }
        }
    }
}

/// Digits after the point of a quotient: at least 16 significant ones, counted in digits of base 10,000 and
/// estimated from the operands' first ones (PostgreSQL's `select_div_scale`).
fn quotient_digits((a, s1): (u128, i32), (b, s2): (u128, i32)) -> i32 {
    let ((w1, first1), (w2, first2)) = (leading(a, s1), leading(b, s2));
    let weight = w1 - w2 - i32::from(first1 <= first2);
    16 - 4 * weight
}

/// Position (0: the one before the point) and value of the first digit in base 10,000.
fn leading(v: u128, scale: i32) -> (i32, u128) {
    let Some(log) = v.checked_ilog10() else { return (0, 0) };
    let weight = (log as i32 - scale).div_euclid(4);
    let drop = scale + 4 * weight;
    let ten = |n: i32| 10u128.pow(n.unsigned_abs().min(38));
    (weight, if drop >= 0 { v / ten(drop) } else { v * ten(drop) })
}

fn round_half_away(n: i256, d: i256) -> i256 {
    let (q, r) = (n.wrapping_div(d), n.wrapping_rem(d));
    let twice = r.wrapping_abs().wrapping_mul(i256::from_i128(2));
    if twice >= d.wrapping_abs() {
        let negative = (n < i256::ZERO) != (d < i256::ZERO);
        if negative { q.wrapping_sub(i256::ONE) } else { q.wrapping_add(i256::ONE) }
    } else {
        q
    }
}

/// round(numeric, digits), trunc, ceil and floor: the value at the scale of the result type.
pub fn round_to_scale(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rescale(args, result, round_half_away)
}

/// trunc(numeric, digits).
pub fn truncate_to_scale(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rescale(args, result, |n, d| n.wrapping_div(d))
}

/// ceil(numeric).
pub fn ceil_numeric(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rescale(args, result, |n, d| {
        let q = n.wrapping_div(d);
        if n > i256::ZERO && n.wrapping_rem(d) != i256::ZERO { q.wrapping_add(i256::ONE) } else { q }
    })
}

/// floor(numeric).
pub fn floor_numeric(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rescale(args, result, |n, d| {
        let q = n.wrapping_div(d);
        if n < i256::ZERO && n.wrapping_rem(d) != i256::ZERO { q.wrapping_sub(i256::ONE) } else { q }
    })
}

fn rescale(
    args: &ScalarFunctionArgs,
    result: &DataType,
    div: fn(i256, i256) -> i256,
) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let (Some((_, from, _)), Some((_, to, _))) = (decimal(arrays[0].data_type()), decimal(result)) else {
        return Err(df_error(Error::internal("operand is not numeric")));
    };
    // A negative second argument rounds left of the point: the value keeps its scale, digits become zero.
    let digits = match arrays.get(1) {
        Some(d) if !d.is_null(0) => i32::from(d.as_primitive::<Int32Type>().value(0) as i8),
        _ => i32::from(to),
    };
    let drop = i32::from(from) - digits;
    let back = i32::from(to) - digits;
    let (divisor, multiplier) = (pow10(drop.max(0).unsigned_abs()), pow10((-drop).max(0).unsigned_abs()));
    let padding = pow10(back.max(0).unsigned_abs());
    let out: Decimal256Array = widened(&arrays[0])?
        .try_unary(|v| {
            let v =
                if drop > 0 { div(v, divisor) } else { v.checked_mul(multiplier).ok_or_else(overflow)? };
            v.checked_mul(padding).ok_or_else(overflow)
        })
        .map_err(|e: ArrowError| df_error(arrow_error(e, result)))?;
    from_array(fitted(out, result)?, scalar)
}

/// One of PostgreSQL's float functions with its domain checks.
pub fn float_unary<T: ArrowPrimitiveType<Native = f64>>(
    args: &ScalarFunctionArgs,
    op: impl Fn(f64) -> Result<f64, Error>,
) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out: PrimitiveArray<T> = arrays[0].as_primitive::<T>().try_unary(|v| op(v).map_err(df_error))?;
    from_array(Arc::new(out), scalar)
}
