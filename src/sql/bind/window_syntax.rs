//! Window calls in the syntax tree: named windows put in place, WITH TIES made a condition, and every call made one of a
//! placeholder whose first argument, a string, says what the tree said.
//!
//! Boundary: syntax only, before planning; [`super::window`] makes bound calls of the placeholders.

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, DuplicateTreatment, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident,
    NamedWindowDefinition, NamedWindowExpr, NullTreatment, Query, Select, SelectItem, SetExpr, VisitMut,
    VisitorMut, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};

use super::checks;
use super::prepare::{fold, string};
use super::provider::is_aggregate;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::window::WindowKind;
use crate::sql::functions::no_function;
use crate::sql::functions::windows::PREFIX;

/// The call that the lexer makes of `EXCLUDE …`, as the last item of ORDER BY or PARTITION BY.
pub const EXCLUDE: &str = "freshet_exclude";

fn windowing(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Windowing, message)
}

// ---- Named windows ----

/// Puts the windows that a SELECT names where their names stand.
pub fn name_windows(select: &mut Select) -> Result<()> {
    let windows = definitions(&select.named_window)?;
    let mut named = Named { windows: &windows, depth: 0 };
    let mut visit = |expr: &mut ast::Expr| put(expr, &mut named);
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } = item {
            visit(e)?;
        }
    }
    if let Some(ast::Distinct::On(exprs)) = &mut select.distinct {
        exprs.iter_mut().try_for_each(&mut visit)?;
    }
    if let Some(qualify) = &mut select.qualify {
        visit(qualify)?;
    }
    select.named_window.clear();
    Ok(())
}

/// The same for the ORDER BY of a query, which belongs to its SELECT.
pub fn name_windows_of_order(query: &mut Query) -> Result<()> {
    let (SetExpr::Select(select), Some(order)) = (query.body.as_ref(), &mut query.order_by) else {
        return Ok(());
    };
    let windows = definitions(&select.named_window)?;
    let mut named = Named { windows: &windows, depth: 0 };
    if let ast::OrderByKind::Expressions(exprs) = &mut order.kind {
        for e in exprs {
            put(&mut e.expr, &mut named)?;
        }
    }
    Ok(())
}

fn put(expr: &mut ast::Expr, named: &mut Named<'_>) -> Result<()> {
    match expr.visit(named) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

/// The windows of a WINDOW clause, each written out.
fn definitions(clause: &[NamedWindowDefinition]) -> Result<Vec<(String, WindowSpec)>> {
    let mut windows: Vec<(String, WindowSpec)> = Vec::new();
    for NamedWindowDefinition(name, window) in clause {
        let name = fold(name);
        if windows.iter().any(|(n, _)| *n == name) {
            return Err(windowing(format!("window \"{name}\" is already defined")));
        }
        let NamedWindowExpr::WindowSpec(spec) = window else {
            return Err(Error::new(ErrorKind::Syntax, format!("window \"{name}\" has no definition")));
        };
        let spec = extended(spec, &windows)?;
        windows.push((name, spec));
    }
    Ok(windows)
}

fn find<'a>(name: &Ident, windows: &'a [(String, WindowSpec)]) -> Result<&'a WindowSpec> {
    let name = fold(name);
    windows
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, w)| w)
        .ok_or_else(|| Error::new(ErrorKind::UndefinedObject, format!("window \"{name}\" does not exist")))
}

/// A window with what it takes from the one it extends.
fn extended(spec: &WindowSpec, windows: &[(String, WindowSpec)]) -> Result<WindowSpec> {
    let Some(base) = &spec.window_name else { return Ok(spec.clone()) };
    let (name, base) = (fold(base), find(base, windows)?);
    if !spec.partition_by.iter().all(|e| excluded(e).is_some()) {
        return Err(windowing(format!("cannot override PARTITION BY clause of window \"{name}\"")));
    }
    let marker = |e: &ast::OrderByExpr| excluded(&e.expr).is_some();
    if !base.order_by.is_empty() && !spec.order_by.iter().all(marker) {
        return Err(windowing(format!("cannot override ORDER BY clause of window \"{name}\"")));
    }
    if base.window_frame.is_some() {
        return Err(windowing(format!("cannot copy window \"{name}\" because it has a frame clause")));
    }
    let order_by = base.order_by.iter().chain(&spec.order_by).cloned().collect();
    Ok(WindowSpec {
        window_name: None,
        partition_by: base.partition_by.iter().chain(&spec.partition_by).cloned().collect(),
        order_by,
        window_frame: spec.window_frame.clone(),
    })
}

