//! Errors as data: the relations that failed rows go to, and the rows themselves.
//!
//! An error row is a function of the input row and the error alone, so the retraction of the input gives the same
//! error row with the opposite weight.
//!
//! Boundary: makes batches; who shows them under which name is not known here.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder, UInt32Array};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};
use crate::types::{PgType, oid};
use crate::zset::ZBatch;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        PgType::TEXT.field("error_code", false),
        PgType::TEXT.field("error", false),
        PgType::TEXT.field("operator", false),
        PgType::JSONB.field("input", true),
    ]))
});

static SOURCE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        PgType::TIMESTAMPTZ.field("error_time", false),
        PgType::TEXT.field("error_code", false),
        PgType::TEXT.field("error", false),
        PgType::TEXT.field("stage", false),
        PgType::TEXT.field("partition", true),
        PgType::INT8.field("offset", true),
        PgType::BYTEA.field("key", true),
        PgType::BYTEA.field("value", true),
    ]))
});

/// Columns of the error relation of a view: code, message, operator, and the input row as JSON.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Columns of the error relation of a source: what could not be decoded, and where it came from.
pub fn source_schema() -> SchemaRef {
    Arc::clone(&SOURCE_SCHEMA)
}

/// The error rows of `errors` (row of `rows`, what happened), with the weights of the rows.
pub fn error_batch(rows: &ZBatch, errors: &[(u32, Error)], operator: &str) -> Result<ZBatch> {
    if errors.is_empty() {
        return Ok(ZBatch::empty(schema()));
    }
    let failed = rows.take(&UInt32Array::from_iter_values(errors.iter().map(|(row, _)| *row)))?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(errors.iter().map(|(_, e)| e.kind().sqlstate()))),
        Arc::new(StringArray::from_iter_values(errors.iter().map(|(_, e)| e.message()))),
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(operator, errors.len()))),
        Arc::new(rows_to_json(failed.rows())?),
    ];
    failed.with_rows(RecordBatch::try_new(schema(), columns)?)
}

/// Each row as a JSON object in the form of PostgreSQL's jsonb: keys by length, then by bytes.
fn rows_to_json(rows: &RecordBatch) -> Result<StringArray> {
    let schema = rows.schema();
    let mut order: Vec<usize> = (0..rows.num_columns()).collect();
    order.sort_by_key(|&i| (schema.field(i).name().len(), schema.field(i).name()));
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for row in 0..rows.num_rows() {
        text.clear();
        text.push('{');
        for (n, &i) in order.iter().enumerate() {
            if n > 0 {
                text.push_str(", ");
            }
            push_string(&mut text, schema.field(i).name());
            text.push_str(": ");
            push_value(&mut text, schema.field(i), rows.column(i), row)?;
        }
        text.push('}');
        out.append_value(&text);
    }
    Ok(out.finish())
}

fn push_value(out: &mut String, field: &Field, array: &ArrayRef, row: usize) -> Result<()> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Float32 => {
            push_float(out, f64::from(array.as_primitive::<Float32Type>().value(row)), array, row)?
        }
        DataType::Float64 => push_float(out, array.as_primitive::<Float64Type>().value(row), array, row)?,
        DataType::List(item) => {
            let values = array.as_list::<i32>().value(row);
            out.push('[');
            for i in 0..values.len() {
                if i > 0 {
                    out.push_str(", ");
                }
                push_value(out, item, &values, i)?;
            }
            out.push(']');
        }
        DataType::Utf8 if matches!(PgType::of_field(field).oid, oid::JSON | oid::JSONB) => {
            out.push_str(array.as_string::<i32>().value(row));
        }
        DataType::Utf8 => push_string(out, array.as_string::<i32>().value(row)),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            push_string(out, &format!("\\x{}", display(array, row)?));
        }
        t if t.is_integer() || t.is_decimal() || *t == DataType::Boolean => {
            out.push_str(&display(array, row)?)
        }
        _ => push_string(out, &display(array, row)?),
    }
    Ok(())
}

/// JSON has no infinities and no NaN: they are written as text.
fn push_float(out: &mut String, value: f64, array: &ArrayRef, row: usize) -> Result<()> {
    if value.is_finite() {
        out.push_str(&display(array, row)?);
    } else if value.is_nan() {
        out.push_str("\"NaN\"");
    } else {
        out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    }
    Ok(())
}

fn display(array: &ArrayRef, row: usize) -> Result<String> {
    let options = FormatOptions::new().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.f%:z"));
    Ok(ArrayFormatter::try_new(array, &options)?.value(row).to_string())
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::error::ErrorKind;
    use crate::zset::pretty;

    #[test]
    fn a_failed_row_becomes_an_error_row_with_its_weight_and_input() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("b", DataType::Int64, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]));
        let rows = pretty::parse(&schema, "+1 x 1 2020-01-02T03:04:05 | -2 \"say \\ it\" NULL NULL");
        let errors = [(1, Error::new(ErrorKind::DivisionByZero, "division by zero"))];
        let z = error_batch(&rows, &errors, "map").unwrap();
        assert_eq!(z.schema(), super::schema());
        assert_eq!(z.weight(0), -2);
        assert_eq!(z.column(0).as_string::<i32>().value(0), "22012");
        assert_eq!(
            z.column(3).as_string::<i32>().value(0),
            r#"{"b": null, "at": null, "name": "say \\ it"}"#
        );
        let first = error_batch(&rows, &[(0, Error::internal("x"))], "map").unwrap();
        assert_eq!(
            first.column(3).as_string::<i32>().value(0),
            r#"{"b": 1, "at": "2020-01-02T03:04:05", "name": "x"}"#
        );
    }

    #[test]
    fn infinities_lists_and_documents_are_valid_json() {
        let doc = PgType::JSONB.field("d", true);
        let list: ArrayRef =
            Arc::new(arrow::array::ListArray::from_iter_primitive::<Float64Type, _, _>(vec![Some(vec![
                Some(1.5),
                None,
                Some(f64::INFINITY),
            ])]));
        let schema = Arc::new(Schema::new(vec![doc, Field::new("l", list.data_type().clone(), true)]));
        let d: ArrayRef = Arc::new(StringArray::from(vec![r#"{"a": 1}"#]));
        let rows = RecordBatch::try_new(schema, vec![d, list]).unwrap();
        assert_eq!(rows_to_json(&rows).unwrap().value(0), r#"{"d": {"a": 1}, "l": [1.5, null, "Infinity"]}"#);
    }
}
