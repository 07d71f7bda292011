//! Functions in SQL: a call is replaced by the function's query before anything is planned.
//!
//! Boundary: syntax trees and the catalog's functions. What the functions of the dialect itself are called comes first.

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, CaseWhen, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, SetExpr,
    TableAlias, TableAliasColumnDef, TableFactor, Value, VisitMut, VisitorMut,
};

use super::{BindContext, Binder, prepare, provider};
use crate::catalog::object::FunctionSpec;
use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::registry;
use crate::sql::functions::windows;
use crate::sql::types::data_type_of;
use crate::types::PgType;

/// Functions call functions at most this deep.
const MAX_DEPTH: usize = 16;
/// Calls of one statement.
const MAX_CALLS: usize = 1000;

/// Replaces the calls of the catalog's functions; answers which there were.
pub(super) fn inline(node: &mut impl VisitMut, context: &BindContext) -> Result<Vec<ObjectId>> {
    if !context.catalog.has_functions() {
        return Ok(Vec::new());
    }
    let mut inliner = Inliner { context, used: Vec::new(), depth: 0, calls: 0 };
    match node.visit(&mut inliner) {
        ControlFlow::Continue(()) => Ok(inliner.used),
        ControlFlow::Break(e) => Err(e),
    }
}

/// Checks the body of a function; answers what it reads.
pub fn check_function(spec: &FunctionSpec, context: &BindContext) -> Result<Vec<ObjectId>> {
    let args: Vec<Expr> = spec
        .args
        .iter()
        .map(|(_, oid)| cast(Expr::Value(Value::Null.with_empty_span()), PgType::of(*oid)))
        .collect::<Result<_>>()?;
    let body = substituted(spec, &args, context)?;
    let mut binder = Binder::new(context);
    let plan = binder.query(&body)?;
    let bound = binder.finish(plan)?;
    let wanted: Vec<u32> = match &spec.columns {
        Some(columns) => columns.iter().map(|(_, oid)| *oid).collect(),
        None => vec![spec.result],
    };
    let wrong = |detail: String| {
        Error::new(
            ErrorKind::InvalidFunctionDefinition,
            format!(
                "return type mismatch in function declared to return {}",
                if spec.columns.is_some() { "record".into() } else { PgType::of(spec.result).sql_name() }
            ),
        )
        .with_detail(detail)
    };
    if bound.columns.len() != wanted.len() {
        return Err(wrong(if spec.columns.is_some() {
            "Final statement returns another number of columns.".to_string()
        } else {
            "Final statement must return exactly one column.".to_string()
        }));
    }
    for (column, oid) in bound.columns.iter().zip(wanted) {
        let (is, wanted) = (column.pg_type, PgType::of(oid));
        let alike = is.oid == oid || castable(is, wanted);
        if !alike {
            return Err(wrong(format!("Actual return type is {}.", is.sql_name())));
        }
    }
    Ok(bound.depends_on)
}

/// Whether a body's column of one type may be the result of another.
fn castable(from: PgType, to: PgType) -> bool {
    let number = |t: PgType| {
        [PgType::INT2, PgType::INT4, PgType::INT8, PgType::NUMERIC, PgType::FLOAT4, PgType::FLOAT8]
            .iter()
            .any(|n| n.oid == t.oid)
    };
    let text = |t: PgType| [PgType::TEXT, PgType::VARCHAR].iter().any(|n| n.oid == t.oid);
    number(from) && number(to) || text(from) && text(to)
}

struct Inliner<'a> {
    context: &'a BindContext<'a>,
    used: Vec<ObjectId>,
    depth: usize,
    calls: usize,
}

