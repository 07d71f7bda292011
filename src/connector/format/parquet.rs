//! Parquet: files of typed columns, found by name and cast to the declared types.
//!
//! Boundary: batches to batches; opening files and counting rows is the source's business.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, can_cast_types, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{Decoded, assemble, null_violation};
use crate::error::{Error, ErrorKind, Result};
use crate::types::text::{TextOptions, parse_column_with_errors};
use crate::types::{PgType, oid};

/// The positions in a file's schema of the declared columns.
pub fn columns_in(file: &Schema, declared: &SchemaRef) -> Result<Vec<usize>> {
    declared
        .fields()
        .iter()
        .map(|f| {
            let fields = file.fields();
            let found = fields
                .iter()
                .position(|c| c.name() == f.name())
                .or_else(|| fields.iter().position(|c| c.name().eq_ignore_ascii_case(f.name())))
                .ok_or_else(|| {
                    Error::new(ErrorKind::UndefinedColumn, format!("the file has no column \"{}\"", f.name()))
                })?;
            check_types(fields[found].as_ref(), f)?;
            Ok(found)
        })
        .collect()
}

fn check_types(from: &Field, to: &Field) -> Result<()> {
    if is_text(from.data_type()) || can_cast_types(from.data_type(), to.data_type()) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::DatatypeMismatch,
        format!(
            "column \"{}\" is of type {} in the file but is declared as {}",
            to.name(),
            PgType::of_field(from).sql_name(),
            PgType::of_field(to).sql_name()
        ),
    ))
}

fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        || matches!(t, DataType::Dictionary(_, v) if is_text(v))
}

/// Shapes a batch of the file into the declared columns; `columns` are their arrays in order. Rows with a value
/// that cannot be converted are reported.
pub fn shape(declared: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<Decoded> {
    let mut failed: Vec<Option<Error>> = Vec::new();
    let mut fail = |row: usize, e: Error| {
        failed.resize_with(rows, || None);
        failed[row].get_or_insert(e);
    };
    let mut arrays = Vec::with_capacity(columns.len());
    for (column, field) in columns.into_iter().zip(declared.fields()) {
        let array = convert(&column, field, &mut fail)?;
        if !field.is_nullable() {
            for row in (0..rows).filter(|row| array.is_null(*row)) {
                fail(row, null_violation(field.name()));
            }
        }
        arrays.push(array);
    }
    let keep: Option<BooleanArray> =
        (!failed.is_empty()).then(|| failed.iter().map(|e| Some(e.is_none())).collect());
    let rows = assemble(declared, arrays, rows, keep.as_ref())?;
    let errors = failed.into_iter().enumerate().filter_map(|(i, e)| Some((i, e?))).collect();
    Ok(Decoded { rows, errors })
}

fn convert(column: &ArrayRef, field: &Field, fail: &mut dyn FnMut(usize, Error)) -> Result<ArrayRef> {
    let pg = PgType::of_field(field);
    if is_text(column.data_type()) && pg.oid != oid::TEXT {
        let text = cast(column, &DataType::Utf8)?;
        let values = text.as_string::<i32>().iter();
        let (array, errors) = parse_column_with_errors(pg, values, &TextOptions::default())?;
        for (row, e) in errors {
            fail(row, e.with_column(field.name()));
        }
        return Ok(array);
    }
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    // A safe cast leaves NULL where a value does not fit: those rows are the bad ones.
    let array =
        cast_with_options(column, field.data_type(), &CastOptions { safe: true, ..CastOptions::default() })?;
    if array.null_count() > column.null_count() {
        for row in (0..column.len()).filter(|row| array.is_null(*row) && !column.is_null(*row)) {
            fail(
                row,
                Error::new(
                    ErrorKind::NumericOutOfRange,
                    format!(
                        "value of column \"{}\" is out of range for type {}",
                        field.name(),
                        pg.sql_name()
                    ),
                )
                .with_column(field.name()),
            );
        }
    }
    Ok(array)
}

/// A row as JSON, for the dead letter it becomes.
pub fn row_as_json(names: &SchemaRef, columns: &[ArrayRef], row: usize) -> Vec<u8> {
    let fields: Vec<Field> = names
        .fields()
        .iter()
        .zip(columns)
        .map(|(f, c)| Field::new(f.name(), c.data_type().clone(), true))
        .collect();
    let slices = columns.iter().map(|c| c.slice(row, 1)).collect();
    let mut out = Vec::new();
    if let Ok(batch) = RecordBatch::try_new(Arc::new(Schema::new(fields)), slices) {
        let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
        // A type that JSON cannot show leaves the letter without its bytes; the offset still says which row it was.
        if writer.write(&batch).and_then(|()| writer.finish()).is_err() {
            out.clear();
        }
    }
    while out.last() == Some(&b'\n') {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::source::testing::lines;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn rows_that_do_not_fit_the_declared_types_are_reported() {
        let declared: SchemaRef =
            Arc::new(Schema::new(vec![PgType::INT2.field("a", false), PgType::DATE.field("d", true)]));
        let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(100_000), None, Some(4)]));
        let d: ArrayRef = Arc::new(StringArray::from(vec!["2013-01-01", "2013-01-02", "2013-01-03", "soon"]));
        let out = shape(&declared, vec![a.clone(), d.clone()], 4).expect("shaped");
        assert_eq!(lines(&out.rows), ["1 2013-01-01"]);
        assert_eq!(out.errors.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(row_as_json(&declared, &[a, d], 1), br#"{"a":100000,"d":"2013-01-02"}"#);
    }

    #[test]
    fn columns_are_found_by_name() {
        let file =
            Schema::new(vec![Field::new("X", DataType::Utf8, true), Field::new("a", DataType::Int64, true)]);
        let declared: SchemaRef =
            Arc::new(Schema::new(vec![PgType::INT4.field("a", true), PgType::TEXT.field("x", true)]));
        assert_eq!(columns_in(&file, &declared).expect("found"), [1, 0]);
        let declared: SchemaRef = Arc::new(Schema::new(vec![PgType::INT4.field("b", true)]));
        assert_eq!(
            columns_in(&file, &declared).expect_err("missing").message(),
            "the file has no column \"b\""
        );
    }
}
