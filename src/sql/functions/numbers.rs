//! Functions of numbers: roots, powers and logarithms of floats and of numerics, trigonometry, number theory.
//!
//! Numerics are computed with 36 fraction digits and rounded to PostgreSQL's scale of the result: about sixteen
//! significant digits, and never fewer decimals than the arguments have.
//!
//! Boundary: kernels and their signatures.

use arrow::array::{Decimal128Builder, Float64Builder, Int32Builder, Int64Builder};
use arrow::datatypes::{DataType, Field, FieldRef, i256};
use datafusion::functions::math;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, Volatility};

use super::kernel::rows;
use super::registry::Build::{Df, Native, With};
use super::registry::Spec;
use super::{DfResult, NUMERIC_DISPLAY, NUMERIC_TRIMMED, native_with, strings};
use crate::error::{Error, ErrorKind, Result};

/// Decimals in which results of numeric functions are kept.
const SCALE: i8 = 20;
/// Decimals of intermediate values.
const DIGITS: u32 = 36;

fn out_of_range(what: &str) -> Error {
    Error::new(ErrorKind::NumericOutOfRange, what)
}

fn domain(kind: ErrorKind, message: &str) -> Error {
    Error::new(kind, message)
}

fn pow10(n: u32) -> i256 {
    (0..n).fold(i256::ONE, |r, _| r.wrapping_mul(i256::from_i128(10)))
}

fn one() -> i256 {
    pow10(DIGITS)
}

fn small(n: i128) -> i256 {
    i256::from_i128(n)
}

/// A value of this scale with [`DIGITS`] decimals.
fn fixed(v: i128, scale: i8) -> i256 {
    let shift = i32::try_from(DIGITS).unwrap_or(36) - i32::from(scale);
    if shift >= 0 {
        small(v).wrapping_mul(pow10(shift.unsigned_abs()))
    } else {
        small(v).wrapping_div(pow10(shift.unsigned_abs()))
    }
}

fn multiply(a: i256, b: i256) -> i256 {
    a.wrapping_mul(b).wrapping_div(one())
}

/// ln 2 with 36 decimals.
fn ln2() -> i256 {
    i256::from_string("693147180559945309417232121458176568").unwrap_or(i256::ONE)
}

/// The natural logarithm of a positive value with [`DIGITS`] decimals.
fn logarithm(v: i256) -> i256 {
    let two = small(2);
    let (low, high) =
        (one().wrapping_mul(small(3)).wrapping_div(small(4)), one().wrapping_mul(small(3)).wrapping_div(two));
    let (mut y, mut k) = (v, 0i128);
    while y > high {
        y = y.wrapping_div(two);
        k += 1;
    }
    while y < low {
        y = y.wrapping_mul(two);
        k -= 1;
    }
    // ln y = 2 (z + z^3/3 + z^5/5 + …) where z = (y - 1) / (y + 1)
    let z = y.wrapping_sub(one()).wrapping_mul(one()).wrapping_div(y.wrapping_add(one()));
    let square = multiply(z, z);
    let (mut term, mut sum, mut n) = (z, z, 1i128);
    while term != i256::ZERO {
        term = multiply(term, square);
        n += 2;
        sum = sum.wrapping_add(term.wrapping_div(small(n)));
    }
    sum.wrapping_mul(two).wrapping_add(ln2().wrapping_mul(small(k)))
}

/// e to a power, both with [`DIGITS`] decimals; `None` when it has more than 38 digits.
fn exponential(x: i256) -> Option<i256> {
    let n = x.wrapping_div(ln2()).to_i128()?;
    if n > 126 {
        return None;
    }
    if n < -130 {
        return Some(i256::ZERO);
    }
    let r = x.wrapping_sub(ln2().wrapping_mul(small(n)));
    let (mut term, mut sum, mut i) = (one(), one(), 1i128);
    while term != i256::ZERO {
        term = multiply(term, r).wrapping_div(small(i));
        sum = sum.wrapping_add(term);
        i += 1;
    }
    let mut out = sum;
    for _ in 0..n.unsigned_abs() {
        out = if n > 0 { out.wrapping_mul(small(2)) } else { out.wrapping_div(small(2)) };
    }
    Some(out)
}

