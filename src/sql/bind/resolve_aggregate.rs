//! What aggregate calls mean for the types of their arguments.
//!
//! count, sum, avg, min and max of ordinary types are DataFusion's; everything else becomes an
//! [`crate::expr::exact::ExactCall`]: its arguments, then what it is ordered by, in one list of columns.
//!
//! Boundary: one call; GROUP BY and its grouping sets are [`super::grouping`]'s.

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::{AggregateUDF, Expr};
use std::sync::Arc;

use super::provider::aggregate;
use super::resolve::{Operand, Resolver, to_arrow};
use crate::error::{Error, ErrorKind, Result};
use crate::expr::aggregate::{AggregateKind, Order, Ordered, Pairs, Shape, Spread};
use crate::sql::functions::aggregates;
use crate::sql::functions::cast::{CastContext, is_text};
use crate::sql::functions::intervals::interval_order;
use crate::sql::functions::{
    DIVISION_SCALE, DfResult, NUMERIC_DISPLAY, NUMERIC_VARIANCE, df_error, no_function,
};
use crate::types::{PgType, oid};

/// An aggregate call as the planner leaves it.
pub(super) struct Call {
    /// The name.
    pub name: String,
    /// Arguments; of ordered-set aggregates the ordered value comes first.
    pub args: Vec<Expr>,
    /// DISTINCT.
    pub distinct: bool,
    /// ORDER BY, or WITHIN GROUP.
    pub order_by: Vec<Sort>,
    /// IGNORE NULLS.
    pub ignore_nulls: bool,
}

/// A call whose types are settled.
pub(super) struct Settled {
    /// The function.
    pub func: Arc<AggregateUDF>,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// DISTINCT, if DataFusion is to see to it.
    pub distinct: bool,
}

fn known_aggregate(name: &str) -> Result<Arc<AggregateUDF>> {
    aggregate(name).ok_or_else(|| Error::internal(format!("aggregate {name} is missing")))
}

fn is_exact_number(o: u32) -> bool {
    matches!(o, oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC)
}

fn is_float(o: u32) -> bool {
    matches!(o, oid::FLOAT4 | oid::FLOAT8)
}

fn spread_of(name: &str) -> Option<Spread> {
    Some(match name {
        "stddev" | "stddev_samp" => Spread::StddevSamp,
        "stddev_pop" => Spread::StddevPop,
        "variance" | "var_samp" => Spread::VarSamp,
        "var_pop" => Spread::VarPop,
        _ => return None,
    })
}

fn pairs_of(name: &str) -> Option<Pairs> {
    Some(match name {
        "corr" => Pairs::Corr,
        "covar_pop" => Pairs::CovarPop,
        "covar_samp" => Pairs::CovarSamp,
        "regr_count" => Pairs::Count,
        "regr_sxx" => Pairs::Sxx,
        "regr_syy" => Pairs::Syy,
        "regr_sxy" => Pairs::Sxy,
        "regr_avgx" => Pairs::AvgX,
        "regr_avgy" => Pairs::AvgY,
        "regr_r2" => Pairs::R2,
        "regr_slope" => Pairs::Slope,
        "regr_intercept" => Pairs::Intercept,
        _ => return None,
    })
}

/// A call under construction: its columns and what else it says.
struct Building {
    args: Vec<Operand>,
    shape: Shape,
    /// Fields whose values may not repeat: with DISTINCT nothing else can be ordered by.
    distinct: bool,
}

