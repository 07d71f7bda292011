//! Settling types: every expression gets PostgreSQL's types, arguments before the call they stand in.
//!
//! Literals of unknown type and parameters take the type of their context; the first use of a parameter decides.
//!
//! Boundary: expressions; [`super::resolve_plan`] walks the plans, [`super::resolve_call`] knows the functions.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::{Case, Cast, InList, InSubquery, Like, Placeholder, ScalarFunction};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, ReturnFieldArgs};
use datafusion::logical_expr_common::type_coercion::binary::BinaryTypeCoercer;

use super::BindContext;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::cast::{self, CastContext, cast_context};
use crate::sql::functions::{DfResult, Native, Symbol, df_error, no_operator};
use crate::types::{PgType, oid};

/// An expression with its type.
#[derive(Debug, Clone)]
pub struct Operand {
    /// The expression.
    pub expr: Expr,
    /// Its field.
    pub field: FieldRef,
}

impl Operand {
    /// Its PostgreSQL type; unknown for literals and parameters that take their type from the context.
    pub fn pg(&self) -> PgType {
        if self.unknown() { PgType::UNKNOWN } else { PgType::of_field(&self.field) }
    }

    /// Whether the context decides its type.
    pub fn unknown(&self) -> bool {
        *self.field.data_type() == DataType::Null
            || matches!(
                &self.expr,
                Expr::Literal(ScalarValue::Utf8(_), None)
                    | Expr::Placeholder(Placeholder { field: None, .. })
            )
    }

    /// Its type, or `None` when unknown.
    pub fn known(&self) -> Option<PgType> {
        (!self.unknown()).then(|| self.pg())
    }
}

/// The state of settling one statement's types.
pub struct Resolver<'a> {
    /// What the statement is bound in.
    pub context: &'a BindContext<'a>,
    params: Vec<Option<PgType>>,
    /// Whether `now()` or a like function was used.
    pub uses_now: bool,
    /// Schemas of the queries around the current subquery.
    pub(super) outer: Vec<DFSchemaRef>,
    /// Columns that break ties in the windows being settled.
    pub(super) ties: Vec<Expr>,
    /// Schemas of the expressions being settled, the innermost last.
    pub(super) scope: Vec<DFSchema>,
}

impl<'a> Resolver<'a> {
    /// Nothing settled yet but what the client said of its parameters.
    pub fn new(context: &'a BindContext<'a>) -> Self {
        Resolver {
            context,
            params: context.param_types.clone(),
            uses_now: false,
            outer: Vec::new(),
            ties: Vec::new(),
            scope: Vec::new(),
        }
    }

    /// The types of all parameters; 42P18 when one has none.
    pub fn param_types(&self) -> Result<Vec<PgType>> {
        self.params
            .iter()
            .enumerate()
            .map(|(i, t)| {
                t.ok_or_else(|| {
                    Error::new(
                        ErrorKind::IndeterminateDatatype,
                        format!("could not determine data type of parameter ${}", i + 1),
                    )
                })
            })
            .collect()
    }

    /// The resolved form of an expression over `schema`.
    pub fn expr(&mut self, expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
        self.scope.push(schema.clone());
        let resolved =
            super::with_stack(|| expr.transform_up(|e| Ok(Transformed::yes(self.rewrite(e, schema)?))));
        self.scope.pop();
        Ok(resolved?.data)
    }

    /// An expression with its type.
    pub fn operand(&self, expr: Expr, schema: &DFSchema) -> DfResult<Operand> {
        let field = field_of(&expr, schema)?;
        Ok(Operand { expr, field })
    }

