//! Text to values: PostgreSQL's input functions, one value at a time or a column at once.
//!
//! Boundary: the type decides the syntax; where the text comes from (literals, parameters, COPY, sources) does not
//! matter here.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder,
    FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder,
    IntervalMonthDayNanoBuilder, ListArray, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::datetime::{parse_date, parse_time, parse_timestamp, parse_timestamptz};
use super::interval::parse_interval;
use super::numeric::{parse_decimal128, parse_decimal256};
use super::{TextOptions, json};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

/// Parses one value as the type's input function would.
pub fn parse_text(pg: PgType, text: &str, options: &TextOptions) -> Result<ScalarValue> {
    // The commonest parameters without building a column.
    match pg.oid {
        oid::INT4 => {
            let v =
                i32::try_from(parse_integer(text, "integer")?).map_err(|_| integer_range(text, "integer"))?;
            return Ok(ScalarValue::Int32(Some(v)));
        }
        oid::INT8 => {
            let v =
                i64::try_from(parse_integer(text, "bigint")?).map_err(|_| integer_range(text, "bigint"))?;
            return Ok(ScalarValue::Int64(Some(v)));
        }
        oid::TEXT => return Ok(ScalarValue::Utf8(Some(text.to_string()))),
        _ => {}
    }
    let column = parse_column(pg, std::iter::once(Some(text)), options)?;
    Ok(ScalarValue::try_from_array(&column, 0)?)
}

/// Parses a column; the first value that cannot be read is the error.
pub fn parse_column<'a>(
    pg: PgType,
    values: impl Iterator<Item = Option<&'a str>>,
    options: &TextOptions,
) -> Result<ArrayRef> {
    build(pg, values, options, &mut |_, e| Err(e))
}

/// Parses a column; values that cannot be read become NULL and are reported with their row numbers.
pub fn parse_column_with_errors<'a>(
    pg: PgType,
    values: impl Iterator<Item = Option<&'a str>>,
    options: &TextOptions,
) -> Result<(ArrayRef, Vec<(usize, Error)>)> {
    let mut errors = Vec::new();
    let column = build(pg, values, options, &mut |row, e| {
        errors.push((row, e));
        Ok(())
    })?;
    Ok((column, errors))
}

type OnError<'e> = &'e mut dyn FnMut(usize, Error) -> Result<()>;

/// Runs a parser over all values, appending to an Arrow builder.
macro_rules! fill {
    ($builder:expr, $values:expr, $on_error:expr, $parse:expr) => {{
        let mut builder = $builder;
        for (row, value) in $values.enumerate() {
            match value.map($parse) {
                None => builder.append_null(),
                Some(Ok(v)) => builder.append_value(v),
                Some(Err(e)) => {
                    $on_error(row, e)?;
                    builder.append_null();
                }
            }
        }
        Arc::new(builder.finish()) as ArrayRef
    }};
}

