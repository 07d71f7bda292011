//! The first rows of an order: LIMIT, DISTINCT ON and the `row_number() … <= n` of a subquery become TopK.
//!
//! Boundary: only shapes whose result is a function of each partition's rows; other window functions are refused.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction};
use datafusion::logical_expr::{
    BinaryExpr, DistinctOn, Expr, FetchType, Limit, LogicalPlan, Operator, SkipType, Window,
};

use super::expression::{ExprList, cast_to, columns_of, strip};
use super::{Lowering, Request, column_named, column_of, unique_schema};
use crate::error::{Error, Result};
use crate::plan::{NodeId, Op, OrderColumn};

impl Lowering<'_> {
    pub(super) fn limit(&mut self, limit: &Limit, request: Request) -> Result<NodeId> {
        let SkipType::Literal(skip) = limit.get_skip_type()? else {
            return Err(Error::unsupported("OFFSET in a materialized view must be a constant"));
        };
        let FetchType::Literal(fetch) = limit.get_fetch_type()? else {
            return Err(Error::unsupported("LIMIT in a materialized view must be a constant"));
        };
        let fetch = match fetch {
            Some(n) => n as u64,
            None if skip == 0 => return self.request(&limit.input, request),
            None => i64::MAX as u64,
        };
        let plan = limit.input.as_ref();
        // Conditions above the LIMIT stay above it; below, only the projections between it and its ORDER BY count.
        let needed = request.needed(plan.schema())?;
        let inner = Request::columns(plan.schema(), &needed);
        let node = self.limit_over(plan, inner, skip as u64, fetch)?;
        self.finish(node, &needed, plan.schema(), request)
    }

    /// LIMIT over `plan`, looking through projections for its ORDER BY.
    fn limit_over(&mut self, plan: &LogicalPlan, request: Request, skip: u64, fetch: u64) -> Result<NodeId> {
        match plan {
            LogicalPlan::Projection(p) => {
                let exprs: Vec<Expr> = p.expr.iter().map(strip).collect();
                let below = request.below(&p.schema, &exprs)?;
                self.limit_over(&p.input, below, skip, fetch)
            }
            LogicalPlan::SubqueryAlias(a) => {
                let schema = a.input.schema();
                let columns: Vec<Expr> = (0..schema.fields().len()).map(|i| column_of(schema, i)).collect();
                let below = request.below(&a.schema, &columns)?;
                self.limit_over(&a.input, below, skip, fetch)
            }
            LogicalPlan::Sort(sort) => {
                let fetch = sort.fetch.map_or(fetch, |f| fetch.min((f as u64).saturating_sub(skip)));
                self.top(&sort.input, &sort.expr, skip, fetch, request)
            }
            other => self.top(other, &[], skip, fetch, request),
        }
    }

    /// The rows `skip .. skip + fetch` of `plan` in this order.
    pub(super) fn top(
        &mut self,
        plan: &LogicalPlan,
        order: &[SortExpr],
        skip: u64,
        fetch: u64,
        request: Request,
    ) -> Result<NodeId> {
        let schema = plan.schema();
        let needed = request.needed(schema)?;
        let spec = Ranking { partition: &[], order, offset: skip, limit: fetch, row_number: false };
        let mut list = ExprList::default();
        for c in &needed {
            list.add(column_of(schema, *c), schema)?;
        }
        let node = self.ranked(plan, list, spec)?;
        self.finish(node, &needed, schema, request)
    }

    pub(super) fn distinct_on(&mut self, on: &DistinctOn, request: Request) -> Result<NodeId> {
        let schema = on.input.schema();
        let mut list = ExprList::default();
        let mut positions = Vec::new();
        for e in &on.select_expr {
            positions.push(list.add(e.clone(), schema)?);
        }
        let sort = on.sort_expr.clone().unwrap_or_default();
        let spec = Ranking { partition: &on.on_expr, order: &sort, offset: 0, limit: 1, row_number: false };
        let node = self.ranked(&on.input, list, spec)?;
        // Repeated select expressions share a column.
        let physical = self.nodes[node].schema.clone();
        let exprs = positions.iter().map(|p| column_named(&physical, *p)).collect();
        let fields = on.schema.fields().iter().cloned().collect();
        let node = self.map(node, vec![], exprs, fields)?;
        let all: Vec<usize> = (0..positions.len()).collect();
        self.finish(node, &all, &on.schema, request)
    }

    /// A window node: `row_number()` under a condition that bounds it from above.
    pub(super) fn window(&mut self, window: &Window, request: Request) -> Result<NodeId> {
        let input = window.input.schema();
        let width = input.fields().len();
        let [expr] = window.window_expr.as_slice() else {
            return Err(Error::unsupported(
                "several window functions in one query are not supported in a materialized view",
            ));
        };
        let Expr::WindowFunction(function) = strip(expr) else {
            return Err(Error::internal(format!("window expression {expr} is not a function call")));
        };
        let (mut limit, mut rest) = (None, Vec::new());
        for predicate in &request.predicates {
            match upper_bound(predicate, &window.schema, width)? {
                Some((n, exact)) => {
                    limit = Some(limit.map_or(n, |old: u64| old.min(n)));
                    if !exact {
                        rest.push(predicate.clone());
                    }
                }
                None => rest.push(predicate.clone()),
            }
        }
        let limit = check_ranking(&function, limit)?;
        let request = Request { predicates: rest, ..request };
        let needed = request.needed(&window.schema)?;
        let row_number = needed.contains(&width);
        let mut list = ExprList::default();
        for c in needed.iter().filter(|c| **c < width) {
            list.add(column_of(input, *c), input)?;
        }
        let kept = list.exprs.len();
        let params = &function.params;
        let spec = Ranking {
            partition: &params.partition_by,
            order: &params.order_by,
            offset: 0,
            limit,
            row_number,
        };
        let node = self.ranked(&window.input, list, spec)?;
        let schema = self.nodes[node].schema.clone();
        let mut exprs: Vec<Expr> = (0..kept).map(|i| column_named(&schema, i)).collect();
        let mut fields: Vec<_> = schema.fields()[..kept].to_vec();
        if row_number {
            // The number is int8 here; DataFusion's plan may call it unsigned.
            let number = schema.fields().len() - 1;
            let wanted = window.schema.field(width);
            exprs.push(cast_to(column_named(&schema, number), &DataType::Int64, wanted.data_type()));
            fields.push(wanted.clone());
        }
        let node = self.map(node, vec![], exprs, fields)?;
        self.finish(node, &needed, &window.schema, request)
    }

    /// TopK over `plan` with at least the columns of `list` first; the row number, if asked for, comes last.
    fn ranked(&mut self, plan: &LogicalPlan, mut list: ExprList, ranking: Ranking<'_>) -> Result<NodeId> {
        let schema = plan.schema();
        let mut partition = Vec::new();
        for e in ranking.partition {
            let c = list.add(e.clone(), schema)?;
            if !partition.contains(&c) {
                partition.push(c);
            }
        }
        let mut order: Vec<OrderColumn> = Vec::new();
        for s in ranking.order {
            let column = list.add(s.expr.clone(), schema)?;
            if !order.iter().any(|o| o.column == column) && !partition.contains(&column) {
                let options = SortOptions { descending: !s.asc, nulls_first: s.nulls_first };
                order.push(OrderColumn { column, options });
            }
        }
        let below = Request { exprs: list.exprs, fields: list.fields, predicates: vec![] };
        let node = self.request(plan, below)?;
        let node = self.exchange_for_grouping(node, &partition);
        let input = self.facts(node);
        let mut facts = input.clone();
        let width = self.nodes[node].schema.fields().len();
        if ranking.limit <= 1 {
            facts.add_key(partition.clone());
        }
        if ranking.row_number {
            facts.add_key(partition.iter().copied().chain([width]).collect());
        }
        // A partition whose rows all come in one epoch is ranked once and for all.
        let complete = partition.iter().any(|c| self.extras[node].complete.contains(c));
        facts.append_only = input.append_only && complete;
        if !facts.append_only {
            facts.watermarks.clear();
        }
        if input.append_only && !partition.is_empty() {
            facts.unbounded_state.push("The first rows of every partition are kept.".into());
        }
        let mut fields: Vec<Field> =
            self.nodes[node].schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        if ranking.row_number {
            fields.push(Field::new("row_number", DataType::Int64, false));
        }
        let extra = self.extras[node].clone();
        let op = Op::TopK {
            partition,
            order,
            offset: ranking.offset,
            limit: ranking.limit,
            row_number: ranking.row_number,
        };
        Ok(self.add(op, vec![node], unique_schema(fields), facts, extra))
    }
}

