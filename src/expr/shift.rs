//! A timestamp plus or minus a constant interval without months: one addition of microseconds.
//!
//! Timestamps carry no time zone but UTC, so that a day is always 24 hours long.
//!
//! Boundary: a physical expression that stands for one of DataFusion's, which would go through the calendar.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, FieldRef, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal};

use crate::error::{Error, ErrorKind};

/// The times that calendar arithmetic can hold, in microseconds since 1970.
const RANGE: std::ops::RangeInclusive<i64> = -8_334_601_228_800_000_000..=8_210_266_876_799_999_999;
const DAY: i64 = 86_400_000_000;

/// A time and the microseconds added to it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ShiftTime {
    /// The operation that this one stands for.
    operation: BinaryExpr,
    /// Whether the left operand is the time.
    time_is_left: bool,
    by: i64,
}

impl ShiftTime {
    /// The fast form of an operation, if it has one.
    pub fn of(operation: &BinaryExpr, input: &Schema) -> DfResult<Option<ShiftTime>> {
        let (left, right) = (operation.left(), operation.right());
        let sign = match operation.op() {
            Operator::Plus => 1,
            Operator::Minus => -1,
            _ => return Ok(None),
        };
        let (time, micros, time_is_left) = match (constant(left), constant(right)) {
            (_, Some(micros)) => (left, micros, true),
            (Some(micros), None) if sign == 1 => (right, micros, false),
            _ => return Ok(None),
        };
        if !is_time(&time.data_type(input)?) {
            return Ok(None);
        }
        let Some(by) = micros.checked_mul(sign) else { return Ok(None) };
        Ok(Some(ShiftTime { operation: operation.clone(), time_is_left, by }))
    }

    fn time(&self) -> &Arc<dyn PhysicalExpr> {
        if self.time_is_left { self.operation.left() } else { self.operation.right() }
    }

    fn shift(&self, times: &ArrayRef) -> DfResult<ArrayRef> {
        let Some(array) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(DataFusionError::Internal(format!("a shifted {}", times.data_type())));
        };
        let mut outside = false;
        let values: Vec<i64> = array
            .values()
            .iter()
            .map(|t| {
                let (shifted, wrapped) = t.overflowing_add(self.by);
                outside |= wrapped | !RANGE.contains(&shifted);
                shifted
            })
            .collect();
        if outside
            && array.iter().flatten().any(|t| t.checked_add(self.by).is_none_or(|s| !RANGE.contains(&s)))
        {
            let e = Error::new(ErrorKind::DatetimeOverflow, "timestamp out of range");
            return Err(DataFusionError::External(Box::new(e)));
        }
        let shifted = TimestampMicrosecondArray::new(values.into(), array.nulls().cloned());
        Ok(Arc::new(shifted.with_data_type(times.data_type().clone())))
    }
}

fn is_time(t: &DataType) -> bool {
    match t {
        DataType::Timestamp(TimeUnit::Microsecond, None) => true,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => zone.as_ref() == crate::types::UTC,
        _ => false,
    }
}

/// The microseconds of a constant interval without months.
fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<i64> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 => {
            i64::from(i.days).checked_mul(DAY)?.checked_add(i.nanoseconds / 1000)
        }
        _ => None,
    }
}

impl fmt::Display for ShiftTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operation.fmt(f)
    }
}

impl PhysicalExpr for ShiftTime {
    fn data_type(&self, input: &Schema) -> DfResult<DataType> {
        self.operation.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> DfResult<bool> {
        self.operation.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> DfResult<FieldRef> {
        self.operation.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        Ok(match self.time().evaluate(batch)? {
            ColumnarValue::Array(times) => ColumnarValue::Array(self.shift(&times)?),
            ColumnarValue::Scalar(time) => {
                let shifted = self.shift(&time.to_array()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&shifted, 0)?)
            }
        })
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![self.time()]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        let Ok([time]) = <[_; 1]>::try_from(children) else {
            return Err(DataFusionError::Internal("one time is shifted".to_string()));
        };
        let (left, right, op) = (self.operation.left(), self.operation.right(), *self.operation.op());
        let operation = if self.time_is_left {
            BinaryExpr::new(time, op, Arc::clone(right))
        } else {
            BinaryExpr::new(Arc::clone(left), op, time)
        };
        let operation = operation.with_fail_on_overflow(true);
        Ok(Arc::new(ShiftTime { operation, time_is_left: self.time_is_left, by: self.by }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operation.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, IntervalMonthDayNano};
    use datafusion::physical_expr::expressions::Column;
    use rand::{Rng, SeedableRng};

    #[test]
    fn shifting_gives_what_calendar_arithmetic_gives() {
        let seed = rand::random();
        println!("seed {seed}");
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let zones = [None, Some(Arc::from(crate::types::UTC))];
        for round in 0..200 {
            let t = DataType::Timestamp(TimeUnit::Microsecond, zones[round % 2].clone());
            let schema = Arc::new(Schema::new(vec![Field::new("t", t.clone(), true)]));
            let times: TimestampMicrosecondArray = (0..50)
                .map(|_| rng.random_bool(0.9).then(|| rng.random_range(-(10_i64.pow(17))..10_i64.pow(17))))
                .collect();
            let batch =
                RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(times.with_data_type(t))]).unwrap();
            let interval = IntervalMonthDayNano::new(
                0,
                rng.random_range(-1000..1000),
                rng.random_range(-(10_i64.pow(12))..10_i64.pow(12)) * 1000,
            );
            let constant: Arc<dyn PhysicalExpr> =
                Arc::new(Literal::new(ScalarValue::IntervalMonthDayNano(Some(interval))));
            let time: Arc<dyn PhysicalExpr> = Arc::new(Column::new("t", 0));
            let plain = match rng.random_range(0..3) {
                0 => BinaryExpr::new(constant, Operator::Plus, time),
                1 => BinaryExpr::new(time, Operator::Plus, constant),
                _ => BinaryExpr::new(time, Operator::Minus, constant),
            };
            let fast = ShiftTime::of(&plain, &schema).unwrap().unwrap();
            let (fast, plain) = (fast.evaluate(&batch).unwrap(), plain.evaluate(&batch).unwrap());
            assert_eq!(fast.into_array(50).unwrap().as_ref(), plain.into_array(50).unwrap().as_ref());
        }
    }

    #[test]
    fn a_time_that_leaves_the_calendar_is_an_error_and_months_are_left_to_the_calendar() {
        let t = DataType::Timestamp(TimeUnit::Microsecond, None);
        let schema = Arc::new(Schema::new(vec![Field::new("t", t, true)]));
        let shift = |months, days| {
            let interval = IntervalMonthDayNano::new(months, days, 0);
            let constant = Arc::new(Literal::new(ScalarValue::IntervalMonthDayNano(Some(interval))));
            ShiftTime::of(&BinaryExpr::new(Arc::new(Column::new("t", 0)), Operator::Plus, constant), &schema)
        };
        assert!(shift(1, 0).unwrap().is_none());
        let times = TimestampMicrosecondArray::from(vec![None, Some(*RANGE.end())]);
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(times)]).unwrap();
        let e = Error::from(shift(0, 1).unwrap().unwrap().evaluate(&batch).unwrap_err());
        assert_eq!((e.kind(), e.message()), (ErrorKind::DatetimeOverflow, "timestamp out of range"));
        assert!(shift(0, 1).unwrap().unwrap().evaluate(&batch.slice(0, 1)).is_ok());
    }
}
