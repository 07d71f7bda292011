//! The functions of `text` and `bytea` beyond those of [`super::strings`].
//!
//! Boundary: kernels and their signatures.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Int32Builder, Int64Builder, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use datafusion::functions::{crypto, unicode};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::kernel::{Columns, pg_type_of, rows};
use super::registry::Build::{Df, Native, Zoned};
use super::registry::Spec;
use super::{DfResult, df_error, strings};
use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;
use crate::types::text::{TextFormatter, TextOptions};

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidParameter, message)
}

/// The byte at which character `n` (from 0) begins.
fn byte_at(text: &str, n: usize) -> usize {
    if text.is_ascii() {
        n.min(text.len())
    } else {
        text.char_indices().nth(n).map_or(text.len(), |(i, _)| i)
    }
}

/// substring(text from start for length), counted in characters; what lies before the first is cut off.
fn substring(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (t: Text, start: Int4, length: Int4) {
        let (from, to) = window(start.into(), length.into())?;
        out.append_value(&t[byte_at(t, from)..byte_at(t, to)]);
    })
}

fn substring_from(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (t: Text, start: Int4) {
        let from = usize::try_from(i64::from(start) - 1).unwrap_or(0);
        out.append_value(&t[byte_at(t, from)..]);
    })
}

/// The places, from 0, of a substring.
fn window(start: i64, length: i64) -> Result<(usize, usize)> {
    if length < 0 {
        return Err(Error::new(ErrorKind::Substring, "negative substring length not allowed"));
    }
    let (from, to) = (start - 1, start - 1 + length);
    Ok((from.max(0) as usize, to.max(0) as usize))
}

fn substring_bytes(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BinaryBuilder::new(), (v: Bytes, start: Int4, length: Int4) {
        let (from, to) = window(start.into(), length.into())?;
        out.append_value(&v[from.min(v.len())..to.min(v.len())]);
    })
}

fn substring_bytes_from(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BinaryBuilder::new(), (v: Bytes, start: Int4) {
        let from = usize::try_from(i64::from(start) - 1).unwrap_or(0);
        out.append_value(&v[from.min(v.len())..]);
    })
}

/// left(text, n): all but the last |n| when negative.
fn left(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (t: Text, n: Int4) {
        let n = i64::from(n);
        let count = if n < 0 { (t.chars().count() as i64 + n).max(0) } else { n };
        out.append_value(&t[..byte_at(t, count as usize)]);
    })
}

/// right(text, n): all but the first |n| when negative.
fn right(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (t: Text, n: Int4) {
        let n = i64::from(n);
        let skip = if n < 0 { -n } else { (t.chars().count() as i64 - n).max(0) };
        out.append_value(&t[byte_at(t, skip as usize)..]);
    })
}

fn overlay(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (t: Text, with: Text, start: Int4, length: Int4) {
        overlaid(t, with, start.into(), length.into(), &mut buffer)?;
        out.append_value(&buffer);
    })
}

fn overlay_whole(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (t: Text, with: Text, start: Int4) {
        overlaid(t, with, start.into(), with.chars().count() as i64, &mut buffer)?;
        out.append_value(&buffer);
    })
}

fn overlaid(t: &str, with: &str, start: i64, length: i64, out: &mut String) -> Result<()> {
    if start <= 0 {
        return Err(Error::new(ErrorKind::Substring, "negative substring length not allowed"));
    }
    out.clear();
    out.push_str(&t[..byte_at(t, (start - 1) as usize)]);
    out.push_str(with);
    out.push_str(&t[byte_at(t, (start + length - 1).max(0) as usize)..]);
    Ok(())
}

/// The place of a part, from 1; 0 when it is not there.
fn strpos(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (t: Text, part: Text)
        out.append_value(t.find(part).map_or(0, |at| t[..at].chars().count() as i32 + 1)))
}

fn strpos_bytes(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (v: Bytes, part: Bytes) {
        let at = if part.is_empty() { Some(0) } else { v.windows(part.len()).position(|w| w == part) };
        out.append_value(at.map_or(0, |at| at as i32 + 1));
    })
}

