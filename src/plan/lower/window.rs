//! Window functions: a Map computes what the calls read, an Exchange brings partitions together, an Over keeps each
//! row with its results.
//!
//! Calls of one order share an Over; calls of several orders make a chain of them. A condition above that bounds
//! `row_number()`, `rank()` or `dense_rank()` keeps only the first rows of each partition; a bounded `row_number()`
//! alone becomes a TopK.
//!
//! Boundary: bound calls ([`OverFunction`]) whose frame offsets are constants.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::Field;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::{Expr, Window};

use super::expression::{ExprList, strip};
use super::limit::{Ranking, upper_bound};
use super::{Lowering, Request, column_named, column_of, constant_value, unique_schema};
use crate::error::{Error, Result};
use crate::expr::window::{LimitBy, OverFunction, OverLimit, WindowCall, WindowKind, check_offset};
use crate::plan::{Emit, NodeId, Op, OrderColumn};

/// A call of a Window node.
struct Call<'a> {
    /// Its place among the calls.
    place: usize,
    function: &'a OverFunction,
    args: &'a [Expr],
    partition: &'a [Expr],
}

impl<'a> Call<'a> {
    fn of(place: usize, expr: &'a Expr) -> Result<Call<'a>> {
        let mut inner = expr;
        while let Expr::Alias(a) = inner {
            inner = &a.expr;
        }
        let refused = || Error::internal(format!("window expression {expr} is not a bound call"));
        let Expr::WindowFunction(call) = inner else { return Err(refused()) };
        let WindowFunction { fun: WindowFunctionDefinition::WindowUDF(udf), params } = call.as_ref() else {
            return Err(refused());
        };
        let function = udf.inner().downcast_ref::<OverFunction>().ok_or_else(refused)?;
        Ok(Call { place, function, args: &params.args, partition: &params.partition_by })
    }

    fn keys(&self) -> &'a [Expr] {
        &self.args[self.function.first_key..self.function.first_key + self.function.orders.len()]
    }

    fn ties(&self) -> &'a [Expr] {
        let start = self.function.first_key + self.function.orders.len();
        &self.args[start..start + self.function.ties]
    }

    /// Whether both are evaluated over the same order.
    fn shares_order(&self, other: &Call<'_>) -> bool {
        let orders = self.function.orders == other.function.orders && self.keys() == other.keys();
        let ties = self.ties().is_empty() || other.ties().is_empty() || self.ties() == other.ties();
        orders && ties && self.partition == other.partition
    }
}

/// Calls of one order, as columns of the input.
struct Group {
    partition: Vec<usize>,
    order: Vec<OrderColumn>,
    ties: Vec<usize>,
    calls: Vec<WindowCall>,
    /// Places of the calls in the Window node.
    places: Vec<usize>,
}

/// A condition that keeps the first rows of partitions.
struct Bound {
    place: usize,
    limit: u64,
}