    fn rewrite(&mut self, expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
        match expr {
            Expr::Literal(value, None) => Ok(Expr::Literal(small_integer(value), None)),
            Expr::Placeholder(p) => self.placeholder(p).map_err(df_error),
            Expr::OuterReferenceColumn(field, column) => {
                let fresh = self
                    .outer
                    .iter()
                    .rev()
                    .find_map(|s| s.qualified_field_from_column(&column).ok().map(|(_, f)| f.clone()));
                Ok(Expr::OuterReferenceColumn(fresh.unwrap_or(field), column))
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) if func.inner().is::<Symbol>() => {
                let args = args
                    .into_iter()
                    .map(|a| self.operand(strip_alias(a), schema))
                    .collect::<DfResult<_>>()?;
                self.call(func.name(), args).map_err(df_error)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.binary(*left, op, *right, schema),
            Expr::Not(e) => Ok(Expr::Not(Box::new(self.boolean(*e, schema, "NOT")?))),
            Expr::IsTrue(e) => Ok(Expr::IsTrue(Box::new(self.boolean(*e, schema, "IS TRUE")?))),
            Expr::IsFalse(e) => Ok(Expr::IsFalse(Box::new(self.boolean(*e, schema, "IS FALSE")?))),
            Expr::IsNotTrue(e) => Ok(Expr::IsNotTrue(Box::new(self.boolean(*e, schema, "IS NOT TRUE")?))),
            Expr::IsNotFalse(e) => {
                Ok(Expr::IsNotFalse(Box::new(self.boolean(*e, schema, "IS NOT FALSE")?)))
            }
            Expr::IsUnknown(e) => Ok(Expr::IsUnknown(Box::new(self.boolean(*e, schema, "IS UNKNOWN")?))),
            Expr::IsNotUnknown(e) => {
                Ok(Expr::IsNotUnknown(Box::new(self.boolean(*e, schema, "IS NOT UNKNOWN")?)))
            }
            Expr::IsNull(e) => Ok(Expr::IsNull(Box::new(self.settled(*e, schema)?))),
            Expr::IsNotNull(e) => Ok(Expr::IsNotNull(Box::new(self.settled(*e, schema)?))),
            Expr::Between(b) => self.between(*b.expr, *b.low, *b.high, b.negated, schema),
            Expr::InList(list) => self.in_list(list, schema),
            Expr::Like(like) => Ok(Expr::Like(self.like(like, schema)?)),
            Expr::SimilarTo(like) => Ok(Expr::SimilarTo(self.like(like, schema)?)),
            Expr::Case(case) => self.case(case, schema),
            Expr::Cast(c) => self.explicit_cast(c, schema),
            Expr::Negative(e) => {
                let operand = self.operand(*e, schema)?;
                self.call("pg_neg", vec![operand]).map_err(df_error)
            }
            Expr::AggregateFunction(f) => self.aggregate(f, schema),
            Expr::WindowFunction(f) => self.window(*f, schema),
            Expr::ScalarSubquery(mut s) => {
                s.subquery = Arc::new(self.subquery(Arc::unwrap_or_clone(s.subquery), schema)?);
                Ok(Expr::ScalarSubquery(s))
            }
            Expr::Exists(mut e) => {
                e.subquery.subquery =
                    Arc::new(self.subquery(Arc::unwrap_or_clone(e.subquery.subquery), schema)?);
                Ok(Expr::Exists(e))
            }
            Expr::InSubquery(s) => self.in_subquery(s, schema),
            other => Ok(other),
        }
    }

    fn placeholder(&mut self, p: Placeholder) -> Result<Expr> {
        let index = param_index(&p.id)?;
        if self.params.len() <= index {
            self.params.resize(index + 1, None);
        }
        let field = self.params[index].map(|t| Arc::new(t.field("", true)));
        Ok(Expr::Placeholder(Placeholder { id: p.id, field }))
    }

    /// The type of a parameter is settled by its first use.
    fn settle(&mut self, p: Placeholder, to: PgType) -> Result<Expr> {
        let index = param_index(&p.id)?;
        if self.params.len() <= index {
            self.params.resize(index + 1, None);
        }
        let settled = *self.params[index].get_or_insert(PgType::of(to.oid));
        let field = Arc::new(settled.field("", true));
        let expr = Expr::Placeholder(Placeholder { id: p.id, field: Some(field.clone()) });
        if settled.oid == to.oid {
            return Ok(expr);
        }
        cast::cast(expr, &field, to, CastContext::Assignment, &self.context.time_zone)
    }

    /// The operand as a value of type `to`, by a cast that the context allows.
    pub fn coerce(&mut self, operand: Operand, to: PgType, context: CastContext) -> Result<Expr> {
        if operand.unknown() {
            return match operand.expr {
                Expr::Literal(ScalarValue::Utf8(Some(text)), None) => {
                    cast::literal(&text, to, context, &self.context.time_zone)
                }
                Expr::Literal(value, _) if value.is_null() => {
                    let null = ScalarValue::try_from(&to.arrow()).map_err(Error::from)?;
                    let metadata = to.field("", true).metadata().clone();
                    Ok(Expr::Literal(null, (!metadata.is_empty()).then(|| metadata.into())))
                }
                Expr::Placeholder(p) => {
                    let expr = self.settle(p, to)?;
                    if to.typmod < 0 {
                        return Ok(expr);
                    }
                    let field = PgType::of(to.oid).field("", true);
                    cast::cast(expr, &field, to, context, &self.context.time_zone)
                }
                e => cast::cast(e, &operand.field, to, context, &self.context.time_zone),
            };
        }
        let from = operand.pg();
        if from == to && *operand.field.data_type() == to.arrow() {
            return Ok(operand.expr);
        }
        cast::cast(operand.expr, &operand.field, to, context, &self.context.time_zone)
    }

    /// The operands as values of one type, chosen as PostgreSQL does for CASE, UNION and the like.
    pub fn unify(&mut self, operands: Vec<Operand>, what: &str) -> Result<(Vec<Expr>, DataType, PgType)> {
        let mut common: Option<PgType> = None;
        for operand in &operands {
            let Some(next) = operand.known() else { continue };
            common = Some(match common {
                None => next,
                Some(c) => wider(c, next).ok_or_else(|| {
                    Error::new(
                        ErrorKind::DatatypeMismatch,
                        format!("{what} types {} and {} cannot be matched", c.sql_name(), next.sql_name()),
                    )
                })?,
            });
        }
        let common = common.unwrap_or(PgType::TEXT);
        let data_type = common_arrow(common, &operands);
        let exprs =
            operands.into_iter().map(|o| self.to_common(o, common, &data_type)).collect::<Result<_>>()?;
        Ok((exprs, data_type, common))
    }

    /// One operand of a group whose common type is known.
    fn to_common(&mut self, operand: Operand, common: PgType, data_type: &DataType) -> Result<Expr> {
        if operand.field.data_type() == data_type && !operand.unknown() {
            return Ok(operand.expr);
        }
        let expr = self.coerce(operand, PgType::of(common.oid), CastContext::Implicit)?;
        Ok(to_arrow(expr, data_type))
    }

    fn binary(&mut self, left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> DfResult<Expr> {
        let (left, right) = match op {
            Operator::And | Operator::Or => {
                let name = if op == Operator::And { "AND" } else { "OR" };
                (self.boolean(left, schema, name)?, self.boolean(right, schema, name)?)
            }
            Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => {
                let (l, r) = (self.operand(left, schema)?, self.operand(right, schema)?);
                self.comparable(l, "IS DISTINCT FROM", r).map_err(df_error)?
            }
            _ => (left, right),
        };
        Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
    }

    /// Two operands as values that can be compared.
    pub fn comparable(&mut self, left: Operand, op: &str, right: Operand) -> Result<(Expr, Expr)> {
        if let (Some(l), Some(r)) = (left.known(), right.known())
            && wider(l, r).is_none()
        {
            return Err(no_operator(Some(&l.sql_name()), op, &r.sql_name()));
        }
        if let Some(literal) = exact_literal(&right.expr, &left) {
            return Ok((left.expr, literal));
        }
        if let Some(literal) = exact_literal(&left.expr, &right) {
            return Ok((literal, right.expr));
        }
        let (exprs, ..) = self.unify(vec![left, right], op)?;
        let [l, r] =
            <[Expr; 2]>::try_from(exprs).map_err(|_| Error::internal("two operands became others"))?;
        Ok((l, r))
    }

    /// A condition.
    pub fn boolean(&mut self, expr: Expr, schema: &DFSchema, place: &str) -> DfResult<Expr> {
        let operand = self.operand(expr, schema)?;
        if operand.known().is_some_and(|t| t.oid != oid::BOOL) {
            return Err(df_error(Error::new(
                ErrorKind::DatatypeMismatch,
                format!("argument of {place} must be type boolean, not type {}", operand.pg().sql_name()),
            )));
        }
        self.coerce(operand, PgType::BOOL, CastContext::Implicit).map_err(df_error)
    }

    /// The expression, text if nothing gave it a type.
    pub fn settled(&mut self, expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
        let operand = self.operand(expr, schema)?;
        if operand.unknown() && !matches!(operand.expr, Expr::Literal(ScalarValue::Utf8(_), _)) {
            return self.coerce(operand, PgType::TEXT, CastContext::Implicit).map_err(df_error);
        }
        Ok(operand.expr)
    }

    fn between(
        &mut self,
        e: Expr,
        low: Expr,
        high: Expr,
        negated: bool,
        schema: &DFSchema,
    ) -> DfResult<Expr> {
        let half = |resolver: &mut Self, op: &str, operator: Operator, bound: Expr| -> DfResult<Expr> {
            let (l, r) = (resolver.operand(e.clone(), schema)?, resolver.operand(bound, schema)?);
            let (l, r) = resolver.comparable(l, op, r).map_err(df_error)?;
            Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(l), operator, Box::new(r))))
        };
        Ok(if negated {
            let (l, h) = (half(self, "<", Operator::Lt, low)?, half(self, ">", Operator::Gt, high)?);
            l.or(h)
        } else {
            let (l, h) = (half(self, ">=", Operator::GtEq, low)?, half(self, "<=", Operator::LtEq, high)?);
            l.and(h)
        })
    }

    fn in_list(&mut self, list: InList, schema: &DFSchema) -> DfResult<Expr> {
        let probe = self.operand(*list.expr, schema)?;
        let items = list.list.into_iter().map(|e| self.operand(e, schema)).collect::<DfResult<Vec<_>>>()?;
        for item in &items {
            if let (Some(l), Some(r)) = (probe.known(), item.known())
                && wider(l, r).is_none()
            {
                return Err(df_error(no_operator(Some(&l.sql_name()), "=", &r.sql_name())));
            }
        }
        let exact: Option<Vec<Expr>> = items.iter().map(|i| exact_literal(&i.expr, &probe)).collect();
        if let Some(list_exprs) = exact {
            return Ok(Expr::InList(InList::new(Box::new(probe.expr), list_exprs, list.negated)));
        }
        let all = std::iter::once(probe).chain(items).collect();
        let (mut exprs, ..) = self.unify(all, "IN").map_err(df_error)?;
        let probe = exprs.remove(0);
        Ok(Expr::InList(InList::new(Box::new(probe), exprs, list.negated)))
    }

    fn like(&mut self, like: Like, schema: &DFSchema) -> DfResult<Like> {
        let op = if like.case_insensitive { "~~*" } else { "~~" };
        let (value, pattern) = (self.operand(*like.expr, schema)?, self.operand(*like.pattern, schema)?);
        for o in [&value, &pattern] {
            if o.known().is_some_and(|t| !cast::is_text(t.oid)) {
                return Err(df_error(no_operator(
                    Some(&value.pg().sql_name()),
                    op,
                    &pattern.pg().sql_name(),
                )));
            }
        }
        let value = self.coerce(value, PgType::TEXT, CastContext::Implicit).map_err(df_error)?;
        let pattern = self.coerce(pattern, PgType::TEXT, CastContext::Implicit).map_err(df_error)?;
        Ok(Like { expr: Box::new(value), pattern: Box::new(pattern), ..like })
    }

    fn case(&mut self, case: Case, schema: &DFSchema) -> DfResult<Expr> {
        let mut conditions = Vec::with_capacity(case.when_then_expr.len());
        let mut results = Vec::with_capacity(case.when_then_expr.len() + 1);
        // CASE x WHEN y is CASE WHEN x = y, so that each comparison has its own types.
        for (when, then) in case.when_then_expr {
            conditions.push(match &case.expr {
                Some(e) => {
                    let (l, r) = (self.operand(e.as_ref().clone(), schema)?, self.operand(*when, schema)?);
                    let (l, r) = self.comparable(l, "=", r).map_err(df_error)?;
                    l.eq(r)
                }
                None => self.boolean(*when, schema, "CASE/WHEN")?,
            });
            results.push(self.operand(*then, schema)?);
        }
        let has_else = case.else_expr.is_some();
        if let Some(e) = case.else_expr {
            results.push(self.operand(*e, schema)?);
        }
        let (mut exprs, ..) = self.unify(results, "CASE").map_err(df_error)?;
        let else_expr = if has_else { exprs.pop().map(Box::new) } else { None };
        let pairs = conditions.into_iter().zip(exprs).map(|(c, e)| (Box::new(c), Box::new(e))).collect();
        Ok(Expr::Case(Case::new(None, pairs, else_expr)))
    }

    fn explicit_cast(&mut self, c: Cast, schema: &DFSchema) -> DfResult<Expr> {
        let to = PgType::of_field(&c.field);
        let operand = self.operand(*c.expr, schema)?;
        if let Expr::Literal(value @ ScalarValue::Utf8(Some(_)), None) = &operand.expr
            && to == PgType::TEXT
        {
            // Remembered as text that was cast, no longer of unknown type.
            return Ok(Expr::Literal(value.clone(), Some(to.metadata().into())));
        }
        self.coerce(operand, to, CastContext::Explicit).map_err(df_error)
    }

    fn in_subquery(&mut self, s: InSubquery, schema: &DFSchema) -> DfResult<Expr> {
        let InSubquery { expr, mut subquery, negated } = s;
        let plan = self.subquery(Arc::unwrap_or_clone(subquery.subquery), schema)?;
        let field = plan.schema().field(0).clone();
        let operand = self.operand(*expr, schema)?;
        let (l, r) = (operand.known(), PgType::of_field(&field));
        let expr = match l {
            None => self.coerce(operand, r, CastContext::Implicit).map_err(df_error)?,
            Some(l) if wider(l, r).is_none() => {
                return Err(df_error(no_operator(Some(&l.sql_name()), "=", &r.sql_name())));
            }
            Some(_) => operand.expr,
        };
        subquery.subquery = Arc::new(plan);
        Ok(Expr::InSubquery(InSubquery::new(Box::new(expr), subquery, negated)))
    }
}