struct Named<'a> {
    windows: &'a [(String, WindowSpec)],
    depth: usize,
}

impl VisitorMut for Named<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
        let ast::Expr::Function(f) = expr else { return ControlFlow::Continue(()) };
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let spec = match &f.over {
            Some(WindowType::NamedWindow(name)) => find(name, self.windows).cloned(),
            Some(WindowType::WindowSpec(spec)) if spec.window_name.is_some() => extended(spec, self.windows),
            _ => return ControlFlow::Continue(()),
        };
        match spec {
            Ok(spec) => f.over = Some(WindowType::WindowSpec(spec)),
            Err(e) => return ControlFlow::Break(e),
        }
        ControlFlow::Continue(())
    }
}

// ---- WITH TIES ----

/// `ORDER BY k FETCH FIRST n ROWS WITH TIES` as a condition: `rank() OVER (ORDER BY k) <= n`.
pub fn with_ties(query: &mut Query) -> Result<()> {
    let Some(fetch) = query.fetch.take() else { return Ok(()) };
    let number = |n: &str| ast::Expr::Value(ast::Value::Number(n.to_string(), false).with_empty_span());
    let mut bound = fetch.quantity.unwrap_or_else(|| number("1"));
    // Rows that are passed over are counted one by one.
    let mut passed = None;
    if let Some(ast::LimitClause::LimitOffset { offset, .. }) = &mut query.limit_clause
        && let Some(offset) = offset.take()
    {
        let offset = ast::Expr::Nested(Box::new(offset.value));
        bound = binary(bound, ast::BinaryOperator::Plus, offset.clone());
        passed = Some(offset);
        query.limit_clause = None;
    }
    let order = match query.order_by.as_ref().map(|o| &o.kind) {
        Some(ast::OrderByKind::Expressions(exprs)) if !exprs.is_empty() => exprs.clone(),
        _ => {
            let refusal = "WITH TIES cannot be specified without ORDER BY clause";
            return Err(Error::new(ErrorKind::Syntax, refusal));
        }
    };
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::unsupported("WITH TIES after UNION is not supported"));
    };
    let order_by = order
        .into_iter()
        .map(|o| Ok(ast::OrderByExpr { expr: output(o.expr, &select.projection)?, ..o }))
        .collect::<Result<Vec<_>>>()?;
    let over = |name: &str| {
        let mut call = super::prepare::call(name, vec![]);
        if let ast::Expr::Function(f) = &mut call {
            f.over = Some(WindowType::WindowSpec(WindowSpec {
                window_name: None,
                partition_by: vec![],
                order_by: order_by.clone(),
                window_frame: None,
            }));
        }
        call
    };
    let mut condition = binary(over("rank"), ast::BinaryOperator::LtEq, bound);
    if let Some(passed) = passed {
        let behind = binary(over("row_number"), ast::BinaryOperator::Gt, passed);
        condition = binary(condition, ast::BinaryOperator::And, behind);
    }
    if let Some(old) = select.qualify.take() {
        condition = binary(ast::Expr::Nested(Box::new(old)), ast::BinaryOperator::And, condition);
    }
    select.qualify = Some(condition);
    Ok(())
}

