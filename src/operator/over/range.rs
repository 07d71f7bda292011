//! RANGE frames with offsets: which values lie within an offset of another, as PostgreSQL's in_range functions say.
//!
//! Boundary: one ORDER BY column of numbers, dates or times; NULLs are the caller's.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;

use crate::error::{Error, Result};

const DAY: i128 = 86_400_000_000;

/// A value of the ORDER BY column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Key {
    Null,
    Whole(i128),
    Float(f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Whole(i128),
    Float(f64),
    Calendar { months: i32, days: i32, micros: i64 },
}

/// One end of a frame, by value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RangeEdge {
    by: By,
    /// What whole keys are multiplied by to have the scale of the offset.
    factor: i128,
    /// Whether the bound is below the current value.
    sub: bool,
    /// Whether rows inside are at most the bound.
    less: bool,
}

fn unsupported(key: &DataType) -> Error {
    Error::unsupported(format!("RANGE with an offset over {key} is not supported"))
}

impl RangeEdge {
    /// The edge `offset` PRECEDING or FOLLOWING, at a frame's start or end, of keys of this type and direction.
    pub fn new(
        key: &DataType,
        descending: bool,
        offset: &ScalarValue,
        preceding: bool,
        end: bool,
    ) -> Result<RangeEdge> {
        let scale = match key {
            DataType::Decimal128(_, scale) => i32::from(*scale),
            _ => 0,
        };
        let ten = |n: i32| 10_i128.checked_pow(n.max(0) as u32).ok_or_else(|| unsupported(key));
        let (by, factor) = match (key, offset) {
            (DataType::Float32 | DataType::Float64, ScalarValue::Float64(Some(v))) => (By::Float(*v), 1),
            (
                DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32,
                ScalarValue::IntervalMonthDayNano(Some(v)),
            ) => (By::Calendar { months: v.months, days: v.days, micros: v.nanoseconds / 1000 }, 1),
            (DataType::Time64(TimeUnit::Microsecond), ScalarValue::IntervalMonthDayNano(Some(v))) => {
                (By::Whole(i128::from(v.nanoseconds / 1000)), 1)
            }
            // Interval keys are ordered by their span in µs.
            (DataType::Decimal128(..), ScalarValue::IntervalMonthDayNano(Some(v))) => {
                (By::Whole(crate::expr::window::span_micros(*v)), 1)
            }
            (DataType::Int16 | DataType::Int32 | DataType::Int64, ScalarValue::Int64(Some(v))) => {
                (By::Whole(i128::from(*v)), 1)
            }
            (DataType::Decimal128(..), ScalarValue::Decimal128(Some(v), _, s)) => {
                let s = i32::from(*s);
                let by = v.checked_mul(ten(scale - s)?).ok_or_else(|| unsupported(key))?;
                (By::Whole(by), ten(s - scale)?)
            }
            _ => return Err(unsupported(key)),
        };
        Ok(RangeEdge { by, factor, sub: preceding ^ descending, less: end ^ descending })
    }

    /// Whether `value` is inside, seen from `base`. NULL is inside of nothing and nothing of NULL.
    pub fn contains(&self, value: Key, base: Key) -> bool {
        match (value, base) {
            (Key::Whole(value), Key::Whole(base)) => {
                let (value, base) = (value.saturating_mul(self.factor), base.saturating_mul(self.factor));
                let bound = match self.by {
                    By::Whole(by) if self.sub => base.saturating_sub(by),
                    By::Whole(by) => base.saturating_add(by),
                    By::Calendar { months, days, micros } => {
                        let sign = if self.sub { -1 } else { 1 };
                        shift(base, sign * i64::from(months))
                            + i128::from(sign) * (i128::from(days) * DAY + i128::from(micros))
                    }
                    By::Float(_) => return false,
                };
                if self.less { value <= bound } else { value >= bound }
            }
            (Key::Float(value), Key::Float(base)) => self.contains_float(value, base),
            _ => false,
        }
    }

    fn contains_float(&self, value: f64, base: f64) -> bool {
        let By::Float(by) = self.by else { return false };
        // NaN is greater than everything and equal to itself.
        match (value.is_nan(), base.is_nan()) {
            (true, true) => return true,
            (true, false) => return !self.less,
            (false, true) => return self.less,
            _ => {}
        }
        if by.is_infinite() && base.is_infinite() && (if self.sub { base > 0.0 } else { base < 0.0 }) {
            return true;
        }
        let bound = if self.sub { base - by } else { base + by };
        if self.less { value <= bound } else { value >= bound }
    }
}

/// The value of row `i`.
pub(super) fn key(array: &ArrayRef, i: usize) -> Result<Key> {
    if array.is_null(i) {
        return Ok(Key::Null);
    }
    Ok(match array.data_type() {
        DataType::Int16 => Key::Whole(i128::from(array.as_primitive::<Int16Type>().value(i))),
        DataType::Int32 => Key::Whole(i128::from(array.as_primitive::<Int32Type>().value(i))),
        DataType::Int64 => Key::Whole(i128::from(array.as_primitive::<Int64Type>().value(i))),
        DataType::Decimal128(..) => Key::Whole(array.as_primitive::<Decimal128Type>().value(i)),
        DataType::Float32 => Key::Float(f64::from(array.as_primitive::<Float32Type>().value(i))),
        DataType::Float64 => Key::Float(array.as_primitive::<Float64Type>().value(i)),
        DataType::Date32 => Key::Whole(i128::from(array.as_primitive::<Date32Type>().value(i)) * DAY),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Key::Whole(i128::from(array.as_primitive::<TimestampMicrosecondType>().value(i)))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            Key::Whole(i128::from(array.as_primitive::<Time64MicrosecondType>().value(i)))
        }
        other => return Err(unsupported(other)),
    })
}

/// A moment moved by months; the day is cut to the length of the month.
fn shift(micros: i128, months: i64) -> i128 {
    if months == 0 {
        return micros;
    }
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = civil(days as i64);
    let month = year * 12 + (month - 1) + months;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    i128::from(days_of(year, month, day.min(length))) * DAY + rest
}

/// Year, month and day of a day since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_added_as_postgresql_adds_them() {
        let day = |y, m, d| i128::from(days_of(y, m, d)) * DAY;
        assert_eq!(days_of(1970, 1, 1), 0);
        assert_eq!(days_of(2000, 2, 29), 11_016);
        assert_eq!(shift(day(2024, 3, 31) + 5, -1), day(2024, 2, 29) + 5);
        assert_eq!(shift(day(2023, 12, 31), 2), day(2024, 2, 29));
        assert_eq!(shift(day(1968, 1, 31), 13), day(1969, 2, 28));
        for days in (-800_000..800_000).step_by(997) {
            let (y, m, d) = civil(days);
            assert_eq!(days_of(y, m, d), days);
        }
    }
}