impl Lowering<'_> {
    pub(super) fn window(&mut self, window: &Window, request: Request) -> Result<NodeId> {
        let input = window.input.schema();
        let width = input.fields().len();
        let calls =
            window.window_expr.iter().enumerate().map(|(i, e)| Call::of(i, e)).collect::<Result<Vec<_>>>()?;
        let (bound, rest) = bound_of(&calls, &request.predicates, &window.schema, width)?;
        let request = Request { predicates: rest, ..request };
        let needed = request.needed(&window.schema)?;
        let used = |c: &&Call<'_>| {
            needed.contains(&(width + c.place)) || bound.as_ref().is_some_and(|b| b.place == c.place)
        };
        let used: Vec<&Call<'_>> = calls.iter().filter(used).collect();
        let mut list = ExprList::default();
        for c in needed.iter().filter(|c| **c < width) {
            list.add(column_of(input, *c), input)?;
        }
        let kept = list.exprs.len();
        let (node, places) = match (&bound, used.as_slice()) {
            (_, []) => {
                let columns: Vec<usize> = needed.iter().copied().filter(|c| *c < width).collect();
                let columns = if columns.is_empty() { vec![0] } else { columns };
                let node = self.request(&window.input, Request::columns(input, &columns))?;
                return self.finish(node, &columns, &window.schema, request);
            }
            (Some(b), [only]) if only.function.call.kind == WindowKind::RowNumber => {
                self.first_rows(window, only, list, b.limit, needed.contains(&(width + only.place)))?
            }
            _ => self.over(window, &used, list, bound)?,
        };
        // The columns that are needed, in their order.
        let schema = self.nodes[node].schema.clone();
        let mut exprs: Vec<Expr> = (0..kept).map(|i| column_named(&schema, i)).collect();
        let mut fields: Vec<_> = schema.fields()[..kept].to_vec();
        for c in needed.iter().filter(|c| **c >= width) {
            let place = places.iter().find(|(place, _)| *place == c - width).map(|(_, column)| *column);
            let column = place.ok_or_else(|| Error::internal("a window call without a column"))?;
            exprs.push(column_named(&schema, column));
            fields.push(window.schema.field(*c).clone());
        }
        let node = self.map(node, vec![], exprs, fields)?;
        self.finish(node, &needed, &window.schema, request)
    }

    /// `row_number() <= n` as a TopK.
    fn first_rows(
        &mut self,
        window: &Window,
        call: &Call<'_>,
        list: ExprList,
        limit: u64,
        row_number: bool,
    ) -> Result<(NodeId, Vec<(usize, usize)>)> {
        let ascending = std::iter::repeat_n(SortOptions::default(), call.ties().len());
        let options = call.function.orders.iter().copied().chain(ascending);
        let order: Vec<SortExpr> = call
            .keys()
            .iter()
            .chain(call.ties())
            .zip(options)
            .map(|(e, o)| SortExpr::new(e.clone(), !o.descending, o.nulls_first))
            .collect();
        let spec = Ranking { partition: call.partition, order: &order, offset: 0, limit, row_number };
        let node = self.ranked(&window.input, list, spec)?;
        let number = self.nodes[node].schema.fields().len() - 1;
        Ok((node, vec![(call.place, number)]))
    }

    /// The calls as a chain of Over, the bounded one last; gives the column of each call.
    fn over(
        &mut self,
        window: &Window,
        used: &[&Call<'_>],
        mut list: ExprList,
        bound: Option<Bound>,
    ) -> Result<(NodeId, Vec<(usize, usize)>)> {
        let input = window.input.schema();
        let mut heads: Vec<&Call<'_>> = vec![];
        let mut groups: Vec<Group> = vec![];
        for call in used {
            let lowered = lowered_call(call, &mut list, input)?;
            let at = match heads.iter().position(|h| h.shares_order(call)) {
                Some(at) => at,
                None => {
                    heads.push(call);
                    groups.push(group_of(call, &mut list, input)?);
                    groups.len() - 1
                }
            };
            if groups[at].ties.is_empty() {
                groups[at].ties =
                    call.ties().iter().map(|e| list.add(e.clone(), input)).collect::<Result<_>>()?;
            }
            groups[at].calls.push(lowered);
            groups[at].places.push(call.place);
        }
        if let Some(bound) = &bound
            && let Some(at) = groups.iter().position(|g| g.places.contains(&bound.place))
        {
            let last = groups.remove(at);
            groups.push(last);
        }
        if list.exprs.is_empty() {
            let any = Request::columns(input, &[]).needed(input)?;
            match any.first() {
                Some(first) => list.add(column_of(input, *first), input)?,
                None => list.add(Expr::Literal(ScalarValue::Boolean(Some(true)), None), input)?,
            };
        }
        let below = Request { exprs: list.exprs, fields: list.fields, predicates: vec![] };
        let mut node = self.request(&window.input, below)?;
        let mut places = vec![];
        let last = groups.len() - 1;
        for (i, group) in groups.into_iter().enumerate() {
            let limit = match &bound {
                Some(b) if i == last => {
                    let by = group.places.iter().position(|p| *p == b.place).map(|at| &group.calls[at].kind);
                    let by = match by {
                        Some(WindowKind::Rank) => LimitBy::Ties,
                        Some(WindowKind::DenseRank) => LimitBy::Groups,
                        _ => LimitBy::Rows,
                    };
                    Some(OverLimit { offset: 0, limit: b.limit, by })
                }
                _ => None,
            };
            let own = group.places.clone();
            let count = group.calls.len();
            node = self.add_over(node, group, limit)?;
            let width = self.nodes[node].schema.fields().len();
            places.extend(own.into_iter().enumerate().map(|(n, place)| (place, width - count + n)));
        }
        Ok((node, places))
    }

    fn add_over(&mut self, node: NodeId, group: Group, limit: Option<OverLimit>) -> Result<NodeId> {
        let Group { partition, order, ties, calls, .. } = group;
        let (node, closes) = self.with_close_column(node, &partition)?;
        let node = self.exchange_for_grouping(node, &partition);
        let input = self.facts(node).clone();
        let mut facts = input.clone();
        let width = self.nodes[node].schema.fields().len();
        for (i, call) in calls.iter().enumerate() {
            if call.kind == WindowKind::RowNumber {
                facts.add_key(partition.iter().copied().chain([width + i]).collect());
            }
        }
        // A partition whose rows all come in one epoch is evaluated once and for all.
        let complete = partition.iter().any(|c| self.extras[node].complete.contains(c));
        facts.append_only = input.append_only && complete;
        if !facts.append_only {
            facts.watermarks.clear();
            if self.emit == Emit::OnWindowClose {
                return Err(Error::unsupported(
                    "EMIT ON WINDOW CLOSE needs window functions with PARTITION BY the window",
                )
                .with_hint("Add window_end to PARTITION BY, or leave EMIT ON WINDOW CLOSE out."));
            }
        }
        if input.append_only && closes.is_none() {
            facts.unbounded_state.push("Window functions keep all rows of their partitions.".into());
        }
        let mut fields: Vec<Field> =
            self.nodes[node].schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.extend(calls.iter().map(|c| c.field.as_ref().clone()));
        let extra = self.extras[node].clone();
        let op = Op::Over { partition, order, ties, calls, limit, closes };
        Ok(self.add(op, vec![node], unique_schema(fields), facts, extra))
    }
}