/// Digits before the point less one: 0 for 1 to 9.99, -1 for 0.1 to 0.99.
fn magnitude(v: i256) -> i32 {
    let text = v.wrapping_abs().to_string();
    text.len() as i32 - 1 - DIGITS as i32
}

/// A value rounded to so many decimals, at scale [`SCALE`].
fn rounded(v: i256, decimals: i32) -> Result<i128> {
    let decimals = decimals.clamp(0, SCALE.into());
    let divisor = pow10((DIGITS as i32 - decimals).unsigned_abs());
    let (q, r) = (v.wrapping_div(divisor), v.wrapping_rem(divisor));
    let up = r.wrapping_abs().wrapping_mul(small(2)) >= divisor;
    let q = match (up, v < i256::ZERO) {
        (false, _) => q,
        (true, false) => q.wrapping_add(i256::ONE),
        (true, true) => q.wrapping_sub(i256::ONE),
    };
    q.wrapping_mul(pow10((i32::from(SCALE) - decimals).unsigned_abs()))
        .to_i128()
        .filter(|v| v.unsigned_abs() < 10u128.pow(38))
        .ok_or_else(|| out_of_range("value overflows numeric format"))
}

fn square_root(v: i128, scale: i8) -> Result<i128> {
    if v < 0 {
        return Err(domain(ErrorKind::InvalidPower, "cannot take square root of a negative number"));
    }
    // Digits of the root: half of those of the value, in steps of four as PostgreSQL keeps them.
    let digits = v.unsigned_abs().to_string().len() as i32 - i32::from(scale);
    let weight = (digits - 1).div_euclid(4);
    let decimals = (16 - ((weight + 1) * 2 - 1)).max(scale.into()).clamp(0, SCALE.into());
    // The root of v * 10^(2d - s) has d decimals; two more are for rounding.
    let d = decimals + 2;
    let shift = 2 * d - i32::from(scale);
    let n = if shift >= 0 { small(v).wrapping_mul(pow10(shift.unsigned_abs())) } else { small(v) };
    let mut x =
        small((n.to_string().parse::<f64>().unwrap_or(0.0).sqrt() as u128).min(i128::MAX as u128) as i128);
    if x == i256::ZERO {
        return Ok(0);
    }
    loop {
        let next = x.wrapping_add(n.wrapping_div(x)).wrapping_div(small(2));
        let step = next.wrapping_sub(x).wrapping_abs();
        x = next;
        if step <= i256::ONE {
            break;
        }
    }
    while x.wrapping_mul(x) > n {
        x = x.wrapping_sub(i256::ONE);
    }
    let fraction = x.wrapping_mul(pow10((DIGITS as i32 - d).unsigned_abs()));
    rounded(fraction, decimals)
}

fn check_logarithm(v: i128) -> Result<()> {
    if v == 0 {
        return Err(domain(ErrorKind::InvalidLogarithm, "cannot take logarithm of zero"));
    }
    if v < 0 {
        return Err(domain(ErrorKind::InvalidLogarithm, "cannot take logarithm of a negative number"));
    }
    Ok(())
}

fn significant(v: i256, least: i8) -> Result<i128> {
    if v == i256::ZERO {
        return Ok(0);
    }
    // Magnitudes are cut towards zero: 0.69 has sixteen decimals, as 6.9 has.
    let m = magnitude(v);
    rounded(v, (16 - if m < 0 { m + 1 } else { m }).max(least.into()))
}

