//! GROUPING SETS, ROLLUP and CUBE: every row goes once into each set, with the keys that the set leaves out as NULL
//! and the number of the set as one more key; one Reduce keeps the groups of all sets. The empty set, which has a row
//! even over nothing, is a Reduce without keys of its own.
//!
//! Boundary: the shape of the plan; calls are lowered by the neighbour.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Aggregate, Expr, GroupingSet};

use super::expression::{ExprList, strip};
use super::{Lowering, Request, column_named};
use crate::error::{Error, Result};
use crate::expr::aggregate::{AggregateCall, AggregateKind};
use crate::plan::NodeId;

/// The sets of a GROUP BY that has some.
pub(super) fn sets_of(aggregate: &Aggregate) -> Option<&[Vec<Expr>]> {
    match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => Some(sets),
        _ => None,
    }
}

/// One grouping set: which of the keys it has, and its number.
struct Set {
    has: Vec<bool>,
    id: u64,
}

impl Lowering<'_> {
    /// An aggregate over grouping sets.
    pub(super) fn grouping_sets(
        &mut self,
        aggregate: &Aggregate,
        sets: &[Vec<Expr>],
        request: Request,
    ) -> Result<NodeId> {
        let input_schema = aggregate.input.schema();
        let (keys, sets) = numbered(sets)?;
        let mut list = ExprList::default();
        let group_at =
            keys.iter().map(|e| list.add((*e).clone(), input_schema)).collect::<Result<Vec<usize>>>()?;
        let groups = keys.len();
        let needed = self.needed_aggregates(aggregate, groups + 1, &request)?;
        let mut calls = Vec::with_capacity(needed.len());
        let mut fields = Vec::with_capacity(needed.len());
        for i in &needed {
            let field = aggregate.schema.field(groups + 1 + i);
            calls.push(super::aggregate::call(&aggregate.aggr_expr[*i], field, input_schema, &mut list)?);
            fields.push(field.clone());
        }
        self.never_empty(&mut list, input_schema)?;
        let below = Request { exprs: list.exprs, fields: list.fields, predicates: vec![] };
        let node = self.request(&aggregate.input, below)?;
        let id_type = aggregate.schema.field(groups).data_type().clone();
        let mut parts = Vec::new();
        let (keyed, empty): (Vec<&Set>, Vec<&Set>) = sets.iter().partition(|s| s.has.contains(&true));
        if !keyed.is_empty() {
            let mut expanded = Vec::with_capacity(keyed.len());
            let (shifted, read) = shift(&calls, groups + 1);
            for set in keyed {
                expanded.push(self.expand(node, &group_at, set, &id_type, &read)?);
            }
            let union = self.union_nodes(expanded);
            parts.push(self.reduce(union, groups + 1, shifted, &fields)?);
        }
        if !empty.is_empty() {
            let counted = calls.is_empty();
            let mut calls = calls;
            if counted {
                // A batch needs a column to have rows.
                calls.push(count_rows());
            }
            let counts = vec![Arc::new(Field::new("rows", DataType::Int64, false))];
            let global = self.reduce(node, 0, calls, if counted { &counts } else { &fields })?;
            for set in empty {
                let key_fields: Vec<FieldRef> =
                    (0..groups).map(|g| aggregate.schema.field(g).clone()).collect();
                parts.push(self.without_keys(global, &key_fields, set, &id_type, fields.len())?);
            }
        }
        let node = self.union_nodes(parts);
        let mut columns: Vec<usize> = (0..=groups).collect();
        columns.extend(needed.iter().map(|i| groups + 1 + i));
        self.finish(node, &columns, &aggregate.schema, request)
    }

    /// The rows of `node` as members of a set: keys, number of the set, the columns that are read.
    fn expand(
        &mut self,
        node: NodeId,
        group_at: &[usize],
        set: &Set,
        id_type: &DataType,
        read: &[usize],
    ) -> Result<NodeId> {
        let schema = self.nodes[node].schema.clone();
        let mut exprs = Vec::with_capacity(group_at.len() + 1 + read.len());
        let mut fields: Vec<FieldRef> = Vec::with_capacity(exprs.capacity());
        for (at, has) in group_at.iter().zip(&set.has) {
            let field = schema.field(*at).clone().with_nullable(true);
            exprs.push(if *has {
                column_named(&schema, *at)
            } else {
                Expr::Literal(ScalarValue::try_from(field.data_type())?, None)
            });
            fields.push(Arc::new(field));
        }
        exprs.push(number(set.id, id_type)?);
        fields.push(Arc::new(Field::new(Aggregate::INTERNAL_GROUPING_ID, id_type.clone(), false)));
        for at in read {
            exprs.push(column_named(&schema, *at));
            fields.push(Arc::new(schema.field(*at).clone()));
        }
        self.map(node, vec![], exprs, fields)
    }

    /// The one row of an empty set with NULL keys and the number of the set.
    fn without_keys(
        &mut self,
        node: NodeId,
        keys: &[FieldRef],
        set: &Set,
        id_type: &DataType,
        results: usize,
    ) -> Result<NodeId> {
        let schema = self.nodes[node].schema.clone();
        let mut exprs = Vec::with_capacity(keys.len() + 1 + results);
        let mut fields: Vec<FieldRef> = Vec::with_capacity(exprs.capacity());
        for key in keys {
            exprs.push(Expr::Literal(ScalarValue::try_from(key.data_type())?, None));
            fields.push(Arc::new(key.as_ref().clone().with_nullable(true)));
        }
        exprs.push(number(set.id, id_type)?);
        fields.push(Arc::new(Field::new(Aggregate::INTERNAL_GROUPING_ID, id_type.clone(), false)));
        for i in 0..results {
            exprs.push(column_named(&schema, i));
            fields.push(Arc::new(schema.field(i).clone()));
        }
        self.map(node, vec![], exprs, fields)
    }
}