fn chr(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (n: Int4) {
        if n == 0 {
            Err(Error::new(ErrorKind::ProgramLimit, "null character not permitted"))?;
        }
        if n < 0 {
            Err(Error::new(ErrorKind::ProgramLimit, "character number must be positive"))?;
        }
        let c = u32::try_from(n).ok().and_then(char::from_u32).ok_or_else(|| {
            Error::new(ErrorKind::ProgramLimit, format!("requested character too large for encoding: {n}"))
        })?;
        out.append_value(c.encode_utf8(&mut [0; 4]));
    })
}

fn ascii(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (t: Text)
        out.append_value(t.chars().next().map_or(0, |c| u32::from(c) as i32)))
}

fn trimmed<'a>(t: &'a str, set: &str, left: bool, right: bool) -> &'a str {
    let mut t = t;
    if left {
        t = t.trim_start_matches(|c| set.contains(c));
    }
    if right {
        t = t.trim_end_matches(|c| set.contains(c));
    }
    t
}

fn trim(args: &ScalarFunctionArgs, result: &DataType, left: bool, right: bool) -> DfResult<ColumnarValue> {
    if args.args.len() == 1 {
        return rows!(args, result, out = StringBuilder::new(), (t: Text)
            out.append_value(trimmed(t, " ", left, right)));
    }
    rows!(args, result, out = StringBuilder::new(), (t: Text, set: Text)
        out.append_value(trimmed(t, set, left, right)))
}

fn trim_bytes(
    args: &ScalarFunctionArgs,
    result: &DataType,
    left: bool,
    right: bool,
) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BinaryBuilder::new(), (v: Bytes, set: Bytes) {
        let mut v = v;
        while left && v.first().is_some_and(|b| set.contains(b)) {
            v = &v[1..];
        }
        while right && v.last().is_some_and(|b| set.contains(b)) {
            v = &v[..v.len() - 1];
        }
        out.append_value(v);
    })
}

/// replace(text, from, to): nothing to look for replaces nothing.
fn replace(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (t: Text, from: Text, to: Text) {
        if from.is_empty() || !t.contains(from) {
            out.append_value(t);
        } else {
            out.append_value(t.replace(from, to));
        }
    })
}

fn hex(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    use std::fmt::Write;
    let mut buffer = String::new();
    if *args.args[0].data_type().primitive_width().as_ref().unwrap_or(&8) == 4 {
        return rows!(args, result, out = StringBuilder::new(), (n: Int4) {
            buffer.clear();
            // Writing into a String never fails.
            let _ = write!(buffer, "{n:x}");
            out.append_value(&buffer);
        });
    }
    rows!(args, result, out = StringBuilder::new(), (n: Int8) {
        buffer.clear();
        let _ = write!(buffer, "{n:x}");
        out.append_value(&buffer);
    })
}

/// A key word of PostgreSQL that quote_ident quotes.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// Writes an identifier, quoted if need be.
fn write_ident(v: &str, out: &mut String) {
    let plain = v.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && v.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && RESERVED.binary_search(&v).is_err();
    if plain {
        out.push_str(v);
    } else {
        out.push('"');
        out.push_str(&v.replace('"', "\"\""));
        out.push('"');
    }
}

/// Writes a string constant.
fn write_literal(v: &str, out: &mut String) {
    let quoted = v.replace('\'', "''");
    if quoted.contains('\\') {
        out.push_str(" E'");
        out.push_str(&quoted.replace('\\', "\\\\"));
    } else {
        out.push('\'');
        out.push_str(&quoted);
    }
    out.push('\'');
}

fn quote_ident(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (t: Text) {
        buffer.clear();
        write_ident(t, &mut buffer);
        out.append_value(&buffer);
    })
}

/// Writes any value's text.
struct AnyText {
    formatter: TextFormatter,
    pg: PgType,
    array: ArrayRef,
    once: bool,
    scratch: Vec<u8>,
}

impl AnyText {
    /// The arguments of a call but the last, which is the time zone.
    fn all(args: &ScalarFunctionArgs, columns: &Columns) -> DfResult<Vec<AnyText>> {
        let zone = match args.args.last() {
            Some(ColumnarValue::Scalar(v)) => v.try_as_str().flatten().unwrap_or("UTC"),
            _ => "UTC",
        };
        let options = TextOptions::default().with_time_zone(zone).map_err(df_error)?;
        Ok((0..columns.len() - 1)
            .map(|i| {
                let array = columns.array(i).clone();
                let field: Field =
                    args.arg_fields[i].as_ref().clone().with_data_type(array.data_type().clone());
                AnyText {
                    formatter: TextFormatter::new(&field, &options),
                    pg: pg_type_of(args, i),
                    once: columns.rows != 1 && columns.index(i, 1) == 0,
                    array,
                    scratch: Vec::new(),
                }
            })
            .collect())
    }

