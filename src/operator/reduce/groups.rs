//! One aggregate over groups that somebody else numbers: how the ad hoc engine computes the aggregates whose result
//! must be exactly that of a view.
//!
//! Boundary: batches in, results out, once or after every batch; nothing is remembered of what was shown.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::expr::aggregate::AggregateCall;
use crate::store::arrangement::slab::Slab;

use super::aggregate::{Aggregate, add_weights};
use super::state::{NEGATIVE, OVERFLOW, PRESENT};

/// An aggregate and the sizes of its groups.
#[derive(Debug)]
pub struct Groups {
    aggregate: Aggregate,
    rows: Slab<i64>,
}

impl Groups {
    /// The aggregate `call` over columns of `input`, without groups yet.
    pub fn new(call: AggregateCall, input: &SchemaRef) -> Result<Groups> {
        Ok(Groups { aggregate: Aggregate::new(call, input, false, true)?, rows: Slab::new() })
    }

    /// Makes room for groups below `len`.
    pub fn grow(&mut self, len: usize) {
        self.rows.grow(len, 0);
        self.aggregate.grow(len);
    }

    /// Takes in rows: the group and weight of each, and the columns.
    pub fn update(&mut self, slots: &[u32], weights: Option<&[i64]>, columns: &[ArrayRef]) -> Result<()> {
        self.aggregate.update(slots, weights, columns, &self.rows)?;
        add_weights(&mut self.rows, slots, weights);
        Ok(())
    }

    /// The results of some groups; an error when one is out of range.
    pub fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let mut status = vec![PRESENT; slots.len()];
        self.aggregate.check(slots, &self.rows, OVERFLOW, &mut status);
        if status.contains(&NEGATIVE) {
            return Err(Error::internal("more rows of a group were taken away than were there"));
        }
        if status.contains(&OVERFLOW) {
            return Err(self.aggregate.overflow());
        }
        self.aggregate.output(slots, &self.rows)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.aggregate.bytes()
    }
}
