//! Result rows as messages: RowDescription, and DataRow written column encoder by column encoder straight from
//! Arrow arrays.
//!
//! Boundary: batches in, bytes out; streaming and limits are the callers'.

use arrow::array::Array;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;

use super::codec::Message;
use crate::coord::backend::OutputColumn;
use crate::error::{Error, ErrorKind, Result};
use crate::types::binary::{BinaryColumn, BinaryFormatter};
use crate::types::text::{TextColumn, TextFormatter, TextOptions};

/// Text or binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Format code 0.
    Text,
    /// Format code 1.
    Binary,
}

impl Format {
    /// The format of a code.
    pub fn of_code(code: i16) -> Result<Format> {
        match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            _ => Err(Error::new(ErrorKind::InvalidParameter, format!("unsupported format code: {code}"))),
        }
    }
}

/// The format of column `i` when the client gave these: none means text, one means all alike.
pub fn format_of(formats: &[Format], i: usize) -> Format {
    match formats {
        [] => Format::Text,
        [one] => *one,
        many => many.get(i).copied().unwrap_or(Format::Text),
    }
}

/// Writes RowDescription.
pub fn write_row_description(columns: &[OutputColumn], formats: &[Format], out: &mut Vec<u8>) {
    let mut message = Message::new(b'T', out);
    message.i16(columns.len() as i16);
    for (i, c) in columns.iter().enumerate() {
        message.cstr(&c.name);
        message.i32(c.table_oid as i32);
        message.i16(c.attnum);
        message.i32(c.pg_type.oid as i32);
        message.i16(c.pg_type.typlen());
        message.i32(c.pg_type.typmod);
        message.i16(format_of(formats, i) as i16);
    }
    message.end();
}

/// Encodes one column.
enum ColumnEncoder {
    Text(TextFormatter),
    Binary(BinaryFormatter),
}

/// The encoders of a result, one per column, chosen at its first batch.
pub struct RowEncoder {
    encoders: Vec<ColumnEncoder>,
    types: Vec<DataType>,
}

enum Bound<'a> {
    Text(TextColumn<'a>),
    Binary(BinaryColumn<'a>),
}

/// A batch with the encoders of its columns.
pub struct BoundRows<'a> {
    columns: Vec<(Option<NullBuffer>, Bound<'a>)>,
}

impl RowEncoder {
    /// The encoders for batches like this one.
    pub fn new(
        columns: &[OutputColumn],
        formats: &[Format],
        batch: &RecordBatch,
        options: &TextOptions,
    ) -> Result<RowEncoder> {
        let schema = batch.schema_ref();
        if schema.fields().len() != columns.len() {
            return Err(Error::internal(format!(
                "a result of {} columns came with {}",
                columns.len(),
                schema.fields().len()
            )));
        }
        let encoder = |(i, (column, field)): (usize, (&OutputColumn, &std::sync::Arc<Field>))| match format_of(
            formats, i,
        ) {
            Format::Text => ColumnEncoder::Text(TextFormatter::for_type(column.pg_type, field, options)),
            Format::Binary => ColumnEncoder::Binary(BinaryFormatter::new(column.pg_type, field)),
        };
        Ok(RowEncoder {
            encoders: columns.iter().zip(schema.fields()).enumerate().map(encoder).collect(),
            types: schema.fields().iter().map(|f| f.data_type().clone()).collect(),
        })
    }

    /// Whether these encoders fit a batch too.
    pub fn fits(&self, batch: &RecordBatch) -> bool {
        let fields = batch.schema_ref().fields();
        fields.len() == self.types.len() && fields.iter().zip(&self.types).all(|(f, t)| f.data_type() == t)
    }

    /// The encoders over a batch.
    pub fn bind<'a>(&'a self, batch: &'a RecordBatch) -> BoundRows<'a> {
        let columns = self
            .encoders
            .iter()
            .zip(batch.columns())
            .map(|(encoder, array)| {
                let array: &dyn Array = array.as_ref();
                let bound = match encoder {
                    ColumnEncoder::Text(f) => Bound::Text(f.bind(array)),
                    ColumnEncoder::Binary(f) => Bound::Binary(f.bind(array)),
                };
                (array.logical_nulls().filter(|n| n.null_count() > 0), bound)
            })
            .collect();
        BoundRows { columns }
    }

    /// Writes DataRow messages of a batch from `row` on: at most `limit`, and not many beyond `full` bytes in the
    /// buffer. Returns the next row.
    pub fn write_rows(
        &self,
        batch: &RecordBatch,
        row: usize,
        limit: usize,
        full: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        let rows = self.bind(batch);
        let end = batch.num_rows().min(row.saturating_add(limit));
        let mut next = row;
        while next < end {
            let start = out.len() + 1;
            out.extend_from_slice(&[b'D', 0, 0, 0, 0]);
            rows.write(next, out);
            let len = (out.len() - start) as i32;
            out[start..start + 4].copy_from_slice(&len.to_be_bytes());
            next += 1;
            if out.len() >= full {
                break;
            }
        }
        next
    }
}

impl BoundRows<'_> {
    /// Writes a row as DataRow and binary COPY have it: the number of columns, then each value after its length.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.columns.len() as i16).to_be_bytes());
        for (nulls, column) in &self.columns {
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            }
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            match column {
                Bound::Text(c) => c.write(row, out),
                Bound::Binary(c) => c.write(row, out),
            }
            let len = (out.len() - start - 4) as i32;
            out[start..start + 4].copy_from_slice(&len.to_be_bytes());
        }
    }

    /// Writes a value without its length; false (and nothing) for NULL.
    pub fn write_value(&self, column: usize, row: usize, out: &mut Vec<u8>) -> bool {
        let (nulls, bound) = &self.columns[column];
        if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            return false;
        }
        match bound {
            Bound::Text(c) => c.write(row, out),
            Bound::Binary(c) => c.write(row, out),
        }
        true
    }
}
