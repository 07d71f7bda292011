//! PostgreSQL's types over Arrow's: which OID a column has, how wide it is, how its values read as text.
//!
//! A column carries its PostgreSQL type (oid, typmod) in the metadata of its Arrow field, put there when the
//! statement is bound and kept through views; where the metadata is absent the Arrow type decides.
//!
//! | PostgreSQL | Arrow |
//! |---|---|
//! | bool | Boolean |
//! | int2, int4, int8, oid | Int16, Int32, Int64, Int64 |
//! | float4, float8 | Float32, Float64 |
//! | numeric(p,s) | Decimal128(p,s) up to p = 38, Decimal256 above |
//! | numeric without modifier | Decimal128(38, 18): more fraction digits are refused, never rounded away |
//! | text, varchar(n), bpchar(n), name, json, jsonb | Utf8 |
//! | bytea | Binary |
//! | date, time | Date32, Time64(µs) |
//! | timestamp, timestamptz | Timestamp(µs), Timestamp(µs, "UTC") |
//! | interval | Interval(MonthDayNano) |
//! | uuid | FixedSizeBinary(16) |
//! | arrays | List |
//!
//! Boundary: values and types only; nothing of relations, protocols or expressions.

pub mod text;

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};

/// The time zone of every timestamptz column in memory; sessions show it in their own.
pub const UTC: &str = "UTC";
/// Scale of a numeric column declared without precision.
pub const FREE_NUMERIC_SCALE: i8 = 18;

const OID_KEY: &str = "pg.oid";
const TYPMOD_KEY: &str = "pg.typmod";

/// OIDs of PostgreSQL's built-in types (pg_type.dat).
#[allow(missing_docs)]
pub mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const REGPROC: u32 = 24;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC: u32 = 1700;
    pub const REGCLASS: u32 = 2205;
    pub const REGTYPE: u32 = 2206;
    pub const VOID: u32 = 2278;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
}

/// (type, its array type) for every type whose array is known.
const ARRAYS: &[(u32, u32)] = &[
    (oid::BOOL, 1000),
    (oid::BYTEA, 1001),
    (oid::CHAR, 1002),
    (oid::NAME, 1003),
    (oid::INT2, 1005),
    (oid::INT4, 1007),
    (oid::TEXT, 1009),
    (oid::BPCHAR, 1014),
    (oid::VARCHAR, 1015),
    (oid::INT8, 1016),
    (oid::FLOAT4, 1021),
    (oid::FLOAT8, 1022),
    (oid::OID, 1028),
    (oid::TIMESTAMP, 1115),
    (oid::DATE, 1182),
    (oid::TIME, 1183),
    (oid::TIMESTAMPTZ, 1185),
    (oid::INTERVAL, 1187),
    (oid::NUMERIC, 1231),
    (oid::JSON, 199),
    (oid::UUID, 2951),
    (oid::JSONB, 3807),
];

/// A PostgreSQL type: OID and type modifier (-1: none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PgType {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `pg_attribute.atttypmod`; numeric(p,s) is `((p << 16) | s) + 4`, varchar(n) is `n + 4`.
    pub typmod: i32,
}

#[allow(missing_docs)]
impl PgType {
    pub const BOOL: PgType = PgType::of(oid::BOOL);
    pub const INT2: PgType = PgType::of(oid::INT2);
    pub const INT4: PgType = PgType::of(oid::INT4);
    pub const INT8: PgType = PgType::of(oid::INT8);
    pub const FLOAT4: PgType = PgType::of(oid::FLOAT4);
    pub const FLOAT8: PgType = PgType::of(oid::FLOAT8);
    pub const NUMERIC: PgType = PgType::of(oid::NUMERIC);
    pub const TEXT: PgType = PgType::of(oid::TEXT);
    pub const VARCHAR: PgType = PgType::of(oid::VARCHAR);
    pub const BYTEA: PgType = PgType::of(oid::BYTEA);
    pub const DATE: PgType = PgType::of(oid::DATE);
    pub const TIME: PgType = PgType::of(oid::TIME);
    pub const TIMESTAMP: PgType = PgType::of(oid::TIMESTAMP);
    pub const TIMESTAMPTZ: PgType = PgType::of(oid::TIMESTAMPTZ);
    pub const INTERVAL: PgType = PgType::of(oid::INTERVAL);
    pub const UUID: PgType = PgType::of(oid::UUID);
    pub const JSONB: PgType = PgType::of(oid::JSONB);
    pub const UNKNOWN: PgType = PgType::of(oid::UNKNOWN);

    /// The type without a modifier.
    pub const fn of(oid: u32) -> Self {
        PgType { oid, typmod: -1 }
    }

