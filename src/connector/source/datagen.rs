//! The datagen source: rows of counted or random values.
//!
//! Row n is a pure function of the seed and n, so that reading on from a row number gives the same rows.
//!
//! Boundary: options, values, pacing and offsets of this connector.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{Schema, SchemaRef};
use serde_json::{Map, Value, json};

use super::{Fetch, RateLimit, SourceBatch, SourceReader, Status, offset_number};
use crate::config::parse_duration_micros;
use crate::connector::options::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::time::EventTime;
use crate::types::text::{TextOptions, parse_column};
use crate::types::{PgType, oid};

const PARTITION: &str = "0";
const KNOWN: &[&str] = &["rows", "rate", "rows.per.second", "seed", "batch.size", "fields."];
const FIELD_KNOWN: &[&str] = &["kind", "start", "end", "step", "min", "max", "length", "seed"];
/// 2020-01-01, where sequences of timestamps begin.
const FIRST_TIME: i64 = 1_577_836_800_000_000;
const DAY: i64 = 86_400_000_000;

/// How the values of one column are made.
#[derive(Debug, Clone, PartialEq)]
enum Make {
    /// start, start + step, …
    Sequence { start: i64, step: i64, rows: Option<u64> },
    /// Whole numbers (also moments and days) from min to max.
    Random { min: i64, max: i64 },
    /// Numbers with fraction from min to max.
    Real { min: f64, max: f64 },
    /// true or false.
    Coin,
    /// So many random letters and digits.
    Letters(usize),
}

/// What the whole numbers of [`Make`] count, which decides the text that the column's type reads.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Number,
    Text,
    Micros,
    Days,
    Bool,
}

#[derive(Debug, Clone)]
struct FieldSpec {
    make: Make,
    unit: Unit,
    seed: u64,
}

/// The options of a datagen source.
#[derive(Debug, Clone)]
pub struct DatagenOptions {
    fields: Vec<FieldSpec>,
    /// Rows in all; `None` never ends.
    pub rows: Option<u64>,
    /// Rows per second; `None` is as fast as they are taken.
    pub rate: Option<f64>,
    batch_rows: usize,
}

/// The columns that the `fields.…` options name, when none are declared: counted ones are bigint, random ones with
/// a length text, other random ones bigint.
pub fn derive_columns(options: &BTreeMap<String, String>) -> Result<SchemaRef> {
    let groups = field_groups(options)?;
    if groups.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidTableDefinition,
            "connector \"datagen\" requires columns or options \"fields.….kind\"",
        ));
    }
    let fields = groups.iter().map(|(name, o)| {
        let t = if o.contains_key("length") { PgType::TEXT } else { PgType::INT8 };
        t.field(name, true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// `fields.<column>.<option>` by column.
fn field_groups(options: &BTreeMap<String, String>) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut groups: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (key, value) in options {
        let Some(rest) = key.strip_prefix("fields.") else { continue };
        let (column, option) = rest.rsplit_once('.').ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidParameter,
                format!("option \"{key}\" is not of the form \"fields.column.option\""),
            )
        })?;
        groups.entry(column.to_string()).or_default().insert(option.to_string(), value.clone());
    }
    Ok(groups)
}

impl DatagenOptions {
    /// Reads and checks the options for these columns.
    pub fn read(options: &BTreeMap<String, String>, schema: &SchemaRef) -> Result<Self> {
        let o = Options::new("connector \"datagen\"", options);
        o.refuse_unknown(KNOWN)?;
        let seed = o.parse::<u64>("seed", "a whole number")?.unwrap_or(0);
        let groups = field_groups(options)?;
        let none = BTreeMap::new();
        for column in groups.keys() {
            if schema.field_with_name(column).is_err() {
                return Err(Error::new(
                    ErrorKind::UndefinedColumn,
                    format!("column \"{column}\" does not exist"),
                )
                .with_hint(format!("An option \"fields.{column}.…\" names it.")));
            }
        }
        let fields = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(i, f)| {
                let of = format!("column \"{}\" of connector \"datagen\"", f.name());
                let o = Options::new(&of, groups.get(f.name()).unwrap_or(&none));
                o.refuse_unknown(FIELD_KNOWN)?;
                let own = o.parse::<u64>("seed", "a whole number")?.unwrap_or(i as u64);
                let (make, unit) = read_field(&o, PgType::of_field(f), f.name())?;
                Ok(FieldSpec { make, unit, seed: mix(seed ^ mix(own)) })
            })
            .collect::<Result<Vec<_>>>()?;
        // A sequence with an end is the end of the source.
        let ends = fields.iter().filter_map(|f| match f.make {
            Make::Sequence { rows, .. } => rows,
            _ => None,
        });
        let rows = o.parse::<u64>("rows", "a whole number")?.into_iter().chain(ends).min();
        let rate = match o.get("rate") {
            Some("unlimited") => None,
            Some(_) => o.positive("rate")?,
            None => o.positive("rows.per.second")?,
        };
        let batch_rows = o.positive("batch.size")?.map_or(8192, |n| n.min(1 << 20) as usize);
        Ok(DatagenOptions { fields, rows, rate: rate.map(|r| r as f64), batch_rows })
    }
}

