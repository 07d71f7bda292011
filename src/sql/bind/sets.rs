//! Set-returning functions: in FROM they become LATERAL subqueries, in a select list an unnesting of lists.
//!
//! `FROM f(x) WITH ORDINALITY AS a (c, n)` is `LATERAL (SELECT f(x), ordinality) AS a (c, n)`, so that the select list
//! is the only place where such calls are planned: their lists are computed below, unnested in step (shorter ones end
//! in NULLs, as in PostgreSQL), and the expressions around them are computed above.
//!
//! Boundary: syntax, types and plans; what the functions do is in [`crate::sql::functions::sets`].

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, NullHandling, UnnestOptions};
use datafusion::logical_expr::{ColumnUnnestList, Expr, LogicalPlan, Projection, Unnest};
use sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, Ident, SelectItem, TableAlias, TableFactor, TableFunctionArgs, Value,
};

use super::prepare::{SUFFIX, call, fold, ident};
use super::resolve::{Operand, Resolver, to_arrow};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::cast::CastContext;
use crate::sql::functions::{DfResult, Kernel, df_error, no_function, sets};
use crate::types::{PgType, oid};

/// Series of constants longer than this are not made as lists.
const LONG: i128 = 100_000;

/// A table function as a LATERAL subquery, if it is one of ours.
pub fn lateral(factor: &TableFactor) -> Result<Option<TableFactor>> {
    let (name, args, ordinality, alias) = match factor {
        TableFactor::Table {
            name,
            args: Some(TableFunctionArgs { args, .. }),
            with_ordinality,
            alias,
            ..
        } => (Some(name), expressions(args)?, *with_ordinality, alias),
        TableFactor::Function { name, args, with_ordinality, alias, .. } => {
            (Some(name), expressions(args)?, *with_ordinality, alias)
        }
        TableFactor::UNNEST { array_exprs, with_ordinality, alias, .. } => {
            (None, array_exprs.clone(), *with_ordinality, alias)
        }
        _ => return Ok(None),
    };
    let name = match name {
        None => "unnest".to_string(),
        Some(n) => match n.0.as_slice() {
            [one] => one.as_ident().map(fold).unwrap_or_default(),
            [schema, one] if schema.as_ident().is_some_and(|s| fold(s) == "pg_catalog") => {
                one.as_ident().map(fold).unwrap_or_default()
            }
            _ => return Ok(None),
        },
    };
    let Some(fixed) = sets::columns(&name) else { return Ok(None) };
    if name == "generate_series" && !ordinality && long_series(&args) {
        return Ok(None);
    }
    let own = |n: &str| ident(n);
    let mut items: Vec<(Ident, ast::Expr)> = match (fixed, name.as_str()) {
        (Some(names), _) if names.len() == 2 => {
            let part = |p: &str| call(&format!("{}{name}_{p}", sets::PREFIX), args.clone());
            names.iter().map(|n| (own(n), part(n))).collect()
        }
        (_, "unnest") => {
            let each = args.iter().enumerate().map(|(i, a)| {
                let column = if i == 0 { "unnest".to_string() } else { format!("unnest{SUFFIX}{i}") };
                (ident(&column), call(&format!("{}unnest", sets::PREFIX), vec![a.clone()]))
            });
            each.collect()
        }
        (names, _) => {
            let column = names.and_then(|n| n.first().copied()).unwrap_or(&name);
            vec![(own(column), call(&format!("{}{name}", sets::PREFIX), args.clone()))]
        }
    };
    // The one column of a scalar function goes by the alias.
    if let (Some(a), [(column, _)]) = (alias, items.as_mut_slice())
        && a.columns.is_empty()
        && fixed.is_none()
    {
        *column = Ident::with_quote('"', fold(&a.name));
    }
    if ordinality {
        let numbers = items.iter().map(|(_, e)| e.clone()).collect();
        items.push((own("ordinality"), call(&format!("{}ordinality", sets::PREFIX), numbers)));
    }
    let mut select = super::prepare::select_template()?;
    select.projection =
        items.into_iter().map(|(alias, expr)| SelectItem::ExprWithAlias { expr, alias }).collect();
    let alias = alias.clone().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::with_quote('"', &name),
        columns: vec![],
        at: None,
    });
    let subquery = Box::new(super::prepare::query_of(select));
    Ok(Some(TableFactor::Derived { lateral: true, subquery, alias: Some(alias), sample: None }))
}

