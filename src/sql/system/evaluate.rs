//! Values of expressions: operators, three-valued logic, subqueries, aggregates over values.
//!
//! Boundary: one expression for one row.

use std::rc::Rc;

use super::cast::cast;
use super::execute::{Env, Run, skips_nulls};
use super::tree::{AggregateKind, Expr, Op, SubKind, SubQuery};
use crate::catalog::system::{ArrayValue, Value};
use crate::error::{Error, ErrorKind, Result};

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        _ => None,
    }
}

impl Run<'_> {
    /// The value of an expression.
    pub fn value(&self, expr: &Expr, env: &Env<'_>) -> Result<Value> {
        Ok(match expr {
            Expr::Const(v) => v.clone(),
            Expr::Column { level, index } => env.get(*level, *index),
            Expr::Param(n) => self.params.get(*n).cloned().unwrap_or_default(),
            Expr::Cast { expr, from, to, explicit } => {
                cast(self.context, &self.value(expr, env)?, *from, *to, *explicit)?
            }
            Expr::Call { function, args } => {
                let args = self.values(args, env)?;
                if function.strict && args.iter().any(Value::is_null) {
                    return Ok(Value::Null);
                }
                (function.eval)(self, &args)?
            }
            Expr::Not(e) => truth(&self.value(e, env)?).map(|b| !b).into(),
            Expr::And(all) => self.logic(all, false, env)?,
            Expr::Or(all) => self.logic(all, true, env)?,
            Expr::Binary { op, left, right } => {
                self.apply(*op, &self.value(left, env)?, &self.value(right, env)?)?
            }
            Expr::Negate(e) => match self.value(e, env)? {
                Value::Int(i) => i.checked_neg().map(Value::Int).ok_or_else(overflow)?,
                Value::Float(f) => Value::Float(-f),
                Value::Interval { months, days, micros } => {
                    Value::Interval { months: -months, days: -days, micros: -micros }
                }
                _ => Value::Null,
            },
            Expr::IsNull { expr, negated } => {
                let value = self.value(expr, env)?;
                let null = match &value {
                    Value::Record(fields) if *negated => {
                        return Ok((!fields.iter().any(Value::is_null)).into());
                    }
                    Value::Record(fields) => fields.iter().all(Value::is_null),
                    v => v.is_null(),
                };
                (null != *negated).into()
            }
            Expr::IsBool { expr, value, negated } => {
                ((truth(&self.value(expr, env)?) == *value) != *negated).into()
            }
            Expr::Distinct { left, right, negated } => {
                ((self.value(left, env)? != self.value(right, env)?) != *negated).into()
            }
            Expr::Case { whens, otherwise } => {
                for (when, then) in whens {
                    if self.value(when, env)? == Value::Bool(true) {
                        return self.value(then, env);
                    }
                }
                self.value(otherwise, env)?
            }
            Expr::Coalesce(all) => {
                for e in all {
                    let value = self.value(e, env)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Value::Null
            }
            Expr::Extreme { args, greatest } => {
                let all = self.values(args, env)?.into_iter().filter(|v| !v.is_null());
                if *greatest { all.max() } else { all.min() }.unwrap_or_default()
            }
            Expr::InList { expr, list, negated } => {
                let value = self.value(expr, env)?;
                let mut unknown = value.is_null();
                if !unknown {
                    for item in list {
                        let item = self.value(item, env)?;
                        if item == value {
                            return Ok((!negated).into());
                        }
                        unknown |= item.is_null();
                    }
                }
                if unknown { Value::Null } else { (*negated).into() }
            }
            Expr::Quantified { op, left, array, all } => {
                let left = self.value(left, env)?;
                match self.value(array, env)? {
                    Value::Array(array) => self.quantified(*op, &left, array.items.iter(), *all)?,
                    _ => Value::Null,
                }
            }
            Expr::Sub(sub) => self.sub(sub, env)?,
            Expr::Array(all) => Value::array(self.values(all, env)?),
            Expr::Row(all) => Value::Record(self.values(all, env)?.into()),
            Expr::Field(e, i) => match self.value(e, env)? {
                Value::Record(fields) => fields.get(*i).cloned().unwrap_or_default(),
                _ => Value::Null,
            },
            Expr::Subscript(array, index) => {
                match (self.value(array, env)?.as_array(), self.value(index, env)?.as_int()) {
                    (Some(array), Some(index)) => element(array, index),
                    _ => Value::Null,
                }
            }
            Expr::Slice(array, from, to) => {
                let bound = |e: &Option<Box<Expr>>, default: i64| -> Result<i64> {
                    Ok(match e {
                        Some(e) => self.value(e, env)?.as_int().unwrap_or(default),
                        None => default,
                    })
                };
                match self.value(array, env)?.as_array() {
                    Some(array) => {
                        let (from, to) = (bound(from, array.lower)?, bound(to, i64::MAX)?);
                        let inside =
                            (array.lower..).zip(&array.items).filter(|(i, _)| (from..=to).contains(i));
                        Value::array(inside.map(|(_, v)| v.clone()).collect())
                    }
                    None => Value::Null,
                }
            }
            Expr::Slot(..) => return Err(Error::internal("a call was left without its plan node")),
        })
    }

    /// AND (`decisive` false) and OR (true).
    fn logic(&self, all: &[Expr], decisive: bool, env: &Env<'_>) -> Result<Value> {
        let mut unknown = false;
        for e in all {
            match truth(&self.value(e, env)?) {
                Some(b) if b == decisive => return Ok(decisive.into()),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(if unknown { Value::Null } else { (!decisive).into() })
    }

    fn quantified<'v>(
        &self,
        op: Op,
        left: &Value,
        items: impl Iterator<Item = &'v Value>,
        all: bool,
    ) -> Result<Value> {
        let mut unknown = false;
        for item in items {
            match truth(&self.apply(op, left, item)?) {
                Some(b) if b != all => return Ok((!all).into()),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(if unknown { Value::Null } else { all.into() })
    }

    fn sub(&self, sub: &SubQuery, env: &Env<'_>) -> Result<Value> {
        let known = if sub.constant { self.results.borrow().get(&sub.id).cloned() } else { None };
        let rows = match known {
            Some(rows) => rows,
            None => {
                let rows = self.plan(&sub.plan, Some(env))?;
                if sub.constant {
                    self.results.borrow_mut().insert(sub.id, rows.clone());
                }
                rows
            }
        };
        let first = |row: &super::execute::Row| row.first().cloned().unwrap_or_default();
        match &sub.kind {
            SubKind::Exists => Ok((!rows.is_empty()).into()),
            SubKind::Scalar if rows.len() > 1 => Err(Error::new(
                ErrorKind::Cardinality,
                "more than one row returned by a subquery used as an expression",
            )),
            SubKind::Scalar => Ok(rows.first().map(first).unwrap_or_default()),
            SubKind::Array => Ok(Value::array(rows.iter().map(first).collect())),
            SubKind::In { left, negated } => {
                let left = self.values(left, env)?;
                if rows.is_empty() {
                    return Ok((*negated).into());
                }
                let wanted =
                    |row: &super::execute::Row| row.iter().take(left.len()).cloned().collect::<Vec<_>>();
                let found = if sub.constant {
                    let known = self.sets.borrow().get(&sub.id).cloned();
                    let set = known.unwrap_or_else(|| {
                        let set = Rc::new(rows.iter().map(wanted).collect());
                        self.sets.borrow_mut().insert(sub.id, Rc::clone(&set));
                        set
                    });
                    set.contains(&left)
                } else {
                    rows.iter().any(|r| wanted(r) == left)
                };
                if left.iter().any(Value::is_null) {
                    return Ok(Value::Null);
                }
                if found {
                    return Ok((!negated).into());
                }
                let unknown = rows.iter().any(|r| r.iter().take(left.len()).any(Value::is_null));
                Ok(if unknown { Value::Null } else { (*negated).into() })
            }
            SubKind::Quantified { op, left, all } => {
                let left = self.value(left, env)?;
                let items: Vec<Value> = rows.iter().map(first).collect();
                self.quantified(*op, &left, items.iter(), *all)
            }
        }
    }

    /// An operator's result; NULL for NULL.
    pub fn apply(&self, op: Op, left: &Value, right: &Value) -> Result<Value> {
        if op == Op::ArrayConcat {
            return Ok(match (left, right) {
                (Value::Array(a), Value::Array(b)) => {
                    let items = a.items.iter().chain(&b.items).cloned().collect();
                    Value::Array(ArrayValue { lower: a.lower, items }.into())
                }
                (Value::Null, other) | (other, _) => other.clone(),
            });
        }
        if left.is_null() || right.is_null() {
            return Ok(Value::Null);
        }
        Ok(match op {
            Op::Eq => (left == right).into(),
            Op::Ne => (left != right).into(),
            Op::Lt => (left < right).into(),
            Op::Le => (left <= right).into(),
            Op::Gt => (left > right).into(),
            Op::Ge => (left >= right).into(),
            Op::Regex { insensitive, negated } => match (left.as_str(), right.as_str()) {
                (Some(text), Some(pattern)) => {
                    (self.regex(pattern, insensitive)?.is_match(text) != negated).into()
                }
                _ => Value::Null,
            },
            Op::Like { insensitive, negated } => match (left.as_str(), right.as_str()) {
                (Some(text), Some(pattern)) => {
                    let matches = if insensitive {
                        like(&text.to_lowercase(), &pattern.to_lowercase())
                    } else {
                        like(text, pattern)
                    };
                    (matches != negated).into()
                }
                _ => Value::Null,
            },
            Op::Concat => match (left.as_str(), right.as_str()) {
                (Some(a), Some(b)) => format!("{a}{b}").into(),
                _ => Value::Null,
            },
            Op::Contains | Op::Contained | Op::Overlap => match (left.as_array(), right.as_array()) {
                (Some(a), Some(b)) => {
                    let within = |a: &ArrayValue, b: &ArrayValue| b.items.iter().all(|v| a.items.contains(v));
                    match op {
                        Op::Contains => within(a, b),
                        Op::Contained => within(b, a),
                        _ => a.items.iter().any(|v| b.items.contains(v)),
                    }
                    .into()
                }
                _ => Value::Null,
            },
            _ => arithmetic(op, left, right)?,
        })
    }
}

fn overflow() -> Error {
    Error::new(ErrorKind::NumericOutOfRange, "bigint out of range")
}

fn arithmetic(op: Op, left: &Value, right: &Value) -> Result<Value> {
    let zero = || Error::new(ErrorKind::DivisionByZero, "division by zero");
    Ok(match (left, right) {
        (Value::Int(a), Value::Int(b)) => Value::Int(
            match op {
                Op::Add => a.checked_add(*b),
                Op::Sub => a.checked_sub(*b),
                Op::Mul => a.checked_mul(*b),
                Op::Div | Op::Mod if *b == 0 => return Err(zero()),
                Op::Div => a.checked_div(*b),
                Op::Mod => a.checked_rem(*b),
                Op::BitAnd => Some(a & b),
                _ => Some(a | b),
            }
            .ok_or_else(overflow)?,
        ),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            let (a, b) = (left.as_float().unwrap_or(0.0), right.as_float().unwrap_or(0.0));
            Value::Float(match op {
                Op::Add => a + b,
                Op::Sub => a - b,
                Op::Mul => a * b,
                Op::Div | Op::Mod if b == 0.0 => return Err(zero()),
                Op::Div => a / b,
                _ => a % b,
            })
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let gone = a.saturating_sub(*b);
            let day = 86_400_000_000;
            Value::Interval {
                months: 0,
                days: i32::try_from(gone / day).unwrap_or(i32::MAX),
                micros: gone % day,
            }
        }
        (Value::Timestamp(t), Value::Interval { months, days, micros })
        | (Value::Interval { months, days, micros }, Value::Timestamp(t)) => {
            let whole = i64::from(*months) * 30 + i64::from(*days);
            let step = whole.saturating_mul(86_400_000_000).saturating_add(*micros);
            Value::Timestamp(if op == Op::Sub { t.saturating_sub(step) } else { t.saturating_add(step) })
        }
        // A date and days.
        (Value::Timestamp(t), Value::Int(days)) => {
            let step = days.saturating_mul(86_400_000_000);
            Value::Timestamp(if op == Op::Sub { t.saturating_sub(step) } else { t.saturating_add(step) })
        }
        (
            Value::Interval { months, days, micros },
            Value::Interval { months: months2, days: days2, micros: micros2 },
        ) => {
            let sign = if op == Op::Sub { -1 } else { 1 };
            Value::Interval {
                months: months.saturating_add(months2.saturating_mul(sign)),
                days: days.saturating_add(days2.saturating_mul(sign)),
                micros: micros.saturating_add(micros2.saturating_mul(i64::from(sign))),
            }
        }
        _ => Value::Null,
    })
}

/// An element by its number; NULL outside.
pub(super) fn element(array: &ArrayValue, index: i64) -> Value {
    index
        .checked_sub(array.lower)
        .and_then(|i| usize::try_from(i).ok())
        .and_then(|i| array.items.get(i))
        .cloned()
        .unwrap_or_default()
}

/// LIKE: `%` any text, `_` any character, `\` takes the next one as it is.
pub(super) fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let (mut t, mut p) = (0, 0);
    // Where to go on after the latest `%` when what follows it does not match.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some('%') => {
                retry = Some((t, p + 1));
                p += 1;
                continue;
            }
            Some('_') if t < text.len() => Some(1),
            Some('\\') if p + 1 < pattern.len() => (text.get(t) == pattern.get(p + 1)).then_some(2),
            Some(c) => (text.get(t) == Some(c)).then_some(1),
            None if t == text.len() => return true,
            None => None,
        };
        match (step, retry) {
            (Some(step), _) => {
                t += 1;
                p += step;
            }
            (None, Some((from, next))) if from < text.len() => {
                retry = Some((from + 1, next));
                t = from + 1;
                p = next;
            }
            _ => return false,
        }
    }
}

