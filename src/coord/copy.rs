//! COPY: rows in from the client in bulk, rows out as text, CSV or binary.
//!
//! COPY FROM STDIN reads whole records out of bytes that come cut anywhere, brings them into the table's types
//! a batch at a time, and puts them into the transaction at the end: a bad record fails the statement and nothing of it
//! is kept.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlanBuilder;
use parking_lot::Mutex;

use crate::catalog::{Column, Object, ObjectBody};
use crate::coord::backend::{CopyFormat, CopyOptions, CopySink, Outcome};
use crate::coord::copy_binary::Tuples;
use crate::coord::session::{Parsed, Session};
use crate::coord::{ddl, rows};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind;
use crate::sql::statement::{Copy, CopyEndpoint, CopyObject, Name, OptionValue, Options};
use crate::types::binary::parse_binary;
use crate::types::text::{TextOptions, parse_column};
use crate::zset::TARGET_ROWS;

/// A record longer than this is refused.
const MAX_RECORD: usize = 64 << 20;

impl Session {
    /// COPY in all its forms.
    pub(super) async fn copy(&mut self, copy: &Copy, whole: Option<Arc<str>>) -> Result<Outcome> {
        if let CopyEndpoint::File(_) = copy.endpoint {
            return Err(Error::unsupported("COPY from or to a file is not supported").with_hint(
                "Use COPY FROM STDIN or TO STDOUT (psql's \\copy), or a source with connector = 'file'.",
            ));
        }
        if !copy.to {
            return self.copy_in(copy);
        }
        let outcome = match &copy.object {
            CopyObject::Relation { name, columns } => {
                let list = match columns.as_slice() {
                    [] => "*".to_string(),
                    names => names
                        .iter()
                        .map(|n| crate::sql::statement::quote_identifier(n))
                        .collect::<Vec<_>>()
                        .join(", "),
                };
                let parsed = crate::sql::parse(&format!("SELECT {list} FROM {name}"))?;
                let parsed = parsed.into_iter().next().ok_or_else(|| Error::internal("no statement"))?;
                self.select(&Parsed::new(parsed), Vec::new()).await?
            }
            CopyObject::Query(query) => self.select(&Parsed::of_query(query, whole), Vec::new()).await?,
            CopyObject::Subscribe(subscribe) => self.subscribe_rows(subscribe, true).await?,
            CopyObject::Dml(statement) => {
                let parsed = Parsed::new(crate::sql::ParsedStatement {
                    statement: (**statement).clone(),
                    text: String::new(),
                    offset: 0,
                });
                self.dml(&parsed, Vec::new()).await?
            }
        };
        let Outcome::Rows { columns, stream, tag } = outcome else {
            return Err(Error::unsupported("COPY query must have a RETURNING clause"));
        };
        let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
        let options = copy_options(&copy.options, &names, true)?;
        Ok(Outcome::CopyOut { columns, options, stream, live: tag.live })
    }

    fn copy_in(&mut self, copy: &Copy) -> Result<Outcome> {
        self.check_writable("COPY FROM")?;
        let CopyObject::Relation { name, columns } = &copy.object else {
            return Err(Error::new(ErrorKind::Syntax, "COPY FROM needs a table"));
        };
        let (table, positions) = self.copy_target(name, columns)?;
        let names: Vec<String> = positions.iter().map(|p| table.columns[*p].name.clone()).collect();
        let options = copy_options(&copy.options, &names, false)?;
        let rows = Arc::new(Mutex::new(CopiedRows { table: table.clone(), batches: Vec::new() }));
        self.copying = Some(rows.clone());
        let context = self.bind_context(Vec::new());
        let sink = Reader {
            input: match options.format {
                CopyFormat::Binary => Input::Binary(Tuples::default(), vec![Vec::new(); positions.len()]),
                _ => Input::Text(Splitter::new(&options), vec![Vec::new(); positions.len()]),
            },
            text: self.text_options(),
            positions: positions.clone(),
            pending_rows: 0,
            count: 0,
            line: u64::from(options.header),
            rows,
            context,
        };
        let format = options.format;
        Ok(Outcome::CopyIn { columns: positions.len(), format, sink: Box::new(sink) })
    }

