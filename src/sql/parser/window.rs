//! Window functions in FROM: TUMBLE, HOP, CUMULATE and SESSION in either spelling.
//!
//! Boundary: recognises them in sqlparser's tree. `TUMBLE(t, ts, INTERVAL '1' MINUTE)` arrives as a table with
//! arguments, `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))` as a table function (the lexer has
//! dropped the inner TABLE); [`window_tvf`] gives the same answer for both.

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query,
    TableAlias, TableFactor,
};

use super::fold;
use crate::error::{Error, ErrorKind, Result};

/// Which window function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    /// TUMBLE(rel, ts, size [, offset]).
    Tumble,
    /// HOP(rel, ts, slide, size [, offset]).
    Hop,
    /// CUMULATE(rel, ts, step, size).
    Cumulate,
    /// SESSION(rel, ts, gap [, …]).
    Session,
}

impl WindowKind {
    /// Its name, upper case.
    pub fn name(self) -> &'static str {
        match self {
            WindowKind::Tumble => "TUMBLE",
            WindowKind::Hop => "HOP",
            WindowKind::Cumulate => "CUMULATE",
            WindowKind::Session => "SESSION",
        }
    }
}

/// What a window function reads.
#[derive(Debug, Clone, Copy)]
pub enum WindowInput<'a> {
    /// A relation or a common table expression: the parts of its name.
    Relation(&'a [Ident]),
    /// A subquery.
    Subquery(&'a Query),
}

/// A window function in FROM.
#[derive(Debug, Clone)]
pub struct WindowTvf<'a> {
    /// Which.
    pub kind: WindowKind,
    /// Its input.
    pub input: WindowInput<'a>,
    /// The event-time column, possibly qualified by the relation's name.
    pub time_column: &'a [Ident],
    /// The positional arguments after the time column.
    pub intervals: Vec<&'a Expr>,
    /// Named arguments (`gap => …`, `key => …`), names folded.
    pub named: Vec<(String, &'a Expr)>,
    /// The alias, if given.
    pub alias: Option<&'a TableAlias>,
}

/// Recognises a window function in FROM; none for any other table factor, an error for a malformed one.
pub fn window_tvf(factor: &TableFactor) -> Option<Result<WindowTvf<'_>>> {
    let (name, args, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, &args.args, alias),
        TableFactor::Function { name, args, alias, .. } => (name, args, alias),
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => match &function.args {
            FunctionArguments::List(list) => (&function.name, &list.args, alias),
            _ => return None,
        },
        _ => return None,
    };
    let kind = kind_of(name)?;
    Some(arguments(kind, args, alias.as_ref()))
}

fn kind_of(name: &ObjectName) -> Option<WindowKind> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
    match fold(ident).as_str() {
        "tumble" => Some(WindowKind::Tumble),
        "hop" => Some(WindowKind::Hop),
        "cumulate" => Some(WindowKind::Cumulate),
        "session" => Some(WindowKind::Session),
        _ => None,
    }
}

fn arguments<'a>(
    kind: WindowKind,
    args: &'a [FunctionArg],
    alias: Option<&'a TableAlias>,
) -> Result<WindowTvf<'a>> {
    let wrong = |what: &str| {
        Error::new(ErrorKind::Syntax, format!("{what} in {}", kind.name())).with_hint(
            "Write it as TUMBLE(relation, time_column, INTERVAL '10 minutes') or \
         TABLE(TUMBLE(TABLE relation, DESCRIPTOR(time_column), INTERVAL '10 minutes')).",
        )
    };
    let mut positional = Vec::new();
    let mut named = Vec::new();
    for arg in args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if named.is_empty() => positional.push(expr),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                named.push((fold(name), expr))
            }
            _ => return Err(wrong("an argument that is not an expression")),
        }
    }
    // Flink's named arguments stand for the first two positions.
    let mut take = |names: [&str; 2]| {
        let at = named.iter().position(|(n, _)| names.contains(&n.as_str()))?;
        Some(named.remove(at).1)
    };
    let mut positional = positional.into_iter();
    let input = positional.next().or_else(|| take(["data", "relation"]));
    let input = input.ok_or_else(|| wrong("missing relation"))?;
    let time = positional.next().or_else(|| take(["timecol", "time_column"]));
    let time = time.ok_or_else(|| wrong("missing time column"))?;
    let input = match input {
        Expr::Subquery(query) => WindowInput::Subquery(query),
        other => WindowInput::Relation(
            column_parts(other).ok_or_else(|| wrong("expected a relation or subquery"))?,
        ),
    };
    let time_column = descriptor(time).ok_or_else(|| wrong("expected a time column"))?;
    Ok(WindowTvf { kind, input, time_column, intervals: positional.collect(), named, alias })
}

fn column_parts(expr: &Expr) -> Option<&[Ident]> {
    match expr {
        Expr::Identifier(ident) => Some(std::slice::from_ref(ident)),
        Expr::CompoundIdentifier(parts) => Some(parts),
        _ => None,
    }
}

/// `ts` or `DESCRIPTOR(ts)`.
fn descriptor(expr: &Expr) -> Option<&[Ident]> {
    let Expr::Function(function) = expr else { return column_parts(expr) };
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return None };
    match &function.args {
        FunctionArguments::List(list) if fold(name) == "descriptor" => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] => column_parts(column),
            _ => None,
        },
        _ => None,
    }
}
