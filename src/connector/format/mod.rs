//! Formats: bytes to rows and dead letters.
//!
//! A text format is two steps. [`RecordDecoder::frame`] finds whole records in a buffer; [`RecordDecoder::decode`]
//! cuts them into cells and reads each column at once with PostgreSQL's input syntax. A record that cannot be read
//! is reported and left out; the others of its batch stay.
//!
//! Boundary: no files, no offsets; where bytes come from is the source's business.

pub mod csv;
pub mod json;
pub mod parquet;

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;

use super::options::{Options, nearest};
use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;
use crate::types::text::{TextOptions, parse_column_with_errors};

/// The encodings that can be read.
pub const ENCODINGS: &[&str] = &["csv", "json", "parquet"];

/// FORMAT … ENCODE … as the catalog keeps it: (format, encoding, options).
pub type FormatClause = (String, String, BTreeMap<String, String>);

/// A format with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Comma-separated values.
    Csv(csv::CsvOptions),
    /// One JSON object per line.
    Json,
    /// Parquet files.
    Parquet,
}

impl Format {
    /// Reads FORMAT PLAIN ENCODE encoding (options).
    pub fn from_clause(clause: &FormatClause) -> Result<Format> {
        let (format, encoding, options) = clause;
        if format != "plain" {
            return Err(Error::unsupported(format!("FORMAT {} is not supported", format.to_uppercase()))
                .with_hint("Use FORMAT PLAIN."));
        }
        Format::read(encoding, options)
    }

    /// The format of this encoding, with its own options.
    pub fn read(encoding: &str, options: &BTreeMap<String, String>) -> Result<Format> {
        let of = format!("format {encoding}");
        let o = Options::new(&of, options);
        match encoding {
            "csv" => {
                o.refuse_unknown(csv::KNOWN)?;
                Ok(Format::Csv(csv::CsvOptions::read(&o)?))
            }
            "json" | "jsonl" | "ndjson" => o.refuse_unknown(&[]).map(|()| Format::Json),
            "parquet" => o.refuse_unknown(&[]).map(|()| Format::Parquet),
            other => {
                let e = Error::new(ErrorKind::InvalidParameter, format!("unknown encoding \"{other}\""));
                Err(match nearest(other, ENCODINGS) {
                    Some(n) => e.with_hint(format!("Perhaps you meant \"{n}\".")),
                    None => e.with_hint(format!("Encodings are: {}.", ENCODINGS.join(", "))),
                })
            }
        }
    }

    /// The encoding that a file's name tells.
    pub fn encoding_of(path: &str) -> Option<&'static str> {
        let path = path.to_ascii_lowercase();
        let name = path.strip_suffix(".gz").unwrap_or(&path);
        match name.rsplit('.').next()? {
            "csv" => Some("csv"),
            "json" | "jsonl" | "ndjson" => Some("json"),
            "parquet" => Some("parquet"),
            _ => None,
        }
    }
}

/// Rows, and the records that gave none.
#[derive(Debug)]
pub struct Decoded {
    /// The rows of the good records, in their order.
    pub rows: RecordBatch,
    /// (number of the record among those given, reason), in order.
    pub errors: Vec<(usize, Error)>,
}

/// A decoder of records of text.
#[derive(Debug)]
pub enum RecordDecoder {
    /// Comma-separated values.
    Csv(csv::CsvDecoder),
    /// JSON lines.
    Json(json::JsonDecoder),
}

impl RecordDecoder {
    /// Finds up to `max` whole records at the beginning of `bytes`, without their line ends; gives how many bytes
    /// they take. `at_end`: nothing will follow, so an unfinished last line is a record.
    pub fn frame(&self, bytes: &[u8], at_end: bool, max: usize, records: &mut Vec<Range<usize>>) -> usize {
        match self {
            RecordDecoder::Csv(d) => d.frame(bytes, at_end, max, records),
            RecordDecoder::Json(_) => frame_lines(bytes, at_end, max, records),
        }
    }

    /// Reads the records.
    pub fn decode(&mut self, bytes: &[u8], records: &[Range<usize>]) -> Result<Decoded> {
        match self {
            RecordDecoder::Csv(d) => d.decode(bytes, records),
            RecordDecoder::Json(d) => d.decode(bytes, records),
        }
    }
}

