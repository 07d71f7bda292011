//! Sources: readers that fetch rows from outside or make them, with offsets to go on from.
//!
//! Boundary: a reader is asked for rows and told the time; it decides nothing about epochs, queues or errors.

pub mod datagen;
pub mod file;
pub mod nexmark;
mod rate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Schema, SchemaRef};
use serde_json::Value;

pub use rate::RateLimit;

use super::options::nearest;
use crate::catalog::object::{Object, ObjectBody};
use crate::error::{Error, ErrorKind, Result};
use crate::time::EventTime;

/// The connectors that sources can use.
pub const CONNECTORS: &[&str] = &["file", "datagen", "nexmark"];

/// What CREATE SOURCE says about where rows come from.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// Name of the connector: file, datagen, nexmark.
    pub connector: String,
    /// Options of WITH, lower case keys; `connector` itself may be among them.
    pub options: BTreeMap<String, String>,
    /// FORMAT … ENCODE …: (format, encoding, options), lower case.
    pub format: Option<(String, String, BTreeMap<String, String>)>,
    /// The columns that the connector fills (declared ones without the generated).
    pub schema: SchemaRef,
}

impl SourceSpec {
    /// What a source of the catalog says; `None` for other objects.
    pub fn of(object: &Object) -> Option<SourceSpec> {
        let ObjectBody::Source { connector, options, format, .. } = &object.body else { return None };
        let own = object.columns.iter().filter(|c| c.generated.is_none());
        let fields = own.map(|c| c.pg_type().field(&c.name, c.nullable)).collect::<Vec<_>>();
        Some(SourceSpec {
            connector: connector.clone(),
            options: options.clone(),
            format: format.clone(),
            schema: Arc::new(Schema::new(fields)),
        })
    }
}

/// Rows of one partition.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    /// The partition: a file, or "0".
    pub partition: String,
    /// The rows; there may be none, when only the offset moved.
    pub rows: RecordBatch,
    /// Where the partition goes on after these rows.
    pub offset_after: Value,
}

/// A record that could not be decoded.
#[derive(Debug)]
pub struct DeadLetter {
    /// Its partition.
    pub partition: String,
    /// Where it begins: byte offset, or row number in files of rows.
    pub offset: i64,
    /// Why it could not be decoded.
    pub error: Error,
    /// Its bytes as they were.
    pub raw: Vec<u8>,
}

/// Dead letters as rows of a source's `$errors`: `schema` has the columns error_time, error_code, error, stage,
/// partition, offset, key, value.
pub fn error_rows(schema: SchemaRef, letters: &[DeadLetter], now: EventTime) -> Result<RecordBatch> {
    let text = |value: &dyn Fn(&DeadLetter) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(letters.iter().map(value)))
    };
    let message = |l: &DeadLetter| match l.error.detail() {
        Some(detail) => format!("{}. {detail}", l.error.message()),
        None => l.error.message().to_string(),
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            TimestampMicrosecondArray::from_value(now.0, letters.len()).with_timezone(crate::types::UTC),
        ),
        text(&|l| l.error.kind().sqlstate().to_string()),
        text(&message),
        text(&|_| "decode".to_string()),
        text(&|l| l.partition.clone()),
        Arc::new(Int64Array::from_iter_values(letters.iter().map(|l| l.offset))),
        Arc::new(BinaryArray::from_iter(letters.iter().map(|_| None::<&[u8]>))),
        Arc::new(BinaryArray::from_iter_values(letters.iter().map(|l| &l.raw))),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Whether and when it is worth asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// At once.
    More,
    /// After this time.
    Idle(Duration),
    /// Never: there will be no more rows.
    Finished,
}

/// What a reader has fetched.
#[derive(Debug)]
pub struct Fetch {
    /// Rows, in order within each partition.
    pub batches: Vec<SourceBatch>,
    /// Records that are not among the rows although the offsets are past them.
    pub dead_letters: Vec<DeadLetter>,
    /// Partitions that cannot be read at present, and why; they are tried again.
    pub problems: Vec<(String, Error)>,
    /// When to ask again.
    pub status: Status,
}

impl Fetch {
    /// Nothing but a status.
    pub fn nothing(status: Status) -> Self {
        Fetch { batches: Vec::new(), dead_letters: Vec::new(), problems: Vec::new(), status }
    }
}

/// A source being read. Two readers opened with the same options at the same offsets deliver the same rows.
pub trait SourceReader: Send {
    /// The next rows: at most about `max_rows` and `max_bytes`, at least one if there is one. `now` is the caller's
    /// clock, used for rates only. An error is final for this reader; what may pass is among the problems.
    fn next(&mut self, max_rows: usize, max_bytes: usize, now: EventTime) -> Result<Fetch>;
}

