//! Table functions in FROM: the windows TUMBLE and HOP, and generate_series.
//!
//! A window function leaves the relation's name usable and adds `window_start` and `window_end`, of the type of
//! the time column, aligned to 1970-01-01 as date_bin is.
//!
//! Boundary: relations in FROM only; expressions stay symbols for the binder.

use std::sync::Arc;

use datafusion::common::{Column, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor,
};

use super::prepare;
use crate::error::{Error, ErrorKind};
use crate::sql::functions::{DfResult, Symbol, datetime, df_error};
use crate::sql::{WindowInput, WindowKind, WindowTvf, window_tvf};
use crate::types::{PgType, oid};

/// A hopping window covers each row at most this often.
const MAX_HOPS: i64 = 1000;

/// Plans the table functions.
#[derive(Debug)]
pub struct TableFunctions;

impl RelationPlanner for TableFunctions {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        if let Some(tvf) = window_tvf(&relation) {
            let planned = window(&tvf.map_err(df_error)?, context)?;
            return Ok(RelationPlanning::Planned(Box::new(planned)));
        }
        let (name, args, alias) = match &relation {
            TableFactor::Table { name, args: Some(args), alias, .. } => (name, &args.args, alias),
            TableFactor::Function { lateral: false, name, args, alias, .. } => (name, args, alias),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let function = name.0.last().and_then(|p| p.as_ident()).map(prepare::fold).unwrap_or_default();
        if function != "generate_series" {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let planned = series(args, alias.clone(), context)?;
        Ok(RelationPlanning::Planned(Box::new(planned)))
    }
}

fn syntax(message: &str) -> datafusion::error::DataFusionError {
    df_error(Error::new(ErrorKind::Syntax, message))
}

fn argument(arg: &FunctionArg) -> DfResult<&ast::Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(e), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(e), .. } => Ok(e),
        _ => Err(syntax("a table function takes expressions")),
    }
}

/// The microseconds of an interval argument, which must be a constant without months.
fn width(arg: &ast::Expr, context: &mut dyn RelationPlannerContext) -> DfResult<i64> {
    let schema = datafusion::common::DFSchema::empty();
    let expr = context.sql_to_expr(arg.clone(), &schema)?;
    super::scalar::interval_micros(&expr)
        .ok_or_else(|| syntax("a window's size must be a constant interval without months"))
}

/// The arguments of these names, in order: positional ones first, then by name; the last may be missing.
fn sizes<'a>(tvf: &WindowTvf<'a>, names: &[&str]) -> Option<Vec<&'a ast::Expr>> {
    let mut found = tvf.intervals.clone();
    for name in &names[found.len().min(names.len())..] {
        match tvf.named.iter().find(|(n, _)| n == name) {
            Some((_, e)) => found.push(e),
            None => break,
        }
    }
    let all_known = tvf.named.iter().all(|(n, _)| names.contains(&n.as_str()));
    (all_known && (names.len() - 1..=names.len()).contains(&found.len())).then_some(found)
}

fn window(tvf: &WindowTvf, context: &mut dyn RelationPlannerContext) -> DfResult<PlannedRelation> {
    let hop = match tvf.kind {
        WindowKind::Tumble => false,
        WindowKind::Hop => true,
        other => {
            return Err(df_error(
                Error::unsupported(format!("{} windows are not supported", other.name()))
                    .with_hint("TUMBLE and HOP are."),
            ));
        }
    };
    let names: &[&str] = if hop { &["slide", "size", "offset"] } else { &["size", "offset"] };
    let Some(args) = sizes(tvf, names) else {
        return Err(syntax(if hop {
            "HOP takes a relation, a time column, a slide, a size and optionally an offset"
        } else {
            "TUMBLE takes a relation, a time column, a size and optionally an offset"
        }));
    };
    let (plan, name) = input(tvf.input, context)?;
    let time = tvf.time_column.last().map(prepare::fold).unwrap_or_default();
    let slide = width(args[0], context)?;
    let size = if hop { width(args[1], context)? } else { slide };
    let offset = args.get(names.len() - 1).map_or(Ok(0), |a| width(a, context))?;
    if slide <= 0 || size <= 0 {
        return Err(df_error(Error::new(ErrorKind::InvalidParameter, "a window's size must be positive")));
    }
    if size % slide != 0 || size / slide > MAX_HOPS {
        return Err(df_error(Error::unsupported(
            "HOP with a size that is not a multiple of its slide is not supported",
        )));
    }
    let plan = windowed(plan, &time, slide, size, offset)?;
    let plan = match tvf.alias {
        // The caller applies the user's alias.
        Some(_) => plan,
        None => LogicalPlanBuilder::from(plan).alias(TableReference::bare(name))?.build()?,
    };
    Ok(PlannedRelation::new(plan, tvf.alias.cloned()))
}

