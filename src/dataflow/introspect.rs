//! Figures of running dataflows for the system relations and EXPLAIN ANALYZE.
//!
//! Boundary: plain numbers, summed over workers by the driver.

use std::time::Duration;

use crate::catalog::ObjectId;

/// Figures of one node of a dataflow, since it was created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Position in the plan.
    pub node: usize,
    /// Name of the operator, lower case.
    pub name: String,
    /// Entries taken in.
    pub rows_in: u64,
    /// Entries given out.
    pub rows_out: u64,
    /// Rows or keys of state.
    pub state_rows: usize,
    /// Bytes of state.
    pub state_bytes: usize,
    /// Time spent in the operator, over all workers.
    pub busy: Duration,
}

/// Figures of one dataflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataflowStats {
    /// The view or sink.
    pub id: ObjectId,
    /// Whether it is still absorbing snapshots of its inputs.
    pub hydrating: bool,
    /// Epochs that it took part in.
    pub epochs: u64,
    /// Its nodes in the order of the plan.
    pub nodes: Vec<NodeStats>,
}

impl DataflowStats {
    /// Bytes of state of all nodes.
    pub fn state_bytes(&self) -> usize {
        self.nodes.iter().map(|n| n.state_bytes).sum()
    }

    /// Adds another worker's figures of the same dataflow.
    pub(super) fn merge(&mut self, other: &DataflowStats) {
        self.epochs = self.epochs.max(other.epochs);
        for (mine, theirs) in self.nodes.iter_mut().zip(&other.nodes) {
            mine.rows_in += theirs.rows_in;
            mine.rows_out += theirs.rows_out;
            mine.state_rows += theirs.state_rows;
            mine.state_bytes += theirs.state_bytes;
            mine.busy += theirs.busy;
        }
    }
}
