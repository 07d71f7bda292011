//! COPY's data formats on the way out: text, CSV and binary from record batches.
//!
//! Boundary: batches to the bytes of CopyData messages (one per row); reading is the backend's [`CopySink`].
//!
//! [`CopySink`]: crate::coord::backend::CopySink

use arrow::record_batch::RecordBatch;

use super::codec::Message;
use super::rows::{BoundRows, Format, RowEncoder};
use crate::coord::backend::{CopyFormat, CopyOptions, OutputColumn};
use crate::error::Result;
use crate::types::text::TextOptions;

/// Writes the rows of a COPY TO STDOUT.
pub struct CopyEncoder {
    options: CopyOptions,
    encoder: Option<RowEncoder>,
    value: Vec<u8>,
    /// What must still be sent before the first binary row.
    signature: &'static [u8],
}

/// Signature, flags and empty extension of the binary format.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

impl CopyEncoder {
    /// An encoder with these options.
    pub fn new(options: CopyOptions) -> CopyEncoder {
        CopyEncoder { options, encoder: None, value: Vec::new(), signature: &[] }
    }

    /// The overall format code of CopyOutResponse.
    pub fn format_code(format: CopyFormat) -> i8 {
        (format == CopyFormat::Binary).into()
    }

    /// Writes what precedes the rows.
    pub fn write_header(&mut self, columns: &[OutputColumn], out: &mut Vec<u8>) {
        match self.options.format {
            // Sent with what comes first, as PostgreSQL does: clients take the first message apart accordingly.
            CopyFormat::Binary => self.signature = SIGNATURE,
            format if self.options.header => {
                let mut m = Message::new(b'd', out);
                for (i, c) in columns.iter().enumerate() {
                    if i > 0 {
                        m.u8(self.options.delimiter);
                    }
                    if format == CopyFormat::Csv {
                        write_csv(c.name.as_bytes(), &self.options, false, columns.len() == 1, m.body());
                    } else {
                        write_text(c.name.as_bytes(), self.options.delimiter, m.body());
                    }
                }
                m.u8(b'\n');
                m.end();
            }
            _ => {}
        }
    }

    /// Writes what follows the rows.
    pub fn write_trailer(&self, out: &mut Vec<u8>) {
        if self.options.format == CopyFormat::Binary {
            let mut m = Message::new(b'd', out);
            m.body().extend_from_slice(self.signature);
            m.i16(-1);
            m.end();
        }
    }

    /// Writes rows of a batch from `row` on, not many beyond `full` bytes in the buffer; returns the next row.
    pub fn write_rows(
        &mut self,
        columns: &[OutputColumn],
        batch: &RecordBatch,
        row: usize,
        full: usize,
        text: &TextOptions,
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let fitting = self.encoder.take().filter(|e| e.fits(batch));
        let encoder = match fitting {
            Some(e) => e,
            None => {
                let format =
                    if self.options.format == CopyFormat::Binary { Format::Binary } else { Format::Text };
                RowEncoder::new(columns, &[format], batch, text)?
            }
        };
        let rows = encoder.bind(batch);
        let mut next = row;
        while next < batch.num_rows() && (next == row || out.len() < full) {
            let mut m = Message::new(b'd', out);
            match self.options.format {
                CopyFormat::Binary => {
                    m.body().extend_from_slice(std::mem::take(&mut self.signature));
                    rows.write(next, m.body());
                }
                _ => self.write_line(&rows, columns.len(), next, m.body()),
            }
            m.end();
            next += 1;
        }
        drop(rows);
        self.encoder = Some(encoder);
        Ok(next)
    }

    fn write_line(&mut self, rows: &BoundRows<'_>, columns: usize, row: usize, out: &mut Vec<u8>) {
        for c in 0..columns {
            if c > 0 {
                out.push(self.options.delimiter);
            }
            self.value.clear();
            if !rows.write_value(c, row, &mut self.value) {
                out.extend_from_slice(self.options.null.as_bytes());
            } else if self.options.format == CopyFormat::Csv {
                let force = self.options.force_quote.contains(&c);
                write_csv(&self.value, &self.options, force, columns == 1, out);
            } else {
                write_text(&self.value, self.options.delimiter, out);
            }
        }
        out.push(b'\n');
    }
}

/// A value of the text format: control characters, the backslash and the delimiter are escaped.
fn write_text(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for &b in value {
        let escape = match b {
            8 => b'b',
            9 => b't',
            10 => b'n',
            11 => b'v',
            12 => b'f',
            13 => b'r',
            b'\\' => b'\\',
            b if b == delimiter => b,
            _ => {
                out.push(b);
                continue;
            }
        };
        out.push(b'\\');
        out.push(escape);
    }
}

/// A value of the CSV format: quoted where it could be taken for something else.
fn write_csv(value: &[u8], o: &CopyOptions, force: bool, alone: bool, out: &mut Vec<u8>) {
    let special = |b: &u8| *b == o.delimiter || *b == o.quote || matches!(*b, b'\n' | b'\r');
    let quote =
        force || value == o.null.as_bytes() || (alone && value == b"\\.") || value.iter().any(special);
    if !quote {
        out.extend_from_slice(value);
        return;
    }
    out.push(o.quote);
    for &b in value {
        if b == o.quote || b == o.escape {
            out.push(o.escape);
        }
        out.push(b);
    }
    out.push(o.quote);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringArray};

    use super::*;
    use crate::types::PgType;

    fn copy(options: CopyOptions) -> Vec<u8> {
        let a: ArrayRef = Arc::new(StringArray::from(vec![Some("x\ty\\"), None, Some(""), Some("q\"a,b\n")]));
        let b: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
        let batch = RecordBatch::try_from_iter([("a", a), ("b", b)]).unwrap();
        let columns =
            [OutputColumn::computed("a", PgType::TEXT), OutputColumn::computed("b,c", PgType::INT4)];
        let mut e = CopyEncoder::new(options);
        let mut out = Vec::new();
        e.write_header(&columns, &mut out);
        let end = e.write_rows(&columns, &batch, 0, usize::MAX, &TextOptions::default(), &mut out).unwrap();
        assert_eq!(end, 4);
        e.write_trailer(&mut out);
        let mut data = Vec::new();
        let mut at = 0;
        while at < out.len() {
            assert_eq!(out[at], b'd');
            let len = u32::from_be_bytes([out[at + 1], out[at + 2], out[at + 3], out[at + 4]]) as usize;
            data.extend_from_slice(&out[at + 5..at + 1 + len]);
            at += 1 + len;
        }
        data
    }

    #[test]
    fn text_escapes_tabs_newlines_and_backslashes() {
        let data = copy(CopyOptions::new(CopyFormat::Text));
        assert_eq!(String::from_utf8(data).unwrap(), "x\\ty\\\\\t1\n\\N\t2\n\t3\nq\"a,b\\n\t4\n");
    }

    #[test]
    fn csv_tells_null_from_the_empty_string() {
        let mut o = CopyOptions::new(CopyFormat::Csv);
        o.header = true;
        assert_eq!(
            String::from_utf8(copy(o)).unwrap(),
            "a,\"b,c\"\nx\ty\\,1\n,2\n\"\",3\n\"q\"\"a,b\n\",4\n"
        );
    }

    #[test]
    fn binary_has_signature_rows_and_trailer() {
        let data = copy(CopyOptions::new(CopyFormat::Binary));
        assert!(
            data.starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04x\ty\\\0\0\0\x04\0\0\0\x01")
        );
        assert!(data.ends_with(&[0xff, 0xff]));
    }
}
