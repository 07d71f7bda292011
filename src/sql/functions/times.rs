//! Date and time functions beyond those of [`super::datetime`]: making and taking apart, zones, arithmetic that
//! knows infinity.
//!
//! Boundary: kernels and their signatures.

use arrow::array::timezone::Tz;
use arrow::array::{
    BooleanBuilder, Date32Builder, IntervalMonthDayNanoBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use chrono::{DateTime, NaiveDateTime, TimeZone};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::kernel::rows;
use super::registry::Build::{Native, With, Zoned};
use super::registry::Spec;
use super::to_char::Zones;
use super::{DfResult, datetime, periods};
use crate::error::{Error, ErrorKind, Result};
use crate::types::text::{civil_from_days, days_from_civil};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn overflow(what: &str) -> Error {
    Error::new(ErrorKind::DatetimeOverflow, format!("{what} out of range"))
}

fn infinite(micros: i64) -> bool {
    matches!(micros, i64::MAX | i64::MIN)
}

/// Abbreviations of zones that are no names of zones.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("acst", 34200),
    ("aest", 36000),
    ("aedt", 39600),
    ("akst", -32400),
    ("akdt", -28800),
    ("art", -10800),
    ("awst", 28800),
    ("bst", 3600),
    ("brt", -10800),
    ("cat", 7200),
    ("cdt", -18000),
    ("cest", 7200),
    ("cet", 3600),
    ("cst", -21600),
    ("eat", 10800),
    ("edt", -14400),
    ("eest", 10800),
    ("eet", 7200),
    ("est", -18000),
    ("gmt", 0),
    ("hst", -36000),
    ("ist", 7200),
    ("jst", 32400),
    ("kst", 32400),
    ("mdt", -21600),
    ("msk", 10800),
    ("mst", -25200),
    ("nzdt", 46800),
    ("nzst", 43200),
    ("pdt", -25200),
    ("pst", -28800),
    ("sast", 7200),
    ("sgt", 28800),
    ("ut", 0),
    ("utc", 0),
    ("wast", 7200),
    ("wat", 3600),
    ("west", 3600),
    ("wet", 0),
    ("z", 0),
    ("zulu", 0),
];

fn fixed(seconds: i32) -> Option<Tz> {
    let a = seconds.abs();
    format!("{}{:02}:{:02}", if seconds < 0 { '-' } else { '+' }, a / 3600, a / 60 % 60).parse().ok()
}

/// A time zone by name, abbreviation or POSIX offset (`+02` is west of Greenwich there).
pub fn zone(name: &str) -> Result<Tz> {
    let unknown = || Error::new(ErrorKind::InvalidParameter, format!("time zone \"{name}\" not recognized"));
    let lower = name.trim().to_ascii_lowercase();
    if lower == "utc" || lower == "gmt" || lower == "zulu" || lower == "z" {
        return "UTC".parse().map_err(|_| unknown());
    }
    if let Some((_, offset)) = ABBREVIATIONS.iter().find(|(n, _)| *n == lower) {
        return fixed(*offset).ok_or_else(unknown);
    }
    let plain = !name.starts_with(['+', '-']) && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain && let Ok(tz) = name.parse::<Tz>() {
        return Ok(tz);
    }
    // Names do not depend on case.
    if plain {
        let title: String = lower
            .split_inclusive(['/', '_', '-'])
            .map(|part| {
                let mut chars = part.chars();
                chars.next().map_or(String::new(), |c| c.to_ascii_uppercase().to_string() + chars.as_str())
            })
            .collect();
        if let Ok(tz) = title.parse::<Tz>() {
            return Ok(tz);
        }
        if let Ok(tz) = name.to_ascii_uppercase().parse::<Tz>() {
            return Ok(tz);
        }
    }
    // POSIX: letters, or anything in angle brackets, and hours west.
    let offset = match lower.strip_prefix('<').and_then(|r| r.split_once('>')) {
        Some((_, rest)) => rest,
        None => lower.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
    };
    let (west, digits) = match offset.strip_prefix('-') {
        Some(d) => (-1, d),
        None => (1, offset.strip_prefix('+').unwrap_or(offset)),
    };
    let mut parts = digits.split(':').map(|p| p.parse::<i32>().ok().filter(|n| (0..=167).contains(n)));
    let (hours, minutes) = (parts.next().flatten(), parts.next().unwrap_or(Some(0)));
    let (Some(hours), Some(minutes)) = (hours, minutes) else { return Err(unknown()) };
    fixed(-west * (hours * 3600 + minutes * 60)).ok_or_else(unknown)
}

