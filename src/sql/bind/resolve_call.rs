//! What operators and functions mean for the types of their arguments.
//!
//! Boundary: one call with typed arguments; ordinary functions come from the registry, the rest is here.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, Volatility, lit};

use super::resolve::{Operand, Resolver, field_of, to_arrow};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::cast::{self, CastContext};
use crate::sql::functions::{datetime, native, native_with, no_function, no_operator, operators, registry};
use crate::types::{PgType, oid};

const VERSION: &str = concat!("PostgreSQL 15.0 (Freshet ", env!("CARGO_PKG_VERSION"), ")");

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn udf(udf: Arc<datafusion::logical_expr::ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(udf, args))
}

fn is_integer(oid: u32) -> bool {
    matches!(oid, oid::INT2 | oid::INT4 | oid::INT8)
}

fn is_number(oid: u32) -> bool {
    is_integer(oid) || matches!(oid, oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8)
}

fn is_timestamp(oid: u32) -> bool {
    matches!(oid, oid::TIMESTAMP | oid::TIMESTAMPTZ)
}

impl Resolver<'_> {
    /// The meaning of a symbol's call.
    pub(super) fn call(&mut self, name: &str, args: Vec<Operand>) -> Result<Expr> {
        if registry::is_volatile(name) && self.context.in_view {
            return Err(Error::unsupported(format!("{name}() in a view is not supported"))
                .with_detail("Each call gives another value, so the view could not be kept up to date."));
        }
        if registry::is_operator(name) {
            let [left, right] = <[Operand; 2]>::try_from(args)
                .map_err(|_| Error::internal(format!("operator {name} without two operands")))?;
            return self.operator(name, left, right);
        }
        if super::sequences::FUNCTIONS.contains(&name) {
            return self.sequence_call(name, args);
        }
        if registry::SPECIAL.contains(&name) {
            return self.special(name, args);
        }
        let types: Vec<Option<PgType>> = args.iter().map(Operand::known).collect();
        if let Some(all) = registry::overloads(name)
            && let Some(chosen) = registry::choose(all, &types)
        {
            let mut exprs = Vec::with_capacity(args.len());
            for (i, arg) in args.into_iter().enumerate() {
                let to = chosen.args.get(i).or(chosen.args.last()).copied().unwrap_or(PgType::TEXT);
                exprs.push(self.coerce(arg, to, CastContext::Implicit)?);
            }
            let fields =
                exprs.iter().map(|e| Ok(self.with_field(e.clone())?.field)).collect::<Result<Vec<_>>>()?;
            let call = registry::build(name, chosen, exprs, &fields)?;
            return self.canonical(call, chosen.result);
        }
        // A type's name called as a function is a cast.
        if let (Some(to), [_]) = (crate::sql::types::pg_type_by_name(name), args.as_slice())
            && let Some(operand) = args.first().cloned()
        {
            return self.coerce(operand, to, CastContext::Explicit);
        }
        Err(undefined(name, &args))
    }

    /// An expression over the current scope with its type.
    fn with_field(&self, expr: Expr) -> Result<Operand> {
        let empty = DFSchema::empty();
        let field = field_of(&expr, self.scope.last().unwrap_or(&empty)).map_err(Error::from)?;
        Ok(Operand { expr, field })
    }

    /// The result in the Arrow type that stands for its PostgreSQL type.
    fn canonical(&self, expr: Expr, result: PgType) -> Result<Expr> {
        let operand = self.with_field(expr)?;
        if *operand.field.data_type() == result.arrow() {
            return Ok(operand.expr);
        }
        let cast = datafusion::logical_expr::expr::Cast::new_from_field(
            Box::new(operand.expr),
            Arc::new(result.field("", true)),
        );
        Ok(Expr::Cast(cast))
    }

    fn operator(&mut self, op: &str, left: Operand, right: Operand) -> Result<Expr> {
        let comparison = match op {
            "=" => Some(Operator::Eq),
            "<>" | "!=" => Some(Operator::NotEq),
            "<" => Some(Operator::Lt),
            "<=" => Some(Operator::LtEq),
            ">" => Some(Operator::Gt),
            ">=" => Some(Operator::GtEq),
            _ => None,
        };
        if let Some(operator) = comparison {
            let (l, r) = self.comparable(left, op, right)?;
            return Ok(binary(l, operator, r));
        }
        match op {
            "+" | "-" | "*" | "/" | "%" => self.arithmetic(op, left, right),
            "^" => {
                let l = self.coerce(left, PgType::FLOAT8, CastContext::Implicit)?;
                let r = self.coerce(right, PgType::FLOAT8, CastContext::Implicit)?;
                Ok(native("power", DataType::Float64, crate::sql::functions::strings::power, vec![l, r]))
            }
            "||" => self.concatenation(left, right),
            "~" | "~*" | "!~" | "!~*" => {
                let operator = match op {
                    "~" => Operator::RegexMatch,
                    "~*" => Operator::RegexIMatch,
                    "!~" => Operator::RegexNotMatch,
                    _ => Operator::RegexNotIMatch,
                };
                self.text_operator(op, operator, left, right)
            }
            "~~" | "~~*" | "!~~" | "!~~*" => {
                let operator = match op {
                    "~~" => Operator::LikeMatch,
                    "~~*" => Operator::ILikeMatch,
                    "!~~" => Operator::NotLikeMatch,
                    _ => Operator::NotILikeMatch,
                };
                self.text_operator(op, operator, left, right)
            }
            "&" | "|" | "#" | "<<" | ">>" => self.bitwise(op, left, right),
            _ => Err(refuse(&left, op, &right)),
        }
    }

    fn text_operator(&mut self, op: &str, operator: Operator, left: Operand, right: Operand) -> Result<Expr> {
        if [&left, &right].iter().any(|o| o.known().is_some_and(|t| !cast::is_text(t.oid))) {
            return Err(refuse(&left, op, &right));
        }
        let l = self.coerce(left, PgType::TEXT, CastContext::Implicit)?;
        let r = self.coerce(right, PgType::TEXT, CastContext::Implicit)?;
        Ok(binary(l, operator, r))
    }

    fn bitwise(&mut self, op: &str, left: Operand, right: Operand) -> Result<Expr> {
        if [&left, &right].iter().any(|o| o.known().is_some_and(|t| !is_integer(t.oid))) {
            return Err(refuse(&left, op, &right));
        }
        let operator = match op {
            "&" => Operator::BitwiseAnd,
            "|" => Operator::BitwiseOr,
            "#" => Operator::BitwiseXor,
            "<<" => Operator::BitwiseShiftLeft,
            _ => Operator::BitwiseShiftRight,
        };
        let (exprs, ..) = self.unify(vec![left, right], op)?;
        let [l, r] =
            <[Expr; 2]>::try_from(exprs).map_err(|_| Error::internal("two operands became others"))?;
        Ok(binary(l, operator, r))
    }

    fn concatenation(&mut self, left: Operand, right: Operand) -> Result<Expr> {
        let (l, r) = (left.known(), right.known());
        let arrays = [l, r].iter().any(|t| t.is_some_and(|t| t.element().is_some()));
        if arrays {
            return Err(Error::unsupported("|| over arrays is not supported")
                .with_hint("Use array_cat or array_append."));
        }
        let texts = [l, r].iter().any(|t| t.is_none_or(|t| cast::is_text(t.oid)));
        if !texts {
            return Err(refuse(&left, "||", &right));
        }
        let l = self.coerce(left, PgType::TEXT, CastContext::Assignment)?;
        let r = self.coerce(right, PgType::TEXT, CastContext::Assignment)?;
        Ok(binary(l, Operator::StringConcat, r))
    }

    fn arithmetic(&mut self, op: &str, left: Operand, right: Operand) -> Result<Expr> {
        let (left, right) = match (left.known(), right.known()) {
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::AmbiguousFunction,
                    format!("operator is not unique: unknown {op} unknown"),
                )
                .with_hint(
                    "Could not choose a best candidate operator. You might need to add explicit type casts.",
                ));
            }
            (None, Some(t)) => (self.settle_operand(left, guess(op, t, true))?, right),
            (Some(t), None) => (left, self.settle_operand(right, guess(op, t, false))?),
            _ => (left, right),
        };
        let (l, r) = (left.pg().oid, right.pg().oid);
        if is_number(l) && is_number(r) {
            return self.number_arithmetic(op, left, right);
        }
        let (le, re) = (left.expr.clone(), right.expr.clone());
        Ok(match (op, l, r) {
            ("-", oid::DATE, oid::DATE) => datetime::date_difference(le, re),
            ("+" | "-", oid::DATE, i) if is_integer(i) => {
                datetime::date_shift(le, to_arrow(re, &DataType::Int32), op == "-")
            }
            ("+", i, oid::DATE) if is_integer(i) => {
                datetime::date_shift(re, to_arrow(le, &DataType::Int32), false)
            }
            ("+", oid::DATE, oid::TIME) => datetime::date_and_time(le, re),
            ("+", oid::TIME, oid::DATE) => datetime::date_and_time(re, le),
            ("+" | "-", oid::DATE, oid::INTERVAL) => {
                let ts = self.coerce(left, PgType::TIMESTAMP, CastContext::Implicit)?;
                plus_minus(op, ts, re)
            }
            ("+", oid::INTERVAL, oid::DATE) => {
                let ts = self.coerce(right, PgType::TIMESTAMP, CastContext::Implicit)?;
                plus_minus(op, ts, le)
            }
            ("+" | "-", t, oid::INTERVAL) if is_timestamp(t) => plus_minus(op, le, re),
            ("+", oid::INTERVAL, t) if is_timestamp(t) => plus_minus(op, re, le),
            ("+" | "-", oid::INTERVAL, oid::INTERVAL) => plus_minus(op, le, re),
            ("-", a, b) if (is_timestamp(a) || a == oid::DATE) && (is_timestamp(b) || b == oid::DATE) => {
                let (l, r) = self.comparable(left, op, right)?;
                datetime::timestamp_difference(l, r)
            }
            ("*", oid::INTERVAL, n) if is_number(n) => {
                datetime::scale_interval(le, to_arrow(re, &DataType::Float64), false)
            }
            ("*", n, oid::INTERVAL) if is_number(n) => {
                datetime::scale_interval(re, to_arrow(le, &DataType::Float64), false)
            }
            ("/", oid::INTERVAL, n) if is_number(n) => {
                datetime::scale_interval(le, to_arrow(re, &DataType::Float64), true)
            }
            _ => return Err(refuse(&left, op, &right)),
        })
    }

    fn number_arithmetic(&mut self, op: &str, left: Operand, right: Operand) -> Result<Expr> {
        let (l, r) = (left.pg().oid, right.pg().oid);
        let float = |o: u32| matches!(o, oid::FLOAT4 | oid::FLOAT8);
        let to = if float(l) || float(r) {
            if op == "%" {
                return Err(refuse(&left, op, &right));
            }
            if l == r { PgType::of(l) } else { PgType::FLOAT8 }
        } else if l == oid::NUMERIC || r == oid::NUMERIC {
            PgType::NUMERIC
        } else {
            PgType::of(if l == oid::INT8 || r == oid::INT8 {
                oid::INT8
            } else if l == oid::INT4 || r == oid::INT4 {
                oid::INT4
            } else {
                oid::INT2
            })
        };
        let l = self.number(left, to)?;
        let r = self.number(right, to)?;
        Ok(operators::arithmetic(op, l.expr, r.expr, &l.field, &r.field))
    }

    /// A number as operand of arithmetic in `to`; numerics keep their own scale.
    fn number(&mut self, operand: Operand, to: PgType) -> Result<Operand> {
        let field = operand.field.clone();
        let expr = match to.oid {
            oid::NUMERIC if operand.pg().oid == oid::NUMERIC => operand.expr,
            oid::NUMERIC => {
                let digits = match field.data_type() {
                    DataType::Int16 => 5,
                    DataType::Int32 => 10,
                    _ => 19,
                };
                to_arrow(operand.expr, &DataType::Decimal128(digits, 0))
            }
            _ if *field.data_type() == to.arrow() => operand.expr,
            _ => to_arrow(operand.expr, &to.arrow()),
        };
        self.with_field(expr)
    }

    fn settle_operand(&mut self, operand: Operand, to: PgType) -> Result<Operand> {
        let expr = self.coerce(operand, to, CastContext::Implicit)?;
        self.with_field(expr)
    }

    fn now(&mut self) -> Expr {
        self.uses_now = true;
        if self.context.in_view {
            datetime::view_now()
        } else {
            datetime::timestamptz_literal(self.context.now.0)
        }
    }

    fn special(&mut self, name: &str, mut args: Vec<Operand>) -> Result<Expr> {
        match (name, args.len()) {
            (
                "now"
                | "current_timestamp"
                | "transaction_timestamp"
                | "statement_timestamp"
                | "clock_timestamp"
                | "mz_now"
                | "proctime",
                0,
            ) => Ok(self.now()),
            ("localtimestamp" | "current_date" | "current_time", 0) => {
                let to = match name {
                    "localtimestamp" => PgType::TIMESTAMP,
                    "current_date" => PgType::DATE,
                    _ => PgType::TIME,
                };
                let now = self.now();
                let now = self.with_field(now)?;
                self.coerce(now, to, CastContext::Assignment)
            }
            ("version", 0) => Ok(lit(VERSION)),
            ("current_database" | "current_catalog", 0) => Ok(lit(self.context.database.clone())),
            ("current_user" | "session_user" | "user" | "current_role", 0) => {
                Ok(lit(self.context.user.clone()))
            }
            ("current_schema", 0) => {
                Ok(match self.context.search_path.iter().find(|s| self.context.catalog.has_schema(s)) {
                    Some(s) => lit(s.clone()),
                    None => Expr::Literal(ScalarValue::Utf8(None), None),
                })
            }
            ("random", 0) => Ok(udf(datafusion::functions::math::random(), vec![])),
            ("gen_random_uuid", 0) => Ok(native_with(
                "gen_random_uuid",
                PgType::UUID.field("", false),
                RANDOM_UUID,
                Volatility::Volatile,
                vec![],
            )),
            ("pg_typeof", 1) => Ok(lit(args.remove(0).pg().sql_name())),
            ("pg_neg", 1) => self.negation(args.remove(0)),
            ("pg_bitnot", 1) => self.complement(args.remove(0)),
            ("coalesce", 1..) => {
                let (exprs, ..) = self.unify(args, "COALESCE")?;
                Ok(udf(datafusion::functions::core::coalesce(), exprs))
            }
            ("greatest" | "least", 1..) => {
                let what = name.to_uppercase();
                let (exprs, ..) = self.unify(args, &what)?;
                let f = if name == "greatest" {
                    datafusion::functions::core::greatest()
                } else {
                    datafusion::functions::core::least()
                };
                Ok(udf(f, exprs))
            }
            ("nullif", 2) => {
                let (exprs, ..) = self.unify(args, "NULLIF")?;
                Ok(udf(datafusion::functions::core::nullif(), exprs))
            }
            ("concat" | "concat_ws", 1..) => {
                let texts = args
                    .into_iter()
                    .map(|a| self.coerce(a, PgType::TEXT, CastContext::Assignment))
                    .collect::<Result<_>>()?;
                let f = if name == "concat" {
                    datafusion::functions::string::concat()
                } else {
                    datafusion::functions::string::concat_ws()
                };
                self.canonical(udf(f, texts), PgType::TEXT)
            }
            ("extract" | "date_part", 2) => self.extract(name, args),
            ("timezone", 2) => self.time_zone(args),
            ("round" | "trunc" | "ceil" | "ceiling" | "floor" | "sign" | "abs", 1)
            | ("round" | "trunc", 2) => self.rounding(name, args),
            ("mod", 2) => {
                let right = args.remove(1);
                self.arithmetic("%", args.remove(0), right)
            }
            ("make_array", _) => {
                let (exprs, ..) = self.unify(args, "ARRAY")?;
                Ok(udf(datafusion::functions_nested::make_array::make_array_udf(), exprs))
            }
            ("any_op" | "all_op", 3) => self.quantified(name, args),
            ("array_length", 2)
            | ("cardinality", 1)
            | ("array_to_string", 2)
            | ("array_append" | "array_cat" | "array_prepend" | "array_position", 2) => {
                self.array_function(name, args)
            }
            _ => Err(undefined(name, &args)),
        }
    }

    fn negation(&mut self, operand: Operand) -> Result<Expr> {
        let operand = if operand.unknown() { self.settle_operand(operand, PgType::FLOAT8)? } else { operand };
        match operand.pg().oid {
            o if is_number(o) || o == oid::INTERVAL => {
                let t = operand.field.data_type().clone();
                Ok(operators::negate(operand.expr, &t))
            }
            _ => Err(no_operator(None, "-", &operand.pg().sql_name())),
        }
    }

    /// `~ operand`.
    fn complement(&mut self, operand: Operand) -> Result<Expr> {
        if operand.unknown() {
            return Err(Error::new(ErrorKind::AmbiguousFunction, "operator is not unique: ~ unknown"));
        }
        if !is_integer(operand.pg().oid) {
            return Err(no_operator(None, "~", &operand.pg().sql_name()));
        }
        let ones = to_arrow(lit(-1i32), operand.field.data_type());
        Ok(binary(operand.expr, Operator::BitwiseXor, ones))
    }

    fn extract(&mut self, name: &str, mut args: Vec<Operand>) -> Result<Expr> {
        let value = args.remove(1);
        let Expr::Literal(ScalarValue::Utf8(Some(field)), _) = &args[0].expr else {
            return Err(Error::unsupported(format!("{name} needs a constant unit")));
        };
        let value = if value.unknown() { self.settle_operand(value, PgType::TIMESTAMP)? } else { value };
        if !matches!(
            value.pg().oid,
            oid::DATE | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::INTERVAL
        ) {
            return Err(undefined(name, &[args[0].clone(), value]));
        }
        let zoned = value.pg().oid == oid::TIMESTAMPTZ
            && self.context.time_zone != "UTC"
            && !field.eq_ignore_ascii_case("epoch");
        let value = if zoned { self.settle_zone(value)? } else { value };
        let part = datetime::extract(field, value.expr, value.field.data_type())?;
        if name == "extract" { Ok(part) } else { Ok(to_arrow(part, &DataType::Float64)) }
    }

    fn settle_zone(&mut self, value: Operand) -> Result<Operand> {
        let expr = self.coerce(value, PgType::TIMESTAMP, CastContext::Assignment)?;
        self.with_field(expr)
    }

    fn time_zone(&mut self, mut args: Vec<Operand>) -> Result<Expr> {
        let value = args.remove(1);
        let value = match value.known().map(|t| t.oid) {
            Some(oid::TIMESTAMP | oid::TIMESTAMPTZ) => value,
            _ => self.settle_operand(value, PgType::TIMESTAMPTZ)?,
        };
        let zone = self.coerce(args.remove(0), PgType::TEXT, CastContext::Implicit)?;
        let t = value.field.data_type().clone();
        Ok(datetime::at_time_zone(value.expr, &t, zone))
    }

    fn rounding(&mut self, name: &str, mut args: Vec<Operand>) -> Result<Expr> {
        let digits = if args.len() == 2 { Some(args.remove(1)) } else { None };
        let value = args.remove(0);
        let value = if value.unknown() { self.settle_operand(value, PgType::FLOAT8)? } else { value };
        let t = value.pg().oid;
        if !is_number(t) {
            return Err(undefined(name, &[value]));
        }
        if name == "abs" || name == "sign" {
            return self.magnitude(name, value);
        }
        // Integers are rounded as float8, or with digits as numeric.
        let value = match (is_integer(t), &digits) {
            (true, Some(_)) => self.number(value, PgType::NUMERIC)?,
            (true, None) => self.number(value, PgType::FLOAT8)?,
            _ => value,
        };
        if let DataType::Decimal128(_, s) | DataType::Decimal256(_, s) = value.field.data_type() {
            let scale = *s;
            return self.numeric_rounding(name, value, scale, digits);
        }
        if let Some(d) = digits {
            return Err(undefined(name, &[value, d]));
        }
        let f = match name {
            "ceil" | "ceiling" => datafusion::functions::math::ceil(),
            "floor" => datafusion::functions::math::floor(),
            "trunc" => datafusion::functions::math::trunc(),
            // Floats round to even.
            _ => {
                let wide = to_arrow(value.expr, &DataType::Float64);
                return Ok(native(
                    "round",
                    DataType::Float64,
                    |a, _| {
                        operators::float_unary::<arrow::datatypes::Float64Type>(
                            a,
                            |v| Ok(v.round_ties_even()),
                        )
                    },
                    vec![wide],
                ));
            }
        };
        Ok(udf(f, vec![to_arrow(value.expr, &DataType::Float64)]))
    }

    fn numeric_rounding(
        &mut self,
        name: &str,
        value: Operand,
        scale: i8,
        digits: Option<Operand>,
    ) -> Result<Expr> {
        let kernel: crate::sql::functions::Kernel = match name {
            "round" => operators::round_to_scale,
            "trunc" => operators::truncate_to_scale,
            "floor" => operators::floor_numeric,
            _ => operators::ceil_numeric,
        };
        let mut args = vec![value.expr];
        let mut to = 0;
        if let Some(d) = digits {
            let d = self.coerce(d, PgType::INT4, CastContext::Implicit)?;
            match &d {
                Expr::Literal(ScalarValue::Int32(Some(n)), _) => to = (*n).clamp(0, 37) as i8,
                _ => {
                    return Err(Error::unsupported(format!("{name} needs a constant number of digits")));
                }
            }
            // The type's scale does it, except left of the point.
            if matches!(&d, Expr::Literal(ScalarValue::Int32(Some(n)), _) if *n < 0) {
                args.push(d);
            }
        }
        let to = if to > scale.max(20) { scale.max(20) } else { to };
        Ok(native(name, DataType::Decimal128(38, to), kernel, args))
    }

    fn magnitude(&mut self, name: &str, value: Operand) -> Result<Expr> {
        let t = value.field.data_type().clone();
        let zero = to_arrow(lit(0i32), &t);
        let negative = binary(value.expr.clone(), Operator::Lt, zero.clone());
        if name == "abs" {
            let minus = operators::negate(value.expr.clone(), &t);
            return Ok(Expr::Case(datafusion::logical_expr::expr::Case::new(
                None,
                vec![(Box::new(negative), Box::new(minus))],
                Some(Box::new(value.expr)),
            )));
        }
        let result =
            if value.pg().oid == oid::NUMERIC { DataType::Decimal128(38, 0) } else { DataType::Float64 };
        let constant = |v: i32| Box::new(to_arrow(lit(v), &result));
        let positive = binary(value.expr.clone(), Operator::Gt, zero.clone());
        let none = binary(value.expr, Operator::Eq, zero);
        Ok(Expr::Case(datafusion::logical_expr::expr::Case::new(
            None,
            vec![
                (Box::new(negative), constant(-1)),
                (Box::new(positive), constant(1)),
                (Box::new(none), constant(0)),
            ],
            None,
        )))
    }

    /// `x = ANY (array)` and `x <> ALL (array)`.
    fn quantified(&mut self, name: &str, mut args: Vec<Operand>) -> Result<Expr> {
        let array = args.remove(2);
        let value = args.remove(1);
        let op = match &args[0].expr {
            Expr::Literal(v, _) => v.try_as_str().flatten().unwrap_or_default().to_string(),
            _ => String::new(),
        };
        let negated = match (name, op.as_str()) {
            ("any_op", "=") => false,
            ("all_op", "<>" | "!=") => true,
            _ => {
                let word = if name == "any_op" { "ANY" } else { "ALL" };
                return Err(Error::unsupported(format!("{op} {word} (array) is not supported")));
            }
        };
        let value = if value.unknown() { self.settle_operand(value, PgType::TEXT)? } else { value };
        let element = value.pg();
        let array_type = array.known();
        let (value, array) = match array_type {
            None => {
                let Some(oid) = element.array_oid() else { return Err(refuse(&value, &op, &array)) };
                let array = self.coerce(array, PgType::of(oid), CastContext::Implicit)?;
                (value.expr, array)
            }
            Some(t) => {
                let Some(inner) = t.element() else {
                    return Err(Error::new(
                        ErrorKind::WrongObjectType,
                        "op ANY/ALL (array) requires array on right side",
                    ));
                };
                let wider =
                    super::resolve::wider(element, inner).ok_or_else(|| refuse(&value, &op, &array))?;
                let value = self.coerce(value, PgType::of(wider.oid), CastContext::Implicit)?;
                let array = match wider.array_oid() {
                    Some(a) if wider.oid != inner.oid => {
                        self.coerce(array, PgType::of(a), CastContext::Implicit)?
                    }
                    _ => array.expr,
                };
                (value, array)
            }
        };
        let found = udf(datafusion::functions_nested::array_has::array_has_udf(), vec![array, value]);
        Ok(if negated { Expr::Not(Box::new(found)) } else { found })
    }

    fn array_function(&mut self, name: &str, args: Vec<Operand>) -> Result<Expr> {
        use datafusion::functions_nested as n;
        let f = match name {
            "array_length" => n::length::array_length_udf(),
            "cardinality" => n::cardinality::cardinality_udf(),
            "array_to_string" => n::string::array_to_string_udf(),
            "array_append" => n::concat::array_append_udf(),
            "array_prepend" => n::concat::array_prepend_udf(),
            "array_cat" => n::concat::array_concat_udf(),
            _ => n::position::array_position_udf(),
        };
        let call = udf(f, args.into_iter().map(|a| a.expr).collect());
        Ok(if matches!(name, "array_length" | "cardinality" | "array_position") {
            to_arrow(call, &DataType::Int32)
        } else {
            call
        })
    }
}

