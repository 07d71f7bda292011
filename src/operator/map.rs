//! Filter and projection in one pass.
//!
//! Without state: every batch gives its result at once. Columns that the result does not need are never touched, a
//! condition that holds for all rows copies nothing, and output columns that are input columns are shared.
//!
//! Boundary: what the expressions compute is theirs; a row for which one fails goes to the errors with its weight.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::compute::{self, FilterBuilder};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::expr::eval_error;
use crate::expr::scalar::{ScalarExpr, evaluate_all};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::zset::{TARGET_ROWS, ZBatch};

/// Where an output column comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Column of the narrow input, as it is.
    Column(usize),
    /// Number of a computed expression.
    Computed(usize),
}

/// The filter-and-project operator.
#[derive(Debug)]
pub struct Map {
    output_schema: SchemaRef,
    /// The condition over the columns `predicate_columns` of the input.
    predicate: Option<ScalarExpr>,
    predicate_columns: Vec<usize>,
    /// Input columns the output needs.
    needed: Vec<usize>,
    sources: Vec<Source>,
    /// The computed expressions, over the columns `computed_columns` of the needed ones: conditional expressions
    /// copy the rows they are asked for, so they should not see columns they do not read.
    computed: Vec<ScalarExpr>,
    computed_columns: Vec<usize>,
    computed_schema: SchemaRef,
}

/// The rows that remain after the condition.
struct Selection {
    columns: Vec<ArrayRef>,
    weights: Option<Int64Array>,
    rows: usize,
    /// Rows of the input they are; `None`: all.
    mask: Option<BooleanArray>,
}

impl Map {
    /// Keeps the rows where `predicate` is true and computes `exprs` of them (`None`: the rows as they are).
    pub fn new(
        input_schema: SchemaRef,
        output_schema: SchemaRef,
        predicate: Option<ScalarExpr>,
        exprs: Option<Vec<ScalarExpr>>,
    ) -> Result<Map> {
        let exprs = exprs.unwrap_or_else(|| {
            input_schema.fields().iter().enumerate().map(|(i, f)| ScalarExpr::column(i, f)).collect()
        });
        if exprs.len() != output_schema.fields().len() {
            return Err(Error::internal(format!(
                "{} expressions for {} columns",
                exprs.len(),
                output_schema.fields().len()
            )));
        }
        let mut needed: Vec<usize> = exprs.iter().flat_map(ScalarExpr::columns_used).collect();
        needed.sort_unstable();
        needed.dedup();
        let mut read: Vec<usize> =
            exprs.iter().filter(|e| e.as_column().is_none()).flat_map(ScalarExpr::columns_used).collect();
        read.sort_unstable();
        read.dedup();
        let position = |columns: &[usize], c: usize| columns.binary_search(&c).unwrap_or_default();
        let mut computed = vec![];
        let mut sources = vec![];
        for expr in &exprs {
            sources.push(match expr.as_column() {
                Some(column) => Source::Column(position(&needed, column)),
                None => {
                    computed.push(expr.with_columns(|c| position(&read, c))?);
                    Source::Computed(computed.len() - 1)
                }
            });
        }
        let predicate_columns = predicate.as_ref().map(ScalarExpr::columns_used).unwrap_or_default();
        let predicate = predicate.map(|p| p.with_columns(|c| position(&predicate_columns, c))).transpose()?;
        Ok(Map {
            computed_schema: Arc::new(input_schema.project(&read)?),
            computed_columns: read.iter().map(|&c| position(&needed, c)).collect(),
            output_schema,
            predicate,
            predicate_columns,
            needed,
            sources,
            computed,
        })
    }

    fn apply(&self, changes: &ZBatch, out: &mut Output) -> Result<()> {
        let Some(selection) = self.select(changes, out)? else { return Ok(()) };
        let Selection { mut columns, mut weights, rows, mask } = selection;
        let mut computed = vec![];
        let mut kept_rows = rows;
        if !self.computed.is_empty() {
            let read = self.computed_columns.iter().map(|&c| Arc::clone(&columns[c])).collect();
            let exprs: Vec<&ScalarExpr> = self.computed.iter().collect();
            let evaluation = evaluate_all(&exprs, &batch_of(&self.computed_schema, read, rows)?)?;
            computed = evaluation.columns;
            if let Some(kept) = evaluation.kept {
                columns =
                    columns.iter().map(|c| Ok(compute::take(c, &kept, None)?)).collect::<Result<_>>()?;
                weights = take_weights(weights.as_ref(), &kept)?;
                kept_rows = kept.len();
                let errors: Vec<(u32, Error)> = evaluation
                    .errors
                    .into_iter()
                    .map(|(row, e)| (original_row(mask.as_ref(), row), e))
                    .collect();
                out.push_errors(eval_error::error_batch(changes, &errors, self.name())?);
            }
        }
        if kept_rows == 0 {
            return Ok(());
        }
        let output = self
            .sources
            .iter()
            .map(|source| match *source {
                Source::Column(c) => Arc::clone(&columns[c]),
                Source::Computed(c) => Arc::clone(&computed[c]),
            })
            .collect();
        out.push(ZBatch::try_new(batch_of(&self.output_schema, output, kept_rows)?, weights)?);
        Ok(())
    }