    fn null(&self, row: usize) -> bool {
        self.array.data_type().is_null() || self.array.is_null(if self.once { 0 } else { row })
    }

    /// Appends the text of a value that is not NULL, as its output function writes it.
    fn write(&mut self, row: usize, out: &mut String) {
        let row = if self.once { 0 } else { row };
        if let Some(texts) = self.array.as_string_opt::<i32>() {
            out.push_str(texts.value(row));
            return;
        }
        self.scratch.clear();
        self.formatter.write(self.array.as_ref(), row, &mut self.scratch);
        out.push_str(&String::from_utf8_lossy(&self.scratch));
    }
}

/// quote_literal(any) and quote_nullable(any).
fn quote_any(args: &ScalarFunctionArgs, result: &DataType, nullable: bool) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let mut values = AnyText::all(args, &columns)?;
    let mut out = StringBuilder::new();
    let (mut text, mut buffer) = (String::new(), String::new());
    for row in 0..columns.rows {
        if values[0].null(row) {
            out.append_option(nullable.then_some("NULL"));
            continue;
        }
        text.clear();
        if values[0].pg == PgType::BOOL {
            text.push_str(if values[0].array.as_boolean().value(columns.index(0, row)) {
                "true"
            } else {
                "false"
            });
        } else {
            values[0].write(row, &mut text);
        }
        buffer.clear();
        write_literal(&text, &mut buffer);
        out.append_value(buffer.trim_start());
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// concat(any...): NULLs are left out.
fn concat(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let mut values = AnyText::all(args, &columns)?;
    let mut out = StringBuilder::new();
    let mut buffer = String::new();
    for row in 0..columns.rows {
        buffer.clear();
        for value in values.iter_mut().filter(|v| !v.null(row)) {
            value.write(row, &mut buffer);
        }
        out.append_value(&buffer);
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// concat_ws(separator, any...): NULLs are left out; NULL without a separator.
fn concat_ws(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let mut values = AnyText::all(args, &columns)?;
    let mut out = StringBuilder::new();
    let (mut buffer, mut separator) = (String::new(), String::new());
    for row in 0..columns.rows {
        if values[0].null(row) {
            out.append_null();
            continue;
        }
        separator.clear();
        values[0].write(row, &mut separator);
        buffer.clear();
        let mut first = true;
        for value in values[1..].iter_mut().filter(|v| !v.null(row)) {
            if !first {
                buffer.push_str(&separator);
            }
            first = false;
            value.write(row, &mut buffer);
        }
        out.append_value(&buffer);
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// format(template, any...).
fn format(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let mut values = AnyText::all(args, &columns)?;
    let mut out = StringBuilder::new();
    let (mut buffer, mut template) = (String::new(), String::new());
    for row in 0..columns.rows {
        if values[0].null(row) {
            out.append_null();
            continue;
        }
        template.clear();
        values[0].write(row, &mut template);
        buffer.clear();
        formatted(&template, &mut values[1..], row, &mut buffer).map_err(df_error)?;
        out.append_value(&buffer);
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// One `%[position$][-][width]type` of a template.
fn formatted(template: &str, values: &mut [AnyText], row: usize, out: &mut String) -> Result<()> {
    let unterminated =
        || invalid("unterminated format() type specifier").with_hint("For a single \"%\" use \"%%\".");
    let too_few = || invalid("too few arguments for format()");
    let mut next = 0usize;
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars>| -> Result<Option<usize>> {
            let mut n: Option<usize> = None;
            while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                let grown = n.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(d as usize));
                n = Some(
                    grown
                        .filter(|n| *n <= i32::MAX as usize)
                        .ok_or_else(|| Error::new(ErrorKind::NumericOutOfRange, "number is out of range"))?,
                );
            }
            Ok(n)
        };
        let mut position = number(&mut chars)?;
        let (mut width, mut minus) = (0usize, false);
        if position.is_some() && chars.peek() != Some(&'$') {
            width = position.take().unwrap_or(0);
        } else {
            if position.is_some() {
                chars.next();
                if position == Some(0) {
                    return Err(invalid("format specifies argument 0, but arguments are numbered from 1"));
                }
            }
            while chars.peek() == Some(&'-') {
                chars.next();
                minus = true;
            }
            if chars.peek() == Some(&'*') {
                chars.next();
                let from = number(&mut chars)?;
                if from.is_some() && chars.next() != Some('$') {
                    return Err(invalid("width argument position must be ended by \"$\""));
                }
                let place = from.map_or(next, |n| n.wrapping_sub(1));
                next = place + 1;
                let value = values.get(place).ok_or_else(too_few)?;
                if !value.null(row) {
                    let at = if value.once { 0 } else { row };
                    let n = match value.array.data_type() {
                        DataType::Int64 => value.array.as_primitive::<Int64Type>().value(at),
                        DataType::Int32 => value.array.as_primitive::<Int32Type>().value(at).into(),
                        _ => return Err(invalid("width argument must be an integer")),
                    };
                    minus |= n < 0;
                    width = n.unsigned_abs() as usize;
                }
            } else {
                width = number(&mut chars)?.unwrap_or(0);
            }
        }
        let Some(kind) = chars.next() else { return Err(unterminated()) };
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(invalid(format!("unrecognized format() type specifier \"{kind}\""))
                .with_hint("For a single \"%\" use \"%%\"."));
        }
        let place = position.map_or(next, |n| n - 1);
        next = place + 1;
        let value = values.get_mut(place).ok_or_else(too_few)?;
        let mut text = String::new();
        if value.null(row) {
            match kind {
                'I' => {
                    return Err(Error::new(
                        ErrorKind::NullNotAllowed,
                        "null values cannot be formatted as an SQL identifier",
                    ));
                }
                'L' => text.push_str("NULL"),
                _ => {}
            }
        } else {
            let mut raw = String::new();
            value.write(row, &mut raw);
            match kind {
                'I' => write_ident(&raw, &mut text),
                'L' => {
                    write_literal(&raw, &mut text);
                    text = text.trim_start().to_string();
                }
                _ => text = raw,
            }
        }
        if width > 10_000_000 {
            return Err(Error::new(ErrorKind::ProgramLimit, "requested length too large"));
        }
        let fill = width.saturating_sub(text.chars().count());
        if !minus {
            out.extend(std::iter::repeat_n(' ', fill));
        }
        out.push_str(&text);
        if minus {
            out.extend(std::iter::repeat_n(' ', fill));
        }
    }
    Ok(())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encoding(name: &str) -> Result<u8> {
    match name.to_ascii_lowercase().as_str() {
        "hex" => Ok(0),
        "base64" => Ok(1),
        "escape" => Ok(2),
        _ => Err(invalid(format!("unrecognized encoding: \"{name}\""))),
    }
}

/// encode(bytea, format).
fn encode(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    use std::fmt::Write;
    let mut s = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Bytes, format: Text) {
        s.clear();
        match encoding(format)? {
            0 => v.iter().for_each(|b| {
                let _ = write!(s, "{b:02x}");
            }),
            1 => {
                for (i, chunk) in v.chunks(3).enumerate() {
                    // A line has 76 characters.
                    if i > 0 && i % 19 == 0 {
                        s.push('\n');
                    }
                    let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
                    for k in 0..4 {
                        if k <= chunk.len() {
                            s.push(char::from(BASE64[(n >> (18 - 6 * k) & 63) as usize]));
                        } else {
                            s.push('=');
                        }
                    }
                }
            }
            _ => v.iter().for_each(|b| match b {
                b'\\' => s.push_str("\\\\"),
                0 | 0x80.. => {
                    let _ = write!(s, "\\{b:03o}");
                }
                b => s.push(char::from(*b)),
            }),
        }
        out.append_value(&s);
    })
}

/// decode(text, format).
fn decode(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut v: Vec<u8> = Vec::new();
    rows!(args, result, out = BinaryBuilder::new(), (t: Text, format: Text) {
        v.clear();
        match encoding(format)? {
            0 => decode_hex(t, &mut v)?,
            1 => decode_base64(t, &mut v)?,
            _ => decode_escape(t, &mut v)?,
        }
        out.append_value(&v);
    })
}

fn decode_hex(t: &str, out: &mut Vec<u8>) -> Result<()> {
    let mut high: Option<u8> = None;
    for c in t.chars().filter(|c| !matches!(c, ' ' | '\n' | '\t' | '\r')) {
        let digit =
            c.to_digit(16).ok_or_else(|| invalid(format!("invalid hexadecimal digit: \"{c}\"")))? as u8;
        match high.take() {
            Some(h) => out.push(h << 4 | digit),
            None => high = Some(digit),
        }
    }
    if high.is_some() {
        return Err(invalid("invalid hexadecimal data: odd number of digits"));
    }
    Ok(())
}

fn decode_base64(t: &str, out: &mut Vec<u8>) -> Result<()> {
    let (mut n, mut count, mut pads) = (0u32, 0, 0);
    for c in t.chars().filter(|c| !matches!(c, ' ' | '\n' | '\t' | '\r')) {
        let value = match c {
            '=' => {
                if pads == 0 && count < 2 {
                    return Err(invalid("unexpected \"=\" while decoding base64 sequence"));
                }
                pads += 1;
                0
            }
            c => BASE64.iter().position(|b| char::from(*b) == c).ok_or_else(|| {
                invalid(format!("invalid symbol \"{c}\" found while decoding base64 sequence"))
            })? as u32,
        };
        n = n << 6 | value;
        count += 1;
        if count == 4 {
            out.push((n >> 16) as u8);
            if pads < 2 {
                out.push((n >> 8) as u8);
            }
            if pads < 1 {
                out.push(n as u8);
            }
            (n, count) = (0, 0);
        }
    }
    if count != 0 {
        return Err(invalid("invalid base64 end sequence")
            .with_hint("Input data is missing padding, is truncated, or is otherwise corrupted."));
    }
    Ok(())
}

fn decode_escape(t: &str, out: &mut Vec<u8>) -> Result<()> {
    let b = t.as_bytes();
    let mut at = 0;
    while let Some(c) = b.get(at) {
        if *c != b'\\' {
            out.push(*c);
            at += 1;
        } else if b.get(at + 1) == Some(&b'\\') {
            out.push(b'\\');
            at += 2;
        } else {
            let digits = b
                .get(at + 1..at + 4)
                .filter(|d| matches!(d[0], b'0'..=b'3') && d[1..].iter().all(|d| matches!(d, b'0'..=b'7')));
            let Some(d) = digits else {
                return Err(Error::new(ErrorKind::InvalidText, "invalid input syntax for type bytea"));
            };
            out.push((d[0] - b'0') << 6 | (d[1] - b'0') << 3 | (d[2] - b'0'));
            at += 4;
        }
    }
    Ok(())
}

fn encoding_name(name: &str) -> Result<()> {
    let plain: String = name.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    match plain.as_str() {
        "utf8" | "unicode" => Ok(()),
        "sqlascii" | "latin1" | "iso88591" | "latin9" | "win1252" => {
            Err(Error::unsupported(format!("encoding \"{name}\" is not supported")))
        }
        _ => Err(invalid(format!("invalid source encoding name \"{name}\""))),
    }
}

/// convert_from(bytea, encoding).
fn convert_from(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Bytes, name: Text) {
        encoding_name(name)?;
        let text = std::str::from_utf8(v).map_err(|e| {
            let bad = &v[e.valid_up_to()..];
            let shown: Vec<String> =
                bad.iter().take(e.error_len().unwrap_or(bad.len()).max(1)).map(|b| format!("0x{b:02x}")).collect();
            Error::new(
                ErrorKind::InvalidEncoding,
                format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
            )
        })?;
        if text.contains('\0') {
            Err(Error::new(ErrorKind::InvalidEncoding, "invalid byte sequence for encoding \"UTF8\": 0x00"))?;
        }
        out.append_value(text);
    })
}

