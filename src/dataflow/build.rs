//! From a plan to one worker's instance of it: an operator per node, the edges between them, and the order in
//! which an epoch is closed.
//!
//! Boundary: builds; nothing runs here.

use std::collections::VecDeque;
use std::time::Duration;

use super::DataflowSpec;
use super::instance::{Instance, Kind, Node, RESULT, Run, Task};
use crate::error::{Error, Result};
use crate::operator::distinct::Distinct;
use crate::operator::join::{Join, JoinSpec};
use crate::operator::map::Map;
use crate::operator::over::{Over, OverSpec};
use crate::operator::reduce::{Reduce, ReduceSpec};
use crate::operator::temporal::Temporal;
use crate::operator::top_k::{TopK, TopKSpec};
use crate::operator::top_one::TopOne;
use crate::operator::{Operator, Output};
use crate::plan::{Emit, Op, Plan, PlanNode};
use crate::time::Watermark;

/// Builds worker `index`'s instance of a dataflow.
pub(super) fn instance(spec: &DataflowSpec, index: usize, workers: usize) -> Result<Instance> {
    let plan = &spec.plan;
    if plan.nodes.is_empty() {
        return Err(Error::internal("a plan has no nodes"));
    }
    let consumers = consumers(plan, workers);
    let mut nodes = Vec::with_capacity(plan.nodes.len());
    for (node, consumers) in plan.nodes.iter().zip(consumers) {
        nodes.push(Node {
            kind: kind(plan, node, index)?,
            schema: node.schema.clone(),
            inputs: node.inputs.clone(),
            consumers,
            touched: false,
            watermark: Watermark::NONE,
            rows_in: 0,
            rows_out: 0,
            busy: Duration::ZERO,
        });
    }
    Ok(Instance {
        id: spec.id,
        nodes,
        schedule: schedule(plan, workers),
        schema: plan.schema.clone(),
        is_net: plan.facts().append_only || is_net(plan, plan.nodes.len() - 1),
        buffered: Some(Vec::new()),
        fresh: true,
        epochs: 0,
        result: Vec::new(),
        taken: VecDeque::new(),
        errors: Vec::new(),
        scratch: Output::default(),
        run: Run::default(),
    })
}

/// Whether a node never gives out two equal rows in an epoch, so that there is nothing to add up. Operators that
/// emit differences at the close are so, and what keeps all of their columns is too.
fn is_net(plan: &Plan, node: usize) -> bool {
    let Some(node) = plan.nodes.get(node) else { return false };
    let Some(&input) = node.inputs.first() else { return false };
    match &node.op {
        Op::Reduce { .. } | Op::Distinct { .. } | Op::TopK { .. } => true,
        Op::Exchange { .. } | Op::Map { exprs: None, .. } => is_net(plan, input),
        Op::Map { exprs: Some(exprs), .. } => {
            let kept = |column| exprs.iter().any(|e| e.as_column() == Some(column));
            let all = plan.nodes.get(input).is_some_and(|n| (0..n.schema.fields().len()).all(kept));
            all && is_net(plan, input)
        }
        _ => false,
    }
}

fn is_exchange(op: &Op) -> bool {
    matches!(op, Op::Exchange { .. } | Op::Broadcast)
}

/// The users of each node's output. With one worker, rows pass by the exchanges.
fn consumers(plan: &Plan, workers: usize) -> Vec<Vec<(usize, usize)>> {
    let mut consumers: Vec<Vec<(usize, usize)>> = vec![Vec::new(); plan.nodes.len()];
    for (user, node) in plan.nodes.iter().enumerate() {
        for (port, input) in node.inputs.iter().enumerate() {
            consumers[*input].push((user, port));
        }
    }
    if let Some(last) = consumers.last_mut() {
        last.push((RESULT, 0));
    }
    if workers == 1 {
        // Users come after what they use, so from the end on every list is final.
        for i in (0..consumers.len()).rev() {
            let past = |(user, port): (usize, usize)| match plan.nodes.get(user) {
                Some(n) if is_exchange(&n.op) => consumers[user].clone(),
                _ => vec![(user, port)],
            };
            let direct: Vec<(usize, usize)> = consumers[i].clone().into_iter().flat_map(past).collect();
            consumers[i] = direct;
        }
    }
    consumers
}

