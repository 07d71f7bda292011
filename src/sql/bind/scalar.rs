//! Binding expressions that stand alone: DEFAULT, CHECK, generated columns, watermarks.
//!
//! Boundary: one expression over one row of columns.

use arrow::datatypes::Schema;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder};
use datafusion::sql::planner::PlannerContext;
use sqlparser::ast;

use super::provider::Provider;
use super::{BindContext, Binder, errors, prepare};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::cast::CastContext;
use crate::types::PgType;

/// Parses one expression.
pub fn parse_expr(text: &str) -> Result<ast::Expr> {
    crate::sql::parse_expression(text)
}

/// Binds the SQL text of an expression over columns; `to` is the type it is stored in, if any.
pub fn bind_scalar(text: &str, schema: &Schema, to: Option<PgType>, context: &BindContext) -> Result<Expr> {
    bind_expr(&parse_expr(text)?, schema, None, to, context)
}

/// Binds an expression over the columns of a relation known by `name`.
pub fn bind_expr(
    expr: &ast::Expr,
    schema: &Schema,
    name: Option<&str>,
    to: Option<PgType>,
    context: &BindContext,
) -> Result<Expr> {
    let schema = match name {
        Some(name) => DFSchema::try_from_qualified_schema(TableReference::bare(name), schema)?,
        None => DFSchema::try_from(schema.clone())?,
    };
    super::with_stack(|| {
        let mut binder = Binder::new(context);
        binder.scalar(expr, &schema, to)
    })
}

impl Binder<'_> {
    /// The settled form of an expression over a row.
    pub(crate) fn scalar(&mut self, expr: &ast::Expr, schema: &DFSchema, to: Option<PgType>) -> Result<Expr> {
        let mut expr = expr.clone();
        let functions = super::function::inline(&mut expr, self.context)?;
        self.note(functions);
        prepare::prepare_expr(&mut expr)?;
        let provider = Provider::new(self.context);
        let planned = provider
            .planner()
            .sql_to_expr(expr, schema, &mut PlannerContext::new())
            .map_err(|e| errors::planning(e, self.context))?;
        self.settle(planned, schema, to)
    }

    /// Settles the types of an expression of DataFusion's planner, as a value of `to`.
    pub(crate) fn settle(&mut self, planned: Expr, schema: &DFSchema, to: Option<PgType>) -> Result<Expr> {
        if planned.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_))))? {
            return Err(Error::new(ErrorKind::Grouping, "aggregate functions are not allowed here"));
        }
        let map = |e| errors::planning(e, self.context);
        let settled = self.resolver.expr(planned, schema).map_err(map)?;
        let operand = self.resolver.operand(settled, schema).map_err(map)?;
        let expr = match to {
            Some(to) => self.resolver.coerce(operand, to, CastContext::Assignment)?,
            None if operand.unknown() => {
                self.resolver.coerce(operand, PgType::TEXT, CastContext::Implicit)?
            }
            None => operand.expr,
        };
        coerce_one(expr, schema).map_err(map)
    }
}

/// DataFusion's own coercion of one expression.
fn coerce_one(expr: Expr, schema: &DFSchema) -> datafusion::error::Result<Expr> {
    use datafusion::optimizer::analyzer::type_coercion::TypeCoercionRewriter;
    Ok(expr.rewrite(&mut TypeCoercionRewriter::new(schema))?.data)
}

/// The delay in µs of `WATERMARK FOR column AS expr`, expr being the column or the column less an interval.
pub fn bind_watermark(expr: &ast::Expr, column: &str) -> Result<i64> {
    let refuse = || {
        Error::unsupported(format!("watermark expression {expr} is not supported"))
            .with_hint(format!("Write {column} or {column} - INTERVAL '5 seconds'."))
    };
    let is_column = |e: &ast::Expr| match e {
        ast::Expr::Identifier(i) => prepare::fold(i) == column,
        ast::Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|i| prepare::fold(i) == column),
        _ => false,
    };
    match expr {
        ast::Expr::Nested(e) => bind_watermark(e, column),
        e if is_column(e) => Ok(0),
        ast::Expr::BinaryOp { left, op: ast::BinaryOperator::Minus, right } if is_column(left) => {
            let mut interval = right.as_ref().clone();
            prepare::prepare_expr(&mut interval)?;
            let text = match &interval {
                ast::Expr::Cast { expr, .. } => expr.as_ref(),
                e => e,
            };
            let ast::Expr::Value(v) = text else { return Err(refuse()) };
            let ast::Value::SingleQuotedString(text) = &v.value else { return Err(refuse()) };
            let literal =
                crate::sql::functions::cast::literal(text, PgType::INTERVAL, CastContext::Implicit, "UTC")?;
            match interval_micros(&literal) {
                Some(micros) if micros >= 0 => Ok(micros),
                _ => Err(refuse()),
            }
        }
        _ => Err(refuse()),
    }
}

/// The µs of a constant interval without months, of an interval literal or a cast of its text.
pub(crate) fn interval_micros(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(v)), _) if v.months == 0 => {
            i64::from(v.days).checked_mul(86_400_000_000)?.checked_add(v.nanoseconds / 1000)
        }
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => interval_micros(
            &crate::sql::functions::cast::literal(text, PgType::INTERVAL, CastContext::Implicit, "UTC")
                .ok()?,
        ),
        Expr::Cast(c) => interval_micros(&c.expr),
        _ => None,
    }
}

/// The value of an expression without columns or parameters, if it is constant.
pub fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(v, _) => Some(v.clone()),
        e => {
            let schema = DFSchema::empty();
            let data_type = e.get_type(&schema).ok()?;
            let plan = LogicalPlanBuilder::empty(true).project([e.clone().alias("v")]).ok()?.build().ok()?;
            match super::optimize::optimize_for_view(plan).ok()? {
                datafusion::logical_expr::LogicalPlan::Projection(p) => match p.expr.first()? {
                    Expr::Alias(a) => match a.expr.as_ref() {
                        Expr::Literal(v, _) if v.data_type() == data_type => Some(v.clone()),
                        _ => None,
                    },
                    _ => None,
                },
                _ => None,
            }
        }
    }
}
