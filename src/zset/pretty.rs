//! A text notation of changes for tests: `+1 a 1 | -2 b NULL`.
//!
//! Rows are separated by `|` or line ends; the first word of a row is its weight, the others are its columns.
//! A value with blanks, or the text `NULL` itself, is put in double quotes.
//!
//! Boundary: for tests and debugging; users see PostgreSQL's text forms from [`crate::types`].

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};
use crate::zset::ZBatch;
use crate::zset::builder::{compact_weights, rows_without_columns};

/// Reads a change. The notation is written by programmers, so mistakes in it end the program.
///
/// # Panics
/// When the text is not in the notation or does not fit the schema.
pub fn parse(schema: &SchemaRef, text: &str) -> ZBatch {
    match try_parse(schema, text) {
        Ok(batch) => batch,
        Err(e) => panic!("cannot read change {text:?}: {e:?}"),
    }
}

fn try_parse(schema: &SchemaRef, text: &str) -> Result<ZBatch> {
    let mut weights: Vec<i64> = vec![];
    let mut columns: Vec<Vec<Option<String>>> = vec![vec![]; schema.fields().len()];
    for line in text.split(['|', '\n']).map(str::trim).filter(|l| !l.is_empty()) {
        let mut words = words(line).into_iter();
        let weight = words.next().flatten().and_then(|w| w.parse().ok());
        weights.push(weight.ok_or_else(|| Error::internal(format!("no weight in {line:?}")))?);
        for column in &mut columns {
            column.push(words.next().ok_or_else(|| Error::internal(format!("too few columns in {line:?}")))?);
        }
        if words.next().is_some() {
            return Err(Error::internal(format!("too many columns in {line:?}")));
        }
    }
    let options = CastOptions { safe: false, ..Default::default() };
    let arrays = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(values, field)| {
            Ok(cast_with_options(&StringArray::from(values), field.data_type(), &options)?)
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let rows = if arrays.is_empty() {
        rows_without_columns(schema, weights.len())?
    } else {
        RecordBatch::try_new(Arc::clone(schema), arrays)?
    };
    ZBatch::try_new(rows, compact_weights(weights))
}

/// Splits a row into words; `None` is NULL.
fn words(line: &str) -> Vec<Option<String>> {
    let mut out = vec![];
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push(Some(quoted[..end].to_string()));
            rest = quoted.get(end + 1..).unwrap_or_default();
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let word = &rest[..end];
            out.push((word != "NULL").then(|| word.to_string()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    out
}

/// Writes a change, its entries sorted as text. Nothing is summed: consolidate first where that matters.
pub fn format(batch: &ZBatch) -> String {
    let options = FormatOptions::new().with_null("NULL");
    let formatters: Vec<ArrayFormatter> =
        batch.columns().iter().filter_map(|c| ArrayFormatter::try_new(c, &options).ok()).collect();
    let weights: Option<&Int64Array> = batch.weights();
    let mut lines: Vec<String> = (0..batch.num_rows())
        .map(|row| {
            let mut line = format!("{:+}", weights.map_or(1, |w| w.value(row)));
            for (formatter, column) in formatters.iter().zip(batch.columns()) {
                let value = formatter.value(row).to_string();
                let plain = column.is_null(row)
                    || !(value.is_empty() || value == "NULL" || value.contains([' ', '|', '\t']));
                line.push(' ');
                if plain {
                    line.push_str(&value);
                } else {
                    line.push_str(&format!("\"{value}\""));
                }
            }
            line
        })
        .collect();
    lines.sort_unstable();
    lines.join(" | ")
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Int64, true),
        ]));
        let text = "+1 \"NULL\" NULL | +1 NULL 5 | -2 \"two words\" -3";
        let batch = parse(&schema, text);
        assert_eq!(format(&batch), text);
        assert_eq!(batch.weight(2), -2);
        assert_eq!(format(&parse(&schema, "+1 b 2\n+1 a 1")), "+1 a 1 | +1 b 2");
        assert!(parse(&schema, "").is_empty());
    }
}