impl Resolver<'_> {
    /// An aggregate call in a GROUP BY.
    pub(super) fn aggregate(&mut self, f: AggregateFunction, schema: &DFSchema) -> DfResult<Expr> {
        let AggregateFunction { func, mut params } = f;
        params.filter =
            params.filter.map(|e| self.boolean(*e, schema, "FILTER").map(Box::new)).transpose()?;
        if func.name() == "grouping" {
            return Ok(Expr::AggregateFunction(AggregateFunction { func, params }));
        }
        let settled = self.settle_aggregate(
            Call {
                name: func.name().to_string(),
                args: std::mem::take(&mut params.args),
                distinct: params.distinct,
                order_by: std::mem::take(&mut params.order_by),
                ignore_nulls: params.null_treatment == Some(NullTreatment::IgnoreNulls),
            },
            schema,
        )?;
        params.args = settled.args;
        params.distinct = settled.distinct;
        params.null_treatment = None;
        Ok(Expr::AggregateFunction(AggregateFunction { func: settled.func, params }))
    }

    /// The function and arguments of a call.
    pub(super) fn settle_aggregate(&mut self, call: Call, schema: &DFSchema) -> DfResult<Settled> {
        let Call { name, args, distinct, order_by, ignore_nulls } = call;
        let name = name.as_str();
        // count(*) counts rows: DataFusion's form of it is a constant argument.
        #[expect(deprecated)]
        let all_rows = matches!(args.as_slice(), [Expr::Wildcard { .. }]);
        if name == "count" && all_rows {
            let args = vec![Expr::Literal(ScalarValue::Int64(Some(1)), None)];
            return Ok(Settled { func: known_aggregate("count").map_err(df_error)?, args, distinct });
        }
        let args = if all_rows { vec![] } else { args };
        let operands = args.into_iter().map(|a| self.operand(a, schema)).collect::<DfResult<Vec<_>>>()?;
        if ignore_nulls && !matches!(name, "first_value" | "last_value" | "array_agg") {
            let message = format!("function {name} does not accept IGNORE NULLS");
            return Err(df_error(Error::new(ErrorKind::WrongObjectType, message)));
        }
        let skips_null = if ignore_nulls { vec![0] } else { vec![] };
        let shape = Shape { skips_null, ..Shape::default() };
        let building = Building { args: operands, shape, distinct };
        self.settle_call(name, building, order_by, schema).map_err(df_error)
    }

    fn settle_call(
        &mut self,
        name: &str,
        mut b: Building,
        order_by: Vec<Sort>,
        schema: &DFSchema,
    ) -> Result<Settled> {
        let types: Vec<String> = b.args.iter().map(|o| o.pg().sql_name()).collect();
        let refuse = || no_function(name, &types);
        let first = b.args.first().map_or(0, |o| o.pg().oid);
        let wanted = match name {
            "string_agg" | "json_object_agg" | "jsonb_object_agg" | "arg_min" | "arg_max" | "min_by"
            | "max_by" | "percentile_cont" | "percentile_disc" => 2,
            "approx_percentile" => b.args.len().clamp(2, 3),
            _ if pairs_of(name).is_some() => 2,
            _ => 1,
        };
        if b.args.len() != wanted {
            return Err(refuse());
        }
        if let Some(spread) = spread_of(name) {
            return self.spread(name, spread, b, &refuse);
        }
        if let Some(pairs) = pairs_of(name) {
            for i in 0..2 {
                if !(is_exact_number(b.args[i].pg().oid)
                    || is_float(b.args[i].pg().oid)
                    || b.args[i].unknown())
                {
                    return Err(refuse());
                }
                self.retype(&mut b.args[i], PgType::FLOAT8, schema)?;
            }
            let result = if pairs == Pairs::Count { PgType::INT8 } else { PgType::FLOAT8 };
            return Ok(exact(name, AggregateKind::Pairs(pairs), b, result.field("", true)));
        }
        match name {
            "count" | "approx_count_distinct" => {
                let distinct = b.distinct || name == "approx_count_distinct";
                self.untyped_is_text(&mut b, schema)?;
                comparable_when_distinct(&Building { distinct, ..building_like(&b) })?;
                let args = b.args.into_iter().map(|o| o.expr).collect();
                Ok(Settled { func: known_aggregate("count")?, args, distinct })
            }
            "sum" | "avg" | "min" | "max" => self.plain(name, b, &refuse, schema),
            "bool_and" | "bool_or" | "every" => {
                if !matches!(first, oid::BOOL | oid::UNKNOWN) {
                    return Err(refuse());
                }
                self.retype(&mut b.args[0], PgType::BOOL, schema)?;
                let kind = if name == "bool_or" { AggregateKind::BoolOr } else { AggregateKind::BoolAnd };
                Ok(exact(name, kind, b, PgType::BOOL.field("", true)))
            }
            "bit_and" | "bit_or" | "bit_xor" => {
                if !matches!(first, oid::INT2 | oid::INT4 | oid::INT8) {
                    return Err(refuse());
                }
                let kind = match name {
                    "bit_and" => AggregateKind::BitAnd,
                    "bit_or" => AggregateKind::BitOr,
                    _ => AggregateKind::BitXor,
                };
                let result = PgType::of(first).field("", true);
                Ok(exact(name, kind, b, result))
            }
            _ => self.ordered(name, b, order_by, &refuse, schema),
        }
    }

    /// sum, avg, min and max, with arguments of the types PostgreSQL sums and averages in.
    fn plain(
        &mut self,
        name: &str,
        mut b: Building,
        refuse: &dyn Fn() -> Error,
        schema: &DFSchema,
    ) -> Result<Settled> {
        let operand = b.args.remove(0);
        let to = |r: &mut Self, o: Operand, t: PgType| r.coerce(o, t, CastContext::Assignment);
        let extreme = matches!(name, "min" | "max");
        let arg = match (name, operand.pg().oid) {
            ("sum", oid::INT2 | oid::INT4) => to(self, operand, PgType::INT8)?,
            ("sum" | "avg", oid::INT8) => to_arrow(operand.expr, &DataType::Decimal128(38, 0)),
            ("avg", oid::INT2 | oid::INT4) => to_arrow(operand.expr, &DataType::Decimal128(38, 0)),
            ("sum" | "avg", oid::NUMERIC) => match operand.field.data_type() {
                DataType::Decimal128(_, s) => to_arrow(operand.expr, &DataType::Decimal128(38, *s)),
                DataType::Decimal256(_, s) => to_arrow(operand.expr, &DataType::Decimal256(76, *s)),
                _ => return Err(Error::unsupported(format!("{name} of so wide a numeric is not supported"))),
            },
            // PostgreSQL sums float4 as float4; more digits do no harm.
            ("sum" | "avg", oid::FLOAT4 | oid::FLOAT8) => to(self, operand, PgType::FLOAT8)?,
            ("sum", oid::INTERVAL) => {
                b.args.push(operand);
                return Ok(exact(name, AggregateKind::Sum, b, PgType::INTERVAL.field("", true)));
            }
            // Becomes sum and count.
            ("avg", oid::INTERVAL) => operand.expr,
            ("sum" | "avg", _) => return Err(refuse()),
            (_, oid::BOOL | oid::UUID | oid::JSON | oid::JSONB) => return Err(refuse()),
            (_, oid::INTERVAL) => {
                let key = interval_order(operand.expr.clone());
                b.args = vec![operand, self.operand(key, schema)?];
                let order = if name == "min" { Order::ASCENDING } else { Order::DESCENDING };
                b.shape.order.push((1, order));
                b.shape.skips_null.push(0);
                b.distinct = false;
                return Ok(exact(name, first_kind(), b, PgType::INTERVAL.field("", true)));
            }
            _ if extreme && matches!(operand.field.data_type(), DataType::List(_)) => {
                let order = if name == "min" { Order::ASCENDING } else { Order::DESCENDING };
                b.shape.order.push((0, order));
                b.shape.skips_null.push(0);
                b.distinct = false;
                let result = operand.field.as_ref().clone();
                b.args.push(operand);
                return Ok(exact(name, first_kind(), b, result));
            }
            _ if operand.unknown() => to(self, operand, PgType::TEXT)?,
            _ => operand.expr,
        };
        Ok(Settled { func: known_aggregate(name)?, args: vec![arg], distinct: b.distinct })
    }

    fn spread(
        &mut self,
        name: &str,
        spread: Spread,
        mut b: Building,
        refuse: &dyn Fn() -> Error,
    ) -> Result<Settled> {
        let operand = &mut b.args[0];
        let (kind, o) = (AggregateKind::Spread(spread), operand.pg().oid);
        if is_float(o) {
            return Ok(exact(name, kind, b, PgType::FLOAT8.field("", true)));
        }
        if !is_exact_number(o) {
            return Err(refuse());
        }
        if matches!(operand.field.data_type(), DataType::Decimal256(..)) {
            return Err(Error::unsupported(format!("{name} of so wide a numeric is not supported")));
        }
        let display = match spread {
            Spread::VarSamp | Spread::VarPop => NUMERIC_VARIANCE,
            _ => crate::sql::functions::NUMERIC_DEVIATION,
        };
        let result = Field::new("", DataType::Decimal128(38, DIVISION_SCALE), true)
            .with_metadata([(NUMERIC_DISPLAY.to_string(), display.to_string())].into());
        Ok(exact(name, kind, b, result))
    }

    /// Aggregates that read values in order.
    fn ordered(
        &mut self,
        name: &str,
        mut b: Building,
        order_by: Vec<Sort>,
        refuse: &dyn Fn() -> Error,
        schema: &DFSchema,
    ) -> Result<Settled> {
        let percentile = matches!(name, "percentile_cont" | "percentile_disc" | "approx_percentile");
        if percentile {
            // approx_percentile(p, error): what is exact needs no bound.
            b.args.truncate(2);
            let mut fraction = b.args.pop().ok_or_else(refuse)?;
            if order_by.is_empty() && fraction.unknown() {
                self.retype(&mut fraction, PgType::FLOAT8, schema)?;
            }
            (b.shape.fractions, b.shape.array) = self.fractions(name, fraction, refuse)?;
        } else if name == "median" {
            b.shape.fractions = vec![Some(0.5_f64.to_bits())];
        }
        let first = b.args[0].pg().oid;
        let (kind, result) = match name {
            "string_agg" => {
                let bytes = b.args.iter().any(|a| a.pg().oid == oid::BYTEA);
                let t = if bytes { PgType::BYTEA } else { PgType::TEXT };
                for i in 0..2 {
                    let o = &b.args[i];
                    if !o.unknown() && if bytes { o.pg().oid != oid::BYTEA } else { !is_text(o.pg().oid) } {
                        return Err(refuse());
                    }
                    self.retype(&mut b.args[i], t, schema)?;
                }
                (Ordered::Text, t.field("", true))
            }
            "array_agg" => {
                self.untyped_is_text(&mut b, schema)?;
                let element = b.args[0].pg();
                let Some(array) = element.array_oid() else {
                    return Err(Error::unsupported(format!(
                        "array_agg({}) is not supported",
                        element.sql_name()
                    )));
                };
                (Ordered::Array, array_field(array, b.args[0].field.data_type()))
            }
            "json_agg" | "jsonb_agg" | "json_object_agg" | "jsonb_object_agg" => {
                self.untyped_is_text(&mut b, schema)?;
                let (kind, t) = match name {
                    "json_agg" => (Ordered::Json, oid::JSON),
                    "jsonb_agg" => (Ordered::Jsonb, oid::JSONB),
                    "json_object_agg" => (Ordered::JsonObject, oid::JSON),
                    _ => (Ordered::JsonbObject, oid::JSONB),
                };
                (kind, PgType::of(t).field("", true))
            }
            "percentile_cont" | "median" | "approx_percentile" => {
                let t = match first {
                    oid::INTERVAL if name != "approx_percentile" => PgType::INTERVAL,
                    o if is_exact_number(o) || is_float(o) || b.args[0].unknown() => PgType::FLOAT8,
                    _ => return Err(refuse()),
                };
                self.retype(&mut b.args[0], t, schema)?;
                (Ordered::Continuous, maybe_array(t.field("", true), b.shape.array))
            }
            "percentile_disc" | "mode" => {
                self.untyped_is_text(&mut b, schema)?;
                let kind = if name == "mode" { Ordered::Mode } else { Ordered::Discrete };
                let field = b.args[0].field.as_ref().clone().with_name("");
                (kind, maybe_array(field, b.shape.array))
            }
            "first_value" | "last_value" | "any_value" | "arg_min" | "arg_max" | "min_by" | "max_by" => {
                self.untyped_is_text(&mut b, schema)?;
                let kind = if name == "last_value" { Ordered::Last } else { Ordered::First };
                (kind, b.args[0].field.as_ref().clone().with_name(""))
            }
            _ => return Err(refuse()),
        };
        self.order(name, &mut b, order_by, schema)?;
        comparable_when_distinct(&b)?;
        Ok(exact(name, AggregateKind::Ordered(kind), b, result))
    }

    /// The order of a call's values.
    fn order(&mut self, name: &str, b: &mut Building, order_by: Vec<Sort>, schema: &DFSchema) -> Result<()> {
        match name {
            "arg_min" | "min_by" | "arg_max" | "max_by" => {
                let order =
                    if matches!(name, "arg_min" | "min_by") { Order::ASCENDING } else { Order::DESCENDING };
                b.shape.skips_null.push(1);
                let key = b.args[1].clone();
                return self.order_by(b, key, order, schema);
            }
            "any_value" => b.shape.skips_null.push(0),
            "percentile_cont" | "percentile_disc" | "mode" | "median" | "approx_percentile" => {
                // The value itself, whatever it has been cast to.
                let order = order_by.first().map_or(Order::ASCENDING, direction);
                let key = b.args[0].clone();
                return self.order_by(b, key, order, schema);
            }
            _ => {}
        }
        for sort in order_by {
            let order = direction(&sort);
            let mut key = self.operand(unaliased(sort.expr), schema)?;
            if key.unknown() {
                self.retype(&mut key, PgType::TEXT, schema)?;
            }
            self.order_by(b, key, order, schema)?;
        }
        Ok(())
    }

    fn order_by(&mut self, b: &mut Building, key: Operand, order: Order, schema: &DFSchema) -> Result<()> {
        let own = b.args.iter().position(|a| a.expr == key.expr || stripped(&a.expr) == stripped(&key.expr));
        if b.distinct && own.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidColumnReference,
                "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
            ));
        }
        let pg = key.pg();
        if matches!(pg.oid, oid::JSON) {
            return Err(no_ordering(pg));
        }
        if pg.oid == oid::JSONB {
            return Err(Error::unsupported("ORDER BY jsonb inside an aggregate is not supported"));
        }
        let column = if pg.oid == oid::INTERVAL {
            // Intervals compare by their length: 30 days are a month.
            let length = interval_order(key.expr);
            b.args.push(self.operand(length, schema)?);
            b.args.len() - 1
        } else if let Some(own) = own {
            own
        } else {
            b.args.push(key);
            b.args.len() - 1
        };
        b.shape.order.push((column, order));
        Ok(())
    }

    /// The constant fractions of a percentile.
    fn fractions(
        &mut self,
        name: &str,
        fraction: Operand,
        refuse: &dyn Fn() -> Error,
    ) -> Result<(Vec<Option<u64>>, bool)> {
        let pg = fraction.pg();
        let element = pg.element();
        let number = |o: u32| is_exact_number(o) || is_float(o) || o == oid::UNKNOWN;
        if !number(element.unwrap_or(pg).oid) {
            return Err(refuse());
        }
        let value = super::scalar::constant(&fraction.expr)
            .ok_or_else(|| Error::unsupported(format!("{name} needs a constant fraction")))?;
        let values: Vec<Option<f64>> = match &value {
            ScalarValue::List(list) => {
                let values = arrow::compute::cast(list.values(), &DataType::Float64)?;
                let values: &arrow::array::Float64Array = arrow::array::AsArray::as_primitive(&values);
                values.iter().collect()
            }
            ScalarValue::Utf8(Some(text)) => {
                let parsed = crate::types::text::parse_text(PgType::FLOAT8, text, &Default::default())?;
                vec![as_f64(&parsed)]
            }
            value => vec![as_f64(&value.cast_to(&DataType::Float64)?)],
        };
        for p in values.iter().flatten() {
            if !(0.0..=1.0).contains(p) {
                return Err(Error::new(
                    ErrorKind::NumericOutOfRange,
                    format!("percentile value {p} is not between 0 and 1"),
                ));
            }
        }
        // -0 is 0.
        Ok((values.into_iter().map(|p| p.map(|p| (p + 0.0).to_bits())).collect(), element.is_some()))
    }

    fn retype(&mut self, operand: &mut Operand, to: PgType, schema: &DFSchema) -> Result<()> {
        let expr = self.coerce(operand.clone(), to, CastContext::Assignment)?;
        *operand = self.operand(expr, schema)?;
        Ok(())
    }

    fn untyped_is_text(&mut self, b: &mut Building, schema: &DFSchema) -> Result<()> {
        for i in 0..b.args.len() {
            if b.args[i].unknown() {
                self.retype(&mut b.args[i], PgType::TEXT, schema)?;
            }
        }
        Ok(())
    }
}

