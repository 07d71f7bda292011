//! Rows on their way into a table: constant plans evaluated in place, columns brought into the table's types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::catalog::{Column, Object};
use crate::coord::dml::stored;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::ScalarExpr;
use crate::sql::bind::dml::replace_params;
use crate::types::text::{TextFormatter, TextOptions, parse_column};

/// The rows of a plan made only of VALUES and projections, without a planner; `None` when it is of another kind.
/// `input` stands in for the plan's one table scan, if it has one; `params` for its parameters.
pub fn of_constant_plan(
    plan: &LogicalPlan,
    input: Option<&RecordBatch>,
    params: &[ScalarValue],
) -> Result<Option<RecordBatch>> {
    let one_row = || -> Result<RecordBatch> {
        Ok(RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            Vec::new(),
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )?)
    };
    match plan {
        LogicalPlan::EmptyRelation(e) if e.produce_one_row => one_row().map(Some),
        LogicalPlan::TableScan(_) => Ok(input.cloned()),
        LogicalPlan::SubqueryAlias(a) => of_constant_plan(&a.input, input, params),
        LogicalPlan::Values(v) => {
            let none = DFSchema::empty();
            let one = one_row()?;
            let mut columns: Vec<Vec<ArrayRef>> =
                vec![Vec::with_capacity(v.values.len()); v.schema.fields().len()];
            for row in &v.values {
                for (column, (expr, field)) in columns.iter_mut().zip(row.iter().zip(v.schema.fields())) {
                    let value = evaluate(expr, &none, &one, params)?;
                    column.push(stored(&value, field.data_type())?);
                }
            }
            let arrays = columns
                .iter()
                .map(|parts| match parts.as_slice() {
                    [one] => Ok(one.clone()),
                    many => Ok(compute::concat(&many.iter().map(|a| &**a).collect::<Vec<_>>())?),
                })
                .collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(v.values.len()));
            let schema = nullable(v.schema.as_arrow());
            Ok(Some(RecordBatch::try_new_with_options(schema, arrays, &options)?))
        }
        LogicalPlan::Projection(p) => {
            if p.expr.iter().any(has_subquery) {
                return Ok(None);
            }
            let Some(batch) = of_constant_plan(&p.input, input, params)? else { return Ok(None) };
            let columns = p
                .expr
                .iter()
                .map(|e| evaluate(e, p.input.schema(), &batch, params))
                .collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let fields: Vec<_> = p
                .schema
                .fields()
                .iter()
                .zip(&columns)
                .map(|(f, c)| f.as_ref().clone().with_data_type(c.data_type().clone()).with_nullable(true))
                .collect();
            let schema = Arc::new(Schema::new(fields));
            Ok(Some(RecordBatch::try_new_with_options(schema, columns, &options)?))
        }
        _ => Ok(None),
    }
}

/// The value of an expression for every row; what is only a value or a column is not compiled for it.
fn evaluate(expr: &Expr, schema: &DFSchema, batch: &RecordBatch, params: &[ScalarValue]) -> Result<ArrayRef> {
    let rows = batch.num_rows();
    match expr {
        Expr::Alias(a) => return evaluate(&a.expr, schema, batch, params),
        Expr::Literal(value, _) => return Ok(value.to_array_of_size(rows)?),
        Expr::Placeholder(p) => {
            let number = p.id.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
            if let Some(value) = number.and_then(|n| params.get(n.checked_sub(1)?)) {
                return Ok(value.to_array_of_size(rows)?);
            }
        }
        Expr::Column(c) => {
            if let Some(column) = schema.maybe_index_of_column(c).and_then(|i| batch.columns().get(i)) {
                return Ok(column.clone());
            }
        }
        _ => {}
    }
    if params.is_empty() {
        return ScalarExpr::compile(expr, schema)?.evaluate(batch);
    }
    ScalarExpr::compile(&replace_params(expr.clone(), params)?, schema)?.evaluate(batch)
}

fn has_subquery(expr: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    expr.exists(|e| Ok(matches!(e, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))))
        .unwrap_or(true)
}

fn nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(
        schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
    ))
}

/// Columns as rows of a table: in its types, NOT NULL checked.
pub fn conform(columns: &[ArrayRef], schema: &SchemaRef, rows: usize, table: &Object) -> Result<RecordBatch> {
    let mut arrays = Vec::with_capacity(columns.len());
    for (array, field) in columns.iter().zip(schema.fields()) {
        arrays.push(if array.data_type() == field.data_type() {
            array.clone()
        } else {
            stored(array, field.data_type())?
        });
    }
    for (i, (array, field)) in arrays.iter().zip(schema.fields()).enumerate() {
        if !field.is_nullable() && array.logical_null_count() > 0 {
            let row = (0..array.len()).find(|r| array.is_null(*r)).unwrap_or(0);
            let batch = RecordBatch::try_new(nullable(schema), arrays.clone())?;
            return Err(Error::new(
                ErrorKind::NotNullViolation,
                format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    table.columns[i].name, table.name
                ),
            )
            .with_detail(format!("Failing row contains ({}).", describe(&batch, row)))
            .with_table(table.schema.clone(), table.name.clone())
            .with_column(table.columns[i].name.clone()));
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
}

/// Columns as a batch for expressions over `schema`.
pub fn over(schema: &DFSchema, columns: &[ArrayRef]) -> Result<RecordBatch> {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .zip(columns)
        .map(|(f, c)| f.as_ref().clone().with_data_type(c.data_type().clone()).with_nullable(true))
        .collect();
    let rows = columns.first().map_or(0, |c| c.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns.to_vec(), &options)?)
}

/// Rows that were read from the table: in its types already.
pub fn unchecked(columns: &[ArrayRef], schema: &SchemaRef) -> Result<RecordBatch> {
    let arrays = columns
        .iter()
        .zip(schema.fields())
        .map(|(a, f)| if a.data_type() == f.data_type() { Ok(a.clone()) } else { stored(a, f.data_type()) })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}

/// Rows from before columns were added to their table, with what belongs into those.
pub fn widen(batch: &RecordBatch, object: &Object) -> Result<RecordBatch> {
    let schema = object.arrow_schema();
    let rows = batch.num_rows();
    let mut columns = batch.columns().to_vec();
    for column in object.columns.iter().skip(columns.len()) {
        let text = column.missing.as_deref();
        let one = parse_column(column.pg_type(), std::iter::once(text), &TextOptions::default())?;
        let one = stored(&one, column.field().data_type())?;
        columns.push(ScalarValue::try_from_array(&one, 0)?.to_array_of_size(rows)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// The first value of an array as text; `None` for NULL.
pub fn as_text(array: &ArrayRef, column: &Column) -> Option<String> {
    if array.is_null(0) {
        return None;
    }
    let mut out = Vec::new();
    TextFormatter::new(&column.field(), &TextOptions::default()).write(array, 0, &mut out);
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// A row as PostgreSQL shows it in the detail of a violated constraint.
pub fn describe(batch: &RecordBatch, row: usize) -> String {
    texts(batch, row).join(", ")
}

/// The values of a row as text.
pub fn texts(batch: &RecordBatch, row: usize) -> Vec<String> {
    let options = TextOptions::default();
    let text = |array: &ArrayRef, field: &arrow::datatypes::Field| {
        if array.is_null(row) {
            return "null".to_string();
        }
        let mut out = Vec::new();
        TextFormatter::new(field, &options).write(array, row, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    batch.columns().iter().zip(batch.schema().fields()).map(|(a, f)| text(a, f)).collect()
}
