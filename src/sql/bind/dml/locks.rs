//! Binding FOR UPDATE: which rows of which tables a query is about.

use std::sync::Arc;

use sqlparser::ast::{self, GroupByExpr, LockType, Query, SetExpr, TableFactor, TableWithJoins};

use super::change::{column, item, physical};
use super::find;
use crate::catalog::{Object, ObjectBody};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind::{BindContext, BoundQuery, bind_query, checks, prepare};

/// For each table that is locked, the query of its rows, in all columns.
pub fn bind_locks(query: &Query, context: &BindContext) -> Result<Vec<(Arc<Object>, BoundQuery)>> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return Err(not_allowed(query, "UNION/INTERSECT/EXCEPT"));
    };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(e, m) if e.is_empty() && m.is_empty());
    if grouped {
        return Err(not_allowed(query, "GROUP BY clause"));
    }
    if select.distinct.is_some() {
        return Err(not_allowed(query, "DISTINCT clause"));
    }
    if select.having.is_some() {
        return Err(not_allowed(query, "HAVING clause"));
    }
    let aggregate = select.projection.iter().any(|i| match i {
        ast::SelectItem::UnnamedExpr(e) | ast::SelectItem::ExprWithAlias { expr: e, .. } => {
            checks::has_aggregate(e)
        }
        _ => false,
    });
    if aggregate {
        return Err(not_allowed(query, "aggregate functions"));
    }
    let wanted: Vec<String> =
        query.locks.iter().filter_map(|l| l.of.as_ref()?.0.last()?.as_ident().map(prepare::fold)).collect();
    let mut from = select.from.clone();
    let mut tables: Vec<(String, Arc<Object>)> = Vec::new();
    for table in &mut from {
        collect(table, &wanted, context, &mut tables)?;
    }
    if let Some(name) = wanted.iter().find(|w| !tables.iter().any(|(n, _)| n == *w)) {
        return Err(Error::new(
            ErrorKind::UndefinedTable,
            format!("relation \"{name}\" in FOR UPDATE clause not found in FROM clause"),
        ));
    }
    let mut bound = Vec::with_capacity(tables.len());
    for (name, object) in tables {
        let mut rows = query.clone();
        rows.locks = Vec::new();
        if rows.limit_clause.is_none() {
            rows.order_by = None;
        }
        if let SetExpr::Select(select) = rows.body.as_mut() {
            select.from.clone_from(&from);
            let columns = object.columns.iter().enumerate();
            select.projection = columns
                .map(|(i, c)| item(column(&name, &c.name), format!("{}lock{i}", prepare::SUFFIX)))
                .collect();
        }
        bound.push((object, bind_query(&rows, context)?));
    }
    Ok(bound)
}

fn not_allowed(query: &Query, with: &str) -> Error {
    let lock = match query.locks.first().map(|l| l.lock_type) {
        Some(LockType::Share) => "SHARE",
        _ => "UPDATE",
    };
    Error::unsupported(format!("FOR {lock} is not allowed with {with}"))
}

/// Puts physical tables in the place of those that are locked, and notes them under their names.
fn collect(
    from: &mut TableWithJoins,
    wanted: &[String],
    context: &BindContext,
    tables: &mut Vec<(String, Arc<Object>)>,
) -> Result<()> {
    let joined = from.joins.iter_mut().map(|j| &mut j.relation);
    for factor in std::iter::once(&mut from.relation).chain(joined) {
        let name = match &*factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let last = name.0.last().and_then(|p| p.as_ident());
                alias.as_ref().map(|a| &a.name).or(last).map(prepare::fold).unwrap_or_default()
            }
            TableFactor::Derived { alias: Some(alias), .. } => prepare::fold(&alias.name),
            _ => String::new(),
        };
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        let object = match &*factor {
            TableFactor::Table { name, args: None, .. } => find(name, context)?,
            _ => {
                return Err(Error::unsupported("FOR UPDATE of anything but tables is not supported")
                    .with_hint("Name the tables with FOR UPDATE OF."));
            }
        };
        if !matches!(object.body, ObjectBody::Table { .. }) {
            return Err(Error::unsupported(format!(
                "FOR UPDATE of {} \"{}\" is not supported",
                object.kind_name(),
                object.name
            ))
            .with_hint("Lock the rows of the tables it is made of."));
        }
        *factor = physical(&object, &name);
        tables.push((name, object));
    }
    Ok(())
}
