//! GROUP BY after its expressions are settled: averages of exact numbers become sums and counts, GROUPING() becomes an
//! expression, and grouping sets get the row that PostgreSQL gives for the empty set over no rows.
//!
//! Boundary: the shape of one aggregate node; calls are [`super::resolve_aggregate`]'s.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, ExprSchemable, GroupingSet, LogicalPlan, Projection, ScalarFunctionArgs,
    Union,
};

use super::provider::aggregate;
use super::resolve::{Resolver, to_arrow};
use crate::error::{Error, ErrorKind};
use crate::expr::aggregate::{AggregateKind, Shape};
use crate::sql::functions::aggregates;
use crate::sql::functions::intervals::interval_average;
use crate::sql::functions::{DfResult, df_error, native, operators};
use crate::types::PgType;

/// Columns of a CUBE, as in PostgreSQL.
const MAX_CUBE: usize = 12;
/// Columns that GROUPING() takes.
const MAX_GROUPING: usize = 31;

fn unaliased(e: &Expr) -> &Expr {
    match e {
        Expr::Alias(a) => unaliased(&a.expr),
        e => e,
    }
}

/// The sets of a GROUP BY with grouping sets, which the planner has written out.
pub(crate) fn sets_of(a: &Aggregate) -> Option<&Vec<Vec<Expr>>> {
    match a.group_expr.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => Some(sets),
        _ => None,
    }
}

impl Resolver<'_> {
    /// The settled form of grouping sets, written out; every expression keeps its name.
    pub(super) fn grouping_set(
        &mut self,
        set: GroupingSet,
        names: &NamePreserver,
        schema: &datafusion::common::DFSchema,
    ) -> DfResult<GroupingSet> {
        let mut all = |list: Vec<Expr>| -> DfResult<Vec<Expr>> {
            list.into_iter()
                .map(|e| {
                    let name = names.save(&e);
                    let e = self.expr(e, schema)?;
                    Ok(name.restore(e))
                })
                .collect()
        };
        Ok(GroupingSet::GroupingSets(match set {
            GroupingSet::Rollup(list) => {
                let list = all(list)?;
                (0..=list.len()).rev().map(|n| list[..n].to_vec()).collect()
            }
            GroupingSet::Cube(list) if list.len() > MAX_CUBE => {
                let message = format!("CUBE is limited to {MAX_CUBE} elements");
                return Err(df_error(Error::new(ErrorKind::ProgramLimit, message)));
            }
            GroupingSet::Cube(list) => {
                let list = all(list)?;
                let has = |set: u32, i: usize| set >> (list.len() - 1 - i) & 1 == 1;
                let of =
                    |set: u32| (0..list.len()).filter(|i| has(set, *i)).map(|i| list[i].clone()).collect();
                (0..1_u32 << list.len()).rev().map(of).collect()
            }
            GroupingSet::GroupingSets(sets) => sets.into_iter().map(all).collect::<DfResult<_>>()?,
        }))
    }

    /// The plan of an aggregate whose expressions are settled.
    pub(super) fn aggregate_plan(&mut self, a: Aggregate) -> DfResult<LogicalPlan> {
        let (mut aggregates, mut outputs, mut plain) = (Vec::new(), Vec::new(), true);
        for e in a.aggr_expr.clone() {
            let name = e.schema_name().to_string();
            match unaliased(&e) {
                Expr::AggregateFunction(f) if f.func.name() == "grouping" => {
                    plain = false;
                    outputs.push(grouping(&a, &f.params.args)?.alias(name));
                }
                Expr::AggregateFunction(f) if splits(&a, f)? => {
                    plain = false;
                    outputs.push(split(&a, f, &name, &mut aggregates)?.alias(name));
                }
                _ => {
                    outputs.push(Expr::Column(Column::new_unqualified(&name)));
                    aggregates.push(e);
                }
            }
        }
        let keys = a.schema.columns();
        let groups = keys.len() - a.aggr_expr.len() - usize::from(sets_of(&a).is_some());
        let keys: Vec<Expr> = keys.into_iter().take(groups).map(Expr::Column).collect();
        if aggregates.is_empty() && a.group_expr.is_empty() {
            // Only GROUPING() is left, which alone makes no groups.
            aggregates.push(count_rows()?);
        }
        let aggregate = Aggregate::try_new(a.input, a.group_expr, aggregates)?;
        let node =
            if self.context.in_view { LogicalPlan::Aggregate(aggregate) } else { with_empty_set(aggregate)? };
        if plain {
            return node.recompute_schema();
        }
        let exprs: Vec<Expr> = keys.into_iter().chain(outputs).collect();
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(node))?))
    }
}

