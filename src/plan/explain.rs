//! Plans as text: one line per node, inputs indented below their user.
//!
//! Boundary: reads plans, decides nothing.

use std::fmt::Write as _;

use crate::expr::window::{LimitBy, OverLimit};
use crate::plan::{Emit, NodeId, Op, Plan, PlanNode};

/// The plan as a tree, with what is known of each node.
pub fn text(plan: &Plan) -> String {
    text_with(plan, &|_| String::new())
}

/// The plan as a tree, with a remark at the end of each node's line (figures of EXPLAIN ANALYZE).
pub fn text_with(plan: &Plan, remark: &dyn Fn(NodeId) -> String) -> String {
    let mut out = String::new();
    write_node(plan, plan.nodes.len() - 1, 0, remark, &mut out);
    out
}

fn write_node(plan: &Plan, id: NodeId, depth: usize, remark: &dyn Fn(NodeId) -> String, out: &mut String) {
    let node = &plan.nodes[id];
    let _ = write!(
        out,
        "{:indent$}{}{}{}",
        "",
        operation(plan, node),
        known(node),
        remark(id),
        indent = depth * 2
    );
    out.push('\n');
    for input in &node.inputs {
        write_node(plan, *input, depth + 1, remark, out);
    }
}

/// What a node does, in one line.
pub fn operation(plan: &Plan, node: &PlanNode) -> String {
    let schema_of = |i: usize| &plan.nodes[node.inputs[i]].schema;
    let names = |i: usize, columns: &[usize]| {
        let names: Vec<&str> = columns.iter().map(|c| schema_of(i).field(*c).name().as_str()).collect();
        format!("[{}]", names.join(", "))
    };
    match &node.op {
        Op::Input { relation, .. } => {
            let names: Vec<&str> = node.schema.fields().iter().map(|f| f.name().as_str()).collect();
            format!("Input relation={relation} columns=[{}]", names.join(", "))
        }
        Op::Constant { rows } => format!("Constant rows={}", rows.num_rows()),
        Op::Map { predicate, exprs } => {
            let mut line = String::from("Map");
            if let Some(p) = predicate {
                let _ = write!(line, " filter={p}");
            }
            if let Some(exprs) = exprs {
                let exprs: Vec<String> = exprs.iter().map(ToString::to_string).collect();
                let _ = write!(line, " exprs=[{}]", exprs.join(", "));
            }
            line
        }
        Op::Union => "Union".into(),
        Op::Negate => "Negate".into(),
        Op::Exchange { keys } => format!("Exchange keys={}", names(0, keys)),
        Op::Broadcast => "Broadcast".into(),
        Op::Join { left_keys, right_keys, residual, bounds, .. } => {
            let mut line = if left_keys.is_empty() {
                "CrossJoin".to_string()
            } else {
                format!("Join left={} right={}", names(0, left_keys), names(1, right_keys))
            };
            if let Some(r) = residual {
                let _ = write!(line, " on={r}");
            }
            if let Some(b) = bounds {
                let _ = write!(line, " expiry=[{}, {}]", expiry(b.left_expiry), expiry(b.right_expiry));
            }
            line
        }
        Op::Reduce { keys, aggregates, window_end, emit } => {
            let calls: Vec<&str> = aggregates.iter().map(|a| a.name.as_str()).collect();
            let mut line = format!("Reduce keys={} aggregates=[{}]", names(0, keys), calls.join(", "));
            let whole: Vec<&str> =
                aggregates.iter().filter(|a| a.reads_whole_groups()).map(|a| a.name.as_str()).collect();
            if !whole.is_empty() {
                // A change of one row costs as much as its group has rows.
                let _ = write!(line, " recomputes=[{}]", whole.join(", "));
            }
            if let Some(w) = window_end {
                let _ = write!(line, " closes_by={}", schema_of(0).field(keys[*w]).name());
            }
            if *emit == Emit::OnWindowClose {
                line.push_str(" emit=on_window_close");
            }
            line
        }
        Op::Distinct { window_end } => match window_end {
            Some(w) => format!("Distinct closes_by={}", schema_of(0).field(*w).name()),
            None => "Distinct".into(),
        },
        Op::TopK { partition, order, offset, limit, .. } => {
            let order: Vec<String> = order
                .iter()
                .map(|o| {
                    let direction = if o.options.descending { " desc" } else { "" };
                    format!("{}{direction}", schema_of(0).field(o.column).name())
                })
                .collect();
            let mut line =
                format!("TopK partition={} order=[{}] limit={limit}", names(0, partition), order.join(", "));
            if *offset > 0 {
                let _ = write!(line, " offset={offset}");
            }
            line
        }
        Op::Over { partition, order, calls, limit, closes, .. } => {
            let order: Vec<String> = order
                .iter()
                .map(|o| {
                    let direction = if o.options.descending { " desc" } else { "" };
                    format!("{}{direction}", schema_of(0).field(o.column).name())
                })
                .collect();
            let calls: Vec<&str> = calls.iter().map(|c| c.field.name().as_str()).collect();
            let mut line = format!(
                "Over partition={} order=[{}] calls=[{}]",
                names(0, partition),
                order.join(", "),
                calls.join(", ")
            );
            if let Some(OverLimit { offset, limit, by }) = limit {
                let by = match by {
                    LimitBy::Rows => "",
                    LimitBy::Ties => " with_ties",
                    LimitBy::Groups => " groups",
                };
                let _ = write!(line, " limit={limit}{by}");
                if *offset > 0 {
                    let _ = write!(line, " offset={offset}");
                }
            }
            if let Some(c) = closes {
                let _ = write!(line, " closes_by={}", schema_of(0).field(*c).name());
            }
            line
        }
        Op::Temporal { from, until } => {
            let bound =
                |b: &Option<crate::expr::ScalarExpr>| b.as_ref().map_or("-".to_string(), ToString::to_string);
            format!("Temporal from={} until={}", bound(from), bound(until))
        }
    }
}

fn expiry(e: Option<(usize, i64)>) -> String {
    e.map_or("never".into(), |(c, by)| format!("{c}+{by}us"))
}

fn known(node: &PlanNode) -> String {
    let mut line = String::from(" ");
    if node.facts.append_only {
        line.push_str(" append_only");
    }
    let name = |c: &usize| node.schema.field(*c).name().clone();
    for key in &node.facts.unique_keys {
        let key: Vec<String> = key.iter().map(name).collect();
        let _ = write!(line, " unique=[{}]", key.join(", "));
    }
    for (column, delay) in &node.facts.watermarks {
        let _ = write!(
            line,
            " watermark={}{}",
            name(column),
            if *delay == 0 { String::new() } else { format!("-{delay}us") }
        );
    }
    line.trim_end().to_string()
}
