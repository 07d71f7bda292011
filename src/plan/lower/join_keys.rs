//! The keys of joins and what their conditions imply: equalities between the sides, with NULL equal to NULL or not,
//! and orders between columns of the two.
//!
//! Boundary: expressions and schemas; the nodes are [`super::join`]'s.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, NullEquality, ScalarValue};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, Operator, when};

use super::expression::{cast_to, column_of, columns_of, substitute};
use super::join::Side;
use super::{position_of, temporal};
use crate::error::{Error, Result};
use crate::plan::facts::interval_micros;

/// Adds a pair of key expressions of the same type.
pub(super) fn add_key(left: &mut Side<'_>, right: &mut Side<'_>, l: Expr, r: Expr) -> Result<()> {
    let (lt, rt) = (l.get_type(left.schema())?, r.get_type(right.schema())?);
    let common = if lt == rt {
        lt.clone()
    } else {
        comparison_coercion(&lt, &rt).ok_or_else(|| {
            Error::new(
                crate::error::ErrorKind::DatatypeMismatch,
                format!("join condition cannot compare {lt} with {rt}"),
            )
        })?
    };
    let common = match common {
        DataType::Dictionary(_, value) => *value,
        other => other,
    };
    left.keys.push(cast_to(l, &lt, &common));
    right.keys.push(cast_to(r, &rt, &common));
    Ok(())
}

/// Where the join takes NULL for equal to NULL (INTERSECT, EXCEPT), its keys do so.
pub(super) fn settle_null_keys(join: &Join, left: &mut Side<'_>, right: &mut Side<'_>) -> Result<()> {
    if join.null_equality == NullEquality::NullEqualsNull {
        for i in 0..left.keys.len() {
            settle_null_key(i, left, right)?;
        }
    }
    Ok(())
}

/// A key that can be NULL on both sides and is to be equal then becomes two that cannot: the value or a stand-in, and
/// whether it is NULL.
pub(super) fn settle_null_key(i: usize, left: &mut Side<'_>, right: &mut Side<'_>) -> Result<()> {
    let whole = |key: &Expr, schema: &DFSchema| -> Result<Expr> {
        let stand_in = Expr::Literal(ScalarValue::new_default(&key.get_type(schema)?)?, None);
        Ok(when(key.clone().is_null(), stand_in).otherwise(key.clone())?)
    };
    let (l, r) = (left.keys[i].clone(), right.keys[i].clone());
    if l.nullable(left.schema())? && r.nullable(right.schema())? {
        left.keys[i] = whole(&l, left.schema())?;
        right.keys[i] = whole(&r, right.schema())?;
        left.keys.push(l.is_null());
        right.keys.push(r.is_null());
    }
    Ok(())
}

/// Adds an equality between the sides, found by [`equality`], to their keys.
pub(super) fn add_pair(
    (l, r, nulls): (Expr, Expr, bool),
    schema: &DFSchema,
    width: usize,
    left: &mut Side<'_>,
    right: &mut Side<'_>,
) -> Result<()> {
    let l = to_side(&l, schema, left.schema(), 0)?;
    let r = to_side(&r, schema, right.schema(), width)?;
    add_key(left, right, l, r)?;
    if nulls { settle_null_key(left.keys.len() - 1, left, right) } else { Ok(()) }
}

/// A condition over the join's columns as a condition over one side's, whose columns start at `base`.
pub(super) fn to_side(expr: &Expr, joined: &DFSchema, side: &DFSchema, base: usize) -> Result<Expr> {
    let columns: Vec<Expr> = (0..joined.fields().len())
        .map(|i| column_of(side, i.saturating_sub(base).min(side.fields().len().saturating_sub(1))))
        .collect();
    substitute(expr, joined, &columns)
}

/// The two sides of an equality between the inputs, and whether NULL is equal to NULL in it.
pub(super) fn equality(
    predicate: &Expr,
    schema: &DFSchema,
    width: usize,
) -> Result<Option<(Expr, Expr, bool)>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = predicate else { return Ok(None) };
    let nulls = match op {
        Operator::Eq => false,
        Operator::IsNotDistinctFrom => true,
        _ => return Ok(None),
    };
    if temporal::has_now(predicate) {
        return Ok(None);
    }
    let (a, b) = (columns_of(left, schema)?, columns_of(right, schema)?);
    if a.is_empty() || b.is_empty() {
        return Ok(None);
    }
    let is_left = |c: &[usize]| c.iter().all(|c| *c < width);
    let is_right = |c: &[usize]| c.iter().all(|c| *c >= width);
    Ok(if is_left(&a) && is_right(&b) {
        Some((left.as_ref().clone(), right.as_ref().clone(), nulls))
    } else if is_right(&a) && is_left(&b) {
        Some((right.as_ref().clone(), left.as_ref().clone(), nulls))
    } else {
        None
    })
}

/// The facts `small <= great + by µs` between two columns that a condition implies.
pub(super) fn order_between(expr: &Expr, schema: &DFSchema) -> Vec<(usize, usize, i64)> {
    // a <= b
    let le = |a: &Expr, b: &Expr| -> Option<(usize, usize, i64)> {
        let ((a, plus), (b, by)) = (moved_column(a, schema)?, moved_column(b, schema)?);
        Some((a, b, by.checked_sub(plus)?))
    };
    match expr {
        Expr::Between(b) if !b.negated => {
            le(&b.low, &b.expr).into_iter().chain(le(&b.expr, &b.high)).collect()
        }
        Expr::BinaryExpr(b) => match b.op {
            Operator::Lt | Operator::LtEq => le(&b.left, &b.right).into_iter().collect(),
            Operator::Gt | Operator::GtEq => le(&b.right, &b.left).into_iter().collect(),
            Operator::Eq => le(&b.left, &b.right).into_iter().chain(le(&b.right, &b.left)).collect(),
            _ => vec![],
        },
        _ => vec![],
    }
}

/// `column + by µs`.
pub(super) fn moved_column(expr: &Expr, schema: &DFSchema) -> Option<(usize, i64)> {
    match expr {
        Expr::Column(_) => Some((position_of(expr, schema)?, 0)),
        Expr::BinaryExpr(b) if b.op == Operator::Plus => {
            let (c, by) = moved_column(&b.left, schema)?;
            Some((c, by.checked_add(interval_micros(&b.right)?)?))
        }
        Expr::BinaryExpr(b) if b.op == Operator::Minus => {
            let (c, by) = moved_column(&b.left, schema)?;
            Some((c, by.checked_sub(interval_micros(&b.right)?)?))
        }
        _ => None,
    }
}