fn count_rows() -> DfResult<Expr> {
    let func = known("count")?;
    let args = vec![Expr::Literal(ScalarValue::Int64(Some(1)), None)];
    Ok(Expr::AggregateFunction(AggregateFunction::new_udf(func, args, false, None, vec![], None)))
}

fn known(name: &str) -> DfResult<Arc<datafusion::logical_expr::AggregateUDF>> {
    aggregate(name).ok_or_else(|| df_error(Error::internal(format!("aggregate {name} is missing"))))
}

/// Whether a call is an average that is computed from sum and count.
fn splits(a: &Aggregate, f: &AggregateFunction) -> DfResult<bool> {
    if f.func.name() != "avg" {
        return Ok(false);
    }
    let t = f.params.args.first().map(|x| x.get_type(a.input.schema())).transpose()?;
    Ok(matches!(t, Some(DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Interval(_))))
}

/// An average as quotient of columns of the node below, which are added to `aggregates`.
fn split(a: &Aggregate, f: &AggregateFunction, name: &str, aggregates: &mut Vec<Expr>) -> DfResult<Expr> {
    let (sum, count) = (format!("sum of {name}"), format!("count of {name}"));
    let t = f.params.args.first().map(|x| x.get_type(a.input.schema())).transpose()?;
    let interval = matches!(t, Some(DataType::Interval(_)));
    let summed = if interval {
        let params = AggregateFunctionParams { distinct: false, ..f.params.clone() };
        let result = PgType::INTERVAL.field("", true);
        let func = aggregates::exact("sum", AggregateKind::Sum, Shape::default(), f.params.distinct, result);
        AggregateFunction { func, params }
    } else {
        AggregateFunction { func: known("sum")?, params: f.params.clone() }
    };
    aggregates.push(Expr::AggregateFunction(summed).alias(&sum));
    let counted = AggregateFunction { func: known("count")?, params: f.params.clone() };
    aggregates.push(Expr::AggregateFunction(counted).alias(&count));
    let of = |name: &str| Expr::Column(Column::new_unqualified(name));
    Ok(if interval {
        interval_average(of(&sum), of(&count))
    } else {
        operators::numeric_average(of(&sum), to_arrow(of(&count), &DataType::Decimal128(19, 0)))
    })
}

/// GROUPING(a, b, …): a bit per argument, 1 when the row's grouping set leaves it out.
fn grouping(a: &Aggregate, args: &[Expr]) -> DfResult<Expr> {
    let wrong = || {
        df_error(Error::new(
            ErrorKind::Grouping,
            "arguments to GROUPING must be grouping expressions of the associated query level",
        ))
    };
    if args.len() > MAX_GROUPING {
        return Err(df_error(Error::new(
            ErrorKind::ProgramLimit,
            format!("GROUPING must have fewer than {} arguments", MAX_GROUPING + 1),
        )));
    }
    let mut columns: Vec<&Expr> = Vec::new();
    let listed =
        sets_of(a).map_or_else(|| a.group_expr.iter().collect::<Vec<_>>(), |s| s.iter().flatten().collect());
    for e in listed {
        if !columns.contains(&e) {
            columns.push(e);
        }
    }
    let mut bits = Vec::with_capacity(args.len());
    for arg in args {
        let at = columns.iter().position(|c| unaliased(c) == unaliased(arg)).ok_or_else(wrong)?;
        bits.push(columns.len() - 1 - at);
    }
    if sets_of(a).is_none() {
        return Ok(Expr::Literal(ScalarValue::Int32(Some(0)), None));
    }
    let id = Expr::Column(Column::new_unqualified(Aggregate::INTERNAL_GROUPING_ID));
    let id = to_arrow(id, &DataType::Int64);
    let int = |n: i64| Expr::Literal(ScalarValue::Int64(Some(n)), None);
    let binary = |l: Expr, op, r: Expr| {
        Expr::BinaryExpr(datafusion::logical_expr::BinaryExpr::new(Box::new(l), op, Box::new(r)))
    };
    use datafusion::logical_expr::Operator as Op;
    let mut value: Option<Expr> = None;
    for (i, bit) in bits.iter().enumerate() {
        let one = binary(binary(id.clone(), Op::BitwiseShiftRight, int(*bit as i64)), Op::BitwiseAnd, int(1));
        let placed = binary(one, Op::BitwiseShiftLeft, int((bits.len() - 1 - i) as i64));
        value = Some(match value {
            None => placed,
            Some(v) => binary(v, Op::BitwiseOr, placed),
        });
    }
    Ok(to_arrow(value.ok_or_else(wrong)?, &DataType::Int32))
}