fn power_of(a: i128, sa: i8, b: i128, sb: i8) -> Result<i128> {
    let least = sa.max(sb);
    let divisor = 10i128.pow(sb.max(0).unsigned_abs().into());
    let whole = b % divisor == 0;
    if a == 0 {
        return match b.signum() {
            0 => rounded(one(), 16),
            1 => Ok(0),
            _ => Err(domain(ErrorKind::InvalidPower, "zero raised to a negative power is undefined")),
        };
    }
    if a < 0 && !whole {
        let message = "a negative number raised to a non-integer power yields a complex result";
        return Err(domain(ErrorKind::InvalidPower, message));
    }
    let overflow = || out_of_range("value overflows numeric format");
    let x = logarithm(fixed(a.checked_abs().ok_or_else(overflow)?, sa));
    // x * b, where b may be large only when x is small.
    let exponent = x.checked_mul(small(b)).ok_or_else(overflow)?.wrapping_div(small(divisor));
    let result = exponential(exponent).ok_or_else(overflow)?;
    let negative = a < 0 && (b / divisor) % 2 != 0;
    let decimals = if result == i256::ZERO { 16 } else { 16 - magnitude(result).max(0) };
    // Small results keep sixteen significant digits.
    let decimals =
        if result != i256::ZERO && magnitude(result) < -1 { 16 - magnitude(result) - 1 } else { decimals };
    rounded(if negative { result.wrapping_neg() } else { result }, decimals.max(least.into()))
}

/// A numeric result that shows the digits it has.
fn numeric(name: &'static str, kernel: super::Kernel, args: Vec<Expr>) -> Expr {
    let field = Field::new("", DataType::Decimal128(38, SCALE), true)
        .with_metadata([(NUMERIC_DISPLAY.to_string(), NUMERIC_TRIMMED.to_string())].into());
    native_with(name, field, kernel, Volatility::Immutable, args)
}

fn sqrt(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let kernel: super::Kernel = |args, result| {
        let scale = scale_of(args, 0);
        rows!(args, result, out = Decimal128Builder::new(), (v: Number) out.append_value(square_root(v, scale)?))
    };
    Ok(numeric("sqrt", kernel, args))
}

fn exp(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let kernel: super::Kernel = |args, result| {
        let scale = scale_of(args, 0);
        rows!(args, result, out = Decimal128Builder::new(), (v: Number) {
            let r = exponential(fixed(v, scale)).ok_or_else(|| out_of_range("value overflows numeric format"))?;
            let decimals = if r == i256::ZERO { 16 } else { 16 - magnitude(r).max(0) };
            out.append_value(rounded(r, decimals.max(scale.into()))?);
        })
    };
    Ok(numeric("exp", kernel, args))
}

fn ln(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let kernel: super::Kernel = |args, result| {
        let scale = scale_of(args, 0);
        rows!(args, result, out = Decimal128Builder::new(), (v: Number) {
            check_logarithm(v)?;
            out.append_value(significant(logarithm(fixed(v, scale)), scale)?);
        })
    };
    Ok(numeric("ln", kernel, args))
}

fn log10(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let kernel: super::Kernel = |args, result| {
        let scale = scale_of(args, 0);
        rows!(args, result, out = Decimal128Builder::new(), (v: Number) {
            check_logarithm(v)?;
            let ten = logarithm(fixed(10, 0));
            let r = logarithm(fixed(v, scale)).wrapping_mul(one()).wrapping_div(ten);
            out.append_value(significant(r, scale)?);
        })
    };
    Ok(numeric("log10", kernel, args))
}

fn log_base(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let kernel: super::Kernel = |args, result| {
        let (sb, sv) = (scale_of(args, 0), scale_of(args, 1));
        rows!(args, result, out = Decimal128Builder::new(), (base: Number, v: Number) {
            check_logarithm(base)?;
            check_logarithm(v)?;
            let divisor = logarithm(fixed(base, sb));
            if divisor == i256::ZERO {
                Err(domain(ErrorKind::DivisionByZero, "division by zero"))?;
            }
            let r = logarithm(fixed(v, sv)).wrapping_mul(one()).wrapping_div(divisor);
            out.append_value(significant(r, sb.max(sv))?);
        })
    };
    Ok(numeric("log", kernel, args))
}

