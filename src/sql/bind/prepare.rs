//! Preparing a syntax tree for DataFusion's planner: PostgreSQL's output names, and constructs rewritten into
//! function calls that the binder resolves itself.
//!
//! Output names may repeat in PostgreSQL and not in DataFusion; a repeated or invented name gets a suffix after
//! [`SUFFIX`], which no identifier contains, and [`visible_name`] takes it off again.
//!
//! Boundary: syntax only; no names are looked up.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableAlias,
    TableFactor, UnaryOperator, Value, VisitMut, VisitorMut,
};
use sqlparser::tokenizer::Span;

use super::{check_calls, checks, quantified, sets, shape, window_syntax};
use crate::error::{Error, ErrorKind, Result};

/// Separates a name from the number that makes it unique.
pub const SUFFIX: char = '\u{1}';

/// The name as the user sees it.
pub fn visible_name(name: &str) -> &str {
    name.split(SUFFIX).next().unwrap_or(name)
}

/// An identifier folded as PostgreSQL folds it.
pub fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Prepares a query; `top` when its columns go to the client.
pub fn prepare_query(query: &mut Query, top: bool) -> Result<()> {
    if top {
        name_outputs(&mut query.body);
    }
    run(query)
}

/// Prepares an expression.
pub fn prepare_expr(expr: &mut Expr) -> Result<()> {
    run(expr)
}

fn run(node: &mut impl VisitMut) -> Result<()> {
    match node.visit(&mut Preparer) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

fn name_outputs(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => name_items(&mut select.projection, true),
        SetExpr::SetOperation { left, .. } => name_outputs(left),
        _ => {}
    }
}

/// Gives every item that needs one an alias: PostgreSQL's name for it, made unique.
pub fn name_items(items: &mut [SelectItem], top: bool) {
    let wildcard =
        items.iter().any(|i| matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut seen: HashMap<String, usize> = HashMap::new();
    for item in items {
        let (expr, name, named) = match item {
            SelectItem::UnnamedExpr(e) => {
                let name = output_name(e);
                let plain = matches!(e, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                (e.clone(), name, plain)
            }
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), fold(alias), true),
            _ => continue,
        };
        if name.contains(SUFFIX) {
            continue;
        }
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        let unique = if *count > 1 || wildcard && top { format!("{name}{SUFFIX}{count}") } else { name };
        if named && *count == 1 && !(wildcard && top) {
            continue;
        }
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', unique) };
    }
}

/// PostgreSQL's name for an output without alias (FigureColname).
pub fn output_name(expr: &Expr) -> String {
    figure(expr).map_or_else(|| "?column?".to_string(), |(name, _)| name)
}

