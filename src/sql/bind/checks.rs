//! What PostgreSQL refuses in a query before it looks at types: aggregates where there can be none, column lists that
//! are too long, VALUES of different lengths. On the way each cell of VALUES is wrapped in a call of its own, so that
//! DataFusion leaves its type to the binder.
//!
//! Boundary: syntax only; which names are aggregates is the provider's knowledge.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArguments, GroupByExpr, Ident, JoinConstraint, JoinOperator, Query, Select, SelectItem,
    SetExpr, TableAlias, TableAliasColumnDef, TableFactor, Visit, Visitor,
};

use super::prepare::{call, fold, output_name};
use super::provider;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::VALUES_ITEM;

/// Checks of a query around its SELECTs.
pub fn query(query: &mut Query) -> Result<()> {
    values(&mut query.body)?;
    let Some(with) = &mut query.with else { return Ok(()) };
    for cte in &mut with.cte_tables {
        let name = fold(&cte.alias.name);
        columns(&mut cte.alias, &cte.query.body, &format!("WITH query \"{name}\""))?;
    }
    Ok(())
}

/// Checks of a subquery in FROM.
pub fn derived(factor: &mut TableFactor) -> Result<()> {
    if let TableFactor::Derived { subquery, alias: Some(alias), .. } = factor {
        let name = fold(&alias.name);
        columns(alias, &subquery.body, &format!("table \"{name}\""))?;
    }
    Ok(())
}

/// The columns of a list after a name must be no more than there are; those without a name in it keep their own.
fn columns(alias: &mut TableAlias, body: &SetExpr, what: &str) -> Result<()> {
    if alias.columns.is_empty() {
        return Ok(());
    }
    let Some(names) = output_names(body) else { return Ok(()) };
    if alias.columns.len() > names.len() {
        return Err(Error::new(
            ErrorKind::InvalidColumnReference,
            format!(
                "{what} has {} columns available but {} columns specified",
                names.len(),
                alias.columns.len()
            ),
        ));
    }
    for name in &names[alias.columns.len()..] {
        alias.columns.push(TableAliasColumnDef { name: Ident::with_quote('"', name), data_type: None });
    }
    Ok(())
}

/// The names of a query's outputs, if its text gives them.
fn output_names(body: &SetExpr) -> Option<Vec<String>> {
    match body {
        SetExpr::Select(s) => s
            .projection
            .iter()
            .map(|item| match item {
                SelectItem::UnnamedExpr(e) => Some(output_name(e)),
                SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                _ => None,
            })
            .collect(),
        SetExpr::Values(v) => {
            v.rows.first().map(|r| (1..=r.content.len()).map(|i| format!("column{i}")).collect())
        }
        SetExpr::SetOperation { left, .. } => output_names(left),
        SetExpr::Query(q) => output_names(&q.body),
        _ => None,
    }
}

fn values(body: &mut SetExpr) -> Result<()> {
    match body {
        SetExpr::Values(v) => {
            let width = v.rows.first().map_or(0, |r| r.content.len());
            for row in &mut v.rows {
                if row.content.len() != width {
                    return Err(Error::new(ErrorKind::Syntax, "VALUES lists must all be the same length"));
                }
                for cell in &mut row.content {
                    let inner = std::mem::replace(cell, Expr::Identifier(Ident::new("")));
                    *cell = call(VALUES_ITEM, vec![inner]);
                }
            }
            Ok(())
        }
        SetExpr::SetOperation { left, right, .. } => {
            values(left)?;
            values(right)
        }
        _ => Ok(()),
    }
}

/// Checks of the clauses of one SELECT.
pub fn select(select: &Select) -> Result<()> {
    if let Some(condition) = &select.selection {
        refuse(condition, "WHERE", true)?;
    }
    for join in select.from.iter().flat_map(|f| &f.joins) {
        if let JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c) = &join.join_operator
            && let JoinConstraint::On(condition) = c
        {
            refuse(condition, "JOIN conditions", true)?;
        }
    }
    if let GroupByExpr::Expressions(keys, _) = &select.group_by {
        for key in keys {
            refuse(key, "GROUP BY", true)?;
        }
    }
    let Some(having) = &select.having else { return Ok(()) };
    refuse(having, "HAVING", false)?;
    ungrouped(select, having)
}

/// HAVING makes a query grouped, into one group unless GROUP BY says otherwise.
fn ungrouped(select: &Select, having: &Expr) -> Result<()> {
    if !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty()) {
        return Ok(());
    }
    let outputs = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => Some(e),
        _ => None,
    });
    let mut column = None;
    for e in outputs.chain([having]) {
        let calls = calls(e);
        if calls.aggregate {
            return Ok(());
        }
        column = column.or(calls.column);
    }
    let Some(mut column) = column else { return Ok(()) };
    if let ([from], false) = (select.from.as_slice(), column.contains('.'))
        && from.joins.is_empty()
        && let TableFactor::Table { name, alias, .. } = &from.relation
    {
        let name = alias.as_ref().map(|a| &a.name).or_else(|| name.0.last().and_then(|p| p.as_ident()));
        column = name.map_or(column.clone(), |n| format!("{}.{column}", fold(n)));
    }
    Err(Error::new(
        ErrorKind::Grouping,
        format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"),
    ))
}

/// Whether an expression calls an aggregate, outside of its subqueries.
pub fn has_aggregate(expr: &Expr) -> bool {
    calls(expr).aggregate
}

/// Refuses window functions and, where `aggregates` says so, aggregates.
pub fn refuse(expr: &Expr, place: &str, aggregates: bool) -> Result<()> {
    let calls = calls(expr);
    if aggregates && calls.aggregate {
        let message = format!("aggregate functions are not allowed in {place}");
        return Err(Error::new(ErrorKind::Grouping, message));
    }
    if calls.window {
        return Err(Error::new(ErrorKind::Windowing, format!("window functions are not allowed in {place}")));
    }
    Ok(())
}

/// Whether a window function is called in an expression, outside of its subqueries.
pub fn has_window(expr: &Expr) -> bool {
    calls(expr).window
}

/// What an expression contains outside of its subqueries.
#[derive(Default)]
struct Calls {
    aggregate: bool,
    window: bool,
    /// The first column.
    column: Option<String>,
    /// Subqueries around the current place.
    depth: usize,
}

fn calls(expr: &Expr) -> Calls {
    let mut calls = Calls::default();
    // The visitor never breaks.
    let _ = expr.visit(&mut calls);
    calls
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Function(f) if f.over.is_some() => self.window = true,
            Expr::Function(f) if !matches!(f.args, FunctionArguments::None) => {
                let name = f.name.0.last().and_then(|p| p.as_ident()).map(fold).unwrap_or_default();
                self.aggregate |= provider::is_aggregate(&name);
            }
            Expr::Identifier(i) if self.column.is_none() => self.column = Some(fold(i)),
            Expr::CompoundIdentifier(parts) if self.column.is_none() => {
                self.column = Some(parts.iter().map(fold).collect::<Vec<_>>().join("."));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