fn binary(left: ast::Expr, op: ast::BinaryOperator, right: ast::Expr) -> ast::Expr {
    ast::Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// What an item of ORDER BY names: an output by its number or name, or else itself.
fn output(item: ast::Expr, projection: &[SelectItem]) -> Result<ast::Expr> {
    let named = |name: &str| {
        projection.iter().find_map(|p| match p {
            SelectItem::ExprWithAlias { expr, alias }
                if super::prepare::visible_name(&fold(alias)) == name =>
            {
                Some(expr.clone())
            }
            _ => None,
        })
    };
    Ok(match &item {
        ast::Expr::Identifier(i) => named(&fold(i)).unwrap_or(item),
        ast::Expr::Value(v) => {
            let ast::Value::Number(n, _) = &v.value else { return Ok(item) };
            let wildcard =
                |p: &SelectItem| matches!(p, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
            let at = n.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            match at.and_then(|at| projection.get(at)) {
                Some(SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. })
                    if !projection.iter().any(wildcard) =>
                {
                    e.clone()
                }
                _ => {
                    return Err(Error::unsupported(
                        "WITH TIES after ORDER BY a number is not supported here",
                    ));
                }
            }
        }
        _ => item,
    })
}

// ---- The syntax tree ----

/// The rows that an EXCLUDE marker leaves out.
fn excluded(expr: &ast::Expr) -> Option<&'static str> {
    let ast::Expr::Function(f) = expr else { return None };
    let name = f.name.0.last().and_then(|p| p.as_ident())?;
    let FunctionArguments::List(list) = &f.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Value(v)))] = list.args.as_slice() else {
        return None;
    };
    let ast::Value::SingleQuotedString(text) = &v.value else { return None };
    if name.value != EXCLUDE {
        return None;
    }
    ["no others", "current row", "group", "ties"].into_iter().find(|x| x == text)
}

/// What a window call is replaced by; refuses calls that cannot be window calls.
pub fn rewrite(f: &mut ast::Function) -> Result<Option<ast::Expr>> {
    let name = f.name.0.last().and_then(|p| p.as_ident()).map(fold).unwrap_or_default();
    if name.starts_with(PREFIX) {
        return Ok(None);
    }
    let kind = WindowKind::of_name(&name);
    let Some(over) = f.over.take() else {
        // first_value and last_value are aggregates, too.
        if kind.is_some() && !is_aggregate(&name) {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("window function {name} requires an OVER clause"),
            ));
        }
        return Ok(None);
    };
    if kind.is_none() && !is_aggregate(&name) {
        return Err(Error::new(
            ErrorKind::WrongObjectType,
            format!("OVER specified, but {name} is not a window function nor an aggregate function"),
        ));
    }
    let WindowType::WindowSpec(mut spec) = over else {
        return Err(Error::internal("a named window was not put in place"));
    };
    let (args, star, ignore_nulls) = arguments(f, &name, kind.is_none())?;
    let exclude = take_exclude(&mut spec);
    let frame = frame_text(&spec)?;
    for e in args.iter().chain(&spec.partition_by).chain(spec.order_by.iter().map(|o| &o.expr)) {
        if checks::has_window(e) {
            return Err(windowing("window function calls cannot be nested"));
        }
    }
    let offsets: Vec<ast::Expr> = spec.window_frame.take().map_or(vec![], |frame| {
        let bounds = std::iter::once(frame.start_bound).chain(frame.end_bound);
        bounds
            .filter_map(|b| match b {
                WindowFrameBound::Preceding(e) | WindowFrameBound::Following(e) => e.map(|e| *e),
                WindowFrameBound::CurrentRow => None,
            })
            .collect()
    });
    let filter = f.filter.take();
    let spec_text = format!(
        "{};{};{};{};{frame};{exclude}",
        args.len(),
        u8::from(star),
        u8::from(filter.is_some()),
        u8::from(ignore_nulls)
    );
    let mut all = vec![string(spec_text)];
    all.extend(args);
    all.extend(filter.map(|e| *e));
    all.extend(offsets);
    let ast::Expr::Function(mut call) = super::prepare::call(&format!("{PREFIX}{name}"), all) else {
        return Err(Error::internal("a call that is none"));
    };
    call.over = Some(WindowType::WindowSpec(spec));
    Ok(Some(ast::Expr::Function(call)))
}