fn first_kind() -> AggregateKind {
    AggregateKind::Ordered(Ordered::First)
}

fn building_like(b: &Building) -> Building {
    Building { args: b.args.clone(), shape: Shape::default(), distinct: b.distinct }
}

fn exact(name: &str, kind: AggregateKind, b: Building, result: Field) -> Settled {
    let func = aggregates::exact(name, kind, b.shape, b.distinct, result);
    Settled { func, args: b.args.into_iter().map(|o| o.expr).collect(), distinct: false }
}

fn as_f64(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(v) => *v,
        _ => None,
    }
}

/// json has no equality.
fn comparable_when_distinct(b: &Building) -> Result<()> {
    match b.args.iter().find(|o| b.distinct && o.pg().oid == oid::JSON) {
        Some(o) => Err(Error::new(
            ErrorKind::UndefinedFunction,
            format!("could not identify an equality operator for type {}", o.pg().sql_name()),
        )),
        None => Ok(()),
    }
}

fn no_ordering(pg: PgType) -> Error {
    Error::new(
        ErrorKind::UndefinedFunction,
        format!("could not identify an ordering operator for type {}", pg.sql_name()),
    )
    .with_hint("Use an explicit ordering operator or modify the query.")
}

fn direction(sort: &Sort) -> Order {
    Order { descending: !sort.asc, nulls_first: sort.nulls_first }
}

fn unaliased(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(a) => unaliased(*a.expr),
        e => e,
    }
}

/// The expression below casts between the texts.
fn stripped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(a) => stripped(&a.expr),
        e => e,
    }
}

fn array_field(array: u32, element: &DataType) -> Field {
    let list = DataType::List(Arc::new(Field::new("item", element.clone(), true)));
    let field = PgType::of(array).field("", true);
    // An array whose type Arrow does not tell keeps it in its metadata.
    let told = PgType::from_arrow(&list) == PgType::of(array);
    let field = if told { Field::new("", list, true) } else { field.with_data_type(list) };
    if told || !field.metadata().is_empty() {
        field
    } else {
        field.with_metadata(PgType::of(array).metadata())
    }
}

fn maybe_array(field: Field, array: bool) -> Field {
    if !array {
        return field;
    }
    match PgType::of_field(&field).array_oid() {
        Some(oid) => array_field(oid, field.data_type()),
        None => field,
    }
}
