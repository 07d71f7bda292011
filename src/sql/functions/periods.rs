//! date_bin and date_trunc: the start of the period that a time lies in.
//!
//! Periods of a fixed length need one division, calendar periods the calendar; neither is asked again while times
//! stay within the period found last, which is the usual case of times that come in about their order.
//!
//! Boundary: kernels over microseconds since 1970 and the expressions that call them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs};

use super::{DfResult, as_arrays, df_error, from_array, native};
use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Weeks begin on Mondays, and 1969-12-29 was one.
const MONDAY: i64 = -3 * DAY;

fn overflow() -> Error {
    Error::new(ErrorKind::DatetimeOverflow, "timestamp out of range")
}

/// What date_trunc cuts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Periods of so many microseconds from 1970 on.
    Fixed(i64),
    Week,
    /// Periods of so many months from January on.
    Months(u32),
}

impl Unit {
    /// The unit of this name, in lower case.
    fn parse(name: &str) -> Option<Unit> {
        Some(match name {
            "microseconds" | "microsecond" => Unit::Fixed(1),
            "milliseconds" | "millisecond" => Unit::Fixed(1000),
            "second" | "seconds" => Unit::Fixed(SECOND),
            "minute" | "minutes" => Unit::Fixed(60 * SECOND),
            "hour" | "hours" => Unit::Fixed(3600 * SECOND),
            "day" | "days" => Unit::Fixed(DAY),
            "week" | "weeks" => Unit::Week,
            "month" | "months" => Unit::Months(1),
            "quarter" => Unit::Months(3),
            "year" | "years" => Unit::Months(12),
            _ => return None,
        })
    }

    /// Start and end of the period that `time` lies in.
    fn period(self, time: i64) -> Option<(i64, i64)> {
        match self {
            Unit::Fixed(length) => fixed_period(time, length, 0),
            Unit::Week => fixed_period(time, 7 * DAY, MONDAY),
            Unit::Months(months) => {
                let date = DateTime::<Utc>::from_timestamp_micros(time)?.date_naive();
                let first = date.month0() / months * months + 1;
                let start = NaiveDate::from_ymd_opt(date.year(), first, 1)?;
                let end = start.checked_add_months(chrono::Months::new(months))?;
                let micros = |d: NaiveDate| (d - NaiveDate::default()).num_days() * DAY;
                Some((micros(start), micros(end)))
            }
        }
    }
}

/// Start and end of the period that `time` lies in, where one period begins at `origin`.
fn fixed_period(time: i64, length: i64, origin: i64) -> Option<(i64, i64)> {
    let into = time.checked_sub(origin)?.rem_euclid(length);
    let start = time.checked_sub(into)?;
    Some((start, start.saturating_add(length)))
}

/// The start of the period of each time.
fn starts(
    times: &PrimitiveArray<Int64Type>,
    period: impl Fn(i64) -> Option<(i64, i64)>,
) -> DfResult<Vec<i64>> {
    let (mut start, mut end) = (0, 0);
    let mut out = Vec::with_capacity(times.len());
    for (i, time) in times.values().iter().enumerate() {
        if *time < start || *time >= end {
            (start, end) = match period(*time) {
                Some(found) => found,
                // What stands at a NULL may be anything.
                None if times.is_null(i) => (0, 0),
                None => return Err(df_error(overflow())),
            };
        }
        out.push(start);
    }
    Ok(out)
}

fn as_micros(array: &ArrayRef) -> DfResult<PrimitiveArray<Int64Type>> {
    match array.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => Ok(times.reinterpret_cast::<Int64Type>()),
        None => Err(df_error(Error::internal(format!("the period of a {}", array.data_type())))),
    }
}

fn timestamps(values: Vec<i64>, nulls: Option<arrow::buffer::NullBuffer>, result: &DataType) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_data_type(result.clone()))
}

