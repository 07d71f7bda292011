//! Building changes: rows gathered from several batches by (batch, row), with their weights.
//!
//! Boundary: moves rows, decides nothing about them.

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::zset::{TARGET_ROWS, ZBatch};

/// Weights as a [`ZBatch`] holds them: `None` when every one is +1.
pub fn compact_weights(weights: Vec<i64>) -> Option<Int64Array> {
    if weights.iter().all(|w| *w == 1) { None } else { Some(Int64Array::from(weights)) }
}

/// The rows `picks` (batch, row) of `batches` in one batch of schema `schema`.
pub fn gather(schema: &SchemaRef, batches: &[&RecordBatch], picks: &[(usize, usize)]) -> Result<RecordBatch> {
    if picks.is_empty() {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    if schema.fields().is_empty() {
        return rows_without_columns(schema, picks.len());
    }
    // A run of neighbouring rows of one batch is shared, not copied.
    let (batch, first) = picks[0];
    if picks.iter().enumerate().all(|(i, pick)| *pick == (batch, first + i)) {
        let rows = batches[batch].slice(first, picks.len());
        return Ok(RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?);
    }
    let rows = interleave_record_batch(batches, picks)?;
    Ok(RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?)
}

/// A batch of rows that have no columns.
pub fn rows_without_columns(schema: &SchemaRef, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), vec![], &options)?)
}

/// Cuts a large change into pieces of about [`TARGET_ROWS`] entries, without copying.
pub fn pieces(batch: ZBatch) -> impl Iterator<Item = ZBatch> {
    let rows = batch.num_rows();
    (0..rows).step_by(TARGET_ROWS).map(move |start| batch.slice(start, TARGET_ROWS.min(rows - start)))
}

/// Collects rows by reference to the batches they are in, and copies them once at the end.
#[derive(Debug)]
pub struct ZBatchBuilder {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    picks: Vec<(usize, usize)>,
    weights: Vec<i64>,
}

impl ZBatchBuilder {
    /// A builder of changes with these columns.
    pub fn new(schema: SchemaRef) -> Self {
        ZBatchBuilder { schema, batches: vec![], picks: vec![], weights: vec![] }
    }

    /// Makes a batch known; its number is used by [`ZBatchBuilder::push`]. Only the buffers are shared.
    pub fn add_batch(&mut self, batch: RecordBatch) -> usize {
        self.batches.push(batch);
        self.batches.len() - 1
    }

    /// Adds row `row` of batch `batch` with a weight; a weight of zero adds nothing.
    #[inline]
    pub fn push(&mut self, batch: usize, row: usize, weight: i64) {
        if weight != 0 {
            self.picks.push((batch, row));
            self.weights.push(weight);
        }
    }

    /// Number of entries so far.
    pub fn len(&self) -> usize {
        self.picks.len()
    }

    /// Whether there are no entries yet.
    pub fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    /// All entries in the order they were added.
    pub fn finish(self) -> Result<ZBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        ZBatch::try_new(gather(&self.schema, &batches, &self.picks)?, compact_weights(self.weights))
    }

    /// All entries, in batches of at most [`TARGET_ROWS`] that each own their memory.
    pub fn finish_pieces(self) -> Result<Vec<ZBatch>> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        self.picks
            .chunks(TARGET_ROWS)
            .zip(self.weights.chunks(TARGET_ROWS))
            .map(|(picks, weights)| {
                ZBatch::try_new(gather(&self.schema, &batches, picks)?, compact_weights(weights.to_vec()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::zset::pretty;

    #[test]
    fn rows_of_several_batches_are_gathered_in_the_order_of_the_pushes() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
        let mut builder = ZBatchBuilder::new(schema.clone());
        let x = builder.add_batch(pretty::parse(&schema, "+1 a | +1 b").into_parts().0);
        let y = builder.add_batch(pretty::parse(&schema, "+1 c | +1 NULL").into_parts().0);
        builder.push(y, 1, 1);
        builder.push(x, 0, -2);
        builder.push(x, 1, 0);
        builder.push(y, 0, 3);
        assert_eq!(builder.len(), 3);
        assert_eq!(pretty::format(&builder.finish().unwrap()), "+1 NULL | +3 c | -2 a");
    }

    #[test]
    fn a_change_of_all_ones_carries_no_weights() {
        assert!(compact_weights(vec![1, 1]).is_none());
        assert_eq!(compact_weights(vec![1, -1]).unwrap().values(), &[1, -1]);
    }

    #[test]
    fn a_large_change_is_cut_into_pieces() {
        let schema: SchemaRef = Arc::new(Schema::empty());
        let rows = rows_without_columns(&schema, 2 * TARGET_ROWS + 1).unwrap();
        let sizes: Vec<usize> = pieces(ZBatch::inserts(rows)).map(|p| p.num_rows()).collect();
        assert_eq!(sizes, [TARGET_ROWS, TARGET_ROWS, 1]);
    }
}