/// Whether an operator compares, matches or connects.
pub(super) fn yields_boolean(op: Operator) -> bool {
    use Operator as O;
    matches!(
        op,
        O::And
            | O::Or
            | O::Eq
            | O::NotEq
            | O::Lt
            | O::LtEq
            | O::Gt
            | O::GtEq
            | O::IsDistinctFrom
            | O::IsNotDistinctFrom
            | O::RegexMatch
            | O::RegexIMatch
            | O::RegexNotMatch
            | O::RegexNotIMatch
            | O::LikeMatch
            | O::ILikeMatch
            | O::NotLikeMatch
            | O::NotILikeMatch
    )
}

/// The type of a settled expression, without the names that DataFusion's `to_field` makes for all of its parts, and
/// without a look at arguments where the call itself knows.
pub(super) fn field_of(expr: &Expr, schema: &DFSchema) -> DfResult<FieldRef> {
    let unnamed = |data_type: DataType| Ok(Arc::new(Field::new("", data_type, true)));
    match expr {
        Expr::Alias(a) if a.metadata.is_none() => field_of(&a.expr, schema),
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            if let Some(native) = func.inner().downcast_ref::<Native>() {
                return Ok(native.result().clone());
            }
            if func.inner().is::<Symbol>() {
                return Ok(expr.to_field(schema)?.1);
            }
            let fields = args.iter().map(|a| field_of(a, schema)).collect::<DfResult<Vec<_>>>()?;
            let Ok(fields) = fields_with_udf(&fields, func.as_ref()) else {
                return Ok(expr.to_field(schema)?.1);
            };
            let constants: Vec<Option<&ScalarValue>> =
                args.iter().map(|a| if let Expr::Literal(v, _) = a { Some(v) } else { None }).collect();
            func.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &constants })
        }
        Expr::Cast(c) => {
            let inherits =
                c.field.name().is_empty() && c.field.is_nullable() && c.field.metadata().is_empty();
            if !inherits {
                return Ok(c.field.clone());
            }
            // DataFusion's casts to a bare type pass the argument's metadata on.
            Ok(Arc::new(
                field_of(&c.expr, schema)?.as_ref().clone().with_data_type(c.field.data_type().clone()),
            ))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if yields_boolean(*op) {
                return unnamed(DataType::Boolean);
            }
            let (l, r) = (field_of(left, schema)?, field_of(right, schema)?);
            unnamed(BinaryTypeCoercer::new(l.data_type(), op, r.data_type()).get_result_type()?)
        }
        Expr::Case(case) => {
            for (_, then) in &case.when_then_expr {
                let field = field_of(then, schema)?;
                if !field.data_type().is_null() {
                    return unnamed(field.data_type().clone());
                }
            }
            match &case.else_expr {
                Some(e) => unnamed(field_of(e, schema)?.data_type().clone()),
                None => unnamed(DataType::Null),
            }
        }
        Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::InSubquery(_)
        | Expr::Exists(_) => unnamed(DataType::Boolean),
        e => Ok(e.to_field(schema)?.1),
    }
}

