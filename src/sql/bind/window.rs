//! Window calls: from a placeholder to a bound call that has everything it depends on among its arguments.
//!
//! [`super::window_syntax`] has made a placeholder of every call, whose first argument says what the syntax tree said;
//! DataFusion's planner has resolved names in it. [`Resolver::window`] makes an [`OverFunction`] of it: arguments,
//! FILTER, ORDER BY keys, the columns that break ties, frame offsets.
//!
//! Ties are broken where the order of peers shows: by a unique key of the rows if one is known, else by all columns.
//!
//! Boundary: windows only.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{
    AggregateFunction, WindowFunction, WindowFunctionDefinition, WindowFunctionParams,
};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, JoinType, LogicalPlan, Projection, Window, WindowFrame, WindowUDF,
};

use super::resolve::{Operand, Resolver, field_of};
use super::resolve_aggregate::Call;
use super::resolve_plan::{known_aggregate, quotient, unaliased};
use crate::catalog::CatalogTable;
use crate::error::{Error, ErrorKind};
use crate::expr::window::{
    Frame, FrameBound, FrameExclude, FrameUnits, OverFunction, WindowCall, WindowKind, check_offset,
};
use crate::operator::over::evaluate_partition;
use crate::sql::functions::cast::CastContext;
use crate::sql::functions::windows::{PREFIX, span};
use crate::sql::functions::{DfResult, df_error, no_function};
use crate::types::{PgType, oid};

/// What the first argument of a placeholder call says.
struct Written {
    args: usize,
    star: bool,
    filter: bool,
    ignore_nulls: bool,
    frame: Frame,
}

fn written(text: &str) -> Option<Written> {
    let parts: Vec<&str> = text.split(';').collect();
    let [args, star, filter, nulls, units, start, end, exclude] = parts[..] else { return None };
    let bound = |text: &str| {
        Some(match text {
            "first" => FrameBound::UnboundedPreceding,
            "preceding" => FrameBound::Preceding(ScalarValue::Null),
            "current" => FrameBound::CurrentRow,
            "following" => FrameBound::Following(ScalarValue::Null),
            "last" => FrameBound::UnboundedFollowing,
            _ => return None,
        })
    };
    let frame = Frame {
        units: match units {
            "rows" => FrameUnits::Rows,
            "range" => FrameUnits::Range,
            "groups" => FrameUnits::Groups,
            _ => return None,
        },
        start: bound(start)?,
        end: bound(end)?,
        exclude: match exclude {
            "current row" => FrameExclude::CurrentRow,
            "group" => FrameExclude::Group,
            "ties" => FrameExclude::Ties,
            _ => FrameExclude::NoOthers,
        },
    };
    Some(Written {
        args: args.parse().ok()?,
        star: star == "1",
        filter: filter == "1",
        ignore_nulls: nulls == "1",
        frame,
    })
}

fn has_offset(bound: &FrameBound) -> bool {
    matches!(bound, FrameBound::Preceding(_) | FrameBound::Following(_))
}