/// DataFusion gives no row for the empty grouping set over no rows: it is taken out and made a GROUP BY of its own.
fn with_empty_set(a: Aggregate) -> DfResult<LogicalPlan> {
    let Some(sets) = sets_of(&a).filter(|sets| sets.iter().any(Vec::is_empty)) else {
        return Ok(LogicalPlan::Aggregate(a));
    };
    let (empty, others): (Vec<_>, Vec<_>) = sets.clone().into_iter().partition(Vec::is_empty);
    let groups = a.schema.fields().len() - a.aggr_expr.len() - 1;
    let id_type = a.schema.field(groups).data_type().clone();
    let fields: Vec<_> = (0..a.schema.fields().len()).map(|i| a.schema.qualified_field(i)).collect();
    let name = |i: usize| format!("grouped {i}");
    let aggregates = if a.aggr_expr.is_empty() { vec![count_rows()?] } else { a.aggr_expr.clone() };
    let mut parts = Vec::new();
    for (ordinal, _) in empty.iter().enumerate() {
        let global = Aggregate::try_new(a.input.clone(), vec![], aggregates.clone())?;
        let results = global.schema.columns();
        let ones = if groups >= 64 { u64::MAX } else { (1_u64 << groups) - 1 };
        let id = ScalarValue::UInt64(Some(ones | (ordinal as u64).checked_shl(groups as u32).unwrap_or(0)));
        let mut exprs = Vec::with_capacity(fields.len());
        for (i, (_, field)) in fields.iter().enumerate() {
            let e = if i < groups {
                no_key(&results[0], field.data_type())
            } else if i == groups {
                Expr::Literal(id.cast_to(&id_type)?, None)
            } else {
                Expr::Column(results[i - groups - 1].clone())
            };
            exprs.push(e.alias(name(i)));
        }
        parts.push(Arc::new(LogicalPlan::Projection(Projection::try_new(
            exprs,
            Arc::new(LogicalPlan::Aggregate(global)),
        )?)));
    }
    if !others.is_empty() {
        // Columns that only the taken set would have left out keep their place through the order of the others.
        let set = Expr::GroupingSet(GroupingSet::GroupingSets(others));
        let rest = Aggregate::try_new(a.input.clone(), vec![set], a.aggr_expr.clone())?;
        let columns = rest.schema.columns();
        let mut exprs = Vec::with_capacity(fields.len());
        for (i, (_, field)) in fields.iter().enumerate() {
            let column = Expr::Column(columns[i].clone());
            exprs.push(to_type(column, rest.schema.field(i).data_type(), field.data_type()).alias(name(i)));
        }
        parts.push(Arc::new(LogicalPlan::Projection(Projection::try_new(
            exprs,
            Arc::new(LogicalPlan::Aggregate(rest)),
        )?)));
    }
    let together = match parts.len() {
        1 => parts.swap_remove(0),
        _ => Arc::new(LogicalPlan::Union(Union::try_new(parts)?)),
    };
    let mut exprs = Vec::with_capacity(fields.len());
    for (i, (qualifier, field)) in fields.iter().enumerate() {
        let column = Expr::Column(Column::new_unqualified(name(i)));
        exprs.push(column.alias_qualified(qualifier.cloned(), field.name()));
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, together)?))
}

/// NULL in place of a key. It looks like something computed from a result of the aggregate, because DataFusion pushes
/// conditions on constants below an aggregate without keys, which then has a row all the same.
fn no_key(result: &Column, data_type: &DataType) -> Expr {
    fn nulls(args: &ScalarFunctionArgs, data_type: &DataType) -> DfResult<ColumnarValue> {
        Ok(ColumnarValue::Array(arrow::array::new_null_array(data_type, args.number_rows)))
    }
    native("no_key", data_type.clone(), nulls, vec![Expr::Column(result.clone())])
}

fn to_type(e: Expr, from: &DataType, to: &DataType) -> Expr {
    if from == to { e } else { to_arrow(e, to) }
}