/// The name and how strongly it is meant: 2 for columns and functions, 1 for types and the like.
fn figure(expr: &Expr) -> Option<(String, u8)> {
    let strong = |name: &str| Some((name.to_string(), 2));
    match expr {
        Expr::Identifier(i) => Some((fold(i), 2)),
        Expr::CompoundIdentifier(parts) => parts.last().map(|i| (fold(i), 2)),
        Expr::Function(f) => f.name.0.last().and_then(|p| p.as_ident()).map(|i| (fold(i), 2)),
        Expr::Nested(e) | Expr::Collate { expr: e, .. } => figure(e),
        Expr::Cast { expr, data_type, .. } => match figure(expr) {
            Some((name, 2)) => Some((name, 2)),
            _ => Some((type_name(data_type), 1)),
        },
        Expr::TypedString(t) => Some((type_name(&t.data_type), 1)),
        Expr::Interval(_) => Some(("interval".to_string(), 1)),
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(figure) {
            Some((name, 2)) => Some((name, 2)),
            _ => Some(("case".to_string(), 1)),
        },
        Expr::Value(v) if matches!(v.value, Value::Boolean(_)) => Some(("bool".to_string(), 1)),
        Expr::Exists { .. } => strong("exists"),
        Expr::Array(_) => strong("array"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Position { .. } => strong("position"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::Tuple(_) => strong("row"),
        Expr::CompoundFieldAccess { root, .. } => figure(root),
        Expr::Subquery(q) => match q.body.as_ref() {
            SetExpr::Select(s) => match s.projection.first()? {
                SelectItem::UnnamedExpr(e) => figure(e),
                SelectItem::ExprWithAlias { alias, .. } => Some((fold(alias), 2)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn type_name(data_type: &DataType) -> String {
    match crate::sql::types::pg_type(data_type) {
        Ok(t) => t.element().unwrap_or(t).typname(),
        Err(_) => data_type.to_string().to_lowercase(),
    }
}

/// A call of a function of this name.
pub fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Expr::Function(ast::Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// A string constant.
pub fn string(value: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).with_empty_span())
}

fn as_flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(e) => ControlFlow::Break(e),
    }
}

struct Preparer;

impl VisitorMut for Preparer {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        shape::balance_unions(&mut query.body);
        let windows =
            window_syntax::with_ties(query).and_then(|()| window_syntax::name_windows_of_order(query));
        as_flow(windows.and_then(|()| checks::query(query)))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        shape::balance_connectives(expr);
        shape::tighten_sign(expr);
        if let Expr::Function(f) = expr {
            let checked = check_calls::call(f);
            check_calls::drop_constant_order(f);
            return as_flow(checked);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        let checked = window_syntax::name_windows(select).and_then(|()| checks::select(select));
        sets::whole_rows(select);
        name_items(&mut select.projection, false);
        as_flow(checked)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match sets::lateral(factor) {
            Ok(Some(subquery)) => *factor = subquery,
            Ok(None) => {}
            Err(e) => return ControlFlow::Break(e),
        }
        if let TableFactor::Table { name, alias, args: None, .. } = factor
            && alias.is_none()
            && name.0.len() > 1
            && let Some(last) = name.0.last().and_then(|p| p.as_ident())
        {
            *alias = Some(TableAlias { explicit: true, name: last.clone(), columns: vec![], at: None });
        }
        as_flow(checks::derived(factor))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match rewrite(expr) {
            Ok(Some(new)) => *expr = new,
            Ok(None) => {}
            Err(e) => return ControlFlow::Break(e),
        }
        ControlFlow::Continue(())
    }
}

/// What an expression is replaced by, if it is.
fn rewrite(expr: &mut Expr) -> Result<Option<Expr>> {
    if let Some(new) = super::syntax::rewrite(expr)? {
        return Ok(Some(new));
    }
    Ok(Some(match expr {
        Expr::Value(v) => {
            let Value::Number(n, long) = &v.value else { return Ok(None) };
            match plain_number(n) {
                Plain::Decimal(plain) => Expr::Value(Value::Number(plain, *long).with_span(v.span)),
                Plain::Float => cast(string(n.clone()), DataType::DoublePrecision),
                Plain::Same => return Ok(None),
            }
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(v) if matches!(v.value, Value::Number(..)) => return Ok(None),
            e => call("pg_neg", vec![e.clone()]),
        },
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => {
            call("pg_bitnot", vec![expr.as_ref().clone()])
        }
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => Expr::Nested(expr.clone()),
        Expr::Interval(i) => interval(i)?,
        Expr::AtTimeZone { timestamp, time_zone } => {
            call("timezone", vec![time_zone.as_ref().clone(), timestamp.as_ref().clone()])
        }
        Expr::Collate { expr, .. } => expr.as_ref().clone(),
        Expr::AnyOp { left, compare_op, right, .. } if !matches!(**right, Expr::Subquery(_)) => call(
            "any_op",
            vec![string(compare_op.to_string()), left.as_ref().clone(), right.as_ref().clone()],
        ),
        Expr::AllOp { left, compare_op, right } if !matches!(**right, Expr::Subquery(_)) => call(
            "all_op",
            vec![string(compare_op.to_string()), left.as_ref().clone(), right.as_ref().clone()],
        ),
        Expr::CompoundIdentifier(parts) if parts.len() > 2 => {
            Expr::CompoundIdentifier(parts[parts.len() - 2..].to_vec())
        }
        Expr::BinaryOp { left, op, right } => match (left.as_ref(), right.as_ref()) {
            (Expr::Tuple(l), Expr::Tuple(r)) => row_comparison(l, op, r)?,
            _ => return Ok(None),
        },
        Expr::InList { expr, list, negated } => {
            let Expr::Tuple(row) = expr.as_ref() else { return Ok(None) };
            let mut any: Option<Expr> = None;
            for item in list {
                let Expr::Tuple(item) = item else { return Ok(None) };
                let same = row_comparison(row, &BinaryOperator::Eq, item)?;
                any = Some(match any {
                    Some(any) => binary(any, BinaryOperator::Or, same),
                    None => same,
                });
            }
            let Some(mut any) = any else { return Ok(None) };
            shape::balance_connectives(&mut any);
            let any = Expr::Nested(Box::new(any));
            if *negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) } } else { any }
        }
        Expr::InSubquery { expr, subquery, negated } => {
            return quantified::in_subquery(expr, subquery, *negated);
        }
        Expr::AnyOp { left, compare_op, right, .. } => match right.as_ref() {
            Expr::Subquery(q) => quantified::compared(left, compare_op, q, true)?,
            _ => return Ok(None),
        },
        Expr::AllOp { left, compare_op, right } => match right.as_ref() {
            Expr::Subquery(q) => quantified::compared(left, compare_op, q, false)?,
            _ => return Ok(None),
        },
        Expr::Function(f) if f.name.0.len() == 1 && f.over.is_none() => {
            unwrap_regclass(f);
            let name = f.name.0[0].as_ident().map(fold).unwrap_or_default();
            let Some(renamed) = sets::renamed(&name) else { return window_syntax::rewrite(f) };
            f.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(renamed))]);
            return Ok(None);
        }
        Expr::Function(f) if f.name.0.len() == 2 => {
            let schema = f.name.0[0].as_ident().map(fold).unwrap_or_default();
            if schema != "pg_catalog" {
                return Err(Error::new(
                    ErrorKind::UndefinedFunction,
                    format!("function {}() does not exist", f.name),
                ));
            }
            f.name.0.remove(0);
            unwrap_regclass(f);
            let name = f.name.0[0].as_ident().map(fold).unwrap_or_default();
            if let Some(renamed) = sets::renamed(&name) {
                f.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(renamed))]);
            }
            return window_syntax::rewrite(f);
        }
        Expr::Function(f) => return window_syntax::rewrite(f),
        _ => return Ok(None),
    }))
}

