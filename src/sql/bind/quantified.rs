//! Comparisons with the rows of a subquery in forms that DataFusion's planner knows: `= ANY` is IN, `<> ALL` is NOT
//! IN, everything else two questions whether there is a row, one for true and one for unknown.
//!
//! Boundary: syntax only.

use sqlparser::ast::{BinaryOperator, Expr, Ident, Query, SetExpr, TableAliasColumnDef, TableFactor, Value};

use super::prepare::SUFFIX;
use crate::error::{Error, ErrorKind, Result};

/// `expr [NOT] IN (subquery)` of rows; of single values it stays as it is.
pub fn in_subquery(expr: &Expr, query: &Query, negated: bool) -> Result<Option<Expr>> {
    let Expr::Tuple(row) = expr else { return Ok(None) };
    let found = quantified(row, &BinaryOperator::Eq, query, true)?;
    Ok(Some(if negated {
        Expr::UnaryOp {
            op: sqlparser::ast::UnaryOperator::Not,
            expr: Box::new(Expr::Nested(Box::new(found))),
        }
    } else {
        found
    }))
}

/// `left op ANY (subquery)`, or ALL.
pub fn compared(left: &Expr, op: &BinaryOperator, query: &Query, any: bool) -> Result<Expr> {
    let row = match left {
        Expr::Tuple(row) => row.as_slice(),
        one => std::slice::from_ref(one),
    };
    if let [one] = row
        && matches!((op, any), (BinaryOperator::Eq, true) | (BinaryOperator::NotEq, false))
    {
        return Ok(Expr::InSubquery {
            expr: Box::new(one.clone()),
            subquery: Box::new(query.clone()),
            negated: !any,
        });
    }
    quantified(row, op, query, any)
}

/// ANY: true if a comparison is, else unknown if one is, else false. ALL: false if a comparison is, else unknown if
/// one is, else true.
fn quantified(row: &[Expr], op: &BinaryOperator, query: &Query, any: bool) -> Result<Expr> {
    let columns: Vec<Ident> =
        (1..=row.len()).map(|i| Ident::with_quote('"', format!("{SUFFIX}{i}"))).collect();
    let relation = Ident::with_quote('"', format!("{SUFFIX}compared"));
    let there: Vec<Expr> =
        columns.iter().map(|c| Expr::CompoundIdentifier(vec![relation.clone(), c.clone()])).collect();
    let compare = match row {
        [one] => {
            Expr::BinaryOp { left: Box::new(one.clone()), op: op.clone(), right: Box::new(there[0].clone()) }
        }
        row => super::prepare::row_comparison(row, op, &there)?,
    };
    let compare = Expr::Nested(Box::new(compare));
    let decided = if any { compare.clone() } else { Expr::IsFalse(Box::new(compare.clone())) };
    let exists = |condition: Expr| -> Result<Expr> {
        let mut select = super::prepare::select_template()?;
        let mut template = super::prepare::from_template()?;
        if let TableFactor::Derived { subquery, alias: Some(alias), .. } = &mut template.relation {
            **subquery = query.clone();
            alias.name = relation.clone();
            alias.columns =
                columns.iter().map(|c| TableAliasColumnDef { name: c.clone(), data_type: None }).collect();
        }
        select.from = vec![template];
        select.selection = Some(condition);
        Ok(Expr::Exists { subquery: Box::new(super::prepare::query_of(select)), negated: false })
    };
    let width = output_width(&query.body);
    if width.is_some_and(|w| w != row.len()) {
        let word = if width > Some(row.len()) { "many" } else { "few" };
        return Err(Error::new(ErrorKind::Syntax, format!("subquery has too {word} columns")));
    }
    let constant = |v: Value| Expr::Value(v.with_empty_span());
    let text = "CASE WHEN true THEN true WHEN true THEN NULL ELSE false END";
    let mut case = super::prepare::expr_template(text)?;
    if let Expr::Case { conditions, else_result, .. } = &mut case {
        conditions[0].condition = exists(decided)?;
        conditions[0].result = constant(Value::Boolean(any));
        conditions[1].condition = exists(Expr::IsNull(Box::new(compare)))?;
        *else_result = Some(Box::new(constant(Value::Boolean(!any))));
    }
    Ok(case)
}

/// How many columns a query has, if its text tells.
fn output_width(body: &SetExpr) -> Option<usize> {
    use sqlparser::ast::SelectItem;
    match body {
        SetExpr::Select(s) => {
            let plain =
                |i: &SelectItem| matches!(i, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            s.projection.iter().all(plain).then_some(s.projection.len())
        }
        SetExpr::Values(v) => v.rows.first().map(|r| r.content.len()),
        SetExpr::SetOperation { left, .. } => output_width(left),
        SetExpr::Query(q) => output_width(&q.body),
        _ => None,
    }
}