fn build<'a>(
    pg: PgType,
    values: impl Iterator<Item = Option<&'a str>>,
    options: &TextOptions,
    on_error: OnError<'_>,
) -> Result<ArrayRef> {
    Ok(match pg.oid {
        oid::BOOL => fill!(BooleanBuilder::new(), values, on_error, parse_bool),
        oid::INT2 => fill!(Int16Builder::new(), values, on_error, |t| {
            let v = parse_integer(t, "smallint")?;
            i16::try_from(v).map_err(|_| integer_range(t, "smallint"))
        }),
        oid::INT4 => fill!(Int32Builder::new(), values, on_error, |t| {
            let v = parse_integer(t, "integer")?;
            i32::try_from(v).map_err(|_| integer_range(t, "integer"))
        }),
        oid::INT8 => fill!(Int64Builder::new(), values, on_error, |t| {
            let v = parse_integer(t, "bigint")?;
            i64::try_from(v).map_err(|_| integer_range(t, "bigint"))
        }),
        oid::OID | oid::REGCLASS | oid::REGTYPE | oid::REGPROC => {
            fill!(Int64Builder::new(), values, on_error, |t| {
                let v = parse_integer(t, "oid")?;
                // As in PostgreSQL: negative numbers stand for the upper half.
                let unsigned = u32::try_from(v).or_else(|_| i32::try_from(v).map(|v| v as u32));
                unsigned.map(i64::from).map_err(|_| integer_range(t, "oid"))
            })
        }
        oid::FLOAT4 => fill!(Float32Builder::new(), values, on_error, parse_f32),
        oid::FLOAT8 => fill!(Float64Builder::new(), values, on_error, parse_f64),
        oid::NUMERIC => return numeric_column(pg, values, on_error),
        oid::BYTEA => fill!(BinaryBuilder::new(), values, on_error, parse_bytea),
        oid::DATE => fill!(Date32Builder::new(), values, on_error, |t| parse_date(t, options)),
        oid::TIME => fill!(Time64MicrosecondBuilder::new(), values, on_error, |t| parse_time(t, options)),
        oid::TIMESTAMP => {
            fill!(TimestampMicrosecondBuilder::new(), values, on_error, |t| parse_timestamp(t, options))
        }
        oid::TIMESTAMPTZ => {
            let builder = TimestampMicrosecondBuilder::new().with_timezone(crate::types::UTC);
            fill!(builder, values, on_error, |t| parse_timestamptz(t, options))
        }
        oid::INTERVAL => fill!(IntervalMonthDayNanoBuilder::new(), values, on_error, parse_interval),
        oid::UUID => return uuid_column(values, on_error),
        oid::JSON => fill!(StringBuilder::new(), values, on_error, |t| json::validate(t).map(|()| t)),
        oid::JSONB => fill!(StringBuilder::new(), values, on_error, json::normalize),
        oid::VARCHAR | oid::BPCHAR => fill!(StringBuilder::new(), values, on_error, |t| limit_chars(pg, t)),
        oid::NAME => fill!(StringBuilder::new(), values, on_error, |t: &'a str| Ok::<_, Error>(clip_name(t))),
        _ => match pg.element() {
            Some(element) => return list_column(element, values, options, on_error),
            None => fill!(StringBuilder::new(), values, on_error, |t: &'a str| Ok::<_, Error>(t)),
        },
    })
}

fn numeric_column<'a>(
    pg: PgType,
    values: impl Iterator<Item = Option<&'a str>>,
    on_error: OnError<'_>,
) -> Result<ArrayRef> {
    let round = pg.numeric_parts().is_some();
    Ok(match pg.arrow() {
        DataType::Decimal256(p, s) => {
            let builder = Decimal256Builder::new().with_precision_and_scale(p, s)?;
            fill!(builder, values, on_error, |t| parse_decimal256(t, p, s, round))
        }
        DataType::Decimal128(p, s) => {
            let builder = Decimal128Builder::new().with_precision_and_scale(p, s)?;
            fill!(builder, values, on_error, |t| parse_decimal128(t, p, s, round))
        }
        other => return Err(Error::internal(format!("numeric is held as {other}"))),
    })
}

fn uuid_column<'a>(values: impl Iterator<Item = Option<&'a str>>, on_error: OnError<'_>) -> Result<ArrayRef> {
    let mut builder = FixedSizeBinaryBuilder::new(16);
    for (row, value) in values.enumerate() {
        match value.map(parse_uuid) {
            None => builder.append_null(),
            Some(Ok(v)) => builder.append_value(v)?,
            Some(Err(e)) => {
                on_error(row, e)?;
                builder.append_null();
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

fn list_column<'a>(
    element: PgType,
    values: impl Iterator<Item = Option<&'a str>>,
    options: &TextOptions,
    on_error: OnError<'_>,
) -> Result<ArrayRef> {
    let mut lengths = Vec::new();
    let mut valid = Vec::new();
    let mut parts: Vec<ArrayRef> = Vec::new();
    for (row, value) in values.enumerate() {
        let parsed = value.map(|text| {
            let items = split_array(text)?;
            // Boxed, so that arrays of arrays do not make ever new types of iterators.
            let items: Box<dyn Iterator<Item = Option<&str>>> = Box::new(items.iter().map(|i| i.as_deref()));
            parse_column(element, items, options)
        });
        match parsed {
            Some(Ok(items)) => {
                lengths.push(items.len());
                valid.push(true);
                parts.push(items);
                continue;
            }
            Some(Err(e)) => on_error(row, e)?,
            None => {}
        }
        lengths.push(0);
        valid.push(false);
    }
    let child: ArrayRef = if parts.is_empty() {
        arrow::array::new_empty_array(&element.arrow())
    } else {
        let refs: Vec<&dyn arrow::array::Array> = parts.iter().map(|p| p.as_ref()).collect();
        arrow::compute::concat(&refs)?
    };
    let DataType::List(field) =
        (PgType { oid: element.array_oid().unwrap_or(0), typmod: element.typmod }).arrow()
    else {
        return Err(Error::internal("an element type without array"));
    };
    let nulls = NullBuffer::from(valid);
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), child, Some(nulls))?))
}

