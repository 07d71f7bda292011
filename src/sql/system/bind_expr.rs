//! From an expression's syntax tree to a typed expression.
//!
//! Boundary: expressions; queries inside them go back to [`super::bind`].

use std::rc::Rc;

use sqlparser::ast::{
    self, AccessExpr, BinaryOperator, Expr as Ast, Subscript, UnaryOperator, Value as Literal,
};

use super::bind::{Binder, fold, record, unsupported};
use super::coerce::{common, is_text, is_time};
use super::functions;
use super::scope::{Level, ScopeColumn, Typed};
use super::tree::{Expr, Op, SubKind, SubQuery, is_constant};
use crate::catalog::system::{Value, types};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

fn boolean(expr: Expr) -> Typed {
    Typed::new(expr, PgType::BOOL)
}

impl Binder<'_> {
    /// Binds an expression.
    pub(super) fn expr(&self, ast: &Ast, level: &Level<'_>) -> Result<Typed> {
        let boxed = |e: &Ast| self.expr(e, level).map(|t| Box::new(t.expr));
        let test = |expr: &Ast, value: Option<bool>, negated: bool| -> Result<Typed> {
            let expr = Box::new(self.boolean(expr, level)?);
            Ok(boolean(Expr::IsBool { expr, value, negated }))
        };
        match ast {
            Ast::Identifier(name) => self.name(name, level),
            Ast::CompoundIdentifier(parts) => {
                self.compound(&parts.iter().map(fold).collect::<Vec<_>>(), level)
            }
            Ast::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain, level),
            Ast::IsTrue(e) => test(e, Some(true), false),
            Ast::IsNotTrue(e) => test(e, Some(true), true),
            Ast::IsFalse(e) => test(e, Some(false), false),
            Ast::IsNotFalse(e) => test(e, Some(false), true),
            Ast::IsUnknown(e) => test(e, None, false),
            Ast::IsNotUnknown(e) => test(e, None, true),
            Ast::IsNull(e) => Ok(boolean(Expr::IsNull { expr: boxed(e)?, negated: false })),
            Ast::IsNotNull(e) => Ok(boolean(Expr::IsNull { expr: boxed(e)?, negated: true })),
            Ast::IsDistinctFrom(a, b) => self.distinct(a, b, false, level),
            Ast::IsNotDistinctFrom(a, b) => self.distinct(a, b, true, level),
            Ast::InList { expr, list, negated } => self.in_list(expr, list, *negated, level),
            Ast::InSubquery { expr, subquery, negated } => self.in_query(expr, subquery, *negated, level),
            Ast::Between { expr, negated, low, high } => {
                let low = self.binary(Op::Ge, self.expr(expr, level)?, self.expr(low, level)?)?;
                let high = self.binary(Op::Le, self.expr(expr, level)?, self.expr(high, level)?)?;
                let both = Expr::And(vec![low.expr, high.expr]);
                Ok(boolean(if *negated { Expr::Not(Box::new(both)) } else { both }))
            }
            Ast::BinaryOp { left, op, right } => self.binary_op(left, op, right, level),
            Ast::Like { negated, any: false, expr, pattern, .. } => {
                self.matching(Op::Like { insensitive: false, negated: *negated }, expr, pattern, level)
            }
            Ast::ILike { negated, any: false, expr, pattern, .. } => {
                self.matching(Op::Like { insensitive: true, negated: *negated }, expr, pattern, level)
            }
            Ast::AnyOp { left, compare_op, right, .. } => {
                self.quantified(left, compare_op, right, false, level)
            }
            Ast::AllOp { left, compare_op, right } => self.quantified(left, compare_op, right, true, level),
            Ast::UnaryOp { op, expr } => self.unary(op, expr, level),
            Ast::Cast { expr, data_type, .. } => {
                let to = self.data_type(data_type)?;
                let typed = self.expr(expr, level)?;
                let mut cast = Typed::new(self.convert(typed.clone(), to, true)?, to);
                if typed.ty == to {
                    cast.origin = typed.origin;
                }
                Ok(cast)
            }
            Ast::TypedString(t) => {
                let to = self.data_type(&t.data_type)?;
                let typed = literal(&t.value.value)?;
                Ok(Typed::new(self.convert(typed, to, true)?, to))
            }
            Ast::Interval(i) => {
                let typed = self.expr(&i.value, level)?;
                let text = match (&typed.expr, &i.leading_field) {
                    (Expr::Const(Value::Text(t)), Some(field)) => format!("{t} {field}"),
                    (Expr::Const(Value::Text(t)), None) => t.to_string(),
                    _ => return Err(unsupported("this form of interval")),
                };
                let typed = Typed::new(Expr::Const(text.into()), PgType::UNKNOWN);
                Ok(Typed::new(self.convert(typed, PgType::INTERVAL, true)?, PgType::INTERVAL))
            }
            Ast::AtTimeZone { timestamp, time_zone } => {
                let args = vec![self.expr(time_zone, level)?, self.expr(timestamp, level)?];
                self.call("timezone", args)
            }
            Ast::Extract { field, expr, .. } => {
                let field = Typed::new(Expr::Const(field.to_string().to_lowercase().into()), PgType::TEXT);
                self.call("extract", vec![field, self.expr(expr, level)?])
            }
            Ast::Ceil { expr, .. } => self.call("ceil", vec![self.expr(expr, level)?]),
            Ast::Floor { expr, .. } => self.call("floor", vec![self.expr(expr, level)?]),
            Ast::Position { expr, r#in } => {
                self.call("strpos", vec![self.expr(r#in, level)?, self.expr(expr, level)?])
            }
            Ast::Substring { expr, substring_from, substring_for, .. } => {
                let one = || Typed::new(Expr::Const(Value::Int(1)), PgType::INT4);
                let mut args = vec![self.expr(expr, level)?];
                args.push(substring_from.as_ref().map_or_else(|| Ok(one()), |e| self.expr(e, level))?);
                if let Some(length) = substring_for {
                    args.push(self.expr(length, level)?);
                }
                self.call("substring", args)
            }
            Ast::Trim { trim_where, trim_what, expr, trim_characters } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let mut args = vec![self.expr(expr, level)?];
                let what = trim_what.as_deref().or_else(|| trim_characters.as_ref().and_then(|c| c.first()));
                args.extend(what.map(|w| self.expr(w, level)).transpose()?);
                self.call(name, args)
            }
            Ast::Collate { expr, .. } | Ast::Nested(expr) => self.expr(expr, level),
            Ast::Value(v) => self.value(&v.value),
            Ast::Function(f) => self.function(f, level),
            Ast::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), level)
            }
            Ast::Exists { subquery, negated } => {
                let plan = self.query(subquery, Some(level.scope))?.plan;
                let exists = self.sub(SubKind::Exists, plan);
                Ok(boolean(if *negated { Expr::Not(Box::new(exists)) } else { exists }))
            }
            Ast::Subquery(query) => {
                let (plan, column) = self.one_column(query, level)?;
                Ok(Typed {
                    expr: self.sub(SubKind::Scalar, plan),
                    ty: column.ty,
                    fields: column.fields,
                    origin: (0, 0),
                })
            }
            Ast::Tuple(all) => self.row(all, level),
            Ast::Array(array) => self.array(&array.elem, level),
            _ => Err(unsupported("this expression")),
        }
    }

    pub(super) fn name(&self, name: &ast::Ident, level: &Level<'_>) -> Result<Typed> {
        let folded = fold(name);
        if let Some(column) = level.scope.column(&folded)? {
            return Ok(column);
        }
        if folded == "tableoid"
            && let [table] = level.scope.tables.as_slice()
        {
            return Ok(Typed::new(Expr::Const(table.oid.into()), PgType::of(oid::OID)));
        }
        if name.quote_style.is_none() && functions::is_keyword_function(&folded) {
            return self.call(&folded, vec![]);
        }
        if let Some(row) = level.scope.whole_row(&folded) {
            return Ok(row);
        }
        Err(Error::new(ErrorKind::UndefinedColumn, format!("column \"{folded}\" does not exist")))
    }

    pub(super) fn compound(&self, parts: &[String], level: &Level<'_>) -> Result<Typed> {
        let (schema, table, column) = match parts {
            [table, column] => (None, table, column),
            [.., schema, table, column] => (Some(schema.as_str()), table, column),
            _ => return Err(unsupported("this name")),
        };
        if schema.is_none()
            && level.scope.table(None, table).is_none()
            && let Some(typed) = level.scope.column(table)?
            && typed.fields.is_some()
        {
            return self.field(typed, column);
        }
        if let Some(typed) = level.scope.qualified(schema, table, column)? {
            return Ok(typed);
        }
        let oid = level.scope.table(schema, table).map_or(0, |(_, t)| t.oid);
        let system = |value: Value, ty: u32| Ok(Typed::new(Expr::Const(value), PgType::of(ty)));
        match column.as_str() {
            "tableoid" if oid != 0 => system(oid.into(), oid::OID),
            "xmin" | "xmax" | "cmin" | "cmax" if oid != 0 => system(Value::Int(1), 28),
            "ctid" if oid != 0 => system("(0,1)".into(), oid::TEXT),
            _ => {
                Err(Error::new(ErrorKind::UndefinedColumn, format!("column {table}.{column} does not exist")))
            }
        }
    }

    pub(super) fn field(&self, typed: Typed, name: &str) -> Result<Typed> {
        let found = typed.fields.as_ref().and_then(|f| {
            let i = f.iter().position(|(n, _)| n == name)?;
            Some((i, f[i].1))
        });
        let Some((i, ty)) = found else {
            return Err(Error::new(
                ErrorKind::UndefinedColumn,
                format!("column \"{name}\" not found in data type record"),
            ));
        };
        let expr = match typed.expr {
            Expr::Row(mut all) => all.swap_remove(i),
            other => Expr::Field(Box::new(other), i),
        };
        Ok(Typed::new(expr, ty))
    }

    pub(super) fn access(&self, root: &Ast, chain: &[AccessExpr], level: &Level<'_>) -> Result<Typed> {
        // `alias.column[1]` comes as a chain from the alias.
        let mut names = vec![];
        let mut rest = chain;
        let mut typed = None;
        if let Ast::Identifier(first) = root
            && level.scope.column(&fold(first))?.is_none()
        {
            names.push(fold(first));
            while let [AccessExpr::Dot(Ast::Identifier(name)), tail @ ..] = rest {
                names.push(fold(name));
                rest = tail;
            }
            if names.len() > 1 {
                typed = Some(self.compound(&names, level)?);
            } else {
                rest = chain;
            }
        }
        let mut typed = match typed {
            Some(t) => t,
            None => self.expr(root, level)?,
        };
        for access in rest {
            typed = match access {
                AccessExpr::Dot(Ast::Identifier(name)) => self.field(typed, &fold(name))?,
                AccessExpr::Dot(Ast::Value(v)) => match &v.value {
                    Literal::SingleQuotedString(name) | Literal::DoubleQuotedString(name) => {
                        self.field(typed, name)?
                    }
                    _ => return Err(unsupported("this field access")),
                },
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let array = self.as_array(typed)?;
                    let index = self.coerce(self.expr(index, level)?, PgType::INT8)?;
                    let element = types::element(array.ty.oid).unwrap_or(oid::TEXT);
                    Typed::new(Expr::Subscript(Box::new(array.expr), Box::new(index)), PgType::of(element))
                }
                AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) => {
                    let array = self.as_array(typed)?;
                    let bound = |e: &Option<Ast>| -> Result<Option<Box<Expr>>> {
                        let Some(e) = e else { return Ok(None) };
                        Ok(Some(Box::new(self.coerce(self.expr(e, level)?, PgType::INT8)?)))
                    };
                    let (from, to) = (bound(lower_bound)?, bound(upper_bound)?);
                    Typed::new(Expr::Slice(Box::new(array.expr), from, to), array.ty)
                }
                AccessExpr::Dot(_) => return Err(unsupported("this field access")),
            };
        }
        Ok(typed)
    }

    pub(super) fn as_array(&self, typed: Typed) -> Result<Typed> {
        if types::element(typed.ty.oid).is_some() {
            return Ok(typed);
        }
        Err(Error::new(
            ErrorKind::DatatypeMismatch,
            format!(
                "cannot subscript type {} because it does not support subscripting",
                self.type_name(typed.ty)
            ),
        ))
    }

    pub(super) fn value(&self, value: &Literal) -> Result<Typed> {
        let Literal::Placeholder(name) = value else { return literal(value) };
        let number =
            name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()).filter(|n| (1..=65535).contains(n));
        let Some(number) = number else {
            return Err(Error::new(ErrorKind::UndefinedParameter, format!("there is no parameter {name}")));
        };
        self.touch_parameter(number - 1);
        let ty = self.parameter_type(number - 1).unwrap_or(PgType::UNKNOWN);
        Ok(Typed::new(Expr::Param(number - 1), ty))
    }

    pub(super) fn sub(&self, kind: SubKind, mut plan: super::tree::Plan) -> Expr {
        let constant = is_constant(&mut plan);
        Expr::Sub(Box::new(SubQuery { id: self.id(), kind, plan, constant }))
    }

    pub(super) fn one_column(
        &self,
        query: &ast::Query,
        level: &Level<'_>,
    ) -> Result<(super::tree::Plan, ScopeColumn)> {
        let bound = self.query(query, Some(level.scope))?;
        let mut columns = self.settle(bound);
        match columns.columns.pop() {
            Some(column) if columns.columns.is_empty() => Ok((columns.plan, column)),
            _ => Err(Error::new(ErrorKind::Syntax, "subquery must return only one column")),
        }
    }

    pub(super) fn distinct(&self, a: &Ast, b: &Ast, negated: bool, level: &Level<'_>) -> Result<Typed> {
        let (mut both, _) =
            self.unify("IS DISTINCT FROM", vec![self.expr(a, level)?, self.expr(b, level)?])?;
        let (right, left) = (both.pop().unwrap_or(Expr::Const(Value::Null)), both.pop());
        let left = left.unwrap_or(Expr::Const(Value::Null));
        Ok(boolean(Expr::Distinct { left: Box::new(left), right: Box::new(right), negated }))
    }

    pub(super) fn in_list(
        &self,
        expr: &Ast,
        list: &[Ast],
        negated: bool,
        level: &Level<'_>,
    ) -> Result<Typed> {
        if let Ast::Tuple(_) = expr {
            let mut any = vec![];
            for item in list {
                any.push(self.binary(Op::Eq, self.expr(expr, level)?, self.expr(item, level)?)?.expr);
            }
            let any = Expr::Or(any);
            return Ok(boolean(if negated { Expr::Not(Box::new(any)) } else { any }));
        }
        let mut all = vec![self.expr(expr, level)?];
        for item in list {
            all.push(self.expr(item, level)?);
        }
        let (mut all, _) = self.unify("IN", all)?;
        let expr = Box::new(all.remove(0));
        Ok(boolean(Expr::InList { expr, list: all, negated }))
    }

    pub(super) fn in_query(
        &self,
        expr: &Ast,
        query: &ast::Query,
        negated: bool,
        level: &Level<'_>,
    ) -> Result<Typed> {
        let left = match expr {
            Ast::Tuple(all) => all.iter().map(|e| self.expr(e, level)).collect::<Result<Vec<_>>>()?,
            one => vec![self.expr(one, level)?],
        };
        let bound = self.query(query, Some(level.scope))?;
        if bound.columns.len() != left.len() {
            return Err(Error::new(ErrorKind::Syntax, "subquery has too many or too few columns"));
        }
        let mut exprs = vec![];
        for (i, (left, column)) in left.into_iter().zip(&bound.columns).enumerate() {
            let ty = self.common_type("IN", [&left, &column.typed(0, i)])?;
            exprs.push(self.coerce(left, ty)?);
        }
        Ok(boolean(self.sub(SubKind::In { left: exprs, negated }, bound.plan)))
    }

    pub(super) fn quantified(
        &self,
        left: &Ast,
        op: &BinaryOperator,
        right: &Ast,
        all: bool,
        level: &Level<'_>,
    ) -> Result<Typed> {
        let op = operator(op)?;
        let left = self.expr(left, level)?;
        let mut inner = right;
        while let Ast::Nested(e) = inner {
            inner = e;
        }
        if let Ast::Subquery(query) = inner {
            let (plan, column) = self.one_column(query, level)?;
            if types::element(column.ty.oid).is_none() || types::element(left.ty.oid).is_some() {
                let ty = self.common_type("ANY/ALL", [&left, &column.typed(0, 0)])?;
                let left = self.coerce(left, ty)?;
                return Ok(boolean(self.sub(SubKind::Quantified { op, left, all }, plan)));
            }
            let array = Typed::new(self.sub(SubKind::Scalar, plan), column.ty);
            return self.quantified_array(op, left, array, all);
        }
        let array = self.expr(inner, level)?;
        self.quantified_array(op, left, array, all)
    }

    pub(super) fn quantified_array(&self, op: Op, left: Typed, array: Typed, all: bool) -> Result<Typed> {
        let element = types::element(array.ty.oid);
        let ty = match element {
            None if array.ty.oid != oid::UNKNOWN => {
                return Err(Error::new(
                    ErrorKind::WrongObjectType,
                    "op ANY/ALL (array) requires array on right side",
                ));
            }
            None => {
                if left.ty.oid == oid::UNKNOWN {
                    PgType::TEXT
                } else {
                    PgType::of(left.ty.oid)
                }
            }
            Some(e) => common(left.ty, PgType::of(e)).ok_or_else(|| {
                Error::new(
                    ErrorKind::UndefinedFunction,
                    format!(
                        "operator does not exist: {} = {}",
                        self.type_name(left.ty),
                        self.type_name(PgType::of(e))
                    ),
                )
            })?,
        };
        let left = self.coerce(left, ty)?;
        let array = match element {
            // int2vector and oidvector hold numbers as they are.
            Some(e) if e == ty.oid => array.expr,
            _ => self.coerce(array, PgType::of(types::array_of(ty.oid)))?,
        };
        Ok(boolean(Expr::Quantified { op, left: Box::new(left), array: Box::new(array), all }))
    }

    pub(super) fn binary_op(
        &self,
        left: &Ast,
        op: &BinaryOperator,
        right: &Ast,
        level: &Level<'_>,
    ) -> Result<Typed> {
        match op {
            BinaryOperator::And | BinaryOperator::Or => {
                let and = matches!(op, BinaryOperator::And);
                let mut parts = vec![];
                for side in [left, right] {
                    match (self.boolean(side, level)?, and) {
                        (Expr::And(all), true) | (Expr::Or(all), false) => parts.extend(all),
                        (other, _) => parts.push(other),
                    }
                }
                Ok(boolean(if and { Expr::And(parts) } else { Expr::Or(parts) }))
            }
            op => {
                let op = operator(op)?;
                if matches!(op, Op::Like { .. } | Op::Regex { .. }) {
                    return self.matching(op, left, right, level);
                }
                self.binary(op, self.expr(left, level)?, self.expr(right, level)?)
            }
        }
    }

    pub(super) fn matching(&self, op: Op, left: &Ast, right: &Ast, level: &Level<'_>) -> Result<Typed> {
        let left = Box::new(self.coerce(self.expr(left, level)?, PgType::TEXT)?);
        let right = Box::new(self.coerce(self.expr(right, level)?, PgType::TEXT)?);
        Ok(boolean(Expr::Binary { op, left, right }))
    }

    /// An operator applied to two values of whatever types.
    pub(super) fn binary(&self, op: Op, left: Typed, right: Typed) -> Result<Typed> {
        let no_operator = |b: &Self, left: PgType, right: PgType| {
            Error::new(
                ErrorKind::UndefinedFunction,
                format!("operator does not exist: {} and {}", b.type_name(left), b.type_name(right)),
            )
            .with_hint(
                "No operator matches the given argument types. You might need to add explicit type casts.",
            )
        };
        let make = |op, left, right| Expr::Binary { op, left: Box::new(left), right: Box::new(right) };
        let array = |t: &Typed| types::element(t.ty.oid);
        match op {
            Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => {
                if let (Expr::Row(a), Expr::Row(b)) = (&left.expr, &right.expr)
                    && op == Op::Eq
                    && a.len() == b.len()
                {
                    let (a, b) = (self.row_parts(&left), self.row_parts(&right));
                    let parts = a.into_iter().zip(b).map(|(a, b)| self.binary(op, a, b).map(|t| t.expr));
                    return Ok(boolean(Expr::And(parts.collect::<Result<_>>()?)));
                }
                let ty = common(left.ty, right.ty).ok_or_else(|| no_operator(self, left.ty, right.ty))?;
                let ty = if ty.oid == oid::UNKNOWN { PgType::TEXT } else { ty };
                let (left, right) =
                    (self.coerce(left, PgType::of(ty.oid))?, self.coerce(right, PgType::of(ty.oid))?);
                Ok(boolean(make(op, left, right)))
            }
            Op::Concat => {
                if array(&left).is_some() || array(&right).is_some() {
                    return self.array_concat(left, right);
                }
                let (left, right) =
                    (self.convert(left, PgType::TEXT, true)?, self.convert(right, PgType::TEXT, true)?);
                Ok(Typed::new(make(op, left, right), PgType::TEXT))
            }
            Op::Contains | Op::Contained | Op::Overlap => {
                let ty = common(left.ty, right.ty).ok_or_else(|| no_operator(self, left.ty, right.ty))?;
                Ok(boolean(make(op, self.coerce(left, ty)?, self.coerce(right, ty)?)))
            }
            _ if is_time(left.ty.oid) || is_time(right.ty.oid) => self.time_arithmetic(op, left, right),
            _ => {
                let ty = common(left.ty, right.ty).ok_or_else(|| no_operator(self, left.ty, right.ty))?;
                let ty = match ty.oid {
                    oid::UNKNOWN => PgType::INT4,
                    o if is_text(o) => return Err(no_operator(self, left.ty, right.ty)),
                    o => PgType::of(o),
                };
                let (left, right) = (self.coerce(left, ty)?, self.coerce(right, ty)?);
                Ok(Typed::new(make(op, left, right), ty))
            }
        }
    }

    pub(super) fn row_parts(&self, typed: &Typed) -> Vec<Typed> {
        match (&typed.expr, &typed.fields) {
            (Expr::Row(all), Some(fields)) => {
                all.iter().zip(fields.iter()).map(|(e, (_, ty))| Typed::new(e.clone(), *ty)).collect()
            }
            _ => vec![],
        }
    }

    pub(super) fn array_concat(&self, left: Typed, right: Typed) -> Result<Typed> {
        let element = |t: &Typed| types::element(t.ty.oid).map(PgType::of);
        let a = element(&left).or_else(|| element(&right)).unwrap_or(PgType::TEXT);
        let b = element(&right).or_else(|| element(&left)).unwrap_or(PgType::TEXT);
        let item = common(a, b).unwrap_or(PgType::TEXT);
        let ty = PgType::of(types::array_of(item.oid));
        let side = |t: Typed| -> Result<Expr> {
            if element(&t).is_some() || t.ty.oid == oid::UNKNOWN {
                return self.coerce(t, ty);
            }
            Ok(Expr::Array(vec![self.coerce(t, item)?]))
        };
        let (left, right) = (Box::new(side(left)?), Box::new(side(right)?));
        Ok(Typed::new(Expr::Binary { op: Op::ArrayConcat, left, right }, ty))
    }

    pub(super) fn time_arithmetic(&self, op: Op, left: Typed, right: Typed) -> Result<Typed> {
        let interval = |t: &Typed| t.ty.oid == oid::INTERVAL;
        let ty = match op {
            Op::Sub if !interval(&left) && !interval(&right) => PgType::INTERVAL,
            Op::Add | Op::Sub if interval(&left) => PgType::of(right.ty.oid),
            _ => PgType::of(left.ty.oid),
        };
        let wanted =
            |t: &Typed| if t.ty.oid == oid::UNKNOWN { PgType::INTERVAL } else { PgType::of(t.ty.oid) };
        let (l, r) = (wanted(&left), wanted(&right));
        let (left, right) = (Box::new(self.coerce(left, l)?), Box::new(self.coerce(right, r)?));
        Ok(Typed::new(Expr::Binary { op, left, right }, ty))
    }

    pub(super) fn unary(&self, op: &UnaryOperator, expr: &Ast, level: &Level<'_>) -> Result<Typed> {
        match op {
            UnaryOperator::Not => Ok(boolean(Expr::Not(Box::new(self.boolean(expr, level)?)))),
            UnaryOperator::Plus => self.expr(expr, level),
            UnaryOperator::Minus => {
                let typed = self.expr(expr, level)?;
                let ty = if typed.ty.oid == oid::UNKNOWN { PgType::FLOAT8 } else { typed.ty };
                let expr = self.coerce(typed, ty)?;
                Ok(Typed::new(Expr::Negate(Box::new(expr)), ty))
            }
            _ => Err(unsupported("this operator")),
        }
    }

    pub(super) fn case(
        &self,
        operand: Option<&Ast>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&Ast>,
        level: &Level<'_>,
    ) -> Result<Typed> {
        let mut whens = vec![];
        let mut results = vec![];
        for when in conditions {
            whens.push(match operand {
                Some(operand) => {
                    self.binary(Op::Eq, self.expr(operand, level)?, self.expr(&when.condition, level)?)?.expr
                }
                None => self.boolean(&when.condition, level)?,
            });
            results.push(self.expr(&when.result, level)?);
        }
        results.push(match otherwise {
            Some(e) => self.expr(e, level)?,
            None => Typed::new(Expr::Const(Value::Null), PgType::UNKNOWN),
        });
        let (mut results, ty) = self.unify("CASE", results)?;
        let otherwise = Box::new(results.pop().unwrap_or(Expr::Const(Value::Null)));
        Ok(Typed::new(Expr::Case { whens: whens.into_iter().zip(results).collect(), otherwise }, ty))
    }

    pub(super) fn row(&self, all: &[Ast], level: &Level<'_>) -> Result<Typed> {
        let parts = all.iter().map(|e| self.expr(e, level)).collect::<Result<Vec<_>>>()?;
        let fields = (1..).zip(&parts).map(|(i, t)| (format!("f{i}"), t.ty)).collect();
        Ok(Typed {
            expr: Expr::Row(parts.into_iter().map(|t| t.expr).collect()),
            ty: record(),
            fields: Some(Rc::new(fields)),
            origin: (0, 0),
        })
    }

    pub(super) fn array(&self, elements: &[Ast], level: &Level<'_>) -> Result<Typed> {
        let all = elements.iter().map(|e| self.expr(e, level)).collect::<Result<Vec<_>>>()?;
        let (exprs, ty) = self.unify("ARRAY", all)?;
        Ok(Typed::new(Expr::Array(exprs), PgType::of(types::array_of(ty.oid))))
    }
}