fn convert_to(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BinaryBuilder::new(), (t: Text, name: Text) {
        encoding_name(name).map_err(|e| {
            if e.kind() == ErrorKind::InvalidParameter {
                invalid(format!("invalid destination encoding name \"{name}\""))
            } else { e }
        })?;
        out.append_value(t.as_bytes());
    })
}

fn byte_index(v: &[u8], n: i64) -> Result<usize> {
    usize::try_from(n).ok().filter(|i| *i < v.len()).ok_or_else(|| {
        Error::new(
            ErrorKind::ArraySubscript,
            format!("index {n} out of valid range, 0..{}", v.len() as i64 - 1),
        )
    })
}

fn get_byte(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (v: Bytes, n: Int4)
        out.append_value(v[byte_index(v, n.into())?].into()))
}

fn set_byte(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BinaryBuilder::new(), (v: Bytes, n: Int4, new: Int4) {
        let at = byte_index(v, n.into())?;
        let mut copy = v.to_vec();
        copy[at] = new as u8;
        out.append_value(&copy);
    })
}

fn get_bit(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (v: Bytes, n: Int8) {
        let at = byte_index(v, n.div_euclid(8)).map_err(|_| bit_range(v, n))?;
        out.append_value(i32::from(v[at] >> n.rem_euclid(8) & 1));
    })
}