/// The strongest condition that bounds a ranking, and the conditions that are left.
fn bound_of(
    calls: &[Call<'_>],
    predicates: &[Expr],
    schema: &Arc<DFSchema>,
    width: usize,
) -> Result<(Option<Bound>, Vec<Expr>)> {
    let mut bound: Option<Bound> = None;
    let mut rest = vec![];
    for predicate in predicates {
        let mut found = None;
        for call in calls {
            use WindowKind::{DenseRank, Rank, RowNumber};
            if matches!(call.function.call.kind, RowNumber | Rank | DenseRank)
                && let Some((n, exact)) = upper_bound(predicate, schema, width + call.place)?
            {
                found = Some((call.place, n, exact));
            }
        }
        match found {
            Some((place, n, exact)) if bound.as_ref().is_none_or(|b| b.place == place) => {
                let limit = bound.as_ref().map_or(n, |b| b.limit.min(n));
                bound = Some(Bound { place, limit });
                if !exact {
                    rest.push(predicate.clone());
                }
            }
            _ => rest.push(predicate.clone()),
        }
    }
    Ok((bound, rest))
}

fn group_of(call: &Call<'_>, list: &mut ExprList, schema: &DFSchema) -> Result<Group> {
    let mut partition = Vec::new();
    for e in call.partition {
        let c = list.add(e.clone(), schema)?;
        if !partition.contains(&c) {
            partition.push(c);
        }
    }
    let mut order: Vec<OrderColumn> = vec![];
    for (e, options) in call.keys().iter().zip(&call.function.orders) {
        let column = list.add(e.clone(), schema)?;
        if !order.iter().any(|o| o.column == column) {
            order.push(OrderColumn { column, options: *options });
        }
    }
    Ok(Group { partition, order, ties: vec![], calls: vec![], places: vec![] })
}

/// The call over columns of the list.
fn lowered_call(call: &Call<'_>, list: &mut ExprList, schema: &DFSchema) -> Result<WindowCall> {
    let function = call.function;
    let constant = |at: Option<usize>| -> Result<Option<ScalarValue>> {
        let Some(at) = at else { return Ok(None) };
        let e = &call.args[at];
        if e.any_column_refs() || has_placeholder(e) {
            return Err(Error::unsupported("a frame offset in a materialized view must be a constant"));
        }
        Ok(Some(constant_value(e)?))
    };
    let frame = function.frame_with(constant(function.start)?, constant(function.end)?);
    check_offset(&frame)?;
    let mut distance = function.call.distance;
    if matches!(function.call.kind, WindowKind::Lag | WindowKind::Lead | WindowKind::NthValue)
        && let Some(e) = function.call.args.get(1).map(|a| strip(&call.args[*a]))
        && !e.any_column_refs()
        && !has_placeholder(&e)
        && let ScalarValue::Int32(Some(n)) = constant_value(&e)?
    {
        distance = Some(i64::from(n));
    }
    let mut add = |at: usize| list.add(call.args[at].clone(), schema);
    let args = function.call.args.iter().map(|a| add(*a)).collect::<Result<_>>()?;
    let filter = function.call.filter.map(&mut add).transpose()?;
    Ok(WindowCall { args, filter, frame, distance, ..function.call.clone() })
}

fn has_placeholder(e: &Expr) -> bool {
    use datafusion::common::tree_node::TreeNode;
    // The closure never fails, so neither does the walk.
    e.exists(|e| Ok(matches!(e, Expr::Placeholder(_)))).unwrap_or(true)
}