fn literal(value: &Literal) -> Result<Typed> {
    let text = |t: &str| Typed::new(Expr::Const(t.into()), PgType::UNKNOWN);
    Ok(match value {
        Literal::Number(n, _) => match n.parse::<i64>() {
            Ok(i) if i32::try_from(i).is_ok() => Typed::new(Expr::Const(Value::Int(i)), PgType::INT4),
            Ok(i) => Typed::new(Expr::Const(Value::Int(i)), PgType::INT8),
            Err(_) => match n.parse::<f64>() {
                Ok(f) => Typed::new(Expr::Const(Value::Float(f)), PgType::NUMERIC),
                Err(_) => return Err(Error::new(ErrorKind::Syntax, format!("invalid number \"{n}\""))),
            },
        },
        Literal::SingleQuotedString(t)
        | Literal::EscapedStringLiteral(t)
        | Literal::UnicodeStringLiteral(t)
        | Literal::NationalStringLiteral(t) => text(t),
        Literal::DollarQuotedString(t) => text(&t.value),
        Literal::Boolean(b) => Typed::new(Expr::Const(Value::Bool(*b)), PgType::BOOL),
        Literal::Null => Typed::new(Expr::Const(Value::Null), PgType::UNKNOWN),
        _ => return Err(unsupported("this literal")),
    })
}