fn bit_range(v: &[u8], n: i64) -> Error {
    Error::new(
        ErrorKind::ArraySubscript,
        format!("index {n} out of valid range, 0..{}", v.len() as i64 * 8 - 1),
    )
}

fn set_bit(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BinaryBuilder::new(), (v: Bytes, n: Int8, new: Int4) {
        let at = byte_index(v, n.div_euclid(8)).map_err(|_| bit_range(v, n))?;
        if !(0..=1).contains(&new) {
            Err(invalid("new bit must be 0 or 1"))?;
        }
        let mut copy = v.to_vec();
        let bit = 1u8 << n.rem_euclid(8);
        copy[at] = if new == 1 { copy[at] | bit } else { copy[at] & !bit };
        out.append_value(&copy);
    })
}

fn bit_count(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int64Builder::new(), (v: Bytes)
        out.append_value(v.iter().map(|b| i64::from(b.count_ones())).sum()))
}

fn concat_bytes(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = Vec::new();
    rows!(args, result, out = BinaryBuilder::new(), (a: Bytes, b: Bytes) {
        buffer.clear();
        buffer.extend_from_slice(a);
        buffer.extend_from_slice(b);
        out.append_value(&buffer);
    })
}

fn bpchar_length(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (t: Text)
        out.append_value(t.trim_end_matches(' ').chars().count() as i32))
}