fn naive(micros: i64) -> Result<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc()).ok_or_else(|| overflow("timestamp"))
}

/// The moment of a local time; one that a clock change skips is taken as if the clock had not changed.
pub fn local_to_utc(tz: Tz, local: i64) -> Result<i64> {
    if infinite(local) {
        return Ok(local);
    }
    let t = naive(local)?;
    Ok(match tz.from_local_datetime(&t) {
        chrono::LocalResult::Single(t) => t.timestamp_micros(),
        // Of two, PostgreSQL takes the one after the change: standard time.
        chrono::LocalResult::Ambiguous(_, later) => later.timestamp_micros(),
        chrono::LocalResult::None => {
            let before = t - chrono::TimeDelta::hours(3);
            let earlier = tz.from_local_datetime(&before).earliest();
            earlier.map_or(local - 3 * HOUR, |t| t.timestamp_micros()) + 3 * HOUR
        }
    })
}

/// The local time of a moment.
pub fn utc_to_local(tz: Tz, micros: i64) -> Result<i64> {
    if infinite(micros) {
        return Ok(micros);
    }
    Ok(tz.from_utc_datetime(&naive(micros)?).naive_local().and_utc().timestamp_micros())
}

/// A day moved by months, to the last day of a shorter month.
fn add_months(days: i64, months: i64) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let total = year * 12 + i64::from(month) - 1 + months;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    let first = days_from_civil(year, month, 1);
    let next =
        if month == 12 { days_from_civil(year + 1, 1, 1) } else { days_from_civil(year, month + 1, 1) };
    first + i64::from(day).min(next - first) - 1
}

fn shift(micros: i64, v: IntervalMonthDayNano, sign: i64) -> Option<i64> {
    if infinite(micros) {
        return Some(micros);
    }
    let (days, time) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let days = if v.months == 0 { days } else { add_months(days, sign * i64::from(v.months)) };
    let days = days.checked_add(sign * i64::from(v.days))?;
    days.checked_mul(DAY)?.checked_add(time)?.checked_add(sign.checked_mul(v.nanoseconds / 1000)?)
}

/// timestamptz ± interval where days and months are the session's.
pub fn shift_in_zone(args: &ScalarFunctionArgs, result: &DataType, sign: i64) -> DfResult<ColumnarValue> {
    let mut zones = Zones::default();
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (t: Moment, v: Span, z: Text) {
        let tz = zones.get(z)?;
        let dated = IntervalMonthDayNano::new(v.months, v.days, 0);
        let local = shift(utc_to_local(tz, t)?, dated, sign).ok_or_else(|| overflow("timestamp"))?;
        let base = if v.months == 0 && v.days == 0 { t } else { local_to_utc(tz, local)? };
        let rest = IntervalMonthDayNano::new(0, 0, v.nanoseconds);
        out.append_value(shift(base, rest, sign).ok_or_else(|| overflow("timestamp"))?);
    })
}

/// time ± interval, around midnight.
pub fn shift_time(args: &ScalarFunctionArgs, result: &DataType, sign: i64) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Time64MicrosecondBuilder::new(), (t: Time, v: Span)
        out.append_value((t + sign * (v.nanoseconds / 1000 % DAY)).rem_euclid(DAY)))
}