fn read_field(o: &Options<'_>, pg: PgType, column: &str) -> Result<(Make, Unit)> {
    let (unit, limits) = match pg.oid {
        oid::INT2 => (Unit::Number, (i64::from(i16::MIN), i64::from(i16::MAX))),
        oid::INT4 => (Unit::Number, (i64::from(i32::MIN), i64::from(i32::MAX))),
        oid::INT8 | oid::FLOAT4 | oid::FLOAT8 | oid::NUMERIC => (Unit::Number, (i64::MIN, i64::MAX)),
        oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            (Unit::Micros, (-62_000_000_000_000_000, 250_000_000_000_000_000))
        }
        oid::DATE => (Unit::Days, (-700_000, 2_900_000)),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR => (Unit::Text, (i64::MIN, i64::MAX)),
        oid::BOOL => (Unit::Bool, (0, 1)),
        _ => {
            return Err(Error::unsupported(format!(
                "connector \"datagen\" does not make values of type {} (column \"{column}\")",
                pg.sql_name()
            )));
        }
    };
    let real = matches!(pg.oid, oid::FLOAT4 | oid::FLOAT8 | oid::NUMERIC);
    let kind = o.get("kind").unwrap_or("random");
    let make = match kind {
        "sequence" if unit == Unit::Bool => {
            return Err(o.invalid("kind", kind, "random for a column of type boolean"));
        }
        "sequence" => {
            let start = bound(o, "start", unit)?.unwrap_or(match unit {
                Unit::Micros => FIRST_TIME,
                Unit::Days => FIRST_TIME / DAY,
                _ => 0,
            });
            let step = match (unit, o.get("step")) {
                (Unit::Micros, Some(t)) => {
                    parse_duration_micros(t).ok_or_else(|| o.invalid("step", t, "a time such as 100ms"))?
                }
                (Unit::Micros, None) => 1_000_000,
                _ => o.parse("step", "a whole number greater than zero")?.unwrap_or(1),
            };
            if step < 1 {
                return Err(o.invalid("step", &step.to_string(), "greater than zero"));
            }
            let end = bound(o, "end", unit)?.unwrap_or(limits.1).min(limits.1);
            if end < start || start < limits.0 {
                return Err(o.invalid(
                    "end",
                    &end.to_string(),
                    "not before \"start\" and within the column's type",
                ));
            }
            let rows = (i128::from(end) - i128::from(start)) / i128::from(step) + 1;
            Make::Sequence { start, step, rows: u64::try_from(rows).ok() }
        }
        "random" if unit == Unit::Bool => Make::Coin,
        "random" if unit == Unit::Text => {
            let length = o.positive("length")?.map_or(10, |n| n.min(1 << 20) as usize);
            Make::Letters(pg.max_chars().map_or(length, |most| length.min(most)))
        }
        "random" if real => {
            let number = |name| o.parse::<f64>(name, "a number").map(|v| v.filter(|v| v.is_finite()));
            let (min, max) = (number("min")?.unwrap_or(0.0), number("max")?.unwrap_or(1000.0));
            if max < min {
                return Err(o.invalid("max", &max.to_string(), "not less than \"min\""));
            }
            Make::Real { min, max }
        }
        "random" => {
            let (low, high) = match unit {
                Unit::Micros => (FIRST_TIME, FIRST_TIME + 365 * DAY),
                Unit::Days => (FIRST_TIME / DAY, FIRST_TIME / DAY + 365),
                _ => (0, 1000),
            };
            let (min, max) = (bound(o, "min", unit)?.unwrap_or(low), bound(o, "max", unit)?.unwrap_or(high));
            if max < min || min < limits.0 || max > limits.1 {
                return Err(o.invalid(
                    "max",
                    &max.to_string(),
                    "not less than \"min\" and within the column's type",
                ));
            }
            Make::Random { min, max }
        }
        other => return Err(o.invalid("kind", other, "sequence or random")),
    };
    Ok((make, unit))
}

