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
use crate::sql::functions::{
    arrays, datetime, native, native_with, no_function, no_operator, operators, registry, times,
};
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
        if let Some(name) = name.strip_prefix(crate::sql::functions::sets::PREFIX) {
            return self.set_returning(name, args);
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
        let args = self.completed(name, args)?;
        let types: Vec<Option<PgType>> = args.iter().map(Operand::known).collect();
        if let Some(all) = registry::overloads(name)
            && let Some(chosen) = registry::choose(all, &types)
        {
            return self.chosen(name, chosen, args);
        }
        // A type's name called as a function is a cast.
        if let (Some(to), [_]) = (crate::sql::types::pg_type_by_name(name), args.as_slice())
            && let Some(operand) = args.first().cloned()
        {
            return self.coerce(operand, to, CastContext::Explicit);
        }
        Err(undefined(name, &args))
    }

    /// The arguments with those that may be left out.
    fn completed(&mut self, name: &str, mut args: Vec<Operand>) -> Result<Vec<Operand>> {
        match (name, args.len()) {
            ("make_interval", 0..7) => {
                while args.len() < 7 {
                    args.push(self.with_field(lit(0i32))?);
                }
            }
            ("age", 1) => {
                let to = match args[0].known() {
                    Some(PgType::TIMESTAMP) => PgType::TIMESTAMP,
                    _ => PgType::TIMESTAMPTZ,
                };
                let today = self.special("current_date", vec![])?;
                let today = self.with_field(today)?;
                let today = self.coerce(today, to, CastContext::Implicit)?;
                args.insert(0, self.with_field(today)?);
            }
            _ => {}
        }
        Ok(args)
    }

    /// The call of an overload that was chosen for these arguments.
    fn chosen(&mut self, name: &str, chosen: &registry::Overload, args: Vec<Operand>) -> Result<Expr> {
        use registry::{ANY, ANY_ARRAY, ANY_ELEMENT};
        let wanted = |i: usize| chosen.args.get(i).or(chosen.args.last()).copied().unwrap_or(PgType::TEXT);
        let element = self.common_element(chosen, &args)?;
        let array = element.and_then(PgType::array_oid).map(PgType::of);
        let settled = |want: PgType| match want {
            ANY_ARRAY => array.unwrap_or(want),
            ANY_ELEMENT => element.unwrap_or(want),
            want => want,
        };
        let mut exprs = Vec::with_capacity(args.len());
        for (i, arg) in args.into_iter().enumerate() {
            exprs.push(match wanted(i) {
                ANY if arg.unknown() => self.coerce(arg, PgType::TEXT, CastContext::Implicit)?,
                ANY => arg.expr,
                want => self.coerce(arg, settled(want), CastContext::Implicit)?,
            });
        }
        let mut fields =
            exprs.iter().map(|e| Ok(self.with_field(e.clone())?.field)).collect::<Result<Vec<_>>>()?;
        let mut result = settled(chosen.result).field("", true);
        if element.is_some_and(|e| e.oid == oid::NUMERIC) {
            // Numerics of different scales meet at the greatest.
            let scale = fields.iter().filter_map(|f| numeric_scale(f.data_type())).max().unwrap_or(0);
            let one = DataType::Decimal128(38, scale);
            let list = DataType::List(Arc::new(arrow::datatypes::Field::new("item", one.clone(), true)));
            for (i, expr) in exprs.iter_mut().enumerate() {
                let to = match wanted(i) {
                    ANY_ARRAY => &list,
                    ANY_ELEMENT => &one,
                    _ => continue,
                };
                if fields[i].data_type() != to {
                    *expr = to_arrow(expr.clone(), to);
                    fields[i] = self.with_field(expr.clone())?.field;
                }
            }
            match chosen.result {
                ANY_ARRAY => result = arrow::datatypes::Field::new("", list, true),
                ANY_ELEMENT => result = arrow::datatypes::Field::new("", one, true),
                _ => {}
            }
        }
        let result_type = result.data_type().clone();
        let call = registry::build(name, chosen, exprs, &fields, result, &self.context.time_zone.clone())?;
        if matches!(chosen.build, registry::Build::Native(_) | registry::Build::Zoned(_)) {
            return Ok(call);
        }
        let operand = self.with_field(call)?;
        if *operand.field.data_type() == result_type {
            return Ok(operand.expr);
        }
        self.canonical(operand.expr, chosen.result)
    }

    /// The type that the polymorphic arguments of a call agree on.
    fn common_element(&self, chosen: &registry::Overload, args: &[Operand]) -> Result<Option<PgType>> {
        use registry::{ANY_ARRAY, ANY_ELEMENT};
        let mut common: Option<PgType> = None;
        let mut polymorphic = false;
        for (want, arg) in chosen.args.iter().zip(args) {
            if !matches!(*want, ANY_ARRAY | ANY_ELEMENT) {
                continue;
            }
            polymorphic = true;
            let Some(known) = arg.known() else { continue };
            let next = if *want == ANY_ARRAY { known.element().unwrap_or(known) } else { known };
            let next = if cast::is_text(next.oid) { PgType::of(next.oid) } else { next };
            common = Some(match common {
                None => next,
                Some(c) => {
                    super::resolve::wider(c, next).ok_or_else(|| undefined(chosen_name(chosen), args))?
                }
            });
        }
        match common {
            None if polymorphic => Err(Error::new(
                ErrorKind::DatatypeMismatch,
                "could not determine polymorphic type because input has type unknown",
            )),
            common => Ok(common.map(|c| if c.oid == oid::NUMERIC { PgType::NUMERIC } else { c })),
        }
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
            let arrays = [&left, &right].iter().any(|o| o.known().is_some_and(|t| t.element().is_some()));
            let (l, r) = self.comparable(left, op, right)?;
            return Ok(if arrays { compare_arrays(operator, l, r) } else { binary(l, operator, r) });
        }
        if let Some(all) = registry::overloads(op) {
            let special = |o: &Operand| {
                o.known().is_some_and(|t| {
                    t.element().is_some() || matches!(t.oid, oid::JSON | oid::JSONB | oid::BYTEA)
                })
            };
            let only_here = !matches!(op, "||" | "-");
            if only_here || special(&left) || special(&right) {
                let text_side = |o: &Operand| o.known().is_some_and(|t| cast::is_text(t.oid));
                let types = [left.known(), right.known()];
                // Text on one side of || makes text of a jsonb or bytea on the other, as the any || text operator.
                let texts = op == "||"
                    && (text_side(&left) || text_side(&right))
                    && ![&left, &right].iter().any(|o| o.known().is_some_and(|t| t.element().is_some()));
                if !texts && let Some(chosen) = registry::choose(all, &types) {
                    return self.chosen(op, chosen, vec![left, right]);
                }
                if only_here {
                    return Err(refuse(&left, op, &right));
                }
            }
        }
        match op {
            "+" | "-" | "*" | "/" | "%" => self.arithmetic(op, left, right),
            "^" => {
                if [&left, &right].iter().any(|o| {
                    o.known() == Some(PgType::NUMERIC) || o.known().is_some_and(|t| t.oid == oid::NUMERIC)
                }) && ![&left, &right]
                    .iter()
                    .any(|o| o.known().is_some_and(|t| matches!(t.oid, oid::FLOAT4 | oid::FLOAT8)))
                {
                    return self.call("power", vec![left, right]);
                }
                let l = self.coerce(left, PgType::FLOAT8, CastContext::Implicit)?;
                let r = self.coerce(right, PgType::FLOAT8, CastContext::Implicit)?;
                Ok(native("power", DataType::Float64, crate::sql::functions::strings::power, vec![l, r]))
            }
            "||" => self.concatenation(left, right),
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
            ("+" | "-", oid::TIMESTAMPTZ, oid::INTERVAL) => self.shifted_in_zone(op, le, re),
            ("+", oid::INTERVAL, oid::TIMESTAMPTZ) => self.shifted_in_zone(op, re, le),
            ("+" | "-", t, oid::INTERVAL) if is_timestamp(t) => plus_minus(op, le, re),
            ("+", oid::INTERVAL, t) if is_timestamp(t) => plus_minus(op, re, le),
            ("+" | "-", oid::INTERVAL, oid::INTERVAL) => plus_minus(op, le, re),
            ("-", a, b) if (is_timestamp(a) || a == oid::DATE) && (is_timestamp(b) || b == oid::DATE) => {
                let (l, r) = self.comparable(left, op, right)?;
                datetime::timestamp_difference(l, r)
            }
            ("*" | "/", oid::INTERVAL, n) if is_number(n) => {
                scaled_interval(le, to_arrow(re, &DataType::Float64), op == "/")
            }
            ("*", n, oid::INTERVAL) if is_number(n) => {
                scaled_interval(re, to_arrow(le, &DataType::Float64), false)
            }
            ("+" | "-", oid::TIME, oid::INTERVAL) => shifted_time(le, re, op == "-"),
            ("+", oid::INTERVAL, oid::TIME) => shifted_time(re, le, false),
            ("-", oid::TIME, oid::TIME) => {
                native("time_mi", PgType::INTERVAL.arrow(), times::time_difference, vec![le, re])
            }
            _ => return Err(refuse(&left, op, &right)),
        })
    }

    /// timestamptz ± interval: days and months are those of the session's time zone.
    fn shifted_in_zone(&self, op: &str, value: Expr, by: Expr) -> Expr {
        if self.context.time_zone == "UTC" {
            return plus_minus(op, value, by);
        }
        let kernel: crate::sql::functions::Kernel = if op == "+" {
            |a, t| times::shift_in_zone(a, t, 1)
        } else {
            |a, t| times::shift_in_zone(a, t, -1)
        };
        let args = vec![value, by, lit(self.context.time_zone.clone())];
        native(format!("timestamptz {op}"), PgType::TIMESTAMPTZ.arrow(), kernel, args)
    }

    /// (start, end) OVERLAPS (start, end); an end may be a length.
    fn overlaps(&mut self, args: Vec<Operand>) -> Result<Expr> {
        let zoned = args.iter().any(|a| a.known() == Some(PgType::TIMESTAMPTZ));
        let to = if zoned { PgType::TIMESTAMPTZ } else { PgType::TIMESTAMP };
        let mut moments: Vec<Expr> = Vec::with_capacity(4);
        for (i, arg) in args.into_iter().enumerate() {
            if i % 2 == 1 && arg.known() == Some(PgType::INTERVAL) {
                let start =
                    moments.last().cloned().ok_or_else(|| Error::internal("a period without start"))?;
                moments.push(plus_minus("+", start, arg.expr));
            } else {
                moments.push(self.coerce(arg, to, CastContext::Implicit)?);
            }
        }
        Ok(native("overlaps", DataType::Boolean, times::overlaps, moments))
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
            ("current_timestamp" | "localtimestamp" | "current_time" | "localtime", 1) => {
                let digits = match &args[0].expr {
                    Expr::Literal(ScalarValue::Int32(Some(n)), _) => (*n).clamp(0, 6),
                    _ => {
                        return Err(Error::new(
                            ErrorKind::Syntax,
                            format!("{name} needs a constant precision"),
                        ));
                    }
                };
                let now = self.special(name, vec![])?;
                if self.context.in_view || digits == 6 {
                    return Ok(now);
                }
                let step = 10i64.pow(6 - digits.unsigned_abs());
                let now = (self.context.now.0 + step / 2).div_euclid(step) * step;
                let now = self.with_field(datetime::timestamptz_literal(now))?;
                self.coerce(now, now_type(name), CastContext::Assignment)
            }
            ("overlaps", 4) => self.overlaps(args),
            ("localtimestamp" | "current_date" | "current_time" | "localtime", 0) => {
                let to = now_type(name);
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
            ("extract" | "date_part", 2) => self.extract(name, args),
            ("round" | "trunc" | "ceil" | "ceiling" | "floor" | "sign" | "abs", 1)
            | ("round" | "trunc", 2) => self.rounding(name, args),
            ("mod", 2) => {
                let right = args.remove(1);
                self.arithmetic("%", args.remove(0), right)
            }
            ("make_array", _) => {
                if args.is_empty() {
                    // What ARRAY[] is an array of, a cast says.
                    return Ok(Expr::Literal(ScalarValue::Utf8(Some("{}".to_string())), None));
                }
                let (exprs, element, common) = self.unify(args, "ARRAY")?;
                arrays::one_dimension(std::slice::from_ref(&element))?;
                let list = DataType::List(Arc::new(arrow::datatypes::Field::new("item", element, true)));
                let mut field = arrow::datatypes::Field::new("", list, true);
                if let Some(oid) = common.array_oid() {
                    field = field.with_metadata(PgType::of(oid).field("", true).metadata().clone());
                }
                Ok(native_with("array", field, arrays::make_array, Volatility::Immutable, exprs))
            }
            ("subscript", 2) => self.subscript(args),
            ("array_slice", 3) => {
                let (to, from) = (args.remove(2), args.remove(1));
                let array = args.remove(0);
                if array.known().is_none_or(|t| t.element().is_none()) {
                    return Err(cannot_subscript(&array));
                }
                let from = self.coerce(from, PgType::INT4, CastContext::Assignment)?;
                let to = self.coerce(to, PgType::INT4, CastContext::Assignment)?;
                let field = array.field.as_ref().clone().with_nullable(true);
                Ok(native_with(
                    "slice",
                    field,
                    arrays::slice,
                    Volatility::Immutable,
                    vec![array.expr, from, to],
                ))
            }
            ("any_op" | "all_op", 3) => self.quantified(name, args),
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
        let op = match op.as_str() {
            "!=" => "<>".to_string(),
            _ => op,
        };
        let any = name == "any_op";
        let value = match (value.unknown(), array.known().and_then(PgType::element)) {
            (true, Some(inner)) => self.settle_operand(value, PgType::of(inner.oid))?,
            _ => value,
        };
        let value = if value.unknown() { self.settle_operand(value, PgType::TEXT)? } else { value };
        let element = if value.unknown() { PgType::TEXT } else { value.pg() };
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
        let kernel: crate::sql::functions::Kernel =
            if any { |a, t| arrays::quantified(a, t, true) } else { |a, t| arrays::quantified(a, t, false) };
        let (value, array) = self.same_scale(value, array)?;
        Ok(native(name, DataType::Boolean, kernel, vec![value, array, lit(op)]))
    }

    /// A numeric and an array of numerics with the greater of their scales.
    fn same_scale(&self, value: Expr, array: Expr) -> Result<(Expr, Expr)> {
        let (v, a) = (self.with_field(value.clone())?.field, self.with_field(array.clone())?.field);
        let (Some(s1), Some(s2)) = (numeric_scale(v.data_type()), numeric_scale(a.data_type())) else {
            return Ok((value, array));
        };
        if s1 == s2 {
            return Ok((value, array));
        }
        let one = DataType::Decimal128(38, s1.max(s2));
        let list = DataType::List(Arc::new(arrow::datatypes::Field::new("item", one.clone(), true)));
        Ok((to_arrow(value, &one), to_arrow(array, &list)))
    }

    /// `array[i]`, `jsonb['key']` and `jsonb[i]`.
    fn subscript(&mut self, mut args: Vec<Operand>) -> Result<Expr> {
        let (index, value) = (args.remove(1), args.remove(0));
        let Some(t) = value.known() else { return Err(cannot_subscript(&value)) };
        if t.oid == oid::JSONB {
            return self.operator("->", value, index);
        }
        let Some(element) = t.element() else { return Err(cannot_subscript(&value)) };
        let field = match value.field.data_type() {
            DataType::List(f) => {
                PgType::of(element.oid).field("", true).with_data_type(f.data_type().clone())
            }
            _ => return Err(cannot_subscript(&value)),
        };
        let index = self.coerce(index, PgType::INT4, CastContext::Assignment)?;
        Ok(native_with("subscript", field, arrays::subscript, Volatility::Immutable, vec![value.expr, index]))
    }
}