/// time - time.
pub fn time_difference(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = IntervalMonthDayNanoBuilder::new(), (a: Time, b: Time)
        out.append_value(IntervalMonthDayNano::new(0, 0, (a - b) * 1000)))
}

fn finite_moment(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (t: Moment) out.append_value(!infinite(t)))
}

fn finite_date(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (d: Date)
        out.append_value(!matches!(d, i32::MAX | i32::MIN)))
}

fn finite_interval(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (_v: Span) out.append_value(true))
}

fn interval(months: i64, days: i64, micros: i64) -> Result<IntervalMonthDayNano> {
    let fit = |n: i64| i32::try_from(n).map_err(|_| overflow("interval"));
    Ok(IntervalMonthDayNano::new(
        fit(months)?,
        fit(days)?,
        micros.checked_mul(1000).ok_or_else(|| overflow("interval"))?,
    ))
}

/// Moves whole multiples of `unit` from the second value to the first, until both have one sign.
fn carry(high: i64, low: i64, unit: i64) -> (i64, i64) {
    let (mut high, mut low) = (high + low / unit, low % unit);
    if high > 0 && low < 0 {
        low += unit;
        high -= 1;
    } else if high < 0 && low > 0 {
        low -= unit;
        high += 1;
    }
    (high, low)
}

fn justify(args: &ScalarFunctionArgs, result: &DataType, hours: bool, days: bool) -> DfResult<ColumnarValue> {
    rows!(args, result, out = IntervalMonthDayNanoBuilder::new(), (v: Span) {
        let (mut months, mut day, mut micros) = (i64::from(v.months), i64::from(v.days), v.nanoseconds / 1000);
        if hours && days {
            // Both ways at once, so that the parts end with one sign.
            day += micros / DAY;
            micros %= DAY;
            months += day / 30;
            day %= 30;
            if months > 0 && (day < 0 || day == 0 && micros < 0) {
                day += 30;
                months -= 1;
            } else if months < 0 && (day > 0 || day == 0 && micros > 0) {
                day -= 30;
                months += 1;
            }
            if day > 0 && micros < 0 {
                micros += DAY;
                day -= 1;
            } else if day < 0 && micros > 0 {
                micros -= DAY;
                day += 1;
            }
        } else if hours {
            (day, micros) = carry(day, micros, DAY);
        } else if days {
            (months, day) = carry(months, day, 30);
        }
        out.append_value(interval(months, day, micros)?);
    })
}

fn field_range(text: String, what: &str) -> Error {
    Error::new(ErrorKind::DatetimeOverflow, format!("{what} field value out of range: {text}"))
}

fn clock(hour: i32, minute: i32, second: f64) -> Option<i64> {
    let whole = (0..24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&second)
        || hour == 24 && minute == 0 && second == 0.0;
    whole.then(|| {
        i64::from(hour) * HOUR + i64::from(minute) * MINUTE + (second * 1e6).round_ties_even() as i64
    })
}

fn make_time(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Time64MicrosecondBuilder::new(), (h: Int4, m: Int4, s: Float8)
        out.append_value(clock(h, m, s).ok_or_else(|| field_range(format!("{h}:{m:02}:{}", seconds(s)), "time"))?))
}

fn seconds(s: f64) -> String {
    let text = format!("{s}");
    if s < 10.0 { format!("0{text}") } else { text }
}

fn civil(y: i32, m: i32, d: i32) -> Option<i64> {
    let year = match y {
        0 => return None,
        y if y < 0 => i64::from(y) + 1,
        y => y.into(),
    };
    let (m, d) = (u32::try_from(m).ok()?, u32::try_from(d).ok()?);
    if !(1..=12).contains(&m) || d < 1 {
        return None;
    }
    let first = days_from_civil(year, m, 1);
    let next = if m == 12 { days_from_civil(year + 1, 1, 1) } else { days_from_civil(year, m + 1, 1) };
    (i64::from(d) <= next - first).then(|| first + i64::from(d) - 1)
}

fn date_range(y: i32, m: i32, d: i32) -> Error {
    field_range(format!("{y}-{m:02}-{d:02}"), "date")
}

