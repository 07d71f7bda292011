//! Aggregate calls as plans, operators and the ad hoc engine share them.
//!
//! Boundary: plain data; how a call is computed is `operator::reduce`'s affair, what its name and types are the
//! binder's.

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;

/// The aggregates with an operator of their own that stays exact under any retraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AggregateKind {
    /// `count(*)` without argument, `count(x)` with: int8.
    Count,
    /// `sum(x)`: int8 for int2/int4, numeric for int8 and numeric, the float type for floats, interval.
    Sum,
    /// `avg(x)` of floats only; other averages are bound as sum and count.
    Avg,
    /// `min(x)`.
    Min,
    /// `max(x)`.
    Max,
    /// `bool_and(x)`, `every(x)`.
    BoolAnd,
    /// `bool_or(x)`.
    BoolOr,
    /// `bit_and(x)`.
    BitAnd,
    /// `bit_or(x)`.
    BitOr,
    /// `bit_xor(x)`.
    BitXor,
    /// The variance family, of exact numbers or of floats.
    Spread(Spread),
    /// The aggregates over pairs (Y, X) of floats.
    Pairs(Pairs),
    /// What reads the values of a group in order.
    Ordered(Ordered),
}

/// The variance family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spread {
    /// `var_samp`, `variance`.
    VarSamp,
    /// `var_pop`.
    VarPop,
    /// `stddev_samp`, `stddev`.
    StddevSamp,
    /// `stddev_pop`.
    StddevPop,
}

/// Aggregates over pairs (Y, X).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pairs {
    /// `corr`.
    Corr,
    /// `covar_pop`.
    CovarPop,
    /// `covar_samp`.
    CovarSamp,
    /// `regr_count`: int8.
    Count,
    /// `regr_sxx`.
    Sxx,
    /// `regr_syy`.
    Syy,
    /// `regr_sxy`.
    Sxy,
    /// `regr_avgx`.
    AvgX,
    /// `regr_avgy`.
    AvgY,
    /// `regr_r2`.
    R2,
    /// `regr_slope`.
    Slope,
    /// `regr_intercept`.
    Intercept,
}

/// Aggregates over the values of a group in canonical order: the order asked for, ties (or everything, when no order
/// is asked for) by the arguments ascending, NULLs last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ordered {
    /// `array_agg`.
    Array,
    /// `string_agg(x, delimiter)` of text or bytea.
    Text,
    /// `json_agg`.
    Json,
    /// `jsonb_agg`.
    Jsonb,
    /// `json_object_agg(k, v)`.
    JsonObject,
    /// `jsonb_object_agg(k, v)`.
    JsonbObject,
    /// `percentile_cont`, of floats or intervals.
    Continuous,
    /// `percentile_disc`.
    Discrete,
    /// `mode`.
    Mode,
    /// The first value, of those that are not NULL when an argument [`Shape::skips_null`].
    First,
    /// The last value.
    Last,
}

impl Ordered {
    /// Whether the whole group is read for one result, not only some of its values.
    pub fn reads_all(self) -> bool {
        !matches!(self, Ordered::First | Ordered::Last)
    }
}

/// What a call says besides its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Order of the values: which argument (by position), and how.
    pub order: Vec<(usize, Order)>,
    /// The fractions of a percentile, as bits of doubles; one that is NULL gives NULL.
    pub fractions: Vec<Option<u64>>,
    /// Whether the result is an array, one element per fraction.
    pub array: bool,
    /// Arguments (by position) that let a row be left out when they are NULL.
    pub skips_null: Vec<usize>,
}

/// Direction, and where NULLs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// From the greatest to the least.
    pub descending: bool,
    /// NULLs before all others.
    pub nulls_first: bool,
}

impl Order {
    /// Ascending, NULLs last: what ORDER BY means without further words.
    pub const ASCENDING: Order = Order { descending: false, nulls_first: false };
    /// Descending, NULLs last.
    pub const DESCENDING: Order = Order { descending: true, nulls_first: false };

    /// As Arrow says it.
    pub fn options(self) -> SortOptions {
        SortOptions { descending: self.descending, nulls_first: self.nulls_first }
    }
}

/// One aggregate of a GROUP BY over a batch whose columns hold the evaluated arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    /// Which aggregate.
    pub kind: AggregateKind,
    /// Column of the first argument; `None` only for `count(*)`.
    pub argument: Option<usize>,
    /// Columns of further arguments.
    pub more: Vec<usize>,
    /// What else the call says.
    pub shape: Shape,
    /// Boolean column of the FILTER clause: rows where it is not true are left out.
    pub filter: Option<usize>,
    /// Whether equal arguments count once.
    pub distinct: bool,
    /// Name of the result column.
    pub name: String,
    /// Arrow type of the result.
    pub data_type: DataType,
}

impl AggregateCall {
    /// Columns of all arguments.
    pub fn arguments(&self) -> impl Iterator<Item = usize> + '_ {
        self.argument.into_iter().chain(self.more.iter().copied())
    }

    /// Whether a change of one row costs as much as its group has values.
    pub fn reads_whole_groups(&self) -> bool {
        matches!(self.kind, AggregateKind::Ordered(o) if o.reads_all())
    }
}