    /// The needed columns of the rows that pass the condition, `None` when there are none.
    fn select(&self, changes: &ZBatch, out: &mut Output) -> Result<Option<Selection>> {
        let narrow = || self.needed.iter().map(|&c| Arc::clone(changes.column(c))).collect::<Vec<_>>();
        let all = |weights| Selection { columns: narrow(), weights, rows: changes.num_rows(), mask: None };
        let Some(predicate) = &self.predicate else { return Ok(Some(all(changes.weights().cloned()))) };
        let mask = self.mask(predicate, changes, out)?;
        let rows = mask.true_count();
        if rows == 0 {
            return Ok(None);
        }
        if rows == changes.num_rows() {
            return Ok(Some(all(changes.weights().cloned())));
        }
        let builder = FilterBuilder::new(&mask);
        let filter = if self.needed.len() > 1 { builder.optimize().build() } else { builder.build() };
        let columns =
            self.needed.iter().map(|&c| Ok(filter.filter(changes.column(c))?)).collect::<Result<_>>()?;
        let weights = match changes.weights() {
            None => None,
            Some(w) => Some(filter.filter(w)?.as_primitive::<Int64Type>().clone()),
        };
        Ok(Some(Selection { columns, weights, rows, mask: Some(mask) }))
    }

    /// The condition for every row; false where it fails, which is reported.
    fn mask(&self, predicate: &ScalarExpr, changes: &ZBatch, out: &mut Output) -> Result<BooleanArray> {
        let input = changes.rows().project(&self.predicate_columns)?;
        let mut evaluation = evaluate_all(&[predicate], &input)?;
        let values = evaluation.columns.swap_remove(0);
        let values = values
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("the condition {predicate} is not boolean")))?;
        let Some(kept) = evaluation.kept else { return Ok(values.clone()) };
        out.push_errors(eval_error::error_batch(changes, &evaluation.errors, self.name())?);
        let mut mask = vec![false; changes.num_rows()];
        for (i, &row) in kept.values().iter().enumerate() {
            mask[row as usize] = values.is_valid(i) && values.value(i);
        }
        Ok(BooleanArray::from(mask))
    }
}

