//! From a call in an expression to a plan's expression: functions, aggregates, windows; and the names and types that
//! a query gives its columns.
//!
//! Boundary: calls and names; other expressions are bound in [`super::bind_expr`].

use std::rc::Rc;

use sqlparser::ast::{
    self, AccessExpr, DuplicateTreatment, Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, Value as Literal, WindowType,
};

use super::bind::{Binder, fold, record, sort_key, split_name, unsupported};
use super::scope::{Level, ScopeColumn, Typed};
use super::tree::{Aggregate, AggregateKind, Expr, Op, SetCall, Slot, SortKey, SubKind, Window, WindowKind};
use crate::catalog::system::{Value, types};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

impl Binder<'_> {
    /// The values of a call's arguments.
    pub(super) fn arguments(&self, args: &[FunctionArg], level: &Level<'_>) -> Result<Vec<Typed>> {
        args.iter()
            .map(|a| match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e))
                | FunctionArg::Named { arg: FunctionArgExpr::Expr(e), .. }
                | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(e), .. } => self.expr(e, level),
                _ => Err(unsupported("this argument")),
            })
            .collect()
    }

    pub(super) fn function(&self, f: &ast::Function, level: &Level<'_>) -> Result<Typed> {
        let (_, name) = split_name(&f.name);
        let list = match &f.args {
            FunctionArguments::None => return self.call(&name, vec![]),
            FunctionArguments::Subquery(query) if name == "array" => {
                let (plan, column) = self.one_column(query, level)?;
                let ty = PgType::of(types::array_of(column.ty.oid));
                return Ok(Typed::new(self.sub(SubKind::Array, plan), ty));
            }
            FunctionArguments::Subquery(query) => {
                let (plan, column) = self.one_column(query, level)?;
                return self.call(&name, vec![Typed::new(self.sub(SubKind::Scalar, plan), column.ty)]);
            }
            FunctionArguments::List(list) => list,
        };
        let filter = f.filter.as_ref().map(|e| self.boolean(e, level)).transpose()?;
        let star = matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
        let args = if star { vec![] } else { self.arguments(&list.args, level)? };
        let mut order = vec![];
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::OrderBy(items) => {
                    for item in items {
                        order.push(sort_key(item, self.expr(&item.expr, level)?.expr));
                    }
                }
                _ => return Err(unsupported("this clause of a call")),
            }
        }
        let distinct = matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
        if let Some(over) = &f.over {
            return self.window(&name, args, star, over, level);
        }
        if let Some((kind, args, ty)) = self.aggregate(&name, &args, star)? {
            if let Some(place) = level.forbidden_in {
                return Err(Error::new(
                    ErrorKind::Grouping,
                    format!("aggregate functions are not allowed in {place}"),
                ));
            }
            let mut all = level.aggregates.borrow_mut();
            all.push(Aggregate { kind, args, distinct, order, filter });
            return Ok(Typed::new(Expr::Slot(Slot::Aggregate, all.len() - 1), ty));
        }
        match name.as_str() {
            "coalesce" => {
                let (exprs, ty) = self.unify("COALESCE", args)?;
                Ok(Typed::new(Expr::Coalesce(exprs), ty))
            }
            "greatest" | "least" => {
                let (args, ty) = self.unify("GREATEST", args)?;
                Ok(Typed::new(Expr::Extreme { args, greatest: name == "greatest" }, ty))
            }
            "nullif" => self.nullif(args),
            "row" => {
                let fields = (1..).zip(&args).map(|(i, t)| (format!("f{i}"), t.ty)).collect();
                let expr = Expr::Row(args.into_iter().map(|t| t.expr).collect());
                Ok(Typed { expr, ty: record(), fields: Some(Rc::new(fields)), origin: (0, 0) })
            }
            _ => match self.set_call(&name, args.clone())? {
                Some((call, columns)) => self.set_value(&name, call, columns, level),
                None => self.call(&name, args),
            },
        }
    }

    pub(super) fn nullif(&self, args: Vec<Typed>) -> Result<Typed> {
        let [value, other] = <[Typed; 2]>::try_from(args)
            .map_err(|_| Error::new(ErrorKind::Syntax, "NULLIF takes two arguments"))?;
        let ty = if value.ty.oid == oid::UNKNOWN { PgType::TEXT } else { value.ty };
        let equal = self.binary(Op::Eq, value.clone(), other)?.expr;
        let otherwise = Box::new(self.coerce(value, ty)?);
        Ok(Typed::new(Expr::Case { whens: vec![(equal, Expr::Const(Value::Null))], otherwise }, ty))
    }

    /// A function that gives rows, in the select list: its rows are told by the node below.
    pub(super) fn set_value(
        &self,
        name: &str,
        call: SetCall,
        columns: Vec<ScopeColumn>,
        level: &Level<'_>,
    ) -> Result<Typed> {
        if let Some(place) = level.forbidden_in {
            return Err(Error::unsupported(format!("set-returning functions are not allowed in {place}")));
        }
        let mut sets = level.sets.borrow_mut();
        sets.push(call);
        let expr = Expr::Slot(Slot::Set, sets.len() - 1);
        match columns.as_slice() {
            [] => Err(Error::internal(format!("function {name} has no columns"))),
            [only] => Ok(Typed::new(expr, only.ty)),
            all => {
                let fields = all.iter().map(|c| (c.name.clone(), c.ty)).collect();
                Ok(Typed { expr, ty: record(), fields: Some(Rc::new(fields)), origin: (0, 0) })
            }
        }
    }

    pub(super) fn aggregate(
        &self,
        name: &str,
        args: &[Typed],
        star: bool,
    ) -> Result<Option<(AggregateKind, Vec<Expr>, PgType)>> {
        let known = |i: usize| {
            args.get(i).map_or(PgType::TEXT, |t| if t.ty.oid == oid::UNKNOWN { PgType::TEXT } else { t.ty })
        };
        let (kind, ty) = match (name, args.len()) {
            ("count", _) if star => (AggregateKind::CountRows, PgType::INT8),
            ("count", 1) => (AggregateKind::Count, PgType::INT8),
            ("min", 1) => (AggregateKind::Min, known(0)),
            ("max", 1) => (AggregateKind::Max, known(0)),
            ("sum", 1) => (
                AggregateKind::Sum,
                match known(0).oid {
                    oid::INT2 | oid::INT4 => PgType::INT8,
                    oid::FLOAT4 | oid::FLOAT8 | oid::INTERVAL => PgType::of(known(0).oid),
                    _ => PgType::NUMERIC,
                },
            ),
            ("avg", 1) => (
                AggregateKind::Avg,
                if matches!(known(0).oid, oid::FLOAT4 | oid::FLOAT8) {
                    PgType::FLOAT8
                } else {
                    PgType::NUMERIC
                },
            ),
            ("array_agg", 1) => (AggregateKind::ArrayAgg, PgType::of(types::array_of(known(0).oid))),
            ("string_agg", 2) => (AggregateKind::StringAgg, PgType::TEXT),
            ("bool_and" | "every", 1) => (AggregateKind::BoolAnd, PgType::BOOL),
            ("bool_or", 1) => (AggregateKind::BoolOr, PgType::BOOL),
            _ => return Ok(None),
        };
        let args = args
            .iter()
            .enumerate()
            .map(|(i, t)| {
                let to = if kind == AggregateKind::StringAgg { PgType::TEXT } else { known(i) };
                self.coerce(t.clone(), to)
            })
            .collect::<Result<_>>()?;
        Ok(Some((kind, args, ty)))
    }

    pub(super) fn window(
        &self,
        name: &str,
        args: Vec<Typed>,
        star: bool,
        over: &WindowType,
        level: &Level<'_>,
    ) -> Result<Typed> {
        let WindowType::WindowSpec(spec) = over else { return Err(unsupported("a named window")) };
        let partition = spec
            .partition_by
            .iter()
            .map(|e| self.expr(e, level).map(|t| t.expr))
            .collect::<Result<Vec<_>>>()?;
        let order = spec
            .order_by
            .iter()
            .map(|o| Ok(sort_key(o, self.expr(&o.expr, level)?.expr)))
            .collect::<Result<Vec<SortKey>>>()?;
        let (kind, ty) = match name {
            "row_number" => (WindowKind::RowNumber, PgType::INT8),
            "rank" => (WindowKind::Rank { dense: false }, PgType::INT8),
            "dense_rank" => (WindowKind::Rank { dense: true }, PgType::INT8),
            _ => match self.aggregate(name, &args, star)? {
                Some((kind, args, ty)) => {
                    let aggregate = Aggregate { kind, args, distinct: false, order: vec![], filter: None };
                    (WindowKind::Aggregate(aggregate), ty)
                }
                None => return Err(unsupported("this window function")),
            },
        };
        let mut windows = level.windows.borrow_mut();
        windows.push(Window { kind, partition, order });
        Ok(Typed::new(Expr::Slot(Slot::Window, windows.len() - 1), ty))
    }

    /// The name PostgreSQL gives to an expression in a select list.
    pub(super) fn output_name(&self, ast: &Ast) -> String {
        self.figure_name(ast).unwrap_or_else(|| "?column?".into())
    }

    pub(super) fn figure_name(&self, ast: &Ast) -> Option<String> {
        match ast {
            Ast::Identifier(name) => Some(fold(name)),
            Ast::CompoundIdentifier(parts) => parts.last().map(fold),
            Ast::CompoundFieldAccess { root, access_chain } => {
                let dot = access_chain.iter().rev().find_map(|a| match a {
                    AccessExpr::Dot(Ast::Identifier(name)) => Some(fold(name)),
                    _ => None,
                });
                dot.or_else(|| self.figure_name(root))
            }
            Ast::Cast { expr, data_type, .. } => self.figure_name(expr).or_else(|| {
                let ty = self.data_type(data_type).ok()?;
                types::by_oid(ty.oid).map(|t| t.name.trim_start_matches('_').to_string())
            }),
            Ast::Nested(e) | Ast::Collate { expr: e, .. } => self.figure_name(e),
            Ast::Function(f) => Some(split_name(&f.name).1),
            Ast::Case { else_result, .. } => {
                else_result.as_ref().and_then(|e| self.figure_name(e)).or_else(|| Some("case".into()))
            }
            Ast::Exists { negated: false, .. } => Some("exists".into()),
            Ast::Subquery(query) => match &*query.body {
                ast::SetExpr::Select(select) => match select.projection.first()? {
                    ast::SelectItem::UnnamedExpr(e) => self.figure_name(e),
                    ast::SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                    _ => None,
                },
                _ => None,
            },
            Ast::Array(_) => Some("array".into()),
            Ast::Extract { .. } => Some("extract".into()),
            Ast::Substring { .. } => Some("substring".into()),
            Ast::Position { .. } => Some("position".into()),
            Ast::Ceil { .. } => Some("ceil".into()),
            Ast::Floor { .. } => Some("floor".into()),
            Ast::Trim { trim_where, .. } => Some(
                match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                }
                .into(),
            ),
            Ast::AtTimeZone { .. } => Some("timezone".into()),
            Ast::Interval(_) => Some("interval".into()),
            Ast::TypedString(t) => self
                .data_type(&t.data_type)
                .ok()
                .and_then(|t| types::by_oid(t.oid))
                .map(|t| t.name.to_string()),
            Ast::Value(v) if matches!(v.value, Literal::Boolean(_)) => Some("bool".into()),
            _ => None,
        }
    }

    /// The type that a type name in a cast means.
    pub(super) fn data_type(&self, ast: &ast::DataType) -> Result<PgType> {
        let text = ast.to_string();
        let unquoted = match ast {
            ast::DataType::Custom(name, modifiers) if modifiers.is_empty() => {
                let (_, name) = split_name(name);
                types::by_name(&name).map(|t| t.oid)
            }
            ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(inner, _)) => {
                let element = self.data_type(inner)?;
                types::by_oid(element.oid).map(|t| t.array).filter(|a| *a != 0)
            }
            _ => None,
        };
        let Some(found) = unquoted.or_else(|| types::parse_name(&text)) else {
            return Err(Error::new(
                ErrorKind::UndefinedObject,
                format!("type \"{}\" does not exist", text.to_lowercase()),
            ));
        };
        let numbers: Vec<i32> = text
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(inside, _)| inside.split(',').filter_map(|n| n.trim().parse().ok()).collect())
            .unwrap_or_default();
        Ok(match (found, numbers.as_slice()) {
            (oid::VARCHAR | oid::BPCHAR, [n]) => PgType { oid: found, typmod: n.saturating_add(4) },
            (oid::NUMERIC, [p, s]) => PgType::numeric((*p).clamp(1, 76) as u8, (*s).clamp(-76, 76) as i8),
            (oid::NUMERIC, [p]) => PgType::numeric((*p).clamp(1, 76) as u8, 0),
            _ => PgType::of(found),
        })
    }
}