/// The type of `current_date` and its kind.
fn now_type(name: &str) -> PgType {
    match name {
        "current_timestamp" => PgType::TIMESTAMPTZ,
        "localtimestamp" => PgType::TIMESTAMP,
        "current_date" => PgType::DATE,
        _ => PgType::TIME,
    }
}

fn scaled_interval(value: Expr, factor: Expr, divide: bool) -> Expr {
    let (name, kernel): (_, crate::sql::functions::Kernel) = if divide {
        ("interval_div", |a, t| times::scale_interval(a, t, true))
    } else {
        ("interval_mul", |a, t| times::scale_interval(a, t, false))
    };
    native(name, PgType::INTERVAL.arrow(), kernel, vec![value, factor])
}

fn shifted_time(time: Expr, by: Expr, minus: bool) -> Expr {
    let (name, kernel): (_, crate::sql::functions::Kernel) = if minus {
        ("time_mi_interval", |a, t| times::shift_time(a, t, -1))
    } else {
        ("time_pl_interval", |a, t| times::shift_time(a, t, 1))
    };
    native(name, PgType::TIME.arrow(), kernel, vec![time, by])
}

fn cannot_subscript(value: &Operand) -> Error {
    Error::new(
        ErrorKind::DatatypeMismatch,
        format!("cannot subscript type {} because it does not support subscripting", value.pg().sql_name()),
    )
}

fn chosen_name(chosen: &registry::Overload) -> &'static str {
    chosen.spec.split('(').next().unwrap_or_default()
}

/// The scale of a numeric, or of the elements of an array of numerics.
fn numeric_scale(t: &DataType) -> Option<i8> {
    match t {
        DataType::Decimal128(_, s) => Some(*s),
        DataType::List(f) => numeric_scale(f.data_type()),
        _ => None,
    }
}

/// A comparison of two arrays of one type.
fn compare_arrays(operator: Operator, left: Expr, right: Expr) -> Expr {
    use std::cmp::Ordering as O;
    let kernel: crate::sql::functions::Kernel = match operator {
        Operator::Eq => |a, t| arrays::compare(a, t, O::is_eq),
        Operator::NotEq => |a, t| arrays::compare(a, t, O::is_ne),
        Operator::Lt => |a, t| arrays::compare(a, t, O::is_lt),
        Operator::LtEq => |a, t| arrays::compare(a, t, O::is_le),
        Operator::Gt => |a, t| arrays::compare(a, t, O::is_gt),
        _ => |a, t| arrays::compare(a, t, O::is_ge),
    };
    native(operator.to_string(), DataType::Boolean, kernel, vec![left, right])
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
