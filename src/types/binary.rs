//! PostgreSQL's binary forms of values, both ways: what `typsend` writes and `typreceive` reads.
//!
//! Boundary: values and their bytes only; framing (lengths, NULL) is the caller's. A column whose Arrow type does
//! not fit its PostgreSQL type falls back to its text, which is the binary form of every string type.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, PrimitiveArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, IntervalMonthDayNano, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;

use super::text::{self, TextColumn, TextFormatter, TextOptions};
use super::{PgType, oid};
use crate::error::{Error, ErrorKind, Result};

/// Days and microseconds between 1970-01-01 and 2000-01-01, PostgreSQL's epoch.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
const NUMERIC_NEGATIVE: u16 = 0x4000;
/// Deeper digits than any numeric we hold are refused before they are looked at.
const MAX_NUMERIC_GROUPS: usize = 1_000;

/// Writes the values of one column in binary.
#[derive(Debug, Clone)]
pub struct BinaryFormatter {
    pg: PgType,
    text: TextFormatter,
    element: Option<Box<BinaryFormatter>>,
}

impl BinaryFormatter {
    /// The formatter for columns of this type, held in this field.
    pub fn new(pg: PgType, field: &Field) -> BinaryFormatter {
        let element = match field.data_type() {
            DataType::List(f) => pg.element().map(|e| Box::new(BinaryFormatter::new(e, f))),
            _ => None,
        };
        BinaryFormatter { pg, text: TextFormatter::for_type(pg, field, &TextOptions::default()), element }
    }

    /// This formatter over one array.
    pub fn bind<'a>(&'a self, array: &'a dyn Array) -> BinaryColumn<'a> {
        BinaryColumn { pg: self.pg, values: self.values(array) }
    }

    fn values<'a>(&'a self, array: &'a dyn Array) -> Values<'a> {
        match (self.pg.oid, array.data_type()) {
            (oid::BOOL, DataType::Boolean) => Values::Bool(array.as_boolean()),
            (oid::INT2, DataType::Int16) => Values::Int2(array.as_primitive()),
            (oid::INT4, DataType::Int32) => Values::Int4(array.as_primitive()),
            (oid::INT8, DataType::Int64) => Values::Int8(array.as_primitive()),
            (oid::OID | oid::REGCLASS | oid::REGTYPE | oid::REGPROC, DataType::Int64) => {
                Values::Oid(array.as_primitive())
            }
            (oid::FLOAT4, DataType::Float32) => Values::Float4(array.as_primitive()),
            (oid::FLOAT8, DataType::Float64) => Values::Float8(array.as_primitive()),
            (oid::DATE, DataType::Date32) => Values::Date(array.as_primitive()),
            (oid::TIME, DataType::Time64(TimeUnit::Microsecond)) => Values::Time(array.as_primitive()),
            (oid::TIMESTAMP | oid::TIMESTAMPTZ, DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                Values::Timestamp(array.as_primitive())
            }
            (oid::INTERVAL, DataType::Interval(IntervalUnit::MonthDayNano)) => {
                Values::Interval(array.as_primitive())
            }
            (oid::UUID, DataType::FixedSizeBinary(16)) => Values::Uuid(array.as_fixed_size_binary()),
            (oid::BYTEA, DataType::Binary) => Values::Bytes(array.as_binary()),
            (oid::NUMERIC, _) => Values::Numeric(self.text.bind(array)),
            (oid::JSONB, _) => Values::Jsonb(self.text.bind(array)),
            (_, DataType::List(_)) => match &self.element {
                Some(e) => Values::List(array.as_list(), e),
                None => Values::Text(self.text.bind(array)),
            },
            (_, t)
                if t.is_integer()
                    || t.is_floating()
                    || t.is_temporal()
                    || matches!(t, DataType::Dictionary(..)) =>
            {
                self.adapted(array)
            }
            _ => Values::Text(self.text.bind(array)),
        }
    }

    /// An array of another width or unit than its type: cast once, as a whole.
    fn adapted<'a>(&'a self, array: &'a dyn Array) -> Values<'a> {
        let wanted = self.pg.arrow();
        if wanted.is_string() || &wanted == array.data_type() {
            return Values::Text(self.text.bind(array));
        }
        match arrow::compute::cast(array, &wanted) {
            Ok(cast) => Values::Adapted(cast, self),
            Err(_) => Values::Text(self.text.bind(array)),
        }
    }
}