fn make_date(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Date32Builder::new(), (y: Int4, m: Int4, d: Int4) {
        let days = civil(y, m, d).ok_or_else(|| date_range(y, m, d))?;
        out.append_value(i32::try_from(days).map_err(|_| overflow("date"))?);
    })
}

fn local_moment(y: i32, mo: i32, d: i32, h: i32, mi: i32, s: f64) -> Result<i64> {
    let days = civil(y, mo, d).ok_or_else(|| date_range(y, mo, d))?;
    let time = clock(h, mi, s).ok_or_else(|| field_range(format!("{h}:{mi:02}:{}", seconds(s)), "time"))?;
    days.checked_mul(DAY).and_then(|t| t.checked_add(time)).ok_or_else(|| overflow("timestamp"))
}

fn make_timestamp(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = TimestampMicrosecondBuilder::new(),
        (y: Int4, mo: Int4, d: Int4, h: Int4, mi: Int4, s: Float8)
        out.append_value(local_moment(y, mo, d, h, mi, s)?))
}

fn make_timestamptz(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut zones = Zones::default();
    rows!(args, result, out = TimestampMicrosecondBuilder::new(),
        (y: Int4, mo: Int4, d: Int4, h: Int4, mi: Int4, s: Float8, z: Text)
        out.append_value(local_to_utc(zones.get(z)?, local_moment(y, mo, d, h, mi, s)?)?))
}

fn make_interval(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = IntervalMonthDayNanoBuilder::new(),
        (y: Int4, mo: Int4, w: Int4, d: Int4, h: Int4, mi: Int4, s: Float8) {
        let micros = (s * 1e6).round_ties_even();
        if !micros.is_finite() || micros.abs() > 9.2e18 {
            Err(overflow("interval"))?;
        }
        let micros = i64::from(h)
            .checked_mul(HOUR)
            .and_then(|t| t.checked_add(i64::from(mi) * MINUTE))
            .and_then(|t| t.checked_add(micros as i64))
            .ok_or_else(|| overflow("interval"))?;
        out.append_value(interval(i64::from(y) * 12 + i64::from(mo), i64::from(w) * 7 + i64::from(d), micros)?);
    })
}

fn to_timestamp(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (v: Float8) {
        if v.is_nan() {
            Err(Error::new(ErrorKind::DatetimeOverflow, "timestamp cannot be NaN"))?;
        }
        out.append_value(if v == f64::INFINITY {
            i64::MAX
        } else if v == f64::NEG_INFINITY {
            i64::MIN
        } else {
            let micros = (v * 1e6).round_ties_even();
            if micros.abs() >= 9.2e18 {
                Err(Error::new(ErrorKind::DatetimeOverflow, format!("timestamp out of range: \"{v}\"")))?;
            }
            micros as i64
        });
    })
}

/// A unit that times are cut at.
#[derive(Clone, Copy)]
enum Unit {
    Micros(i64),
    Day,
    Week,
    Months(i64),
}

fn unit(name: &str, type_name: &str) -> Result<Unit> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "microsecond" | "microseconds" | "us" | "usec" => Unit::Micros(1),
        "millisecond" | "milliseconds" | "ms" | "msec" => Unit::Micros(1000),
        "second" | "seconds" | "s" | "sec" | "secs" => Unit::Micros(SECOND),
        "minute" | "minutes" | "m" | "min" | "mins" => Unit::Micros(MINUTE),
        "hour" | "hours" | "h" | "hr" | "hrs" => Unit::Micros(HOUR),
        "day" | "days" | "d" => Unit::Day,
        "week" | "weeks" | "w" => Unit::Week,
        "month" | "months" | "mon" | "mons" => Unit::Months(1),
        "quarter" | "qtr" => Unit::Months(3),
        "year" | "years" | "y" | "yr" | "yrs" => Unit::Months(12),
        "decade" | "decades" | "dec" | "decs" => Unit::Months(120),
        "century" | "centuries" | "c" | "cent" => Unit::Months(1200),
        "millennium" | "millennia" | "mil" | "mils" | "millenniums" => Unit::Months(12_000),
        known @ ("timezone" | "timezone_hour" | "timezone_minute") => {
            return Err(Error::unsupported(format!("unit \"{known}\" not supported for type {type_name}")));
        }
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidParameter,
                format!("unit \"{name}\" not recognized for type {type_name}"),
            ));
        }
    })
}