const RANDOM_UUID: crate::sql::functions::Kernel = |args, _| {
    let mut out = arrow::array::FixedSizeBinaryBuilder::with_capacity(args.number_rows, 16);
    for _ in 0..args.number_rows {
        out.append_value(uuid::Uuid::new_v4().as_bytes())?;
    }
    Ok(datafusion::logical_expr::ColumnarValue::Array(Arc::new(out.finish())))
};

/// A timestamp or interval and an interval: Arrow's arithmetic, which plans recognise.
fn plus_minus(op: &str, left: Expr, right: Expr) -> Expr {
    binary(left, if op == "+" { Operator::Plus } else { Operator::Minus }, right)
}

/// The type an unknown operand takes beside one of type `t`.
fn guess(op: &str, t: PgType, unknown_is_left: bool) -> PgType {
    match (op, t.oid) {
        ("+", o) if is_timestamp(o) => PgType::INTERVAL,
        ("-", o) if is_timestamp(o) && unknown_is_left => PgType::of(o),
        ("-", o) if is_timestamp(o) => PgType::of(o),
        ("+", oid::DATE) => PgType::INTERVAL,
        ("+" | "-", oid::INTERVAL) if unknown_is_left && op == "+" => PgType::INTERVAL,
        ("*" | "/", oid::INTERVAL) => PgType::FLOAT8,
        _ => PgType::of(t.oid),
    }
}

fn refuse(left: &Operand, op: &str, right: &Operand) -> Error {
    no_operator(Some(&left.pg().sql_name()), op, &right.pg().sql_name())
}

fn undefined(name: &str, args: &[Operand]) -> Error {
    no_function(name, &args.iter().map(|a| a.pg().sql_name()).collect::<Vec<_>>())
}
