//! Date and time functions and operators with PostgreSQL's results.
//!
//! Boundary: kernels over microseconds since 1970 and the expressions that call them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Int32Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Field, Float64Type, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeZone, Timelike, Utc};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, Volatility, lit};

use super::{DfResult, as_arrays, df_error, from_array, native, native_with};
use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

fn overflow(what: &str) -> Error {
    Error::new(ErrorKind::DatetimeOverflow, format!("{what} out of range"))
}

fn moment(micros: i64) -> DfResult<NaiveDateTime> {
    DateTime::<Utc>::from_timestamp_micros(micros)
        .map(|t| t.naive_utc())
        .ok_or_else(|| df_error(overflow("timestamp")))
}

/// `now()` of a view: a name that the plan turns into a temporal filter; it has no value of its own.
pub fn view_now() -> Expr {
    let field = Field::new("", PgType::TIMESTAMPTZ.arrow(), false);
    native_with(
        "now",
        field,
        |_, _| {
            Err(df_error(
                Error::unsupported("now() in a view can only bound a column in WHERE or HAVING")
                    .with_hint("Write a temporal filter such as ts > now() - INTERVAL '1 hour'."),
            ))
        },
        Volatility::Stable,
        vec![],
    )
}

/// extract(field from value): numeric; date_part gives the same as float8.
pub fn extract(field: &str, value: Expr, data_type: &DataType) -> Result<Expr> {
    let name = field.to_lowercase();
    let part = Part::parse(&name).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidParameter,
            format!("unit \"{name}\" not recognized for type {}", PgType::from_arrow(data_type).sql_name()),
        )
    })?;
    let fraction = matches!(part, Part::Second | Part::Milliseconds)
        || part == Part::Epoch && !matches!(data_type, DataType::Date32)
        || part == Part::Julian && !matches!(data_type, DataType::Date32);
    let result = DataType::Decimal128(38, if fraction { 6 } else { 0 });
    Ok(native(format!("extract_{name}"), result, EXTRACT, vec![value, lit(name)]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Century,
    Day,
    Decade,
    Dow,
    Doy,
    Epoch,
    Hour,
    Isodow,
    Isoyear,
    Julian,
    Microseconds,
    Millennium,
    Milliseconds,
    Minute,
    Month,
    Quarter,
    Second,
    Week,
    Year,
}

impl Part {
    fn parse(name: &str) -> Option<Part> {
        Some(match name {
            "century" | "centuries" => Part::Century,
            "day" | "days" => Part::Day,
            "decade" | "decades" => Part::Decade,
            "dow" => Part::Dow,
            "doy" => Part::Doy,
            "epoch" => Part::Epoch,
            "hour" | "hours" => Part::Hour,
            "isodow" => Part::Isodow,
            "isoyear" => Part::Isoyear,
            "julian" => Part::Julian,
            "microseconds" | "microsecond" => Part::Microseconds,
            "millennium" | "millenniums" => Part::Millennium,
            "milliseconds" | "millisecond" => Part::Milliseconds,
            "minute" | "minutes" => Part::Minute,
            "month" | "months" => Part::Month,
            "quarter" => Part::Quarter,
            "second" | "seconds" => Part::Second,
            "week" | "weeks" => Part::Week,
            "year" | "years" => Part::Year,
            _ => return None,
        })
    }

    /// The part of a moment, times 10^6.
    fn of(self, t: NaiveDateTime) -> i64 {
        let year = i64::from(t.year());
        let micros = i64::from(t.nanosecond() / 1000);
        let whole = match self {
            Part::Century => (year + 99).div_euclid(100),
            Part::Day => i64::from(t.day()),
            Part::Decade => year.div_euclid(10),
            Part::Dow => i64::from(t.weekday().num_days_from_sunday()),
            Part::Doy => i64::from(t.ordinal()),
            Part::Epoch => return t.and_utc().timestamp_micros(),
            Part::Hour => i64::from(t.hour()),
            Part::Isodow => i64::from(t.weekday().number_from_monday()),
            Part::Isoyear => i64::from(t.iso_week().year()),
            Part::Julian => {
                let days = t.and_utc().timestamp_micros().div_euclid(DAY) + 2_440_588;
                return days * SECOND + t.and_utc().timestamp_micros().rem_euclid(DAY) / 86_400;
            }
            Part::Microseconds => i64::from(t.second()) * SECOND + micros,
            Part::Millennium => (year + 999).div_euclid(1000),
            Part::Milliseconds => return (i64::from(t.second()) * SECOND + micros) * 1000,
            Part::Minute => i64::from(t.minute()),
            Part::Month => i64::from(t.month()),
            Part::Quarter => i64::from(t.month0() / 3 + 1),
            Part::Second => return i64::from(t.second()) * SECOND + micros,
            Part::Week => i64::from(t.iso_week().week()),
            Part::Year => year,
        };
        whole * SECOND
    }

    fn of_interval(self, v: IntervalMonthDayNano) -> Option<i64> {
        let micros = v.nanoseconds / 1000;
        let (years, months) = (i64::from(v.months / 12), i64::from(v.months % 12));
        Some(
            SECOND
                * match self {
                    Part::Century => years / 100,
                    Part::Decade => years / 10,
                    Part::Millennium => years / 1000,
                    Part::Year => years,
                    Part::Quarter => months / 3 + 1,
                    Part::Month => months,
                    Part::Day => i64::from(v.days),
                    Part::Hour => micros / (3600 * SECOND),
                    Part::Minute => micros / (60 * SECOND) % 60,
                    Part::Second => return Some(micros % (60 * SECOND)),
                    Part::Milliseconds => return (micros % (60 * SECOND)).checked_mul(1000),
                    Part::Microseconds => micros % (60 * SECOND),
                    // A year is 365.25 days, a month 30.
                    Part::Epoch => {
                        let seconds = years * 31_557_600 + months * 2_592_000 + i64::from(v.days) * 86_400;
                        return Some(seconds * SECOND + micros);
                    }
                    _ => return None,
                },
        )
    }
}

const EXTRACT: super::Kernel = |args, result| {
    let part = match &args.args[1] {
        ColumnarValue::Scalar(s) => s.try_as_str().flatten().and_then(Part::parse),
        ColumnarValue::Array(_) => None,
    }
    .ok_or_else(|| df_error(Error::internal("unit is not a constant")))?;
    let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
    let array = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
    let DataType::Decimal128(_, scale) = result else {
        return Err(df_error(Error::internal("extract is not numeric")));
    };
    let divisor = if *scale == 0 { SECOND } else { 1 };
    let scaled = |v: i64| i128::from(v / divisor);
    let unsupported = || {
        df_error(Error::unsupported(format!(
            "unit not supported for type {}",
            PgType::from_arrow(array.data_type()).sql_name()
        )))
    };
    let out: Decimal128Array = match array.data_type() {
        DataType::Date32 => array
            .as_primitive::<Date32Type>()
            .try_unary(|d| moment(i64::from(d) * DAY).map(|t| scaled(part.of(t))))?,
        DataType::Time64(TimeUnit::Microsecond) => array
            .as_primitive::<Time64MicrosecondType>()
            .try_unary(|t| moment(t).map(|t| scaled(part.of(t))))?,
        DataType::Interval(_) => array
            .as_primitive::<IntervalMonthDayNanoType>()
            .try_unary(|v| part.of_interval(v).map(scaled).ok_or_else(unsupported))?,
        _ => {
            let micros = arrow::compute::cast(&array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            micros
                .as_primitive::<TimestampMicrosecondType>()
                .try_unary(|t| moment(t).map(|t| scaled(part.of(t))))?
        }
    };
    from_array(Arc::new(out.with_data_type(result.clone())), scalar)
};

/// Whether `extract` knows a part of this (lower case) name.
pub fn is_part(name: &str) -> bool {
    Part::parse(name).is_some()
}

/// date - date: days.
pub fn date_difference(left: Expr, right: Expr) -> Expr {
    native(
        "date_mi",
        DataType::Int32,
        |args, _| {
            let (arrays, scalar) = as_arrays(args)?;
            let out: Int32Array = arrow::compute::binary(
                arrays[0].as_primitive::<Date32Type>(),
                arrays[1].as_primitive::<Date32Type>(),
                i32::wrapping_sub,
            )?;
            from_array(Arc::new(out), scalar)
        },
        vec![left, right],
    )
}

/// date + days or date - days.
pub fn date_shift(date: Expr, days: Expr, minus: bool) -> Expr {
    fn shift(args: &ScalarFunctionArgs, op: fn(i32, i32) -> Option<i32>) -> DfResult<ColumnarValue> {
        let (arrays, scalar) = as_arrays(args)?;
        let out: Date32Array = arrow::compute::try_binary(
            arrays[0].as_primitive::<Date32Type>(),
            arrays[1].as_primitive::<Int32Type>(),
            |d, n| {
                op(d, n).ok_or_else(|| arrow::error::ArrowError::ExternalError(Box::new(overflow("date"))))
            },
        )?;
        from_array(Arc::new(out), scalar)
    }
    if minus {
        native("date_mii", DataType::Date32, |a, _| shift(a, i32::checked_sub), vec![date, days])
    } else {
        native("date_pli", DataType::Date32, |a, _| shift(a, i32::checked_add), vec![date, days])
    }
}

fn interval(months: i32, days: i64, micros: i64) -> Option<IntervalMonthDayNano> {
    Some(IntervalMonthDayNano::new(months, i32::try_from(days).ok()?, micros.checked_mul(1000)?))
}

fn micros_of(array: &ArrayRef) -> DfResult<TimestampMicrosecondArray> {
    let plain = arrow::compute::cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    Ok(plain.as_primitive::<TimestampMicrosecondType>().clone())
}

fn interval_of_two(
    args: &ScalarFunctionArgs,
    f: impl Fn(i64, i64) -> Option<IntervalMonthDayNano>,
) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out: arrow::array::IntervalMonthDayNanoArray =
        arrow::compute::try_binary(&micros_of(&arrays[0])?, &micros_of(&arrays[1])?, |a, b| {
            f(a, b).ok_or_else(|| arrow::error::ArrowError::ExternalError(Box::new(overflow("interval"))))
        })?;
    from_array(Arc::new(out), scalar)
}

/// timestamp - timestamp: days and time, no months.
pub fn timestamp_difference(left: Expr, right: Expr) -> Expr {
    native(
        "timestamp_mi",
        PgType::INTERVAL.arrow(),
        |args, _| {
            interval_of_two(args, |a, b| {
                let d = a.checked_sub(b)?;
                interval(0, d / DAY, d % DAY)
            })
        },
        vec![left, right],
    )
}

/// age(timestamp, timestamp): years, months and days as a person counts them.
pub fn age(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    interval_of_two(args, |a, b| {
        if a < b {
            return age_between(b, a).map(|v| IntervalMonthDayNano::new(-v.months, -v.days, -v.nanoseconds));
        }
        age_between(a, b)
    })
}

fn age_between(later: i64, earlier: i64) -> Option<IntervalMonthDayNano> {
    let (a, b) = (moment(later).ok()?, moment(earlier).ok()?);
    let mut months = (a.year() - b.year()) * 12 + a.month() as i32 - b.month() as i32;
    let mut days = i64::from(a.day()) - i64::from(b.day());
    let mut micros = later.rem_euclid(DAY) - earlier.rem_euclid(DAY);
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    if days < 0 {
        // The month borrowed is the earlier date's.
        let first = NaiveDate::from_ymd_opt(b.year(), b.month(), 1)?;
        let next = first.checked_add_months(chrono::Months::new(1))?;
        days += (next - first).num_days();
        months -= 1;
    }
    interval(months, days, micros)
}

/// interval * number and interval / number.
pub fn scale_interval(value: Expr, factor: Expr, divide: bool) -> Expr {
    fn scale(args: &ScalarFunctionArgs, divide: bool) -> DfResult<ColumnarValue> {
        let (arrays, scalar) = as_arrays(args)?;
        let out: arrow::array::IntervalMonthDayNanoArray = arrow::compute::try_binary(
            arrays[0].as_primitive::<IntervalMonthDayNanoType>(),
            arrays[1].as_primitive::<Float64Type>(),
            |v, f: f64| {
                if divide && f == 0.0 {
                    return Err(arrow::error::ArrowError::DivideByZero);
                }
                let f = if divide { 1.0 / f } else { f };
                // Fractions of months become days of a 30-day month, fractions of days become time.
                let months = f64::from(v.months) * f;
                let days = f64::from(v.days) * f + (months.fract() * 30.0);
                let micros = (v.nanoseconds as f64 / 1000.0) * f + days.fract() * DAY as f64;
                let fits = months.abs() < f64::from(i32::MAX)
                    && days.abs() < f64::from(i32::MAX)
                    && micros.abs() < 9.2e15;
                if !fits {
                    return Err(arrow::error::ArrowError::ExternalError(Box::new(overflow("interval"))));
                }
                Ok(IntervalMonthDayNano::new(months as i32, days as i32, micros.round() as i64 * 1000))
            },
        )?;
        from_array(Arc::new(out), scalar)
    }
    if divide {
        native("interval_div", PgType::INTERVAL.arrow(), |a, _| scale(a, true), vec![value, factor])
    } else {
        native("interval_mul", PgType::INTERVAL.arrow(), |a, _| scale(a, false), vec![value, factor])
    }
}

/// date + time.
pub fn date_and_time(date: Expr, time: Expr) -> Expr {
    native(
        "datetime_pl",
        PgType::TIMESTAMP.arrow(),
        |args, _| {
            let (arrays, scalar) = as_arrays(args)?;
            let out: TimestampMicrosecondArray = arrow::compute::binary(
                arrays[0].as_primitive::<Date32Type>(),
                arrays[1].as_primitive::<Time64MicrosecondType>(),
                |d, t| i64::from(d) * DAY + t,
            )?;
            from_array(Arc::new(out), scalar)
        },
        vec![date, time],
    )
}

/// `timestamp AT TIME ZONE zone` and back: the wall clock of the zone.
pub fn at_time_zone(value: Expr, data_type: &DataType, zone: Expr) -> Expr {
    let to_utc = matches!(data_type, DataType::Timestamp(_, None));
    let result = if to_utc { PgType::TIMESTAMPTZ } else { PgType::TIMESTAMP };
    native(
        if to_utc { "timezone_in" } else { "timezone_out" },
        result.arrow(),
        |args, result| {
            let (arrays, scalar) = as_arrays(args)?;
            let to_utc = matches!(result, DataType::Timestamp(_, Some(_)));
            let zones = arrays[1].as_string::<i32>();
            let values = micros_of(&arrays[0])?;
            let mut last: Option<(String, arrow::array::timezone::Tz)> = None;
            let mut out = Vec::with_capacity(values.len());
            for row in 0..values.len() {
                if values.is_null(row) || zones.is_null(row) {
                    out.push(None);
                    continue;
                }
                let name = zones.value(row);
                let tz = match &last {
                    Some((n, tz)) if n == name => *tz,
                    _ => {
                        let iana = if name.eq_ignore_ascii_case("utc") { "UTC" } else { name };
                        let tz = iana.parse().map_err(|_| {
                            df_error(Error::new(
                                ErrorKind::InvalidParameter,
                                format!("time zone \"{name}\" not recognized"),
                            ))
                        })?;
                        last = Some((name.to_string(), tz));
                        tz
                    }
                };
                let t = moment(values.value(row))?;
                out.push(Some(if to_utc {
                    local_to_utc(tz, t)
                } else {
                    tz.from_utc_datetime(&t).naive_local().and_utc().timestamp_micros()
                }));
            }
            let array = TimestampMicrosecondArray::from(out).with_data_type(result.clone());
            from_array(Arc::new(array), scalar)
        },
        vec![value, zone],
    )
}

/// A local time that a clock change skips is taken as if the clock had not changed.
fn local_to_utc(tz: arrow::array::timezone::Tz, local: NaiveDateTime) -> i64 {
    match tz.from_local_datetime(&local).earliest() {
        Some(t) => t.timestamp_micros(),
        None => {
            let before = local - chrono::TimeDelta::hours(1);
            let t = tz
                .from_local_datetime(&before)
                .earliest()
                .map_or(before.and_utc().timestamp_micros(), |t| t.timestamp_micros());
            t + 3600 * SECOND
        }
    }
}

/// make_date(year, month, day).
pub fn make_date(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let part = |i: usize| arrays[i].as_primitive::<Int32Type>();
    let mut out = Vec::with_capacity(arrays[0].len());
    for row in 0..arrays[0].len() {
        if arrays.iter().any(|a| a.is_null(row)) {
            out.push(None);
            continue;
        }
        let (y, m, d) = (part(0).value(row), part(1).value(row), part(2).value(row));
        let date = u32::try_from(m)
            .ok()
            .zip(u32::try_from(d).ok())
            .and_then(|(m, d)| NaiveDate::from_ymd_opt(y, m, d));
        let Some(date) = date.filter(|_| y != 0) else {
            return Err(df_error(Error::new(
                ErrorKind::DatetimeOverflow,
                format!("date field value out of range: {y}-{m:02}-{d:02}"),
            )));
        };
        out.push(Some((date - NaiveDate::default()).num_days() as i32));
    }
    from_array(Arc::new(Date32Array::from(out)), scalar)
}

/// to_timestamp(seconds).
pub fn to_timestamp(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out: TimestampMicrosecondArray = arrays[0].as_primitive::<Float64Type>().try_unary(|v| {
        let micros = (v * 1e6).round_ties_even();
        if micros.abs() < 9.2e18 { Ok(micros as i64) } else { Err(df_error(overflow("timestamp"))) }
    })?;
    from_array(Arc::new(out.with_data_type(result.clone())), scalar)
}

/// isfinite(timestamp): all of ours are.
pub fn is_finite(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out =
        BooleanArray::new(arrow::buffer::BooleanBuffer::new_set(arrays[0].len()), arrays[0].nulls().cloned());
    from_array(Arc::new(out), scalar)
}

/// justify_hours(interval): whole days out of the time.
pub fn justify_hours(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let out: arrow::array::IntervalMonthDayNanoArray =
        arrays[0].as_primitive::<IntervalMonthDayNanoType>().try_unary(|v| {
            let micros = v.nanoseconds / 1000;
            interval(v.months, i64::from(v.days) + micros / DAY, micros % DAY)
                .ok_or_else(|| df_error(overflow("interval")))
        })?;
    from_array(Arc::new(out), scalar)
}

/// to_char(timestamp, template).
pub fn to_char(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    if let [ColumnarValue::Array(times), ColumnarValue::Scalar(template)] = args.args.as_slice()
        && let Some(Some(template)) = template.try_as_str()
    {
        let times = micros_of(times)?;
        return Ok(ColumnarValue::Array(Arc::new(texts_of_times(&times, |_| Some(template))?)));
    }
    let (arrays, scalar) = as_arrays(args)?;
    let templates = arrays[1].as_string::<i32>();
    let text =
        texts_of_times(&micros_of(&arrays[0])?, |row| templates.is_valid(row).then(|| templates.value(row)))?;
    from_array(Arc::new(text), scalar)
}

/// Rows of one time come together, and most templates show days: the last text is often the next one.
fn texts_of_times<'a>(
    times: &TimestampMicrosecondArray,
    template_of: impl Fn(usize) -> Option<&'a str>,
) -> DfResult<StringArray> {
    let mut bytes: Vec<u8> = Vec::with_capacity(times.len() * 10);
    let mut offsets = Vec::with_capacity(times.len() + 1);
    offsets.push(0_i32);
    let mut valid = Vec::with_capacity(times.len());
    let mut template = "";
    let mut text = String::new();
    // The text holds for times from `start` until before `end`.
    let (mut start, mut end) = (0, 0);
    for (row, time) in times.values().iter().enumerate() {
        match template_of(row) {
            Some(wanted) if times.is_valid(row) => {
                let same = std::ptr::eq(wanted, template) || wanted == template;
                if !same || *time < start || *time >= end {
                    let unit = finest_unit(wanted);
                    template = wanted;
                    text = format_template(moment(*time)?, template);
                    start = time.div_euclid(unit) * unit;
                    end = start.saturating_add(unit);
                }
                bytes.extend_from_slice(text.as_bytes());
                valid.push(true);
            }
            _ => valid.push(false),
        }
        let end = i32::try_from(bytes.len());
        offsets.push(
            end.map_err(|_| df_error(Error::new(ErrorKind::ProgramLimit, "requested length too large")))?,
        );
    }
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    Ok(StringArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), nulls)?)
}

