//! GROUP BY and aggregates: a Map computes keys and arguments, an Exchange brings the keys together, a Reduce
//! keeps the groups.
//!
//! Boundary: knows which aggregates have an operator; the rest is refused by name.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr};

use super::expression::{ExprList, columns_of, strip};
use super::{Extra, Lowering, Request, not_closable, unique_schema};
use crate::error::{Error, Result};
use crate::expr::aggregate::{AggregateCall, AggregateKind};
use crate::expr::exact::ExactCall;
use crate::plan::{Emit, NodeId, Op};

impl Lowering<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, request: Request) -> Result<NodeId> {
        if let Some(sets) = super::grouping::sets_of(aggregate) {
            return self.grouping_sets(aggregate, sets, request);
        }
        let input_schema = aggregate.input.schema();
        let group_exprs = distinct_groups(aggregate);
        let groups = group_exprs.len();
        let mut list = ExprList::default();
        // Output column of each logical column: equal group expressions share one.
        let mut group_at = Vec::with_capacity(groups);
        for e in group_exprs {
            group_at.push(list.add(e.clone(), input_schema)?);
        }
        let keys = list.exprs.len();
        let needed = self.needed_aggregates(aggregate, groups, &request)?;
        let mut calls = Vec::with_capacity(needed.len());
        let mut fields = Vec::with_capacity(needed.len());
        for i in &needed {
            let field = aggregate.schema.field(groups + i);
            calls.push(call(&aggregate.aggr_expr[*i], field, input_schema, &mut list)?);
            fields.push(field.clone());
        }
        self.never_empty(&mut list, input_schema)?;
        let below = Request { exprs: list.exprs, fields: list.fields, predicates: vec![] };
        let node = self.request(&aggregate.input, below)?;
        let node = self.reduce(node, keys, calls, &fields)?;
        // Which logical column each output column is; a group that is repeated is found through its first copy.
        let mut columns: Vec<usize> = (0..keys)
            .map(|k| group_at.iter().position(|g| *g == k).expect("every key comes from a group expression"))
            .collect();
        columns.extend(needed.iter().map(|i| groups + i));
        let canonical: Vec<Expr> = (0..aggregate.schema.fields().len())
            .map(|i| {
                let i = if i < groups { columns[group_at[i]] } else { i };
                super::column_of(&aggregate.schema, i)
            })
            .collect();
        let request = request.below(&aggregate.schema, &canonical)?;
        self.finish(node, &columns, &aggregate.schema, request)
    }

    /// count(*) reads no column, but a batch needs one to have rows.
    pub(super) fn never_empty(&self, list: &mut ExprList, schema: &DFSchema) -> Result<()> {
        if list.exprs.is_empty() {
            let any = Request::columns(schema, &[]).needed(schema)?;
            if let Some(first) = any.first() {
                list.add(super::column_of(schema, *first), schema)?;
            } else {
                list.add(Expr::Literal(ScalarValue::Boolean(Some(true)), None), schema)?;
            }
        }
        Ok(())
    }

    /// The aggregates that are read, which come after `groups` columns; at least one where there is no group to carry
    /// the row.
    pub(super) fn needed_aggregates(
        &self,
        aggregate: &Aggregate,
        groups: usize,
        request: &Request,
    ) -> Result<Vec<usize>> {
        let mut read = vec![false; aggregate.aggr_expr.len()];
        for e in request.exprs.iter().chain(&request.predicates) {
            for c in columns_of(e, &aggregate.schema)? {
                if let Some(read) = c.checked_sub(groups).and_then(|c| read.get_mut(c)) {
                    *read = true;
                }
            }
        }
        if groups == 0 && !read.contains(&true) && !read.is_empty() {
            read[0] = true;
        }
        Ok(read.iter().enumerate().filter(|(_, r)| **r).map(|(i, _)| i).collect())
    }

    /// A Reduce over the first `keys` columns of `node`; its output is the keys, then the calls with these fields.
    pub(super) fn reduce(
        &mut self,
        node: NodeId,
        keys: usize,
        calls: Vec<AggregateCall>,
        results: &[Arc<Field>],
    ) -> Result<NodeId> {
        let key_columns: Vec<usize> = (0..keys).collect();
        let (node, close) =
            if keys == 0 { (node, None) } else { self.with_close_column(node, &key_columns)? };
        if self.emit == Emit::OnWindowClose && close.is_none() {
            return Err(not_closable());
        }
        let schema = self.nodes[node].schema.clone();
        let all_keys: Vec<usize> = match close {
            Some(c) if c >= keys => (0..keys).chain([c]).collect(),
            _ => key_columns.clone(),
        };
        let window_end = close.and_then(|c| all_keys.iter().position(|k| *k == c));
        let node = self.exchange_for_grouping(node, &all_keys);
        let emit = if window_end.is_some() { self.emit } else { Emit::OnUpdate };
        let input = self.facts(node);
        let mut facts = input.project(|c| all_keys.iter().position(|k| *k == c));
        facts.unique_keys.clear();
        facts.add_key((0..keys).collect());
        facts.append_only = emit == Emit::OnWindowClose;
        if !facts.append_only {
            // A group changes until it closes, so its row is retracted later than its time.
            facts.watermarks.clear();
        }
        if input.append_only && window_end.is_none() && keys > 0 {
            facts.unbounded_state.push("GROUP BY keeps every group it has seen.".into());
        }
        let extra = Extra {
            partition: self.extras[node]
                .partition
                .as_ref()
                .and_then(|p| p.iter().map(|c| all_keys.iter().position(|k| k == c)).collect()),
            complete: if emit == Emit::OnWindowClose { window_end.into_iter().collect() } else { vec![] },
        };
        let mut fields: Vec<Field> = all_keys.iter().map(|k| schema.field(*k).clone()).collect();
        fields.extend(calls.iter().zip(results).map(|(c, f)| {
            // The logical field tells a type that Arrow's does not.
            let field = f.as_ref().clone().with_name(&c.name).with_data_type(c.data_type.clone());
            field.with_nullable(c.kind != AggregateKind::Count)
        }));
        let extra_key = all_keys.len() > keys;
        let calls_len = calls.len();
        let out = unique_schema(fields);
        let op = Op::Reduce { keys: all_keys, aggregates: calls, window_end, emit };
        let node = self.add(op, vec![node], out.clone(), facts, extra);
        if !extra_key {
            return Ok(node);
        }
        // Drop the column of the closing time, which follows the keys.
        let kept: Vec<usize> = (0..keys).chain(keys + 1..keys + 1 + calls_len).collect();
        let exprs = kept.iter().map(|i| super::column_named(&out, *i)).collect();
        let fields = kept.iter().map(|i| out.fields()[*i].clone()).collect();
        self.map(node, vec![], exprs, fields)
    }
}

