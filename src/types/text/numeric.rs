//! Decimals: their display (fixed, trimmed or with a quotient's scale) and their input syntax.
//!
//! Boundary: unscaled integers (i128, i256) and text; Arrow arrays are the neighbours' business.

use arrow::datatypes::i256;

use crate::error::{Error, ErrorKind, Result};

/// How many fraction digits a numeric column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumericDisplay {
    /// As many as its scale.
    Scale,
    /// Without trailing zeros: numeric without a modifier.
    Trimmed,
    /// PostgreSQL's scale of a quotient: at least 16 significant digits.
    Division,
    /// The same for a variance, where nothing is "0".
    Variance,
    /// A standard deviation has the digits of its variance.
    Deviation,
}

/// Writes `value` / 10^`scale`.
pub(crate) fn write_i128(value: i128, scale: i8, display: NumericDisplay, out: &mut Vec<u8>) {
    let mut buf = [0u8; 40];
    let mut at = buf.len();
    let mut v = value.unsigned_abs();
    let (mut scale, mut v2) = (scale, v);
    match display {
        NumericDisplay::Variance | NumericDisplay::Deviation if v == 0 => (v2, scale) = (0, 0),
        NumericDisplay::Division if scale > 0 => (v2, scale) = quotient_digits(v, scale),
        NumericDisplay::Variance if scale > 0 => (v2, scale) = round_quotient(v, scale, 4),
        NumericDisplay::Deviation if scale > 0 => (v2, scale) = round_quotient(v, scale, 2),
        _ => {}
    }
    v = v2;
    // 64-bit steps: 128-bit division by ten is slow.
    while v > u128::from(u64::MAX) {
        let mut low = (v % 10_000_000_000_000_000_000) as u64;
        v /= 10_000_000_000_000_000_000;
        for _ in 0..19 {
            at -= 1;
            buf[at] = b'0' + (low % 10) as u8;
            low /= 10;
        }
    }
    let mut low = v as u64;
    while low > 0 {
        at -= 1;
        buf[at] = b'0' + (low % 10) as u8;
        low /= 10;
    }
    write_point(value < 0 && v2 != 0, &buf[at..], scale, display, out);
}

/// Writes `value` / 10^`scale` for a wide decimal.
pub(crate) fn write_i256(value: i256, scale: i8, display: NumericDisplay, out: &mut Vec<u8>) {
    if let Some(small) = value.to_i128() {
        return write_i128(small, scale, display, out);
    }
    let text = value.to_string();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(d) => (true, d),
        None => (false, text.as_str()),
    };
    write_point(negative, digits.as_bytes(), scale, display, out);
}

