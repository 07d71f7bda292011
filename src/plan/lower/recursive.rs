//! WITH RECURSIVE: the recursive term becomes the step of a fixpoint, with the iteration as a further column.
//!
//! A recursion can be kept up to date row by row when its term is linear: what it gives for two sets of rows together
//! is what it gives for each of them. Conditions, projections, joins with other relations and unnesting are linear;
//! aggregates, DISTINCT, LIMIT, windows, set operations and the outer side of an outer join over the recursion are
//! not, and are refused.
//!
//! Boundary: nodes of the term that do not read the recursion stay in the plan and feed the step.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::DefaultTableSource;
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::logical_expr::builder::LogicalTableSource;
use datafusion::logical_expr::{
    Expr, Filter, Join, JoinType, LogicalPlan, Projection, RecursiveQuery, TableScan, TableScanBuilder,
    Unnest, lit,
};

use super::{Extra, Lowering, Request, unique_schema};
use crate::error::{Error, Result};
use crate::plan::facts::Facts;
use crate::plan::{Emit, NodeId, Op, Plan, PlanNode};

/// The column that says which iteration a row of the recursion belongs to.
const ITERATION: &str = "__iteration";

fn refused(what: &str) -> Error {
    Error::unsupported(format!("{what} in WITH RECURSIVE is not supported in a materialized view"))
        .with_detail(
            "The recursive term must be linear: conditions, expressions and joins with other relations.",
        )
}

/// The name of the recursive query whose working table a scan reads.
fn work_table_name(scan: &TableScan) -> Option<&str> {
    let source: &dyn std::any::Any = scan.source.as_ref();
    let source = source.downcast_ref::<DefaultTableSource>()?;
    let table: &dyn std::any::Any = source.table_provider.as_ref();
    table.downcast_ref::<CteWorkTable>().map(CteWorkTable::name)
}

fn reads_work_table(plan: &LogicalPlan, name: &str) -> Result<bool> {
    Ok(plan.exists(|node| match node {
        LogicalPlan::TableScan(scan) => Ok(work_table_name(scan) == Some(name)),
        _ => Ok(false),
    })?)
}