/// power(numeric, numeric) and the operator ^.
pub fn power(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let kernel: super::Kernel = |args, result| {
        let (sa, sb) = (scale_of(args, 0), scale_of(args, 1));
        rows!(args, result, out = Decimal128Builder::new(), (a: Number, b: Number)
            out.append_value(power_of(a, sa, b, sb)?))
    };
    Ok(numeric("power", kernel, args))
}

fn scale_of(args: &ScalarFunctionArgs, i: usize) -> i8 {
    match args.args[i].data_type() {
        DataType::Decimal128(_, s) => s,
        _ => 0,
    }
}

/// div(numeric, numeric): the whole quotient.
fn div(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let kernel: super::Kernel = |args, result| {
        let (sa, sb) = (scale_of(args, 0), scale_of(args, 1));
        rows!(args, result, out = Decimal128Builder::new(), (a: Number, b: Number) {
            if b == 0 {
                Err(domain(ErrorKind::DivisionByZero, "division by zero"))?;
            }
            let s = sa.max(sb);
            let widen = |v: i128, from: i8| small(v).wrapping_mul(pow10((s - from).unsigned_abs().into()));
            let q = widen(a, sa).wrapping_div(widen(b, sb));
            out.append_value(q.to_i128().ok_or_else(|| out_of_range("value overflows numeric format"))?);
        })
    };
    let field = Field::new("", DataType::Decimal128(38, 0), true);
    Ok(native_with("div", field, kernel, Volatility::Immutable, args))
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn gcd4(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (a: Int4, b: Int4) {
        let g = gcd(a.unsigned_abs().into(), b.unsigned_abs().into());
        out.append_value(i32::try_from(g).map_err(|_| out_of_range("integer out of range"))?);
    })
}

fn gcd8(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int64Builder::new(), (a: Int8, b: Int8) {
        let g = gcd(a.unsigned_abs().into(), b.unsigned_abs().into());
        out.append_value(i64::try_from(g).map_err(|_| out_of_range("bigint out of range"))?);
    })
}

fn lcm(a: u128, b: u128) -> u128 {
    if a == 0 || b == 0 { 0 } else { a / gcd(a, b) * b }
}

fn lcm4(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (a: Int4, b: Int4) {
        let l = lcm(a.unsigned_abs().into(), b.unsigned_abs().into());
        out.append_value(i32::try_from(l).map_err(|_| out_of_range("integer out of range"))?);
    })
}

fn lcm8(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int64Builder::new(), (a: Int8, b: Int8) {
        let l = lcm(a.unsigned_abs().into(), b.unsigned_abs().into());
        out.append_value(i64::try_from(l).map_err(|_| out_of_range("bigint out of range"))?);
    })
}

fn factorial(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let kernel: super::Kernel = |args, result| {
        rows!(args, result, out = Decimal128Builder::new(), (n: Int8) {
            if n < 0 {
                Err(out_of_range("factorial of a negative number is undefined"))?;
            }
            if n > 33 {
                Err(out_of_range("value overflows numeric format"))?;
            }
            out.append_value((1..=i128::from(n)).product());
        })
    };
    let field = Field::new("", DataType::Decimal128(38, 0), true);
    Ok(native_with("factorial", field, kernel, Volatility::Immutable, args))
}

fn width_bucket(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (v: Float8, low: Float8, high: Float8, count: Int4) {
        let refuse = |m: &str| domain(ErrorKind::InvalidBucketCount, m);
        if count <= 0 {
            Err(refuse("count must be greater than zero"))?;
        }
        if v.is_nan() || low.is_nan() || high.is_nan() {
            Err(refuse("operand, lower bound, and upper bound cannot be NaN"))?;
        }
        if low.is_infinite() || high.is_infinite() {
            Err(refuse("lower and upper bounds must be finite"))?;
        }
        if low == high {
            Err(refuse("lower bound cannot equal upper bound"))?;
        }
        let part = if low < high { (v - low) / (high - low) } else { (low - v) / (low - high) };
        let bucket = if part < 0.0 {
            0
        } else if part >= 1.0 {
            count.checked_add(1).ok_or_else(|| out_of_range("integer out of range"))?
        } else {
            ((part * f64::from(count)) as i32).min(count - 1) + 1
        };
        out.append_value(bucket);
    })
}