/// The relation argument and the name it goes by.
fn input(input: WindowInput, context: &mut dyn RelationPlannerContext) -> DfResult<(LogicalPlan, String)> {
    let table = |parts: &[Ident]| TableFactor::Table {
        name: ObjectName(parts.iter().cloned().map(ObjectNamePart::Identifier).collect()),
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    };
    let named = |parts: &[Ident]| parts.last().map(prepare::fold).unwrap_or_default();
    match input {
        WindowInput::Relation(parts) => Ok((context.plan(table(parts))?, named(parts))),
        WindowInput::Subquery(query) => {
            let subquery = Box::new(query.clone());
            let derived = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
            Ok((context.plan(derived)?, "window".to_string()))
        }
    }
}

fn interval(micros: i64) -> Expr {
    let value = arrow::datatypes::IntervalMonthDayNano::new(0, 0, micros.saturating_mul(1000));
    Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), None)
}

fn windowed(plan: LogicalPlan, time: &str, slide: i64, size: i64, offset: i64) -> DfResult<LogicalPlan> {
    let (qualifier, field) = plan.schema().qualified_field_with_unqualified_name(time)?;
    let pg = PgType::of_field(field);
    if !matches!(pg.oid, oid::TIMESTAMP | oid::TIMESTAMPTZ) {
        return Err(df_error(Error::new(
            ErrorKind::DatatypeMismatch,
            format!("the time column of a window must be of type timestamp, not {}", pg.sql_name()),
        )));
    }
    let column = Expr::Column(Column::from((qualifier, field)));
    let origin = match pg.oid {
        oid::TIMESTAMPTZ => datetime::timestamptz_literal(offset.rem_euclid(slide)),
        _ => Expr::Literal(ScalarValue::TimestampMicrosecond(Some(offset.rem_euclid(slide)), None), None),
    };
    let bin = Symbol::call("date_bin", vec![interval(slide), column, origin]);
    let columns = plan.schema().columns();
    let input = Arc::new(plan);
    let mut result: Option<LogicalPlanBuilder> = None;
    for hop in 0..size / slide {
        let start =
            if hop == 0 { bin.clone() } else { Symbol::call("-", vec![bin.clone(), interval(hop * slide)]) };
        let end = Symbol::call("+", vec![bin.clone(), interval(size - hop * slide)]);
        let items = columns
            .iter()
            .map(|c| Expr::Column(c.clone()))
            .chain([start.alias("window_start"), end.alias("window_end")]);
        let one = LogicalPlanBuilder::from(input.as_ref().clone()).project(items)?;
        result = Some(match result {
            None => one,
            Some(all) => all.union(one.build()?)?,
        });
    }
    result.ok_or_else(|| syntax("a window needs a size"))?.build()
}

/// generate_series(start, stop [, step]) over integers.
fn series(
    args: &[FunctionArg],
    alias: Option<TableAlias>,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<PlannedRelation> {
    use datafusion::catalog::TableFunctionImpl;
    let schema = datafusion::common::DFSchema::empty();
    let mut values = Vec::new();
    for arg in args {
        match context.sql_to_expr(argument(arg)?.clone(), &schema)? {
            Expr::Literal(ScalarValue::Int64(v), _) => {
                values.push(Expr::Literal(ScalarValue::Int64(v), None))
            }
            _ => {
                return Err(df_error(Error::unsupported(
                    "generate_series is supported for integer constants only",
                )));
            }
        }
    }
    let small = values
        .iter()
        .all(|v| matches!(v, Expr::Literal(ScalarValue::Int64(Some(v)), _) if i32::try_from(*v).is_ok()));
    let function = datafusion::functions_table::generate_series::GenerateSeriesFunc {};
    let session = datafusion::prelude::SessionContext::new();
    let provider =
        function.call_with_args(datafusion::catalog::TableFunctionArgs::new(&values, &session.state()))?;
    let name = alias.as_ref().map_or("generate_series".to_string(), |a| prepare::fold(&a.name));
    let result = if small { arrow::datatypes::DataType::Int32 } else { arrow::datatypes::DataType::Int64 };
    let plan = LogicalPlanBuilder::scan("generate_series", provider_as_source(provider), None)?
        .project([
            datafusion::logical_expr::cast(Expr::Column(Column::from_name("value")), result).alias(&name)
        ])?
        .build()?;
    let plan = match &alias {
        Some(_) => plan,
        None => LogicalPlanBuilder::from(plan).alias("generate_series")?.build()?,
    };
    Ok(PlannedRelation::new(plan, alias))
}