impl Lowering<'_> {
    pub(super) fn recursive(&mut self, query: &RecursiveQuery, request: Request) -> Result<NodeId> {
        let width = query.schema.fields().len();
        let all: Vec<usize> = (0..width).collect();
        let start = self.request(&query.static_term, Request::columns(query.static_term.schema(), &all))?;
        let start = self.exchange_to_one(start);
        let (step, iteration) = carried(&query.recursive_term, &query.name)?;
        let mut exprs: Vec<Expr> =
            query.recursive_term.schema().columns().into_iter().map(Expr::Column).collect();
        exprs.push((iteration + lit(1i64)).alias(ITERATION));
        let step = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(step))?);
        let columns: Vec<usize> = (0..=width).collect();
        let first = self.nodes.len();
        let result = self.request(&step, Request::columns(step.schema(), &columns))?;
        if result + 1 != self.nodes.len() {
            return Err(refused("this step"));
        }
        let (step, inputs) = self.cut_out(first)?;
        let fields: Vec<Field> = query
            .schema
            .fields()
            .iter()
            .zip(self.nodes[start].schema.fields())
            .map(|(f, own)| own.as_ref().clone().with_name(f.name()).with_nullable(true))
            .collect();
        let mut facts = Facts::default();
        for input in std::iter::once(&start).chain(&inputs) {
            facts.unbounded_state.extend(self.facts(*input).unbounded_state.clone());
        }
        if self.facts(start).append_only {
            facts.unbounded_state.push("WITH RECURSIVE keeps every row it has derived.".into());
        }
        if query.is_distinct {
            facts.add_key(all.clone());
        }
        let extra = Extra { partition: Some(vec![]), complete: Vec::new() };
        let op = Op::Recursive { step: Box::new(step), all: !query.is_distinct };
        let inputs = std::iter::once(start).chain(inputs).collect();
        let node = self.add(op, inputs, unique_schema(fields), facts, extra);
        self.finish(node, &all, &query.schema, request)
    }

    fn exchange_to_one(&mut self, node: NodeId) -> NodeId {
        if self.extras[node].partition.as_deref() == Some(&[]) { node } else { self.exchange(node, vec![]) }
    }

    /// The node of a working table.
    pub(super) fn work_table(&mut self, scan: &TableScan, request: &Request) -> Result<Option<NodeId>> {
        let source: &dyn std::any::Any = scan.source.as_ref();
        if !source.is::<LogicalTableSource>() {
            return Ok(None);
        }
        let schema = scan.source.schema();
        let full = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema)?;
        let mut request = request.clone();
        request.predicates.splice(0..0, scan.filters.iter().cloned());
        let node = self.add(Op::Port, vec![], schema.clone(), Facts::default(), Extra::default());
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        self.finish(node, &all, &full, request).map(Some)
    }

    /// Takes the nodes from `first` on that read the recursion out of the plan: the step, and the nodes that feed it.
    fn cut_out(&mut self, first: usize) -> Result<(Plan, Vec<NodeId>)> {
        let nodes = self.nodes.split_off(first);
        let extras = self.extras.split_off(first);
        let mut reads = vec![false; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            reads[i] = matches!(node.op, Op::Port)
                || node.inputs.iter().any(|n| n.checked_sub(first).is_some_and(|n| reads[n]));
        }
        // Where each node went: outside, or into the step.
        let mut outside: HashMap<usize, NodeId> = HashMap::new();
        let mut inside: Vec<usize> = Vec::new();
        for (i, (mut node, extra)) in nodes.iter().cloned().zip(extras).enumerate() {
            if reads[i] {
                inside.push(i);
                continue;
            }
            for n in &mut node.inputs {
                *n = outside.get(n).copied().unwrap_or(*n);
            }
            self.nodes.push(node);
            self.extras.push(extra);
            outside.insert(first + i, self.nodes.len() - 1);
        }
        let mut ports: Vec<PlanNode> = Vec::new();
        let mut inputs: Vec<NodeId> = Vec::new();
        let mut place: HashMap<usize, usize> = HashMap::new();
        for i in &inside {
            if matches!(nodes[*i].op, Op::Port) {
                if !ports.is_empty() {
                    return Err(refused("a second reference to the recursion"));
                }
                ports.push(nodes[*i].clone());
                place.insert(first + i, 0);
            }
        }
        for i in &inside {
            for n in nodes[*i].inputs.clone() {
                if n.checked_sub(first).is_some_and(|n| reads[n]) || place.contains_key(&n) {
                    continue;
                }
                let own = outside.get(&n).copied().unwrap_or(n);
                // What was to go to every worker goes to the one that recurses.
                let own = match self.nodes[own].op {
                    Op::Broadcast => self.nodes[own].inputs[0],
                    _ => own,
                };
                let own = self.exchange_to_one(own);
                place.insert(n, ports.len());
                let (schema, facts) = (self.nodes[own].schema.clone(), Facts::default());
                ports.push(PlanNode { op: Op::Port, inputs: vec![], schema, facts });
                inputs.push(own);
            }
        }
        for i in inside {
            let node = &nodes[i];
            if matches!(node.op, Op::Port) {
                continue;
            }
            let fits = matches!(
                node.op,
                Op::Map { .. }
                    | Op::Join { .. }
                    | Op::FlatMap { .. }
                    | Op::Union
                    | Op::Negate
                    | Op::Exchange { .. }
                    | Op::Broadcast
            );
            if !fits {
                return Err(refused("this operation"));
            }
            let mut node = node.clone();
            for n in &mut node.inputs {
                *n = *place.get(n).ok_or_else(|| Error::internal("an input of a recursion was lost"))?;
            }
            place.insert(first + i, ports.len());
            ports.push(node);
        }
        let schema = ports.last().map_or_else(|| Arc::new(Schema::empty()), |n| n.schema.clone());
        Ok((Plan { nodes: ports, schema, emit: Emit::OnUpdate }, inputs))
    }
}

