//! Window functions while DataFusion's planner runs, and the length of intervals, by which they are ordered.
//!
//! Boundary: placeholders only; the binder puts bound calls in their place.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNanoType};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    ColumnarValue, Expr, PartitionEvaluator, ScalarFunctionArgs, Signature, Volatility, WindowUDF,
    WindowUDFImpl,
};

use super::{DfResult, as_arrays, df_error, from_array, native};
use crate::error::Error;
use crate::expr::window::{span_micros, span_type};

/// What the name of a placeholder begins with; the function's follows.
pub const PREFIX: &str = "freshet_over_";

/// A window call whose arguments have no final types yet.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowSymbol {
    name: String,
    signature: Signature,
}

/// The placeholder of this name, if it is one.
pub fn symbol(name: &str) -> Option<Arc<WindowUDF>> {
    name.starts_with(PREFIX).then(|| {
        Arc::new(WindowUDF::from(WindowSymbol {
            name: name.to_string(),
            signature: Signature::variadic_any(Volatility::Immutable),
        }))
    })
}

impl WindowUDFImpl for WindowSymbol {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> DfResult<Box<dyn PartitionEvaluator>> {
        Err(df_error(Error::internal(format!("window function {} was not resolved", self.name))))
    }
    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        // The first argument says what was written.
        let types: Vec<DataType> =
            args.input_fields().iter().skip(1).map(|f| f.data_type().clone()).collect();
        let first = types.first().cloned().unwrap_or(DataType::Int64);
        let data_type = match self.name.strip_prefix(PREFIX).unwrap_or_default() {
            "row_number" | "rank" | "dense_rank" => DataType::Int64,
            "percent_rank" | "cume_dist" => DataType::Float64,
            "ntile" => DataType::Int32,
            "lag" | "lead" | "first_value" | "last_value" | "nth_value" => first,
            name => super::aggregates::symbol(name).return_type(&types)?,
        };
        Ok(Arc::new(Field::new(args.name(), data_type, true)))
    }
}

/// The length of an interval in µs, in which a month has 30 days: what intervals are ordered by.
pub fn span(interval: Expr) -> Expr {
    native("interval_span", span_type(), span_kernel, vec![interval])
}

fn span_kernel(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let intervals = arrays[0].as_primitive::<IntervalMonthDayNanoType>();
    let spans: Decimal128Array = (0..intervals.len())
        .map(|i| intervals.is_valid(i).then(|| span_micros(intervals.value(i))))
        .collect();
    let spans: ArrayRef = Arc::new(spans.with_precision_and_scale(38, 0)?);
    from_array(spans, scalar)
}