/// A specification whose options have been read and checked.
#[derive(Debug, Clone)]
pub struct ValidatedSpec {
    schema: SchemaRef,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    File(file::FileOptions),
    Datagen(datagen::DatagenOptions),
    Nexmark(nexmark::NexmarkOptions),
}

impl ValidatedSpec {
    /// Opens a reader. `start`: a JSON object of partitions and the `offset_after` of the last rows taken from each.
    pub fn open(&self, start: Option<&Value>) -> Result<Box<dyn SourceReader>> {
        let start = match start {
            None | Some(Value::Null) => serde_json::Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(other) => return Err(bad_offset(other)),
        };
        Ok(match &self.kind {
            Kind::File(o) => Box::new(file::FileReader::open(o.clone(), self.schema.clone(), &start)?),
            Kind::Datagen(o) => {
                Box::new(datagen::DatagenReader::open(o.clone(), self.schema.clone(), &start)?)
            }
            Kind::Nexmark(o) => {
                Box::new(nexmark::NexmarkReader::open(o.clone(), self.schema.clone(), &start)?)
            }
        })
    }
}

/// Checks a specification at CREATE SOURCE: options, columns, and that a file named outright is there.
pub fn validate(spec: &SourceSpec) -> Result<ValidatedSpec> {
    let validated = read_options(spec)?;
    if let Kind::File(o) = &validated.kind {
        o.check_exists()?;
    }
    Ok(validated)
}

/// Opens a reader for a specification that was once validated.
pub fn open(spec: &SourceSpec, start: Option<&Value>) -> Result<Box<dyn SourceReader>> {
    read_options(spec)?.open(start)
}

/// The columns of a source that declares none, if its connector knows them.
pub fn derive_columns(spec: &SourceSpec) -> Result<Option<SchemaRef>> {
    let options = own_options(spec);
    match spec.connector.as_str() {
        "nexmark" => Ok(Some(nexmark::NexmarkOptions::read(&options)?.table.schema())),
        "datagen" => datagen::derive_columns(&options).map(Some),
        _ => Ok(None),
    }
}

fn own_options(spec: &SourceSpec) -> BTreeMap<String, String> {
    let mut options = spec.options.clone();
    options.remove("connector");
    options
}

fn read_options(spec: &SourceSpec) -> Result<ValidatedSpec> {
    let options = own_options(spec);
    if spec.connector != "file" && spec.format.is_some() {
        return Err(Error::new(
            ErrorKind::InvalidParameter,
            format!(
                "connector \"{}\" makes rows, not bytes: FORMAT … ENCODE … cannot be given",
                spec.connector
            ),
        ));
    }
    if spec.schema.fields().is_empty() {
        return Err(Error::new(ErrorKind::InvalidTableDefinition, "a source must have at least one column"));
    }
    let kind = match spec.connector.as_str() {
        "file" => Kind::File(file::FileOptions::read(&options, spec.format.as_ref(), &spec.schema)?),
        "datagen" => Kind::Datagen(datagen::DatagenOptions::read(&options, &spec.schema)?),
        "nexmark" => {
            let o = nexmark::NexmarkOptions::read(&options)?;
            o.check_columns(&spec.schema)?;
            Kind::Nexmark(o)
        }
        other => {
            let e = Error::new(ErrorKind::InvalidParameter, format!("unknown connector \"{other}\""));
            return Err(match nearest(other, CONNECTORS) {
                Some(n) => e.with_hint(format!("Perhaps you meant \"{n}\".")),
                None => e.with_hint(format!("Connectors of sources are: {}.", CONNECTORS.join(", "))),
            });
        }
    };
    Ok(ValidatedSpec { schema: spec.schema.clone(), kind })
}

/// The number under `key` in the offset of a partition; 0 if the partition has none.
fn offset_number(start: &serde_json::Map<String, Value>, partition: &str, key: &str) -> Result<u64> {
    match start.get(partition) {
        None | Some(Value::Null) => Ok(0),
        Some(v) => v.get(key).and_then(Value::as_u64).ok_or_else(|| bad_offset(v)),
    }
}

