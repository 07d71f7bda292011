//! Unnesting of lists, and multiset operations whose copies the binder has numbered.
//!
//! Boundary: what the numbers of copies are for is known to [`crate::plan::lower::join`] as well, by the name only.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan, Unnest};

use super::expression::column_of;
use super::{Extra, Lowering, Request, unique_schema};
use crate::error::{Error, Result};
use crate::plan::facts::{COPY_NUMBERS, Facts};
use crate::plan::{NodeId, Op};
use crate::zset::keep::Keep;

impl Lowering<'_> {
    pub(super) fn unnest(&mut self, unnest: &Unnest, request: Request) -> Result<NodeId> {
        if !unnest.struct_type_columns.is_empty() {
            return Err(Error::unsupported("unnesting of structs is not supported in a materialized view"));
        }
        let input = unnest.input.schema();
        // Every list is needed: the longest one says how many rows there are.
        let mut needed = request.needed(&unnest.schema)?;
        let is_list = |c: usize| unnest.list_type_columns.iter().any(|(i, _)| *i == c);
        for (i, c) in unnest.dependency_indices.iter().enumerate() {
            if is_list(*c) && !needed.contains(&i) {
                needed.push(i);
            }
        }
        needed.sort_unstable();
        let sources: Vec<usize> = needed.iter().map(|i| unnest.dependency_indices[*i]).collect();
        let node = self.request(&unnest.input, Request::columns(input, &sources))?;
        let schema = self.nodes[node].schema.clone();
        let lists: Vec<usize> = (0..sources.len()).filter(|i| is_list(sources[*i])).collect();
        let fields = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(i, f)| -> Result<Field> {
                if !lists.contains(&i) {
                    return Ok(f.as_ref().clone());
                }
                match f.data_type() {
                    DataType::List(item) => Ok(item.as_ref().clone().with_name(f.name()).with_nullable(true)),
                    other => Err(Error::internal(format!("unnesting of {other}"))),
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let kept = |c: usize| (!lists.contains(&c)).then_some(c);
        let mut facts = self.facts(node).project(kept);
        facts.unique_keys.clear();
        let old = &self.extras[node];
        let extra = Extra {
            partition: old.partition.as_ref().and_then(|p| p.iter().map(|c| kept(*c)).collect()),
            complete: Vec::new(),
        };
        let node = self.add(Op::FlatMap { lists }, vec![node], unique_schema(fields), facts, extra);
        self.finish(node, &needed, &unnest.schema, request)
    }

    /// INTERSECT ALL and EXCEPT ALL: the join on numbered copies as counts of rows.
    pub(super) fn multiset(&mut self, join: &Join, request: Request) -> Result<NodeId> {
        let keep = if join.join_type == JoinType::LeftSemi { Keep::Least } else { Keep::Excess };
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        for (l, r) in &join.on {
            if !is_copy(l) {
                lefts.push(l.clone());
                rights.push(r.clone());
            }
        }
        let left = self.copies(&join.left, &lefts)?;
        let right = self.copies(&join.right, &rights)?;
        let schema = self.nodes[left].schema.clone();
        let mut facts = Facts {
            unbounded_state: self.facts(left).unbounded_state.clone(),
            unique_keys: self.facts(left).unique_keys.clone(),
            ..Facts::default()
        };
        facts.unbounded_state.extend(self.facts(right).unbounded_state.clone());
        let node = self.counted(left, right, keep, schema, facts);
        // Which logical columns the keys are.
        let own = &join.schema;
        let place = |e: &Expr| match e {
            Expr::Column(c) => own.maybe_index_of_column(c),
            _ => None,
        };
        let columns: Option<Vec<usize>> = lefts.iter().map(place).collect();
        let columns = columns.ok_or_else(|| Error::internal("a set operation over expressions"))?;
        let copy = Column::new_unqualified(COPY_NUMBERS[0]);
        let asked = own.maybe_index_of_column(&copy);
        for e in request.exprs.iter().chain(&request.predicates) {
            if super::columns_of(e, own)?.iter().any(|c| Some(*c) == asked) {
                return Err(Error::internal("the number of a copy was asked for"));
            }
        }
        self.finish(node, &columns, own, request)
    }

    /// The rows below the numbering of copies, with the columns that are compared.
    fn copies(&mut self, plan: &LogicalPlan, keys: &[Expr]) -> Result<NodeId> {
        let (input, keys) = below_numbers(plan, keys.to_vec())?;
        let schema = input.schema();
        let mut request = Request::columns(schema, &[]);
        for k in keys {
            let Expr::Column(c) = &k else { return Err(Error::internal("a set operation over expressions")) };
            let i = schema.index_of_column(c)?;
            request.exprs.push(column_of(schema, i));
            request.fields.push(schema.field(i).clone());
        }
        self.request(input, request)
    }

    /// A [`Op::Counted`] over nodes with the same columns.
    pub(super) fn counted(
        &mut self,
        left: NodeId,
        right: NodeId,
        keep: Keep,
        schema: arrow::datatypes::SchemaRef,
        facts: Facts,
    ) -> NodeId {
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let own = self.extras[left].partition.clone();
        let together = own.is_some() && own == self.extras[right].partition;
        let (left, right) = if together {
            (left, right)
        } else {
            (self.exchange(left, all.clone()), self.exchange(right, all))
        };
        let extra = Extra { partition: self.extras[left].partition.clone(), complete: Vec::new() };
        self.add(Op::Counted { keep }, vec![left, right], schema, facts, extra)
    }
}

/// Whether a key of a join is the number of a copy.
pub(super) fn is_copy(e: &Expr) -> bool {
    matches!(e, Expr::Column(c) if COPY_NUMBERS.contains(&c.name.as_str()))
}

/// The plan that numbers were given to, and the keys as its columns.
fn below_numbers(plan: &LogicalPlan, keys: Vec<Expr>) -> Result<(&LogicalPlan, Vec<Expr>)> {
    let through = |keys: Vec<Expr>, schema: &Arc<DFSchema>, exprs: &[Expr]| -> Result<Vec<Expr>> {
        keys.iter().map(|k| super::substitute(k, schema, exprs)).collect()
    };
    match plan {
        LogicalPlan::Window(w) => Ok((&w.input, keys)),
        LogicalPlan::Projection(p) => {
            let exprs: Vec<Expr> = p.expr.iter().map(super::strip).collect();
            below_numbers(&p.input, through(keys, &p.schema, &exprs)?)
        }
        LogicalPlan::SubqueryAlias(a) => {
            let inner = a.input.schema();
            let columns: Vec<Expr> = (0..inner.fields().len()).map(|i| column_of(inner, i)).collect();
            below_numbers(&a.input, through(keys, &a.schema, &columns)?)
        }
        _ => Err(Error::unsupported("this set operation is not supported in a materialized view")),
    }
}