fn batch_of(schema: &Arc<Schema>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn take_weights(weights: Option<&Int64Array>, kept: &UInt32Array) -> Result<Option<Int64Array>> {
    match weights {
        None => Ok(None),
        Some(w) => Ok(Some(compute::take(w, kept, None)?.as_primitive::<Int64Type>().clone())),
    }
}

/// The row of the input that row `row` of the selection is.
fn original_row(mask: Option<&BooleanArray>, row: u32) -> u32 {
    match mask {
        None => row,
        Some(mask) => (0..mask.len())
            .filter(|&i| mask.is_valid(i) && mask.value(i))
            .nth(row as usize)
            .map_or(row, |i| i as u32),
    }
}

impl Operator for Map {
    fn name(&self) -> &'static str {
        "map"
    }

    fn absorb(&mut self, _port: usize, changes: ZBatch, out: &mut Output) -> Result<Progress> {
        let works = self.predicate.is_some() || !self.computed.is_empty();
        if works && changes.num_rows() > 2 * TARGET_ROWS {
            // Intermediate results of a large batch would leave the cache.
            for piece in crate::zset::builder::pieces(changes) {
                self.apply(&piece, out)?;
            }
        } else if !changes.is_empty() {
            self.apply(&changes, out)?;
        }
        Ok(Progress::Done)
    }

    fn close_epoch(&mut self, _time: &TimeFacts<'_>, _out: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::{Expr, binary_expr, col, lit};

    use super::*;
    use crate::zset::pretty;

    fn input() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Utf8, true),
            Field::new("c", DataType::Int64, true),
        ]))
    }

    fn map(predicate: Option<Expr>, exprs: Option<Vec<Expr>>) -> Map {
        let df = DFSchema::try_from(input()).unwrap();
        let compile = |e: &Expr| ScalarExpr::compile(e, &df).unwrap();
        let exprs: Option<Vec<ScalarExpr>> = exprs.map(|all| all.iter().map(compile).collect());
        let output = match &exprs {
            None => input(),
            Some(exprs) => Arc::new(Schema::new(
                exprs
                    .iter()
                    .enumerate()
                    .map(|(i, e)| Field::new(format!("c{i}"), e.data_type().clone(), true))
                    .collect::<Vec<_>>(),
            )),
        };
        Map::new(input(), output, predicate.as_ref().map(compile), exprs).unwrap()
    }

    fn run(map: &mut Map, text: &str) -> (String, Vec<(String, i64)>) {
        let mut out = Output::default();
        map.absorb(0, pretty::parse(&input(), text), &mut out).unwrap();
        let errors = out
            .errors
            .iter()
            .flat_map(|e| {
                let input = e.column(3).as_string::<i32>().clone();
                (0..e.num_rows()).map(move |i| (input.value(i).to_string(), e.weight(i))).collect::<Vec<_>>()
            })
            .collect();
        (out.rows.iter().map(pretty::format).collect::<Vec<_>>().join(" / "), errors)
    }

    #[test]
    fn rows_are_filtered_and_projected_with_their_weights() {
        let mut m = map(Some(col("a").gt(lit(1i64))), Some(vec![col("b"), col("a") + col("c")]));
        let (rows, errors) = run(&mut m, "+1 1 x 10 | -1 2 y 20 | +3 3 NULL 30 | +1 NULL z 40");
        assert_eq!(rows, "+3 NULL 33 | -1 y 22");
        assert_eq!(errors, []);
    }

    #[test]
    fn columns_are_shared_when_every_row_passes() {
        let batch = pretty::parse(&input(), "+1 5 x 1 | +1 6 y 2");
        let mut out = Output::default();
        map(Some(col("a").gt(lit(1i64))), Some(vec![col("c"), col("b")]))
            .absorb(0, batch.clone(), &mut out)
            .unwrap();
        map(None, Some(vec![col("c")])).absorb(0, batch.clone(), &mut out).unwrap();
        assert!(Arc::ptr_eq(out.rows[0].column(0), batch.column(2)));
        assert!(Arc::ptr_eq(out.rows[1].column(0), batch.column(2)));
    }

    #[test]
    fn rows_without_output_columns_are_still_counted() {
        let mut out = Output::default();
        let batch = pretty::parse(&input(), "+1 5 x 1 | +1 0 y 2 | +1 7 z 3");
        map(Some(col("a").gt(lit(1i64))), Some(vec![])).absorb(0, batch, &mut out).unwrap();
        assert_eq!(out.rows[0].num_rows(), 2);
    }

    #[test]
    fn failing_rows_go_to_the_errors_and_their_retraction_takes_them_back() {
        // The condition fails for c = 0, the projection for a = 0; both report the whole input row.
        let mut m =
            map(Some((lit(100i64) / col("c")).gt(lit(1i64))), Some(vec![lit(100i64) / col("a"), col("b")]));
        let (rows, errors) = run(&mut m, "+1 1 x 500 | +1 2 y 0 | -2 0 z 7 | +1 4 w 5");
        assert_eq!(rows, "+1 25 w");
        assert_eq!(
            errors,
            [
                (r#"{"a": 2, "b": "y", "c": 0}"#.to_string(), 1),
                (r#"{"a": 0, "b": "z", "c": 7}"#.to_string(), -2)
            ]
        );
    }

    #[test]
    fn results_do_not_depend_on_how_batches_are_cut() {
        let guarded = binary_expr(
            col("a").not_eq(lit(0i64)),
            datafusion::logical_expr::Operator::And,
            (lit(10i64) / col("a")).gt(lit(2i64)),
        );
        let mut m = map(Some(guarded), None);
        let rows: Vec<String> = (0..40).map(|i| format!("+1 {} r{i} {i}", i % 7)).collect();
        let (whole, errors) = run(&mut m, &rows.join(" | "));
        let mut single: Vec<String> =
            rows.iter().map(|r| run(&mut m, r).0).filter(|r| !r.is_empty()).collect();
        single.sort();
        assert_eq!(whole, single.join(" | "));
        assert!(errors.is_empty());
    }
}
