//! Scalar expressions over batches.
//!
//! An expression is DataFusion's physical expression, with arithmetic replaced by one that reports overflow and
//! division by zero as PostgreSQL does. [`evaluate_all`] evaluates whole batches and looks for single rows only
//! after a batch has failed. That finds exactly the rows that fail by themselves: an expression evaluates on a batch
//! at least what it evaluates on each row alone, so which rows are errors does not depend on how batches are cut.
//!
//! Boundary: column numbers and batches. Names are resolved before, errors become rows elsewhere.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use crate::error::{Error, Result};
use crate::expr::checked;

/// A scalar expression over the columns of a batch.
#[derive(Clone)]
pub struct ScalarExpr {
    expr: Arc<dyn PhysicalExpr>,
    field: FieldRef,
    columns: Vec<usize>,
}

impl ScalarExpr {
    /// Compiles an expression whose columns are those of `input`. Types must agree already: nothing is coerced.
    pub fn compile(expr: &Expr, input: &DFSchema) -> Result<ScalarExpr> {
        let props = ExecutionProps::new();
        let physical = create_physical_expr(expr, input, &props, &PhysicalPlanningContext::default())?;
        let physical = checked::rewrite(physical, input.as_arrow())?;
        let field = physical.return_field(input.as_arrow())?;
        Ok(ScalarExpr::of(physical, field))
    }

    /// Input column `index`, which has the type of `field`.
    pub fn column(index: usize, field: &Field) -> ScalarExpr {
        ScalarExpr::of(Arc::new(Column::new(field.name(), index)), Arc::new(field.clone()))
    }

    fn of(expr: Arc<dyn PhysicalExpr>, field: FieldRef) -> ScalarExpr {
        let mut columns: Vec<usize> = collect_columns(&expr).iter().map(Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        ScalarExpr { expr, field, columns }
    }

    /// Arrow type of the result.
    pub fn data_type(&self) -> &DataType {
        self.field.data_type()
    }

    /// Whether the result can be NULL.
    pub fn nullable(&self) -> bool {
        self.field.is_nullable()
    }

    /// The result as a field: type, nullability and PostgreSQL type metadata, under a name of DataFusion's making.
    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    /// The input column, when the expression is nothing else.
    pub fn as_column(&self) -> Option<usize> {
        self.expr.downcast_ref::<Column>().map(Column::index)
    }

    /// Input columns that the expression reads, ascending.
    pub fn columns_used(&self) -> Vec<usize> {
        self.columns.clone()
    }

    /// The same expression over another batch, where what was column `c` is column `to(c)`.
    pub fn with_columns(&self, to: impl Fn(usize) -> usize) -> Result<ScalarExpr> {
        let moved = Arc::clone(&self.expr).transform_up(|node| {
            Ok(match node.downcast_ref::<Column>() {
                Some(c) => {
                    Transformed::yes(Arc::new(Column::new(c.name(), to(c.index()))) as Arc<dyn PhysicalExpr>)
                }
                None => Transformed::no(node),
            })
        })?;
        Ok(ScalarExpr::of(moved.data, Arc::clone(&self.field)))
    }

    /// The value for every row, or the first error met.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        // A constant like 1/0 would fail although there is no row to fail for.
        if batch.num_rows() == 0 {
            return Ok(new_empty_array(self.data_type()));
        }
        if let Some(column) = self.as_column() {
            return match batch.columns().get(column) {
                Some(array) => Ok(Arc::clone(array)),
                None => {
                    Err(Error::internal(format!("no column {column} in a batch of {}", batch.num_columns())))
                }
            };
        }
        Ok(self.expr.evaluate(batch)?.into_array(batch.num_rows())?)
    }
}

impl fmt::Display for ScalarExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl fmt::Debug for ScalarExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.expr, self.field.data_type())
    }
}

/// The values of several expressions for the rows of a batch that have them all.
#[derive(Debug)]
pub struct Evaluation {
    /// One column per expression, for the kept rows only.
    pub columns: Vec<ArrayRef>,
    /// Rows for which every expression has a value, ascending; `None`: all rows.
    pub kept: Option<UInt32Array>,
    /// The other rows, ascending, each with the error of its first expression that failed.
    pub errors: Vec<(u32, Error)>,
}