fn param_index(id: &str) -> Result<usize> {
    id.strip_prefix('$')
        .and_then(|n| n.parse::<usize>().ok())
        .filter(|n| (1..=65535).contains(n))
        .map(|n| n - 1)
        .ok_or_else(|| Error::new(ErrorKind::UndefinedParameter, format!("there is no parameter {id}")))
}

fn strip_alias(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(a) => strip_alias(*a.expr),
        e => e,
    }
}

/// Integer constants that fit are int4, those beyond 64 bits numeric.
fn small_integer(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Int64(Some(n)) => {
            i32::try_from(n).map_or(ScalarValue::Int64(Some(n)), |n| ScalarValue::Int32(Some(n)))
        }
        ScalarValue::UInt64(Some(n)) => ScalarValue::Decimal128(Some(n.into()), 20, 0),
        // Trailing zeros before the point come as a negative scale.
        ScalarValue::Decimal128(Some(v), p, s) if s < 0 => {
            let factor = 10i128.checked_pow(u32::from(s.unsigned_abs()));
            match factor.and_then(|f| v.checked_mul(f)) {
                Some(v) => ScalarValue::Decimal128(Some(v), p.saturating_add(s.unsigned_abs()).min(38), 0),
                None => ScalarValue::Decimal128(Some(v), p, s),
            }
        }
        v => v,
    }
}

