//! Aggregates without a form of their own over frames: DataFusion's accumulators, fed with the rows of each frame.
//!
//! Boundary: a frame that begins where the partition does and only grows is accumulated once; every other frame anew.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, new_empty_array};
use arrow::compute::{concat, filter};
use arrow::datatypes::{Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Accumulator, AggregateUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;

use super::evaluate::RowErrors;
use crate::error::{Error, Result};
use crate::expr::window::WindowCall;

/// The aggregate over each frame (ranges of rows of `args`), of the rows that `part` says.
pub(super) fn aggregate(
    function: &Arc<AggregateUDF>,
    call: &WindowCall,
    args: &[ArrayRef],
    part: Option<&[bool]>,
    frames: &[Vec<(u32, u32)>],
    running: bool,
) -> Result<(ArrayRef, RowErrors)> {
    let fields: Vec<Field> = args
        .iter()
        .enumerate()
        .map(|(i, a)| Field::new(format!("a{i}"), a.data_type().clone(), true))
        .collect();
    let columns = (0..args.len())
        .map(|i| Arc::new(Column::new(&format!("a{i}"), i)) as Arc<dyn PhysicalExpr>)
        .collect();
    let aggregate = AggregateExprBuilder::new(Arc::clone(function), columns)
        .schema(Arc::new(Schema::new(fields)))
        .alias(call.field.name())
        .build()?;
    let fresh = || -> Result<Box<dyn Accumulator>> { Ok(aggregate.create_accumulator()?) };
    let rows_of = |range: (u32, u32)| -> Result<Vec<ArrayRef>> {
        let (start, len) = (range.0 as usize, (range.1 - range.0) as usize);
        let cut = args.iter().map(|a| a.slice(start, len));
        match part {
            None => Ok(cut.collect()),
            Some(part) => {
                let mask = BooleanArray::from(part[start..start + len].to_vec());
                Ok(cut.map(|a| filter(&a, &mask)).collect::<Result<_, _>>()?)
            }
        }
    };
    let null = ScalarValue::try_from(call.field.data_type())?;
    let mut results: Vec<ScalarValue> = Vec::with_capacity(frames.len());
    let mut errors: RowErrors = vec![];
    let mut state: Option<(Box<dyn Accumulator>, u32)> = None;
    for (i, frame) in frames.iter().enumerate() {
        if i > 0
            && frames[i - 1] == *frame
            && !matches!(errors.last(), Some((row, _)) if *row + 1 == i as u32)
        {
            results.push(results[i - 1].clone());
            continue;
        }
        let (mut accumulator, mut from) = match state.take().filter(|_| running) {
            Some(kept) => kept,
            None => (fresh()?, 0),
        };
        let outcome = (|| -> Result<ScalarValue> {
            if running {
                let end = frame.first().map_or(from, |f| f.1);
                if from < end {
                    accumulator.update_batch(&rows_of((from, end))?)?;
                    from = end;
                }
            } else {
                let pieces = frame.iter().map(|f| rows_of(*f)).collect::<Result<Vec<_>>>()?;
                let columns = (0..args.len())
                    .map(|c| {
                        let parts: Vec<&dyn arrow::array::Array> =
                            pieces.iter().map(|p| p[c].as_ref()).collect();
                        if parts.is_empty() {
                            return Ok(new_empty_array(args[c].data_type()));
                        }
                        concat(&parts)
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                accumulator.update_batch(&columns)?;
            }
            Ok(accumulator.evaluate()?)
        })();
        state = Some((accumulator, from));
        match outcome {
            Ok(value) => results.push(value),
            Err(e) => {
                errors.push((i as u32, e));
                results.push(null.clone());
            }
        }
    }
    let array = ScalarValue::iter_to_array(results)?;
    let wanted = call.field.data_type();
    let array = if array.data_type() == wanted { array } else { arrow::compute::cast(&array, wanted)? };
    if array.len() != frames.len() {
        return Err(Error::internal("an aggregate over a window gave another number of results"));
    }
    Ok((array, errors))
}
