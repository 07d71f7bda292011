//! Expressions while a plan is lowered: which columns they read, putting other expressions in place of columns,
//! and the last check before they are compiled.
//!
//! Boundary: DataFusion's logical expressions in, [`ScalarExpr`] out.

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility, cast, lit};

use crate::error::{Error, Result};
use crate::expr::ScalarExpr;
use crate::plan::lower::temporal;
use crate::types::UTC;

/// The expression that names column `i` of `schema`.
pub(super) fn column_of(schema: &DFSchema, i: usize) -> Expr {
    let (qualifier, field) = schema.qualified_field(i);
    Expr::Column(Column::new(qualifier.cloned(), field.name().clone()))
}

/// The expression without the aliases around it.
pub(super) fn strip(expr: &Expr) -> Expr {
    match expr {
        Expr::Alias(a) => strip(&a.expr),
        other => other.clone(),
    }
}

/// The columns of `schema` that `expr` reads, ascending.
pub(super) fn columns_of(expr: &Expr, schema: &DFSchema) -> Result<Vec<usize>> {
    let mut uses = vec![0; schema.fields().len()];
    count_uses(expr, schema, &mut uses)?;
    Ok(uses.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, _)| i).collect())
}

/// Adds to `uses[i]` how often `expr` names column `i`.
pub(super) fn count_uses(expr: &Expr, schema: &DFSchema, uses: &mut [usize]) -> Result<()> {
    expr.apply(|e| {
        if let Expr::Column(c) = e {
            uses[schema.index_of_column(c)?] += 1;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// `expr` with column `i` of `schema` replaced by `replacements[i]`.
pub(super) fn substitute(expr: &Expr, schema: &DFSchema, replacements: &[Expr]) -> Result<Expr> {
    let refs: Vec<Option<&Expr>> = replacements.iter().map(Some).collect();
    substitute_some(expr, schema, &refs)
}

/// Like [`substitute`], where some columns have no replacement because nothing reads them.
pub(super) fn substitute_some(
    expr: &Expr,
    schema: &DFSchema,
    replacements: &[Option<&Expr>],
) -> Result<Expr> {
    let replaced = expr.clone().transform_up(|e| match &e {
        Expr::Column(c) => {
            let i = schema.index_of_column(c)?;
            match replacements.get(i).copied().flatten() {
                Some(r) => Ok(Transformed::yes(r.clone())),
                None => datafusion::common::internal_err!("column {c} was pruned although it is read"),
            }
        }
        Expr::Alias(a) => Ok(Transformed::yes(a.expr.as_ref().clone())),
        _ => Ok(Transformed::no(e)),
    })?;
    Ok(replaced.data)
}

/// Compiles an expression over the columns of `schema`, after refusing what has no fixed value per row.
pub(super) fn compile(expr: &Expr, schema: &DFSchema) -> Result<ScalarExpr> {
    let mut refusal = None;
    expr.apply(|e| {
        refusal = refuse(e);
        Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    match refusal {
        Some(error) => Err(error),
        None => ScalarExpr::compile(expr, schema),
    }
}

fn refuse(expr: &Expr) -> Option<Error> {
    match expr {
        Expr::ScalarFunction(f) if temporal::is_now(f.func.name()) => {
            Some(temporal::misplaced_now(f.func.name()))
        }
        Expr::ScalarFunction(f) if f.func.signature().volatility == Volatility::Volatile => Some(
            Error::unsupported(format!(
                "function {}() is not supported in a materialized view",
                f.func.name()
            ))
            .with_detail("It gives another value each time it is called."),
        ),
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => Some(
            Error::unsupported("this subquery is not supported in a materialized view")
                .with_hint("Write it as a join."),
        ),
        Expr::WindowFunction(w) => Some(Error::unsupported(format!(
            "window function {}() is not supported here in a materialized view",
            w.fun.name()
        ))),
        Expr::Placeholder(p) => Some(Error::new(
            crate::error::ErrorKind::UndefinedParameter,
            format!("there is no parameter {}", p.id),
        )),
        _ => None,
    }
}

/// `expr`, cast if its type is not the wanted one.
pub(super) fn cast_to(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    if from == to { expr } else { cast(expr, to.clone()) }
}

/// A Timestamp(µs) expression moved by `by` µs, exactly and checked for overflow.
pub(super) fn shift_micros(expr: Expr, data_type: &DataType, by: i64) -> Expr {
    if by == 0 {
        return expr;
    }
    cast(cast(expr, DataType::Int64) + lit(by), data_type.clone())
}

/// The type that moments are compared in.
pub(super) fn moment_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// A list of distinct expressions over one schema with a field for each.
#[derive(Debug, Default)]
pub(super) struct ExprList {
    pub(super) exprs: Vec<Expr>,
    pub(super) fields: Vec<FieldRef>,
}

impl ExprList {
    /// Position of `expr` in the list, added if it is new.
    pub(super) fn add(&mut self, expr: Expr, schema: &DFSchema) -> Result<usize> {
        let expr = strip(&expr);
        if let Some(i) = self.exprs.iter().position(|e| *e == expr) {
            return Ok(i);
        }
        let field = match &expr {
            Expr::Column(c) => schema.field(schema.index_of_column(c)?).clone(),
            other => other.to_field(schema)?.1,
        };
        self.exprs.push(expr);
        self.fields.push(field);
        Ok(self.exprs.len() - 1)
    }
}
