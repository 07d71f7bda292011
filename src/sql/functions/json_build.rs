//! JSON made of SQL values: to_jsonb, jsonb_build_object and their relatives.
//!
//! Boundary: columns of any type to JSON text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::json_text::{ObjectBuilder, write_string};
use super::kernel::{Columns, pg_type_of};
use super::registry::Build::Zoned;
use super::registry::Spec;
use super::{DfResult, df_error};
use crate::error::{Error, ErrorKind, Result};
use crate::types::text::{TextFormatter, TextOptions, normalize_jsonb};
use crate::types::{PgType, oid};

/// Writes the values of one column as JSON.
struct Writer {
    pg: PgType,
    text: TextFormatter,
    element: Option<Box<Writer>>,
    /// `jsonb`: blanks after commas, normal form.
    binary: bool,
    scratch: std::cell::RefCell<Vec<u8>>,
}

impl Writer {
    fn new(field: &Field, options: &TextOptions, binary: bool) -> Writer {
        let pg = PgType::of_field(field);
        let element = match field.data_type() {
            DataType::List(inner) => {
                let inner = match pg.element() {
                    Some(e) if e.arrow() == *inner.data_type() => e.field("item", true),
                    _ => inner.as_ref().clone(),
                };
                Some(Box::new(Writer::new(&inner, options, binary)))
            }
            _ => None,
        };
        Writer { pg, text: TextFormatter::new(field, options), element, binary, scratch: Default::default() }
    }

    fn write(&self, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
        if array.data_type().is_null() || array.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        if let Some(element) = &self.element {
            let values = array.as_list::<i32>().value(row);
            out.push('[');
            for i in 0..values.len() {
                if i > 0 {
                    out.push_str(if self.binary { ", " } else { "," });
                }
                element.write(&values, i, out)?;
            }
            out.push(']');
            return Ok(());
        }
        match self.pg.oid {
            oid::BOOL => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
            oid::JSON if self.binary => out.push_str(&normalize_jsonb(array.as_string::<i32>().value(row))?),
            oid::JSON | oid::JSONB => out.push_str(array.as_string::<i32>().value(row)),
            oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME => match array.as_string_opt::<i32>() {
                Some(texts) => write_string(texts.value(row), out),
                None => self.with_text(array, row, |t| write_string(t, out)),
            },
            _ => self.other(array, row, out)?,
        }
        Ok(())
    }

    fn with_text(&self, array: &ArrayRef, row: usize, f: impl FnOnce(&str)) {
        let mut scratch = self.scratch.borrow_mut();
        scratch.clear();
        self.text.write(array.as_ref(), row, &mut scratch);
        f(&String::from_utf8_lossy(&scratch));
    }

    fn other(&self, array: &ArrayRef, row: usize, out: &mut String) -> Result<()> {
        let mut result = Ok(());
        self.with_text(array, row, |text| match self.pg.oid {
            oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8 => {
                if text.ends_with(|c: char| c.is_ascii_digit()) {
                    if self.binary && text.contains('e') {
                        match normalize_jsonb(text) {
                            Ok(t) => out.push_str(&t),
                            Err(e) => result = Err(e),
                        }
                    } else {
                        out.push_str(text);
                    }
                } else {
                    write_string(text, out);
                }
            }
            oid::TIMESTAMP | oid::TIMESTAMPTZ if !text.ends_with('y') => {
                // ISO 8601: a T between date and time, minutes in the zone's offset.
                let mut iso = text.replacen(' ', "T", 1);
                if self.pg.oid == oid::TIMESTAMPTZ
                    && iso.as_bytes().get(iso.len().wrapping_sub(3)) != Some(&b':')
                {
                    iso.push_str(":00");
                }
                write_string(&iso, out);
            }
            _ => write_string(text, out),
        });
        result
    }
}

/// The arguments, of which the last is the time zone, and a writer for each.
fn prepared(args: &ScalarFunctionArgs, binary: bool) -> DfResult<(Columns, Vec<Writer>)> {
    let last = args.args.len() - 1;
    let zone = match &args.args[last] {
        ColumnarValue::Scalar(v) => v.try_as_str().flatten().unwrap_or("UTC").to_string(),
        ColumnarValue::Array(_) => "UTC".to_string(),
    };
    let options = TextOptions::default().with_time_zone(&zone).map_err(df_error)?;
    let columns = Columns::new(args)?;
    let writers = (0..last)
        .map(|i| {
            let field =
                args.arg_fields[i].as_ref().clone().with_data_type(columns.array(i).data_type().clone());
            Writer::new(&field, &options, binary)
        })
        .collect();
    Ok((columns, writers))
}