/// A bound: a whole number, a moment or a day as the column's type reads it.
fn bound(o: &Options<'_>, name: &str, unit: Unit) -> Result<Option<i64>> {
    use arrow::array::AsArray;
    use arrow::datatypes::{Date32Type, TimestampMicrosecondType};
    let Some(text) = o.get(name) else { return Ok(None) };
    let value = std::iter::once(Some(text));
    let options = TextOptions::default();
    Ok(Some(match unit {
        Unit::Micros => parse_column(PgType::TIMESTAMPTZ, value, &options)?
            .as_primitive::<TimestampMicrosecondType>()
            .value(0),
        Unit::Days => {
            i64::from(parse_column(PgType::DATE, value, &options)?.as_primitive::<Date32Type>().value(0))
        }
        _ => return o.parse(name, "a whole number"),
    }))
}

/// Reads datagen rows; the offset is the number of the next row.
pub struct DatagenReader {
    options: DatagenOptions,
    schema: SchemaRef,
    next_row: u64,
    limit: RateLimit,
}

impl DatagenReader {
    /// Opens a reader at the offsets.
    pub fn open(options: DatagenOptions, schema: SchemaRef, start: &Map<String, Value>) -> Result<Self> {
        let limit = RateLimit::new(options.rate);
        Ok(DatagenReader { next_row: offset_number(start, PARTITION, "row")?, limit, options, schema })
    }