/// The arguments of a call, whether they are `*`, and whether NULLs are ignored.
fn arguments(f: &ast::Function, name: &str, aggregate: bool) -> Result<(Vec<ast::Expr>, bool, bool)> {
    if f.filter.is_some() && !aggregate {
        return Err(Error::unsupported("FILTER is not implemented for non-aggregate window functions"));
    }
    if !f.within_group.is_empty() {
        return Err(Error::unsupported(format!("OVER is not supported for ordered-set aggregate {name}")));
    }
    let mut treatment = f.null_treatment;
    let (mut args, mut star) = (vec![], false);
    if let FunctionArguments::List(list) = &f.args {
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            return Err(Error::unsupported("DISTINCT is not implemented for window functions"));
        }
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(t) => treatment = Some(*t),
                FunctionArgumentClause::OrderBy(_) => {
                    return Err(Error::unsupported(
                        "aggregate ORDER BY is not implemented for window functions",
                    ));
                }
                _ => {
                    return Err(Error::unsupported(format!(
                        "{clause} in a window function is not supported"
                    )));
                }
            }
        }
        for arg in &list.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => args.push(e.clone()),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => star = true,
                _ => return Err(Error::unsupported("named arguments of window functions are not supported")),
            }
        }
    }
    if star && name != "count" {
        return Err(no_function(name, &[]));
    }
    if !star && args.is_empty() && name == "count" {
        return Err(Error::new(
            ErrorKind::WrongObjectType,
            "count(*) must be used to call a parameterless aggregate function",
        ));
    }
    let offset_function = matches!(name, "lag" | "lead" | "first_value" | "last_value" | "nth_value");
    if treatment.is_some() && !offset_function {
        return Err(Error::new(
            ErrorKind::WrongObjectType,
            format!("function {name} does not accept RESPECT/IGNORE NULLS"),
        ));
    }
    Ok((args, star, treatment == Some(NullTreatment::IgnoreNulls)))
}

fn take_exclude(spec: &mut WindowSpec) -> &'static str {
    if let Some(found) = spec.order_by.last().and_then(|o| excluded(&o.expr)) {
        spec.order_by.pop();
        return found;
    }
    if let Some(found) = spec.partition_by.last().and_then(excluded) {
        spec.partition_by.pop();
        return found;
    }
    "no others"
}

/// The frame as text, checked as PostgreSQL's grammar and analysis check it.
fn frame_text(spec: &WindowSpec) -> Result<String> {
    let Some(frame) = &spec.window_frame else { return Ok("range;first;current".to_string()) };
    let current = WindowFrameBound::CurrentRow;
    let end = frame.end_bound.as_ref().unwrap_or(&current);
    let rank = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(None) => (0, "first"),
        WindowFrameBound::Preceding(Some(_)) => (1, "preceding"),
        WindowFrameBound::CurrentRow => (2, "current"),
        WindowFrameBound::Following(Some(_)) => (3, "following"),
        WindowFrameBound::Following(None) => (4, "last"),
    };
    let ((from, start), (to, end)) = (rank(&frame.start_bound), rank(end));
    let refusal = match (from, to) {
        (4, _) => Some("frame start cannot be UNBOUNDED FOLLOWING"),
        (_, 0) => Some("frame end cannot be UNBOUNDED PRECEDING"),
        (2, 1) => Some("frame starting from current row cannot have preceding rows"),
        (3, 1 | 2) => Some("frame starting from following row cannot have preceding rows"),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return Err(windowing(refusal));
    }
    let units = match frame.units {
        WindowFrameUnits::Rows => "rows",
        WindowFrameUnits::Range => "range",
        WindowFrameUnits::Groups => "groups",
    };
    if frame.units == WindowFrameUnits::Range
        && (matches!(from, 1 | 3) || matches!(to, 1 | 3))
        && spec.order_by.len() != 1
    {
        return Err(windowing("RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column"));
    }
    if frame.units == WindowFrameUnits::Groups && spec.order_by.is_empty() {
        return Err(windowing("GROUPS mode requires an ORDER BY clause"));
    }
    Ok(format!("{units};{start};{end}"))
}
