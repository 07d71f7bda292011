//! Values to PostgreSQL's text: one formatter per column, chosen once, writing into a byte buffer.
//!
//! Boundary: output only; no allocation per value for the common types.

use arrow::array::timezone::Tz;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryViewArray, BooleanArray,
    FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray, PrimitiveArray, StringArray, StringViewArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field,
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};

use super::datetime::{self, MICROS_PER_DAY, civil_from_days};
use super::float::{write_f32, write_f64};
use super::numeric::{self, NumericDisplay};
use super::{NUMERIC_DEV, NUMERIC_DIV, NUMERIC_KEY, NUMERIC_TRIM, NUMERIC_VAR, TextOptions};
use crate::types::{FREE_NUMERIC_SCALE, PgType, oid};

/// Writes the values of one column as text.
#[derive(Debug, Clone)]
pub struct TextFormatter {
    pg: PgType,
    options: TextOptions,
    numeric: NumericDisplay,
    element: Option<Box<TextFormatter>>,
}

impl TextFormatter {
    /// The formatter for columns of this field.
    pub fn new(field: &Field, options: &TextOptions) -> TextFormatter {
        Self::for_type(PgType::of_field(field), field, options)
    }

    /// The formatter for columns of this field when the type is known from elsewhere.
    pub fn for_type(pg: PgType, field: &Field, options: &TextOptions) -> TextFormatter {
        let element = match value_type(field.data_type()) {
            DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => {
                let own = PgType::of_field(f);
                let pg = pg.element().filter(|_| own == PgType::from_arrow(f.data_type())).unwrap_or(own);
                Some(Box::new(Self::for_type(pg, f, options)))
            }
            _ => None,
        };
        let numeric = match field.metadata().get(NUMERIC_KEY).map(String::as_str) {
            Some(NUMERIC_DIV) => NumericDisplay::Division,
            Some(NUMERIC_VAR) => NumericDisplay::Variance,
            Some(NUMERIC_DEV) => NumericDisplay::Deviation,
            Some(NUMERIC_TRIM) => NumericDisplay::Trimmed,
            _ => match field.data_type() {
                DataType::Decimal128(38, FREE_NUMERIC_SCALE)
                | DataType::Decimal256(76, FREE_NUMERIC_SCALE)
                    if pg.typmod < 4 =>
                {
                    NumericDisplay::Trimmed
                }
                _ => NumericDisplay::Scale,
            },
        };
        TextFormatter { pg, options: options.clone(), numeric, element }
    }

    /// Writes the value of `array` at `row`. NULL is the caller's matter: it has no text.
    pub fn write(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
        self.bind(array).write(row, out);
    }

    /// This formatter over one array: the array's type is looked at once, not per value.
    pub fn bind<'a>(&'a self, array: &'a dyn Array) -> TextColumn<'a> {
        TextColumn { formatter: self, values: Values::of(self, array) }
    }
}

/// The type of the values: a dictionary's are those of its dictionary.
fn value_type(t: &DataType) -> &DataType {
    match t {
        DataType::Dictionary(_, v) => v,
        other => other,
    }
}

/// A formatter and an array whose type is known.
pub struct TextColumn<'a> {
    formatter: &'a TextFormatter,
    values: Values<'a>,
}

