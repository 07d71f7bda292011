//! Inner join on equal keys, kept up to date from both sides.
//!
//! Each side keeps its rows per key as references into the batches they came in. A batch of changes is joined with
//! what the other side holds at that moment and then added to its own side; because batches are taken one after the
//! other, the sum of what is emitted is exactly the change of the join. Columns are gathered only for rows that
//! are emitted, in batches of about [`TARGET_ROWS`] rows.
//!
//! NULL keys match nothing and are not kept. Without keys every row matches every row.
//!
//! Boundary: columns in, columns out; which columns are needed and when rows expire was decided by the plan.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{is_not_null, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::expr::ScalarExpr;
use crate::expr::eval_error::error_batch;
use crate::expr::scalar::evaluate_all;
use crate::store::arrangement::KeyBatch;
use crate::store::arrangement::row_lists::{Cursor, Matches, RowLists};
use crate::store::arrangement::words::{WordKind, words_of};
use crate::zset::builder::{compact_weights, pieces};
use crate::zset::{TARGET_ROWS, ZBatch};

use super::{Operator, Output, Progress, TimeFacts};

/// Batches of candidates looked at before the operator lets others run.
const BATCHES_AT_ONCE: usize = 4;

/// What a [`Join`] computes.
#[derive(Debug, Clone)]
pub struct JoinSpec {
    /// Key columns of the left input; none: every row matches every row.
    pub left_keys: Vec<usize>,
    /// Key columns of the right input, of the same types.
    pub right_keys: Vec<usize>,
    /// Further condition over (left columns, right columns).
    pub residual: Option<ScalarExpr>,
    /// Which of (left columns, right columns) make the output.
    pub output: Vec<usize>,
    /// A left row may go once the watermark of the right input exceeds `column + offset µs`.
    pub left_expiry: Option<(usize, i64)>,
    /// A right row may go once the watermark of the left input exceeds `column + offset µs`.
    pub right_expiry: Option<(usize, i64)>,
}

/// One input: what is kept of it and where to find it.
#[derive(Debug)]
struct Side {
    keys: Vec<usize>,
    /// Columns of the input that are kept.
    stored: Vec<usize>,
    expiry: Option<(usize, i64)>,
    rows: RowLists,
}

/// Where an output (or residual) column comes from.
#[derive(Debug, Clone, Copy)]
struct Source {
    side: usize,
    /// Position among the stored columns of the side.
    column: usize,
}

/// A batch on its way through the other side's lists.
#[derive(Debug)]
struct Probe {
    port: usize,
    /// Stored columns of the probing rows.
    rows: RecordBatch,
    weights: Option<Vec<i64>>,
    /// The list each row meets; `None`: every row meets all of them.
    slots: Option<Vec<u32>>,
    cursor: Cursor,
}

#[derive(Debug)]
struct Residual {
    /// Over the columns of `sources`.
    expr: ScalarExpr,
    sources: Vec<Source>,
    schema: SchemaRef,
}

/// The operator. See the module documentation.
#[derive(Debug)]
pub struct Join {
    sides: [Side; 2],
    output_schema: SchemaRef,
    output: Vec<Source>,
    residual: Option<Residual>,
    queue: VecDeque<(usize, ZBatch)>,
    probe: Option<Probe>,
}