/// The group expressions that have a column in the schema: one that is repeated word for word has one column only.
fn distinct_groups(aggregate: &Aggregate) -> Vec<&Expr> {
    let mut out: Vec<&Expr> = Vec::with_capacity(aggregate.group_expr.len());
    for e in &aggregate.group_expr {
        if !out.contains(&e) {
            out.push(e);
        }
    }
    out
}

/// One aggregate call, its arguments and filter added to `list`.
pub(super) fn call(
    expr: &Expr,
    field: &Arc<Field>,
    input: &DFSchema,
    list: &mut ExprList,
) -> Result<AggregateCall> {
    let expr = strip(expr);
    let Expr::AggregateFunction(AggregateFunction { func, params }) = &expr else {
        return Err(Error::internal(format!("aggregate {expr} is not a function call")));
    };
    let name = func.name().to_ascii_lowercase();
    let filter = params.filter.as_ref().map(|f| list.add(f.as_ref().clone(), input)).transpose()?;
    if let Some(exact) = func.inner().downcast_ref::<ExactCall>() {
        let arguments = params.args.iter().map(|a| list.add(a.clone(), input)).collect::<Result<Vec<_>>>()?;
        return Ok(exact.over(&arguments, filter, field.name()));
    }
    let kind = match name.as_str() {
        "count" => AggregateKind::Count,
        "sum" => AggregateKind::Sum,
        "avg" | "mean" => AggregateKind::Avg,
        "min" => AggregateKind::Min,
        "max" => AggregateKind::Max,
        _ => {
            return Err(Error::unsupported(format!(
                "aggregate {name}() is not supported in a materialized view"
            )));
        }
    };
    let argument = match params.args.as_slice() {
        [] if kind == AggregateKind::Count => None,
        [one] if kind == AggregateKind::Count && counts_rows(one) && !params.distinct => None,
        [one] => Some(list.add(one.clone(), input)?),
        _ => {
            return Err(Error::unsupported(format!(
                "{name}() of several arguments is not supported in a materialized view"
            )));
        }
    };
    if let Some(a) = argument {
        let t = list.fields[a].data_type();
        let fits = match kind {
            AggregateKind::Sum => t.is_numeric(),
            AggregateKind::Avg => t.is_floating(),
            _ => true,
        };
        if !fits {
            return Err(Error::unsupported(format!("{name}({t}) is not supported in a materialized view")));
        }
    }
    let data_type = field.data_type().clone();
    if kind == AggregateKind::Count && data_type != DataType::Int64 {
        return Err(Error::internal(format!("count() of type {data_type}")));
    }
    Ok(AggregateCall {
        kind,
        argument,
        more: vec![],
        shape: Default::default(),
        filter,
        // min and max of a set are those of the multiset.
        distinct: params.distinct && !matches!(kind, AggregateKind::Min | AggregateKind::Max),
        name: field.name().clone(),
        data_type,
    })
}

/// Whether `count(expr)` counts every row.
#[allow(deprecated)]
fn counts_rows(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => !value.is_null(),
        Expr::Wildcard { .. } => true,
        Expr::Alias(a) => counts_rows(&a.expr),
        // Type coercion may have put a cast around the star.
        Expr::Cast(c) => matches!(c.expr.as_ref(), Expr::Wildcard { .. }),
        _ => false,
    }
}
