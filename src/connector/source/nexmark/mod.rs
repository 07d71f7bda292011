//! The Nexmark source: persons, auctions and bids of an auction site, made by a generator of our own.
//!
//! Boundary: options, pacing and offsets; the events themselves are the [`generator`]'s.

mod generator;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Map, Value, json};

pub use generator::{EVENTS_PER_ROUND, Generator, GeneratorConfig, NexmarkBatches};

use super::{Fetch, RateLimit, SourceBatch, SourceReader, Status, offset_number};
use crate::connector::options::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::time::EventTime;
use crate::types::PgType;

const PARTITION: &str = "0";
const KNOWN: &[&str] = &["table", "seed", "events", "rate", "event.rate", "base.time", "batch.size"];
/// Other systems' names for the same options.
const ALIASES: &[(&str, &str)] = &[
    ("nexmark.table.type", "table"),
    ("table.type", "table"),
    ("nexmark.event.num", "events"),
    ("event.num", "events"),
    ("max.events", "events"),
    ("rows.per.second", "rate"),
    ("batch_size", "batch.size"),
    ("event_rate", "event.rate"),
    ("base_time", "base.time"),
];

/// One of the three relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Who sells and bids.
    Person,
    /// What is sold.
    Auction,
    /// What is offered for it.
    Bid,
}

impl Table {
    /// The standard columns.
    pub fn schema(self) -> SchemaRef {
        let (long, text, time) = (PgType::INT8, PgType::VARCHAR, PgType::TIMESTAMP);
        let columns: &[(&str, PgType)] = match self {
            Table::Person => &[
                ("id", long),
                ("name", text),
                ("email_address", text),
                ("credit_card", text),
                ("city", text),
                ("state", text),
                ("date_time", time),
                ("extra", text),
            ],
            Table::Auction => &[
                ("id", long),
                ("item_name", text),
                ("description", text),
                ("initial_bid", long),
                ("reserve", long),
                ("date_time", time),
                ("expires", time),
                ("seller", long),
                ("category", long),
                ("extra", text),
            ],
            Table::Bid => &[
                ("auction", long),
                ("bidder", long),
                ("price", long),
                ("channel", text),
                ("url", text),
                ("date_time", time),
                ("extra", text),
            ],
        };
        Arc::new(Schema::new(columns.iter().map(|(n, t)| t.field(*n, true)).collect::<Vec<Field>>()))
    }

    /// How many events from event `n` on come before the first one of this table.
    fn events_before(self, n: u64) -> u64 {
        let place = n % EVENTS_PER_ROUND;
        let (first, end) = match self {
            Table::Person => (0, 1),
            Table::Auction => (1, 4),
            Table::Bid => (4, EVENTS_PER_ROUND),
        };
        if place < first {
            first - place
        } else if place >= end {
            EVENTS_PER_ROUND - place + first
        } else {
            0
        }
    }

    /// How many of 50 events are of this table.
    fn share(self) -> u64 {
        match self {
            Table::Person => 1,
            Table::Auction => 3,
            Table::Bid => 46,
        }
    }
}

/// The options of a nexmark source.
#[derive(Debug, Clone)]
pub struct NexmarkOptions {
    /// Which relation it is.
    pub table: Table,
    /// What the generator makes.
    pub config: GeneratorConfig,
    /// Events of all three relations together; `None` never ends.
    pub events: Option<u64>,
    /// Events per second of wall time; `None` is as fast as they are taken.
    pub rate: Option<f64>,
    /// Greatest number of rows in a batch.
    pub batch_rows: usize,
}