impl Join {
    /// A join of rows of `left` and `right` that emits rows of `output_schema`.
    pub fn new(left: SchemaRef, right: SchemaRef, output_schema: SchemaRef, spec: JoinSpec) -> Result<Join> {
        let width = left.fields().len();
        let total = width + right.fields().len();
        let used = spec.residual.as_ref().map_or_else(Vec::new, ScalarExpr::columns_used);
        let types = |schema: &SchemaRef, keys: &[usize]| -> Option<Vec<DataType>> {
            keys.iter().map(|k| schema.fields().get(*k).map(|f| f.data_type().clone())).collect()
        };
        let key_types =
            types(&left, &spec.left_keys).filter(|t| Some(t) == types(&right, &spec.right_keys).as_ref());
        let key_types = key_types.ok_or_else(|| Error::internal("join keys of different types"))?;
        if spec.output.len() != output_schema.fields().len()
            || spec.output.iter().chain(&used).any(|c| *c >= total)
        {
            return Err(Error::internal("a join whose columns do not fit its schemas"));
        }
        let mut stored: [Vec<usize>; 2] = [vec![], vec![]];
        for column in spec.output.iter().chain(&used) {
            if *column < width { stored[0].push(*column) } else { stored[1].push(*column - width) }
        }
        for columns in &mut stored {
            columns.sort_unstable();
            columns.dedup();
        }
        let source = |column: &usize| -> Source {
            let (side, column) = if *column < width { (0, *column) } else { (1, *column - width) };
            Source { side, column: stored[side].binary_search(&column).expect("every used column is stored") }
        };
        let output = spec.output.iter().map(source).collect();
        let residual = match spec.residual {
            None => None,
            Some(expr) => {
                let field = |c: &usize| -> Field {
                    if *c < width { left.field(*c).clone() } else { right.field(*c - width).clone() }
                };
                let schema = Arc::new(Schema::new(used.iter().map(field).collect::<Vec<_>>()));
                let expr = expr.with_columns(|c| used.binary_search(&c).unwrap_or(usize::MAX))?;
                Some(Residual { expr, sources: used.iter().map(source).collect(), schema })
            }
        };
        let side =
            |schema: &SchemaRef, keys, stored: &[usize], expiry: Option<(usize, i64)>| -> Result<Side> {
                if expiry.is_some_and(|(c, _)| {
                    schema.fields().get(c).and_then(|f| WordKind::of(f.data_type())) != Some(WordKind::B8)
                }) {
                    return Err(Error::internal("join rows expire by a column that is no timestamp"));
                }
                let kept = Arc::new(schema.project(stored)?);
                // Without keys the rows are their own keys, so that a deletion finds its row at once.
                let types = match key_types.as_slice() {
                    [] => kept.fields().iter().map(|f| f.data_type().clone()).collect(),
                    types => types.to_vec(),
                };
                let rows = RowLists::new(types, kept)?;
                Ok(Side { keys, stored: stored.to_vec(), expiry, rows })
            };
        let sides = [
            side(&left, spec.left_keys, &stored[0], spec.left_expiry)?,
            side(&right, spec.right_keys, &stored[1], spec.right_expiry)?,
        ];
        Ok(Join { sides, output_schema, output, residual, queue: VecDeque::new(), probe: None })
    }

    /// Adds a batch to its side and prepares the walk through the other one.
    fn start(&mut self, port: usize, batch: ZBatch) -> Result<Option<Probe>> {
        let Some(batch) = without_null_keys(batch, &self.sides[port].keys)? else { return Ok(None) };
        let side = &mut self.sides[port];
        let stored = batch.rows().project(&side.stored)?;
        let keyed = !side.keys.is_empty();
        let key_columns: Vec<ArrayRef> = if keyed {
            side.keys.iter().map(|k| Arc::clone(batch.column(*k))).collect()
        } else {
            stored.columns().to_vec()
        };
        let keys: KeyBatch = side.rows.prepare(&key_columns, batch.num_rows())?;
        let expires = side.expiry.map(|(column, offset)| {
            let column = batch.column(column);
            let times = words_of(column, WordKind::B8);
            let time = |i: usize| {
                if column.is_null(i) { i64::MAX } else { (times[i] as i64).saturating_add(offset) }
            };
            (0..times.len()).map(time).collect::<Vec<i64>>()
        });
        let weights = batch.weights().map(|w| w.values().to_vec());
        side.rows.apply(&keys, &stored, weights.as_deref(), expires)?;
        let other = &self.sides[1 - port].rows;
        if other.is_empty() {
            return Ok(None);
        }
        let slots = keyed.then(|| {
            let mut slots = Vec::new();
            other.find(&keys, &mut slots);
            slots
        });
        Ok(Some(Probe { port, rows: stored, weights, slots, cursor: Cursor::default() }))
    }

    fn run(&mut self, out: &mut Output) -> Result<Progress> {
        let mut budget = BATCHES_AT_ONCE;
        loop {
            if let Some(mut probe) = self.probe.take() {
                let before = out.rows.len();
                let done = self.step(&mut probe, out)?;
                budget = budget.saturating_sub(usize::from(out.rows.len() > before || !done));
                if !done {
                    self.probe = Some(probe);
                }
            } else if let Some((port, batch)) = self.queue.pop_front() {
                self.probe = self.start(port, batch)?;
            } else {
                return Ok(Progress::Done);
            }
            if budget == 0 {
                let more = self.probe.is_some() || !self.queue.is_empty();
                return Ok(if more { Progress::More } else { Progress::Done });
            }
        }
    }

    /// Emits up to [`TARGET_ROWS`] candidates; says whether the probe is over.
    fn step(&self, probe: &mut Probe, out: &mut Output) -> Result<bool> {
        let other = &self.sides[1 - probe.port].rows;
        let mut matches = Matches::default();
        let done = match &probe.slots {
            Some(slots) => other.walk(slots, &mut probe.cursor, TARGET_ROWS, &mut matches),
            None => other.walk_all(probe.rows.num_rows(), &mut probe.cursor, TARGET_ROWS, &mut matches),
        };
        if matches.probe.is_empty() {
            return Ok(done);
        }
        if let Some(residual) = &self.residual {
            self.check_residual(residual, probe, &mut matches, out)?;
            if matches.probe.is_empty() {
                return Ok(done);
            }
        }
        let columns = self.gather(&self.output, probe, &matches)?;
        let options = RecordBatchOptions::new().with_row_count(Some(matches.probe.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.output_schema), columns, &options)?;
        out.push(ZBatch::try_new(rows, compact_weights(pair_weights(probe, &matches)))?);
        Ok(done)
    }