/// The value of an aggregate over its arguments, row by row.
pub(super) fn fold(kind: AggregateKind, mut inputs: Vec<Vec<Value>>) -> Value {
    if skips_nulls(kind) {
        inputs.retain(|i| i.first().is_some_and(|v| !v.is_null()));
    }
    let count = inputs.len();
    let separator = |i: &Vec<Value>| i.get(1).and_then(Value::as_str).unwrap_or_default().to_string();
    if kind == AggregateKind::StringAgg {
        let mut out = String::new();
        for (n, input) in inputs.iter().enumerate() {
            if n > 0 {
                out.push_str(&separator(input));
            }
            out.push_str(input.first().and_then(Value::as_str).unwrap_or_default());
        }
        return if count == 0 { Value::Null } else { out.into() };
    }
    let firsts: Vec<Value> = inputs.into_iter().map(|i| i.into_iter().next().unwrap_or_default()).collect();
    match kind {
        AggregateKind::CountRows | AggregateKind::Count => count.into(),
        AggregateKind::First => firsts.into_iter().next().unwrap_or_default(),
        AggregateKind::Min => firsts.into_iter().min().unwrap_or_default(),
        AggregateKind::Max => firsts.into_iter().max().unwrap_or_default(),
        AggregateKind::ArrayAgg if firsts.is_empty() => Value::Null,
        AggregateKind::ArrayAgg => Value::array(firsts),
        AggregateKind::BoolAnd | AggregateKind::BoolOr if firsts.is_empty() => Value::Null,
        AggregateKind::BoolAnd => firsts.iter().all(|v| *v == Value::Bool(true)).into(),
        AggregateKind::BoolOr => firsts.contains(&Value::Bool(true)).into(),
        AggregateKind::Sum | AggregateKind::Avg if firsts.is_empty() => Value::Null,
        AggregateKind::Sum => firsts
            .into_iter()
            .reduce(|a, b| arithmetic(Op::Add, &a, &b).unwrap_or_default())
            .unwrap_or_default(),
        _ => Value::Float(firsts.iter().filter_map(Value::as_float).sum::<f64>() / count as f64),
    }
}