fn operator(op: &BinaryOperator) -> Result<Op> {
    use BinaryOperator as B;
    let regex = |insensitive, negated| Op::Regex { insensitive, negated };
    let like = |insensitive, negated| Op::Like { insensitive, negated };
    Ok(match op {
        B::Eq => Op::Eq,
        B::NotEq => Op::Ne,
        B::Lt => Op::Lt,
        B::LtEq => Op::Le,
        B::Gt => Op::Gt,
        B::GtEq => Op::Ge,
        B::Plus => Op::Add,
        B::Minus => Op::Sub,
        B::Multiply => Op::Mul,
        B::Divide => Op::Div,
        B::Modulo => Op::Mod,
        B::BitwiseAnd => Op::BitAnd,
        B::BitwiseOr => Op::BitOr,
        B::StringConcat => Op::Concat,
        B::PGRegexMatch => regex(false, false),
        B::PGRegexIMatch => regex(true, false),
        B::PGRegexNotMatch => regex(false, true),
        B::PGRegexNotIMatch => regex(true, true),
        B::PGLikeMatch => like(false, false),
        B::PGILikeMatch => like(true, false),
        B::PGNotLikeMatch => like(false, true),
        B::PGNotILikeMatch => like(true, true),
        B::AtArrow => Op::Contains,
        B::ArrowAt => Op::Contained,
        B::PGOverlap => Op::Overlap,
        B::PGCustomBinaryOperator(parts) => match parts.last().map(String::as_str) {
            Some("=") => Op::Eq,
            Some("<>" | "!=") => Op::Ne,
            Some("<") => Op::Lt,
            Some("<=") => Op::Le,
            Some(">") => Op::Gt,
            Some(">=") => Op::Ge,
            Some("~") => regex(false, false),
            Some("~*") => regex(true, false),
            Some("!~") => regex(false, true),
            Some("!~*") => regex(true, true),
            Some("~~") => like(false, false),
            Some("~~*") => like(true, false),
            Some("!~~") => like(false, true),
            Some("||") => Op::Concat,
            Some("+") => Op::Add,
            Some("-") => Op::Sub,
            Some("*") => Op::Mul,
            Some("/") => Op::Div,
            Some("@>") => Op::Contains,
            Some("<@") => Op::Contained,
            Some("&&") => Op::Overlap,
            _ => return Err(unsupported("this operator")),
        },
        _ => return Err(unsupported("this operator")),
    })
}
