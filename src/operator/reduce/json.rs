//! Values as JSON, and JSON arrays and objects of them, as PostgreSQL's json and jsonb aggregates write them.
//!
//! Times with a time zone are written in UTC: a view has no session whose zone it could use.
//!
//! Boundary: columns in, text out.

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field};

use crate::error::Result;
use crate::types::text::{TextFormatter, TextOptions, normalize_jsonb};
use crate::types::{PgType, oid};

/// A column, each value as JSON and as plain text.
pub struct JsonColumn {
    json: StringArray,
    plain: StringArray,
}

impl JsonColumn {
    /// The JSON of a column whose type `field` says; `binary`: in the normal form of jsonb.
    pub fn new(column: &ArrayRef, field: &Field, binary: bool) -> Result<JsonColumn> {
        let pg = PgType::of_field(field);
        let formatter = TextFormatter::new(field, &TextOptions::default());
        let bound = formatter.bind(column.as_ref());
        let elements = match column.data_type() {
            DataType::List(item) => {
                // A list of a type that Arrow cannot tell: the array's type knows its elements'.
                let mut element = item.as_ref().clone();
                if let Some(e) = pg.element().filter(|_| PgType::of_field(item) != PgType::of(pg.oid)) {
                    let mut metadata = element.metadata().clone();
                    metadata.extend(e.metadata());
                    element = element.with_metadata(metadata);
                }
                Some(JsonColumn::new(column.as_list::<i32>().values(), &element, binary)?)
            }
            _ => None,
        };
        let (mut json, mut plain) = (StringBuilder::new(), StringBuilder::new());
        let (mut bytes, mut text) = (Vec::new(), String::new());
        for row in 0..column.len() {
            if column.is_null(row) {
                json.append_value("null");
                plain.append_null();
                continue;
            }
            bytes.clear();
            bound.write(row, &mut bytes);
            let value = String::from_utf8_lossy(&bytes);
            text.clear();
            match &elements {
                Some(elements) => {
                    let offsets = column.as_list::<i32>().offsets();
                    write_list(elements, offsets[row] as usize..offsets[row + 1] as usize, binary, &mut text);
                }
                None => write_value(pg, &value, binary, &mut text)?,
            }
            json.append_value(&text);
            plain.append_value(&value);
        }
        Ok(JsonColumn { json: json.finish(), plain: plain.finish() })
    }

    fn key(&self, row: usize, out: &mut String) {
        write_string(self.plain.value(row), out);
    }
}

/// An array inside an array: without blanks in json, with them in jsonb.
fn write_list(elements: &JsonColumn, range: std::ops::Range<usize>, binary: bool, out: &mut String) {
    out.push('[');
    for (i, at) in range.enumerate() {
        if i > 0 {
            out.push_str(if binary { ", " } else { "," });
        }
        out.push_str(elements.json.value(at));
    }
    out.push(']');
}

fn write_value(pg: PgType, text: &str, binary: bool, out: &mut String) -> Result<()> {
    match pg.oid {
        oid::BOOL => out.push_str(if text.starts_with('t') { "true" } else { "false" }),
        oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8
            if text.ends_with(|c: char| c.is_ascii_digit()) =>
        {
            if binary && text.contains('e') {
                out.push_str(&normalize_jsonb(text)?);
            } else {
                out.push_str(text);
            }
        }
        oid::JSON if binary => out.push_str(&normalize_jsonb(text)?),
        oid::JSON | oid::JSONB => out.push_str(text),
        oid::TIMESTAMP => write_string(&text.replacen(' ', "T", 1), out),
        oid::TIMESTAMPTZ => {
            let mut iso = text.replacen(' ', "T", 1);
            // ISO 8601 wants minutes in the offset.
            if iso.len() > 3 && iso.as_bytes()[iso.len() - 3] == b'+' {
                iso.push_str(":00");
            }
            write_string(&iso, out);
        }
        _ => write_string(text, out),
    }
    Ok(())
}

/// A JSON string with PostgreSQL's escapes.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `[a, b, …]`.
pub fn write_array(values: &JsonColumn, picks: &[u32], out: &mut String) -> Result<()> {
    out.push('[');
    for (i, pick) in picks.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(values.json.value(*pick as usize));
    }
    out.push(']');
    Ok(())
}

/// `{ "a" : 1, "b" : 2 }`: every pair, as json keeps them.
pub fn write_json_object(
    keys: &JsonColumn,
    values: &JsonColumn,
    picks: &[u32],
    out: &mut String,
) -> Result<()> {
    out.push_str("{ ");
    for (i, pick) in picks.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        keys.key(*pick as usize, out);
        out.push_str(" : ");
        out.push_str(values.json.value(*pick as usize));
    }
    out.push_str(" }");
    Ok(())
}

/// `{"a": 1, "b": 2}`: keys by length and bytes, of equal ones the last.
pub fn write_jsonb_object(
    keys: &JsonColumn,
    values: &JsonColumn,
    picks: &[u32],
    out: &mut String,
) -> Result<()> {
    let plain = |pick: u32| keys.plain.value(pick as usize);
    let mut order: Vec<u32> = picks.to_vec();
    order.sort_by(|a, b| {
        let (a, b) = (plain(*a), plain(*b));
        a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
    });
    out.push('{');
    let mut first = true;
    for (i, pick) in order.iter().enumerate() {
        if order.get(i + 1).is_some_and(|next| plain(*next) == plain(*pick)) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push_str(", ");
        }
        keys.key(*pick as usize, out);
        out.push_str(": ");
        out.push_str(values.json.value(*pick as usize));
    }
    out.push('}');
    Ok(())
}
