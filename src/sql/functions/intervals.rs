//! Intervals as aggregates need them: how they compare, and their averages.
//!
//! Boundary: kernels over single values; sums are `operator::reduce`'s.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs};

use super::{DfResult, as_arrays, from_array, native};
use crate::types::PgType;

const DAY_NANOS: i128 = 86_400_000_000_000;

/// The length of an interval, by which PostgreSQL compares intervals: months of 30 days, in nanoseconds.
pub fn interval_order(value: Expr) -> Expr {
    fn length(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
        let (arrays, scalar) = as_arrays(args)?;
        let values = arrays[0].as_primitive::<IntervalMonthDayNanoType>();
        let lengths: arrow::array::Decimal128Array = values.unary(|v| {
            let days = i128::from(v.months) * 30 + i128::from(v.days);
            days * DAY_NANOS + i128::from(v.nanoseconds)
        });
        from_array(Arc::new(lengths.with_precision_and_scale(38, 0)?), scalar)
    }
    native("interval_order", DataType::Decimal128(38, 0), length, vec![value])
}

/// A sum of intervals divided by their number, as PostgreSQL divides: fractions of months become days of a 30-day
/// month, those of days become time.
pub fn interval_average(sum: Expr, count: Expr) -> Expr {
    fn average(v: IntervalMonthDayNano, n: i64) -> IntervalMonthDayNano {
        let micros = |x: f64| (x * 1e6).round_ties_even() / 1e6;
        let n = n as f64;
        let (months, mut days) = ((f64::from(v.months) / n) as i32, (f64::from(v.days) / n) as i32);
        let of_months = micros((f64::from(v.months) / n - f64::from(months)) * 30.0);
        let fraction = f64::from(v.days) / n - f64::from(days) + of_months - of_months.trunc();
        let mut seconds = micros(fraction * 86_400.0);
        if seconds.abs() >= 86_400.0 {
            let whole = (seconds / 86_400.0) as i32;
            days += whole;
            seconds -= f64::from(whole) * 86_400.0;
        }
        let time = (v.nanoseconds as f64 / 1000.0 / n + seconds * 1e6).round_ties_even();
        IntervalMonthDayNano::new(months, days + of_months as i32, time as i64 * 1000)
    }
    fn kernel(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
        let (arrays, scalar) = as_arrays(args)?;
        let counts = arrays[1].as_primitive::<arrow::datatypes::Int64Type>();
        let out: arrow::array::IntervalMonthDayNanoArray =
            arrow::compute::binary(arrays[0].as_primitive::<IntervalMonthDayNanoType>(), counts, |v, n| {
                if n == 0 { v } else { average(v, n) }
            })?;
        from_array(Arc::new(out), scalar)
    }
    native("interval_average", PgType::INTERVAL.arrow(), kernel, vec![sum, count])
}