fn syntax(type_name: &str, text: &str) -> Error {
    Error::new(ErrorKind::InvalidText, format!("invalid input syntax for type {type_name}: \"{text}\""))
}

fn parse_bool(text: &str) -> Result<bool> {
    let word = text.trim_ascii();
    let is = |full: &str, least: usize| {
        word.len() >= least
            && word.len() <= full.len()
            && full.as_bytes()[..word.len()].eq_ignore_ascii_case(word.as_bytes())
    };
    if is("true", 1) || is("yes", 1) || is("on", 2) || word == "1" {
        Ok(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || word == "0" {
        Ok(false)
    } else {
        Err(syntax("boolean", text))
    }
}

fn integer_range(text: &str, type_name: &str) -> Error {
    Error::new(ErrorKind::NumericOutOfRange, format!("value \"{text}\" is out of range for type {type_name}"))
}

fn parse_integer(text: &str, type_name: &str) -> Result<i128> {
    let b = text.trim_ascii().as_bytes();
    let (negative, digits) = match b.first() {
        Some(b'-') => (true, &b[1..]),
        Some(b'+') => (false, &b[1..]),
        _ => (false, b),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(syntax(type_name, text));
    }
    // Saturating is enough: the caller checks the type's range.
    let v = digits.iter().fold(0i128, |v, d| v.saturating_mul(10).saturating_add(i128::from(d - b'0')));
    Ok(if negative { -v } else { v })
}

/// Whether a text that denotes a number has a digit other than zero before its exponent.
fn has_magnitude(text: &str) -> bool {
    text.bytes().take_while(|c| !matches!(c, b'e' | b'E')).any(|c| (b'1'..=b'9').contains(&c))
}

fn parse_f64(text: &str) -> Result<f64> {
    let word = text.trim_ascii();
    let v: f64 = word.parse().map_err(|_| syntax("double precision", text))?;
    let named = word.bytes().any(|c| matches!(c, b'i' | b'I' | b'n' | b'N'));
    if !named && (v.is_infinite() || (v == 0.0 && has_magnitude(word))) {
        return Err(Error::new(
            ErrorKind::NumericOutOfRange,
            format!("\"{word}\" is out of range for type double precision"),
        ));
    }
    Ok(v)
}

fn parse_f32(text: &str) -> Result<f32> {
    let word = text.trim_ascii();
    let v: f32 = word.parse().map_err(|_| syntax("real", text))?;
    let named = word.bytes().any(|c| matches!(c, b'i' | b'I' | b'n' | b'N'));
    if !named && (v.is_infinite() || (v == 0.0 && has_magnitude(word))) {
        return Err(Error::new(
            ErrorKind::NumericOutOfRange,
            format!("\"{word}\" is out of range for type real"),
        ));
    }
    Ok(v)
}

fn hex_digit(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).map(|d| d as u8)
}

fn parse_bytea(text: &str) -> Result<Vec<u8>> {
    let b = text.as_bytes();
    if let Some(hex) = b.strip_prefix(b"\\x") {
        let mut out = Vec::with_capacity(hex.len() / 2);
        let mut high = None;
        for c in hex {
            if matches!(c, b' ' | b'\n' | b'\t' | b'\r') && high.is_none() {
                continue;
            }
            let d = hex_digit(*c).ok_or_else(|| {
                let shown = text
                    .char_indices()
                    .map(|(_, c)| c)
                    .find(|c| !c.is_ascii_hexdigit() && !"\\x".contains(*c));
                Error::new(
                    ErrorKind::InvalidParameter,
                    format!("invalid hexadecimal digit: \"{}\"", shown.unwrap_or(char::from(*c))),
                )
            })?;
            match high.take() {
                None => high = Some(d),
                Some(h) => out.push(h << 4 | d),
            }
        }
        if high.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidParameter,
                "invalid hexadecimal data: odd number of digits",
            ));
        }
        return Ok(out);
    }
    let mut out = Vec::with_capacity(b.len());
    let mut rest = b;
    while let [first, tail @ ..] = rest {
        if *first != b'\\' {
            out.push(*first);
            rest = tail;
            continue;
        }
        match tail {
            [b'\\', tail @ ..] => {
                out.push(b'\\');
                rest = tail;
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => return Err(Error::new(ErrorKind::InvalidText, "invalid input syntax for type bytea")),
        }
    }
    Ok(out)
}