/// The name of a function's alias, where it has one column of another name, stands for that column.
pub fn whole_rows(select: &mut ast::Select) {
    let mut known: Vec<(Ident, Ident)> = Vec::new();
    for from in &select.from {
        for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|j| &j.relation)) {
            let (name, args, alias) = match factor {
                TableFactor::Table {
                    name,
                    args: Some(a),
                    with_ordinality: false,
                    alias: Some(alias),
                    ..
                } => (name.0.last().and_then(|p| p.as_ident()).map(fold), a.args.len(), alias),
                TableFactor::Function { name, args, with_ordinality: false, alias: Some(alias), .. } => {
                    (name.0.last().and_then(|p| p.as_ident()).map(fold), args.len(), alias)
                }
                TableFactor::UNNEST { array_exprs, with_ordinality: false, alias: Some(alias), .. } => {
                    (Some("unnest".to_string()), array_exprs.len(), alias)
                }
                _ => continue,
            };
            let Some(name) = name else { continue };
            let column = match (sets::columns(&name), alias.columns.as_slice()) {
                (Some(None), [one]) if name != "unnest" || args == 1 => one.name.clone(),
                (Some(Some([_])), [one]) => one.name.clone(),
                (Some(Some([one])), []) => ident(one),
                _ => continue,
            };
            if fold(&column) != fold(&alias.name) {
                known.push((alias.name.clone(), column));
            }
        }
    }
    if !known.is_empty() {
        let from = std::mem::take(&mut select.from);
        // The visitor never breaks.
        let _ = ast::VisitMut::visit(select, &mut WholeRows { known, depth: 0 });
        select.from = from;
    }
}

struct WholeRows {
    known: Vec<(Ident, Ident)>,
    /// Subqueries around the current place, whose names are their own.
    depth: usize,
}

impl ast::VisitorMut for WholeRows {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut ast::Query) -> std::ops::ControlFlow<()> {
        self.depth += 1;
        std::ops::ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> std::ops::ControlFlow<()> {
        self.depth -= 1;
        std::ops::ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> std::ops::ControlFlow<()> {
        if self.depth == 0
            && let ast::Expr::Identifier(i) = expr
            && let Some((alias, column)) = self.known.iter().find(|(a, _)| fold(a) == fold(i))
        {
            *expr = ast::Expr::CompoundIdentifier(vec![alias.clone(), column.clone()]);
        }
        std::ops::ControlFlow::Continue(())
    }
}

fn expressions(args: &[FunctionArg]) -> Result<Vec<ast::Expr>> {
    args.iter()
        .map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Ok(e.clone()),
            _ => Err(Error::new(ErrorKind::Syntax, "a table function takes expressions")),
        })
        .collect()
}