/// Finds whole lines.
fn frame_lines(bytes: &[u8], at_end: bool, max: usize, records: &mut Vec<Range<usize>>) -> usize {
    let mut from = 0;
    while records.len() < max && from < bytes.len() {
        let end = match bytes[from..].iter().position(|b| *b == b'\n') {
            Some(n) => from + n,
            None if at_end => bytes.len(),
            None => break,
        };
        push_record(bytes, from..end, records);
        from = (end + 1).min(bytes.len());
    }
    from
}

/// Adds a record unless it is blank; a carriage return before its end is no part of it.
fn push_record(bytes: &[u8], record: Range<usize>, records: &mut Vec<Range<usize>>) {
    let end =
        if record.end > record.start && bytes[record.end - 1] == b'\r' { record.end - 1 } else { record.end };
    if end > record.start {
        records.push(record.start..end);
    }
}

/// One value of a record as text.
#[derive(Debug, Clone, Copy)]
enum Cell<'a> {
    Null,
    /// As it stands in the input.
    Text(&'a str),
    /// Put together in the scratch text: begin and end.
    Scratch(usize, usize),
}

/// The cells of a batch of records, by column.
struct Cells<'a> {
    columns: Vec<Vec<Cell<'a>>>,
    scratch: String,
    /// The record of each row.
    records: Vec<usize>,
    errors: Vec<(usize, Error)>,
}

impl<'a> Cells<'a> {
    fn new(columns: usize, rows: usize) -> Self {
        Cells {
            columns: (0..columns).map(|_| Vec::with_capacity(rows)).collect(),
            scratch: String::new(),
            records: Vec::with_capacity(rows),
            errors: Vec::new(),
        }
    }

    /// Takes back the cells of a record that turned out bad, and keeps the reason.
    fn refuse(&mut self, record: usize, error: Error) {
        let rows = self.records.len();
        for c in &mut self.columns {
            c.truncate(rows);
        }
        self.errors.push((record, error));
    }

    /// Ends a record: columns without a cell are NULL.
    fn end_record(&mut self, record: usize) {
        self.records.push(record);
        let rows = self.records.len();
        for c in &mut self.columns {
            c.resize(rows, Cell::Null);
        }
    }

    /// Reads the columns; rows with a value that cannot be read become errors.
    fn finish(self, schema: &SchemaRef) -> Result<Decoded> {
        let options = TextOptions::default();
        let rows = self.records.len();
        let mut failures: BTreeMap<usize, Error> = BTreeMap::new();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (cells, field) in self.columns.iter().zip(schema.fields()) {
            let text = cells.iter().map(|c| match c {
                Cell::Null => None,
                Cell::Text(t) => Some(*t),
                Cell::Scratch(a, b) => Some(&self.scratch[*a..*b]),
            });
            let (array, errors) = parse_column_with_errors(PgType::of_field(field), text, &options)?;
            for (row, e) in errors {
                failures.entry(row).or_insert_with(|| {
                    e.with_detail(format!("The value is that of column \"{}\".", field.name()))
                        .with_column(field.name())
                });
            }
            if !field.is_nullable() && array.null_count() > 0 {
                for row in (0..rows).filter(|row| array.is_null(*row)) {
                    failures.entry(row).or_insert_with(|| null_violation(field.name()));
                }
            }
            arrays.push(array);
        }
        let keep =
            (!failures.is_empty()).then(|| (0..rows).map(|r| Some(!failures.contains_key(&r))).collect());
        let rows = assemble(schema, arrays, rows, keep.as_ref())?;
        let mut errors = self.errors;
        errors.extend(failures.into_iter().map(|(row, e)| (self.records[row], e)));
        errors.sort_by_key(|(record, _)| *record);
        Ok(Decoded { rows, errors })
    }
}

fn null_violation(column: &str) -> Error {
    Error::new(
        ErrorKind::NotNullViolation,
        format!("null value in column \"{column}\" violates not-null constraint"),
    )
    .with_column(column)
}

/// A batch of the columns, reduced to the rows to keep. The rows are selected before the batch gets its schema,
/// which may forbid the NULLs of the others.
fn assemble(
    schema: &SchemaRef,
    arrays: Vec<arrow::array::ArrayRef>,
    rows: usize,
    keep: Option<&BooleanArray>,
) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let Some(keep) = keep else {
        return Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?);
    };
    let lenient = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let lenient = std::sync::Arc::new(arrow::datatypes::Schema::new(lenient));
    let all = RecordBatch::try_new_with_options(lenient, arrays, &options)?;
    let kept = filter_record_batch(&all, keep)?;
    let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), kept.columns().to_vec(), &options)?)
}