/// The type both values are brought to for a comparison, CASE, UNION; `None` when there is none.
pub fn wider(a: PgType, b: PgType) -> Option<PgType> {
    if a.oid == b.oid {
        return Some(if a.typmod == b.typmod { a } else { PgType::of(a.oid) });
    }
    let implicit = |x, y| cast_context(x, y) == Some(CastContext::Implicit);
    if cast::is_text(a.oid) && cast::is_text(b.oid) {
        return Some(PgType::TEXT);
    }
    if implicit(a, b) {
        Some(PgType::of(b.oid))
    } else if implicit(b, a) {
        Some(PgType::of(a.oid))
    } else {
        None
    }
}

/// The Arrow type that holds all operands as values of the common type: numerics differ in scale.
fn common_arrow(common: PgType, operands: &[Operand]) -> DataType {
    if common.oid != oid::NUMERIC {
        return common.arrow();
    }
    let (mut whole, mut scale, mut wide) = (1i16, 0i8, false);
    for o in operands {
        let (w, s) = match (&o.expr, o.field.data_type()) {
            (Expr::Literal(ScalarValue::Utf8(Some(text)), None), _) => {
                let fraction = text.trim().split_once('.').map_or(0, |(_, f)| f.len().min(18));
                (20, fraction as i8)
            }
            (_, DataType::Decimal128(p, s)) => (i16::from(*p) - i16::from(*s), *s),
            (_, DataType::Decimal256(p, s)) => {
                wide = true;
                (i16::from(*p) - i16::from(*s), *s)
            }
            (_, DataType::Int16) => (5, 0),
            (_, DataType::Int32) => (10, 0),
            (_, DataType::Int64) => (19, 0),
            _ if matches!(o.expr, Expr::Placeholder(_)) => (20, crate::types::FREE_NUMERIC_SCALE),
            _ => continue,
        };
        whole = whole.max(w);
        scale = scale.max(s);
    }
    let digits = u8::try_from(whole + i16::from(scale)).unwrap_or(76).max(1);
    if wide {
        DataType::Decimal256(digits.min(76), scale)
    } else {
        DataType::Decimal128(digits.min(38), scale)
    }
}