/// The closing order: the operators of an exchange level, then that level's exchanges, all sends before the
/// first receive.
fn schedule(plan: &Plan, workers: usize) -> Vec<Task> {
    let mut levels = vec![0usize; plan.nodes.len()];
    for (i, node) in plan.nodes.iter().enumerate() {
        let above = |input: &usize| levels[*input] + usize::from(is_exchange(&plan.nodes[*input].op));
        levels[i] = if workers == 1 { 0 } else { node.inputs.iter().map(above).max().unwrap_or(0) };
    }
    let mut tasks = Vec::new();
    for level in 0..=levels.iter().copied().max().unwrap_or(0) {
        let here = || (0..plan.nodes.len()).filter(|n| levels[*n] == level);
        tasks.extend(here().filter(|n| is_operator(&plan.nodes[*n].op)).map(Task::Close));
        if workers > 1 {
            let exchanges = || here().filter(|n| is_exchange(&plan.nodes[*n].op));
            tasks.extend(exchanges().map(Task::Seal));
            tasks.extend(exchanges().map(Task::Drain));
        }
    }
    tasks
}

fn is_operator(op: &Op) -> bool {
    !is_exchange(op) && !matches!(op, Op::Input { .. } | Op::Constant { .. } | Op::Union | Op::Negate)
}

fn kind(plan: &Plan, node: &PlanNode, index: usize) -> Result<Kind> {
    Ok(match &node.op {
        Op::Input { relation, columns } => {
            Kind::Input { relation: *relation, columns: Some(columns.clone()) }
        }
        Op::Constant { rows } => Kind::Constant(rows.clone()),
        Op::Union => Kind::Union,
        Op::Negate => Kind::Negate,
        Op::Exchange { keys } => Kind::Exchange(keys.clone()),
        Op::Broadcast => Kind::Broadcast,
        _ => Kind::Operator(operator(plan, node, index)?),
    })
}

/// The operator of a node.
fn operator(plan: &Plan, node: &PlanNode, index: usize) -> Result<Box<dyn Operator>> {
    let input = |port: usize| {
        node.inputs
            .get(port)
            .and_then(|i| plan.nodes.get(*i))
            .ok_or_else(|| Error::internal(format!("a plan node has no input {port}")))
    };
    let first = input(0)?;
    let (schema, output) = (first.schema.clone(), node.schema.clone());
    Ok(match &node.op {
        Op::Map { predicate, exprs } => Box::new(Map::new(schema, output, predicate.clone(), exprs.clone())?),
        Op::Join { left_keys, right_keys, residual, output: columns, bounds } => {
            let spec = JoinSpec {
                left_keys: left_keys.clone(),
                right_keys: right_keys.clone(),
                residual: residual.clone(),
                output: columns.clone(),
                left_expiry: bounds.as_ref().and_then(|b| b.left_expiry),
                right_expiry: bounds.as_ref().and_then(|b| b.right_expiry),
            };
            Box::new(Join::new(schema, input(1)?.schema.clone(), output, spec)?)
        }
        Op::Reduce { keys, aggregates, window_end, emit } => {
            let spec = ReduceSpec {
                keys: keys.clone(),
                aggregates: aggregates.clone(),
                window_end: *window_end,
                on_window_close: *emit == Emit::OnWindowClose,
                append_only: first.facts.append_only,
                global_owner: index == 0,
            };
            Box::new(Reduce::new(schema, output, spec)?)
        }
        Op::Distinct { window_end } => Box::new(Distinct::new(schema, *window_end)?),
        Op::TopK { partition, order, offset, limit, row_number } => {
            let spec = TopKSpec {
                partition: partition.clone(),
                order: order.iter().map(|o| (o.column, o.options)).collect(),
                offset: *offset,
                limit: *limit,
                row_number: *row_number,
                append_only: first.facts.append_only,
            };
            if TopOne::fits(&schema, &spec) {
                Box::new(TopOne::new(schema, output, spec)?)
            } else {
                Box::new(TopK::new(schema, output, spec)?)
            }
        }
        Op::Over { partition, order, ties, calls, limit, closes } => {
            let spec = OverSpec {
                partition: partition.clone(),
                order: order.iter().map(|o| (o.column, o.options)).collect(),
                ties: ties.clone(),
                calls: calls.clone(),
                limit: *limit,
                closes: *closes,
            };
            Box::new(Over::new(schema, output, spec)?)
        }
        Op::Temporal { from, until } => Box::new(Temporal::new(schema, from.clone(), until.clone())?),
        other => return Err(Error::internal(format!("{other:?} is not an operator"))),
    })
}