fn cut(local: i64, unit: Unit) -> i64 {
    let days = local.div_euclid(DAY);
    match unit {
        Unit::Micros(n) => local.div_euclid(n) * n,
        Unit::Day => days * DAY,
        Unit::Week => (days - (days + 3).rem_euclid(7)) * DAY,
        Unit::Months(n) => {
            let (year, month, _) = civil_from_days(days);
            let (year, month) = match n {
                1 => (year, month),
                3 => (year, (month - 1) / 3 * 3 + 1),
                12 => (year, 1),
                120 => (year.div_euclid(10) * 10, 1),
                // Centuries and millennia begin with their first year.
                n => ((year - 1).div_euclid(n / 12) * (n / 12) + 1, 1),
            };
            days_from_civil(year, month, 1) * DAY
        }
    }
}

/// The unit of the last row.
#[derive(Default)]
struct Units {
    last: Option<(String, Unit)>,
}

impl Units {
    fn get(&mut self, name: &str, type_name: &str) -> Result<Unit> {
        match &self.last {
            Some((n, unit)) if n == name => Ok(*unit),
            _ => {
                let found = unit(name, type_name)?;
                self.last = Some((name.to_string(), found));
                Ok(found)
            }
        }
    }
}

/// date_trunc(unit, timestamp).
pub fn trunc_timestamp(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut units = Units::default();
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (name: Text, t: Moment) {
        let unit = units.get(name, "timestamp without time zone")?;
        out.append_value(if infinite(t) { t } else { cut(t, unit) });
    })
}

/// date_trunc(unit, timestamptz, zone).
pub fn trunc_timestamptz(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (mut zones, mut units) = (Zones::default(), Units::default());
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (name: Text, t: Moment, z: Text) {
        let unit = units.get(name, "timestamp with time zone")?;
        out.append_value(if infinite(t) {
            t
        } else if let Unit::Micros(_) = unit {
            // Within the hour the offset does not matter, but for zones with odd minutes.
            let local = utc_to_local(zones.get(z)?, t)?;
            t - (local - cut(local, unit))
        } else {
            let tz = zones.get(z)?;
            local_to_utc(tz, cut(utc_to_local(tz, t)?, unit))?
        });
    })
}

fn trunc_interval(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = IntervalMonthDayNanoBuilder::new(), (name: Text, v: Span) {
        let micros = v.nanoseconds / 1000;
        out.append_value(match unit(name, "interval")? {
            Unit::Micros(n) => IntervalMonthDayNano::new(v.months, v.days, micros / n * n * 1000),
            Unit::Day => IntervalMonthDayNano::new(v.months, v.days, 0),
            Unit::Week => Err(Error::unsupported("unit \"week\" not supported for type interval")
                .with_detail("Months usually have fractional weeks."))?,
            Unit::Months(n) => IntervalMonthDayNano::new((i64::from(v.months) / n * n) as i32, 0, 0),
        });
    })
}