impl Inliner<'_> {
    fn find(&self, name: &ObjectName) -> Option<std::sync::Arc<Object>> {
        let parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(prepare::fold).collect();
        let catalog = &self.context.catalog;
        match parts.as_slice() {
            [name] => {
                let builtin =
                    registry::exists(name) || provider::is_aggregate(name) || windows::symbol(name).is_some();
                if builtin {
                    return None;
                }
                self.context.search_path.iter().find_map(|s| catalog.find_function(s, name)).cloned()
            }
            [schema, name] => catalog.find_function(schema, name).cloned(),
            _ => None,
        }
    }

    /// The body of a function with these arguments, calls within it replaced as well.
    fn expand(&mut self, object: &Object, args: &[FunctionArg]) -> Result<Query> {
        let ObjectBody::Function(spec) = &object.body else {
            return Err(Error::internal("a function that is none"));
        };
        self.calls += 1;
        if self.depth >= MAX_DEPTH || self.calls > MAX_CALLS {
            return Err(Error::new(ErrorKind::StatementTooComplex, "functions are nested too deeply"));
        }
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => values.push(e.clone()),
                _ => return Err(Error::unsupported("named arguments of functions are not supported")),
            }
        }
        if values.len() != spec.args.len() {
            return Err(Error::new(
                ErrorKind::UndefinedFunction,
                format!("function {} does not exist with {} arguments", object.described(), values.len()),
            ));
        }
        let values = values
            .into_iter()
            .zip(&spec.args)
            .map(|(e, (_, oid))| cast(e, PgType::of(*oid)))
            .collect::<Result<Vec<_>>>()?;
        if !self.used.contains(&object.id) {
            self.used.push(object.id);
        }
        let mut body = substituted(spec, &values, self.context)?;
        self.depth += 1;
        let inner = body.visit(self);
        self.depth -= 1;
        match inner {
            ControlFlow::Continue(()) => Ok(body),
            ControlFlow::Break(e) => Err(e),
        }
    }

    fn scalar(&mut self, f: &ast::Function) -> Result<Option<Expr>> {
        let Some(object) = self.find(&f.name) else { return Ok(None) };
        let ObjectBody::Function(spec) = &object.body else { return Ok(None) };
        if spec.columns.is_some() {
            return Err(Error::unsupported("set-returning functions in expressions are not supported")
                .with_hint("Call it in FROM."));
        }
        let args = match &f.args {
            FunctionArguments::List(list) => list.args.clone(),
            _ => Vec::new(),
        };
        let strict = spec.strict;
        let body = self.expand(&object, &args)?;
        let value = cast(as_expr(body), PgType::of(spec.result))?;
        let mut nulls = args.iter().filter_map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => {
                Some(Expr::IsNull(Box::new(Expr::Nested(Box::new(e.clone())))))
            }
            _ => None,
        });
        let Some(first) = nulls.next().filter(|_| strict) else { return Ok(Some(value)) };
        let any = nulls.fold(first, |l, r| Expr::BinaryOp {
            left: Box::new(l),
            op: ast::BinaryOperator::Or,
            right: Box::new(r),
        });
        let none = Expr::Value(Value::Null.with_empty_span());
        Ok(Some(Expr::Case {
            case_token: ast::helpers::attached_token::AttachedToken::empty(),
            end_token: ast::helpers::attached_token::AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition: any, result: none }],
            else_result: Some(Box::new(value)),
        }))
    }

    fn table(&mut self, factor: &TableFactor) -> Result<Option<TableFactor>> {
        let (name, args, alias, lateral) = match factor {
            TableFactor::Table { name, args: Some(args), alias, .. } => (name, &args.args, alias, false),
            TableFactor::Function { name, args, alias, lateral, .. } => (name, args, alias, *lateral),
            _ => return Ok(None),
        };
        let Some(object) = self.find(name) else { return Ok(None) };
        let ObjectBody::Function(spec) = &object.body else { return Ok(None) };
        let body = self.expand(&object, args)?;
        let columns = match &spec.columns {
            Some(columns) => columns.iter().map(|(n, _)| n.clone()).collect(),
            None => vec![object.name.clone()],
        };
        let own = |n: String| TableAliasColumnDef { name: Ident::with_quote('"', n), data_type: None };
        let mut given = alias.clone().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: Ident::with_quote('"', object.name.as_str()),
            columns: vec![],
            at: None,
        });
        let rest: Vec<TableAliasColumnDef> = columns.into_iter().skip(given.columns.len()).map(own).collect();
        given.columns.extend(rest);
        Ok(Some(TableFactor::Derived { lateral, subquery: Box::new(body), alias: Some(given), sample: None }))
    }
}