fn bad_offset(v: &Value) -> Error {
    Error::new(ErrorKind::DataCorrupted, format!("offset of a source is not readable: {v}"))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Helpers for the tests of sources.
    use super::*;
    use arrow::util::pretty::pretty_format_batches;

    use crate::types::PgType;

    /// A specification from slices.
    pub fn spec(connector: &str, options: &[(&str, &str)], columns: &[(&str, PgType)]) -> SourceSpec {
        SourceSpec {
            connector: connector.into(),
            options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            format: None,
            schema: Arc::new(Schema::new(columns.iter().map(|(n, t)| t.field(*n, true)).collect::<Vec<_>>())),
        }
    }

    /// Reads until the source is finished or idle; gives rows as text, dead letters, and the offsets reached.
    pub fn drain(reader: &mut dyn SourceReader, max_rows: usize) -> (Vec<String>, Vec<DeadLetter>, Value) {
        let (mut rows, mut dead, mut offsets) = (Vec::new(), Vec::new(), serde_json::Map::new());
        loop {
            let f = reader.next(max_rows, 1 << 20, EventTime(0)).expect("readable");
            for b in f.batches {
                rows.extend(lines(&b.rows));
                offsets.insert(b.partition, b.offset_after);
            }
            dead.extend(f.dead_letters);
            if f.status != Status::More {
                return (rows, dead, Value::Object(offsets));
            }
        }
    }

    /// The rows of a batch, one text each.
    pub fn lines(batch: &RecordBatch) -> Vec<String> {
        if batch.num_rows() == 0 {
            return Vec::new();
        }
        let text = pretty_format_batches(std::slice::from_ref(batch)).expect("printable").to_string();
        let lines: Vec<&str> = text.lines().collect();
        lines[3..lines.len() - 1]
            .iter()
            .map(|l| l.split('|').map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>().join(" "))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::spec;
    use super::*;
    use crate::catalog::object::{Column, ObjectId};
    use crate::types::PgType;

    #[test]
    fn an_unknown_connector_is_refused_with_the_nearest_one() {
        let e = validate(&spec("nexmrak", &[], &[("a", PgType::INT4)])).expect_err("unknown");
        assert_eq!(e.hint(), Some("Perhaps you meant \"nexmark\"."));
        let e = validate(&spec("kafka", &[], &[("a", PgType::INT4)])).expect_err("unknown");
        assert_eq!(e.hint(), Some("Connectors of sources are: file, datagen, nexmark."));
    }

    #[test]
    fn columns_are_derived_where_the_connector_knows_them() {
        let s = derive_columns(&spec("nexmark", &[("table", "bid")], &[])).expect("valid").expect("known");
        assert_eq!(s.field(0).name(), "auction");
        assert!(derive_columns(&spec("file", &[("path", "x.csv")], &[])).expect("valid").is_none());
    }

    #[test]
    fn dead_letters_become_rows_of_the_errors_relation() {
        let columns = [
            ("error_time", PgType::TIMESTAMPTZ),
            ("error_code", PgType::TEXT),
            ("error", PgType::TEXT),
            ("stage", PgType::TEXT),
            ("partition", PgType::TEXT),
            ("offset", PgType::INT8),
            ("key", PgType::BYTEA),
            ("value", PgType::BYTEA),
        ];
        let schema = spec("x", &[], &columns).schema;
        let error = Error::new(ErrorKind::InvalidText, "bad").with_detail("Column a.");
        let letters = [DeadLetter { partition: "f".into(), offset: 7, error, raw: b"x".to_vec() }];
        let rows = error_rows(schema, &letters, EventTime(0)).expect("rows");
        assert_eq!(testing::lines(&rows), ["1970-01-01T00:00:00Z 22P02 bad. Column a. decode f 7 78"]);
    }

    #[test]
    fn a_source_of_the_catalog_is_read_without_its_generated_columns() {
        let mut doubled = Column::new("b", PgType::INT8);
        doubled.generated = Some("a * 2".into());
        let mut object = Object {
            id: ObjectId(1),
            schema: "public".into(),
            name: "s".into(),
            columns: vec![Column::new("a", PgType::INT8), doubled],
            body: ObjectBody::View { query: String::new() },
            depends_on: Vec::new(),
            ddl: String::new(),
            search_path: Vec::new(),
            comment: None,
            seen: Vec::new(),
        };
        assert!(SourceSpec::of(&object).is_none());
        object.body = ObjectBody::Source {
            connector: "datagen".into(),
            options: BTreeMap::from([("connector".to_string(), "datagen".to_string())]),
            format: None,
            watermark: None,
            keeps_history: true,
        };
        let s = SourceSpec::of(&object).expect("a source");
        assert_eq!(s.schema.fields().len(), 1);
        validate(&s).expect("valid");
    }
}