impl Resolver<'_> {
    /// A window call with everything it depends on as arguments.
    pub(super) fn window(&mut self, f: WindowFunction, schema: &DFSchema) -> DfResult<Expr> {
        let lost = || df_error(Error::internal("a window call was not prepared"));
        let WindowFunctionDefinition::WindowUDF(udf) = &f.fun else { return Err(lost()) };
        if udf.inner().downcast_ref::<OverFunction>().is_some() {
            return Ok(Expr::from(f));
        }
        let name = udf.name().strip_prefix(PREFIX).ok_or_else(lost)?.to_string();
        let mut given = f.params.args.into_iter().map(|e| unaliased(&e).clone());
        let Some(Expr::Literal(ScalarValue::Utf8(Some(text)), _)) = given.next() else { return Err(lost()) };
        let written = written(&text).ok_or_else(lost)?;
        let mut args: Vec<Expr> = given.by_ref().take(written.args).collect();
        let filter = if written.filter { given.next() } else { None };
        let start = if has_offset(&written.frame.start) { given.next() } else { None };
        let end = if has_offset(&written.frame.end) { given.next() } else { None };
        let (kind, field) = self.function(&name, &mut args, written.star, schema)?;
        let arguments = args.len();
        if let Some(filter) = filter {
            args.push(self.boolean(filter, schema, "FILTER")?);
        }
        let first_key = args.len();
        let mut orders = Vec::new();
        let mut key = None;
        for sort in f.params.order_by {
            let settled = self.settled(sort.expr, schema)?;
            let operand = self.operand(settled, schema)?;
            orders.push(SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first });
            key.get_or_insert(operand.pg());
            args.push(sortable(operand));
        }
        let mut frame = written.frame;
        if !kind.uses_frame() {
            frame = Frame::default();
        } else if orders.is_empty() && frame.units == FrameUnits::Range {
            // All rows are peers.
            frame.start = FrameBound::UnboundedPreceding;
            frame.end = FrameBound::UnboundedFollowing;
        }
        let distance = match (&kind, args.get(1).filter(|_| arguments > 1)) {
            (WindowKind::Lag | WindowKind::Lead, None) => Some(1),
            _ => None,
        };
        let call = WindowCall {
            kind,
            args: (0..arguments).collect(),
            filter: written.filter.then_some(arguments),
            frame: frame.clone(),
            ignore_nulls: written.ignore_nulls,
            distance,
            field,
        };
        let mut ties = 0;
        if call.sees_ties() {
            for column in self.ties.clone() {
                if !args[first_key..].contains(&column) && !f.params.partition_by.contains(&column) {
                    args.push(column);
                    ties += 1;
                }
            }
        }
        let uses_frame = call.kind.uses_frame();
        let mut offset = |r: &mut Self, e: Option<Expr>| -> DfResult<Option<usize>> {
            let Some(e) = e.filter(|_| uses_frame) else { return Ok(None) };
            let e = r.frame_offset(e, &frame, key, schema)?;
            args.push(e);
            Ok(Some(args.len() - 1))
        };
        let offsets = (offset(self, start)?, offset(self, end)?);
        let function = OverFunction::new(name, call, orders, first_key, ties, offsets, evaluate_partition);
        let partition_by = f.params.partition_by.into_iter().map(|e| one_zero(e, schema)).collect();
        Ok(call_of(function, args, partition_by))
    }

    /// The function of a call, its arguments typed, and its result.
    fn function(
        &mut self,
        name: &str,
        args: &mut Vec<Expr>,
        star: bool,
        schema: &DFSchema,
    ) -> DfResult<(WindowKind, FieldRef)> {
        let result = |t: PgType| -> FieldRef { Arc::new(t.field(name, true)) };
        let Some(kind) = WindowKind::of_name(name) else {
            return self.window_aggregate(name, args, star, schema);
        };
        let mut operands = std::mem::take(args)
            .into_iter()
            .map(|a| self.operand(a, schema))
            .collect::<DfResult<Vec<_>>>()?;
        let types: Vec<String> = operands.iter().map(|o| o.pg().sql_name()).collect();
        let refuse = || df_error(no_function(name, &types));
        let expected = match kind {
            WindowKind::Ntile | WindowKind::FirstValue | WindowKind::LastValue => 1..=1,
            WindowKind::NthValue => 2..=2,
            WindowKind::Lag | WindowKind::Lead => 1..=3,
            _ => 0..=0,
        };
        if !expected.contains(&operands.len()) {
            return Err(refuse());
        }
        let int4 = |r: &mut Self, o: Operand| -> DfResult<Expr> {
            if !o.unknown() && !matches!(o.pg().oid, oid::INT2 | oid::INT4) {
                return Err(refuse());
            }
            r.coerce(o, PgType::INT4, CastContext::Implicit).map_err(df_error)
        };
        let field = match kind {
            WindowKind::RowNumber | WindowKind::Rank | WindowKind::DenseRank => result(PgType::INT8),
            WindowKind::PercentRank | WindowKind::CumeDist => result(PgType::FLOAT8),
            WindowKind::Ntile => {
                args.push(int4(self, operands.remove(0))?);
                result(PgType::INT4)
            }
            _ => {
                let number = (operands.len() > 1).then(|| operands.remove(1));
                // The default of lag and lead is of the type of the value.
                let value = if operands.len() == 2 {
                    let (exprs, ..) = self.unify(operands, name).map_err(df_error)?;
                    let mut exprs = exprs.into_iter();
                    (exprs.next(), exprs.next())
                } else {
                    let operand = operands.remove(0);
                    let e = if operand.unknown() {
                        self.coerce(operand, PgType::TEXT, CastContext::Implicit).map_err(df_error)?
                    } else {
                        operand.expr
                    };
                    (Some(e), None)
                };
                let (Some(first), default) = value else { return Err(refuse()) };
                let field = field_of(&first, schema)?;
                args.push(first);
                if let Some(number) = number {
                    args.push(int4(self, number)?);
                }
                args.extend(default);
                Arc::new(field.as_ref().clone().with_name(name).with_nullable(true))
            }
        };
        Ok((kind, field))
    }

    fn window_aggregate(
        &mut self,
        name: &str,
        args: &mut Vec<Expr>,
        star: bool,
        schema: &DFSchema,
    ) -> DfResult<(WindowKind, FieldRef)> {
        if star {
            return Ok((WindowKind::Count, Arc::new(Field::new(name, DataType::Int64, true))));
        }
        let call = Call {
            name: name.to_string(),
            args: std::mem::take(args),
            distinct: false,
            order_by: vec![],
            ignore_nulls: false,
        };
        let settled = self.settle_aggregate(call, schema)?;
        *args = settled.args;
        let function = settled.func;
        let call = AggregateFunction::new_udf(Arc::clone(&function), args.clone(), false, None, vec![], None);
        let field = field_of(&Expr::AggregateFunction(call), schema)?;
        let field = Arc::new(field.as_ref().clone().with_name(name).with_nullable(true));
        let kind = match name {
            "count" => WindowKind::Count,
            "sum" => WindowKind::Sum,
            "avg" => WindowKind::Avg,
            "min" => WindowKind::Min,
            "max" => WindowKind::Max,
            _ => WindowKind::Other(function),
        };
        let field = match (&kind, args.first()) {
            (WindowKind::Min | WindowKind::Max, Some(a)) => {
                Arc::new(field_of(a, schema)?.as_ref().clone().with_name(name).with_nullable(true))
            }
            _ => field,
        };
        Ok((kind, field))
    }

    /// The offset of a frame in the type it is counted in.
    fn frame_offset(
        &mut self,
        e: Expr,
        frame: &Frame,
        key: Option<PgType>,
        schema: &DFSchema,
    ) -> DfResult<Expr> {
        let units = match frame.units {
            FrameUnits::Rows => "ROWS",
            FrameUnits::Range => "RANGE",
            FrameUnits::Groups => "GROUPS",
        };
        if e.any_column_refs() {
            let message = format!("argument of {units} must not contain variables");
            return Err(df_error(Error::new(ErrorKind::InvalidColumnReference, message)));
        }
        let operand = self.operand(e, schema)?;
        let to = match (frame.units, key.map(|k| k.oid)) {
            (FrameUnits::Rows | FrameUnits::Groups, _) => PgType::INT8,
            (_, Some(oid::INT2 | oid::INT4 | oid::INT8)) => PgType::INT8,
            (_, Some(oid::FLOAT4 | oid::FLOAT8)) => PgType::FLOAT8,
            (_, Some(oid::NUMERIC)) => PgType::NUMERIC,
            (_, Some(oid::DATE | oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::TIME | oid::INTERVAL)) => {
                PgType::INTERVAL
            }
            (_, key) => {
                let name = key.map_or("unknown".to_string(), |k| PgType::of(k).sql_name());
                return Err(df_error(Error::unsupported(format!(
                    "RANGE with offset PRECEDING/FOLLOWING is not supported for column type {name}"
                ))));
            }
        };
        let exact = matches!(operand.pg().oid, oid::INT2 | oid::INT4 | oid::INT8);
        let fits = operand.unknown()
            || match to.oid {
                oid::INT8 => exact,
                oid::NUMERIC => exact || operand.pg().oid == oid::NUMERIC,
                oid::FLOAT8 => exact || matches!(operand.pg().oid, oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8),
                t => operand.pg().oid == t,
            };
        if !fits {
            let given = operand.pg().sql_name();
            return Err(df_error(match frame.units {
                FrameUnits::Range => Error::unsupported(format!(
                    "RANGE with offset PRECEDING/FOLLOWING is not supported for column type {} and offset type {given}",
                    key.map_or_else(String::new, |k| k.sql_name())
                ))
                .with_hint("Cast the offset value to an appropriate type."),
                _ => Error::new(
                    ErrorKind::DatatypeMismatch,
                    format!("argument of {units} must be type bigint, not type {given}"),
                ),
            }));
        }
        let numeric = operand.pg().oid == oid::NUMERIC && to.oid == oid::NUMERIC;
        let e = if numeric {
            operand.expr
        } else {
            self.coerce(operand, to, CastContext::Assignment).map_err(df_error)?
        };
        // Constants are refused here, parameters when they are known.
        if let Some(value) = super::scalar::constant(&e) {
            let frame =
                Frame { start: FrameBound::Preceding(value), end: FrameBound::CurrentRow, ..frame.clone() };
            check_offset(&frame).map_err(df_error)?;
        }
        Ok(e)
    }

    /// The columns that tell the rows of a window's input apart.
    pub(super) fn tie_columns(input: &LogicalPlan) -> Vec<Expr> {
        let schema = input.schema();
        let columns = unique_columns(input).unwrap_or_else(|| (0..schema.fields().len()).collect());
        columns.into_iter().map(|i| Expr::Column(Column::from(schema.qualified_field(i)))).collect()
    }
}

