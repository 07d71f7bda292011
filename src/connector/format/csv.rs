//! Comma-separated values, read as PostgreSQL's COPY reads them.
//!
//! A quoted value is never NULL, an unquoted one is NULL if it is the null string (the empty text unless the option
//! `null` says otherwise). With `header`, columns are found by the names in the first record; without, by position.
//!
//! Boundary: records to cells; types are read by the parent module.

use std::ops::Range;

use arrow::datatypes::SchemaRef;

use super::{Cell, Cells, Decoded, push_record, utf8};
use crate::connector::options::Options;
use crate::error::{Error, ErrorKind, Result};

/// Options of the format.
pub const KNOWN: &[&str] = &["header", "delimiter", "null", "quote", "escape"];

/// How values are written.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvOptions {
    /// Whether the first record names the columns.
    pub header: bool,
    /// Between values.
    pub delimiter: u8,
    /// Around values that contain delimiters, quotes or line ends.
    pub quote: u8,
    /// Before a quote within quotes; the quote itself unless said otherwise.
    pub escape: u8,
    /// The unquoted text that is NULL.
    pub null: String,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions { header: false, delimiter: b',', quote: b'"', escape: b'"', null: String::new() }
    }
}

impl CsvOptions {
    /// Reads the options.
    pub fn read(o: &Options<'_>) -> Result<Self> {
        let delimiter = o.ascii("delimiter")?.unwrap_or(b',');
        let quote = o.ascii("quote")?.unwrap_or(b'"');
        if delimiter == quote {
            return Err(Error::new(ErrorKind::InvalidParameter, "CSV delimiter and quote must be different"));
        }
        Ok(CsvOptions {
            header: o.bool("header")?.unwrap_or(false),
            delimiter,
            quote,
            escape: o.ascii("escape")?.unwrap_or(quote),
            null: o.get("null").unwrap_or("").to_string(),
        })
    }
}

/// Decodes records of one file or stream.
#[derive(Debug)]
pub struct CsvDecoder {
    options: CsvOptions,
    schema: SchemaRef,
    /// For every value of a record: the column it belongs to.
    targets: Vec<Option<usize>>,
}

impl CsvDecoder {
    /// A decoder that finds columns by position.
    pub fn new(options: CsvOptions, schema: SchemaRef) -> Self {
        let targets = (0..schema.fields().len()).map(Some).collect();
        CsvDecoder { options, schema, targets }
    }

    /// Whether a header has to be read before the first record.
    pub fn wants_header(&self) -> bool {
        self.options.header
    }

    /// Takes the header: from now on columns are found by its names.
    pub fn read_header(&mut self, record: &[u8]) -> Result<()> {
        let text = utf8(record)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut names: Vec<String> = Vec::new();
        let mut scratch = String::new();
        split(&self.options, text, &mut scratch, |cell, scratch| {
            names.push(match cell {
                Cell::Null => String::new(),
                Cell::Text(t) => t.trim().to_string(),
                Cell::Scratch(a, b) => scratch[a..b].to_string(),
            });
        })?;
        let find = |name: &str| {
            let fields = self.schema.fields();
            fields
                .iter()
                .position(|f| f.name() == name)
                .or_else(|| fields.iter().position(|f| f.name().eq_ignore_ascii_case(name)))
        };
        let targets: Vec<Option<usize>> = names.iter().map(|n| find(n)).collect();
        for (i, field) in self.schema.fields().iter().enumerate() {
            if targets.iter().filter(|t| **t == Some(i)).count() != 1 {
                return Err(Error::new(
                    ErrorKind::BadCopyFormat,
                    format!("column \"{}\" is not exactly once in the header", field.name()),
                )
                .with_detail(format!("The header is: {}.", names.join(", "))));
            }
        }
        self.targets = targets;
        Ok(())
    }

