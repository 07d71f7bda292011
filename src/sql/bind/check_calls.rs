//! What PostgreSQL refuses in a call before it looks at types: DISTINCT, FILTER, ORDER BY and WITHIN GROUP where they
//! mean nothing.
//!
//! Boundary: the syntax of one call; which names are aggregates is the provider's knowledge.

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments,
};

use super::checks::refuse;
use super::prepare::fold;
use super::provider;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::window::WindowKind;
use crate::sql::functions::aggregates::ORDERED_SET;
use crate::sql::functions::windows::PREFIX;

/// Ordered-set aggregates that may be called without WITHIN GROUP all the same.
const ALSO_PLAIN: &[&str] = &["approx_percentile"];

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::WrongObjectType, message)
}

/// Checks of one call.
pub fn call(f: &Function) -> Result<()> {
    let Some(name) = f.name.0.last().and_then(|p| p.as_ident()).map(fold) else { return Ok(()) };
    let (mut distinct, mut ordered, mut args): (bool, bool, &[FunctionArg]) = (false, false, &[]);
    if let FunctionArguments::List(list) = &f.args {
        distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        ordered = list.clauses.iter().any(|c| matches!(c, FunctionArgumentClause::OrderBy(_)));
        args = &list.args;
    }
    if !provider::is_aggregate(&name) {
        if f.over.is_some() || name.starts_with(PREFIX) || WindowKind::of_name(&name).is_some() {
            return Ok(());
        }
        let clauses = [
            (distinct, "DISTINCT"),
            (!f.within_group.is_empty(), "WITHIN GROUP"),
            (ordered, "ORDER BY"),
            (f.filter.is_some(), "FILTER"),
        ];
        return match clauses.iter().find(|(there, _)| *there) {
            Some((_, what)) => {
                Err(wrong(format!("{what} specified, but {name} is not an aggregate function")))
            }
            None => Ok(()),
        };
    }
    if f.over.is_some() {
        if distinct {
            return Err(Error::unsupported("DISTINCT is not implemented for window functions"));
        }
        if ordered {
            return Err(Error::unsupported("aggregate ORDER BY is not implemented for window functions"));
        }
        if ORDERED_SET.contains(&name.as_str()) && !f.within_group.is_empty() {
            return Err(Error::unsupported(format!(
                "OVER is not supported for ordered-set aggregate {name}"
            )));
        }
    }
    let star = matches!(args, [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
    if name == "count" && args.is_empty() && matches!(f.args, FunctionArguments::List(_)) {
        return Err(wrong("count(*) must be used to call a parameterless aggregate function".into()));
    }
    if star && name != "count" {
        return Err(super::super::functions::no_function(&name, &[]));
    }
    if star && distinct {
        return Err(Error::new(ErrorKind::Syntax, "DISTINCT specified, but there is nothing to compare"));
    }
    within_group(&name, f, distinct)?;
    if let Some(condition) = &f.filter {
        refuse(condition, "FILTER", true)?;
    }
    let nested = args.iter().filter_map(|a| match a {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
        _ => None,
    });
    nested.into_iter().try_for_each(nested_call)
}

fn within_group(name: &str, f: &Function, distinct: bool) -> Result<()> {
    let set = ORDERED_SET.contains(&name);
    if f.within_group.is_empty() {
        return match set && !ALSO_PLAIN.contains(&name) {
            true => Err(wrong(format!("WITHIN GROUP is required for ordered-set aggregate {name}"))),
            false => Ok(()),
        };
    }
    if !set {
        return Err(wrong(format!("{name} is not an ordered-set aggregate, so it cannot have WITHIN GROUP")));
    }
    if distinct {
        return Err(Error::new(ErrorKind::Syntax, "cannot use DISTINCT with WITHIN GROUP"));
    }
    Ok(())
}

/// An aggregate has no aggregates of its own query inside.
fn nested_call(argument: &Expr) -> Result<()> {
    match refuse(argument, "an aggregate", true) {
        Err(e) if e.kind() == ErrorKind::Grouping => {
            Err(Error::new(ErrorKind::Grouping, "aggregate function calls cannot be nested"))
        }
        Err(_) => Err(Error::new(
            ErrorKind::Grouping,
            "aggregate function calls cannot contain window function calls",
        )),
        Ok(()) => Ok(()),
    }
}