fn constant(e: &ast::Expr) -> Option<i128> {
    match e {
        ast::Expr::Value(v) => match &v.value {
            Value::Number(n, _) => n.parse().ok(),
            _ => None,
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => Some(-constant(expr)?),
        ast::Expr::Nested(e) => constant(e),
        _ => None,
    }
}

/// Whether the query engine had better make the series itself, row by row.
fn long_series(args: &[ast::Expr]) -> bool {
    let values: Option<Vec<i128>> = args.iter().map(constant).collect();
    match values.as_deref() {
        Some([from, to]) => (to - from).abs() > LONG,
        Some([from, to, by]) => *by != 0 && ((to - from) / by).abs() > LONG,
        _ => false,
    }
}

/// The symbol for a set-returning function that is called in an expression.
pub fn renamed(name: &str) -> Option<String> {
    sets::columns(name).map(|_| format!("{}{name}", sets::PREFIX))
}

impl Resolver<'_> {
    /// The meaning of a call of a set-returning function.
    pub(super) fn set_returning(&mut self, name: &str, args: Vec<Operand>) -> Result<Expr> {
        let refused = |args: &[Operand]| {
            let types: Vec<String> = args.iter().map(|a| a.pg().sql_name()).collect();
            no_function(name.strip_suffix("_key").unwrap_or(name), &types)
        };
        let text_list = |kernel: Kernel, item: PgType, args: Vec<Expr>| {
            let item = item.field("", true);
            sets::marker(sets::list(name, kernel, item.data_type(), args), &item)
        };
        match (name, args.len()) {
            ("unnest", 1) => {
                let Some(array) = args.into_iter().next() else { return Err(Error::internal("no argument")) };
                let element = array.known().and_then(PgType::element);
                match (array.field.data_type(), element) {
                    (DataType::List(inner), Some(element)) => {
                        let item = element.field("", true).with_data_type(inner.data_type().clone());
                        Ok(sets::marker(array.expr.clone(), &item))
                    }
                    _ if array.unknown() => Err(Error::new(
                        ErrorKind::AmbiguousFunction,
                        "function unnest(unknown) is not unique",
                    )),
                    _ => Err(refused(&[array])),
                }
            }
            ("ordinality", _) => {
                let lists = args.iter().map(|a| sets::marked(&a.expr).map(|(list, _)| list.clone()));
                let lists: Option<Vec<Expr>> = lists.collect();
                let lists = lists.ok_or_else(|| Error::internal("ordinality of something else"))?;
                let list = sets::list("ordinals", sets::ordinals, &DataType::Int64, lists);
                Ok(sets::marker(list, &PgType::INT8.field("", true)))
            }
            ("generate_series", 2 | 3) => self.series(args),
            ("regexp_split_to_table" | "string_to_table", 2 | 3) => {
                let kernel: Kernel =
                    if name == "string_to_table" { sets::string_split } else { sets::regexp_split };
                let args = self.texts(args)?;
                Ok(text_list(kernel, PgType::TEXT, args))
            }
            (_, 1) => {
                let (json, rest) = match name.strip_prefix("jsonb_") {
                    Some(rest) => (PgType::JSONB, rest),
                    None => (PgType::of(oid::JSON), name.strip_prefix("json_").unwrap_or_default()),
                };
                let (kernel, item): (Kernel, PgType) = match rest {
                    "array_elements" => (sets::elements, json),
                    "array_elements_text" => (sets::elements_text, PgType::TEXT),
                    "object_keys" | "each_key" | "each_text_key" => (sets::keys, PgType::TEXT),
                    "each_value" => (sets::values, json),
                    "each_text_value" => (sets::values_text, PgType::TEXT),
                    "each" | "each_text" => {
                        return Err(Error::unsupported(format!(
                            "{name}() in a select list is not supported"
                        ))
                        .with_hint("Call it in FROM."));
                    }
                    _ => return Err(refused(&args)),
                };
                let Some(arg) = args.into_iter().next() else { return Err(Error::internal("no argument")) };
                if arg.known().is_some_and(|t| t.oid != json.oid) {
                    return Err(refused(&[arg]));
                }
                let arg = self.coerce(arg, json, CastContext::Implicit)?;
                Ok(text_list(kernel, item, vec![arg]))
            }
            _ => Err(refused(&args)),
        }
    }

    fn texts(&mut self, args: Vec<Operand>) -> Result<Vec<Expr>> {
        args.into_iter().map(|a| self.coerce(a, PgType::TEXT, CastContext::Implicit)).collect()
    }

    fn series(&mut self, args: Vec<Operand>) -> Result<Expr> {
        let types: Vec<String> = args.iter().map(|a| a.pg().sql_name()).collect();
        let refused = || no_function("generate_series", &types);
        let known: Vec<u32> = args.iter().filter_map(Operand::known).map(|t| t.oid).collect();
        let all = |set: &[u32]| known.iter().all(|o| set.contains(o));
        let coerced = |r: &mut Self, args: Vec<Operand>, types: &[PgType]| -> Result<Vec<Expr>> {
            let pairs = args.into_iter().zip(types);
            pairs.map(|(a, t)| r.coerce(a, *t, CastContext::Implicit)).collect()
        };
        if all(&[oid::INT2, oid::INT4, oid::INT8]) && !known.is_empty() {
            let t = if known.contains(&oid::INT8) { PgType::INT8 } else { PgType::INT4 };
            let args = coerced(self, args, &[t; 3])?;
            let list = sets::list("generate_series", sets::integer_series, &t.arrow(), args);
            return Ok(sets::marker(list, &t.field("", true)));
        }
        if all(&[oid::INT2, oid::INT4, oid::INT8, oid::NUMERIC]) && !known.is_empty() {
            let (exprs, data_type, common) = self.unify(args, "generate_series")?;
            let DataType::Decimal128(_, scale) = data_type else { return Err(refused()) };
            let wide = DataType::Decimal128(38, scale);
            let exprs = exprs.into_iter().map(|e| to_arrow(e, &wide)).collect();
            let list = sets::list("generate_series_numeric", sets::numeric_series, &wide, exprs);
            let item = PgType::of(common.oid).field("", true).with_data_type(wide);
            return Ok(sets::marker(list, &item));
        }
        let zoned =
            known.contains(&oid::TIMESTAMPTZ) || args.first().is_some_and(|a| a.pg().oid == oid::DATE);
        if args.len() == 3 && all(&[oid::DATE, oid::TIMESTAMP, oid::TIMESTAMPTZ, oid::INTERVAL]) {
            let t = if zoned { PgType::TIMESTAMPTZ } else { PgType::TIMESTAMP };
            let args = coerced(self, args, &[t, t, PgType::INTERVAL])?;
            let list = sets::list("generate_series_time", sets::timestamp_series, &t.arrow(), args);
            return Ok(sets::marker(list, &t.field("", true)));
        }
        Err(refused())
    }
}

/// Whether an expression has a call that returns a set.
pub(super) fn has_sets(expr: &Expr) -> DfResult<bool> {
    expr.exists(|e| Ok(sets::marked(e).is_some()))
}