/// An expression of ours from its text.
pub(super) fn expr_template(text: &str) -> Result<Expr> {
    let parser = sqlparser::parser::Parser::new(&sqlparser::dialect::PostgreSqlDialect {});
    let parsed = parser.try_with_sql(text).and_then(|mut p| p.parse_expr());
    parsed.map_err(|e| Error::internal(format!("{text}: {e}")))
}

/// `SELECT 1`, to be filled in.
pub(super) fn select_template() -> Result<Select> {
    template("(SELECT 1)")
}

/// `(SELECT 1) AS q (c)`, to be filled in.
pub(super) fn from_template() -> Result<ast::TableWithJoins> {
    let mut select = template("(SELECT 1 FROM (SELECT 1) AS q (c))")?;
    select.from.pop().ok_or_else(|| Error::internal("a template without FROM"))
}

fn template(text: &str) -> Result<Select> {
    match expr_template(text)? {
        Expr::Subquery(q) => match *q.body {
            SetExpr::Select(s) => Ok(*s),
            _ => Err(Error::internal("a template that is no SELECT")),
        },
        _ => Err(Error::internal("a template that is no subquery")),
    }
}

/// A query of this SELECT only.
pub(super) fn query_of(select: Select) -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}

/// `nextval('s'::regclass)` means `nextval('s')`.
fn unwrap_regclass(f: &mut ast::Function) {
    let [ObjectNamePart::Identifier(name)] = f.name.0.as_slice() else { return };
    if !super::sequences::FUNCTIONS.contains(&fold(name).as_str()) {
        return;
    }
    if let FunctionArguments::List(list) = &mut f.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))) = list.args.first_mut()
        && let Expr::Cast { expr, data_type: DataType::Regclass, .. } = arg
    {
        *arg = (**expr).clone();
    }
}

