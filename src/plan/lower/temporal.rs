//! Conditions on `now()`: a row is in while `from <= now() < until`, so a comparison of the row with
//! `now() ± interval` becomes a bound and a calendar keeps the rows until it passes.
//!
//! Boundary: finds the bounds; [`super`] decides where the Temporal node goes.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, cast, when};

use super::expression::{ExprList, columns_of, moment_type, shift_micros, substitute_some};
use super::{Lowering, column_named, constant_value};
use crate::error::{Error, Result};
use crate::expr::ScalarExpr;
use crate::plan::facts::scalar_micros;
use crate::plan::{NodeId, Op};

/// Whether a function of this name is the current time.
pub(super) fn is_now(name: &str) -> bool {
    matches!(
        name,
        "now"
            | "mz_now"
            | "current_timestamp"
            | "transaction_timestamp"
            | "statement_timestamp"
            | "clock_timestamp"
            | "current_date"
            | "current_time"
            | "localtimestamp"
            | "localtime"
            | "today"
    )
}

/// Whether `expr` contains the current time.
pub(super) fn has_now(expr: &Expr) -> bool {
    let mut found = false;
    // The closure never fails, so neither does the walk.
    let _ = expr.apply(|e| {
        found = matches!(e, Expr::ScalarFunction(f) if is_now(f.func.name()));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// The refusal of the current time anywhere but in a bound.
pub(super) fn misplaced_now(name: &str) -> Error {
    Error::unsupported(format!(
        "{name}() is supported in a materialized view only in a filter that bounds rows in time"
    ))
    .with_hint("Write it as WHERE column > now() - INTERVAL '1 hour', with AND between the conditions.")
}

/// The bounds that conditions put on a row, as expressions of type [`moment_type`].
#[derive(Default)]
struct Bounds {
    from: Option<Expr>,
    until: Option<Expr>,
    /// The bounded expressions: a NULL bound is no bound that is ever met.
    not_null: Vec<Expr>,
}

impl Lowering<'_> {
    /// A temporal filter over `node`, with the plain conditions below it and the expressions above it.
    pub(super) fn temporal(
        &mut self,
        node: NodeId,
        mut plain: Vec<Expr>,
        temporal: Vec<Expr>,
        exprs: Vec<Expr>,
        fields: Vec<FieldRef>,
    ) -> Result<NodeId> {
        let schema = self.nodes[node].schema.clone();
        let df = DFSchema::try_from(schema.clone())?;
        let mut bounds = Bounds::default();
        for predicate in &temporal {
            bounds.add(predicate, &df)?;
        }
        plain.extend(bounds.not_null.drain(..).map(Expr::is_not_null));
        let mut list = ExprList::default();
        let mut here: Vec<Option<Expr>> = vec![None; schema.fields().len()];
        for e in &exprs {
            for c in columns_of(e, &df)? {
                list.add(column_named(&schema, c), &df)?;
                here[c] = Some(column_named(&schema, c));
            }
        }
        let mut bound = |e: Option<Expr>, name: &str| -> Result<Option<usize>> {
            let Some(e) = e else { return Ok(None) };
            let i = list.add(e, &df)?;
            if !matches!(list.exprs[i], Expr::Column(_)) {
                list.fields[i] = Arc::new(Field::new(name, moment_type(), true));
            }
            Ok(Some(i))
        };
        let from = bound(bounds.from, "valid_from")?;
        let until = bound(bounds.until, "valid_until")?;
        let node = self.map(node, plain, list.exprs, list.fields)?;
        let node = if self.extras[node].partition.is_some() || self.facts(node).append_only {
            node
        } else {
            self.exchange_on_row(node)
        };
        let below = self.nodes[node].schema.clone();
        let column = |c: usize| ScalarExpr::column(c, &below.fields()[c]);
        let mut facts = self.facts(node).clone();
        facts.append_only &= until.is_none();
        facts.watermarks.clear();
        let mut extra = self.extras[node].clone();
        extra.complete.clear();
        let op = Op::Temporal { from: from.map(column), until: until.map(column) };
        let node = self.add(op, vec![node], below, facts, extra);
        let refs: Vec<Option<&Expr>> = here.iter().map(Option::as_ref).collect();
        let exprs = exprs.iter().map(|e| substitute_some(e, &df, &refs)).collect::<Result<Vec<_>>>()?;
        self.map(node, vec![], exprs, fields)
    }
}

impl Bounds {
    fn add(&mut self, predicate: &Expr, schema: &DFSchema) -> Result<()> {
        match predicate {
            Expr::Alias(a) => self.add(&a.expr, schema),
            Expr::Between(b) if !b.negated => {
                self.compare(&b.expr, Operator::GtEq, &b.low, schema)?;
                self.compare(&b.expr, Operator::LtEq, &b.high, schema)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.add(left, schema)?;
                self.add(right, schema)
            }
            Expr::BinaryExpr(b) => self.compare(&b.left, b.op, &b.right, schema),
            other => Err(refused(other)),
        }
    }

    /// `left op right`, where one side is `now()` and a constant interval. A side without now() bounds the row.
    fn compare(&mut self, left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Result<()> {
        let (row, op, now) = match (has_now(left), has_now(right)) {
            (false, true) => (left, op, right),
            (true, false) => match op.swap() {
                Some(op) => (right, op, left),
                None => return Err(refused(left)),
            },
            // BETWEEN with one side free of now(): an ordinary condition is not a bound.
            _ => return Err(refused(left)),
        };
        let offset = now_offset(now)?.ok_or_else(|| refused(now))?;
        let row = moment(row, schema)?;
        let shift = |extra: i64| -> Result<Expr> {
            let by = offset.checked_neg().and_then(|o| o.checked_add(extra)).ok_or_else(too_far)?;
            Ok(shift_micros(row.clone(), &moment_type(), by))
        };
        // With now < e - o  <=>  e > now + o, and time in whole microseconds.
        match op {
            Operator::Gt => self.until(shift(0)?)?,
            Operator::GtEq => self.until(shift(1)?)?,
            Operator::Lt => self.from(shift(1)?)?,
            Operator::LtEq => self.from(shift(0)?)?,
            Operator::Eq => {
                self.from(shift(0)?)?;
                self.until(shift(1)?)?;
            }
            _ => return Err(refused(now)),
        }
        if !self.not_null.contains(&row) {
            self.not_null.push(row);
        }
        Ok(())
    }

    /// The row is out from `e` on; the earliest such moment counts.
    fn until(&mut self, e: Expr) -> Result<()> {
        self.until = Some(match self.until.take() {
            None => e,
            Some(old) => when(old.clone().lt(e.clone()), old).otherwise(e)?,
        });
        Ok(())
    }

    /// The row is in from `e` on; the latest such moment counts.
    fn from(&mut self, e: Expr) -> Result<()> {
        self.from = Some(match self.from.take() {
            None => e,
            Some(old) => when(old.clone().gt(e.clone()), old).otherwise(e)?,
        });
        Ok(())
    }
}

fn too_far() -> Error {
    Error::new(crate::error::ErrorKind::NumericOutOfRange, "interval out of range")
}

fn refused(expr: &Expr) -> Error {
    let mut name = "now".to_string();
    let _ = expr.apply(|e| {
        if let Expr::ScalarFunction(f) = e
            && is_now(f.func.name())
        {
            name = f.func.name().to_string();
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    misplaced_now(&name)
}

/// `o` in µs if `expr` is `now() + o`; `None` if it has no such shape.
fn now_offset(expr: &Expr) -> Result<Option<i64>> {
    match expr {
        Expr::ScalarFunction(f) => Ok(matches!(
            f.func.name(),
            "now"
                | "mz_now"
                | "current_timestamp"
                | "transaction_timestamp"
                | "statement_timestamp"
                | "clock_timestamp"
                | "localtimestamp"
        )
        .then_some(0)),
        Expr::Alias(a) => now_offset(&a.expr),
        Expr::Cast(c) if is_timestamp(c.field.data_type()) => now_offset(&c.expr),
        Expr::TryCast(c) if is_timestamp(c.field.data_type()) => now_offset(&c.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
            let (time, by) = match (has_now(left), has_now(right)) {
                (true, false) => (left, right),
                (false, true) if *op == Operator::Plus => (right, left),
                _ => return Ok(None),
            };
            let Some(start) = now_offset(time)? else { return Ok(None) };
            let by = constant_micros(by)?;
            let moved = if *op == Operator::Plus { start.checked_add(by) } else { start.checked_sub(by) };
            Ok(Some(moved.ok_or_else(too_far)?))
        }
        _ => Ok(None),
    }
}

fn is_timestamp(t: &DataType) -> bool {
    matches!(t, DataType::Timestamp(..))
}

/// The length of a constant interval. Months have no fixed length, so there is no exact moment at which a row
/// leaves.
fn constant_micros(expr: &Expr) -> Result<i64> {
    let mut columns = false;
    let _ = expr.apply(|e| {
        columns |= matches!(e, Expr::Column(_));
        Ok(TreeNodeRecursion::Continue)
    });
    if columns {
        return Err(Error::unsupported("now() can be moved by a constant interval only")
            .with_hint("Move the column to the other side: WHERE ts + duration > now()."));
    }
    scalar_micros(&constant_value(expr)?).ok_or_else(|| {
        Error::unsupported("an interval with months cannot bound rows in time")
            .with_hint("Write it in days, hours or smaller units.")
    })
}

/// The compared expression of the row as [`moment_type`]: casts to other units of time around it are taken off,
/// because they lose range.
fn moment(expr: &Expr, schema: &DFSchema) -> Result<Expr> {
    let mut expr = expr;
    loop {
        match expr {
            Expr::Alias(a) => expr = &a.expr,
            Expr::Cast(c) if is_timestamp(c.field.data_type()) && is_timestamp(&c.expr.get_type(schema)?) => {
                expr = &c.expr
            }
            _ => break,
        }
    }
    let t = expr.get_type(schema)?;
    match &t {
        _ if t == moment_type() => Ok(expr.clone()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            // The number stays the same: views count in UTC.
            Ok(cast(cast(expr.clone(), DataType::Int64), moment_type()))
        }
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            Ok(cast(expr.clone(), moment_type()))
        }
        other => Err(Error::unsupported(format!("now() cannot bound an expression of type {other} in time"))),
    }
}