    /// The given columns of matched rows.
    fn gather(&self, sources: &[Source], probe: &Probe, matches: &Matches) -> Result<Vec<ArrayRef>> {
        let kept_columns: Vec<usize> =
            sources.iter().filter(|s| s.side != probe.port).map(|s| s.column).collect();
        let mut kept = self.sides[1 - probe.port].rows.gather(&matches.kept, &kept_columns)?.into_iter();
        // Every row matched once, in order: its columns can be passed on as they are.
        let whole = matches.probe.len() == probe.rows.num_rows()
            && matches.probe.iter().enumerate().all(|(i, row)| i == *row as usize);
        let picks = UInt32Array::from(if whole { vec![] } else { matches.probe.clone() });
        sources
            .iter()
            .map(|source| {
                if source.side != probe.port {
                    return kept.next().ok_or_else(|| Error::internal("a joined column is missing"));
                }
                let column = probe.rows.column(source.column);
                Ok(if whole { Arc::clone(column) } else { take(column, &picks, None)? })
            })
            .collect()
    }

    /// Keeps only the matches for which the residual condition is true; failing ones become error rows.
    fn check_residual(
        &self,
        residual: &Residual,
        probe: &Probe,
        matches: &mut Matches,
        out: &mut Output,
    ) -> Result<()> {
        let columns = self.gather(&residual.sources, probe, matches)?;
        let options = RecordBatchOptions::new().with_row_count(Some(matches.probe.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&residual.schema), columns, &options)?;
        let evaluation = evaluate_all(&[&residual.expr], &batch)?;
        if !evaluation.errors.is_empty() {
            let rows = ZBatch::try_new(batch, compact_weights(pair_weights(probe, matches)))?;
            out.push_errors(error_batch(&rows, &evaluation.errors, self.name())?);
        }
        let mask = evaluation.columns.first().and_then(|c| c.as_any().downcast_ref::<BooleanArray>());
        let mask = mask.ok_or_else(|| Error::internal("a join condition that is not boolean"))?;
        let passed: Vec<usize> = (0..mask.len())
            .filter(|i| mask.is_valid(*i) && mask.value(*i))
            .map(|i| evaluation.kept.as_ref().map_or(i, |k| k.value(i) as usize))
            .collect();
        if passed.len() < matches.probe.len() {
            *matches = Matches {
                probe: passed.iter().map(|i| matches.probe[*i]).collect(),
                kept: passed.iter().map(|i| matches.kept[*i]).collect(),
                weights: passed.iter().map(|i| matches.weights[*i]).collect(),
            };
        }
        Ok(())
    }
}

fn pair_weights(probe: &Probe, matches: &Matches) -> Vec<i64> {
    match &probe.weights {
        None => matches.weights.iter().map(|w| i64::from(*w)).collect(),
        Some(weights) => {
            let pairs = matches.probe.iter().zip(&matches.weights);
            pairs.map(|(row, w)| weights[*row as usize].saturating_mul(i64::from(*w))).collect()
        }
    }
}

/// The rows whose keys are all there; `None` if there are none.
fn without_null_keys(batch: ZBatch, keys: &[usize]) -> Result<Option<ZBatch>> {
    let mut batch = batch;
    for key in keys {
        if batch.column(*key).null_count() > 0 {
            batch = batch.filter(&is_not_null(batch.column(*key))?)?;
        }
    }
    Ok((!batch.is_empty()).then_some(batch))
}

impl Operator for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn absorb(&mut self, port: usize, changes: ZBatch, out: &mut Output) -> Result<Progress> {
        if port > 1 {
            return Err(Error::internal("a join has two inputs"));
        }
        self.queue.extend(pieces(changes).map(|piece| (port, piece)));
        self.run(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.run(out)
    }

    fn close_epoch(&mut self, time: &TimeFacts<'_>, _: &mut Output) -> Result<Progress> {
        for (port, side) in self.sides.iter_mut().enumerate() {
            if let (Some(_), Some(watermark)) = (side.expiry, time.watermarks.get(1 - port)) {
                side.rows.expire(watermark.0)?;
            }
        }
        Ok(Progress::Done)
    }

    fn waits_for_watermark(&self) -> bool {
        self.sides.iter().any(|s| s.expiry.is_some())
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|s| s.rows.bytes()).sum()
    }

    fn state_rows(&self) -> usize {
        self.sides.iter().map(|s| s.rows.len()).sum()
    }
}

#[cfg(test)]
mod tests;