/// The term with the iteration of the row of the recursion that a row comes from, and that column.
fn carried(plan: &LogicalPlan, name: &str) -> Result<(LogicalPlan, Expr)> {
    let rebuilt = |input: LogicalPlan, mut exprs: Vec<Expr>, iteration: Expr| -> Result<_> {
        exprs.push(iteration.alias(ITERATION));
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?);
        Ok((plan, Expr::Column(Column::new_unqualified(ITERATION))))
    };
    match plan {
        LogicalPlan::TableScan(scan) => {
            let mut fields: Vec<Field> =
                scan.source.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
            fields.push(Field::new(ITERATION, DataType::Int64, false));
            let source = Arc::new(LogicalTableSource::new(Arc::new(Schema::new(fields))));
            let built = TableScanBuilder::new(scan.table_name.clone(), source)
                .with_filters(scan.filters.clone())
                .build()?;
            let iteration = Expr::Column(Column::new(Some(scan.table_name.clone()), ITERATION));
            Ok((LogicalPlan::TableScan(built), iteration))
        }
        LogicalPlan::Projection(p) => {
            let (input, iteration) = carried(&p.input, name)?;
            rebuilt(input, p.expr.clone(), iteration)
        }
        LogicalPlan::SubqueryAlias(a) => {
            let own = a.input.schema().columns();
            let (input, iteration) = carried(&a.input, name)?;
            let named = a.schema.iter().zip(own);
            let exprs =
                named.map(|((q, f), c)| Expr::Column(c).alias_qualified(q.cloned(), f.name())).collect();
            rebuilt(input, exprs, iteration)
        }
        LogicalPlan::Filter(f) => {
            let (input, iteration) = carried(&f.input, name)?;
            Ok((LogicalPlan::Filter(Filter::try_new(f.predicate.clone(), Arc::new(input))?), iteration))
        }
        LogicalPlan::Sort(s) if s.fetch.is_none() => carried(&s.input, name),
        LogicalPlan::Unnest(u) => {
            let names = u.input.schema().columns();
            let (input, iteration) = carried(&u.input, name)?;
            let exprs = names.into_iter().map(Expr::Column).collect();
            let (input, iteration) = rebuilt(input, exprs, iteration)?;
            let mut fields: Vec<_> = u.schema.iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
            fields.push((None, Arc::new(Field::new(ITERATION, DataType::Int64, false))));
            let mut dependency_indices = u.dependency_indices.clone();
            dependency_indices.push(input.schema().fields().len() - 1);
            let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
            let unnest = Unnest { input: Arc::new(input), dependency_indices, schema, ..u.clone() };
            Ok((LogicalPlan::Unnest(unnest), iteration))
        }
        LogicalPlan::Join(j) => carried_join(j, name),
        LogicalPlan::Aggregate(_) => Err(refused("an aggregate over the recursion")),
        LogicalPlan::Distinct(_) => Err(refused("DISTINCT over the recursion")),
        LogicalPlan::Limit(_) => Err(refused("LIMIT over the recursion")),
        LogicalPlan::Window(_) => Err(refused("a window function over the recursion")),
        LogicalPlan::Union(_) => Err(refused("UNION over the recursion")),
        _ => Err(refused("this operation over the recursion")),
    }
}

fn carried_join(j: &Join, name: &str) -> Result<(LogicalPlan, Expr)> {
    let left = reads_work_table(&j.left, name)?;
    let right = reads_work_table(&j.right, name)?;
    let linear = match j.join_type {
        JoinType::Inner => left != right,
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => left && !right,
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => right && !left,
        _ => false,
    };
    if !linear {
        return Err(refused(if left && right {
            "a join of the recursion with itself"
        } else {
            "a join in which the recursion decides what is missing"
        }));
    }
    let (l, r, iteration) = if left {
        let (l, iteration) = carried(&j.left, name)?;
        (l, j.right.as_ref().clone(), iteration)
    } else {
        let (r, iteration) = carried(&j.right, name)?;
        (j.left.as_ref().clone(), r, iteration)
    };
    let join = Join::try_new(
        Arc::new(l),
        Arc::new(r),
        j.on.clone(),
        j.filter.clone(),
        j.join_type,
        j.join_constraint,
        j.null_equality,
        j.null_aware,
    )?;
    Ok((LogicalPlan::Join(join), iteration))
}