    /// Finds whole records: line ends within quotes do not end them.
    pub fn frame(&self, bytes: &[u8], at_end: bool, max: usize, records: &mut Vec<Range<usize>>) -> usize {
        let (quote, escape) = (self.options.quote, self.options.escape);
        let (mut from, mut at, mut quoted) = (0, 0, false);
        while records.len() < max && at < bytes.len() {
            let b = bytes[at];
            if quoted && b == escape && escape != quote {
                at += 1;
            } else if b == quote {
                quoted = !quoted;
            } else if b == b'\n' && !quoted {
                push_record(bytes, from..at, records);
                from = at + 1;
            }
            at += 1;
        }
        if at_end && records.len() < max && from < bytes.len() {
            if quoted {
                // A quote that is never closed must not swallow what follows it: its line is bad on its own.
                let end = bytes[from..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| from + n);
                push_record(bytes, from..end, records);
                return (end + 1).min(bytes.len());
            }
            push_record(bytes, from..bytes.len(), records);
            from = bytes.len();
        }
        from
    }

    /// Reads the records.
    pub fn decode(&mut self, bytes: &[u8], records: &[Range<usize>]) -> Result<Decoded> {
        let mut cells = Cells::new(self.schema.fields().len(), records.len());
        for (i, record) in records.iter().enumerate() {
            match self.decode_record(&bytes[record.clone()], &mut cells) {
                Ok(()) => cells.end_record(i),
                Err(e) => cells.refuse(i, e),
            }
        }
        cells.finish(&self.schema)
    }

    fn decode_record<'a>(&self, record: &'a [u8], cells: &mut Cells<'a>) -> Result<()> {
        let text = utf8(record)?;
        let mut count = 0;
        let Cells { columns, scratch, .. } = cells;
        split(&self.options, text, scratch, |cell, _| {
            if let Some(Some(column)) = self.targets.get(count) {
                columns[*column].push(cell);
            }
            count += 1;
        })?;
        if count > self.targets.len() {
            return Err(Error::new(ErrorKind::BadCopyFormat, "extra data after last expected column"));
        }
        if let Some(missing) = self.targets[count..].iter().flatten().next() {
            return Err(Error::new(
                ErrorKind::BadCopyFormat,
                format!("missing data for column \"{}\"", self.schema.field(*missing).name()),
            ));
        }
        Ok(())
    }
}

/// Cuts a record into values.
fn split<'a>(
    options: &CsvOptions,
    record: &'a str,
    scratch: &mut String,
    mut value: impl FnMut(Cell<'a>, &str),
) -> Result<()> {
    let bytes = record.as_bytes();
    let mut at = 0;
    loop {
        let begin = at;
        while at < bytes.len() && bytes[at] != options.delimiter && bytes[at] != options.quote {
            at += 1;
        }
        if at == bytes.len() || bytes[at] == options.delimiter {
            let text = &record[begin..at];
            value(if text == options.null { Cell::Null } else { Cell::Text(text) }, scratch);
        } else {
            let (cell, end) = quoted(options, record, begin, at, scratch)?;
            value(cell, scratch);
            at = end;
        }
        if at >= bytes.len() {
            return Ok(());
        }
        at += 1;
    }
}

