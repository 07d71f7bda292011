//! Date and time functions and operators with PostgreSQL's results.
//!
//! Boundary: kernels over microseconds since 1970 and the expressions that call them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Int32Array, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
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
    let type_name = PgType::from_arrow(data_type).sql_name();
    let part = Part::parse(&name).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidParameter,
            format!("unit \"{name}\" not recognized for type {type_name}"),
        )
    })?;
    if !part.is_of(data_type) {
        return Err(Error::unsupported(format!("unit \"{name}\" not supported for type {type_name}")));
    }
    let scale = match part {
        Part::Milliseconds => 3,
        Part::Second => 6,
        Part::Epoch | Part::Julian if !matches!(data_type, DataType::Date32) => 6,
        _ => 0,
    };
    let result = DataType::Decimal128(38, scale);
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
    Timezone,
    TimezoneHour,
    TimezoneMinute,
    Week,
    Year,
}

impl Part {
    fn parse(name: &str) -> Option<Part> {
        Some(match name {
            "century" | "centuries" | "c" | "cent" => Part::Century,
            "day" | "days" | "d" => Part::Day,
            "decade" | "decades" | "dec" | "decs" => Part::Decade,
            "dow" => Part::Dow,
            "doy" => Part::Doy,
            "epoch" => Part::Epoch,
            "hour" | "hours" | "h" | "hr" | "hrs" => Part::Hour,
            "isodow" => Part::Isodow,
            "isoyear" => Part::Isoyear,
            "julian" => Part::Julian,
            "microseconds" | "microsecond" | "us" | "usec" | "usecs" => Part::Microseconds,
            "millennium" | "millenniums" | "millennia" | "mil" | "mils" => Part::Millennium,
            "milliseconds" | "millisecond" | "ms" | "msec" | "msecs" => Part::Milliseconds,
            "minute" | "minutes" | "m" | "min" | "mins" => Part::Minute,
            "month" | "months" | "mon" | "mons" => Part::Month,
            "quarter" | "qtr" => Part::Quarter,
            "second" | "seconds" | "s" | "sec" | "secs" => Part::Second,
            "timezone" => Part::Timezone,
            "timezone_hour" | "timezone_h" => Part::TimezoneHour,
            "timezone_minute" | "timezone_m" => Part::TimezoneMinute,
            "week" | "weeks" | "w" => Part::Week,
            "year" | "years" | "y" | "yr" | "yrs" => Part::Year,
            _ => return None,
        })
    }

    /// Whether values of the type have it.
    fn is_of(self, t: &DataType) -> bool {
        use Part::*;
        let time = matches!(self, Hour | Minute | Second | Milliseconds | Microseconds | Epoch);
        let zone = matches!(self, Timezone | TimezoneHour | TimezoneMinute);
        match t {
            DataType::Date32 => !zone && (!time || self == Epoch),
            DataType::Time64(_) => time,
            DataType::Interval(_) => !zone && !matches!(self, Dow | Doy | Isodow | Isoyear | Julian | Week),
            DataType::Timestamp(_, None) => !zone,
            _ => true,
        }
    }

    /// Whether it grows with time for ever.
    fn is_monotonic(self) -> bool {
        use Part::*;
        matches!(self, Century | Decade | Epoch | Isoyear | Julian | Millennium | Year)
    }

    /// The part of a moment, times 10^6.
    fn of(self, t: NaiveDateTime) -> i64 {
        let year = i64::from(t.year());
        // Before Christ years count backwards from 1.
        let shown = if year > 0 { year } else { year - 1 };
        let micros = i64::from(t.nanosecond() / 1000);
        let whole = match self {
            Part::Century => {
                if year > 0 {
                    (year + 99) / 100
                } else {
                    -((99 - shown) / 100)
                }
            }
            Part::Day => i64::from(t.day()),
            Part::Decade => year.div_euclid(10),
            Part::Dow => i64::from(t.weekday().num_days_from_sunday()),
            Part::Doy => i64::from(t.ordinal()),
            Part::Epoch => return t.and_utc().timestamp_micros(),
            Part::Hour => i64::from(t.hour()),
            Part::Isodow => i64::from(t.weekday().number_from_monday()),
            Part::Isoyear => {
                let iso = i64::from(t.iso_week().year());
                if iso > 0 { iso } else { iso - 1 }
            }
            Part::Julian => {
                let days = t.and_utc().timestamp_micros().div_euclid(DAY) + 2_440_588;
                return days * SECOND + t.and_utc().timestamp_micros().rem_euclid(DAY) / 86_400;
            }
            Part::Microseconds => i64::from(t.second()) * SECOND + micros,
            Part::Millennium => {
                if year > 0 {
                    (year + 999) / 1000
                } else {
                    -((999 - shown) / 1000)
                }
            }
            Part::Milliseconds => return (i64::from(t.second()) * SECOND + micros) * 1000,
            Part::Minute => i64::from(t.minute()),
            Part::Month => i64::from(t.month()),
            Part::Quarter => i64::from(t.month0() / 3 + 1),
            Part::Second => return i64::from(t.second()) * SECOND + micros,
            Part::Week => i64::from(t.iso_week().week()),
            Part::Timezone | Part::TimezoneHour | Part::TimezoneMinute => 0,
            Part::Year => shown,
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
    let divisor = 10i64.pow(6 - u32::from(scale.unsigned_abs().min(6)));
    let scaled = |v: i64| i128::from(v / divisor);
    let unsupported = || {
        df_error(Error::unsupported(format!(
            "unit not supported for type {}",
            PgType::from_arrow(array.data_type()).sql_name()
        )))
    };
    // Of infinity only the parts that grow for ever have a value, and that is infinite.
    let infinite = || -> DfResult<Option<i128>> {
        if part.is_monotonic() {
            return Err(df_error(Error::unsupported("numeric infinity is not supported")));
        }
        Ok(None)
    };
    let out: Decimal128Array = match array.data_type() {
        DataType::Date32 => array
            .as_primitive::<Date32Type>()
            .iter()
            .map(|d| match d {
                None => Ok(None),
                Some(i32::MAX | i32::MIN) => infinite(),
                Some(d) => moment(i64::from(d) * DAY).map(|t| Some(scaled(part.of(t)))),
            })
            .collect::<DfResult<_>>()?,
        DataType::Time64(TimeUnit::Microsecond) => array
            .as_primitive::<Time64MicrosecondType>()
            .try_unary(|t| moment(t).map(|t| scaled(part.of(t))))?,
        DataType::Interval(_) => array
            .as_primitive::<IntervalMonthDayNanoType>()
            .try_unary(|v| part.of_interval(v).map(scaled).ok_or_else(unsupported))?,
        DataType::Timestamp(TimeUnit::Microsecond, _) => array
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .map(|t| match t {
                None => Ok(None),
                Some(i64::MAX | i64::MIN) => infinite(),
                Some(t) => moment(t).map(|t| Some(scaled(part.of(t)))),
            })
            .collect::<DfResult<_>>()?,
        other => return Err(df_error(Error::internal(format!("extract from {other}")))),
    };
    from_array(Arc::new(out.with_data_type(result.clone())), scalar)
};

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
                if matches!(d, i32::MAX | i32::MIN) {
                    return Ok(d);
                }
                op(d, n)
                    .filter(|d| (-2_440_588..=2_145_042_905).contains(d))
                    .ok_or_else(|| arrow::error::ArrowError::ExternalError(Box::new(overflow("date"))))
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

/// The constant of a timestamptz.
pub fn timestamptz_literal(micros: i64) -> Expr {
    Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), Some(crate::types::UTC.into())), None)
}