fn null_count(args: &ScalarFunctionArgs, result: &DataType, nulls: bool) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let mut out = Int32Builder::with_capacity(columns.rows);
    for row in 0..columns.rows {
        let null = |i: &usize| columns.array(*i).data_type().is_null() || columns.is_null_at(*i, row);
        out.append_value((0..columns.len()).filter(|i| null(i) == nulls).count() as i32);
    }
    columns.finish(Arc::new(out.finish()), result)
}

fn reverse(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (t: Text) {
        buffer.clear();
        buffer.extend(t.chars().rev());
        out.append_value(&buffer);
    })
}

fn starts_with(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (t: Text, p: Text) out.append_value(t.starts_with(p)))
}

fn parse_ident(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = arrow::array::ListBuilder::new(StringBuilder::new()), (t: Text) {
        let mut rest = t.trim_ascii();
        loop {
            let bad = || invalid(format!("string is not a valid identifier: \"{t}\""));
            if let Some(quoted) = rest.strip_prefix('"') {
                let mut name = String::new();
                let mut chars = quoted.char_indices().peekable();
                let mut end = None;
                while let Some((i, c)) = chars.next() {
                    if c == '"' {
                        if chars.peek().is_some_and(|(_, c)| *c == '"') {
                            chars.next();
                        } else {
                            end = Some(i + 1);
                            break;
                        }
                    }
                    name.push(c);
                }
                let end = end.ok_or_else(bad)?;
                out.values().append_value(&name);
                rest = quoted[end..].trim_ascii_start();
            } else {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
                let name = &rest[..end];
                if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                    Err(bad())?;
                }
                out.values().append_value(name.to_ascii_lowercase());
                rest = rest[end..].trim_ascii_start();
            }
            match rest.strip_prefix('.') {
                Some(more) => rest = more.trim_ascii_start(),
                None if rest.is_empty() => break,
                None => Err(bad())?,
            }
        }
        out.append(true);
    })
}