fn parse_uuid(text: &str) -> Result<[u8; 16]> {
    let bad = || syntax("uuid", text);
    let b = text.as_bytes();
    let b = match b {
        [b'{', inner @ .., b'}'] => inner,
        _ => b,
    };
    let mut out = [0u8; 16];
    let mut n = 0;
    let mut i = 0;
    while i < b.len() {
        // PostgreSQL takes a hyphen after every group of four digits.
        if b[i] == b'-' && n > 0 && n % 4 == 0 && b[i - 1] != b'-' && n < 32 {
            i += 1;
            continue;
        }
        let d = hex_digit(b[i]).filter(|_| n < 32).ok_or_else(bad)?;
        out[n / 2] |= if n % 2 == 0 { d << 4 } else { d };
        n += 1;
        i += 1;
    }
    if n == 32 { Ok(out) } else { Err(bad()) }
}

/// A `varchar(n)` or `char(n)` value: surplus blanks are cut off, other surplus is refused; `char(n)` is kept
/// without trailing blanks (they mean nothing in it, and are shown again on output).
fn limit_chars(pg: PgType, text: &str) -> Result<&str> {
    let kept = match pg.max_chars() {
        Some(n) if text.len() > n => match text.char_indices().nth(n) {
            Some((cut, _)) if text[cut..].bytes().all(|c| c == b' ') => &text[..cut],
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::StringTooLong,
                    format!("value too long for type {}", pg.sql_name()),
                ));
            }
            None => text,
        },
        _ => text,
    };
    Ok(if pg.oid == oid::BPCHAR { kept.trim_end_matches(' ') } else { kept })
}