fn write_point(negative: bool, digits: &[u8], scale: i8, display: NumericDisplay, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    if scale <= 0 {
        if digits.is_empty() {
            out.push(b'0');
        } else {
            out.extend_from_slice(digits);
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return;
    }
    let scale = usize::from(scale.unsigned_abs());
    let whole = digits.len().saturating_sub(scale);
    if whole == 0 {
        out.push(b'0');
    } else {
        out.extend_from_slice(&digits[..whole]);
    }
    let fraction = &digits[whole..];
    let keep = match display {
        NumericDisplay::Trimmed => fraction.iter().rposition(|b| *b != b'0').map_or(0, |p| p + 1),
        _ => fraction.len(),
    };
    let leading = scale - fraction.len();
    if display == NumericDisplay::Trimmed && keep == 0 {
        return;
    }
    out.push(b'.');
    out.resize(out.len() + leading, b'0');
    out.extend_from_slice(&fraction[..keep]);
}

/// Digits after the point that PostgreSQL's `select_div_scale` gives a result of this magnitude: 16 significant ones
/// counted in base-10000 digits. `digits` of the value make one of these: four, or two when its square counts.
fn expected_digits(v: u128, one: u128, digits: u32) -> i8 {
    let whole = v / one;
    if whole == 0 {
        return 20;
    }
    let weight = (whole.ilog10() / digits) as i8;
    // PostgreSQL estimates from the first digits alone, so that 1 / 1 counts as below one.
    let power = whole == 10u128.pow(u32::from(weight.unsigned_abs()) * digits) && v.is_multiple_of(one);
    let weight = if power { weight - 1 } else { weight };
    (16 - 4 * weight).max(0)
}

/// The digits of a quotient without the zeros that only fill its column's scale: the division has rounded it
/// already, to the expected digits or, if the operands made PostgreSQL take a group more, to four further ones.
fn quotient_digits(v: u128, scale: i8) -> (u128, i8) {
    let one = 10u128.pow(scale.unsigned_abs().min(38).into());
    let mut wanted = expected_digits(v, one, 4);
    while wanted < scale {
        let cut = 10u128.pow((scale - wanted).unsigned_abs().into());
        if v.is_multiple_of(cut) {
            return (v / cut, wanted);
        }
        wanted += if wanted % 4 == 0 { 4 } else { 1 };
    }
    (v, scale)
}

/// Rounds (half away from zero) to the expected digits, at most the scale at hand.
fn round_quotient(v: u128, scale: i8, digits: u32) -> (u128, i8) {
    let one = 10u128.pow(scale.unsigned_abs().min(38).into());
    let wanted = expected_digits(v, one, digits);
    if wanted >= scale {
        return (v, scale);
    }
    let cut = 10u128.pow((scale - wanted).unsigned_abs().into());
    ((v + cut / 2) / cut, wanted)
}

/// A numeric literal taken apart: digits before and after the point, and the exponent.
struct Literal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

fn scan(text: &str) -> Option<Literal<'_>> {
    let b = text.trim_ascii().as_bytes();
    let (negative, b) = match b.first() {
        Some(b'-') => (true, &b[1..]),
        Some(b'+') => (false, &b[1..]),
        _ => (false, b),
    };
    let digits = |b: &[u8]| b.iter().take_while(|c| c.is_ascii_digit()).count();
    let w = digits(b);
    let (whole, mut rest) = b.split_at(w);
    let mut fraction: &[u8] = &[];
    if let Some(after) = rest.strip_prefix(b".") {
        let f = digits(after);
        (fraction, rest) = after.split_at(f);
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', e @ ..] => {
            let text = std::str::from_utf8(e).ok()?;
            let parsed: i64 = text.parse().ok()?;
            parsed.clamp(-100_000, 100_000)
        }
        _ => return None,
    };
    Some(Literal { negative, whole, fraction, exponent })
}

/// An integer that digits can be appended to.
trait Accumulator: Copy {
    const ZERO: Self;
    fn push(self, digit: u8) -> Option<Self>;
    fn negate(self) -> Self;
    fn increment(self) -> Option<Self>;
}

impl Accumulator for i128 {
    const ZERO: i128 = 0;
    fn push(self, digit: u8) -> Option<i128> {
        self.checked_mul(10)?.checked_add(digit.into())
    }
    fn negate(self) -> i128 {
        -self
    }
    fn increment(self) -> Option<i128> {
        self.checked_add(1)
    }
}

impl Accumulator for i256 {
    const ZERO: i256 = i256::ZERO;
    fn push(self, digit: u8) -> Option<i256> {
        self.checked_mul(i256::from_i128(10))?.checked_add(i256::from_i128(digit.into()))
    }
    fn negate(self) -> i256 {
        self.wrapping_neg()
    }
    fn increment(self) -> Option<i256> {
        self.checked_add(i256::ONE)
    }
}

/// What became of the digits of a literal at a scale.
enum Scaled<T> {
    Value(T),
    Overflow,
    /// Digits other than zero lie beyond the scale and rounding was forbidden.
    Inexact,
}

fn scaled<T: Accumulator>(l: &Literal<'_>, scale: i8, round: bool) -> Scaled<T> {
    let total = (l.whole.len() + l.fraction.len()) as i64;
    let keep = l.whole.len() as i64 + l.exponent + i64::from(scale);
    let mut v = T::ZERO;
    let mut any = false;
    let mut up = false;
    for (i, b) in l.whole.iter().chain(l.fraction).enumerate() {
        let digit = b - b'0';
        if (i as i64) < keep {
            any |= digit != 0;
            match v.push(digit) {
                Some(n) => v = n,
                None => return Scaled::Overflow,
            }
        } else if digit != 0 && !round {
            return Scaled::Inexact;
        } else if i as i64 == keep {
            up = digit >= 5;
        }
    }
    if any {
        for _ in total..keep {
            match v.push(0) {
                Some(n) => v = n,
                None => return Scaled::Overflow,
            }
        }
    }
    if up {
        match v.increment() {
            Some(n) => v = n,
            None => return Scaled::Overflow,
        }
    }
    Scaled::Value(if l.negative { v.negate() } else { v })
}