impl NexmarkOptions {
    /// Reads and checks the options.
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self> {
        let renamed: BTreeMap<String, String> = options
            .iter()
            .map(|(k, v)| {
                let name = ALIASES.iter().find(|(alias, _)| alias == k).map_or(k.as_str(), |(_, name)| name);
                (name.to_string(), v.clone())
            })
            .collect();
        let o = Options::new("connector \"nexmark\"", &renamed);
        o.refuse_unknown(KNOWN)?;
        let table = match o.require("table")?.to_ascii_lowercase().as_str() {
            "person" => Table::Person,
            "auction" => Table::Auction,
            "bid" => Table::Bid,
            other => return Err(o.invalid("table", other, "person, auction or bid")),
        };
        let mut config = GeneratorConfig::default();
        if let Some(seed) = o.parse("seed", "a whole number")? {
            config.seed = seed;
        }
        if let Some(rate) = o.positive("event.rate")? {
            config.event_rate = rate;
        }
        if let Some(ms) = o.parse::<i64>("base.time", "a time in milliseconds since 1970")? {
            config.base_time = ms.checked_mul(1000).ok_or_else(|| {
                o.invalid("base.time", &ms.to_string(), "a time in milliseconds since 1970")
            })?;
        }
        let rate = match o.get("rate") {
            None | Some("unlimited") => None,
            Some(_) => o.positive("rate")?.map(|r| r as f64),
        };
        let events = o.parse::<u64>("events", "a whole number")?;
        let batch_rows = o.positive("batch.size")?.map_or(8192, |n| n.min(1 << 20) as usize);
        Ok(NexmarkOptions { table, config, events, rate, batch_rows })
    }

