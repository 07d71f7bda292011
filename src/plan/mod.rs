//! Incremental plans: what a dataflow computes, as a tree of nodes with facts.
//!
//! A [`Plan`] is decided by [`lower`] from DataFusion's logical plan, or refused with a reason: a plan that
//! cannot be maintained exactly is never approximated. Three words are used everywhere the same way:
//! `Statement` (asked), `Plan` (decided), `Dataflow` (running).
//!
//! Boundary: no operator, no state, no threads; a plan is plain data that EXPLAIN can print and `dataflow`
//! can build.

pub mod explain;
pub mod facts;
pub mod lower;
#[cfg(test)]
pub(crate) mod testing;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;

use crate::catalog::ObjectId;
use crate::expr::ScalarExpr;
use crate::expr::aggregate::AggregateCall;
use crate::expr::window::{OverLimit, WindowCall};
use crate::plan::facts::Facts;

/// Index of a node in its [`Plan`].
pub type NodeId = usize;

/// A plan: nodes in topological order (inputs before their users, of which a node may have several); the last
/// one gives the result.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The nodes, inputs first.
    pub nodes: Vec<PlanNode>,
    /// Columns of the result, named and typed as the view shows them; the last node's columns have the same
    /// types in the same order, its names may differ.
    pub schema: SchemaRef,
    /// When the result shows its rows.
    pub emit: Emit,
}

impl Plan {
    /// The node that gives the result.
    pub fn root(&self) -> &PlanNode {
        self.nodes.last().expect("a plan has at least one node")
    }

    /// What is known of the result: its unique keys, whether it is append-only, its watermark columns.
    pub fn facts(&self) -> &Facts {
        &self.root().facts
    }

    /// The relations the plan reads, each once, in ascending order.
    pub fn relations(&self) -> Vec<ObjectId> {
        let mut ids: Vec<ObjectId> = self
            .nodes
            .iter()
            .filter_map(|n| match n.op {
                Op::Input { relation, .. } => Some(relation),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// When a view shows its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// At every epoch, retracting what was shown before.
    OnUpdate,
    /// Each row once, when the watermark has passed its window's end.
    OnWindowClose,
}

/// One node of a plan.
#[derive(Debug, Clone)]
pub struct PlanNode {
    /// What it does.
    pub op: Op,
    /// Whose output it reads, one per port.
    pub inputs: Vec<NodeId>,
    /// Columns of its output.
    pub schema: SchemaRef,
    /// What is known of its output.
    pub facts: Facts,
}

/// A column to order by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderColumn {
    /// Column of the input.
    pub column: usize,
    /// Direction, and where NULLs go.
    pub options: SortOptions,
}

/// What a node does. Column numbers refer to the node's input (for joins: left columns, then right columns).
#[derive(Debug, Clone)]
pub enum Op {
    /// The changes of a relation, only these columns.
    Input {
        /// Table, source or materialized view.
        relation: ObjectId,
        /// Columns of the relation, in output order.
        columns: Vec<usize>,
    },
    /// Fixed rows, present from the first epoch on (VALUES, SELECT without FROM).
    Constant {
        /// The rows.
        rows: RecordBatch,
    },
    /// Keep the rows where `predicate` is true, then compute `exprs` of them.
    Map {
        /// Condition over the input.
        predicate: Option<ScalarExpr>,
        /// Output columns over the input; `None` passes the rows as they are.
        exprs: Option<Vec<ScalarExpr>>,
    },
    /// All rows of all inputs.
    Union,
    /// Every row with the opposite weight: what a Union is to take away.
    Negate,
    /// Rows go to the worker that owns the hash of these columns; no columns: to worker 0.
    Exchange {
        /// Key columns.
        keys: Vec<usize>,
    },
    /// Every row goes to every worker.
    Broadcast,
    /// Inner join on equality of the keys and the residual condition. Both inputs are exchanged on their keys
    /// (or the right one is broadcast when there are no keys).
    Join {
        /// Key columns of the left input.
        left_keys: Vec<usize>,
        /// Key columns of the right input, in the same order and of the same types.
        right_keys: Vec<usize>,
        /// Further condition over (left columns, right columns).
        residual: Option<ScalarExpr>,
        /// Which of (left columns, right columns) make the output.
        output: Vec<usize>,
        /// Event-time bounds that let old rows go, if the condition has them.
        bounds: Option<JoinBounds>,
    },
    /// One row per distinct key with its aggregates; with no keys: exactly one row, always.
    Reduce {
        /// Group columns; they are the first output columns.
        keys: Vec<usize>,
        /// The aggregates; they follow the keys.
        aggregates: Vec<AggregateCall>,
        /// Which of the keys is the window end (exclusive, µs) whose passing closes the group; state of closed groups is dropped.
        window_end: Option<usize>,
        /// Whether groups are shown only when they are closed.
        emit: Emit,
    },
    /// Each distinct row once.
    Distinct {
        /// Column whose value (a window end) lets the state of a row go once the watermark passes it.
        window_end: Option<usize>,
    },
    /// The rows `offset .. offset + limit` of each partition in this order; ties are broken by the whole row.
    TopK {
        /// Partition columns; none: one partition.
        partition: Vec<usize>,
        /// Order inside a partition.
        order: Vec<OrderColumn>,
        /// Rows passed over.
        offset: u64,
        /// Rows kept.
        limit: u64,
        /// Append the row number (int8, from 1) as last column.
        row_number: bool,
    },
    /// Every row with the results of window calls over its partition, or the first rows of each partition with them.
    Over {
        /// Partition columns; none: one partition.
        partition: Vec<usize>,
        /// Order inside a partition; rows that agree are peers.
        order: Vec<OrderColumn>,
        /// Columns that break ties between peers, ascending; the other columns follow.
        ties: Vec<usize>,
        /// The calls; their results follow the columns of the input.
        calls: Vec<WindowCall>,
        /// Which rows of a partition are kept; `None`: all.
        limit: Option<OverLimit>,
        /// Column (a time) whose passing by the watermark lets a partition's state go.
        closes: Option<usize>,
    },
    /// Rows while `lower <= now() < upper`: a temporal filter. Bounds are expressions of the row in µs (Timestamp).
    Temporal {
        /// First moment at which the row is in, if bounded.
        from: Option<ScalarExpr>,
        /// First moment at which the row is out again, if bounded.
        until: Option<ScalarExpr>,
    },
}

/// What lets a join forget rows: once the watermark of one side passes a row's expiry, no partner can come any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinBounds {
    /// Left row expires when the right watermark exceeds `left column + offset µs`.
    pub left_expiry: Option<(usize, i64)>,
    /// Right row expires when the left watermark exceeds `right column + offset µs`.
    pub right_expiry: Option<(usize, i64)>,
}
