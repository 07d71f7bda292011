//! Syntax that DataFusion's planner does not know, or knows with another meaning, as calls of functions that the binder
//! resolves: subscripts, LIKE and SIMILAR TO with escapes, OVERLAPS, prefix operators.
//!
//! Boundary: one node of the syntax tree; [`super::prepare`] walks the tree.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Subscript, UnaryOperator, Value, ValueWithSpan,
};

use super::prepare::{call, fold, string};
use crate::error::{Error, ErrorKind, Result};

fn number(n: i32) -> Expr {
    Expr::Value(Value::Number(n.to_string(), false).with_empty_span())
}

fn negate(expr: Expr, negated: bool) -> Expr {
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) } } else { expr }
}

fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(s) | Value::EscapedStringLiteral(s) => Some(s),
            _ => None,
        },
        _ => None,
    }
}

/// The escape of a LIKE: the backslash unless it is written.
fn escape(given: &Option<ValueWithSpan>) -> Expr {
    given.as_ref().map_or_else(|| string("\\"), |v| Expr::Value(v.clone()))
}

/// Whether DataFusion's LIKE does what is meant: a constant pattern with the usual escape.
fn plain_like(pattern: &Expr, given: &Option<ValueWithSpan>) -> bool {
    given.is_none() && text_of(pattern).is_some_and(|p| !p.contains('\\'))
}

/// What an expression is replaced by, if it is one of these.
pub fn rewrite(expr: &mut Expr) -> Result<Option<Expr>> {
    Ok(Some(match expr {
        Expr::Like { negated, any, expr, pattern, escape_char } => {
            if let Some(quantified) = like_quantified(*negated, *any, expr, pattern, "~~") {
                return Ok(Some(quantified));
            }
            if plain_like(pattern, escape_char) {
                return Ok(None);
            }
            let args = vec![expr.as_ref().clone(), pattern.as_ref().clone(), escape(escape_char)];
            negate(call("like_escape", args), *negated)
        }
        Expr::ILike { negated, any, expr, pattern, escape_char } => {
            if let Some(quantified) = like_quantified(*negated, *any, expr, pattern, "~~*") {
                return Ok(Some(quantified));
            }
            if plain_like(pattern, escape_char) {
                return Ok(None);
            }
            let args = vec![expr.as_ref().clone(), pattern.as_ref().clone(), escape(escape_char)];
            negate(call("ilike_escape", args), *negated)
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char } => {
            let args = vec![expr.as_ref().clone(), pattern.as_ref().clone(), escape(escape_char)];
            negate(call("similar_to", args), *negated)
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let mut value = root.as_ref().clone();
            for access in access_chain.iter() {
                value = match access {
                    AccessExpr::Subscript(Subscript::Index { index }) => {
                        call("subscript", vec![value, index.clone()])
                    }
                    AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: None }) => {
                        let from = lower_bound.clone().unwrap_or_else(|| number(1));
                        let to = upper_bound.clone().unwrap_or_else(|| number(i32::MAX));
                        call("array_slice", vec![value, from, to])
                    }
                    AccessExpr::Subscript(_) => {
                        return Err(Error::new(ErrorKind::Syntax, "slices have no stride"));
                    }
                    AccessExpr::Dot(_) => return Ok(None),
                };
            }
            value
        }
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => {
            let (Expr::Tuple(l), Expr::Tuple(r)) = (left.as_ref(), right.as_ref()) else { return Ok(None) };
            if l.len() != 2 {
                return Err(wrong_number("left"));
            }
            if r.len() != 2 {
                return Err(wrong_number("right"));
            }
            call("overlaps", l.iter().chain(r).cloned().collect())
        }
        Expr::Value(v) => {
            let Value::UnicodeStringLiteral(text) = &v.value else { return Ok(None) };
            string(text.clone())
        }
        Expr::Substring { expr, substring_from: Some(from), substring_for, shorthand: true, .. } => {
            let mut args = vec![expr.as_ref().clone(), from.as_ref().clone()];
            args.extend(substring_for.as_deref().cloned());
            call("substr", args)
        }
        Expr::Function(f) => return named_arguments(f),
        Expr::UnaryOp { op: UnaryOperator::PGSquareRoot, expr } => {
            let float = Expr::Cast {
                kind: CastKind::Cast,
                expr: expr.clone(),
                data_type: DataType::DoublePrecision,
                array: false,
                format: None,
            };
            call("sqrt", vec![float])
        }
        Expr::UnaryOp { op: UnaryOperator::PGCubeRoot, expr } => call("cbrt", vec![expr.as_ref().clone()]),
        Expr::UnaryOp { op: UnaryOperator::PGAbs, expr } => call("abs", vec![expr.as_ref().clone()]),
        _ => return Ok(None),
    }))
}

/// `x LIKE ANY (array)` and `x LIKE ALL (array)`.
fn like_quantified(negated: bool, any: bool, value: &Expr, pattern: &Expr, op: &str) -> Option<Expr> {
    let op = if negated { format!("!{op}") } else { op.to_string() };
    let (name, array) = match pattern {
        Expr::Function(f) => {
            let name = f.name.0.last().and_then(|p| p.as_ident()).map(fold)?;
            let FunctionArguments::List(list) = &f.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] = list.args.as_slice() else {
                return None;
            };
            match name.as_str() {
                "any" | "some" => ("any_op", array),
                "all" => ("all_op", array),
                _ if any => ("any_op", pattern),
                _ => return None,
            }
        }
        pattern if any => ("any_op", pattern),
        _ => return None,
    };
    Some(call(name, vec![string(op), value.clone(), array.clone()]))
}

/// `make_interval(days => 10)`: named arguments in their places.
fn named_arguments(f: &mut Function) -> Result<Option<Expr>> {
    const PLACES: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];
    let FunctionArguments::List(list) = &f.args else { return Ok(None) };
    let name = f.name.0.last().and_then(|p| p.as_ident()).map(fold).unwrap_or_default();
    let named = |a: &FunctionArg| matches!(a, FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. });
    if name != "make_interval" || !list.args.iter().any(named) {
        return Ok(None);
    }
    let mut values = vec![number(0); PLACES.len()];
    for (i, arg) in list.args.iter().enumerate() {
        let (place, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => (Some(i), e.clone()),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => {
                let name = fold(name);
                (PLACES.iter().position(|p| *p == name), e.clone())
            }
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(e), ..
            } => {
                let name = fold(name);
                (PLACES.iter().position(|p| *p == name), e.clone())
            }
            _ => (None, number(0)),
        };
        let Some(slot) = place.and_then(|p| values.get_mut(p)) else {
            return Err(Error::new(ErrorKind::UndefinedFunction, format!("function {f} does not exist")));
        };
        *slot = value;
    }
    Ok(Some(call("make_interval", values)))
}

fn wrong_number(side: &str) -> Error {
    Error::new(ErrorKind::Syntax, format!("wrong number of parameters on {side} side of OVERLAPS expression"))
}
