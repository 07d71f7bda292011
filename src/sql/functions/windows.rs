//! Window functions that count rows: int8, as PostgreSQL has them.
//!
//! Boundary: only the functions whose result type differs from DataFusion's.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};

use super::DfResult;

/// row_number, rank or dense_rank.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Ranking {
    name: &'static str,
    signature: Signature,
}

/// The window function of this name.
pub fn window_function(name: &str) -> Option<Arc<WindowUDF>> {
    use datafusion::functions_window as w;
    let ranking = |name| {
        Arc::new(WindowUDF::from(Ranking { name, signature: Signature::nullary(Volatility::Immutable) }))
    };
    Some(match name {
        "row_number" => ranking("row_number"),
        "rank" => ranking("rank"),
        "dense_rank" => ranking("dense_rank"),
        "percent_rank" => w::rank::percent_rank_udwf(),
        "cume_dist" => w::cume_dist::cume_dist_udwf(),
        "ntile" => w::ntile::ntile_udwf(),
        "lag" => w::lead_lag::lag_udwf(),
        "lead" => w::lead_lag::lead_udwf(),
        "first_value" => w::nth_value::first_value_udwf(),
        "last_value" => w::nth_value::last_value_udwf(),
        "nth_value" => w::nth_value::nth_value_udwf(),
        _ => return None,
    })
}

impl WindowUDFImpl for Ranking {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> DfResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator { name: self.name }))
    }
    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Int64, false)))
    }
}

#[derive(Debug)]
struct Evaluator {
    name: &'static str,
}

impl PartitionEvaluator for Evaluator {
    fn is_causal(&self) -> bool {
        true
    }
    fn include_rank(&self) -> bool {
        self.name != "row_number"
    }
    fn evaluate_all(&mut self, _values: &[ArrayRef], num_rows: usize) -> DfResult<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(1..=num_rows as i64)))
    }
    fn evaluate_all_with_rank(
        &self,
        num_rows: usize,
        ranks_in_partition: &[Range<usize>],
    ) -> DfResult<ArrayRef> {
        let mut out = Vec::with_capacity(num_rows);
        for (peers, range) in ranks_in_partition.iter().enumerate() {
            let rank = if self.name == "rank" { range.start } else { peers };
            out.extend(std::iter::repeat_n(rank as i64 + 1, range.len()));
        }
        Ok(Arc::new(Int64Array::from(out)))
    }
    fn evaluate(&mut self, _values: &[ArrayRef], range: &Range<usize>) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Int64(Some(range.end as i64)))
    }
}
