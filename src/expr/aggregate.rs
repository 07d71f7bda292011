//! Aggregate calls as plans and operators share them.

use arrow::datatypes::DataType;

/// The aggregates with an operator of their own that stays exact under any retraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateKind {
    /// `count(*)` without argument, `count(x)` with: int8.
    Count,
    /// `sum(x)`: int8 for int2/int4, numeric for int8 and numeric, the float type for floats.
    Sum,
    /// `avg(x)` of floats only; other averages are bound as sum and count.
    Avg,
    /// `min(x)`.
    Min,
    /// `max(x)`.
    Max,
}

/// One aggregate of a GROUP BY over a batch whose columns hold the evaluated arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    /// Which aggregate.
    pub kind: AggregateKind,
    /// Column of the argument; `None` only for `count(*)`.
    pub argument: Option<usize>,
    /// Boolean column of the FILTER clause: rows where it is not true are left out.
    pub filter: Option<usize>,
    /// Whether equal arguments count once.
    pub distinct: bool,
    /// Name of the result column.
    pub name: String,
    /// Arrow type of the result.
    pub data_type: DataType,
}