/// to_json and to_jsonb.
fn to_json(args: &ScalarFunctionArgs, result: &DataType, binary: bool) -> DfResult<ColumnarValue> {
    let (columns, writers) = prepared(args, binary)?;
    let mut out = StringBuilder::new();
    let mut buffer = String::new();
    for row in 0..columns.rows {
        if columns.array(0).data_type().is_null() || columns.is_null_at(0, row) {
            out.append_null();
            continue;
        }
        buffer.clear();
        writers[0].write(columns.array(0), columns.index(0, row), &mut buffer).map_err(df_error)?;
        out.append_value(&buffer);
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// json_build_array and jsonb_build_array.
fn build_array(args: &ScalarFunctionArgs, result: &DataType, binary: bool) -> DfResult<ColumnarValue> {
    let (columns, writers) = prepared(args, binary)?;
    let mut out = StringBuilder::new();
    let mut buffer = String::new();
    for row in 0..columns.rows {
        buffer.clear();
        buffer.push('[');
        for (i, writer) in writers.iter().enumerate() {
            if i > 0 {
                buffer.push_str(", ");
            }
            writer.write(columns.array(i), columns.index(i, row), &mut buffer).map_err(df_error)?;
        }
        buffer.push(']');
        out.append_value(&buffer);
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// json_build_object and jsonb_build_object.
fn build_object(args: &ScalarFunctionArgs, result: &DataType, binary: bool) -> DfResult<ColumnarValue> {
    let (columns, writers) = prepared(args, binary)?;
    if writers.len() % 2 != 0 {
        return Err(df_error(
            Error::new(ErrorKind::InvalidParameter, "argument list must have even number of elements")
                .with_hint(format!(
                    "The arguments of {}() must consist of alternating keys and values.",
                    if binary { "jsonb_build_object" } else { "json_build_object" }
                )),
        ));
    }
    let mut out = StringBuilder::new();
    let mut buffer = String::new();
    for row in 0..columns.rows {
        buffer.clear();
        let mut object = ObjectBuilder::default();
        if !binary {
            buffer.push('{');
        }
        for i in (0..writers.len()).step_by(2) {
            let key = key_text(args, &columns, &writers[i], i, row, binary).map_err(df_error)?;
            if binary {
                let mut value = String::new();
                writers[i + 1]
                    .write(columns.array(i + 1), columns.index(i + 1, row), &mut value)
                    .map_err(df_error)?;
                object.set(key, value);
            } else {
                if i > 0 {
                    buffer.push_str(", ");
                }
                write_string(&key, &mut buffer);
                buffer.push_str(" : ");
                writers[i + 1]
                    .write(columns.array(i + 1), columns.index(i + 1, row), &mut buffer)
                    .map_err(df_error)?;
            }
        }
        if binary {
            object.write(&mut buffer);
        } else {
            buffer.push('}');
        }
        out.append_value(&buffer);
    }
    columns.finish(Arc::new(out.finish()), result)
}

fn key_text(
    args: &ScalarFunctionArgs,
    columns: &Columns,
    writer: &Writer,
    i: usize,
    row: usize,
    binary: bool,
) -> Result<String> {
    let array = columns.array(i);
    if array.data_type().is_null() || columns.is_null_at(i, row) {
        return Err(if binary {
            Error::new(ErrorKind::InvalidParameter, format!("argument {}: key must not be null", i + 1))
        } else {
            Error::new(ErrorKind::InvalidParameter, format!("argument {} cannot be null", i + 1))
                .with_hint("Object keys should be text.")
        });
    }
    let pg = pg_type_of(args, i);
    if pg.element().is_some() || matches!(pg.oid, oid::JSON | oid::JSONB) {
        return Err(Error::new(
            ErrorKind::InvalidParameter,
            "key value must be scalar, not array, composite, or json",
        ));
    }
    if pg.oid == oid::BOOL {
        return Ok(array.as_boolean().value(columns.index(i, row)).to_string());
    }
    let mut key = String::new();
    writer.with_text(array, columns.index(i, row), |t| key.push_str(t));
    Ok(key)
}

/// The functions with their signatures.
pub const SPECS: &[Spec] = &[
    ("to_json(any)->json", Zoned(|a, t| to_json(a, t, false)), "the value as JSON"),
    ("to_jsonb(any)->jsonb", Zoned(|a, t| to_json(a, t, true)), "the value as JSON"),
    ("array_to_json(anyarray)->json", Zoned(|a, t| to_json(a, t, false)), "the array as JSON"),
    ("json_build_array()->json", Zoned(|a, t| build_array(a, t, false)), "an empty array"),
    ("json_build_array(any...)->json", Zoned(|a, t| build_array(a, t, false)), "array of the arguments"),
    ("jsonb_build_array()->jsonb", Zoned(|a, t| build_array(a, t, true)), "an empty array"),
    ("jsonb_build_array(any...)->jsonb", Zoned(|a, t| build_array(a, t, true)), "array of the arguments"),
    ("json_build_object()->json", Zoned(|a, t| build_object(a, t, false)), "an empty object"),
    (
        "json_build_object(any...)->json",
        Zoned(|a, t| build_object(a, t, false)),
        "object of keys and values in turn",
    ),
    ("jsonb_build_object()->jsonb", Zoned(|a, t| build_object(a, t, true)), "an empty object"),
    (
        "jsonb_build_object(any...)->jsonb",
        Zoned(|a, t| build_object(a, t, true)),
        "object of keys and values in turn",
    ),
];