    /// Every declared column must be one of the table's, of a type that its values can be cast to.
    pub fn check_columns(&self, schema: &Schema) -> Result<()> {
        let standard = self.table.schema();
        for field in schema.fields() {
            let Ok(own) = standard.field_with_name(field.name()) else {
                let names: Vec<&str> = standard.fields().iter().map(|f| f.name().as_str()).collect();
                return Err(Error::new(
                    ErrorKind::UndefinedColumn,
                    format!("connector \"nexmark\" has no column \"{}\"", field.name()),
                )
                .with_hint(format!("Its columns are: {}.", names.join(", "))));
            };
            let numbers = |t: &DataType| t.is_numeric();
            let (from, to) = (own.data_type(), field.data_type());
            let sensible = from == to
                || *to == DataType::Utf8
                || (numbers(from) && numbers(to))
                || (from.is_temporal() && matches!(to, DataType::Timestamp(..)));
            if !sensible || !can_cast_types(from, to) {
                return Err(Error::new(
                    ErrorKind::DatatypeMismatch,
                    format!(
                        "column \"{}\" is of type {} but is declared as {}",
                        field.name(),
                        PgType::of_field(own).sql_name(),
                        PgType::of_field(field).sql_name()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Reads one of the three relations; its offset is the number of the next event.
pub struct NexmarkReader {
    options: NexmarkOptions,
    schema: SchemaRef,
    generator: Generator,
    next_event: u64,
    limit: RateLimit,
}

impl NexmarkReader {
    /// Opens a reader at the offsets.
    pub fn open(options: NexmarkOptions, schema: SchemaRef, start: &Map<String, Value>) -> Result<Self> {
        options.check_columns(&schema)?;
        Ok(NexmarkReader {
            generator: Generator::new(options.config.clone()),
            next_event: offset_number(start, PARTITION, "event")?,
            limit: RateLimit::new(options.rate),
            options,
            schema,
        })
    }

    /// The declared columns out of the standard ones.
    fn shape(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = self
            .schema
            .fields()
            .iter()
            .map(|f| {
                let column = rows.column_by_name(f.name()).ok_or_else(|| {
                    Error::internal(format!("nexmark column \"{}\" was not checked", f.name()))
                })?;
                Ok(cast_with_options(column, f.data_type(), &strict)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl SourceReader for NexmarkReader {
    fn next(&mut self, max_rows: usize, max_bytes: usize, now: EventTime) -> Result<Fetch> {
        let left = self.options.events.map_or(u64::MAX, |n| n.saturating_sub(self.next_event));
        if left == 0 {
            return Ok(Fetch::nothing(Status::Finished));
        }
        // The next event that is a row of this table is waited for; those before it come with it.
        let skipped = self.options.table.events_before(self.next_event).min(left - 1);
        let allowed = match self.limit.allowed(self.next_event + skipped, now) {
            Ok(n) => n.saturating_add(skipped),
            Err(wait) => return Ok(Fetch::nothing(Status::Idle(wait))),
        };
        // A row is some 200 bytes wide; the others' events between them cost nothing.
        let rows = max_rows.min(self.options.batch_rows).min(max_bytes / 200).max(1) as u64;
        let rounds = rows.div_ceil(self.options.table.share());
        let count = (rounds * EVENTS_PER_ROUND).min(left).min(allowed);
        let end = self.next_event + count;
        let rows = self.shape(&self.generator.generate_table(self.options.table, self.next_event..end)?)?;
        self.next_event = end;
        let status = if count == left { Status::Finished } else { Status::More };
        let batch = SourceBatch { partition: PARTITION.into(), rows, offset_after: json!({ "event": end }) };
        Ok(Fetch { batches: vec![batch], ..Fetch::nothing(status) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{drain, lines, spec};
    use super::super::{open, validate};
    use super::*;

    #[test]
    fn reading_on_from_any_offset_gives_the_same_rows_exactly_once() {
        for table in ["person", "auction", "bid"] {
            let o = NexmarkOptions::read(&BTreeMap::from([("table".to_string(), table.to_string())]))
                .expect("options");
            let s = SourceSpecWith::columns(table, o.table.schema());
            let (all, dead, _) = drain(&mut *open(&s, None).expect("open"), 37);
            assert!(dead.is_empty());
            let mut pieces = Vec::new();
            let mut offset = Value::Null;
            loop {
                let mut reader = open(&s, Some(&offset)).expect("open");
                let f = reader.next(10, 1 << 20, EventTime(0)).expect("next");
                for b in &f.batches {
                    pieces.extend(lines(&b.rows));
                    offset = json!({ "0": b.offset_after });
                }
                if f.status == Status::Finished {
                    break;
                }
            }
            assert_eq!(all, pieces, "{table}");
        }
    }

    struct SourceSpecWith;
    impl SourceSpecWith {
        fn columns(table: &str, schema: SchemaRef) -> super::super::SourceSpec {
            super::super::SourceSpec {
                schema,
                ..spec("nexmark", &[("table", table), ("events", "2017")], &[])
            }
        }
    }

    #[test]
    fn columns_may_be_a_selection_with_other_types() {
        let s = spec(
            "nexmark",
            &[("nexmark.table.type", "Bid"), ("events", "50")],
            &[("price", PgType::numeric(20, 2)), ("date_time", PgType::TIMESTAMPTZ)],
        );
        let (rows, _, offsets) = drain(&mut *open(&s, None).expect("open"), 1000);
        assert_eq!(rows.len(), 46);
        assert_eq!(offsets, json!({ "0": { "event": 50 } }));
        let e = validate(&spec("nexmark", &[("table", "bid")], &[("x", PgType::INT4)])).expect_err("unknown");
        assert_eq!(e.message(), "connector \"nexmark\" has no column \"x\"");
        assert!(validate(&spec("nexmark", &[("table", "bid")], &[("url", PgType::INT4)])).is_err());
        assert!(validate(&spec("nexmark", &[], &[("url", PgType::TEXT)])).is_err());
    }

    #[test]
    fn a_rate_lets_the_reader_wait() {
        let s = spec("nexmark", &[("table", "person"), ("rate", "100")], &[("id", PgType::INT8)]);
        let mut r = open(&s, None).expect("open");
        assert_eq!(r.next(100, 1 << 20, EventTime(0)).expect("next").status, Status::More);
        let f = r.next(100, 1 << 20, EventTime(0)).expect("next");
        assert_eq!(f.status, Status::Idle(std::time::Duration::from_millis(500)));
        let f = r.next(100, 1 << 20, EventTime(10_000_000)).expect("next");
        assert_eq!(f.batches[0].offset_after, json!({ "event": 1001 }));
    }
}
