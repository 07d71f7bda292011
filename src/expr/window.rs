//! Window calls (`f(…) OVER (…)`) as the binder, plans and the operator share them.
//!
//! A bound call is a DataFusion window function of ours, [`OverFunction`]: everything the call depends on (arguments,
//! FILTER, ORDER BY, ties, frame offsets) is among its arguments, so that one evaluator gives ad hoc queries and views
//! the same meaning.
//!
//! Boundary: says what is asked; the evaluator is handed in by who has it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    AggregateUDF, PartitionEvaluator, Signature, TypeSignature, Volatility, WindowUDFImpl,
};

use crate::error::{Error, Result};

/// Which function is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// `row_number()`.
    RowNumber,
    /// `rank()`.
    Rank,
    /// `dense_rank()`.
    DenseRank,
    /// `percent_rank()`.
    PercentRank,
    /// `cume_dist()`.
    CumeDist,
    /// `ntile(n)`.
    Ntile,
    /// `lag(x [, offset [, default]])`.
    Lag,
    /// `lead(x [, offset [, default]])`.
    Lead,
    /// `first_value(x)`.
    FirstValue,
    /// `last_value(x)`.
    LastValue,
    /// `nth_value(x, n)`.
    NthValue,
    /// `count(*)` without argument, `count(x)` with.
    Count,
    /// `sum(x)` of int8, numeric or floats.
    Sum,
    /// `avg(x)` of floats; other averages are bound as sum and count.
    Avg,
    /// `min(x)`.
    Min,
    /// `max(x)`.
    Max,
    /// Any other aggregate, computed frame by frame.
    Other(Arc<AggregateUDF>),
}

impl WindowKind {
    /// The function of this name that is no aggregate.
    pub fn of_name(name: &str) -> Option<WindowKind> {
        Some(match name {
            "row_number" => WindowKind::RowNumber,
            "rank" => WindowKind::Rank,
            "dense_rank" => WindowKind::DenseRank,
            "percent_rank" => WindowKind::PercentRank,
            "cume_dist" => WindowKind::CumeDist,
            "ntile" => WindowKind::Ntile,
            "lag" => WindowKind::Lag,
            "lead" => WindowKind::Lead,
            "first_value" => WindowKind::FirstValue,
            "last_value" => WindowKind::LastValue,
            "nth_value" => WindowKind::NthValue,
            _ => return None,
        })
    }

    /// Whether the function is an aggregate.
    pub fn is_aggregate(&self) -> bool {
        use WindowKind::{Avg, Count, Max, Min, Other, Sum};
        matches!(self, Count | Sum | Avg | Min | Max | Other(_))
    }

    /// Whether the function looks at its frame; the others look at the partition.
    pub fn uses_frame(&self) -> bool {
        self.is_aggregate()
            || matches!(self, WindowKind::FirstValue | WindowKind::LastValue | WindowKind::NthValue)
    }
}

/// What the offsets of a frame count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameUnits {
    /// Rows.
    Rows,
    /// Values of the ORDER BY column.
    Range,
    /// Groups of peers.
    Groups,
}

/// One end of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FrameBound {
    /// The first row of the partition.
    UnboundedPreceding,
    /// This much before the current row.
    Preceding(ScalarValue),
    /// The current row, or its peers.
    CurrentRow,
    /// This much after the current row.
    Following(ScalarValue),
    /// The last row of the partition.
    UnboundedFollowing,
}

/// Which rows around the current one are left out of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameExclude {
    /// None.
    NoOthers,
    /// The current row.
    CurrentRow,
    /// The current row and its peers.
    Group,
    /// The peers, not the current row.
    Ties,
}

/// The rows a call looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What offsets count.
    pub units: FrameUnits,
    /// The first row.
    pub start: FrameBound,
    /// The last row.
    pub end: FrameBound,
    /// Rows left out.
    pub exclude: FrameExclude,
}

impl Default for Frame {
    fn default() -> Frame {
        Frame {
            units: FrameUnits::Range,
            start: FrameBound::UnboundedPreceding,
            end: FrameBound::CurrentRow,
            exclude: FrameExclude::NoOthers,
        }
    }
}

/// One window call; columns are numbers of arguments (of a bound call) or of the input (of a plan).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowCall {
    /// Which function.
    pub kind: WindowKind,
    /// Columns of its arguments.
    pub args: Vec<usize>,
    /// Boolean column of FILTER.
    pub filter: Option<usize>,
    /// Its frame.
    pub frame: Frame,
    /// IGNORE NULLS.
    pub ignore_nulls: bool,
    /// How far lag and lead look and which row nth_value takes, where it is the same for all rows.
    pub distance: Option<i64>,
    /// The result: name, type and what is known of it.
    pub field: FieldRef,
}

impl WindowCall {
    /// Whether the result depends on the order of peers, so that ties must be broken.
    pub fn sees_ties(&self) -> bool {
        use WindowKind::{Avg, Count, CumeDist, DenseRank, Max, Min, PercentRank, Rank, Sum};
        match self.kind {
            Rank | DenseRank | PercentRank | CumeDist => false,
            Count | Sum | Avg | Min | Max => self.frame.units == FrameUnits::Rows && !self.whole_partition(),
            _ => true,
        }
    }

    /// Whether the frame is the partition, whatever the current row.
    pub fn whole_partition(&self) -> bool {
        self.frame.start == FrameBound::UnboundedPreceding
            && self.frame.end == FrameBound::UnboundedFollowing
            && self.frame.exclude == FrameExclude::NoOthers
    }
}