enum Values<'a> {
    Bool(&'a BooleanArray),
    Int2(&'a Int16Array),
    Int4(&'a Int32Array),
    Int8(&'a Int64Array),
    Oid(&'a Int64Array),
    Float4(&'a Float32Array),
    Float8(&'a Float64Array),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time64MicrosecondType>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>),
    Interval(&'a IntervalMonthDayNanoArray),
    Uuid(&'a FixedSizeBinaryArray),
    Bytes(&'a arrow::array::BinaryArray),
    Numeric(TextColumn<'a>),
    Jsonb(TextColumn<'a>),
    Text(TextColumn<'a>),
    List(&'a ListArray, &'a BinaryFormatter),
    Adapted(ArrayRef, &'a BinaryFormatter),
}

/// A formatter and an array whose type is known.
pub struct BinaryColumn<'a> {
    pg: PgType,
    values: Values<'a>,
}

impl BinaryColumn<'_> {
    /// Writes the value at `row`, which must not be NULL.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Bool(a) => out.push(a.value(row).into()),
            Values::Int2(a) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            Values::Int4(a) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            Values::Int8(a) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            Values::Oid(a) => out.extend_from_slice(&(a.value(row) as u32).to_be_bytes()),
            Values::Float4(a) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            Values::Float8(a) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            Values::Date(a) => {
                let days = match a.value(row) {
                    v @ (i32::MAX | i32::MIN) => v,
                    v => v.saturating_sub(EPOCH_DAYS),
                };
                out.extend_from_slice(&days.to_be_bytes());
            }
            Values::Time(a) => out.extend_from_slice(&a.value(row).to_be_bytes()),
            Values::Timestamp(a) => {
                let micros = match a.value(row) {
                    v @ (i64::MAX | i64::MIN) => v,
                    v => v.saturating_sub(EPOCH_MICROS),
                };
                out.extend_from_slice(&micros.to_be_bytes());
            }
            Values::Interval(a) => {
                let v = a.value(row);
                out.extend_from_slice(&(v.nanoseconds / 1_000).to_be_bytes());
                out.extend_from_slice(&v.days.to_be_bytes());
                out.extend_from_slice(&v.months.to_be_bytes());
            }
            Values::Uuid(a) => out.extend_from_slice(a.value(row)),
            Values::Bytes(a) => out.extend_from_slice(a.value(row)),
            Values::Numeric(column) => {
                let start = out.len();
                column.write(row, out);
                numeric_from_text(start, out);
            }
            Values::Jsonb(column) => {
                out.push(1);
                column.write(row, out);
            }
            Values::Text(column) => column.write(row, out),
            Values::List(a, element) => write_array(&a.value(row), self.pg, element, out),
            Values::Adapted(a, formatter) => {
                if a.is_null(row) {
                    return;
                }
                formatter.bind(a.as_ref()).write(row, out);
            }
        }
    }
}

fn write_array(items: &ArrayRef, pg: PgType, element: &BinaryFormatter, out: &mut Vec<u8>) {
    let dimensions = i32::from(!items.is_empty());
    out.extend_from_slice(&dimensions.to_be_bytes());
    out.extend_from_slice(&i32::from(items.null_count() > 0).to_be_bytes());
    out.extend_from_slice(&pg.element().map_or(oid::TEXT, |e| e.oid).to_be_bytes());
    if items.is_empty() {
        return;
    }
    out.extend_from_slice(&(items.len() as i32).to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let column = element.bind(items.as_ref());
    for i in 0..items.len() {
        if items.is_null(i) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            continue;
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        column.write(i, out);
        let len = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }
}

/// Replaces the decimal text written since `start` by numeric's binary form: groups of four digits.
fn numeric_from_text(start: usize, out: &mut Vec<u8>) {
    let mut text = [0u8; 320];
    let len = (out.len() - start).min(text.len());
    text[..len].copy_from_slice(&out[start..start + len]);
    out.truncate(start);
    let (negative, digits) = match text[..len].strip_prefix(b"-") {
        Some(d) => (true, d),
        None => (false, &text[..len]),
    };
    let point = digits.iter().position(|b| *b == b'.').unwrap_or(digits.len());
    let whole = &digits[..point];
    let fraction = digits.get(point + 1..).unwrap_or_default();
    let whole = &whole[whole.iter().position(|b| *b != b'0').unwrap_or(whole.len())..];
    // The first group is filled up with zeros on the left, the last on the right.
    let groups_before = whole.len().div_ceil(4);
    let groups_after = fraction.len().div_ceil(4);
    let group = |g: usize| -> u16 {
        (0..4).fold(0, |v, k| {
            let at = g as isize * 4 + k as isize - (groups_before * 4 - whole.len()) as isize;
            let digit = if at < 0 {
                b'0'
            } else if (at as usize) < whole.len() {
                whole[at as usize]
            } else {
                fraction.get(at as usize - whole.len()).copied().unwrap_or(b'0')
            };
            v * 10 + u16::from(digit - b'0')
        })
    };
    let total = groups_before + groups_after;
    let first = (0..total).find(|g| group(*g) != 0).unwrap_or(total);
    let last = (first..total).rfind(|g| group(*g) != 0).map_or(first, |g| g + 1);
    let weight = if first == last { 0 } else { groups_before as i16 - 1 - first as i16 };
    out.extend_from_slice(&((last - first) as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&(if negative { NUMERIC_NEGATIVE } else { 0 }).to_be_bytes());
    out.extend_from_slice(&(fraction.len() as i16).to_be_bytes());
    for g in first..last {
        out.extend_from_slice(&group(g).to_be_bytes());
    }
}

fn incorrect(pg: PgType) -> Error {
    Error::new(ErrorKind::InvalidBinary, format!("incorrect binary data format for type {}", pg.sql_name()))
}

fn exactly<const N: usize>(pg: PgType, bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| incorrect(pg))
}

/// Reads a value as the type's receive function would; the value has the type's Arrow type.
pub fn parse_binary(pg: PgType, bytes: &[u8]) -> Result<ScalarValue> {
    Ok(match pg.oid {
        oid::BOOL => ScalarValue::Boolean(Some(exactly::<1>(pg, bytes)?[0] != 0)),
        oid::INT2 => ScalarValue::Int16(Some(i16::from_be_bytes(exactly(pg, bytes)?))),
        oid::INT4 => ScalarValue::Int32(Some(i32::from_be_bytes(exactly(pg, bytes)?))),
        oid::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(exactly(pg, bytes)?))),
        oid::OID | oid::REGCLASS | oid::REGTYPE | oid::REGPROC => {
            ScalarValue::Int64(Some(u32::from_be_bytes(exactly(pg, bytes)?).into()))
        }
        oid::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(exactly(pg, bytes)?))),
        oid::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(exactly(pg, bytes)?))),
        oid::DATE => ScalarValue::Date32(Some(match i32::from_be_bytes(exactly(pg, bytes)?) {
            v @ (i32::MAX | i32::MIN) => v,
            v => v.checked_add(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))?,
        })),
        oid::TIME => {
            let v = i64::from_be_bytes(exactly(pg, bytes)?);
            if !(0..=86_400_000_000).contains(&v) {
                return Err(out_of_range("time"));
            }
            ScalarValue::Time64Microsecond(Some(v))
        }
        oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            let v = match i64::from_be_bytes(exactly(pg, bytes)?) {
                v @ (i64::MAX | i64::MIN) => v,
                v => v.checked_add(EPOCH_MICROS).ok_or_else(|| out_of_range("timestamp"))?,
            };
            let zone = (pg.oid == oid::TIMESTAMPTZ).then(|| super::UTC.into());
            ScalarValue::TimestampMicrosecond(Some(v), zone)
        }
        oid::INTERVAL => {
            let b: [u8; 16] = exactly(pg, bytes)?;
            let part = |at: usize| i32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
            let micros = i64::from(part(0)) << 32 | i64::from(part(4) as u32);
            let nanos = micros.checked_mul(1_000).ok_or_else(|| out_of_range("interval"))?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(part(12), part(8), nanos)))
        }
        oid::UUID => ScalarValue::FixedSizeBinary(16, Some(exactly::<16>(pg, bytes)?.to_vec())),
        oid::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        oid::NUMERIC => parse_numeric(pg, bytes)?,
        oid::JSONB => match bytes.split_first() {
            Some((1, text)) => ScalarValue::Utf8(Some(text::normalize_jsonb(utf8(text)?)?)),
            Some((v, _)) => {
                return Err(Error::new(ErrorKind::Internal, format!("unsupported jsonb version number {v}")));
            }
            None => return Err(incorrect(pg)),
        },
        _ => match pg.element() {
            Some(element) => parse_array(pg, element, bytes)?,
            None => text::parse_text(pg, utf8(bytes)?, &TextOptions::default())?,
        },
    })
}

