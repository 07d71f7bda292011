//! Lists unnested: each row once per item of its longest list.
//!
//! The items of one row's lists go in step; a list that is shorter ends in NULLs. A row whose lists are all NULL or
//! empty gives nothing. All of it is done by columns: row numbers and item numbers are computed, then taken.
//!
//! Boundary: stateless; the lists themselves were computed by a map below.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Error, Result};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::zset::builder::compact_weights;
use crate::zset::{TARGET_ROWS, ZBatch};

/// The operator. See the module documentation.
#[derive(Debug)]
pub struct FlatMap {
    /// Columns of lists; each is replaced by its items.
    lists: Vec<usize>,
    schema: SchemaRef,
}

impl FlatMap {
    /// Unnests columns `lists` of rows of `input`; `output` has the items' types in their places.
    pub fn new(input: &SchemaRef, output: SchemaRef, lists: Vec<usize>) -> Result<FlatMap> {
        let fits = lists.iter().all(|c| {
            matches!(input.fields().get(*c).map(|f| f.data_type()), Some(DataType::List(item))
                if output.fields().get(*c).is_some_and(|f| f.data_type() == item.data_type()))
        });
        if !fits || lists.is_empty() || input.fields().len() != output.fields().len() {
            return Err(Error::internal("what is unnested is not a list"));
        }
        Ok(FlatMap { lists, schema: output })
    }

    /// The rows `from..to` of a batch, unnested.
    fn expand(&self, batch: &ZBatch, lengths: &[u32], from: usize, to: usize) -> Result<ZBatch> {
        let total: usize = lengths[from..to].iter().map(|n| *n as usize).sum();
        let mut rows: Vec<u32> = Vec::with_capacity(total);
        for row in from..to {
            rows.extend(std::iter::repeat_n(row as u32, lengths[row] as usize));
        }
        let weights =
            batch.weights().map(|w| rows.iter().map(|r| w.value(*r as usize)).collect::<Vec<i64>>());
        let picks = UInt32Array::from(rows);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.columns().len());
        for (c, column) in batch.columns().iter().enumerate() {
            if !self.lists.contains(&c) {
                columns.push(take(column, &picks, None)?);
                continue;
            }
            let list = column.as_list::<i32>();
            let offsets = list.value_offsets();
            let mut items: Vec<Option<u32>> = Vec::with_capacity(total);
            for row in from..to {
                let own = if list.is_valid(row) { offsets[row + 1] - offsets[row] } else { 0 };
                let (first, own) = (offsets[row] as u32, own as u32);
                items.extend((0..lengths[row]).map(|i| (i < own).then_some(first + i)));
            }
            columns.push(take(list.values(), &UInt32Array::from(items), None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(total));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        ZBatch::try_new(rows, weights.and_then(compact_weights))
    }
}

impl Operator for FlatMap {
    fn name(&self) -> &'static str {
        "flat_map"
    }

    fn absorb(&mut self, _port: usize, changes: ZBatch, out: &mut Output) -> Result<Progress> {
        let mut lengths = vec![0u32; changes.num_rows()];
        for c in &self.lists {
            let list = changes.column(*c).as_list::<i32>();
            let offsets = list.value_offsets();
            for (row, length) in lengths.iter_mut().enumerate() {
                if list.is_valid(row) {
                    *length = (*length).max((offsets[row + 1] - offsets[row]) as u32);
                }
            }
        }
        let (mut from, mut total) = (0, 0);
        for row in 0..lengths.len() {
            total += lengths[row] as usize;
            if total >= TARGET_ROWS || row + 1 == lengths.len() {
                out.push(self.expand(&changes, &lengths, from, row + 1)?);
                (from, total) = (row + 1, 0);
            }
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, _time: &TimeFacts<'_>, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListArray};
    use arrow::datatypes::{Field, Int64Type, Schema};

    use super::*;
    use crate::zset::pretty;

    #[test]
    fn lists_go_in_step_and_rows_keep_their_weights() {
        let item = |name: &str| Field::new(name, DataType::Int64, true);
        let list = |name: &str| Field::new(name, DataType::List(Arc::new(item("item"))), true);
        let input = Arc::new(Schema::new(vec![item("k"), list("a"), list("b")]));
        let output = Arc::new(Schema::new(vec![item("k"), item("a"), item("b")]));
        let lists = |rows: Vec<Option<Vec<Option<i64>>>>| -> ArrayRef {
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows))
        };
        let a = lists(vec![Some(vec![Some(1), None]), Some(vec![]), None, Some(vec![Some(7)])]);
        let b = lists(vec![Some(vec![Some(5)]), None, Some(vec![]), Some(vec![Some(8), Some(9)])]);
        let k: ArrayRef = Arc::new(Int64Array::from(vec![10, 20, 30, 40]));
        let rows = RecordBatch::try_new(input.clone(), vec![k, a, b]).unwrap();
        let batch = ZBatch::try_new(rows, compact_weights(vec![1, 1, 1, -2])).unwrap();
        // A slice, so that offsets do not begin at zero.
        let mut op = FlatMap::new(&input, output, vec![1, 2]).unwrap();
        let mut lines = vec![];
        for part in [batch.slice(0, 2), batch.slice(2, 2)] {
            let mut out = Output::default();
            op.absorb(0, part, &mut out).unwrap();
            for b in out.rows {
                lines.extend((0..b.num_rows()).map(|i| pretty::format(&b.slice(i, 1)).trim().to_string()));
            }
        }
        assert_eq!(lines, ["+1 10 1 5", "+1 10 NULL NULL", "-2 40 7 8", "-2 40 NULL 9"]);
    }
}
