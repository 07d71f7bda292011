//! Point lookups: rows by key straight from an index, without planner and without DataFusion.
//!
//! Boundary: values to arrays to rows. Which columns are an index is the caller's knowledge
//! ([`Relation::has_index`]); the epoch must be pinned by the caller.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use crate::error::{Error, Result};
use crate::store::Relation;
use crate::time::Epoch;

/// Rows that a lookup gives at most.
const MAX_FOUND: usize = 100_000;

/// The rows at `epoch` whose `columns` equal one of the `keys`, only the columns of `projection`. A key of
/// another type matches if its value is the same in the column's type; NULL matches nothing. `None`: there are so
/// many rows that a query should read them, under its limits and a batch at a time.
pub fn lookup(
    relation: &Relation,
    columns: &[usize],
    keys: &[Vec<ScalarValue>],
    projection: &[usize],
    epoch: Epoch,
) -> Result<Option<RecordBatch>> {
    if let [key] = keys {
        // The common case: one tuple, one array of one value per column.
        let arrays = columns
            .iter()
            .zip(key)
            .map(|(c, v)| {
                fit(v, relation.schema().field(*c).data_type())?.map(|v| Ok(v.to_array()?)).transpose()
            })
            .collect::<Result<Option<Vec<ArrayRef>>>>()?;
        return match arrays {
            Some(arrays) => relation.lookup_few(columns, &arrays, epoch, Some(projection), MAX_FOUND),
            None => nothing(relation, projection).map(Some),
        };
    }
    let mut values: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(keys.len()); columns.len()];
    for key in keys {
        let fitted = columns
            .iter()
            .zip(key)
            .map(|(c, v)| fit(v, relation.schema().field(*c).data_type()))
            .collect::<Result<Option<Vec<_>>>>()?;
        for (column, value) in values.iter_mut().zip(fitted.into_iter().flatten()) {
            column.push(value);
        }
    }
    if values.iter().any(Vec::is_empty) {
        return nothing(relation, projection).map(Some);
    }
    let arrays =
        values.into_iter().map(|v| Ok(ScalarValue::iter_to_array(v)?)).collect::<Result<Vec<_>>>()?;
    relation.lookup_few(columns, &arrays, epoch, Some(projection), MAX_FOUND)
}

fn nothing(relation: &Relation, projection: &[usize]) -> Result<RecordBatch> {
    Ok(RecordBatch::new_empty(relation.schema().clone()).project(projection)?)
}

/// The value in the column's type; `None` when no value of that type equals it.
fn fit(value: &ScalarValue, wanted: &DataType) -> Result<Option<ScalarValue>> {
    if value.is_null() {
        return Ok(None);
    }
    let given = value.data_type();
    if given == *wanted {
        return Ok(Some(value.clone()));
    }
    let Ok(there) = value.cast_to(wanted) else { return Ok(None) };
    let back = there.cast_to(&given).map_err(Error::from)?;
    Ok((back == *value && !there.is_null()).then_some(there))
}