/// What the limit of a partition counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitBy {
    /// Rows.
    Rows,
    /// Rows, and the peers of the last one (`rank() <= n`, WITH TIES).
    Ties,
    /// Groups of peers (`dense_rank() <= n`).
    Groups,
}

/// The rows of each partition that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverLimit {
    /// Rows passed over.
    pub offset: u64,
    /// How many are shown.
    pub limit: u64,
    /// What is counted.
    pub by: LimitBy,
}

/// The evaluator of one partition: the call, its argument columns, the number of rows.
pub type Evaluate = fn(&OverFunction, &[ArrayRef], usize) -> Result<ArrayRef>;

/// A bound window call as DataFusion knows it.
#[derive(Clone)]
pub struct OverFunction {
    /// Name of the function.
    pub name: String,
    /// The call; columns are argument numbers. Offsets of the frame are NULL where `start` or `end` is set.
    pub call: WindowCall,
    /// Direction of each ORDER BY key.
    pub orders: Vec<SortOptions>,
    /// Argument number of the first ORDER BY key.
    pub first_key: usize,
    /// Columns after the keys that break ties, ascending.
    pub ties: usize,
    /// Argument number of the frame's start offset.
    pub start: Option<usize>,
    /// Argument number of the frame's end offset.
    pub end: Option<usize>,
    evaluate: Evaluate,
    signature: Signature,
}

impl OverFunction {
    /// A call that `evaluate` computes.
    pub fn new(
        name: String,
        call: WindowCall,
        orders: Vec<SortOptions>,
        first_key: usize,
        ties: usize,
        offsets: (Option<usize>, Option<usize>),
        evaluate: Evaluate,
    ) -> OverFunction {
        let signature = Signature::one_of(
            vec![TypeSignature::Nullary, TypeSignature::VariadicAny],
            Volatility::Immutable,
        );
        let (start, end) = offsets;
        OverFunction { name, call, orders, first_key, ties, start, end, evaluate, signature }
    }

    /// The frame with these offsets in place.
    pub fn frame_with(&self, start: Option<ScalarValue>, end: Option<ScalarValue>) -> Frame {
        let put = |bound: &FrameBound, value: Option<ScalarValue>| match (bound, value) {
            (FrameBound::Preceding(_), Some(v)) => FrameBound::Preceding(v),
            (FrameBound::Following(_), Some(v)) => FrameBound::Following(v),
            (bound, _) => bound.clone(),
        };
        let frame = &self.call.frame;
        Frame { start: put(&frame.start, start), end: put(&frame.end, end), ..frame.clone() }
    }

    /// The same call of another function.
    pub fn with_kind(&self, name: &str, kind: WindowKind, field: FieldRef) -> OverFunction {
        let call = WindowCall { kind, field, ..self.call.clone() };
        OverFunction { name: name.to_string(), call, ..self.clone() }
    }
}

impl fmt::Debug for OverFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverFunction")
            .field("name", &self.name)
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

impl PartialEq for OverFunction {
    fn eq(&self, other: &OverFunction) -> bool {
        self.call == other.call
            && self.name == other.name
            && self.orders == other.orders
            && (self.first_key, self.ties, self.start, self.end)
                == (other.first_key, other.ties, other.start, other.end)
    }
}

impl Eq for OverFunction {}

impl Hash for OverFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.call, self.first_key, self.ties, self.start, self.end).hash(state);
    }
}

impl WindowUDFImpl for OverFunction {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn partition_evaluator(
        &self,
        _: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>, DataFusionError> {
        Ok(Box::new(Evaluator { function: self.clone() }))
    }
    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef, DataFusionError> {
        Ok(Arc::new(self.call.field.as_ref().clone().with_name(args.name())))
    }
}

#[derive(Debug)]
struct Evaluator {
    function: OverFunction,
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef, DataFusionError> {
        (self.function.evaluate)(&self.function, values, num_rows)
            .map_err(|e| DataFusionError::External(Box::new(e)))
    }
}

/// The refusal of a frame offset.
pub fn check_offset(frame: &Frame) -> Result<()> {
    for (bound, place) in [(&frame.start, "starting"), (&frame.end, "ending")] {
        let (FrameBound::Preceding(value) | FrameBound::Following(value)) = bound else { continue };
        if value.is_null() {
            return Err(Error::new(
                crate::error::ErrorKind::NullNotAllowed,
                format!("frame {place} offset must not be null"),
            ));
        }
        let negative = match value {
            ScalarValue::Int64(Some(v)) => *v < 0,
            ScalarValue::Float64(Some(v)) => *v < 0.0 || v.is_nan(),
            ScalarValue::Decimal128(Some(v), ..) => *v < 0,
            ScalarValue::IntervalMonthDayNano(Some(v)) => crate::expr::window::span_micros(*v) < 0,
            _ => false,
        };
        if negative {
            let kind = crate::error::ErrorKind::InvalidFrameOffset;
            return Err(match frame.units {
                FrameUnits::Range => {
                    Error::new(kind, "invalid preceding or following size in window function")
                }
                _ => Error::new(kind, format!("frame {place} offset must not be negative")),
            });
        }
    }
    Ok(())
}

/// The length in µs by which PostgreSQL orders intervals: a month has 30 days, a day 24 hours.
pub fn span_micros(v: arrow::datatypes::IntervalMonthDayNano) -> i128 {
    (i128::from(v.months) * 30 + i128::from(v.days)) * 86_400_000_000 + i128::from(v.nanoseconds / 1000)
}

/// The Arrow type in which interval keys are ordered.
pub fn span_type() -> DataType {
    DataType::Decimal128(38, 0)
}