/// What a TopK ranks by.
struct Ranking<'a> {
    partition: &'a [Expr],
    order: &'a [SortExpr],
    offset: u64,
    limit: u64,
    row_number: bool,
}

/// Refuses all window functions but a bounded row_number().
fn check_ranking(function: &WindowFunction, limit: Option<u64>) -> Result<u64> {
    let name = function.fun.name();
    let hint = "Supported is row_number() in a subquery with a filter row_number <= n directly above it.";
    if name != "row_number" {
        return Err(Error::unsupported(format!(
            "window function {name}() is not supported in a materialized view"
        ))
        .with_hint(hint));
    }
    if function.params.filter.is_some() {
        return Err(Error::unsupported("FILTER of row_number() is not supported in a materialized view"));
    }
    limit.ok_or_else(|| {
        Error::unsupported("row_number() without an upper bound is not supported in a materialized view")
            .with_hint(hint)
    })
}

/// `(n, exact)` if `predicate` implies `row_number <= n`; exact: and nothing else.
fn upper_bound(predicate: &Expr, schema: &Arc<DFSchema>, column: usize) -> Result<Option<(u64, bool)>> {
    if columns_of(predicate, schema)? != [column] {
        return Ok(None);
    }
    let found = match predicate {
        Expr::Alias(a) => return upper_bound(&a.expr, schema, column),
        Expr::Between(b) if !b.negated && is_column(&b.expr) => integer(&b.high).map(|n| (n, false)),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, value) = if is_column(left) {
                (Some(*op), right)
            } else if is_column(right) {
                (op.swap(), left)
            } else {
                return Ok(None);
            };
            match (op, integer(value)) {
                (Some(Operator::LtEq), Some(n)) => Some((n, true)),
                (Some(Operator::Lt), Some(n)) => Some((n - 1, true)),
                (Some(Operator::Eq), Some(n)) => Some((n, n == 1)),
                _ => None,
            }
        }
        _ => None,
    };
    Ok(found.map(|(n, exact)| (u64::try_from(n).unwrap_or(0), exact)))
}

/// Whether a cast to this type leaves row numbers as they are.
fn keeps_integers(t: &DataType) -> bool {
    t.is_integer() || matches!(t, DataType::Decimal128(..) | DataType::Decimal256(..))
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(a) => is_column(&a.expr),
        Expr::Cast(c) => keeps_integers(c.field.data_type()) && is_column(&c.expr),
        _ => false,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) => {
            let whole = value.cast_to(&DataType::Int64).ok()?;
            // A fraction would be rounded.
            let same = whole.cast_to(&value.data_type()).ok()? == *value;
            match whole {
                ScalarValue::Int64(v) if same => v.filter(|v| *v > i64::MIN),
                _ => None,
            }
        }
        Expr::Alias(a) => integer(&a.expr),
        Expr::Cast(c) if keeps_integers(c.field.data_type()) => integer(&c.expr),
        _ => None,
    }
}