/// A projection whose expressions call set-returning functions.
pub(super) fn unnested(p: Projection) -> DfResult<LogicalPlan> {
    let mut found = false;
    for e in &p.expr {
        found |= has_sets(e)?;
    }
    if !found {
        return Ok(LogicalPlan::Projection(Projection::try_new(p.expr, p.input)?));
    }
    let width = p.input.schema().fields().len();
    let mut below: Vec<Expr> = p.input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut lists: Vec<(Expr, String)> = Vec::new();
    // Names that the levels of one query do not share.
    let level = depth_of(&p.input);
    let mut above = Vec::with_capacity(p.expr.len());
    for e in p.expr {
        let name = e.qualified_name();
        let e = e.transform_down(|e| {
            let Some((list, field)) = sets::marked(&e) else { return Ok(Transformed::no(e)) };
            if has_sets(list)? {
                return Err(df_error(Error::unsupported("nested set-returning functions are not supported")));
            }
            let at = match lists.iter().find(|(l, _)| l == list) {
                Some((_, n)) => n.clone(),
                None => {
                    let n = format!("__set{level}_{}", lists.len());
                    lists.push((list.clone(), n.clone()));
                    n
                }
            };
            let value = sets::item(Expr::Column(Column::new_unqualified(at)), &field);
            Ok(Transformed::new(value, true, TreeNodeRecursion::Jump))
        })?;
        above.push(if e.transformed { bare_named(e.data, name) } else { e.data });
    }
    below.extend(lists.iter().map(|(l, n)| l.clone().alias(n)));
    let input = LogicalPlan::Projection(Projection::try_new(below, p.input)?);
    let schema = input.schema().clone();
    let mut fields = Vec::with_capacity(schema.fields().len());
    let mut columns = Vec::new();
    for (i, (q, f)) in schema.iter().enumerate() {
        let DataType::List(inner) = f.data_type() else {
            fields.push((q.cloned(), f.clone()));
            continue;
        };
        if i < width {
            fields.push((q.cloned(), f.clone()));
            continue;
        }
        columns.push((i, Column::new_unqualified(f.name())));
        fields.push((None, Arc::new(inner.as_ref().clone().with_name(f.name()).with_nullable(true))));
    }
    let plan = LogicalPlan::Unnest(Unnest {
        exec_columns: columns.iter().map(|(_, c)| c.clone()).collect(),
        list_type_columns: columns
            .iter()
            .map(|(i, c)| (*i, ColumnUnnestList { output_column: c.clone(), depth: 1 }))
            .collect(),
        struct_type_columns: vec![],
        dependency_indices: (0..fields.len()).collect(),
        schema: Arc::new(DFSchema::new_with_metadata(fields, Default::default())?),
        options: UnnestOptions::new().with_null_handling(NullHandling::Drop),
        input: Arc::new(input),
    });
    Ok(LogicalPlan::Projection(Projection::try_new(above, Arc::new(plan))?))
}

fn bare_named(e: Expr, name: (Option<datafusion::common::TableReference>, String)) -> Expr {
    if e.qualified_name() == name { e } else { super::decorrelate::bare(e).alias_qualified(name.0, name.1) }
}

fn depth_of(plan: &LogicalPlan) -> usize {
    let mut levels = 0;
    // The closure never fails, so neither does the walk.
    let _ = plan.apply(|node| {
        levels += usize::from(matches!(node, LogicalPlan::Unnest(_)));
        Ok(TreeNodeRecursion::Continue)
    });
    levels
}

/// Refuses set-returning functions where a node can have none.
pub(super) fn refuse_sets(plan: &LogicalPlan) -> DfResult<()> {
    let place = match plan {
        LogicalPlan::Projection(_) => return Ok(()),
        LogicalPlan::Filter(_) => "WHERE",
        LogicalPlan::Join(_) => "JOIN conditions",
        LogicalPlan::Aggregate(_) => {
            return some_sets(plan, || {
                Error::unsupported("aggregate function calls cannot contain set-returning function calls")
                    .with_hint("Move the set-returning function into a LATERAL FROM item.")
            });
        }
        LogicalPlan::Window(_) => {
            return some_sets(plan, || {
                Error::unsupported("window function calls cannot contain set-returning function calls")
                    .with_hint("Move the set-returning function into a LATERAL FROM item.")
            });
        }
        LogicalPlan::Values(_) => "VALUES",
        _ => "this place",
    };
    some_sets(plan, || Error::unsupported(format!("set-returning functions are not allowed in {place}")))
}

fn some_sets(plan: &LogicalPlan, error: impl Fn() -> Error) -> DfResult<()> {
    let mut found = false;
    plan.apply_expressions(|e| {
        found |= has_sets(e)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if found { Err(df_error(error())) } else { Ok(()) }
}