/// The functions with their signatures.
pub const SPECS: &[Spec] = &[
    ("lower(text)->text", Native(strings::lower), "in lower case"),
    ("upper(text)->text", Native(strings::upper), "in upper case"),
    ("initcap(text)->text", Native(strings::initcap), "words with capitals"),
    ("btrim(text)->text", Native(|a, t| trim(a, t, true, true)), "without spaces at the ends"),
    ("btrim(text,text)->text", Native(|a, t| trim(a, t, true, true)), "without these characters at the ends"),
    ("trim(text)->text", Native(|a, t| trim(a, t, true, true)), "without spaces at the ends"),
    ("trim(text,text)->text", Native(|a, t| trim(a, t, true, true)), "without these characters at the ends"),
    ("ltrim(text)->text", Native(|a, t| trim(a, t, true, false)), "without spaces at the beginning"),
    (
        "ltrim(text,text)->text",
        Native(|a, t| trim(a, t, true, false)),
        "without these characters at the beginning",
    ),
    ("rtrim(text)->text", Native(|a, t| trim(a, t, false, true)), "without spaces at the end"),
    ("rtrim(text,text)->text", Native(|a, t| trim(a, t, false, true)), "without these characters at the end"),
    (
        "btrim(bytea,bytea)->bytea",
        Native(|a, t| trim_bytes(a, t, true, true)),
        "without these bytes at the ends",
    ),
    (
        "ltrim(bytea,bytea)->bytea",
        Native(|a, t| trim_bytes(a, t, true, false)),
        "without these bytes at the beginning",
    ),
    (
        "rtrim(bytea,bytea)->bytea",
        Native(|a, t| trim_bytes(a, t, false, true)),
        "without these bytes at the end",
    ),
    ("replace(text,text,text)->text", Native(replace), "with one text replaced by another"),
    (
        "split_part(text,text,int4)->text",
        Native(strings::split_part),
        "the n-th part, from the end if negative",
    ),
    ("starts_with(text,text)->bool", Native(starts_with), "whether it begins with the other"),
    ("^@(text,text)->bool", Native(starts_with), "begins with"),
    ("ascii(text)->int4", Native(ascii), "code of the first character"),
    ("chr(int4)->text", Native(chr), "character of a code"),
    ("octet_length(text)->int4", Df(datafusion::functions::string::octet_length), "bytes"),
    ("octet_length(bytea)->int4", Native(strings::byte_length), "bytes"),
    ("bit_length(text)->int4", Df(datafusion::functions::string::bit_length), "bits"),
    (
        "bit_length(bytea)->int4",
        Native(
            |a, t| rows!(a, t, out = Int32Builder::new(), (v: Bytes) out.append_value(v.len() as i32 * 8)),
        ),
        "bits",
    ),
    ("to_hex(int4)->text", Native(hex), "hexadecimal digits"),
    ("to_hex(int8)->text", Native(hex), "hexadecimal digits"),
    ("levenshtein(text,text)->int4", Df(datafusion::functions::string::levenshtein), "edit distance"),
    ("repeat(text,int4)->text", Native(strings::repeat), "so many times"),
    ("lpad(text,int4)->text", Native(strings::lpad), "filled with spaces on the left"),
    ("lpad(text,int4,text)->text", Native(strings::lpad), "filled on the left"),
    ("rpad(text,int4)->text", Native(strings::rpad), "filled with spaces on the right"),
    ("rpad(text,int4,text)->text", Native(strings::rpad), "filled on the right"),
    ("length(text)->int4", Df(unicode::character_length), "characters"),
    ("length(bpchar)->int4", Native(bpchar_length), "characters without blanks at the end"),
    ("length(bytea)->int4", Native(strings::byte_length), "bytes"),
    ("char_length(bpchar)->int4", Native(bpchar_length), "characters without blanks at the end"),
    ("char_length(text)->int4", Df(unicode::character_length), "characters"),
    ("character_length(text)->int4", Df(unicode::character_length), "characters"),
    ("left(text,int4)->text", Native(left), "the first characters, or all but the last"),
    ("right(text,int4)->text", Native(right), "the last characters, or all but the first"),
    ("reverse(text)->text", Native(reverse), "backwards"),
    ("strpos(text,text)->int4", Native(strpos), "place of a part"),
    ("position(text,text)->int4", Native(strpos), "place of a part"),
    ("position(bytea,bytea)->int4", Native(strpos_bytes), "place of a part"),
    ("strpos(bytea,bytea)->int4", Native(strpos_bytes), "place of a part"),
    ("substr(text,int4)->text", Native(substring_from), "from a character on"),
    ("substr(text,int4,int4)->text", Native(substring), "so many characters from one on"),
    ("substring(text,int4)->text", Native(substring_from), "from a character on"),
    ("substring(text,int4,int4)->text", Native(substring), "so many characters from one on"),
    ("substr(bytea,int4)->bytea", Native(substring_bytes_from), "from a byte on"),
    ("substr(bytea,int4,int4)->bytea", Native(substring_bytes), "so many bytes from one on"),
    ("substring(bytea,int4)->bytea", Native(substring_bytes_from), "from a byte on"),
    ("substring(bytea,int4,int4)->bytea", Native(substring_bytes), "so many bytes from one on"),
    ("translate(text,text,text)->text", Df(unicode::translate), "with characters replaced by others"),
    ("overlay(text,text,int4)->text", Native(overlay_whole), "with a part replaced"),
    ("overlay(text,text,int4,int4)->text", Native(overlay), "with so many characters replaced"),
    ("md5(text)->text", Df(crypto::md5), "MD5 in hexadecimal"),
    ("md5(bytea)->text", Df(crypto::md5), "MD5 in hexadecimal"),
    ("sha224(bytea)->bytea", Df(crypto::sha224), "SHA-224"),
    ("sha256(bytea)->bytea", Df(crypto::sha256), "SHA-256"),
    ("sha384(bytea)->bytea", Df(crypto::sha384), "SHA-384"),
    ("sha512(bytea)->bytea", Df(crypto::sha512), "SHA-512"),
    ("encode(bytea,text)->text", Native(encode), "as base64, hex or escape"),
    ("decode(text,text)->bytea", Native(decode), "of base64, hex or escape"),
    ("convert_from(bytea,text)->text", Native(convert_from), "text of bytes in an encoding"),
    ("convert_to(text,text)->bytea", Native(convert_to), "bytes of a text in an encoding"),
    ("quote_ident(text)->text", Native(quote_ident), "as an identifier"),
    ("quote_literal(any)->text", Zoned(|a, t| quote_any(a, t, false)), "as a string constant"),
    ("quote_nullable(any)->text", Zoned(|a, t| quote_any(a, t, true)), "as a string constant, or NULL"),
    ("concat(any...)->text", Zoned(concat), "texts of the arguments, NULLs left out"),
    ("concat_ws(text,any...)->text", Zoned(concat_ws), "the same with a separator"),
    ("format(text)->text", Zoned(format), "the template"),
    ("format(text,any...)->text", Zoned(format), "%s, %I and %L of a template filled in"),
    ("get_byte(bytea,int4)->int4", Native(get_byte), "a byte"),
    ("set_byte(bytea,int4,int4)->bytea", Native(set_byte), "with a byte set"),
    ("get_bit(bytea,int8)->int4", Native(get_bit), "a bit"),
    ("set_bit(bytea,int8,int4)->bytea", Native(set_bit), "with a bit set"),
    ("bit_count(bytea)->int8", Native(bit_count), "bits that are set"),
    ("||(bytea,bytea)->bytea", Native(concat_bytes), "concatenates"),
    ("num_nulls(any...)->int4", Native(|a, t| null_count(a, t, true)), "number of arguments that are NULL"),
    (
        "num_nonnulls(any...)->int4",
        Native(|a, t| null_count(a, t, false)),
        "number of arguments that are not NULL",
    ),
    ("parse_ident(text)->_text", Native(parse_ident), "parts of a qualified name"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_are_sorted() {
        assert!(RESERVED.is_sorted());
    }

    #[test]
    fn base64_round_trips() {
        let mut out = Vec::new();
        decode_base64("aGVsbG8gd29ybGQ=", &mut out).unwrap();
        assert_eq!(out, b"hello world");
        assert!(decode_base64("abc", &mut Vec::new()).is_err());
    }
}
