//! String and math functions where DataFusion's differ from PostgreSQL's or know no limits.
//!
//! Boundary: kernels only.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Array, StringArray, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use datafusion::common::ScalarValue;
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

/// split_part(text, delimiter, n): the n-th field, from the end if n is negative.
pub fn split_part(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    if args.args.iter().any(|a| matches!(a, ColumnarValue::Scalar(s) if s.is_null())) {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from(result)?));
    }
    if let [ColumnarValue::Array(texts), ColumnarValue::Scalar(delimiter), ColumnarValue::Scalar(n)] =
        args.args.as_slice()
        && let (Some(Some(delimiter)), ScalarValue::Int32(Some(n))) = (delimiter.try_as_str(), n)
    {
        let n = field_number(*n)?;
        let texts = texts.as_string::<i32>();
        let fields = match delimiter.as_bytes() {
            [byte] if n > 0 => fields(texts, |_, text| Ok(field_between(text, *byte, n as usize)))?,
            _ => fields(texts, |_, text| Ok(field(text, delimiter, n)))?,
        };
        return Ok(ColumnarValue::Array(Arc::new(fields)));
    }
    let (arrays, scalar) = as_arrays(args)?;
    let (delimiters, numbers) = (arrays[1].as_string::<i32>(), arrays[2].as_primitive::<Int32Type>());
    let nulls = NullBuffer::union(delimiters.nulls(), numbers.nulls());
    let texts = arrays[0].as_string::<i32>();
    let nulls = NullBuffer::union(texts.nulls(), nulls.as_ref());
    let texts = StringArray::new(texts.offsets().clone(), texts.values().clone(), nulls);
    let fields = fields(&texts, |row, text| {
        Ok(field(text, delimiters.value(row), field_number(numbers.value(row))?))
    })?;
    from_array(Arc::new(fields), scalar)
}

fn field_number(n: i32) -> DfResult<i32> {
    if n == 0 {
        return Err(df_error(Error::new(ErrorKind::InvalidParameter, "field position must not be zero")));
    }
    Ok(n)
}

/// The part of each text that `range` names.
fn fields(
    texts: &StringArray,
    range: impl Fn(usize, &str) -> DfResult<std::ops::Range<usize>>,
) -> DfResult<StringArray> {
    let mut bytes: Vec<u8> = Vec::with_capacity(texts.len() * 16);
    let mut offsets = Vec::with_capacity(texts.len() + 1);
    offsets.push(0_i32);
    for row in 0..texts.len() {
        if texts.is_valid(row) {
            let text = texts.value(row);
            bytes.extend_from_slice(&text.as_bytes()[range(row, text)?]);
        }
        // The fields together are no longer than the texts, which have offsets of 32 bits.
        offsets.push(bytes.len() as i32);
    }
    Ok(StringArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), texts.nulls().cloned())?)
}

/// Field `n` (from 1) of a text divided by an ASCII character; eight characters are compared at a time.
fn field_between(text: &str, delimiter: u8, n: usize) -> std::ops::Range<usize> {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let pattern = u64::from_le_bytes([delimiter; 8]);
    let text = text.as_bytes();
    let (mut start, mut seen) = (if n == 1 { 0 } else { usize::MAX }, 0);
    let mut at = 0;
    while at < text.len() {
        let word = match text[at..].first_chunk::<8>() {
            Some(chunk) => u64::from_le_bytes(*chunk) ^ pattern,
            None => {
                // Behind the end stands what is no delimiter.
                let mut chunk = [!delimiter; 8];
                chunk[..text.len() - at].copy_from_slice(&text[at..]);
                u64::from_le_bytes(chunk) ^ pattern
            }
        };
        // The highest bit of each byte that is zero.
        let mut hits = !(((word & LOW) + LOW) | word | LOW);
        while hits != 0 {
            let hit = at + hits.trailing_zeros() as usize / 8;
            seen += 1;
            if seen == n {
                return start..hit;
            }
            if seen + 1 == n {
                start = hit + 1;
            }
            hits &= hits - 1;
        }
        at += 8;
    }
    if start == usize::MAX { 0..0 } else { start..text.len() }
}