    fn copy_target(&mut self, name: &Name, columns: &[String]) -> Result<(Arc<Object>, Vec<usize>)> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        let table = ddl::find(&catalog, &self.search_path(), name).ok_or_else(|| ddl::undefined(name))?;
        if !matches!(table.body, ObjectBody::Table { .. }) {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("cannot copy to {} \"{}\"", table.kind_name(), table.name),
            ));
        }
        if columns.is_empty() {
            let given = table.live_columns().filter(|(_, c)| c.generated.is_none());
            let all = given.map(|(i, _)| i).collect();
            return Ok((table, all));
        }
        let mut positions = Vec::with_capacity(columns.len());
        for column in columns {
            let at = table.columns.iter().position(|c| &c.name == column && !c.dropped).ok_or_else(|| {
                Error::new(
                    ErrorKind::UndefinedColumn,
                    format!("column \"{column}\" of relation \"{}\" does not exist", table.name),
                )
            })?;
            if positions.contains(&at) {
                return Err(Error::new(
                    ErrorKind::DuplicateColumn,
                    format!("column \"{column}\" specified more than once"),
                ));
            }
            if table.columns[at].generated.is_some() {
                return Err(Error::new(
                    ErrorKind::InvalidColumnReference,
                    format!("column \"{column}\" is a generated column"),
                )
                .with_detail("Generated columns cannot be used in COPY."));
            }
            positions.push(at);
        }
        Ok((table, positions))
    }

    /// Puts the rows of a finished COPY into the transaction. Called when the transaction is next used, because the
    /// sink that received them does not hold the session.
    pub(super) fn take_copied(&mut self) -> Result<()> {
        let Some(copied) = self.copying.take() else { return Ok(()) };
        let (table, batches) = {
            let mut copied = copied.lock();
            (copied.table.clone(), std::mem::take(&mut copied.batches))
        };
        for batch in &batches {
            self.check_rows(&table, batch)?;
        }
        self.write(&table, batches.into_iter().map(crate::zset::ZBatch::inserts).collect())
    }
}

/// Rows that a COPY has received whole.
pub struct CopiedRows {
    table: Arc<Object>,
    batches: Vec<RecordBatch>,
}

/// What cuts the bytes into records, and the values at hand column by column.
enum Input {
    Text(Splitter, Vec<Vec<Option<String>>>),
    Binary(Tuples, Vec<Vec<ScalarValue>>),
}

struct Reader {
    input: Input,
    text: TextOptions,
    positions: Vec<usize>,
    pending_rows: usize,
    count: u64,
    line: u64,
    rows: Arc<Mutex<CopiedRows>>,
    context: bind::BindContext<'static>,
}

#[async_trait]
impl CopySink for Reader {
    async fn data(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.input {
            Input::Text(splitter, _) => splitter.push(&bytes),
            Input::Binary(tuples, _) => tuples.push(&bytes),
        }
        self.read(false)
    }

    async fn finish(&mut self) -> Result<String> {
        self.read(true)?;
        self.flush()?;
        Ok(format!("COPY {}", self.count))
    }

    async fn fail(&mut self, _message: &str) {
        self.rows.lock().batches.clear();
    }
}

