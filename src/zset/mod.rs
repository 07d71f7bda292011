//! Changes as Arrow: a [`ZBatch`] is a batch of rows with a weight each (a Z-set).
//!
//! A relation is a multiset of rows that changes over time; a change is (row, weight), +1 inserts and -1
//! deletes. Z-sets form an abelian group under union of changes, with negation as inverse; two batches are
//! the same change when their consolidated forms are equal (Budiu et al., "DBSP: Automatic Incremental View
//! Maintenance", VLDB 2023).
//!
//! Boundary: Arrow only. No relation names, epochs or I/O.

pub mod builder;
pub mod consolidate;
pub mod keep;
pub mod key;
pub mod pretty;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::{Int64Type, SchemaRef};

use crate::error::{Error, Result};

/// The number of rows that batches are cut to where there is a choice: smaller ones lose half the speed,
/// much larger ones leave the cache.
pub const TARGET_ROWS: usize = 8192;

/// A batch of changes: rows and their weights. `weights: None` means that every weight is +1
/// (append-only streams pay nothing for them). A weight is never NULL; it may be zero only before consolidation.
#[derive(Debug, Clone)]
pub struct ZBatch {
    rows: RecordBatch,
    weights: Option<Int64Array>,
}

impl ZBatch {
    /// Rows with their weights. The lengths must agree and no weight may be NULL.
    pub fn try_new(rows: RecordBatch, weights: Option<Int64Array>) -> Result<Self> {
        if let Some(w) = &weights
            && (w.len() != rows.num_rows() || w.null_count() > 0)
        {
            return Err(Error::internal(format!("{} weights for {} rows", w.len(), rows.num_rows())));
        }
        Ok(ZBatch { rows, weights })
    }

    /// Every row once more (+1 each).
    pub fn inserts(rows: RecordBatch) -> Self {
        ZBatch { rows, weights: None }
    }

    /// Every row once less (-1 each).
    pub fn deletes(rows: RecordBatch) -> Self {
        let weights = Int64Array::from_value(-1, rows.num_rows());
        ZBatch { rows, weights: Some(weights) }
    }

    /// No change at all.
    pub fn empty(schema: SchemaRef) -> Self {
        ZBatch { rows: RecordBatch::new_empty(schema), weights: None }
    }

    /// The rows, without weights.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }
    /// The columns of the rows.
    pub fn columns(&self) -> &[ArrayRef] {
        self.rows.columns()
    }
    /// One column of the rows.
    pub fn column(&self, i: usize) -> &ArrayRef {
        self.rows.column(i)
    }
    /// The weights, `None` when all are +1.
    pub fn weights(&self) -> Option<&Int64Array> {
        self.weights.as_ref()
    }
    /// Schema of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
    /// Number of entries (not the sum of weights).
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }
    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0
    }
    /// The weight of entry `i`.
    #[inline]
    pub fn weight(&self, i: usize) -> i64 {
        self.weights.as_ref().map_or(1, |w| w.value(i))
    }
    /// Splits into rows and weights.
    pub fn into_parts(self) -> (RecordBatch, Option<Int64Array>) {
        (self.rows, self.weights)
    }

    /// The weights as an array even when all are +1.
    pub fn weights_or_ones(&self) -> Int64Array {
        self.weights.clone().unwrap_or_else(|| Int64Array::from_value(1, self.num_rows()))
    }

    /// The same rows under other columns (same length), keeping the weights.
    pub fn with_rows(&self, rows: RecordBatch) -> Result<Self> {
        ZBatch::try_new(rows, self.weights.clone())
    }

    /// The inverse change.
    pub fn negate(&self) -> Self {
        let weights = match &self.weights {
            None => Int64Array::from_value(-1, self.num_rows()),
            Some(w) => w.unary(|x| -x),
        };
        ZBatch { rows: self.rows.clone(), weights: Some(weights) }
    }

    /// Entries `offset .. offset + len`, without copying.
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        ZBatch {
            rows: self.rows.slice(offset, len),
            weights: self.weights.as_ref().map(|w| w.slice(offset, len)),
        }
    }

    /// The entries at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self> {
        let rows = compute::take_record_batch(&self.rows, indices)?;
        let weights = match &self.weights {
            None => None,
            Some(w) => Some(compute::take(w, indices, None)?.as_primitive::<Int64Type>().clone()),
        };
        Ok(ZBatch { rows, weights })
    }

    /// The entries where `mask` is true (NULL counts as false).
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        let rows = compute::filter_record_batch(&self.rows, mask)?;
        let weights = match &self.weights {
            None => None,
            Some(w) => Some(compute::filter(w, mask)?.as_primitive::<Int64Type>().clone()),
        };
        Ok(ZBatch { rows, weights })
    }

    /// The same entries with only these columns, in this order, without copying.
    pub fn project(&self, columns: &[usize]) -> Result<Self> {
        Ok(ZBatch { rows: self.rows.project(columns)?, weights: self.weights.clone() })
    }

    /// All entries of `batches` in one batch of schema `schema`.
    pub fn concat(schema: &SchemaRef, batches: &[ZBatch]) -> Result<Self> {
        if let [one] = batches {
            return Ok(one.clone());
        }
        let rows = compute::concat_batches(schema, batches.iter().map(|b| &b.rows))?;
        let weights = if batches.iter().all(|b| b.weights.is_none()) {
            None
        } else {
            let mut all = Vec::with_capacity(rows.num_rows());
            for b in batches {
                match &b.weights {
                    None => all.extend(std::iter::repeat_n(1, b.num_rows())),
                    Some(w) => all.extend_from_slice(w.values()),
                }
            }
            Some(Int64Array::from(all))
        };
        Ok(ZBatch { rows, weights })
    }

    /// Bytes of the Arrow buffers behind this batch (shared buffers are counted whole).
    pub fn memory_size(&self) -> usize {
        self.rows.get_array_memory_size() + self.weights.as_ref().map_or(0, |w| w.get_array_memory_size())
    }
}