/// NULL as the result for a whole batch, if an argument is the constant NULL (of whatever type).
fn null_argument(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<Option<ColumnarValue>> {
    let null = args.args.iter().any(|a| matches!(a, ColumnarValue::Scalar(s) if s.is_null()));
    Ok(if null { Some(ColumnarValue::Scalar(ScalarValue::try_from(result)?)) } else { None })
}

/// The microseconds of a stride.
fn stride(value: IntervalMonthDayNano) -> Result<i64> {
    if value.months != 0 {
        return Err(Error::unsupported(
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let micros = i64::from(value.days).checked_mul(DAY).and_then(|d| d.checked_add(value.nanoseconds / 1000));
    match micros {
        None => Err(Error::new(ErrorKind::DatetimeOverflow, "interval out of range")),
        Some(s) if s <= 0 => Err(Error::new(ErrorKind::DatetimeOverflow, "stride must be greater than zero")),
        Some(s) => Ok(s),
    }
}

fn bin(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    if let Some(null) = null_argument(args, result)? {
        return Ok(null);
    }
    if let [
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(length))),
        ColumnarValue::Array(times),
        ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(origin), _)),
    ] = args.args.as_slice()
    {
        let length = stride(*length).map_err(df_error)?;
        let times = as_micros(times)?;
        let values = starts(&times, |t| fixed_period(t, length, *origin))?;
        return Ok(ColumnarValue::Array(timestamps(values, times.nulls().cloned(), result)));
    }
    let (arrays, scalar) = as_arrays(args)?;
    let lengths = arrays[0].as_primitive::<IntervalMonthDayNanoType>();
    let (times, origins) = (as_micros(&arrays[1])?, as_micros(&arrays[2])?);
    let mut out = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if arrays.iter().any(|a| a.is_null(row)) {
            out.push(None);
            continue;
        }
        let length = stride(lengths.value(row)).map_err(df_error)?;
        let period = fixed_period(times.value(row), length, origins.value(row));
        out.push(Some(period.ok_or_else(|| df_error(overflow()))?.0));
    }
    from_array(Arc::new(TimestampMicrosecondArray::from(out).with_data_type(result.clone())), scalar)
}

/// date_bin(stride, timestamp, origin). Plans know it by its name.
pub fn date_bin(args: Vec<Expr>, fields: &[FieldRef]) -> Result<Expr> {
    Ok(native("date_bin", time_type(fields), bin, args))
}

/// The type of the time argument, which is the result's.
fn time_type(fields: &[FieldRef]) -> DataType {
    let zoned = fields.get(1).is_some_and(|f| matches!(f.data_type(), DataType::Timestamp(_, Some(_))));
    if zoned { PgType::TIMESTAMPTZ.arrow() } else { PgType::TIMESTAMP.arrow() }
}

fn unknown_unit(unit: &str, t: &DataType) -> Error {
    Error::new(
        ErrorKind::InvalidParameter,
        format!("unit \"{unit}\" not recognized for type {}", PgType::from_arrow(t).sql_name()),
    )
}

fn unit_of(name: &str, t: &DataType) -> Result<Unit> {
    let name = name.to_lowercase();
    match Unit::parse(&name) {
        Some(unit) => Ok(unit),
        None if super::datetime::is_part(&name) => {
            Err(Error::unsupported(format!("date_trunc to {name} is not supported")))
        }
        None => Err(unknown_unit(&name, t)),
    }
}

fn truncate(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    if let Some(null) = null_argument(args, result)? {
        return Ok(null);
    }
    if let [ColumnarValue::Scalar(unit), ColumnarValue::Array(times)] = args.args.as_slice()
        && let Some(Some(unit)) = unit.try_as_str()
    {
        let unit = unit_of(unit, result).map_err(df_error)?;
        let times = as_micros(times)?;
        let values = starts(&times, |t| unit.period(t))?;
        return Ok(ColumnarValue::Array(timestamps(values, times.nulls().cloned(), result)));
    }
    let (arrays, scalar) = as_arrays(args)?;
    let (units, times) = (arrays[0].as_string::<i32>(), as_micros(&arrays[1])?);
    let mut out = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if units.is_null(row) || times.is_null(row) {
            out.push(None);
            continue;
        }
        let unit = unit_of(units.value(row), result).map_err(df_error)?;
        out.push(Some(unit.period(times.value(row)).ok_or_else(|| df_error(overflow()))?.0));
    }
    from_array(Arc::new(TimestampMicrosecondArray::from(out).with_data_type(result.clone())), scalar)
}