impl VisitorMut for Inliner<'_> {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match self.table(factor) {
            Ok(Some(new)) => *factor = new,
            Ok(None) => {}
            Err(e) => return ControlFlow::Break(e),
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::Function(f) = expr {
            match self.scalar(f) {
                Ok(Some(new)) => *expr = new,
                Ok(None) => {}
                Err(e) => return ControlFlow::Break(e),
            }
        }
        ControlFlow::Continue(())
    }
}

fn cast(expr: Expr, to: PgType) -> Result<Expr> {
    Ok(Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(Expr::Nested(Box::new(expr))),
        data_type: data_type_of(to)?,
        array: false,
        format: None,
    })
}

/// The body of a function of one value as an expression.
fn as_expr(mut body: Query) -> Expr {
    let mut aggregate = false;
    if let SetExpr::Select(select) = body.body.as_ref() {
        let plain = body.with.is_none()
            && body.order_by.is_none()
            && body.limit_clause.is_none()
            && select.from.is_empty()
            && select.selection.is_none()
            && select.having.is_none()
            && select.distinct.is_none()
            && matches!(&select.group_by, ast::GroupByExpr::Expressions(e, _) if e.is_empty());
        let grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(e, _) if e.is_empty());
        if let [ast::SelectItem::UnnamedExpr(e) | ast::SelectItem::ExprWithAlias { expr: e, .. }] =
            select.projection.as_slice()
        {
            if plain {
                return Expr::Nested(Box::new(e.clone()));
            }
            aggregate = !grouped && super::checks::has_aggregate(e);
        }
    }
    if !aggregate && body.limit_clause.is_none() {
        // As in PostgreSQL, the first row counts.
        body.limit_clause = Some(ast::LimitClause::LimitOffset {
            limit: Some(Expr::Value(Value::Number("1".into(), false).with_empty_span())),
            offset: None,
            limit_by: vec![],
        });
    }
    Expr::Subquery(Box::new(body))
}

/// The body of a function with expressions in place of its arguments.
fn substituted(spec: &FunctionSpec, args: &[Expr], context: &BindContext) -> Result<Query> {
    let mut body = provider::parse_query(&spec.body).map_err(|e| match e.kind() {
        ErrorKind::Syntax if e.message() == "a query is needed here" => {
            Error::unsupported("a function's body of anything but one query is not supported")
        }
        _ => e,
    })?;
    // A column that a relation of the body has comes before an argument of the same name.
    let mut columns = Columns { context, names: Vec::new() };
    let _ = ast::Visit::visit(&body, &mut columns);
    let mut substitution = Substitution { spec, args, columns: columns.names };
    let _ = body.visit(&mut substitution);
    Ok(body)
}

struct Columns<'a> {
    context: &'a BindContext<'a>,
    names: Vec<String>,
}

impl ast::Visitor for Columns<'_> {
    type Break = ();
    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor {
            let parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(prepare::fold).collect();
            let catalog = &self.context.catalog;
            let object = match parts.as_slice() {
                [name] => self.context.search_path.iter().find_map(|s| catalog.find(s, name)),
                [.., schema, name] => catalog.find(schema, name),
                [] => None,
            };
            if let Some(object) = object {
                self.names.extend(object.live_columns().map(|(_, c)| c.name.clone()));
            }
        }
        ControlFlow::Continue(())
    }
}

struct Substitution<'a> {
    spec: &'a FunctionSpec,
    args: &'a [Expr],
    columns: Vec<String>,
}

impl VisitorMut for Substitution<'_> {
    type Break = ();
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let number = match expr {
            Expr::Identifier(i) => {
                let name = prepare::fold(i);
                self.spec
                    .args
                    .iter()
                    .position(|(n, _)| n.as_ref() == Some(&name))
                    .filter(|_| !self.columns.contains(&name))
            }
            Expr::Value(v) => match &v.value {
                Value::Placeholder(p) => p[1..].parse::<usize>().ok().and_then(|n| n.checked_sub(1)),
                _ => None,
            },
            _ => None,
        };
        if let Some(value) = number.and_then(|n| self.args.get(n)) {
            *expr = value.clone();
        }
        ControlFlow::Continue(())
    }
}