    /// numeric(precision, scale).
    pub fn numeric(precision: u8, scale: i8) -> Self {
        PgType { oid: oid::NUMERIC, typmod: ((i32::from(precision) << 16) | (i32::from(scale) & 0x7ff)) + 4 }
    }

    /// Precision and scale of a numeric with a modifier.
    pub fn numeric_parts(self) -> Option<(u8, i8)> {
        if self.oid != oid::NUMERIC || self.typmod < 4 {
            return None;
        }
        let m = self.typmod - 4;
        let scale = ((m & 0x7ff) ^ 1024) - 1024;
        Some(((m >> 16) as u8, scale as i8))
    }

    /// Greatest length in characters of a varchar(n) or char(n).
    pub fn max_chars(self) -> Option<usize> {
        matches!(self.oid, oid::VARCHAR | oid::BPCHAR)
            .then(|| usize::try_from(self.typmod - 4).ok())
            .flatten()
    }

    /// The array type of this type.
    pub fn array_oid(self) -> Option<u32> {
        ARRAYS.iter().find(|(e, _)| *e == self.oid).map(|(_, a)| *a)
    }

    /// The element type, when this is an array type.
    pub fn element(self) -> Option<PgType> {
        ARRAYS.iter().find(|(_, a)| *a == self.oid).map(|(e, _)| PgType { oid: *e, typmod: self.typmod })
    }

    /// `pg_type.typlen`: bytes of a value, -1 when they vary, -2 for C strings.
    pub fn typlen(self) -> i16 {
        match self.oid {
            oid::BOOL | oid::CHAR => 1,
            oid::INT2 => 2,
            oid::INT4
            | oid::FLOAT4
            | oid::DATE
            | oid::OID
            | oid::REGCLASS
            | oid::REGTYPE
            | oid::REGPROC
            | oid::VOID => 4,
            oid::INT8 | oid::FLOAT8 | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ => 8,
            oid::INTERVAL | oid::UUID => 16,
            oid::NAME => 64,
            oid::UNKNOWN => -2,
            _ => -1,
        }
    }

    /// The Arrow type that holds values of this type.
    pub fn arrow(self) -> DataType {
        match self.oid {
            oid::BOOL => DataType::Boolean,
            oid::INT2 => DataType::Int16,
            oid::INT4 => DataType::Int32,
            oid::INT8 | oid::OID | oid::REGCLASS | oid::REGTYPE | oid::REGPROC => DataType::Int64,
            oid::FLOAT4 => DataType::Float32,
            oid::FLOAT8 => DataType::Float64,
            oid::NUMERIC => match self.numeric_parts() {
                Some((p, s)) if p <= 38 => DataType::Decimal128(p, s),
                Some((p, s)) => DataType::Decimal256(p, s),
                None => DataType::Decimal128(38, FREE_NUMERIC_SCALE),
            },
            oid::BYTEA => DataType::Binary,
            oid::DATE => DataType::Date32,
            oid::TIME => DataType::Time64(TimeUnit::Microsecond),
            oid::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
            oid::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            oid::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
            oid::UUID => DataType::FixedSizeBinary(16),
            _ => match self.element() {
                Some(e) => DataType::List(FieldRef::new(Field::new("item", e.arrow(), true))),
                None => DataType::Utf8,
            },
        }
    }

    /// The PostgreSQL type that an Arrow type stands for when nothing else is known.
    pub fn from_arrow(t: &DataType) -> PgType {
        match t {
            DataType::Boolean => PgType::BOOL,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => PgType::INT2,
            DataType::UInt16 | DataType::Int32 => PgType::INT4,
            DataType::UInt32 | DataType::Int64 | DataType::UInt64 => PgType::INT8,
            DataType::Float16 | DataType::Float32 => PgType::FLOAT4,
            DataType::Float64 => PgType::FLOAT8,
            DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => PgType::NUMERIC,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => PgType::BYTEA,
            DataType::FixedSizeBinary(16) => PgType::UUID,
            DataType::FixedSizeBinary(_) => PgType::BYTEA,
            DataType::Date32 | DataType::Date64 => PgType::DATE,
            DataType::Time32(_) | DataType::Time64(_) => PgType::TIME,
            DataType::Timestamp(_, None) => PgType::TIMESTAMP,
            DataType::Timestamp(_, Some(_)) => PgType::TIMESTAMPTZ,
            DataType::Interval(_) | DataType::Duration(_) => PgType::INTERVAL,
            DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => {
                match PgType::of_field(f).array_oid() {
                    Some(a) => PgType::of(a),
                    None => PgType::TEXT,
                }
            }
            DataType::Dictionary(_, v) => PgType::from_arrow(v),
            _ => PgType::TEXT,
        }
    }

