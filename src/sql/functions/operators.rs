//! Arithmetic as PostgreSQL does it: checked integers, exact numerics, floats that do not overflow silently.
//!
//! Boundary: kernels over Arrow columns and the expressions that call them; operand types are settled before.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, Decimal128Array, PrimitiveArray};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, i256,
};
use arrow::error::ArrowError;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs};
use datafusion::physical_expr_common::datum::apply;

use super::{DIVISION_SCALE, DfResult, as_arrays, df_error, from_array, native, native_quotient};
use crate::error::{Error, ErrorKind};

/// Greatest scale that a product of numerics keeps beyond its factors' own.
const PRODUCT_SCALE: i8 = 20;

/// `left op right` over operands of one type (or two Decimal128), op one of + - * / %.
pub fn arithmetic(op: &str, left: Expr, right: Expr, left_type: &DataType, right_type: &DataType) -> Expr {
    let args = vec![left, right];
    match (left_type, right_type) {
        (DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)) => {
            numeric_arithmetic(op, args, (*p1, *s1), (*p2, *s2))
        }
        (DataType::Float32 | DataType::Float64, _) => native(op, left_type.clone(), float_kernel(op), args),
        _ => native(op, left_type.clone(), int_kernel(op), args),
    }
}

fn numeric_arithmetic(op: &str, args: Vec<Expr>, (p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> Expr {
    let whole = |p: u8, s: i8| i16::from(p) - i16::from(s);
    let precision = |digits: i16| u8::try_from(digits.clamp(1, 38)).unwrap_or(38);
    match op {
        "+" | "-" => {
            let s = s1.max(s2);
            let p = precision(whole(p1, s1).max(whole(p2, s2)) + i16::from(s) + 1);
            native(op, DataType::Decimal128(p, s), if op == "+" { numeric_add } else { numeric_sub }, args)
        }
        "*" => {
            let s = (i16::from(s1) + i16::from(s2)).min(i16::from(PRODUCT_SCALE.max(s1).max(s2))) as i8;
            let p = precision(i16::from(p1) + i16::from(p2) + 1);
            native(
                op,
                DataType::Decimal128(if s < s1 + s2 { 38 } else { p.max(s as u8) }, s),
                numeric_mul,
                args,
            )
        }
        "/" => native_quotient(op, DataType::Decimal128(38, DIVISION_SCALE), numeric_div, args),
        _ => native(op, DataType::Decimal128(38, s1.max(s2)), numeric_rem, args),
    }
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
        DataType::Decimal128(..) => "numeric field overflow",
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

fn pow10(n: u32) -> i256 {
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

fn scales(args: &ScalarFunctionArgs) -> (i8, i8) {
    let scale = |i: usize| match args.args[i].data_type() {
        DataType::Decimal128(_, s) => s,
        _ => 0,
    };
    (scale(0), scale(1))
}

fn overflow() -> ArrowError {
    ArrowError::ArithmeticOverflow(String::new())
}

/// The factor that brings a value of scale `from` to scale `to`.
fn factor(from: i8, to: i8) -> i128 {
    10i128.pow(u32::try_from(i32::from(to) - i32::from(from)).unwrap_or(0).min(38))
}

fn numeric_sum(
    args: &ScalarFunctionArgs,
    result: &DataType,
    op: fn(i128, i128) -> Option<i128>,
) -> DfResult<ColumnarValue> {
    let (s1, s2) = scales(args);
    let s = s1.max(s2);
    let (f1, f2) = (factor(s1, s), factor(s2, s));
    decimal_op(args, result, |a, b| {
        let (a, b) = (a.checked_mul(f1).ok_or_else(overflow)?, b.checked_mul(f2).ok_or_else(overflow)?);
        op(a, b).ok_or_else(overflow)
    })
}

fn numeric_add(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    numeric_sum(args, result, i128::checked_add)
}

fn numeric_sub(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    numeric_sum(args, result, i128::checked_sub)
}

fn numeric_rem(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    numeric_sum_checked(args, result)
}

fn numeric_sum_checked(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (s1, s2) = scales(args);
    let s = s1.max(s2);
    let (f1, f2) = (factor(s1, s), factor(s2, s));
    decimal_op(args, result, |a, b| {
        if b == 0 {
            return Err(ArrowError::DivideByZero);
        }
        let (a, b) = (a.checked_mul(f1).ok_or_else(overflow)?, b.checked_mul(f2).ok_or_else(overflow)?);
        Ok(a % b)
    })
}

/// Exact: digits beyond the result's scale must be zero, otherwise the product does not fit (22003).
fn numeric_mul(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (s1, s2) = scales(args);
    let DataType::Decimal128(_, s) = result else {
        return Err(df_error(Error::internal("product is not numeric")));
    };
    let surplus = i32::from(s1) + i32::from(s2) - i32::from(*s);
    if surplus <= 0 {
        return decimal_op(args, result, |a, b| a.checked_mul(b).ok_or_else(overflow));
    }
    let divisor = pow10(surplus.unsigned_abs());
    decimal_op(args, result, |a, b| {
        let product = i256::from_i128(a).wrapping_mul(i256::from_i128(b));
        if product.wrapping_rem(divisor) != i256::ZERO {
            return Err(overflow());
        }
        product.wrapping_div(divisor).to_i128().ok_or_else(overflow)
    })
}

/// The quotient at scale 20, rounded half away from zero.
fn numeric_div(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (s1, s2) = scales(args);
    let DataType::Decimal128(_, s) = result else {
        return Err(df_error(Error::internal("quotient is not numeric")));
    };
    // a / 10^s1 divided by b / 10^s2, at scale s: a * 10^(s - s1 + s2) / b
    let shift = i32::from(*s) - i32::from(s1) + i32::from(s2);
    let (up, down) = (pow10(shift.max(0).unsigned_abs()), pow10((-shift).max(0).unsigned_abs()));
    decimal_op(args, result, |a, b| {
        if b == 0 {
            return Err(ArrowError::DivideByZero);
        }
        let n = i256::from_i128(a).checked_mul(up).ok_or_else(overflow)?;
        let d = i256::from_i128(b).checked_mul(down).ok_or_else(overflow)?;
        round_half_away(n, d).to_i128().ok_or_else(overflow)
    })
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
    let (from, _) = match arrays[0].data_type() {
        DataType::Decimal128(_, s) => (*s, ()),
        other => return Err(df_error(Error::internal(format!("{other} is not numeric")))),
    };
    let DataType::Decimal128(_, to) = result else {
        return Err(df_error(Error::internal("result is not numeric")));
    };
    // A negative second argument rounds left of the point: the value keeps its scale, digits become zero.
    let digits = match arrays.get(1) {
        Some(d) if !d.is_null(0) => i32::from(d.as_primitive::<Int32Type>().value(0) as i8),
        _ => i32::from(*to),
    };
    let drop = i32::from(from) - digits;
    let back = i32::from(*to) - digits;
    let (divisor, multiplier) = (pow10(drop.max(0).unsigned_abs()), pow10((-drop).max(0).unsigned_abs()));
    let padding = pow10(back.max(0).unsigned_abs());
    let out: Decimal128Array = arrays[0]
        .as_primitive::<Decimal128Type>()
        .try_unary(|v| {
            let v = i256::from_i128(v);
            let v = if drop > 0 { div(v, divisor) } else { v.wrapping_mul(multiplier) };
            v.wrapping_mul(padding).to_i128().ok_or_else(overflow)
        })
        .map_err(|e: ArrowError| df_error(arrow_error(e, result)))?;
    from_array(Arc::new(out.with_data_type(result.clone())), scalar)
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