/// The same PostgreSQL value in another Arrow type.
pub fn to_arrow(expr: Expr, data_type: &DataType) -> Expr {
    if let Expr::Literal(value, _) = &expr
        && let Ok(v) = value.cast_to(data_type)
        && (!v.is_null() || value.is_null())
    {
        return Expr::Literal(v, None);
    }
    match (&expr, data_type) {
        (Expr::Placeholder(p), t) if p.field.as_ref().is_some_and(|f| f.data_type() == t) => expr,
        (Expr::Cast(c), t) if c.field.data_type() == t => expr,
        _ => Expr::Cast(Cast::new_from_field(
            Box::new(expr),
            Arc::new(Field::new("", data_type.clone(), true)),
        )),
    }
}

/// A numeric constant as a value of the other operand's type, if that loses nothing: columns then stay bare.
fn exact_literal(expr: &Expr, other: &Operand) -> Option<Expr> {
    let Expr::Literal(value, None) = expr else { return None };
    if other.unknown() || matches!(other.expr, Expr::Literal(..)) {
        return None;
    }
    let (digits, scale) = match value {
        ScalarValue::Int16(Some(v)) => (i128::from(*v), 0),
        ScalarValue::Int32(Some(v)) => (i128::from(*v), 0),
        ScalarValue::Int64(Some(v)) => (i128::from(*v), 0),
        ScalarValue::Decimal128(Some(v), _, s) if *s >= 0 => (*v, *s),
        _ => return None,
    };
    let typed = match other.field.data_type() {
        DataType::Int16 if scale == 0 => ScalarValue::Int16(Some(i16::try_from(digits).ok()?)),
        DataType::Int32 if scale == 0 => ScalarValue::Int32(Some(i32::try_from(digits).ok()?)),
        DataType::Int64 if scale == 0 => ScalarValue::Int64(Some(i64::try_from(digits).ok()?)),
        DataType::Decimal128(p, s) if *s >= scale => {
            let v = digits.checked_mul(10i128.checked_pow((s - scale).unsigned_abs().into())?)?;
            (v.unsigned_abs() < 10u128.pow(u32::from(*p).min(38))).then_some(ScalarValue::Decimal128(
                Some(v),
                *p,
                *s,
            ))?
        }
        _ => return None,
    };
    Some(Expr::Literal(typed, None))
}