/// Evaluates `exprs` for all rows of `batch`; rows that fail are reported one by one and left out.
pub fn evaluate_all(exprs: &[&ScalarExpr], batch: &RecordBatch) -> Result<Evaluation> {
    match evaluate_whole(exprs, batch) {
        Ok(columns) => Ok(Evaluation { columns, kept: None, errors: vec![] }),
        Err(_) => evaluate_around_errors(exprs, batch),
    }
}

fn evaluate_whole(exprs: &[&ScalarExpr], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.iter().map(|e| e.evaluate(batch)).collect()
}

/// Halves the batch until the failing rows stand alone.
fn evaluate_around_errors(exprs: &[&ScalarExpr], batch: &RecordBatch) -> Result<Evaluation> {
    let mut pieces: Vec<Vec<ArrayRef>> = vec![Vec::new(); exprs.len()];
    let mut kept: Vec<u32> = vec![];
    let mut errors = vec![];
    let mut stack = vec![(0, batch.num_rows())];
    while let Some((start, len)) = stack.pop() {
        match evaluate_whole(exprs, &batch.slice(start, len)) {
            Ok(columns) => {
                for (all, piece) in pieces.iter_mut().zip(columns) {
                    all.push(piece);
                }
                kept.extend(start as u32..(start + len) as u32);
            }
            Err(e) if len <= 1 => errors.push((start as u32, e)),
            Err(_) => {
                let half = len / 2;
                stack.push((start + half, len - half));
                stack.push((start, half));
            }
        }
    }
    let columns = pieces
        .iter()
        .zip(exprs)
        .map(|(pieces, expr)| {
            if pieces.is_empty() {
                return Ok(new_empty_array(expr.data_type()));
            }
            let pieces: Vec<&dyn Array> = pieces.iter().map(|p| p.as_ref()).collect();
            Ok(compute::concat(&pieces)?)
        })
        .collect::<Result<_>>()?;
    Ok(Evaluation { columns, kept: Some(UInt32Array::from(kept)), errors })
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float64Array, Int32Array, Int64Array};
    use arrow::datatypes::{Float64Type, Int32Type, Int64Type, Schema};
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::{Operator, binary_expr, col, lit, when};

    use super::*;
    use crate::error::ErrorKind;

    fn batch() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("i", DataType::Int32, true),
            Field::new("l", DataType::Int64, true),
            Field::new("f", DataType::Float64, true),
        ]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(Int32Array::from(vec![Some(1), Some(0), None, Some(i32::MAX), Some(i32::MIN)])),
                Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), Some(i64::MAX), Some(i64::MIN)])),
                Arc::new(Float64Array::from(vec![
                    Some(1.0),
                    Some(0.0),
                    None,
                    Some(f64::MAX),
                    Some(f64::INFINITY),
                ])),
            ],
        )
        .unwrap()
    }

    fn compile(expr: Expr) -> ScalarExpr {
        ScalarExpr::compile(&expr, &DFSchema::try_from(batch().schema()).unwrap()).unwrap()
    }

    fn failures(expr: Expr) -> Vec<(u32, &'static str, String)> {
        let evaluation = evaluate_all(&[&compile(expr)], &batch()).unwrap();
        let kept = evaluation.kept.map_or(batch().num_rows(), |k| k.len());
        assert_eq!(kept + evaluation.errors.len(), batch().num_rows());
        assert_eq!(evaluation.columns[0].len(), kept);
        evaluation.errors.iter().map(|(r, e)| (*r, e.kind().sqlstate(), e.message().to_string())).collect()
    }

    fn failure(row: u32, code: &'static str, message: &str) -> (u32, &'static str, String) {
        (row, code, message.to_string())
    }

    #[test]
    fn integer_overflow_is_an_error_of_its_row_wherever_it_is_nested() {
        let over = |rows: &[u32], name| rows.iter().map(|r| failure(*r, "22003", name)).collect::<Vec<_>>();
        assert_eq!(failures(col("i") + lit(1)), over(&[3], "integer out of range"));
        assert_eq!(failures((col("l") * lit(2i64)).lt(lit(0i64))), over(&[3, 4], "bigint out of range"));
        assert_eq!(failures(col("i") - lit(1)), over(&[4], "integer out of range"));
        assert_eq!(failures(Expr::Negative(Box::new(col("i")))), over(&[4], "integer out of range"));
        assert_eq!(failures(col("l") / lit(-1i64)), over(&[4], "bigint out of range"));
        let cased = when(col("i").gt(lit(5)), lit(0)).otherwise(col("i") + lit(1)).unwrap();
        assert_eq!(failures(cased), []);
    }

    #[test]
    fn division_by_zero_is_an_error_for_integers_and_floats_but_not_for_null() {
        assert_eq!(failures(lit(10) / col("i")), [failure(1, "22012", "division by zero")]);
        assert_eq!(failures(lit(10) % col("i")), [failure(1, "22012", "division by zero")]);
        assert_eq!(failures(lit(1.0) / col("f")), [failure(1, "22012", "division by zero")]);
        assert_eq!(failures(col("f") * lit(2.0)), [failure(3, "22003", "value out of range: overflow")]);
        assert_eq!(failures(col("f") * lit(1e-320)), []);
        assert_eq!(
            failures(col("f") / lit(1e308) / lit(1e308)),
            [failure(0, "22003", "value out of range: underflow")]
        );
    }

    #[test]
    fn a_guarded_division_fails_for_no_row_however_batches_are_cut() {
        let guarded = || binary_expr(col("i").not_eq(lit(0)), Operator::And, (lit(10) / col("i")).gt(lit(1)));
        assert_eq!(failures(guarded()), []);
        let expr = compile(guarded());
        let whole = evaluate_all(&[&expr], &batch()).unwrap();
        for row in 0..5 {
            let one = evaluate_all(&[&expr], &batch().slice(row, 1)).unwrap();
            assert_eq!(one.columns[0].to_data(), whole.columns[0].slice(row, 1).to_data());
        }
    }

    #[test]
    fn a_row_that_fails_twice_is_reported_once_and_left_out_of_all_columns() {
        let (a, b, c) = (compile(lit(10) / col("i")), compile(col("l") + lit(1i64)), compile(lit("x")));
        let evaluation = evaluate_all(&[&a, &b, &c], &batch()).unwrap();
        let rows: Vec<u32> = evaluation.errors.iter().map(|(r, _)| *r).collect();
        assert_eq!(rows, [1, 3]);
        assert_eq!(evaluation.kept.unwrap().values(), &[0, 2, 4]);
        assert_eq!(
            evaluation.columns[0].as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
            [Some(10), None, Some(0)]
        );
        assert_eq!(evaluation.columns[1].as_primitive::<Int64Type>().values(), &[2, 4, i64::MIN + 1]);
        assert_eq!(evaluation.columns[2].len(), 3);
    }

    #[test]
    fn a_constant_that_fails_needs_a_row_to_fail_for() {
        let expr = compile(lit(1) / lit(0));
        assert_eq!(expr.evaluate(&batch().slice(0, 0)).unwrap().len(), 0);
        assert_eq!(expr.evaluate(&batch()).unwrap_err().kind(), ErrorKind::DivisionByZero);
    }

    #[test]
    fn columns_are_known_and_can_be_moved() {
        let expr = compile(col("f") + lit(ScalarValue::Float64(Some(1.0))));
        assert_eq!((expr.columns_used(), expr.as_column()), (vec![2], None));
        let moved = expr.with_columns(|_| 0).unwrap();
        let narrow = batch().project(&[2]).unwrap().slice(0, 1);
        assert_eq!(moved.evaluate(&narrow).unwrap().as_primitive::<Float64Type>().value(0), 2.0);
        assert_eq!(compile(col("l").alias("x")).as_column(), Some(1));
    }
}
