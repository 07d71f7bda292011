//! What the accumulators of a Reduce have in common.
//!
//! Boundary: per-aggregate state by slot; groups, output and errors are the operator's.

use arrow::array::ArrayRef;

use crate::error::{Error, Result};

/// A group without rows: nothing is shown.
pub const ABSENT: u16 = 0;
/// A group with a row in the output.
pub const PRESENT: u16 = 1;
/// This plus the number of the aggregate: its result is out of range.
pub const OVERFLOW: u16 = 2;
/// More was retracted than was there; counts more than an overflow.
pub const NEGATIVE: u16 = u16::MAX;

/// Rows selected for one aggregate: none is NULL or filtered out.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The group of each row.
    pub slots: &'a [u32],
    /// The weight of each row; `None`: all +1.
    pub weights: Option<&'a [i64]>,
    /// The argument.
    pub values: &'a ArrayRef,
}

impl Rows<'_> {
    /// The weight of row `i`.
    #[inline]
    pub fn weight(&self, i: usize) -> i64 {
        self.weights.map_or(1, |w| w[i])
    }
}

/// The state of one aggregate for all groups.
pub trait State: Send + Sync + std::fmt::Debug {
    /// Makes room for slots below `len`.
    fn grow(&mut self, len: usize);
    /// Takes in a batch.
    fn update(&mut self, rows: &Rows<'_>) -> Result<()>;
    /// The results of some groups; `counts` are their numbers of argument values (those without are NULL).
    fn output(&self, slots: &[u32], counts: &[i64]) -> Result<ArrayRef>;
    /// Marks groups whose result cannot be shown: [`NEGATIVE`], or `overflow` when out of range.
    fn check(&self, slots: &[u32], overflow: u16, status: &mut [u16]);
    /// Marks groups whose result, for these numbers of argument values, is out of range.
    fn check_results(&self, slots: &[u32], counts: &[i64], overflow: u16, status: &mut [u16]) {
        let _ = (slots, counts, overflow, status);
    }
    /// The error of a group that `check` marked with `overflow`, when it is not that of its type.
    fn error(&self) -> Option<Error> {
        None
    }
    /// Whether the slot holds nothing, as a group without rows should.
    fn is_zero(&self, slot: u32) -> bool;
    /// Forgets a group.
    fn clear(&mut self, slot: u32);
    /// Bytes held.
    fn bytes(&self) -> usize;
    /// Whether results need the number of argument values (else the state knows by itself which are NULL).
    fn needs_counts(&self) -> bool {
        true
    }
}