/// Bytes as text, or 22021 naming the first bad byte.
pub fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| {
        let bad = bytes.get(e.valid_up_to()..).unwrap_or_default();
        let len = e.error_len().unwrap_or(bad.len()).clamp(1, 4);
        let shown: Vec<String> = bad.iter().take(len).map(|b| format!("0x{b:02x}")).collect();
        Error::new(
            ErrorKind::InvalidEncoding,
            format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
        )
    })
}

fn out_of_range(type_name: &str) -> Error {
    Error::new(ErrorKind::DatetimeOverflow, format!("{type_name} out of range"))
}

fn parse_numeric(pg: PgType, bytes: &[u8]) -> Result<ScalarValue> {
    let shorts: Vec<u16> = bytes.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
    let [groups, weight, sign, scale, digits @ ..] = shorts.as_slice() else { return Err(incorrect(pg)) };
    if !bytes.len().is_multiple_of(2)
        || usize::from(*groups) != digits.len()
        || digits.len() > MAX_NUMERIC_GROUPS
    {
        return Err(incorrect(pg));
    }
    if digits.iter().any(|d| *d > 9_999) || *scale > 16_383 {
        return Err(incorrect(pg));
    }
    let weight = i32::from(*weight as i16);
    if weight.unsigned_abs() as usize > MAX_NUMERIC_GROUPS {
        return Err(incorrect(pg));
    }
    let mut text = String::new();
    match sign {
        0 => {}
        &NUMERIC_NEGATIVE => text.push('-'),
        0xC000 => text.push_str("NaN"),
        0xD000 | 0xF000 => text.push_str("Infinity"),
        _ => return Err(incorrect(pg)),
    }
    if *sign <= NUMERIC_NEGATIVE {
        // Group g stands for 10000^(weight - g); those the value does not have are zeros.
        let at = |g: i32| usize::try_from(g).ok().and_then(|g| digits.get(g)).copied().unwrap_or(0);
        text.push('0');
        for g in 0..=weight {
            text.push_str(&format!("{:04}", at(g)));
        }
        text.push('.');
        for g in weight + 1..digits.len() as i32 {
            text.push_str(&format!("{:04}", at(g)));
        }
    }
    text::parse_text(pg, &text, &TextOptions::default())
}