/// Field `n` of a text, from the end if `n` is negative.
fn field(text: &str, delimiter: &str, n: i32) -> std::ops::Range<usize> {
    if delimiter.is_empty() {
        return if n.abs() == 1 { 0..text.len() } else { 0..0 };
    }
    let number = if n > 0 {
        n as usize
    } else {
        match (text.matches(delimiter).count() + 1).checked_sub(n.unsigned_abs() as usize) {
            Some(before) => before + 1,
            None => return 0..0,
        }
    };
    let mut start = 0;
    for (i, (at, _)) in text.match_indices(delimiter).enumerate() {
        if i + 1 == number {
            return start..at;
        }
        start = at + delimiter.len();
        if i + 2 == number && !text[start..].contains(delimiter) {
            return start..text.len();
        }
    }
    if number == 1 { 0..text.len() } else { 0..0 }
}

/// length(bytea).
pub fn byte_length(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out: Int32Array = arrays[0].as_binary::<i32>().iter().map(|v| v.map(|v| v.len() as i32)).collect();
    from_array(Arc::new(out), scalar)
}

/// substring(text from pattern): the first parenthesised part of the match, or the whole match.
pub fn substring_regex(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let pattern_args = ScalarFunctionArgs { args: args.args.clone(), ..args.clone() };
    let (arrays, scalar) = as_arrays(&pattern_args)?;
    let matches =
        arrow::compute::regexp_match(arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>(), None)
            .map_err(|e| {
                df_error(Error::new(ErrorKind::InvalidRegex, format!("invalid regular expression: {e}")))
            })?;
    let lists = matches.as_list::<i32>();
    let out: StringArray = (0..lists.len())
        .map(|row| {
            if lists.is_null(row) {
                return None;
            }
            let list = lists.value(row);
            let groups = list.as_string::<i32>();
            (!groups.is_empty() && groups.is_valid(0)).then(|| groups.value(0).to_string())
        })
        .collect();
    from_array(Arc::new(out), scalar)
}

fn map_text(args: &ScalarFunctionArgs, f: impl Fn(&str) -> String) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out: StringArray = arrays[0].as_string::<i32>().iter().map(|v| v.map(&f)).collect();
    from_array(Arc::new(out), scalar)
}

/// quote_ident(text).
pub fn quote_ident(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    map_text(args, |v| {
        let plain = v.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && v.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if plain { v.to_string() } else { format!("\"{}\"", v.replace('"', "\"\"")) }
    })
}

/// quote_literal(text).
pub fn quote_literal(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    map_text(args, |v| {
        let quoted = v.replace('\'', "''");
        if quoted.contains('\\') {
            format!("E'{}'", quoted.replace('\\', "\\\\"))
        } else {
            format!("'{quoted}'")
        }
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn fields_are_those_that_splitting_the_text_gives() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..5000 {
            let len = rng.random_range(0..40);
            let text: String =
                (0..len).map(|_| ['a', '/', 'é', ',', '\u{2f00}'][rng.random_range(0..5)]).collect();
            let delimiter = ["/", ",", "a/", "//", "é", ""][rng.random_range(0..6)];
            let n = rng.random_range(1..9) * if rng.random_bool(0.5) { 1 } else { -1 };
            let parts: Vec<&str> = match delimiter {
                "" => vec![&text],
                d => text.split(d).collect(),
            };
            let index = if n > 0 { n - 1 } else { parts.len() as i32 + n };
            let wanted = usize::try_from(index).ok().and_then(|i| parts.get(i)).copied().unwrap_or("");
            assert_eq!(&text[field(&text, delimiter, n)], wanted, "{text:?} {delimiter:?} {n}");
            if let ([byte], true) = (delimiter.as_bytes(), n > 0) {
                assert_eq!(
                    &text[field_between(&text, *byte, n as usize)],
                    wanted,
                    "{text:?} {delimiter:?} {n}"
                );
            }
        }
    }
}