enum Values<'a> {
    Null,
    Bool(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt8(&'a PrimitiveArray<UInt8Type>),
    UInt16(&'a PrimitiveArray<UInt16Type>),
    UInt32(&'a PrimitiveArray<UInt32Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
    Float16(&'a PrimitiveArray<Float16Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Dec32(&'a PrimitiveArray<Decimal32Type>, i8),
    Dec64(&'a PrimitiveArray<Decimal64Type>, i8),
    Dec128(&'a PrimitiveArray<Decimal128Type>, i8),
    Dec256(&'a PrimitiveArray<Decimal256Type>, i8),
    Date32(&'a PrimitiveArray<Date32Type>),
    Date64(&'a PrimitiveArray<Date64Type>),
    Time(Integers<'a>, Unit),
    Timestamp(Integers<'a>, Unit, bool),
    Duration(Integers<'a>, Unit),
    MonthDayNano(&'a PrimitiveArray<IntervalMonthDayNanoType>),
    DayTime(&'a PrimitiveArray<IntervalDayTimeType>),
    YearMonth(&'a PrimitiveArray<IntervalYearMonthType>),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Fixed(&'a FixedSizeBinaryArray),
    List(&'a dyn Array),
    Dictionary(Vec<usize>, &'a ArrayRef),
    Other(&'a dyn Array),
}

/// The integers of a temporal array, 32 or 64 bits wide.
enum Integers<'a> {
    Narrow(&'a [i32]),
    Wide(&'a [i64]),
}

impl Integers<'_> {
    fn get(&self, row: usize) -> i64 {
        match self {
            Integers::Narrow(v) => i64::from(v[row]),
            Integers::Wide(v) => v[row],
        }
    }
}

fn wide<T: ArrowPrimitiveType<Native = i64>>(a: &dyn Array) -> Integers<'_> {
    Integers::Wide(a.as_primitive::<T>().values())
}

fn narrow<T: ArrowPrimitiveType<Native = i32>>(a: &dyn Array) -> Integers<'_> {
    Integers::Narrow(a.as_primitive::<T>().values())
}

/// What one count of a temporal array is in microseconds.
#[derive(Clone, Copy)]
enum Unit {
    Second,
    Milli,
    Micro,
    Nano,
}

impl Unit {
    fn of(u: &TimeUnit) -> Unit {
        match u {
            TimeUnit::Second => Unit::Second,
            TimeUnit::Millisecond => Unit::Milli,
            TimeUnit::Microsecond => Unit::Micro,
            TimeUnit::Nanosecond => Unit::Nano,
        }
    }

    fn micros(self, v: i64) -> i64 {
        match self {
            Unit::Second => v.saturating_mul(1_000_000),
            Unit::Milli => v.saturating_mul(1_000),
            Unit::Micro => v,
            Unit::Nano => v.div_euclid(1_000),
        }
    }
}

impl<'a> Values<'a> {
    fn of(f: &TextFormatter, array: &'a dyn Array) -> Values<'a> {
        match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int8 => Values::Int8(array.as_primitive()),
            DataType::Int16 => Values::Int16(array.as_primitive()),
            DataType::Int32 => Values::Int32(array.as_primitive()),
            DataType::Int64 => Values::Int64(array.as_primitive()),
            DataType::UInt8 => Values::UInt8(array.as_primitive()),
            DataType::UInt16 => Values::UInt16(array.as_primitive()),
            DataType::UInt32 => Values::UInt32(array.as_primitive()),
            DataType::UInt64 => Values::UInt64(array.as_primitive()),
            DataType::Float16 => Values::Float16(array.as_primitive()),
            DataType::Float32 => Values::Float32(array.as_primitive()),
            DataType::Float64 => Values::Float64(array.as_primitive()),
            DataType::Decimal32(_, s) => Values::Dec32(array.as_primitive(), *s),
            DataType::Decimal64(_, s) => Values::Dec64(array.as_primitive(), *s),
            DataType::Decimal128(_, s) => Values::Dec128(array.as_primitive(), *s),
            DataType::Decimal256(_, s) => Values::Dec256(array.as_primitive(), *s),
            DataType::Utf8 => Values::Utf8(array.as_string()),
            DataType::LargeUtf8 => Values::LargeUtf8(array.as_string()),
            DataType::Utf8View => Values::Utf8View(array.as_string_view()),
            DataType::Binary => Values::Binary(array.as_binary()),
            DataType::LargeBinary => Values::LargeBinary(array.as_binary()),
            DataType::BinaryView => Values::BinaryView(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Values::Fixed(array.as_fixed_size_binary()),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)
                if f.element.is_some() =>
            {
                Values::List(array)
            }
            DataType::Dictionary(..) => {
                let d = array.as_any_dictionary();
                Values::Dictionary(d.normalized_keys(), d.values())
            }
            other => Values::temporal(other, array),
        }
    }

    fn temporal(t: &DataType, array: &'a dyn Array) -> Values<'a> {
        match t {
            DataType::Date32 => Values::Date32(array.as_primitive()),
            DataType::Date64 => Values::Date64(array.as_primitive()),
            DataType::Time32(u @ TimeUnit::Second) => {
                Values::Time(narrow::<Time32SecondType>(array), Unit::of(u))
            }
            DataType::Time32(u) => Values::Time(narrow::<Time32MillisecondType>(array), Unit::of(u)),
            DataType::Time64(u @ TimeUnit::Nanosecond) => {
                Values::Time(wide::<Time64NanosecondType>(array), Unit::of(u))
            }
            DataType::Time64(u) => Values::Time(wide::<Time64MicrosecondType>(array), Unit::of(u)),
            DataType::Timestamp(u, zone) => {
                let ints = match u {
                    TimeUnit::Second => wide::<TimestampSecondType>(array),
                    TimeUnit::Millisecond => wide::<TimestampMillisecondType>(array),
                    TimeUnit::Microsecond => wide::<TimestampMicrosecondType>(array),
                    TimeUnit::Nanosecond => wide::<TimestampNanosecondType>(array),
                };
                Values::Timestamp(ints, Unit::of(u), zone.is_some())
            }
            DataType::Duration(u) => {
                let ints = match u {
                    TimeUnit::Second => wide::<DurationSecondType>(array),
                    TimeUnit::Millisecond => wide::<DurationMillisecondType>(array),
                    TimeUnit::Microsecond => wide::<DurationMicrosecondType>(array),
                    TimeUnit::Nanosecond => wide::<DurationNanosecondType>(array),
                };
                Values::Duration(ints, Unit::of(u))
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => Values::MonthDayNano(array.as_primitive()),
            DataType::Interval(IntervalUnit::DayTime) => Values::DayTime(array.as_primitive()),
            DataType::Interval(IntervalUnit::YearMonth) => Values::YearMonth(array.as_primitive()),
            _ => Values::Other(array),
        }
    }
}

impl TextColumn<'_> {
    /// Writes the value at `row`, which must not be NULL.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        let f = self.formatter;
        match &self.values {
            Values::Null => {}
            Values::Bool(a) => out.push(if a.value(row) { b't' } else { b'f' }),
            Values::Int8(a) => write_i64(a.value(row).into(), out),
            Values::Int16(a) => write_i64(a.value(row).into(), out),
            Values::Int32(a) => write_i64(a.value(row).into(), out),
            Values::Int64(a) => write_i64(a.value(row), out),
            Values::UInt8(a) => write_u64(a.value(row).into(), out),
            Values::UInt16(a) => write_u64(a.value(row).into(), out),
            Values::UInt32(a) => write_u64(a.value(row).into(), out),
            Values::UInt64(a) => write_u64(a.value(row), out),
            Values::Float16(a) => write_f32(a.value(row).to_f32(), f.options.extra_float_digits, out),
            Values::Float32(a) => write_f32(a.value(row), f.options.extra_float_digits, out),
            Values::Float64(a) => write_f64(a.value(row), f.options.extra_float_digits, out),
            Values::Dec32(a, s) => numeric::write_i128(a.value(row).into(), *s, f.numeric, out),
            Values::Dec64(a, s) => numeric::write_i128(a.value(row).into(), *s, f.numeric, out),
            Values::Dec128(a, s) => numeric::write_i128(a.value(row), *s, f.numeric, out),
            Values::Dec256(a, s) => numeric::write_i256(a.value(row), *s, f.numeric, out),
            Values::Utf8(a) => write_string(f.pg, a.value(row), out),
            Values::LargeUtf8(a) => write_string(f.pg, a.value(row), out),
            Values::Utf8View(a) => write_string(f.pg, a.value(row), out),
            Values::Binary(a) => f.write_bytes(a.value(row), out),
            Values::LargeBinary(a) => f.write_bytes(a.value(row), out),
            Values::BinaryView(a) => f.write_bytes(a.value(row), out),
            Values::Fixed(a) => f.write_bytes(a.value(row), out),
            Values::Date32(a) => write_date(a.value(row), out),
            Values::Date64(a) => {
                let days = a.value(row).div_euclid(86_400_000);
                write_date(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }), out);
            }
            Values::Time(v, u) => write_time(u.micros(v.get(row)), out),
            Values::Timestamp(v, u, false) => write_timestamp(u.micros(v.get(row)), out),
            Values::Timestamp(v, u, true) => {
                write_timestamptz(u.micros(v.get(row)), f.options.time_zone.as_ref(), out)
            }
            Values::Duration(v, u) => write_interval(0, 0, u.micros(v.get(row)), out),
            Values::MonthDayNano(a) => {
                let v = a.value(row);
                write_interval(v.months, v.days, v.nanoseconds / 1_000, out);
            }
            Values::DayTime(a) => {
                let v = a.value(row);
                write_interval(0, v.days, i64::from(v.milliseconds) * 1_000, out);
            }
            Values::YearMonth(a) => write_interval(a.value(row), 0, 0, out),
            Values::List(a) => f.write_array(*a, row, out),
            Values::Dictionary(keys, values) => f.write(values.as_ref(), keys[row], out),
            Values::Other(a) => {
                let text = arrow::util::display::array_value_to_string(*a, row);
                out.extend_from_slice(text.unwrap_or_default().as_bytes());
            }
        }
    }
}

impl TextFormatter {
    fn write_bytes(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.pg.oid == oid::UUID && bytes.len() == 16 {
            write_uuid(bytes, out);
        } else if self.options.bytea_hex {
            out.extend_from_slice(b"\\x");
            write_hex(bytes, out);
        } else {
            for &b in bytes {
                match b {
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    0x20..=0x7e => out.push(b),
                    _ => out.extend_from_slice(&[
                        b'\\',
                        b'0' + (b >> 6),
                        b'0' + ((b >> 3) & 7),
                        b'0' + (b & 7),
                    ]),
                }
            }
        }
    }

    fn write_array(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
        let items = match array.data_type() {
            DataType::List(_) => array.as_list::<i32>().value(row),
            DataType::LargeList(_) => array.as_list::<i64>().value(row),
            _ => array.as_fixed_size_list().value(row),
        };
        let Some(element) = self.element.as_deref() else { return };
        let column = element.bind(items.as_ref());
        out.push(b'{');
        for i in 0..items.len() {
            if i > 0 {
                out.push(b',');
            }
            if items.is_null(i) {
                out.extend_from_slice(b"NULL");
                continue;
            }
            let start = out.len();
            column.write(i, out);
            if element.element.is_none() && needs_array_quotes(&out[start..]) {
                quote_tail(start, out);
            }
        }
        out.push(b'}');
    }
}

fn needs_array_quotes(value: &[u8]) -> bool {
    value.is_empty()
        || value.eq_ignore_ascii_case(b"null")
        || value.iter().any(|b| {
            matches!(b, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
        })
}

/// Quotes what was written since `start` as an array element.
fn quote_tail(start: usize, out: &mut Vec<u8>) {
    let raw = out.split_off(start);
    out.push(b'"');
    for b in raw {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

/// Strings go out as they are; `char(n)` is stored without its trailing blanks and shown with them.
fn write_string(pg: PgType, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(value.as_bytes());
    if pg.oid == oid::BPCHAR
        && let Some(n) = pg.max_chars()
    {
        let have = value.chars().count();
        out.resize(out.len() + n.saturating_sub(have), b' ');
    }
}

/// Writes an integer in decimal.
pub fn write_i64(v: i64, out: &mut Vec<u8>) {
    if v < 0 {
        out.push(b'-');
    }
    write_u64(v.unsigned_abs(), out);
}

pub(super) fn write_u64(mut v: u64, out: &mut Vec<u8>) {
    let mut buf = [0u8; 20];
    let mut at = buf.len();
    loop {
        at -= 1;
        buf[at] = b'0' + (v % 10) as u8;
        v /= 10;
        if v == 0 {
            break;
        }
    }
    out.extend_from_slice(&buf[at..]);
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() * 2);
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)]);
        out.push(DIGITS[usize::from(b & 15)]);
    }
}

fn write_uuid(bytes: &[u8], out: &mut Vec<u8>) {
    for (i, range) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if i > 0 {
            out.push(b'-');
        }
        write_hex(&bytes[range], out);
    }
}

fn write_padded(v: i64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    write_i64(v, out);
    let missing = width.saturating_sub(out.len() - start);
    if missing > 0 {
        out.resize(out.len() + missing, b'0');
        out[start..].rotate_right(missing);
    }
}

fn two(v: i64, out: &mut Vec<u8>) {
    if (0..100).contains(&v) {
        out.push(b'0' + (v / 10) as u8);
        out.push(b'0' + (v % 10) as u8);
    } else {
        write_i64(v, out);
    }
}

/// Writes year-month-day and says whether the year is before Christ.
fn write_civil(days: i64, out: &mut Vec<u8>) -> bool {
    let (y, m, d) = civil_from_days(days);
    let bc = y <= 0;
    write_padded(if bc { 1 - y } else { y }, 4, out);
    out.push(b'-');
    two(m.into(), out);
    out.push(b'-');
    two(d.into(), out);
    bc
}

fn write_date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            if write_civil(days.into(), out) {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

fn write_fraction(micros: i64, out: &mut Vec<u8>) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    write_padded(micros, 6, out);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

fn write_time(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros.div_euclid(1_000_000);
    two(seconds / 3600, out);
    out.push(b':');
    two(seconds / 60 % 60, out);
    out.push(b':');
    two(seconds % 60, out);
    write_fraction(micros.rem_euclid(1_000_000), out);
}

fn write_infinity(micros: i64, out: &mut Vec<u8>) -> bool {
    match micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        _ => return false,
    }
    true
}

fn write_timestamp(micros: i64, out: &mut Vec<u8>) {
    if write_infinity(micros, out) {
        return;
    }
    let bc = write_civil(micros.div_euclid(MICROS_PER_DAY), out);
    out.push(b' ');
    write_time(micros.rem_euclid(MICROS_PER_DAY), out);
    if bc {
        out.extend_from_slice(b" BC");
    }
}

fn write_timestamptz(micros: i64, zone: Option<&Tz>, out: &mut Vec<u8>) {
    if write_infinity(micros, out) {
        return;
    }
    let offset = zone.map_or(0, |z| datetime::offset_at(z, micros));
    let local = micros.saturating_add(i64::from(offset) * 1_000_000);
    let bc = write_civil(local.div_euclid(MICROS_PER_DAY), out);
    out.push(b' ');
    write_time(local.rem_euclid(MICROS_PER_DAY), out);
    out.push(if offset < 0 { b'-' } else { b'+' });
    let a = i64::from(offset.abs());
    two(a / 3600, out);
    if a % 3600 != 0 {
        out.push(b':');
        two(a / 60 % 60, out);
        if a % 60 != 0 {
            out.push(b':');
            two(a % 60, out);
        }
    }
    if bc {
        out.extend_from_slice(b" BC");
    }
}

/// `IntervalStyle = postgres`.
fn write_interval(months: i32, days: i32, micros: i64, out: &mut Vec<u8>) {
    let mut first = true;
    let mut before = false;
    for (value, unit) in [(months / 12, &b" year"[..]), (months % 12, b" mon"), (days, b" day")] {
        if value == 0 {
            continue;
        }
        if !first {
            out.push(b' ');
        }
        if before && value > 0 {
            out.push(b'+');
        }
        write_i64(value.into(), out);
        out.extend_from_slice(unit);
        if value != 1 {
            out.push(b's');
        }
        before = value < 0;
        first = false;
    }
    if first || micros != 0 {
        if !first {
            out.push(b' ');
        }
        if micros < 0 {
            out.push(b'-');
        } else if before {
            out.push(b'+');
        }
        let a = micros.unsigned_abs();
        let seconds = a / 1_000_000;
        two((seconds / 3600) as i64, out);
        out.push(b':');
        two((seconds / 60 % 60) as i64, out);
        out.push(b':');
        two((seconds % 60) as i64, out);
        write_fraction((a % 1_000_000) as i64, out);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::*;

    use super::super::division_metadata;
    use super::*;

    fn text_of(field: &Field, array: &dyn Array, options: &TextOptions) -> Vec<String> {
        let f = TextFormatter::new(field, options);
        (0..array.len())
            .map(|i| {
                let mut out = Vec::new();
                f.write(array, i, &mut out);
                String::from_utf8(out).unwrap()
            })
            .collect()
    }

    fn show(array: &dyn Array) -> Vec<String> {
        text_of(&Field::new("a", array.data_type().clone(), true), array, &TextOptions::default())
    }

    #[test]
    fn floats_print_as_postgresql_prints_them() {
        let a = Float64Array::from(vec![
            1.0,
            0.1,
            1e20,
            1e15,
            1e14,
            123456789012345678.0,
            1e-4,
            1e-5,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1.5e300,
            5e-324,
            100.25,
        ]);
        assert_eq!(
            show(&a),
            [
                "1",
                "0.1",
                "1e+20",
                "1e+15",
                "100000000000000",
                "1.2345678901234568e+17",
                "0.0001",
                "1e-05",
                "-0",
                "NaN",
                "Infinity",
                "-Infinity",
                "1.5e+300",
                "5e-324",
                "100.25"
            ]
        );
        let a = Float32Array::from(vec![1e6, 1e5, 1234567.0, 0.1]);
        assert_eq!(show(&a), ["1e+06", "100000", "1.234567e+06", "0.1"]);
        let a = Float64Array::from(vec![0.1 + 0.2, 1.0 / 3.0, 1e15]);
        let o = TextOptions { extra_float_digits: 0, ..Default::default() };
        let f = Field::new("a", DataType::Float64, true);
        assert_eq!(text_of(&f, &a, &o), ["0.3", "0.333333333333333", "1e+15"]);
    }

    #[test]
    fn integers_at_their_limits_print() {
        assert_eq!(
            show(&Int64Array::from(vec![i64::MIN, -1, 0, i64::MAX])),
            ["-9223372036854775808", "-1", "0", "9223372036854775807"]
        );
    }

    #[test]
    fn numerics_keep_their_scale_and_free_ones_are_trimmed() {
        let a = Decimal128Array::from(vec![150, -5, 0]).with_precision_and_scale(12, 2).unwrap();
        assert_eq!(show(&a), ["1.50", "-0.05", "0.00"]);
        let free = |v: Vec<i128>| Decimal128Array::from(v).with_precision_and_scale(38, 18).unwrap();
        assert_eq!(
            show(&free(vec![1_500_000_000_000_000_000, 0, -1, 3_000_000_000_000_000_000])),
            ["1.5", "0", "-0.000000000000000001", "3"]
        );
    }

    #[test]
    fn a_quotient_shows_the_scale_that_postgresql_gives_it() {
        let one = 10i128.pow(20);
        // As a division leaves them: zeros beyond the digits that it gives.
        let given = |v: i128, digits: u32| v / 10i128.pow(20 - digits) * 10i128.pow(20 - digits);
        let a = Decimal128Array::from(vec![
            one / 3,
            one * 5 / 2,
            one * 20_000 + one / 2,
            0,
            -(one * 2 / 3) - 1,
            given(one * 10_000 / 3, 16),
            given(one * 200_000_000 + one / 3, 8),
            one,
            -one * 10_000,
        ])
        .with_precision_and_scale(38, 20)
        .unwrap();
        let f = Field::new("a", DataType::Decimal128(38, 20), true).with_metadata(division_metadata());
        assert_eq!(
            text_of(&f, &a, &TextOptions::default()),
            [
                "0.33333333333333333333",
                "2.5000000000000000",
                "20000.500000000000",
                "0.00000000000000000000",
                "-0.66666666666666666667",
                "3333.3333333333333333",
                "200000000.33333333",
                "1.00000000000000000000",
                "-10000.0000000000000000",
            ]
        );
    }

    #[test]
    fn dates_and_times_print_in_iso_style() {
        let days = |y, m, d| days_from(y, m, d);
        let a = Date32Array::from(vec![days(2024, 2, 29), days(-43, 3, 15), days(12024, 1, 1), i32::MAX]);
        assert_eq!(show(&a), ["2024-02-29", "0044-03-15 BC", "12024-01-01", "infinity"]);
        let t = 1_709_210_096_123_400;
        let a = TimestampMicrosecondArray::from(vec![t, 0, -1, i64::MIN]);
        assert_eq!(
            show(&a),
            ["2024-02-29 12:34:56.1234", "1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "-infinity"]
        );
        let a = a.with_timezone("UTC");
        assert_eq!(show(&a)[0], "2024-02-29 12:34:56.1234+00");
        let o = TextOptions::default().with_time_zone("Asia/Kolkata").unwrap();
        let f = Field::new("a", a.data_type().clone(), true);
        assert_eq!(text_of(&f, &a, &o)[0], "2024-02-29 18:04:56.1234+05:30");
        let o = TextOptions::default().with_time_zone("America/New_York").unwrap();
        assert_eq!(text_of(&f, &a, &o)[0], "2024-02-29 07:34:56.1234-05");
        assert_eq!(show(&Time64MicrosecondArray::from(vec![45_296_500_000])), ["12:34:56.5"]);
    }

    fn days_from(y: i64, m: u32, d: u32) -> i32 {
        super::super::days_from_civil(y, m, d) as i32
    }

    #[test]
    fn intervals_print_in_postgres_style() {
        use arrow::datatypes::IntervalMonthDayNano as I;
        let a = IntervalMonthDayNanoArray::from(vec![
            I::new(14, 3, 14_706_789_000_000),
            I::new(0, 0, 0),
            I::new(-14, 3, -1_000),
            I::new(0, -1, 3_600_000_000_000),
            I::new(1, 0, 0),
        ]);
        assert_eq!(
            show(&a),
            [
                "1 year 2 mons 3 days 04:05:06.789",
                "00:00:00",
                "-1 years -2 mons +3 days -00:00:00.000001",
                "-1 days +01:00:00",
                "1 mon"
            ]
        );
    }

    #[test]
    fn arrays_quote_what_needs_quoting() {
        let mut b = ListBuilder::new(StringBuilder::new());
        for v in [Some("a"), Some("b c"), None, Some(""), Some("NULL"), Some("q\"\\"), Some("{,}")] {
            b.values().append_option(v);
        }
        b.append(true);
        b.append(true);
        assert_eq!(show(&b.finish()), [r#"{a,"b c",NULL,"","NULL","q\"\\","{,}"}"#, "{}"]);
    }

    #[test]
    fn bytes_print_as_hex_or_escaped_and_uuids_with_hyphens() {
        let a = BinaryArray::from(vec![&b"\x00a\\\xff"[..]]);
        assert_eq!(show(&a), ["\\x00615cff"]);
        let f = Field::new("a", DataType::Binary, true);
        let o = TextOptions { bytea_hex: false, ..Default::default() };
        assert_eq!(text_of(&f, &a, &o), ["\\000a\\\\\\377"]);
        let u = FixedSizeBinaryArray::try_from_iter([[0x12u8; 16]].iter()).unwrap();
        assert_eq!(show(&u), ["12121212-1212-1212-1212-121212121212"]);
    }

    #[test]
    fn booleans_dictionaries_and_padded_characters_print() {
        assert_eq!(show(&BooleanArray::from(vec![true, false])), ["t", "f"]);
        let d: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
        assert_eq!(show(&d), ["x", "y", "x"]);
        let c = PgType { oid: oid::BPCHAR, typmod: 7 };
        let a: ArrayRef = Arc::new(StringArray::from(vec!["é"]));
        assert_eq!(text_of(&c.field("a", true), &a, &TextOptions::default()), ["é  "]);
    }
}