/// Names are cut at 63 bytes, on a character's border.
fn clip_name(text: &str) -> &str {
    let mut end = text.len().min(63);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn malformed_array(text: &str, detail: &str) -> Error {
    Error::new(ErrorKind::InvalidText, format!("malformed array literal: \"{text}\"")).with_detail(detail)
}

/// The elements of a one-dimensional array literal; `None` is NULL.
fn split_array(text: &str) -> Result<Vec<Option<String>>> {
    let mut rest = text.trim_ascii();
    if rest.starts_with('[') {
        return Err(Error::unsupported("array literals with explicit bounds are not supported"));
    }
    rest = rest.strip_prefix('{').ok_or_else(|| {
        malformed_array(text, "Array value must start with \"{\" or dimension information.")
    })?;
    let ended = || malformed_array(text, "Unexpected end of input.");
    let mut items = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        let mut item = String::new();
        let mut quoted = false;
        let mut chars = rest.char_indices();
        let (mut in_quotes, mut closed) = (false, false);
        let (end, stop) = loop {
            let (i, c) = chars.next().ok_or_else(ended)?;
            match c {
                '\\' => {
                    item.push(chars.next().ok_or_else(ended)?.1);
                    quoted = true;
                }
                '"' if !in_quotes && (quoted || !item.is_empty()) => {
                    return Err(malformed_array(text, "Incorrectly quoted array element."));
                }
                '"' => {
                    in_quotes = !in_quotes;
                    quoted = true;
                    closed = !in_quotes;
                }
                c if closed && c.is_ascii_whitespace() => {}
                ',' | '}' if !in_quotes => break (i, c),
                _ if closed => return Err(malformed_array(text, "Incorrectly quoted array element.")),
                '{' if !in_quotes => {
                    return Err(Error::unsupported("multidimensional arrays are not supported"));
                }
                c => item.push(c),
            }
        };
        rest = &rest[end + 1..];
        if !quoted {
            item.truncate(item.trim_end().len());
        }
        if quoted {
            items.push(Some(item));
        } else if item.is_empty() {
            if !(stop == '}' && items.is_empty()) {
                return Err(malformed_array(text, &format!("Unexpected \"{stop}\" character.")));
            }
        } else if item.eq_ignore_ascii_case("null") {
            items.push(None);
        } else {
            items.push(Some(item));
        }
        if stop == '}' {
            break;
        }
    }
    if rest.trim_ascii().is_empty() {
        Ok(items)
    } else {
        Err(malformed_array(text, "Junk after closing right brace."))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::super::TextFormatter;
    use super::*;

    fn round_trip(pg: PgType, text: &str) -> Result<String> {
        let o = TextOptions::default();
        let a = parse_column(pg, std::iter::once(Some(text)), &o)?;
        let mut out = Vec::new();
        TextFormatter::new(&pg.field("a", true), &o).write(&a, 0, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_read_back_as_postgresql_prints_them() {
        let varchar = |n: i32| PgType { oid: oid::VARCHAR, typmod: n + 4 };
        for (pg, text, expected) in [
            (PgType::BOOL, " YES ", "t"),
            (PgType::BOOL, "of", "f"),
            (PgType::INT4, " +42 ", "42"),
            (PgType::INT2, "-32768", "-32768"),
            (PgType::FLOAT8, "1e20", "1e+20"),
            (PgType::FLOAT8, "-inf", "-Infinity"),
            (PgType::NUMERIC, "1.50", "1.5"),
            (PgType::numeric(12, 2), "1.505", "1.51"),
            (PgType::numeric(50, 2), "1.505", "1.51"),
            (varchar(3), "abc  ", "abc"),
            (PgType { oid: oid::BPCHAR, typmod: 8 }, "ab", "ab  "),
            (PgType::BYTEA, "\\x00fF", "\\x00ff"),
            (PgType::BYTEA, "a\\000\\\\", "\\x61005c"),
            (PgType::UUID, "{A0EEBC99-9C0B4EF8BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (PgType::JSONB, "{\"b\":1,\"a\":2}", "{\"a\": 2, \"b\": 1}"),
            (PgType::of(oid::JSON), "{\"b\":1}", "{\"b\":1}"),
            (PgType::of(1007), "{1, 2,NULL}", "{1,2,NULL}"),
            (PgType::of(1009), r#"{a,"b c","NULL",null,"x\"y"}"#, r#"{a,"b c","NULL",NULL,"x\"y"}"#),
            (PgType::of(1009), "{}", "{}"),
            (PgType::of(1231), "{1.50}", "{1.5}"),
            (PgType::TIMESTAMPTZ, "2024-01-01 00:00:00+02", "2023-12-31 22:00:00+00"),
        ] {
            assert_eq!(round_trip(pg, text).unwrap(), expected, "{text} as {}", pg.sql_name());
        }
    }

    #[test]
    fn refusals_use_postgresqls_words_and_codes() {
        for (pg, text, code, message) in [
            (PgType::INT4, "x", "22P02", "invalid input syntax for type integer: \"x\""),
            (PgType::INT4, "", "22P02", "invalid input syntax for type integer: \"\""),
            (PgType::INT4, "1.0", "22P02", "invalid input syntax for type integer: \"1.0\""),
            (PgType::INT4, "99999999999", "22003", "value \"99999999999\" is out of range for type integer"),
            (PgType::BOOL, "o", "22P02", "invalid input syntax for type boolean: \"o\""),
            (PgType::FLOAT8, "1e400", "22003", "\"1e400\" is out of range for type double precision"),
            (PgType::FLOAT8, "1e-400", "22003", "\"1e-400\" is out of range for type double precision"),
            (PgType::FLOAT4, "1e40", "22003", "\"1e40\" is out of range for type real"),
            (PgType::numeric(4, 2), "100", "22003", "numeric field overflow"),
            (PgType::UUID, "x", "22P02", "invalid input syntax for type uuid: \"x\""),
            (
                PgType { oid: oid::VARCHAR, typmod: 7 },
                "abcd",
                "22001",
                "value too long for type character varying(3)",
            ),
            (PgType::BYTEA, "\\x0", "22023", "invalid hexadecimal data: odd number of digits"),
            (PgType::BYTEA, "\\9", "22P02", "invalid input syntax for type bytea"),
            (PgType::of(1007), "1,2", "22P02", "malformed array literal: \"1,2\""),
            (PgType::of(1007), "{1", "22P02", "malformed array literal: \"{1\""),
            (PgType::of(1007), "{1,}", "22P02", "malformed array literal: \"{1,}\""),
            (PgType::of(1007), "{x}", "22P02", "invalid input syntax for type integer: \"x\""),
            (PgType::JSONB, "{", "22P02", "invalid input syntax for type json"),
            (PgType::TIMESTAMP, "x", "22007", "invalid input syntax for type timestamp: \"x\""),
        ] {
            let e = round_trip(pg, text).unwrap_err();
            assert_eq!((e.kind().sqlstate(), e.message()), (code, message), "{text} as {}", pg.sql_name());
        }
    }

    #[test]
    fn a_column_with_bad_rows_keeps_the_good_ones() {
        let values = [Some("1"), Some("x"), None, Some("4")];
        let (a, errors) =
            parse_column_with_errors(PgType::INT4, values.into_iter(), &TextOptions::default()).unwrap();
        assert_eq!(
            a.as_ref(),
            &arrow::array::Int32Array::from(vec![Some(1), None, None, Some(4)]) as &dyn Array
        );
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].0, 1);
        let (a, errors) =
            parse_column_with_errors(PgType::of(1007), values.into_iter(), &TextOptions::default()).unwrap();
        assert_eq!((a.len(), a.null_count(), errors.len()), (4, 4, 3));
    }

    #[test]
    fn a_single_value_has_the_types_arrow_type() {
        let v = parse_text(PgType::numeric(12, 2), "1.5", &TextOptions::default()).unwrap();
        assert_eq!(v, ScalarValue::Decimal128(Some(150), 12, 2));
        let v = parse_text(PgType::of(1007), "{1}", &TextOptions::default()).unwrap();
        assert_eq!(v.data_type(), PgType::of(1007).arrow());
    }
}