fn number(id: u64, id_type: &DataType) -> Result<Expr> {
    Ok(Expr::Literal(ScalarValue::UInt64(Some(id)).cast_to(id_type)?, None))
}

/// `count(*)`.
fn count_rows() -> AggregateCall {
    AggregateCall {
        kind: AggregateKind::Count,
        argument: None,
        more: vec![],
        shape: Default::default(),
        filter: None,
        distinct: false,
        name: "rows".into(),
        data_type: DataType::Int64,
    }
}

/// The distinct keys of all sets in their order, and the sets over them. A set that occurs again has another number.
fn numbered(sets: &[Vec<Expr>]) -> Result<(Vec<&Expr>, Vec<Set>)> {
    let mut keys: Vec<&Expr> = Vec::new();
    for e in sets.iter().flatten() {
        if !keys.contains(&e) {
            keys.push(e);
        }
    }
    let mut seen: HashMap<Vec<bool>, u64> = HashMap::new();
    let mut out = Vec::with_capacity(sets.len());
    for set in sets {
        let has: Vec<bool> = keys.iter().map(|k| set.iter().any(|e| strip(e) == strip(k))).collect();
        let ordinal = seen.entry(has.clone()).or_insert(0);
        // The highest bit is the first key's, as DataFusion numbers them.
        let mask = has.iter().fold(0_u64, |bits, has| bits << 1 | u64::from(!has));
        let shift = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let above = if *ordinal == 0 {
            Some(0)
        } else {
            ordinal.checked_shl(shift).filter(|v| v >> shift == *ordinal)
        };
        let id = above.map(|o| o | mask).filter(|_| keys.len() <= 64);
        let id =
            id.ok_or_else(|| Error::unsupported("so many columns in grouping sets are not supported"))?;
        *ordinal += 1;
        out.push(Set { has, id });
    }
    Ok((keys, out))
}

/// The calls over columns that come after `by` keys, and which columns they read, in that order.
fn shift(calls: &[AggregateCall], by: usize) -> (Vec<AggregateCall>, Vec<usize>) {
    let mut read: Vec<usize> = Vec::new();
    let mut place = |column: usize| {
        by + read.iter().position(|r| *r == column).unwrap_or_else(|| {
            read.push(column);
            read.len() - 1
        })
    };
    let shifted = calls
        .iter()
        .map(|call| AggregateCall {
            argument: call.argument.map(&mut place),
            more: call.more.iter().map(|c| place(*c)).collect(),
            filter: call.filter.map(&mut place),
            ..call.clone()
        })
        .collect();
    (shifted, read)
}