fn overflow(precision: u8, scale: i8) -> Error {
    Error::new(ErrorKind::NumericOutOfRange, "numeric field overflow").with_detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than {}.",
        match i32::from(precision) - i32::from(scale) {
            0 => "1".to_string(),
            n => format!("10^{n}"),
        }
    ))
}

fn literal(text: &str) -> Result<Literal<'_>> {
    scan(text).ok_or_else(|| {
        let word = text.trim_ascii();
        let bare = word.trim_start_matches(['+', '-']);
        if ["nan", "inf", "infinity"].iter().any(|w| bare.eq_ignore_ascii_case(w)) {
            Error::unsupported(format!("{word} is not supported for type numeric"))
                .with_hint("Use double precision for values that are not finite.")
        } else {
            Error::new(ErrorKind::InvalidText, format!("invalid input syntax for type numeric: \"{text}\""))
        }
    })
}

fn inexact(scale: i8) -> Error {
    Error::new(
        ErrorKind::NumericOutOfRange,
        format!(
            "value has more than {scale} fraction digits, the most that numeric without a precision holds"
        ),
    )
    .with_hint("Declare the column as numeric(precision, scale).")
}

/// Parses a decimal into an unscaled i128 of this precision and scale. `round`: surplus fraction digits are
/// rounded half away from zero (a declared scale); otherwise they are refused.
pub fn parse_decimal128(text: &str, precision: u8, scale: i8, round: bool) -> Result<i128> {
    let l = literal(text)?;
    match scaled::<i128>(&l, scale, round) {
        Scaled::Value(v) if v.unsigned_abs() < 10u128.pow(precision.min(38).into()) => Ok(v),
        Scaled::Inexact => Err(inexact(scale)),
        _ => Err(overflow(precision, scale)),
    }
}

/// As [`parse_decimal128`], for decimals of up to 76 digits.
pub(crate) fn parse_decimal256(text: &str, precision: u8, scale: i8, round: bool) -> Result<i256> {
    let l = literal(text)?;
    let limit = i256::from_i128(10).checked_pow(precision.min(76).into()).unwrap_or(i256::MAX);
    match scaled::<i256>(&l, scale, round) {
        Scaled::Value(v) if v < limit && v > limit.wrapping_neg() => Ok(v),
        Scaled::Inexact => Err(inexact(scale)),
        _ => Err(overflow(precision, scale)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_rounded_half_away_from_zero_to_the_declared_scale() {
        for (text, expected) in [
            ("1.005", 101),
            ("-1.005", -101),
            ("1e3", 100_000),
            (".5", 50),
            ("5.", 500),
            ("0.004", 0),
            (" +7 ", 700),
        ] {
            assert_eq!(parse_decimal128(text, 12, 2, true).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn too_large_values_name_the_bound() {
        let e = parse_decimal128("1000", 5, 2, true).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NumericOutOfRange);
        assert_eq!(
            e.detail().unwrap(),
            "A field with precision 5, scale 2 must round to an absolute value less than 10^3."
        );
        assert!(parse_decimal128("1e99999999999", 38, 0, true).is_err());
        assert_eq!(parse_decimal128("0e99999", 38, 0, true).unwrap(), 0);
    }

    #[test]
    fn free_numerics_refuse_digits_they_cannot_hold() {
        assert_eq!(parse_decimal128("1.1000000000000000000000", 38, 18, false).unwrap(), 11 * 10i128.pow(17));
        assert!(parse_decimal128("1.0000000000000000001", 38, 18, false).is_err());
    }

    #[test]
    fn malformed_text_is_22p02() {
        for text in ["", "abc", "1.2.3", "1e", "--1", "1 2", "."] {
            assert_eq!(
                parse_decimal128(text, 38, 18, false).unwrap_err().kind(),
                ErrorKind::InvalidText,
                "{text}"
            );
        }
        assert_eq!(
            parse_decimal128("NaN", 38, 18, false).unwrap_err().kind(),
            ErrorKind::FeatureNotSupported
        );
    }

    #[test]
    fn wide_decimals_print_all_their_digits() {
        let v = parse_decimal256("1234567890123456789012345678901234567890.12", 50, 2, true).unwrap();
        let mut out = Vec::new();
        write_i256(v, 2, NumericDisplay::Scale, &mut out);
        assert_eq!(out, b"1234567890123456789012345678901234567890.12");
        let mut out = Vec::new();
        write_i128(i128::from(u64::MAX) * 1000 + 7, 3, NumericDisplay::Scale, &mut out);
        assert_eq!(out, b"18446744073709551615.007");
    }
}