impl Reader {
    fn read(&mut self, end: bool) -> Result<()> {
        let table = self.rows.lock().table.clone();
        while self.next_record(&table, end)? {
            self.pending_rows += 1;
            if self.pending_rows == TARGET_ROWS {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Puts the next record to those at hand; false if there is none.
    fn next_record(&mut self, table: &Object, end: bool) -> Result<bool> {
        let (splitter, pending) = match &mut self.input {
            Input::Text(splitter, pending) => (splitter, pending),
            Input::Binary(tuples, pending) => {
                let Some(tuple) = tuples.next(self.positions.len(), end)? else { return Ok(false) };
                self.line += 1;
                for ((values, range), position) in pending.iter_mut().zip(tuple).zip(&self.positions) {
                    let pg = table.columns[*position].pg_type();
                    values.push(match range {
                        Some(range) => parse_binary(pg, &tuples.bytes()[range])?,
                        None => ScalarValue::try_from(&pg.arrow())?,
                    });
                }
                return Ok(true);
            }
        };
        let next = splitter.next(end).map_err(|e| in_line(e, table, self.line + 1, splitter.last_line()));
        let Some(record) = next? else { return Ok(false) };
        self.line += 1;
        if record.len() < self.positions.len() {
            let missing = &table.columns[self.positions[record.len()]].name;
            let e = Error::new(ErrorKind::BadCopyFormat, format!("missing data for column \"{missing}\""));
            return Err(in_line(e, table, self.line, splitter.last_line()));
        }
        if record.len() > self.positions.len() {
            let e = Error::new(ErrorKind::BadCopyFormat, "extra data after last expected column");
            return Err(in_line(e, table, self.line, splitter.last_line()));
        }
        for (column, value) in pending.iter_mut().zip(record) {
            column.push(value);
        }
        Ok(true)
    }

    /// The error of the first value that is none of its type, with the line it stands in.
    fn bad_value(&self, e: Error, column: &Column, values: &[Option<String>]) -> Error {
        let first = (0..values.len()).find_map(|i| {
            let value = std::iter::once(values[i].as_deref());
            parse_column(column.pg_type(), value, &self.text).err().map(|e| (i, e))
        });
        let (row, e) = first.unwrap_or((values.len().saturating_sub(1), e));
        let line = self.line.saturating_sub((values.len() - 1 - row.min(values.len() - 1)) as u64);
        let place = format!("COPY {}, line {line}, column {}", self.rows.lock().table.name, column.name);
        e.with_context(match values.get(row) {
            Some(Some(value)) => format!("{place}: \"{}\"", shortened(value)),
            _ => format!("{place}: null input"),
        })
    }

    /// Brings the records at hand into the table's types.
    fn flush(&mut self) -> Result<()> {
        if self.pending_rows == 0 {
            return Ok(());
        }
        let table = self.rows.lock().table.clone();
        let mut arrays = Vec::with_capacity(self.positions.len());
        let mut fields = Vec::with_capacity(self.positions.len());
        for (number, position) in self.positions.iter().enumerate() {
            let column = &table.columns[*position];
            let array = match &mut self.input {
                Input::Binary(_, pending) => {
                    ScalarValue::iter_to_array(std::mem::take(&mut pending[number]))?
                }
                Input::Text(_, pending) => {
                    let values = std::mem::take(&mut pending[number]);
                    parse_column(column.pg_type(), values.iter().map(Option::as_deref), &self.text)
                        .map_err(|e| self.bad_value(e, column, &values))?
                }
            };
            fields.push(column.field().with_nullable(true));
            arrays.push(array);
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let whole = self.completed(&table, batch)?;
        let schema = table.arrow_schema();
        let batch = rows::conform(whole.columns(), &schema, whole.num_rows(), &table)?;
        self.count += batch.num_rows() as u64;
        self.rows.lock().batches.push(batch);
        self.pending_rows = 0;
        Ok(())
    }

    /// The rows with the columns that were not given.
    fn completed(&self, table: &Object, batch: RecordBatch) -> Result<RecordBatch> {
        let in_order = self.positions.iter().copied().eq(0..table.columns.len());
        if in_order {
            return Ok(batch);
        }
        let empty = MemTable::try_new(batch.schema(), vec![Vec::new()])?;
        let scan = LogicalPlanBuilder::scan("copied", provider_as_source(Arc::new(empty)), None)?.build()?;
        let plan = bind::dml::complete_rows(table, &self.positions, scan, &self.context)?;
        rows::of_constant_plan(&plan, Some(&batch), &[])?
            .ok_or_else(|| Error::unsupported("the defaults of this table cannot be used with COPY"))
    }
}

/// The error of a line that cannot be cut into values.
fn in_line(e: Error, table: &Object, line: u64, text: &[u8]) -> Error {
    let text = String::from_utf8_lossy(text);
    e.with_context(format!("COPY {}, line {line}: \"{}\"", table.name, shortened(&text)))
}

/// As much of a value or line as PostgreSQL shows.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_string(),
    }
}

/// Cuts COPY's bytes into records of values.
struct Splitter {
    csv: bool,
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
    skip_header: bool,
    buffer: Vec<u8>,
    /// Where the next record begins.
    at: usize,
    /// Where the search for its end goes on, and whether it stands within quotes there.
    seen: usize,
    quoted: bool,
    ended: bool,
    /// Where the record handed out last stands in the buffer.
    last: std::ops::Range<usize>,
}

impl Splitter {
    fn new(options: &CopyOptions) -> Self {
        Splitter {
            csv: options.format == CopyFormat::Csv,
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape,
            null: options.null.clone().into_bytes(),
            skip_header: options.header,
            buffer: Vec::new(),
            at: 0,
            seen: 0,
            quoted: false,
            ended: false,
            last: 0..0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.ended {
            return;
        }
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.seen -= self.at;
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The record handed out last, as it came.
    fn last_line(&self) -> &[u8] {
        self.buffer.get(self.last.clone()).unwrap_or_default()
    }

    /// The next record, if it is there whole.
    fn next(&mut self, end: bool) -> Result<Option<Vec<Option<String>>>> {
        loop {
            let Some((from, to)) = self.next_line(end)? else { return Ok(None) };
            self.last = from..to;
            let line = &self.buffer[from..to];
            if line == b"\\." {
                self.ended = true;
                self.at = self.buffer.len();
                self.seen = self.at;
                return Ok(None);
            }
            if std::mem::take(&mut self.skip_header) {
                continue;
            }
            return if self.csv { self.csv_values(line).map(Some) } else { self.text_values(line).map(Some) };
        }
    }

    /// Bounds of the next line without its end; within quotes a CSV line goes on.
    fn next_line(&mut self, end: bool) -> Result<Option<(usize, usize)>> {
        while self.seen < self.buffer.len() {
            let byte = self.buffer[self.seen];
            if self.csv {
                if self.quoted && byte == self.escape && self.escape != self.quote {
                    // The byte after an escape says nothing about the quotes.
                    if self.seen + 1 >= self.buffer.len() && !end {
                        return Ok(None);
                    }
                    self.seen += 2;
                    continue;
                }
                if byte == self.quote {
                    self.quoted = !self.quoted;
                }
            }
            if byte == b'\n' && !self.quoted {
                let from = self.at;
                let mut to = self.seen;
                if to > from && self.buffer[to - 1] == b'\r' {
                    to -= 1;
                }
                self.at = self.seen + 1;
                self.seen = self.at;
                return Ok(Some((from, to)));
            }
            self.seen += 1;
        }
        if self.buffer.len() - self.at > MAX_RECORD {
            return Err(Error::new(ErrorKind::ProgramLimit, "a record of COPY is too long"));
        }
        if end && self.at < self.buffer.len() {
            if self.quoted {
                return Err(Error::new(ErrorKind::BadCopyFormat, "unterminated CSV quoted field"));
            }
            let from = self.at;
            let mut to = self.buffer.len();
            if self.buffer[to - 1] == b'\r' {
                to -= 1;
            }
            self.at = self.buffer.len();
            self.seen = self.at;
            return Ok(Some((from, to)));
        }
        Ok(None)
    }

    fn text_values(&self, line: &[u8]) -> Result<Vec<Option<String>>> {
        let mut values = Vec::new();
        let mut start = 0;
        let mut i = 0;
        loop {
            if i >= line.len() || line[i] == self.delimiter {
                values.push(self.text_value(&line[start..i])?);
                if i >= line.len() {
                    return Ok(values);
                }
                start = i + 1;
            } else if line[i] == b'\\' {
                i += 1;
            }
            i += 1;
        }
    }

    fn text_value(&self, raw: &[u8]) -> Result<Option<String>> {
        if raw == self.null {
            return Ok(None);
        }
        if !raw.contains(&b'\\') {
            return utf8(raw.to_vec()).map(Some);
        }
        let mut out = Vec::with_capacity(raw.len());
        let mut i = 0;
        while i < raw.len() {
            if raw[i] != b'\\' || i + 1 >= raw.len() {
                out.push(raw[i]);
                i += 1;
                continue;
            }
            i += 2;
            match raw[i - 1] {
                b'b' => out.push(8),
                b'f' => out.push(12),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'v' => out.push(11),
                b'x' if raw.get(i).is_some_and(u8::is_ascii_hexdigit) => {
                    let (value, len) = number(&raw[i..], 16, 2);
                    out.push(value);
                    i += len;
                }
                c @ b'0'..=b'7' => {
                    let (value, len) = number(&raw[i - 1..], 8, 3);
                    out.push(value);
                    debug_assert!(c.is_ascii_digit());
                    i += len - 1;
                }
                c => out.push(c),
            }
        }
        utf8(out).map(Some)
    }

    fn csv_values(&self, line: &[u8]) -> Result<Vec<Option<String>>> {
        let mut values = Vec::new();
        let mut value = Vec::new();
        let (mut quoted, mut was_quoted) = (false, false);
        let mut i = 0;
        while i < line.len() {
            let byte = line[i];
            if quoted {
                let escapes = byte == self.escape
                    && line.get(i + 1).is_some_and(|n| *n == self.quote || *n == self.escape);
                if escapes {
                    value.push(line[i + 1]);
                    i += 2;
                    continue;
                }
                if byte == self.quote {
                    quoted = false;
                } else {
                    value.push(byte);
                }
            } else if byte == self.quote {
                quoted = true;
                was_quoted = true;
            } else if byte == self.delimiter {
                values.push(self.csv_value(std::mem::take(&mut value), std::mem::take(&mut was_quoted))?);
            } else {
                value.push(byte);
            }
            i += 1;
        }
        values.push(self.csv_value(value, was_quoted)?);
        Ok(values)
    }

    fn csv_value(&self, value: Vec<u8>, was_quoted: bool) -> Result<Option<String>> {
        if !was_quoted && value == self.null {
            return Ok(None);
        }
        utf8(value).map(Some)
    }
}

/// Up to `most` digits of this base at the beginning, and how many there were.
fn number(bytes: &[u8], base: u32, most: usize) -> (u8, usize) {
    let mut value = 0u32;
    let mut len = 0;
    while let Some(digit) = bytes.get(len).filter(|_| len < most).and_then(|b| char::from(*b).to_digit(base))
    {
        value = value * base + digit;
        len += 1;
    }
    ((value & 0xff) as u8, len)
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::InvalidEncoding, "invalid byte sequence for encoding \"UTF8\""))
}

/// The options of COPY, checked as PostgreSQL checks them.
fn copy_options(options: &Options, columns: &[String], out: bool) -> Result<CopyOptions> {
    let text = |v: &OptionValue| v.to_string();
    let format = match options.get("format").map(text).as_deref() {
        None | Some("text") => CopyFormat::Text,
        Some("csv") => CopyFormat::Csv,
        Some("binary") => CopyFormat::Binary,
        Some(other) => {
            return Err(Error::new(
                ErrorKind::InvalidParameter,
                format!("COPY format \"{other}\" not recognized"),
            ));
        }
    };
    let mut read = CopyOptions::new(format);
    for (name, value) in options.iter() {
        let one_byte = |what: &str| -> Result<u8> {
            match value.to_string().as_bytes() {
                [b] => Ok(*b),
                _ => Err(Error::new(
                    ErrorKind::InvalidParameter,
                    format!("COPY {what} must be a single one-byte character"),
                )),
            }
        };
        let csv_only = |what: &str| -> Result<()> {
            if format == CopyFormat::Csv {
                return Ok(());
            }
            Err(Error::new(ErrorKind::FeatureNotSupported, format!("COPY {what} available only in CSV mode")))
        };
        match name {
            "format" => {}
            "delimiter" => read.delimiter = one_byte("delimiter")?,
            "null" => read.null = text(value),
            "header" => {
                if format == CopyFormat::Binary {
                    return Err(Error::new(ErrorKind::Syntax, "cannot specify HEADER in BINARY mode"));
                }
                read.header = match text(value).as_str() {
                    "true" | "on" | "1" | "match" => true,
                    "false" | "off" | "0" => false,
                    _ => {
                        return Err(Error::new(
                            ErrorKind::InvalidParameter,
                            "header requires a Boolean value",
                        ));
                    }
                };
            }
            "quote" => {
                csv_only("quote")?;
                read.quote = one_byte("quote")?;
                if options.get("escape").is_none() {
                    read.escape = read.quote;
                }
            }
            "escape" => {
                csv_only("escape")?;
                read.escape = one_byte("escape")?;
            }
            "force_quote" if out => {
                csv_only("force quote")?;
                let named = match value {
                    OptionValue::List(l) => l.iter().map(text).collect(),
                    other => vec![text(other)],
                };
                read.force_quote = if named.iter().any(|n| n == "*") {
                    (0..columns.len()).collect()
                } else {
                    named
                        .iter()
                        .map(|n| {
                            columns.iter().position(|c| c == n).ok_or_else(|| {
                                Error::new(
                                    ErrorKind::UndefinedColumn,
                                    format!("column \"{n}\" does not exist"),
                                )
                            })
                        })
                        .collect::<Result<_>>()?
                };
            }
            "encoding" if text(value).to_uppercase().replace('-', "") == "UTF8" => {}
            "freeze" if text(value) == "false" => {}
            other => {
                return Err(Error::unsupported(format!("COPY option \"{other}\" is not supported")));
            }
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(options: &CopyOptions, text: &str, cut: usize) -> Result<Vec<Vec<Option<String>>>> {
        let mut splitter = Splitter::new(options);
        let mut records = Vec::new();
        for part in text.as_bytes().chunks(cut) {
            splitter.push(part);
            while let Some(r) = splitter.next(false)? {
                records.push(r);
            }
        }
        while let Some(r) = splitter.next(true)? {
            records.push(r);
        }
        Ok(records)
    }

    #[test]
    fn records_are_the_same_wherever_the_bytes_are_cut() {
        let csv = "a,\"b \"\"x\"\"\nc\",\n,\"\",z\r\nlast,1,2";
        let text = "a\tb\\tc\t\\N\n\\x41\\101\t\\\\N\t\n\\.\nignored";
        let options = CopyOptions::new(CopyFormat::Csv);
        let whole = split(&options, csv, 1000).unwrap();
        assert_eq!(whole[0], vec![Some("a".into()), Some("b \"x\"\nc".into()), None]);
        assert_eq!(whole[1], vec![None, Some(String::new()), Some("z".into())]);
        assert_eq!(whole.len(), 3);
        let plain = CopyOptions::new(CopyFormat::Text);
        let lines = split(&plain, text, 1000).unwrap();
        assert_eq!(lines[0], vec![Some("a".into()), Some("b\tc".into()), None]);
        assert_eq!(lines[1], vec![Some("AA".into()), Some("\\N".into()), Some(String::new())]);
        assert_eq!(lines.len(), 2);
        for cut in 1..csv.len() {
            assert_eq!(split(&options, csv, cut).unwrap(), whole);
        }
        for cut in 1..text.len() {
            assert_eq!(split(&plain, text, cut).unwrap(), lines);
        }
    }

    #[test]
    fn an_open_quote_at_the_end_is_an_error() {
        let e = split(&CopyOptions::new(CopyFormat::Csv), "a,\"b\n", 3).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BadCopyFormat);
    }
}