/// Reads a value that begins at `begin` and has its first quote at `quote_at`; gives where it ends.
fn quoted<'a>(
    options: &CsvOptions,
    record: &'a str,
    begin: usize,
    quote_at: usize,
    scratch: &mut String,
) -> Result<(Cell<'a>, usize)> {
    let bytes = record.as_bytes();
    let (quote, escape) = (options.quote, options.escape);
    // The common case: quotes around everything and none within.
    if begin == quote_at {
        let inner = begin + 1;
        let close = bytes[inner..].iter().position(|b| *b == quote || *b == escape).map(|n| inner + n);
        if let Some(close) = close
            && bytes[close] == quote
            && (close + 1 == bytes.len() || bytes[close + 1] == options.delimiter)
        {
            return Ok((Cell::Text(&record[inner..close]), close + 1));
        }
    }
    let start = scratch.len();
    let (mut at, mut inside, mut copied) = (begin, false, begin);
    while at < bytes.len() {
        let b = bytes[at];
        if inside
            && b == escape
            && at + 1 < bytes.len()
            && (bytes[at + 1] == quote || bytes[at + 1] == escape)
        {
            scratch.push_str(&record[copied..at]);
            copied = at + 1;
            at += 2;
            continue;
        }
        if b == quote {
            scratch.push_str(&record[copied..at]);
            copied = at + 1;
            inside = !inside;
        } else if b == options.delimiter && !inside {
            break;
        }
        at += 1;
    }
    if inside {
        return Err(Error::new(ErrorKind::BadCopyFormat, "unterminated CSV quoted field"));
    }
    scratch.push_str(&record[copied..at]);
    Ok((Cell::Scratch(start, scratch.len()), at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::source::testing::lines;
    use crate::types::PgType;
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn decode(options: CsvOptions, columns: Vec<Field>, text: &[u8]) -> (Vec<String>, Vec<(usize, String)>) {
        let mut d = CsvDecoder::new(options, Arc::new(Schema::new(columns)));
        let mut records = Vec::new();
        let mut used = d.frame(text, true, 1000, &mut records);
        while used < text.len() {
            let mut more = Vec::new();
            let n = d.frame(&text[used..], true, 1000, &mut more);
            records.extend(more.into_iter().map(|r| r.start + used..r.end + used));
            used += n;
        }
        if d.wants_header() {
            let header = records.remove(0);
            d.read_header(&text[header]).expect("header");
        }
        let out = d.decode(text, &records).expect("decoded");
        (lines(&out.rows), out.errors.into_iter().map(|(i, e)| (i, e.message().to_string())).collect())
    }

    fn columns() -> Vec<Field> {
        vec![PgType::INT4.field("a", true), PgType::TEXT.field("b", true)]
    }

    #[test]
    fn quotes_line_ends_and_nulls_are_read_as_copy_reads_them() {
        let text = b"1,plain\r\n2,\"a,b\"\n3,\"say \"\"hi\"\"\"\n4,\"two\nlines\"\n,\"\"\n6,x\"y,z\"w\n";
        let (rows, errors) = decode(CsvOptions::default(), columns(), text);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(rows.len(), 7, "{rows:?}"); // one row prints on two lines
        assert_eq!(rows[..3], ["1 plain", "2 a,b", "3 say \"hi\""]);
        assert_eq!(rows[6], "6 xy,zw");
    }

    #[test]
    fn a_bad_record_does_not_lose_its_neighbours() {
        let text = b"1,a\nx,b\n3\n4,d,e\n99999999999,f\n6,\xff\n7,g\n";
        let (rows, errors) = decode(CsvOptions::default(), columns(), text);
        assert_eq!(rows, ["1 a", "7 g"]);
        assert_eq!(
            errors,
            [
                (1, "invalid input syntax for type integer: \"x\"".to_string()),
                (2, "missing data for column \"b\"".to_string()),
                (3, "extra data after last expected column".to_string()),
                (4, "value \"99999999999\" is out of range for type integer".to_string()),
                (5, "invalid byte sequence for encoding \"UTF8\": 0xff".to_string()),
            ]
        );
    }

    #[test]
    fn a_header_chooses_columns_by_name_and_the_null_string_counts_unquoted_only() {
        let options =
            CsvOptions { header: true, null: "NA".into(), delimiter: b';', ..CsvOptions::default() };
        let (rows, errors) = decode(options, columns(), b"B;other;A\nNA;0;NA\n\"NA\";0;5\n");
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1], "5 NA");
        let mut d = CsvDecoder::new(CsvOptions::default(), Arc::new(Schema::new(columns())));
        assert_eq!(
            d.read_header(b"a,c").expect_err("b is missing").message(),
            "column \"b\" is not exactly once in the header"
        );
    }

    #[test]
    fn a_quote_that_is_never_closed_spoils_only_its_line() {
        let (rows, errors) = decode(CsvOptions::default(), columns(), b"1,a\n2,\"b\n3,c\n");
        assert_eq!(rows, ["1 a", "3 c"]);
        assert_eq!(errors, [(1, "unterminated CSV quoted field".to_string())]);
    }

    #[test]
    fn nulls_are_refused_where_the_column_forbids_them() {
        let columns = vec![PgType::INT4.field("a", false), PgType::TEXT.field("b", true)];
        let (rows, errors) = decode(CsvOptions::default(), columns, b",x\n2,\n");
        assert_eq!(rows.len(), 1);
        assert_eq!(errors[0].1, "null value in column \"a\" violates not-null constraint");
    }
}
