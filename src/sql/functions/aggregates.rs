//! Aggregates while DataFusion's planner runs: names that take any arguments, so that the binder can refuse wrong
//! ones in PostgreSQL's words.
//!
//! Boundary: placeholders only; the binder puts DataFusion's own aggregates in their place.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::{DfResult, df_error};
use crate::error::Error;

/// An aggregate whose arguments have no final types yet.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AggregateSymbol {
    name: String,
    signature: Signature,
}

/// The aggregate symbol of this name.
pub fn symbol(name: &str) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(AggregateSymbol {
        name: name.to_string(),
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

impl AggregateUDFImpl for AggregateSymbol {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        let first = || arg_types.first().cloned().unwrap_or(DataType::Null);
        Ok(match self.name.as_str() {
            "count" => DataType::Int64,
            "sum" | "min" | "max" | "bit_and" | "bit_or" | "bit_xor" => first(),
            "bool_and" | "bool_or" | "every" => DataType::Boolean,
            "string_agg" => DataType::Utf8,
            "array_agg" => DataType::List(Arc::new(Field::new("item", first(), true))),
            _ => DataType::Float64,
        })
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }
    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Err(df_error(Error::internal(format!("aggregate {} was not resolved", self.name))))
    }
}
