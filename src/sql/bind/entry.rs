//! Ways into the binder for callers that hold stored text or our own statements.
//!
//! Boundary: nothing is decided here; each function names one use of the binder.

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use sqlparser::ast;

use super::dml::{BoundDml, bind_dml};
use super::{BindContext, BoundQuery, SystemTable, bind_query, prepare, scalar};
use crate::catalog::Column;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::ScalarExpr;
use crate::sql::statement::Statement;
use crate::types::PgType;

/// Binds the stored text of a query.
pub fn bind_query_text(text: &str, context: &BindContext) -> Result<BoundQuery> {
    let mut statements = crate::sql::parse(text)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(parsed), true) => match parsed.statement {
            Statement::Query(query) => {
                let context = BindContext { text: Some(text.to_string()), ..context.clone() };
                bind_query(&query, &context)
            }
            _ => Err(Error::new(ErrorKind::Syntax, "a query is needed here")),
        },
        _ => Err(Error::new(ErrorKind::Syntax, "one query is needed here")),
    }
}

/// Binds INSERT, UPDATE, DELETE or MERGE.
pub fn bind_statement(statement: &Statement, context: &BindContext) -> Result<BoundDml> {
    bind_dml(statement, context)
}

/// Checks the DEFAULT of a column: it can be bound, and is of the column's type.
pub fn bind_default(text: &str, column: &Column, context: &BindContext) -> Result<()> {
    let named = |e: Error| match e.kind() {
        ErrorKind::UndefinedColumn => Error::unsupported("cannot use column reference in DEFAULT expression"),
        _ => e,
    };
    scalar::bind_scalar(text, &Schema::empty(), Some(column.pg_type()), context).map_err(named)?;
    Ok(())
}

/// Whether each row gets another value from the DEFAULT of a column.
pub fn is_volatile_default(column: &Column, context: &BindContext) -> Result<bool> {
    let Some(text) = &column.default else { return Ok(false) };
    let expr = scalar::bind_scalar(text, &Schema::empty(), Some(column.pg_type()), context)?;
    let volatile = |e: &Expr| match e {
        Expr::ScalarFunction(f) => f.func.signature().volatility == Volatility::Volatile,
        _ => false,
    };
    Ok(expr.exists(|e| Ok(volatile(e)))?)
}

/// The value of the DEFAULT of a column, in the column's type.
pub fn evaluate_default(text: &str, column: &Column, context: &BindContext) -> Result<ScalarValue> {
    evaluate_as(&scalar::parse_expr(text)?, column.pg_type(), context)
}

/// Checks the expression of a generated column: it may read the table's other columns.
pub fn bind_generated(text: &str, column: &Column, columns: &[Column], context: &BindContext) -> Result<()> {
    let others: Vec<Field> = columns
        .iter()
        .filter(|c| c.name != column.name && c.generated.is_none())
        .map(Column::field)
        .collect();
    scalar::bind_scalar(text, &Schema::new(others), Some(column.pg_type()), context)?;
    Ok(())
}

/// The condition of a CHECK over a table's columns.
pub fn bind_check(text: &str, columns: &[Column], context: &BindContext) -> Result<ScalarExpr> {
    let schema = Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>());
    let expr = scalar::bind_scalar(text, &schema, Some(PgType::BOOL), context)?;
    ScalarExpr::compile(&expr, &DFSchema::try_from(schema)?)
}

/// The columns of a table that the text of a CHECK names, each once.
pub fn check_columns(text: &str, columns: &[Column]) -> Vec<String> {
    struct Names<'a>(&'a [Column], Vec<String>);
    impl ast::Visitor for Names<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            let name = match expr {
                ast::Expr::Identifier(i) => Some(prepare::fold(i)),
                ast::Expr::CompoundIdentifier(parts) => parts.last().map(prepare::fold),
                _ => None,
            };
            if let Some(name) = name
                && self.0.iter().any(|c| c.name == name)
                && !self.1.contains(&name)
            {
                self.1.push(name);
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(columns, Vec::new());
    if let Ok(expr) = scalar::parse_expr(text) {
        // The visitor never breaks.
        let _ = ast::Visit::visit(&expr, &mut names);
    }
    names.1
}

/// The delay in µs of a WATERMARK FOR clause.
pub fn bind_watermark_delay(expr: &ast::Expr, column: &str) -> Result<i64> {
    scalar::bind_watermark(expr, column)
}

/// The µs of a constant interval without months.
pub fn bind_interval_micros(expr: &ast::Expr, context: &BindContext) -> Result<i64> {
    match evaluate_as(expr, PgType::INTERVAL, context)? {
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => i64::from(v.days)
            .checked_mul(86_400_000_000)
            .and_then(|d| d.checked_add(v.nanoseconds / 1000))
            .filter(|m| *m >= 0)
            .ok_or_else(|| Error::new(ErrorKind::InvalidParameter, "the interval must not be negative")),
        _ => Err(Error::new(ErrorKind::InvalidParameter, "an interval of days or less is needed")),
    }
}

/// The value of an expression without columns, in its own type.
pub fn evaluate_constant(expr: &ast::Expr, context: &BindContext) -> Result<ScalarValue> {
    evaluate(expr, None, context)
}

/// The value of an expression without columns, in this type.
pub fn evaluate_as(expr: &ast::Expr, to: PgType, context: &BindContext) -> Result<ScalarValue> {
    evaluate(expr, Some(to), context)
}

fn evaluate(expr: &ast::Expr, to: Option<PgType>, context: &BindContext) -> Result<ScalarValue> {
    let bound = scalar::bind_expr(expr, &Schema::empty(), None, to, context)?;
    let compiled = ScalarExpr::compile(&bound, &DFSchema::empty())?;
    let one = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    let array = compiled.evaluate(&one)?;
    Ok(ScalarValue::try_from_array(&array, 0)?)
}

/// Whether a plan reads a relation that the server makes up when it is asked.
pub fn reads_system_tables(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // The closure never fails, so neither does the walk.
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let source: &dyn Any = scan.source.as_ref();
            found |= source.is::<SystemTable>();
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