/// (start, end) OVERLAPS (start, end) over timestamps.
pub fn overlaps(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    use arrow::array::{Array, AsArray};
    let columns = super::kernel::Columns::new(args)?;
    let plain = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    let arrays =
        (0..4).map(|i| Ok(arrow::compute::cast(columns.array(i), &plain)?)).collect::<DfResult<Vec<_>>>()?;
    let value = |i: usize, row: usize| {
        let a = arrays[i].as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let at = columns.index(i, row);
        a.is_valid(at).then(|| a.value(at))
    };
    let mut out = BooleanBuilder::new();
    for row in 0..columns.rows {
        let range = |s: usize| match (value(s, row), value(s + 1, row)) {
            (Some(a), Some(b)) => Some((a.min(b), Some(a.max(b)))),
            (Some(a), None) | (None, Some(a)) => Some((a, None)),
            (None, None) => None,
        };
        let (Some((s1, e1)), Some((s2, e2))) = (range(0), range(2)) else {
            out.append_null();
            continue;
        };
        let before = |end: Option<i64>, start: i64| end.map(|e| start < e);
        out.append_option(match s1.cmp(&s2) {
            std::cmp::Ordering::Greater => match before(e2, s1) {
                Some(true) => Some(true),
                // An unknown end, or one that was passed: the second period can only begin before.
                None => None,
                Some(false) => e1.map(|_| false),
            },
            std::cmp::Ordering::Less => match before(e1, s2) {
                Some(true) => Some(true),
                None => None,
                Some(false) => e2.map(|_| false),
            },
            std::cmp::Ordering::Equal => (e1.is_some() && e2.is_some()).then_some(true),
        });
    }
    columns.finish(std::sync::Arc::new(out.finish()), result)
}

/// timezone(interval, timestamp): the offset is an interval.
pub fn zone_interval_in(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (z: Span, t: Moment) {
        let offset = interval_offset(z)?;
        out.append_value(if infinite(t) { t } else { t - offset });
    })
}

fn zone_interval_out(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (z: Span, t: Moment) {
        let offset = interval_offset(z)?;
        out.append_value(if infinite(t) { t } else { t + offset });
    })
}

fn interval_offset(z: IntervalMonthDayNano) -> Result<i64> {
    if z.months != 0 || z.days != 0 {
        return Err(Error::new(
            ErrorKind::InvalidParameter,
            "interval time zone must not include months or days",
        ));
    }
    Ok(z.nanoseconds / 1000)
}

fn zone_in(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut zones = Zones::default();
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (z: Text, t: Moment)
        out.append_value(local_to_utc(zones.get(z)?, t)?))
}

fn zone_out(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut zones = Zones::default();
    rows!(args, result, out = TimestampMicrosecondBuilder::new(), (z: Text, t: Moment)
        out.append_value(utc_to_local(zones.get(z)?, t)?))
}

/// interval * number and interval / number, as PostgreSQL cascades fractions.
pub fn scale_interval(args: &ScalarFunctionArgs, result: &DataType, divide: bool) -> DfResult<ColumnarValue> {
    rows!(args, result, out = IntervalMonthDayNanoBuilder::new(), (v: Span, f: Float8) {
        if divide && f == 0.0 {
            Err(Error::new(ErrorKind::DivisionByZero, "division by zero"))?;
        }
        let times = |n: f64| if divide { n / f } else { n * f };
        let round = |n: f64| (n * 1e6).round_ties_even() / 1e6;
        let limit = f64::from(i32::MAX);
        let months = times(v.months.into());
        let days = times(v.days.into());
        if !(months.abs() <= limit && days.abs() <= limit) {
            Err(overflow("interval"))?;
        }
        let month_days = round((months - months.trunc()) * 30.0);
        let mut day = days.trunc();
        let mut rest = round((days - day + month_days - month_days.trunc()) * 86_400.0);
        if rest.abs() >= 86_400.0 {
            day += (rest / 86_400.0).trunc();
            rest -= (rest / 86_400.0).trunc() * 86_400.0;
        }
        day += month_days.trunc();
        let micros = (times(v.nanoseconds as f64 / 1000.0) + rest * 1e6).round_ties_even();
        if micros.abs() > 9.2e18 {
            Err(overflow("interval"))?;
        }
        out.append_value(interval(months.trunc() as i64, day as i64, micros as i64)?);
    })
}