/// A float function with its domain.
fn float(
    args: &ScalarFunctionArgs,
    result: &DataType,
    f: fn(f64) -> f64,
    fits: fn(f64) -> bool,
) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Float64Builder::new(), (v: Float8) {
        if !v.is_nan() && !fits(v) {
            Err(out_of_range("input is out of range"))?;
        }
        let r = f(v);
        if r.is_infinite() && v.is_finite() {
            Err(out_of_range("value out of range: overflow"))?;
        }
        out.append_value(r);
    })
}

/// Sine and cosine of degrees: exact where they are rational.
fn sine_of_degrees(v: f64) -> f64 {
    let d = v % 360.0;
    match d.abs() {
        0.0 | 180.0 => 0.0,
        30.0 | 150.0 => 0.5f64.copysign(d),
        90.0 => 1f64.copysign(d),
        210.0 | 330.0 => 0.5f64.copysign(-d),
        270.0 => 1f64.copysign(-d),
        _ => d.to_radians().sin(),
    }
}

fn cosine_of_degrees(v: f64) -> f64 {
    match (v % 360.0).abs() {
        60.0 | 300.0 => 0.5,
        120.0 | 240.0 => -0.5,
        0.0 => 1.0,
        90.0 | 270.0 => 0.0,
        180.0 => -1.0,
        d => d.to_radians().cos(),
    }
}

fn tangent_of_degrees(v: f64) -> f64 {
    match (v % 180.0).abs() {
        45.0 => 1f64.copysign(v % 180.0),
        135.0 => 1f64.copysign(-(v % 180.0)),
        0.0 => 0.0,
        _ => sine_of_degrees(v) / cosine_of_degrees(v),
    }
}

const ALL: fn(f64) -> bool = |_| true;
const FINITE: fn(f64) -> bool = |v| v.is_finite();
const UNIT: fn(f64) -> bool = |v| (-1.0..=1.0).contains(&v);