fn parse_array(pg: PgType, element: PgType, bytes: &[u8]) -> Result<ScalarValue> {
    let mut at = 0;
    let mut int = || -> Result<i32> {
        let b = bytes.get(at..at + 4).ok_or_else(|| incorrect(pg))?;
        at += 4;
        Ok(i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    let dimensions = int()?;
    let _has_nulls = int()?;
    let found = int()? as u32;
    if found != element.oid {
        return Err(Error::new(ErrorKind::DatatypeMismatch, "wrong element type"));
    }
    if dimensions > 1 {
        return Err(Error::unsupported("multidimensional arrays are not supported"));
    }
    let count = if dimensions == 1 { int()? } else { 0 };
    if dimensions == 1 {
        int()?;
    }
    // Every element takes at least its length: more cannot have been sent.
    if dimensions < 0 || count < 0 || count as usize > bytes.len() / 4 {
        return Err(incorrect(pg));
    }
    let mut items = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let b = bytes.get(at..at + 4).ok_or_else(|| incorrect(pg))?;
        at += 4;
        let len = i32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        if len < 0 {
            items.push(ScalarValue::try_from(&element.arrow())?);
            continue;
        }
        let value =
            at.checked_add(len as usize).and_then(|end| bytes.get(at..end)).ok_or_else(|| incorrect(pg))?;
        at += value.len();
        items.push(parse_binary(element, value)?);
    }
    if at != bytes.len() {
        return Err(incorrect(pg));
    }
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&items, &element.arrow())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pg: PgType, text: &str) -> Vec<u8> {
        let a = text::parse_column(pg, std::iter::once(Some(text)), &TextOptions::default()).unwrap();
        let mut out = Vec::new();
        BinaryFormatter::new(pg, &pg.field("a", true)).bind(a.as_ref()).write(0, &mut out);
        out
    }

    #[test]
    fn every_type_survives_the_binary_round_trip() {
        for (pg, text) in [
            (PgType::BOOL, "t"),
            (PgType::INT2, "-2"),
            (PgType::INT4, "2147483647"),
            (PgType::INT8, "-9223372036854775808"),
            (PgType::of(oid::OID), "4294967295"),
            (PgType::FLOAT4, "1.5"),
            (PgType::FLOAT8, "-Infinity"),
            (PgType::numeric(12, 2), "-12345.67"),
            (PgType::numeric(12, 2), "0.00"),
            (PgType::numeric(30, 10), "0.0000000042"),
            (PgType::numeric(38, 0), "10000000000000000000000000"),
            (PgType::numeric(60, 3), "123456789012345678901234567890123456789012345.678"),
            (PgType::NUMERIC, "10000.00010001"),
            (PgType::TEXT, "héllo"),
            (PgType::BYTEA, "\\x00ff"),
            (PgType::DATE, "1999-12-31"),
            (PgType::DATE, "infinity"),
            (PgType::TIME, "23:59:59.999999"),
            (PgType::TIMESTAMP, "1969-01-01 00:00:00.5"),
            (PgType::TIMESTAMPTZ, "2024-02-29 12:00:00+00"),
            (PgType::INTERVAL, "-1 mons +2 days -03:04:05.6"),
            (PgType::UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (PgType::JSONB, "{\"a\": 1}"),
            (PgType::of(1007), "{1,NULL,3}"),
            (PgType::of(1009), "{}"),
            (PgType::of(1231), "{1.5,-2}"),
        ] {
            let bytes = sent(pg, text);
            let value = parse_binary(pg, &bytes).unwrap();
            let array = value.to_array().unwrap();
            let mut out = Vec::new();
            TextFormatter::new(&pg.field("a", true), &TextOptions::default()).write(&array, 0, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text, "{}", pg.sql_name());
            assert_eq!(array.data_type(), &pg.arrow());
        }
    }

    #[test]
    fn the_bytes_are_postgresqls() {
        assert_eq!(sent(PgType::DATE, "2000-01-02"), [0, 0, 0, 1]);
        assert_eq!(sent(PgType::TIMESTAMP, "2000-01-01 00:00:00.000001"), [0, 0, 0, 0, 0, 0, 0, 1]);
        // 12345.67: groups 1, 2345, 6700
        assert_eq!(sent(PgType::numeric(12, 2), "12345.67"), [0, 3, 0, 1, 0, 0, 0, 2, 0, 1, 9, 41, 26, 44]);
        assert_eq!(sent(PgType::numeric(12, 2), "0"), [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(sent(PgType::numeric(12, 4), "-0.0001"), [0, 1, 255, 255, 64, 0, 0, 4, 0, 1]);
        assert_eq!(sent(PgType::JSONB, "1"), [1, b'1']);
    }

    #[test]
    fn malformed_bytes_are_22p03_and_never_a_panic() {
        for pg in [
            PgType::BOOL,
            PgType::INT4,
            PgType::FLOAT8,
            PgType::NUMERIC,
            PgType::DATE,
            PgType::TIMESTAMP,
            PgType::INTERVAL,
            PgType::UUID,
            PgType::of(1007),
        ] {
            for len in [0, 3, 5, 7, 9, 15, 17, 31] {
                for fill in [0u8, 1, 0x7f, 0xff] {
                    if let Err(e) = parse_binary(pg, &vec![fill; len]) {
                        assert!(e.kind().sqlstate() != "XX000", "{} {len} {fill}: {e}", pg.sql_name());
                    }
                }
            }
        }
        assert_eq!(parse_binary(PgType::INT4, &[1]).unwrap_err().kind(), ErrorKind::InvalidBinary);
        assert_eq!(parse_binary(PgType::TEXT, &[0xff]).unwrap_err().kind(), ErrorKind::InvalidEncoding);
    }

    #[test]
    fn a_column_of_another_width_is_adapted_to_its_type() {
        let a: ArrayRef = std::sync::Arc::new(Int64Array::from(vec![7]));
        let f = BinaryFormatter::new(PgType::INT4, &Field::new("a", DataType::Int64, true));
        let mut out = Vec::new();
        f.bind(a.as_ref()).write(0, &mut out);
        assert_eq!(out, [0, 0, 0, 7]);
    }
}
