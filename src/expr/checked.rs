//! Arithmetic that fails where PostgreSQL's fails.
//!
//! DataFusion wraps integers around on overflow and lets floats run into infinity and NaN; here both are errors of
//! class 22, in PostgreSQL's words. Everything else of an expression stays DataFusion's.
//!
//! Boundary: a rewrite of physical expressions, used when an expression is compiled.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, PrimitiveArray, RecordBatch};
use arrow::compute::kernels::numeric::{add, div, mul, rem, sub};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, FieldRef, Float32Type, Float64Type, Schema,
};
use arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};

use super::shift::ShiftTime;
use crate::error::{Error, ErrorKind, Result};

/// Replaces all arithmetic of numbers in `expr` by the checked kind.
pub fn rewrite(expr: Arc<dyn PhysicalExpr>, input: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let rewritten = expr.transform_up(|node| {
        if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
            let data_type = negative.arg().data_type(input)?;
            if data_type.is_integer() {
                let zero = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
                let minus = BinaryExpr::new(zero, Operator::Minus, Arc::clone(negative.arg()));
                return Ok(Transformed::yes(CheckedArithmetic::over(minus)));
            }
        }
        if let Some(binary) = node.downcast_ref::<BinaryExpr>()
            && let Some(checked) = checked(binary, input)?
        {
            return Ok(Transformed::yes(checked));
        }
        Ok(Transformed::no(node))
    })?;
    Ok(rewritten.data)
}

fn checked(binary: &BinaryExpr, input: &Schema) -> DfResult<Option<Arc<dyn PhysicalExpr>>> {
    if !matches!(
        binary.op(),
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
    ) {
        return Ok(None);
    }
    let (left, right) = (binary.left().data_type(input)?, binary.right().data_type(input)?);
    if left.is_numeric() && right.is_numeric() {
        return Ok(Some(CheckedArithmetic::over(binary.clone())));
    }
    if let Some(shift) = ShiftTime::of(binary, input)? {
        return Ok(Some(Arc::new(shift)));
    }
    Ok(Some(Arc::new(binary.clone().with_fail_on_overflow(true))))
}

/// An arithmetic operation on two numbers, checked.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedArithmetic {
    operation: BinaryExpr,
}

impl CheckedArithmetic {
    fn over(operation: BinaryExpr) -> Arc<dyn PhysicalExpr> {
        Arc::new(CheckedArithmetic { operation: operation.with_fail_on_overflow(true) })
    }

    fn compute(&self, left: &dyn Datum, right: &dyn Datum) -> DfResult<ArrayRef> {
        let result = match self.operation.op() {
            Operator::Plus => add(left, right),
            Operator::Minus => sub(left, right),
            Operator::Multiply => mul(left, right),
            Operator::Divide => div(left, right),
            Operator::Modulo => rem(left, right),
            other => return Err(DataFusionError::Internal(format!("{other} is not arithmetic"))),
        };
        let result = match result {
            Ok(result) => result,
            Err(ArrowError::DivideByZero) => return Err(ArrowError::DivideByZero.into()),
            Err(ArrowError::ArithmeticOverflow(_)) => return Err(out_of_range(left.get().0.data_type())),
            Err(e) => return Err(e.into()),
        };
        let op = *self.operation.op();
        match result.data_type() {
            DataType::Float32 => check_floats::<Float32Type>(op, left, right, &result)?,
            DataType::Float64 => check_floats::<Float64Type>(op, left, right, &result)?,
            DataType::Decimal128(DECIMAL128_MAX_PRECISION, _) => {
                // 128 bits hold a little more than 38 digits.
                result
                    .as_primitive::<Decimal128Type>()
                    .validate_decimal_precision(DECIMAL128_MAX_PRECISION)
                    .map_err(|_| out_of_range(result.data_type()))?;
            }
            _ => {}
        }
        Ok(result)
    }
}

/// PostgreSQL's error for a result that its type cannot hold.
fn out_of_range(data_type: &DataType) -> DataFusionError {
    let message = match data_type {
        DataType::Int16 => "smallint out of range",
        DataType::Int32 => "integer out of range",
        DataType::Int64 => "bigint out of range",
        t if t.is_decimal() => "numeric field overflow",
        _ => "value out of range",
    };
    failure(ErrorKind::NumericOutOfRange, message)
}