/// The record as text, or why it is none.
fn utf8(record: &[u8]) -> Result<&str> {
    std::str::from_utf8(record).map_err(|e| {
        let bad =
            record[e.valid_up_to()..].iter().take(e.error_len().unwrap_or(1)).map(|b| format!("0x{b:02x}"));
        Error::new(
            ErrorKind::InvalidEncoding,
            format!("invalid byte sequence for encoding \"UTF8\": {}", bad.collect::<Vec<_>>().join(" ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_known_by_name_and_by_file() {
        assert_eq!(Format::encoding_of("/a/b.c/flights.CSV.gz"), Some("csv"));
        assert_eq!(Format::encoding_of("x.ndjson"), Some("json"));
        assert_eq!(Format::encoding_of("dir/"), None);
        let e = Format::read("jsno", &BTreeMap::new()).expect_err("unknown");
        assert_eq!(e.hint(), Some("Perhaps you meant \"json\"."));
        let clause = ("debezium".to_string(), "json".to_string(), BTreeMap::new());
        assert_eq!(Format::from_clause(&clause).expect_err("refused").kind(), ErrorKind::FeatureNotSupported);
        let options = BTreeMap::from([("haeder".to_string(), "true".to_string())]);
        assert_eq!(
            Format::read("csv", &options).expect_err("unknown").hint(),
            Some("Perhaps you meant \"header\".")
        );
    }

    #[test]
    fn an_unfinished_line_waits_unless_the_input_is_at_its_end() {
        let mut r = Vec::new();
        assert_eq!(frame_lines(b"ab\r\n\ncd", false, 9, &mut r), 5);
        assert_eq!(r, vec![0..2]);
        r.clear();
        assert_eq!(frame_lines(b"ab\n\ncd", true, 9, &mut r), 6);
        assert_eq!(r, vec![0..2, 4..6]);
        r.clear();
        assert_eq!(frame_lines(b"a\nb\nc\n", true, 2, &mut r), 4);
    }

    fn decoders() -> [RecordDecoder; 2] {
        let fields = vec![
            PgType::INT4.field("a", true),
            PgType::TEXT.field("b", true),
            PgType::JSONB.field("c", true),
        ];
        let schema: SchemaRef = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
        [
            RecordDecoder::Csv(csv::CsvDecoder::new(csv::CsvOptions::default(), schema.clone())),
            RecordDecoder::Json(json::JsonDecoder::new(schema)),
        ]
    }

    /// All rows and the bytes of all bad records, framing at most `max` records at a time.
    fn decode_by(decoder: &mut RecordDecoder, bytes: &[u8], max: usize) -> (Vec<String>, Vec<Vec<u8>>) {
        let (mut rows, mut bad, mut at) = (Vec::new(), Vec::new(), 0);
        while at < bytes.len() {
            let mut records = Vec::new();
            let used = decoder.frame(&bytes[at..], true, max, &mut records);
            assert!(used > 0, "framing goes on until the end");
            let out = decoder.decode(&bytes[at..], &records).expect("decoded");
            assert_eq!(
                out.rows.num_rows() + out.errors.len(),
                records.len(),
                "every record is a row or an error"
            );
            for row in 0..out.rows.num_rows() {
                rows.push(format!("{:?}", out.rows.slice(row, 1).columns()));
            }
            bad.extend(out.errors.iter().map(|(i, _)| bytes[at..][records[*i].clone()].to_vec()));
            at += used;
        }
        (rows, bad)
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_rows_or_errors_however_they_are_cut(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                &b"1"[..], b",", b"\"", b"\\", b"\n", b"\r\n", b"{", b"}", b"[", b"]", b":", b"\"a\":", b"\"c\":",
                b"null", b" ", b"x", b"\xc3\xa9", b"\xff", b"{\"a\":7}\n", b"3,x,{}\n", b"\\u00e9", b"\0",
            ]), 0..40),
            max in 1usize..5,
        ) {
            let bytes = pieces.concat();
            for mut decoder in decoders() {
                let whole = decode_by(&mut decoder, &bytes, usize::MAX);
                proptest::prop_assert_eq!(&whole, &decode_by(&mut decoder, &bytes, max));
            }
        }
    }
}