fn call_of(function: OverFunction, args: Vec<Expr>, partition_by: Vec<Expr>) -> Expr {
    Expr::from(WindowFunction {
        fun: WindowFunctionDefinition::WindowUDF(Arc::new(WindowUDF::from(function))),
        params: WindowFunctionParams {
            args,
            partition_by,
            order_by: vec![],
            window_frame: WindowFrame::new(None),
            filter: None,
            null_treatment: None,
            distinct: false,
        },
    })
}

/// A key in a form whose bytes compare as PostgreSQL compares its values: intervals by their length.
fn sortable(operand: Operand) -> Expr {
    match operand.field.data_type() {
        DataType::Interval(_) => span(operand.expr),
        _ => operand.expr,
    }
}

/// Floats that are equal are one value in PARTITION BY.
fn one_zero(e: Expr, schema: &DFSchema) -> Expr {
    match e.get_type(schema) {
        Ok(DataType::Float64) => e + Expr::Literal(ScalarValue::Float64(Some(0.0)), None),
        Ok(DataType::Float32) => e + Expr::Literal(ScalarValue::Float32(Some(0.0)), None),
        _ => e,
    }
}

/// Columns of a plan whose values no two rows share, if they are known.
fn unique_columns(plan: &LogicalPlan) -> Option<Vec<usize>> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let table = scan.source.downcast_ref::<CatalogTable>()?;
            let key = table.object.unique_key();
            let place = |c: &usize| match &scan.projection {
                Some(projection) => projection.iter().position(|p| p == c),
                None => Some(*c),
            };
            let key: Vec<usize> = key.iter().map(place).collect::<Option<_>>()?;
            (!key.is_empty()).then_some(key)
        }
        LogicalPlan::Filter(f) => unique_columns(&f.input),
        LogicalPlan::SubqueryAlias(a) => unique_columns(&a.input),
        LogicalPlan::Window(w) => unique_columns(&w.input),
        LogicalPlan::Projection(p) => {
            let below = unique_columns(&p.input)?;
            let schema = p.input.schema();
            let place = |c: &usize| {
                p.expr.iter().position(|e| match unaliased(e) {
                    Expr::Column(column) => schema.maybe_index_of_column(column) == Some(*c),
                    _ => false,
                })
            };
            below.iter().map(place).collect()
        }
        LogicalPlan::Aggregate(a) => groups_of(a),
        LogicalPlan::Join(j) => {
            let left = j.left.schema().fields().len();
            match j.join_type {
                JoinType::LeftSemi | JoinType::LeftAnti => unique_columns(&j.left),
                JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                    let mut all = unique_columns(&j.left)?;
                    all.extend(unique_columns(&j.right)?.into_iter().map(|c| c + left));
                    Some(all)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Calls of several orders over rows that nothing tells apart, one node per order: where copies of a row get different
/// results of one call, the next breaks ties by them.
pub(super) fn by_order(w: Window) -> DfResult<LogicalPlan> {
    if w.window_expr.len() < 2 || unique_columns(&w.input).is_some() {
        return Ok(LogicalPlan::Window(w));
    }
    let mut nodes: Vec<Vec<Expr>> = vec![];
    for e in w.window_expr {
        let order = |e: &Expr| match unaliased(e) {
            Expr::WindowFunction(f) => Some((f.params.partition_by.clone(), f.params.order_by.clone())),
            _ => None,
        };
        match nodes.iter_mut().find(|n| order(&n[0]) == order(&e)) {
            Some(node) => node.push(e),
            None => nodes.push(vec![e]),
        }
    }
    let mut plan = w.input;
    for node in nodes {
        plan = Arc::new(LogicalPlan::Window(Window::try_new(node, plan)?));
    }
    Ok(Arc::unwrap_or_clone(plan))
}

fn groups_of(a: &Aggregate) -> Option<Vec<usize>> {
    let groups = a.schema.fields().len() - a.aggr_expr.len();
    let plain = !a.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
    (plain && groups > 0).then(|| (0..groups).collect())
}

/// Averages of exact numbers over windows become sums and counts, so that they stay exact.
pub(super) fn split_averages(w: Window) -> DfResult<LogicalPlan> {
    let input_schema = w.input.schema().clone();
    let exact = |e: &Expr| -> Option<(WindowFunction, OverFunction)> {
        let Expr::WindowFunction(f) = unaliased(e) else { return None };
        let WindowFunctionDefinition::WindowUDF(udf) = &f.fun else { return None };
        let over = udf.inner().downcast_ref::<OverFunction>()?;
        let decimal = matches!(
            f.params.args.first()?.get_type(&input_schema),
            Ok(DataType::Decimal128(..) | DataType::Decimal256(..))
        );
        (over.call.kind == WindowKind::Avg && decimal).then(|| (f.as_ref().clone(), over.clone()))
    };
    if !w.window_expr.iter().any(|e| exact(e).is_some()) {
        return Ok(LogicalPlan::Window(Window::try_new(w.window_expr, w.input)?));
    }
    let mut calls = Vec::new();
    let mut outputs: Vec<Expr> = input_schema.columns().into_iter().map(Expr::Column).collect();
    for e in w.window_expr {
        let name = e.schema_name().to_string();
        match exact(&e) {
            Some((f, over)) => {
                let (sum, count) = (format!("sum of {name}"), format!("count of {name}"));
                let of = AggregateFunction::new_udf(
                    known_aggregate("sum")?,
                    vec![f.params.args[0].clone()],
                    false,
                    None,
                    vec![],
                    None,
                );
                let field = field_of(&Expr::AggregateFunction(of), &input_schema)?;
                let field = Arc::new(field.as_ref().clone().with_name("sum").with_nullable(true));
                let counted = Arc::new(Field::new("count", DataType::Int64, true));
                for (alias, function) in [
                    (&sum, over.with_kind("sum", WindowKind::Sum, field)),
                    (&count, over.with_kind("count", WindowKind::Count, counted)),
                ] {
                    let params = f.params.clone();
                    calls.push(call_of(function, params.args, params.partition_by).alias(alias));
                }
                outputs.push(quotient(&sum, &count).alias(name));
            }
            None => {
                outputs.push(Expr::Column(Column::new_unqualified(&name)));
                calls.push(e);
            }
        }
    }
    let window = LogicalPlan::Window(Window::try_new(calls, w.input)?);
    Ok(LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(window))?))
}