fn failure(kind: ErrorKind, message: &str) -> DataFusionError {
    DataFusionError::External(Box::new(Error::new(kind, message)))
}

/// The operand of row `i`; a constant has one row only.
fn operand<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, constant: bool, i: usize) -> T::Native {
    array.value(if constant { 0 } else { i })
}

fn check_floats<T: ArrowPrimitiveType<Native: Into<f64>>>(
    op: Operator,
    left: &dyn Datum,
    right: &dyn Datum,
    result: &ArrayRef,
) -> DfResult<()> {
    let values = result.as_primitive::<T>();
    let zero_matters = matches!(op, Operator::Multiply | Operator::Divide);
    // One vectorised pass decides whether any row has to be looked at.
    let suspicious = values.values().iter().fold(false, |any, v| {
        let v: f64 = (*v).into();
        any | !v.is_finite() | (zero_matters & (v == 0.0))
    });
    if !suspicious {
        return Ok(());
    }
    let ((left, left_constant), (right, right_constant)) = (left.get(), right.get());
    let (left, right) = (left.as_primitive::<T>(), right.as_primitive::<T>());
    for i in (0..values.len()).filter(|i| values.is_valid(*i)) {
        let a: f64 = operand(left, left_constant, i).into();
        let b: f64 = operand(right, right_constant, i).into();
        let r: f64 = values.value(i).into();
        match op {
            Operator::Divide if b == 0.0 && !a.is_nan() => return Err(ArrowError::DivideByZero.into()),
            Operator::Divide if r == 0.0 && a != 0.0 && !b.is_infinite() => return Err(underflow()),
            Operator::Multiply if r == 0.0 && a != 0.0 && b != 0.0 => return Err(underflow()),
            _ if r.is_infinite() && !a.is_infinite() && !b.is_infinite() => {
                return Err(failure(ErrorKind::NumericOutOfRange, "value out of range: overflow"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn underflow() -> DataFusionError {
    failure(ErrorKind::NumericOutOfRange, "value out of range: underflow")
}

impl fmt::Display for CheckedArithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nested operations of this kind are not seen as such by DataFusion's own printing of precedence.
        let side = |f: &mut fmt::Formatter<'_>, e: &Arc<dyn PhysicalExpr>| {
            if e.downcast_ref::<CheckedArithmetic>().is_some() {
                write!(f, "({e})")
            } else {
                write!(f, "{e}")
            }
        };
        side(f, self.operation.left())?;
        write!(f, " {} ", self.operation.op())?;
        side(f, self.operation.right())
    }
}

impl PhysicalExpr for CheckedArithmetic {
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
        let left = self.operation.left().evaluate(batch)?;
        let right = self.operation.right().evaluate(batch)?;
        Ok(match (&left, &right) {
            (ColumnarValue::Array(l), ColumnarValue::Array(r)) => ColumnarValue::Array(self.compute(l, r)?),
            (ColumnarValue::Array(l), ColumnarValue::Scalar(r)) => {
                ColumnarValue::Array(self.compute(l, &r.to_scalar()?)?)
            }
            (ColumnarValue::Scalar(l), ColumnarValue::Array(r)) => {
                ColumnarValue::Array(self.compute(&l.to_scalar()?, r)?)
            }
            (ColumnarValue::Scalar(l), ColumnarValue::Scalar(r)) => {
                let value = self.compute(&l.to_scalar()?, &r.to_scalar()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&value, 0)?)
            }
        })
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![self.operation.left(), self.operation.right()]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Arc<dyn PhysicalExpr>> {
        match <[_; 2]>::try_from(children) {
            Ok([left, right]) => {
                Ok(CheckedArithmetic::over(BinaryExpr::new(left, *self.operation.op(), right)))
            }
            Err(_) => Err(DataFusionError::Internal("arithmetic has two operands".to_string())),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operation.fmt_sql(f)
    }
}