    /// The PostgreSQL type of a field: its metadata, or else what its Arrow type stands for.
    pub fn of_field(field: &Field) -> PgType {
        let meta = field.metadata();
        match meta.get(OID_KEY).and_then(|o| o.parse().ok()) {
            Some(oid) => {
                PgType { oid, typmod: meta.get(TYPMOD_KEY).and_then(|m| m.parse().ok()).unwrap_or(-1) }
            }
            None => PgType::from_arrow(field.data_type()),
        }
    }

    /// A nullable field of this type. The metadata is written only where the Arrow type does not say it all.
    pub fn field(self, name: impl Into<String>, nullable: bool) -> Field {
        let arrow = self.arrow();
        let field = Field::new(name, arrow.clone(), nullable);
        if PgType::from_arrow(&arrow) == self { field } else { field.with_metadata(self.metadata()) }
    }

    /// The field metadata that carries this type.
    pub fn metadata(self) -> HashMap<String, String> {
        let mut m = HashMap::from([(OID_KEY.to_string(), self.oid.to_string())]);
        if self.typmod != -1 {
            m.insert(TYPMOD_KEY.to_string(), self.typmod.to_string());
        }
        m
    }

    /// `pg_type.typname` of a built-in type (array types start with an underscore).
    pub fn typname(self) -> String {
        if let Some(e) = self.element() {
            return format!("_{}", e.typname());
        }
        match self.oid {
            oid::BOOL => "bool",
            oid::BYTEA => "bytea",
            oid::CHAR => "char",
            oid::NAME => "name",
            oid::INT8 => "int8",
            oid::INT2 => "int2",
            oid::INT4 => "int4",
            oid::REGPROC => "regproc",
            oid::OID => "oid",
            oid::JSON => "json",
            oid::FLOAT4 => "float4",
            oid::FLOAT8 => "float8",
            oid::UNKNOWN => "unknown",
            oid::BPCHAR => "bpchar",
            oid::VARCHAR => "varchar",
            oid::DATE => "date",
            oid::TIME => "time",
            oid::TIMESTAMP => "timestamp",
            oid::TIMESTAMPTZ => "timestamptz",
            oid::INTERVAL => "interval",
            oid::NUMERIC => "numeric",
            oid::REGCLASS => "regclass",
            oid::REGTYPE => "regtype",
            oid::VOID => "void",
            oid::UUID => "uuid",
            oid::JSONB => "jsonb",
            _ => "text",
        }
        .to_string()
    }

    /// The type's SQL name with its modifier, as `format_type(oid, typmod)` gives it.
    pub fn sql_name(self) -> String {
        if let Some(e) = self.element() {
            return format!("{}[]", e.sql_name());
        }
        match self.oid {
            oid::BOOL => "boolean".into(),
            oid::CHAR => "\"char\"".into(),
            oid::INT8 => "bigint".into(),
            oid::INT2 => "smallint".into(),
            oid::INT4 => "integer".into(),
            oid::FLOAT4 => "real".into(),
            oid::FLOAT8 => "double precision".into(),
            oid::BPCHAR => self.max_chars().map_or("character".into(), |n| format!("character({n})")),
            oid::VARCHAR => {
                self.max_chars().map_or("character varying".into(), |n| format!("character varying({n})"))
            }
            oid::TIME => "time without time zone".into(),
            oid::TIMESTAMP => "timestamp without time zone".into(),
            oid::TIMESTAMPTZ => "timestamp with time zone".into(),
            oid::NUMERIC => {
                self.numeric_parts().map_or("numeric".into(), |(p, s)| format!("numeric({p},{s})"))
            }
            _ => self.typname(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_modifiers_round_trip() {
        for (p, s) in [(12, 2), (38, 0), (5, -2), (38, 38)] {
            assert_eq!(PgType::numeric(p, s).numeric_parts(), Some((p, s)));
        }
        assert_eq!(PgType::numeric(12, 2).sql_name(), "numeric(12,2)");
        assert_eq!(PgType::numeric(12, 2).typmod, 786438);
    }

    #[test]
    fn a_field_keeps_a_type_that_arrow_cannot_tell() {
        let v = PgType { oid: oid::VARCHAR, typmod: 14 };
        assert_eq!(PgType::of_field(&v.field("a", true)), v);
        assert_eq!(v.sql_name(), "character varying(10)");
        assert_eq!(PgType::of_field(&PgType::INT4.field("a", true)), PgType::INT4);
        assert!(PgType::INT4.field("a", true).metadata().is_empty());
    }
}