/// date_trunc(unit, timestamp). Plans know it by its name.
pub fn date_trunc(args: Vec<Expr>, fields: &[FieldRef]) -> Result<Expr> {
    let result = time_type(fields);
    if let Some(Expr::Literal(unit, _)) = args.first()
        && let Some(unit) = unit.try_as_str().flatten()
    {
        unit_of(unit, &result)?;
    }
    Ok(native("date_trunc", result, truncate, args))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{NaiveDateTime, TimeDelta};
    use rand::{Rng, SeedableRng};

    fn call(kernel: super::super::Kernel, args: Vec<ColumnarValue>, rows: usize) -> DfResult<ColumnarValue> {
        let t = PgType::TIMESTAMP.arrow();
        let field = |t: &DataType| Arc::new(arrow::datatypes::Field::new("", t.clone(), true));
        let args = ScalarFunctionArgs {
            arg_fields: args.iter().map(|a| field(&a.data_type())).collect(),
            args,
            number_rows: rows,
            return_field: field(&t),
            config_options: Arc::default(),
        };
        kernel(&args, &t)
    }

    fn column(times: &[Option<i64>]) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(TimestampMicrosecondArray::from(times.to_vec())))
    }

    fn values(v: ColumnarValue) -> Vec<Option<i64>> {
        v.into_array(1).unwrap().as_primitive::<TimestampMicrosecondType>().iter().collect()
    }

    fn interval(months: i32, days: i32, micros: i64) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(
            months,
            days,
            micros * 1000,
        ))))
    }

    fn times(rng: &mut rand_chacha::ChaCha8Rng) -> Vec<Option<i64>> {
        let spread = 10_i64.pow(rng.random_range(1..17));
        (0..200).map(|_| rng.random_bool(0.9).then(|| rng.random_range(-spread..spread))).collect()
    }

    #[test]
    fn bins_are_the_greatest_multiples_from_the_origin_that_do_not_lie_after_the_time() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..200 {
            let (length, origin) =
                (rng.random_range(1..10_i64.pow(11)), rng.random_range(-(10_i64.pow(15))..10_i64.pow(15)));
            let times = times(&mut rng);
            let scalar = ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(origin), None));
            let found = call(bin, vec![interval(0, 0, length), column(&times), scalar], 200).unwrap();
            let wanted = times.iter().map(|t| {
                t.map(|t| {
                    let n = (i128::from(t) - i128::from(origin)).div_euclid(i128::from(length));
                    (i128::from(origin) + n * i128::from(length)) as i64
                })
            });
            let wanted: Vec<Option<i64>> = wanted.collect();
            assert_eq!(values(found), wanted);
            let origins = column(&vec![Some(origin); 200]);
            let found = call(bin, vec![interval(0, 0, length), column(&times), origins], 200).unwrap();
            assert_eq!(values(found), wanted);
        }
    }

    #[test]
    fn strides_that_have_months_or_do_not_move_are_refused() {
        let message = |stride| {
            let origin = ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(0), None));
            let e = call(bin, vec![stride, column(&[Some(1)]), origin], 1).unwrap_err();
            Error::from(e).message().to_string()
        };
        let months = "timestamps cannot be binned into intervals containing months or years";
        assert_eq!(message(interval(1, 0, 0)), months);
        assert_eq!(message(interval(0, 0, 0)), "stride must be greater than zero");
        assert_eq!(message(interval(0, -1, 5)), "stride must be greater than zero");
    }

    #[test]
    fn times_are_cut_to_units_as_a_calendar_says() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let cut = |t: NaiveDateTime, unit: &str| -> NaiveDateTime {
            let date = t.date();
            let day = |d: NaiveDate| d.and_hms_opt(0, 0, 0).unwrap();
            match unit {
                "microseconds" => t,
                "week" => day(date
                    - TimeDelta::days(i64::from(chrono::Datelike::weekday(&date).num_days_from_monday()))),
                "day" => day(date),
                "month" => day(date.with_day(1).unwrap()),
                "quarter" => day(NaiveDate::from_ymd_opt(date.year(), date.month0() / 3 * 3 + 1, 1).unwrap()),
                "year" => day(NaiveDate::from_ymd_opt(date.year(), 1, 1).unwrap()),
                "hour" => day(date) + TimeDelta::hours((t - day(date)).num_hours()),
                "minute" => day(date) + TimeDelta::minutes((t - day(date)).num_minutes()),
                "second" => day(date) + TimeDelta::seconds((t - day(date)).num_seconds()),
                _ => day(date) + TimeDelta::milliseconds((t - day(date)).num_milliseconds()),
            }
        };
        for unit in [
            "microseconds",
            "milliseconds",
            "second",
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "quarter",
            "year",
        ] {
            for _ in 0..20 {
                let times = times(&mut rng);
                let name = ColumnarValue::Scalar(ScalarValue::Utf8(Some(unit.to_uppercase())));
                let found = call(truncate, vec![name, column(&times)], 200).unwrap();
                let wanted = times.iter().map(|t| {
                    let moment = DateTime::<Utc>::from_timestamp_micros((*t)?).unwrap().naive_utc();
                    Some(cut(moment, unit).and_utc().timestamp_micros())
                });
                assert_eq!(values(found), wanted.collect::<Vec<_>>(), "{unit}");
            }
        }
    }

    #[test]
    fn a_constant_null_gives_null_whatever_its_type() {
        let null = || ColumnarValue::Scalar(ScalarValue::Null);
        assert!(
            matches!(call(bin, vec![null(), null(), null()], 3).unwrap(), ColumnarValue::Scalar(s) if s.is_null())
        );
        assert!(
            matches!(call(truncate, vec![null(), column(&[Some(1)])], 1).unwrap(), ColumnarValue::Scalar(s) if s.is_null())
        );
    }
}