/// The functions with their signatures.
pub const SPECS: &[Spec] = &[
    ("date_trunc(text,ts)->timestamp", With(periods::date_trunc), "cut at a unit"),
    (
        "date_trunc(text,tstz)->timestamptz",
        With(periods::date_trunc),
        "cut at a unit of the session's time zone",
    ),
    ("date_trunc(text,tstz,text)->timestamptz", Native(trunc_timestamptz), "cut at a unit of a time zone"),
    ("date_trunc(text,interval)->interval", Native(trunc_interval), "cut at a unit"),
    ("date_bin(interval,ts,ts)->timestamp", With(periods::date_bin), "begin of the bin of this width"),
    ("date_bin(interval,tstz,tstz)->timestamptz", With(periods::date_bin), "begin of the bin of this width"),
    ("age(ts,ts)->interval", Native(datetime::age), "years, months and days between"),
    ("age(tstz,tstz)->interval", Native(datetime::age), "years, months and days between"),
    ("make_date(int4,int4,int4)->date", Native(make_date), "of year, month and day"),
    ("make_time(int4,int4,float8)->time", Native(make_time), "of hour, minute and second"),
    (
        "make_timestamp(int4,int4,int4,int4,int4,float8)->timestamp",
        Native(make_timestamp),
        "of year, month, day, hour, minute and second",
    ),
    (
        "make_timestamptz(int4,int4,int4,int4,int4,float8)->timestamptz",
        Zoned(make_timestamptz),
        "of year, month, day, hour, minute and second",
    ),
    (
        "make_timestamptz(int4,int4,int4,int4,int4,float8,text)->timestamptz",
        Native(make_timestamptz),
        "the same in a time zone",
    ),
    (
        "make_interval(int4,int4,int4,int4,int4,int4,float8)->interval",
        Native(make_interval),
        "of years, months, weeks, days, hours, mins and secs, also by name",
    ),
    ("to_timestamp(float8)->timestamptz", Native(to_timestamp), "of seconds since 1970"),
    ("isfinite(date)->bool", Native(finite_date), "is not infinity"),
    ("isfinite(ts)->bool", Native(finite_moment), "is not infinity"),
    ("isfinite(tstz)->bool", Native(finite_moment), "is not infinity"),
    ("isfinite(interval)->bool", Native(finite_interval), "is not infinity"),
    ("justify_hours(interval)->interval", Native(|a, t| justify(a, t, true, false)), "24 hours as days"),
    ("justify_days(interval)->interval", Native(|a, t| justify(a, t, false, true)), "30 days as months"),
    ("justify_interval(interval)->interval", Native(|a, t| justify(a, t, true, true)), "both, with one sign"),
    ("timezone(text,ts)->timestamptz", Native(zone_in), "AT TIME ZONE: the moment of a local time"),
    ("timezone(text,tstz)->timestamp", Native(zone_out), "AT TIME ZONE: the local time of a moment"),
    ("timezone(interval,ts)->timestamptz", Native(zone_interval_in), "the same with an offset"),
    ("timezone(interval,tstz)->timestamp", Native(zone_interval_out), "the same with an offset"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_names_abbreviations_and_offsets() {
        let noon = 12 * HOUR;
        for (name, hours) in [
            ("UTC", 0),
            ("est", -5),
            ("Europe/Berlin", 1),
            ("europe/berlin", 1),
            ("+02", -2),
            ("UTC+3", -3),
            ("<x>-4", 4),
        ] {
            assert_eq!(utc_to_local(zone(name).unwrap(), noon).unwrap(), noon + hours * HOUR, "{name}");
        }
        assert!(zone("Nowhere/Land").is_err() && zone("").is_err());
    }

    #[test]
    fn months_are_clamped_to_their_last_day() {
        let day = |y, m, d| days_from_civil(y, m, d);
        assert_eq!(add_months(day(2024, 1, 31), 1), day(2024, 2, 29));
        assert_eq!(add_months(day(2024, 3, 31), -1), day(2024, 2, 29));
        assert_eq!(add_months(day(2023, 12, 15), 1), day(2024, 1, 15));
    }
}