    fn make(&self, first: u64, rows: usize) -> Result<RecordBatch> {
        let columns = self
            .options
            .fields
            .iter()
            .zip(self.schema.fields())
            .map(|(spec, field)| spec.column(PgType::of_field(field), first, rows))
            .collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

impl FieldSpec {
    fn column(&self, pg: PgType, first: u64, rows: usize) -> Result<ArrayRef> {
        use arrow::array::{BooleanArray, Int64Array};
        use arrow::compute::cast;
        use arrow::datatypes::DataType;
        let random = |row: usize| mix(self.seed ^ mix(first + row as u64));
        let whole: ArrayRef = match &self.make {
            Make::Sequence { start, step, .. } => {
                let at = |row: usize| start.wrapping_add((first as i64 + row as i64).wrapping_mul(*step));
                Arc::new(Int64Array::from_iter_values((0..rows).map(at)))
            }
            Make::Random { min, max } => {
                let span = (i128::from(*max) - i128::from(*min) + 1) as u128;
                let at =
                    |row: usize| (i128::from(*min) + ((u128::from(random(row)) * span) >> 64) as i128) as i64;
                Arc::new(Int64Array::from_iter_values((0..rows).map(at)))
            }
            Make::Real { min, max } => {
                let at = |row: usize| min + (max - min) * ((random(row) >> 11) as f64 / (1u64 << 53) as f64);
                let values = arrow::array::Float64Array::from_iter_values((0..rows).map(at));
                return Ok(cast(&values, &pg.arrow())?);
            }
            Make::Coin => {
                return Ok(Arc::new(BooleanArray::from_iter(
                    (0..rows).map(|row| Some(random(row) >> 63 == 1)),
                )));
            }
            Make::Letters(length) => return Ok(letters(*length, rows, random)),
        };
        let narrow = match self.unit {
            Unit::Days => cast(&whole, &DataType::Int32)?,
            _ => whole,
        };
        Ok(cast(&narrow, &pg.arrow())?)
    }
}

fn letters(length: usize, rows: usize, random: impl Fn(usize) -> u64) -> ArrayRef {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut out = StringBuilder::with_capacity(rows, rows * length);
    let mut text = String::with_capacity(length);
    for row in 0..rows {
        text.clear();
        let mut state = random(row);
        for i in 0..length {
            // Twelve letters of five bits each from one random number.
            if i % 12 == 0 {
                state = mix(state.wrapping_add(i as u64));
            }
            text.push(char::from(ALPHABET[(state >> (5 * (i % 12))) as usize & 31]));
        }
        out.append_value(&text);
    }
    Arc::new(out.finish())
}

fn mix(z: u64) -> u64 {
    let mut z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SourceReader for DatagenReader {
    fn next(&mut self, max_rows: usize, max_bytes: usize, now: EventTime) -> Result<Fetch> {
        let left = self.options.rows.map_or(u64::MAX, |n| n.saturating_sub(self.next_row));
        if left == 0 {
            return Ok(Fetch::nothing(Status::Finished));
        }
        let allowed = match self.limit.allowed(self.next_row, now) {
            Ok(n) => n,
            Err(wait) => return Ok(Fetch::nothing(Status::Idle(wait))),
        };
        let width: usize = self
            .options
            .fields
            .iter()
            .map(|f| match f.make {
                Make::Letters(n) => n + 4,
                _ => 16,
            })
            .sum();
        let wanted = max_rows.min(self.options.batch_rows).min(max_bytes / width.max(1)).max(1) as u64;
        let rows = wanted.min(left).min(allowed);
        let batch = self.make(self.next_row, rows as usize)?;
        self.next_row += rows;
        let batch = SourceBatch {
            partition: PARTITION.into(),
            rows: batch,
            offset_after: json!({ "row": self.next_row }),
        };
        let status = if rows == left { Status::Finished } else { Status::More };
        Ok(Fetch { batches: vec![batch], ..Fetch::nothing(status) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{drain, spec};
    use super::super::{derive_columns as derive, open, validate};
    use super::*;

    fn full() -> super::super::SourceSpec {
        spec(
            "datagen",
            &[
                ("rows", "100"),
                ("seed", "3"),
                ("fields.id.kind", "sequence"),
                ("fields.id.start", "10"),
                ("fields.t.kind", "sequence"),
                ("fields.t.start", "2024-02-28 00:00:00"),
                ("fields.t.step", "1h"),
                ("fields.s.length", "5"),
                ("fields.n.min", "-5"),
                ("fields.n.max", "5"),
            ],
            &[
                ("id", PgType::INT4),
                ("t", PgType::TIMESTAMPTZ),
                ("s", PgType::TEXT),
                ("n", PgType::INT8),
                ("x", PgType::FLOAT8),
                ("m", PgType::numeric(10, 2)),
                ("d", PgType::DATE),
                ("b", PgType::BOOL),
            ],
        )
    }

    #[test]
    fn rows_are_the_same_from_any_offset() {
        let (all, _, end) = drain(&mut *open(&full(), None).expect("open"), 7);
        assert_eq!(all.len(), 100);
        assert_eq!(end, json!({ "0": { "row": 100 } }));
        for from in [1, 50, 99, 100] {
            let offset = json!({ "0": { "row": from } });
            let (rest, _, _) = drain(&mut *open(&full(), Some(&offset)).expect("open"), 1000);
            assert_eq!(rest, all[from..]);
        }
        assert!(
            all[0].starts_with("10 2024-02-28T00:00:00Z ") && all[24].starts_with("34 2024-02-29T00:00:00Z ")
        );
    }

    #[test]
    fn a_sequence_with_an_end_ends_the_source() {
        let s = spec(
            "datagen",
            &[("fields.a.kind", "sequence"), ("fields.a.start", "1"), ("fields.a.end", "3")],
            &[("a", PgType::INT4)],
        );
        assert_eq!(drain(&mut *open(&s, None).expect("open"), 10).0, ["1", "2", "3"]);
    }

    #[test]
    fn wrong_options_are_refused() {
        let refused =
            |o: &[(&str, &str)]| validate(&spec("datagen", o, &[("a", PgType::INT2)])).expect_err("refused");
        assert_eq!(refused(&[("fields.a.knid", "x")]).hint(), Some("Perhaps you meant \"kind\"."));
        assert_eq!(refused(&[("fields.b.kind", "random")]).kind(), ErrorKind::UndefinedColumn);
        assert_eq!(refused(&[("fields.a.max", "70000")]).kind(), ErrorKind::InvalidParameter);
        assert_eq!(refused(&[("rows", "many")]).kind(), ErrorKind::InvalidParameter);
        assert!(validate(&spec("datagen", &[], &[("u", PgType::UUID)])).is_err());
    }

    #[test]
    fn columns_are_derived_from_the_options() {
        let s = spec("datagen", &[("fields.id.kind", "sequence"), ("fields.name.length", "3")], &[]);
        let columns = derive(&s).expect("derived").expect("known");
        let names: Vec<_> =
            columns.fields().iter().map(|f| (f.name().as_str(), PgType::of_field(f))).collect();
        assert_eq!(names, [("id", PgType::INT8), ("name", PgType::TEXT)]);
        assert!(derive(&spec("datagen", &[], &[])).is_err());
    }
}