pub(super) fn row_comparison(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Result<Expr> {
    if left.len() != right.len() || left.is_empty() {
        return Err(Error::new(ErrorKind::Syntax, "unequal number of entries in row expressions"));
    }
    use BinaryOperator as B;
    let pair = |l: &Expr, op: &B, r: &Expr| binary(l.clone(), op.clone(), r.clone());
    let pairs = || left.iter().zip(right);
    let all = match op {
        B::Eq | B::NotEq => {
            let join = if *op == B::Eq { B::And } else { B::Or };
            pairs().map(|(l, r)| pair(l, op, r)).reduce(|l, r| binary(l, join.clone(), r))
        }
        B::Lt | B::LtEq | B::Gt | B::GtEq => {
            // The first difference decides: a < x OR a = x AND (b < y OR …), the operator itself on the last pair.
            let strict = if matches!(op, B::Lt | B::LtEq) { B::Lt } else { B::Gt };
            pairs().rev().fold(None, |rest, (l, r)| {
                Some(match rest {
                    None => pair(l, op, r),
                    Some(rest) => {
                        let tie = binary(pair(l, &B::Eq, r), B::And, Expr::Nested(Box::new(rest)));
                        binary(pair(l, &strict, r), B::Or, tie)
                    }
                })
            })
        }
        _ => return Err(Error::unsupported(format!("operator {op} over rows is not supported"))),
    };
    let all = all.ok_or_else(|| Error::internal("row comparison without columns"))?;
    Ok(Expr::Nested(Box::new(all)))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// How a number is best written for DataFusion's planner.
#[derive(Debug, PartialEq, Eq)]
enum Plain {
    /// As it is.
    Same,
    /// As these digits, without an exponent.
    Decimal(String),
    /// It has more digits than a decimal can have.
    Float,
}

/// `1e3` and integers beyond 64 bits as plain decimals.
fn plain_number(n: &str) -> Plain {
    let Some((mantissa, exponent)) = n.split_once(['e', 'E']) else {
        let too_long = n.len() > 18 && !n.contains('.') && n.parse::<i64>().is_err();
        return if too_long { Plain::Decimal(format!("{n}.")) } else { Plain::Same };
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.parse().ok().filter(|e: &i32| e.unsigned_abs() as usize + mantissa.len() <= 76);
    let Some(exponent) = exponent else { return Plain::Float };
    let point = whole.len() as i32 + exponent;
    let digits = format!("{whole}{fraction}");
    let text = if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if point as usize >= digits.len() {
        format!("{digits}{}.", "0".repeat(point as usize - digits.len()))
    } else {
        format!("{}.{}", &digits[..point as usize], &digits[point as usize..])
    };
    Plain::Decimal(text)
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn interval(i: &ast::Interval) -> Result<Expr> {
    let text = match i.value.as_ref() {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(s) => s.clone(),
            Value::Number(n, _) => n.clone(),
            _ => return Err(Error::new(ErrorKind::Syntax, "interval needs a string constant")),
        },
        _ => return Err(Error::new(ErrorKind::Syntax, "interval needs a string constant")),
    };
    if i.last_field.is_some() {
        return Err(Error::unsupported("interval with a range of fields is not supported"));
    }
    let has_unit = text.contains(|c: char| c.is_alphabetic() || c == ':');
    let text = match &i.leading_field {
        Some(field) if !has_unit => format!("{text} {}", field.to_string().to_lowercase()),
        _ => text,
    };
    Ok(cast(string(text), DataType::Interval { fields: None, precision: None }))
}

/// An identifier without a place in the text.
pub fn ident(name: &str) -> Ident {
    Ident { value: name.to_string(), quote_style: Some('"'), span: Span::empty() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    fn name(sql: &str) -> String {
        output_name(&Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap())
    }

    #[test]
    fn outputs_are_named_as_postgresql_names_them() {
        for (sql, expected) in [
            ("a", "a"),
            ("t.\"B\"", "B"),
            ("1 + 1", "?column?"),
            ("count(*)", "count"),
            ("x::text", "x"),
            ("1::int", "int4"),
            ("'a'::varchar(3)", "varchar"),
            ("CASE WHEN a THEN 1 END", "case"),
            ("CASE WHEN a THEN 1 ELSE b END", "b"),
            ("coalesce(a, b)", "coalesce"),
            ("ARRAY[1]", "array"),
            ("EXISTS (SELECT 1)", "exists"),
            ("DATE '2020-01-01'", "date"),
            ("true", "bool"),
            ("extract(year from d)", "extract"),
            ("trim(x)", "btrim"),
        ] {
            assert_eq!(name(sql), expected, "{sql}");
        }
    }

    #[test]
    fn exponents_become_plain_decimals() {
        let decimal = |n: &str| Plain::Decimal(n.to_string());
        assert_eq!(plain_number("1e3"), decimal("1000."));
        assert_eq!(plain_number("1.5e-3"), decimal("0.0015"));
        assert_eq!(plain_number("1.25e1"), decimal("12.5"));
        assert_eq!(plain_number("12"), Plain::Same);
        assert_eq!(plain_number("1e300"), Plain::Float);
    }
}