/// The functions with their signatures.
pub const SPECS: &[Spec] = &[
    ("sqrt(float8)->float8", Native(strings::sqrt), "square root"),
    ("sqrt(numeric)->numeric", With(sqrt), "square root"),
    ("cbrt(float8)->float8", Native(|a, t| float(a, t, f64::cbrt, ALL)), "cube root"),
    ("exp(float8)->float8", Native(|a, t| float(a, t, f64::exp, ALL)), "e to a power"),
    ("exp(numeric)->numeric", With(exp), "e to a power"),
    ("ln(float8)->float8", Native(strings::ln), "natural logarithm"),
    ("ln(numeric)->numeric", With(ln), "natural logarithm"),
    ("log(float8)->float8", Native(strings::log10), "logarithm to base 10"),
    ("log(numeric)->numeric", With(log10), "logarithm to base 10"),
    ("log(numeric,numeric)->numeric", With(log_base), "logarithm to a base"),
    ("log10(float8)->float8", Native(strings::log10), "logarithm to base 10"),
    ("log10(numeric)->numeric", With(log10), "logarithm to base 10"),
    ("power(float8,float8)->float8", Native(strings::power), "a power"),
    ("power(numeric,numeric)->numeric", With(power), "a power"),
    ("pow(float8,float8)->float8", Native(strings::power), "a power"),
    ("pow(numeric,numeric)->numeric", With(power), "a power"),
    ("div(numeric,numeric)->numeric", With(div), "whole quotient"),
    ("gcd(int4,int4)->int4", Native(gcd4), "greatest common divisor"),
    ("gcd(int8,int8)->int8", Native(gcd8), "greatest common divisor"),
    ("lcm(int4,int4)->int4", Native(lcm4), "least common multiple"),
    ("lcm(int8,int8)->int8", Native(lcm8), "least common multiple"),
    ("factorial(int8)->numeric", With(factorial), "factorial"),
    ("width_bucket(float8,float8,float8,int4)->int4", Native(width_bucket), "which of so many equal buckets"),
    ("sin(float8)->float8", Native(|a, t| float(a, t, f64::sin, FINITE)), "sine"),
    ("cos(float8)->float8", Native(|a, t| float(a, t, f64::cos, FINITE)), "cosine"),
    ("tan(float8)->float8", Native(|a, t| float(a, t, f64::tan, FINITE)), "tangent"),
    ("cot(float8)->float8", Native(|a, t| float(a, t, |v| 1.0 / v.tan(), FINITE)), "cotangent"),
    ("asin(float8)->float8", Native(|a, t| float(a, t, f64::asin, UNIT)), "inverse sine"),
    ("acos(float8)->float8", Native(|a, t| float(a, t, f64::acos, UNIT)), "inverse cosine"),
    ("atan(float8)->float8", Native(|a, t| float(a, t, f64::atan, ALL)), "inverse tangent"),
    ("atan2(float8,float8)->float8", Df(math::atan2), "inverse tangent of a quotient"),
    ("sind(float8)->float8", Native(|a, t| float(a, t, sine_of_degrees, FINITE)), "sine of degrees"),
    ("cosd(float8)->float8", Native(|a, t| float(a, t, cosine_of_degrees, FINITE)), "cosine of degrees"),
    ("tand(float8)->float8", Native(|a, t| float(a, t, tangent_of_degrees, FINITE)), "tangent of degrees"),
    ("sinh(float8)->float8", Native(|a, t| float(a, t, f64::sinh, ALL)), "hyperbolic sine"),
    ("cosh(float8)->float8", Native(|a, t| float(a, t, f64::cosh, ALL)), "hyperbolic cosine"),
    ("tanh(float8)->float8", Native(|a, t| float(a, t, f64::tanh, ALL)), "hyperbolic tangent"),
    ("asinh(float8)->float8", Native(|a, t| float(a, t, f64::asinh, ALL)), "inverse hyperbolic sine"),
    (
        "acosh(float8)->float8",
        Native(|a, t| float(a, t, f64::acosh, |v| v >= 1.0)),
        "inverse hyperbolic cosine",
    ),
    ("atanh(float8)->float8", Native(|a, t| float(a, t, f64::atanh, UNIT)), "inverse hyperbolic tangent"),
    ("degrees(float8)->float8", Native(|a, t| float(a, t, f64::to_degrees, ALL)), "radians as degrees"),
    ("radians(float8)->float8", Native(|a, t| float(a, t, f64::to_radians, ALL)), "degrees as radians"),
    ("pi()->float8", Df(math::pi), "3.14159…"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_logarithms_have_sixteen_significant_digits() {
        let digits = |text: &str| text.replace('.', "").parse::<i128>().unwrap();
        // 1.05^10 = 1.628894626777441406…
        assert_eq!(power_of(105, 2, 10, 0).unwrap(), digits("1.62889462677744140000"));
        assert_eq!(power_of(2, 0, 10, 0).unwrap(), 1024 * 10i128.pow(20));
        assert_eq!(power_of(-2, 0, 3, 0).unwrap(), -8 * 10i128.pow(20));
        assert_eq!(square_root(2, 0).unwrap(), digits("1.41421356237309500000"));
        assert_eq!(square_root(4, 0).unwrap(), 2 * 10i128.pow(20));
        // ln 2 = 0.69314718055994530942
        assert_eq!(significant(logarithm(fixed(2, 0)), 0).unwrap(), digits("0.69314718055994530000"));
        assert!(
            power_of(0, 0, -1, 0).is_err()
                && power_of(-1, 0, 5, 1).is_err()
                && power_of(10, 0, 40, 0).is_err()
        );
    }
}