/// The microseconds within which the text of a template cannot change: a day, a second, or nothing.
fn finest_unit(template: &str) -> i64 {
    let shows = |patterns: &[&str]| patterns.iter().any(|p| template.contains(p));
    if shows(&["MS", "US"]) {
        1
    } else if shows(&["HH", "MI", "SS", "AM", "PM", "am", "pm"]) {
        SECOND
    } else {
        DAY
    }
}

/// Template patterns, longest first.
const PATTERNS: &[&str] = &[
    "HH24", "HH12", "YYYY", "Month", "MONTH", "month", "DDD", "Day", "DAY", "day", "Mon", "MON", "mon",
    "IYYY", "HH", "MI", "SS", "MS", "US", "YY", "MM", "DD", "Dy", "DY", "dy", "ID", "IW", "WW", "AM", "PM",
    "am", "pm", "Q", "D",
];

fn format_template(t: NaiveDateTime, template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"').unwrap_or((quoted, ""));
            out.push_str(text);
            rest = after;
            continue;
        }
        let plain = rest.strip_prefix("FM");
        let body = plain.unwrap_or(rest);
        if let Some(p) = PATTERNS.iter().find(|p| body.starts_with(**p)) {
            let value = pattern(t, p);
            if plain.is_some() {
                let trimmed = value.trim_end().trim_start_matches('0');
                out.push_str(if trimmed.is_empty() { "0" } else { trimmed });
            } else {
                out.push_str(&value);
            }
            rest = &body[p.len()..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

fn pattern(t: NaiveDateTime, p: &str) -> String {
    let (month, day) = (t.format("%B").to_string(), t.format("%A").to_string());
    match p {
        "HH24" => format!("{:02}", t.hour()),
        "HH12" | "HH" => format!("{:02}", t.hour12().1),
        "MI" => format!("{:02}", t.minute()),
        "SS" => format!("{:02}", t.second()),
        "MS" => format!("{:03}", t.nanosecond() / 1_000_000),
        "US" => format!("{:06}", t.nanosecond() / 1000),
        "YYYY" => format!("{:04}", t.year()),
        "IYYY" => format!("{:04}", t.iso_week().year()),
        "YY" => format!("{:02}", t.year().rem_euclid(100)),
        "MM" => format!("{:02}", t.month()),
        "DD" => format!("{:02}", t.day()),
        "DDD" => format!("{:03}", t.ordinal()),
        "D" => t.weekday().number_from_sunday().to_string(),
        "ID" => t.weekday().number_from_monday().to_string(),
        "IW" => format!("{:02}", t.iso_week().week()),
        "WW" => format!("{:02}", t.ordinal0() / 7 + 1),
        "Q" => (t.month0() / 3 + 1).to_string(),
        "AM" | "PM" => if t.hour() < 12 { "AM" } else { "PM" }.to_string(),
        "am" | "pm" => if t.hour() < 12 { "am" } else { "pm" }.to_string(),
        "Month" => format!("{month:<9}"),
        "MONTH" => format!("{:<9}", month.to_uppercase()),
        "month" => format!("{:<9}", month.to_lowercase()),
        "Mon" => month[..3].to_string(),
        "MON" => month[..3].to_uppercase(),
        "mon" => month[..3].to_lowercase(),
        "Day" => format!("{day:<9}"),
        "DAY" => format!("{:<9}", day.to_uppercase()),
        "day" => format!("{:<9}", day.to_lowercase()),
        "Dy" => day[..3].to_string(),
        "DY" => day[..3].to_uppercase(),
        _ => day[..3].to_lowercase(),
    }
}

/// The constant of a timestamptz.
pub fn timestamptz_literal(micros: i64) -> Expr {
    Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), Some(crate::types::UTC.into())), None)
}
