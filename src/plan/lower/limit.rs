//! The first rows of an order: LIMIT, DISTINCT ON and the `row_number() … <= n` of a subquery become TopK.
//!
//! Boundary: only first rows; other window functions are [`super::window`]'s.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::{
    BinaryExpr, DistinctOn, Expr, FetchType, Limit, LogicalPlan, Operator, SkipType,
};

use super::expression::{ExprList, columns_of, strip};
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

    /// TopK over `plan` with at least the columns of `list` first; the row number, if asked for, comes last.
    pub(super) fn ranked(
        &mut self,
        plan: &LogicalPlan,
        mut list: ExprList,
        ranking: Ranking<'_>,
    ) -> Result<NodeId> {
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
pub(super) struct Ranking<'a> {
    pub(super) partition: &'a [Expr],
    pub(super) order: &'a [SortExpr],
    pub(super) offset: u64,
    pub(super) limit: u64,
    pub(super) row_number: bool,
}

/// `(n, exact)` if `predicate` implies `column <= n`, of integers; exact: and nothing else.
pub(super) fn upper_bound(
    predicate: &Expr,
    schema: &Arc<DFSchema>,
    column: usize,
) -> Result<Option<(u64, bool)>> {
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
