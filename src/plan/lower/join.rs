//! Joins: which conditions are keys, which belong to one side, which remain; and how long a side must be kept.
//!
//! All conditions of an inner join and of the filters above it form one pool. A condition on one side moves
//! below the join, an equality between the sides becomes a key, the rest is the residual condition.
//!
//! Outer, semi and anti joins whose condition is equalities are made of inner joins with distinct keys, whose result is
//! taken away from a side. With any other condition the inner join says which rows have partners, and those rows are
//! counted ([`Op::Counted`]).
//!
//! Boundary: `now()` in the condition of an outer, semi or anti join is refused.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, JoinType, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};

use super::expression::{ExprList, column_of, columns_of, compile, substitute_some};
use super::join_keys::{add_key, add_pair, equality, order_between, settle_null_keys, to_side};
use super::sets::is_copy;
use super::{Extra, Lowering, Request, column_named, is_micros, temporal, unique_schema};
use crate::error::{Error, Result};
use crate::plan::facts::Facts;
use crate::plan::{JoinBounds, NodeId, Op};
use crate::zset::keep::Keep;

/// One input of a join while it is taken apart.
pub(super) struct Side<'a> {
    plan: &'a LogicalPlan,
    predicates: Vec<Expr>,
    pub(super) keys: Vec<Expr>,
}

impl<'a> Side<'a> {
    fn new(plan: &'a LogicalPlan) -> Self {
        Side { plan, predicates: vec![], keys: vec![] }
    }

    pub(super) fn schema(&self) -> &DFSchema {
        self.plan.schema()
    }

    fn width(&self) -> usize {
        self.plan.schema().fields().len()
    }
}

/// A lowered input: the node, which logical columns its first columns are, and its key columns.
#[derive(Debug, Clone)]
struct Lowered {
    node: NodeId,
    columns: Vec<usize>,
    keys: Vec<usize>,
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &Join, request: Request) -> Result<NodeId> {
        match join.join_type {
            JoinType::Inner => self.inner_join(join, request),
            // A scalar subquery: its one row is always there.
            JoinType::Left
                if join.on.is_empty()
                    && join.filter.as_ref().is_none_or(is_true)
                    && exactly_one_row(&join.right) =>
            {
                self.inner_join(join, request)
            }
            JoinType::LeftSemi => self.semi_join(join, &join.left, &join.right, true, request),
            JoinType::RightSemi => self.semi_join(join, &join.right, &join.left, false, request),
            JoinType::Left => self.outer_join(join, true, false, request),
            JoinType::Right => self.outer_join(join, false, true, request),
            JoinType::Full => self.outer_join(join, true, true, request),
            JoinType::LeftAnti => self.anti_join(join, &join.left, &join.right, true, request),
            JoinType::RightAnti => self.anti_join(join, &join.right, &join.left, false, request),
            JoinType::LeftMark => self.mark_join(join, request),
            JoinType::RightMark => Err(Error::internal("a mark join with its sides changed")),
        }
    }

    fn inner_join(&mut self, join: &Join, request: Request) -> Result<NodeId> {
        if join.on.is_empty() && join.filter.is_none() {
            // One row without columns beside other rows leaves them as they are.
            let nothing = |p: &LogicalPlan| p.schema().fields().is_empty() && exactly_one_row(p);
            if nothing(&join.left) {
                let below = request.below(&join.schema, &columns_of_schema(join.right.schema()))?;
                return self.request(&join.right, below);
            }
            if nothing(&join.right) {
                let below = request.below(&join.schema, &columns_of_schema(join.left.schema()))?;
                return self.request(&join.left, below);
            }
        }
        let (mut left, mut right) = (Side::new(&join.left), Side::new(&join.right));
        let width = left.width();
        for (l, r) in &join.on {
            add_key(&mut left, &mut right, l.clone(), r.clone())?;
        }
        settle_null_keys(join, &mut left, &mut right)?;
        let filter = join.filter.iter().flat_map(|f| split_conjunction(f)).filter(|p| !is_true(p)).cloned();
        let mut residual = Vec::new();
        for predicate in filter.chain(request.predicates) {
            let columns = columns_of(&predicate, &join.schema)?;
            let on_left = columns.iter().any(|c| *c < width);
            let on_right = columns.iter().any(|c| *c >= width);
            match (on_left, on_right) {
                (true, false) => left.predicates.push(to_side(&predicate, &join.schema, left.schema(), 0)?),
                (false, true) => {
                    right.predicates.push(to_side(&predicate, &join.schema, right.schema(), width)?)
                }
                _ => match equality(&predicate, &join.schema, width)? {
                    Some(pair) => add_pair(pair, &join.schema, width, &mut left, &mut right)?,
                    None => residual.push(predicate),
                },
            }
        }
        let (above, residual): (Vec<_>, Vec<_>) = residual.into_iter().partition(temporal::has_now);
        let request = Request { predicates: above, ..request };
        // A join may have an output without columns of one side, but not without any.
        let output = request.needed(&join.schema)?;
        let mut read = output.clone();
        for r in &residual {
            read.extend(columns_of(r, &join.schema)?);
        }
        read.sort_unstable();
        read.dedup();
        let split = read.partition_point(|c| *c < width);
        let right_read: Vec<usize> = read[split..].iter().map(|c| c - width).collect();
        let (l, r) = (self.side(left, &read[..split])?, self.side(right, &right_read)?);
        let node = self.join_nodes(l, r, width, &join.schema, residual, &output)?;
        self.finish(node, &output, &join.schema, request)
    }

    /// Lowers one input with the columns that are read and its keys.
    fn side(&mut self, side: Side<'_>, read: &[usize]) -> Result<Lowered> {
        let schema = side.plan.schema();
        let mut list = ExprList::default();
        for c in read {
            list.add(column_of(schema, *c), schema)?;
        }
        let mut keys = Vec::with_capacity(side.keys.len());
        for k in side.keys {
            keys.push(list.add(k, schema)?);
        }
        if list.exprs.is_empty() {
            let any = Request::columns(schema, &[]).needed(schema)?;
            for c in any {
                list.add(column_of(schema, c), schema)?;
            }
        }
        let below = Request { exprs: list.exprs, fields: list.fields, predicates: side.predicates };
        let node = self.request(side.plan, below)?;
        Ok(Lowered { node, columns: read.to_vec(), keys })
    }

    fn join_nodes(
        &mut self,
        mut left: Lowered,
        mut right: Lowered,
        width: usize,
        schema: &DFSchema,
        residual: Vec<Expr>,
        output: &[usize],
    ) -> Result<NodeId> {
        let mut notes = Vec::new();
        if left.keys.is_empty() {
            // Each left row stays where it is found again, each right row goes everywhere.
            if self.extras[left.node].partition.is_none() && !self.facts(left.node).append_only {
                left.node = self.exchange_on_row(left.node);
            }
            let (s, mut f) = (self.nodes[right.node].schema.clone(), self.facts(right.node).clone());
            if !f.at_most_one_row() && !self.facts(left.node).at_most_one_row() {
                notes.push(
                    "A join without equality condition compares every row with every other.".to_string(),
                );
            }
            f.unbounded_state = self.facts(right.node).unbounded_state.clone();
            let complete = self.extras[right.node].complete.clone();
            right.node = self.add(Op::Broadcast, vec![right.node], s, f, Extra { partition: None, complete });
        } else {
            left.node = self.exchange_exactly(left.node, &left.keys);
            right.node = self.exchange_exactly(right.node, &right.keys);
        }
        let (ls, rs) = (self.nodes[left.node].schema.clone(), self.nodes[right.node].schema.clone());
        let split = ls.fields().len();
        let both: Vec<Field> = ls.fields().iter().chain(rs.fields()).map(|f| f.as_ref().clone()).collect();
        let both = unique_schema(both);
        let names: Vec<Expr> = (0..both.fields().len()).map(|i| column_named(&both, i)).collect();
        // Position in (left columns, right columns) of each logical column that was read.
        let mut place: Vec<Option<usize>> = vec![None; schema.fields().len()];
        for (i, c) in left.columns.iter().enumerate() {
            place[*c] = Some(i);
        }
        for (i, c) in right.columns.iter().enumerate() {
            place[width + *c] = Some(split + i);
        }
        let replacements: Vec<Option<&Expr>> = place.iter().map(|p| p.map(|p| &names[p])).collect();
        let df = DFSchema::try_from(both.clone())?;
        let residual =
            residual.iter().map(|e| substitute_some(e, schema, &replacements)).collect::<Result<Vec<_>>>()?;
        let bounds = self.bounds(&left, &right, &residual, &df);
        let output: Vec<usize> = output
            .iter()
            .map(|c| place[*c].ok_or_else(|| Error::internal("a join output column was not read")))
            .collect::<Result<_>>()?;
        let (mut facts, extra) = self.join_facts(&left, &right, &bounds, &output);
        if facts.append_only
            && (bounds.left_expiry.is_none() || bounds.right_expiry.is_none())
            && notes.is_empty()
        {
            notes.push("A join keeps the rows of both inputs.".into());
        }
        facts.unbounded_state.append(&mut notes);
        let residual = match residual.into_iter().reduce(Expr::and) {
            None => None,
            Some(e) => Some(compile(&e, &df)?),
        };
        let out = unique_schema(output.iter().map(|i| both.field(*i).clone()).collect());
        let bounds = (bounds.left_expiry.is_some() || bounds.right_expiry.is_some()).then_some(bounds);
        let op = Op::Join { left_keys: left.keys, right_keys: right.keys, residual, output, bounds };
        Ok(self.add(op, vec![left.node, right.node], out, facts, extra))
    }

    /// Rows of a join input lie where the hash of exactly these columns, in this order, says.
    fn exchange_exactly(&mut self, node: NodeId, keys: &[usize]) -> NodeId {
        if self.extras[node].partition.as_deref() == Some(keys) {
            node
        } else {
            self.exchange(node, keys.to_vec())
        }
    }

    /// When rows can be let go: from equal keys that both have a watermark, and from conditions between two
    /// times that have one.
    fn bounds(&self, left: &Lowered, right: &Lowered, residual: &[Expr], df: &DFSchema) -> JoinBounds {
        let (lf, rf) = (self.facts(left.node), self.facts(right.node));
        let mut bounds = JoinBounds { left_expiry: None, right_expiry: None };
        if !lf.append_only || !rf.append_only {
            return bounds;
        }
        let time = |n: NodeId, c: usize| is_micros(self.nodes[n].schema.field(c).data_type());
        for (l, r) in left.keys.iter().zip(&right.keys) {
            if time(left.node, *l) && time(right.node, *r) {
                if let Some(delay) = rf.delay_of(*r) {
                    bounds.left_expiry.get_or_insert((*l, delay));
                }
                if let Some(delay) = lf.delay_of(*l) {
                    bounds.right_expiry.get_or_insert((*r, delay));
                }
            }
        }
        let split = self.nodes[left.node].schema.fields().len();
        for (small, great, by) in residual.iter().flat_map(|e| order_between(e, df)) {
            // small <= great + by
            if small < split && great >= split {
                if let Some(delay) = lf.delay_of(small)
                    && time(right.node, great - split)
                {
                    bounds.right_expiry.get_or_insert((great - split, by.saturating_add(delay)));
                }
            } else if small >= split
                && great < split
                && let Some(delay) = rf.delay_of(small - split)
                && time(left.node, great)
            {
                bounds.left_expiry.get_or_insert((great, by.saturating_add(delay)));
            }
        }
        bounds
    }

    fn join_facts(
        &self,
        left: &Lowered,
        right: &Lowered,
        bounds: &JoinBounds,
        output: &[usize],
    ) -> (Facts, Extra) {
        let (lf, rf) = (self.facts(left.node), self.facts(right.node));
        let split = self.nodes[left.node].schema.fields().len();
        let at = |c: usize| output.iter().position(|o| *o == c);
        let mut facts = Facts { append_only: lf.append_only && rf.append_only, ..Facts::default() };
        facts.unbounded_state = lf.unbounded_state.iter().chain(&rf.unbounded_state).cloned().collect();
        let covered =
            |keys: &[usize], f: &Facts| f.unique_keys.iter().any(|k| k.iter().all(|c| keys.contains(c)));
        let mut keys: Vec<Vec<usize>> = Vec::new();
        let shifted = |k: &Vec<usize>| k.iter().map(|c| c + split).collect::<Vec<_>>();
        if covered(&right.keys, rf) {
            keys.extend(lf.unique_keys.iter().cloned());
        }
        if covered(&left.keys, lf) {
            keys.extend(rf.unique_keys.iter().map(shifted));
        }
        for l in &lf.unique_keys {
            keys.extend(rf.unique_keys.iter().map(|r| l.iter().copied().chain(shifted(r)).collect()));
        }
        // A key column stands for its partner.
        let stands = |c: usize| {
            at(c).or_else(|| {
                let (own, other, base, other_base) = if c < split {
                    (&left.keys, &right.keys, 0, split)
                } else {
                    (&right.keys, &left.keys, split, 0)
                };
                own.iter().position(|k| k + base == c).and_then(|i| at(other[i] + other_base))
            })
        };
        for key in keys {
            if let Some(key) = key.iter().map(|c| stands(*c)).collect() {
                facts.add_key(key);
            }
        }
        // A row that is let go once the watermark exceeds its time + offset is not seen in later results.
        for (expiry, base) in [(bounds.left_expiry, 0), (bounds.right_expiry, split)] {
            let side = if base == 0 { lf } else { rf };
            if let Some((column, offset)) = expiry
                && let Some(delay) = side.delay_of(column)
                && let Some(out) = at(column + base)
            {
                facts.watermarks.push((out, offset.max(delay)));
            }
        }
        let mapped =
            |keys: &[usize], base: usize| keys.iter().map(|k| at(k + base)).collect::<Option<Vec<_>>>();
        let partition = if left.keys.is_empty() {
            self.extras[left.node].partition.as_ref().and_then(|p| mapped(p, 0))
        } else {
            mapped(&left.keys, 0).or_else(|| mapped(&right.keys, split))
        };
        // Complete values stay so only where both sides' rows of the value come at once.
        let mut complete = Vec::new();
        for (l, r) in left.keys.iter().zip(&right.keys) {
            if self.extras[left.node].complete.contains(l) && self.extras[right.node].complete.contains(r) {
                complete.extend(at(*l));
                complete.extend(at(r + split));
            }
        }
        (facts, Extra { partition, complete })
    }

    /// Takes the condition of a join apart and lowers its sides; `kept` is the first.
    fn pair(&mut self, asked: Asked<'_>) -> Result<Pair> {
        let Asked { join, kept, other, kept_is_left, stays, kept_output, other_output, predicates } = asked;
        let (mut a, mut b) = (Side::new(kept), Side::new(other));
        a.predicates = predicates;
        for (l, r) in &join.on {
            let (x, y) = if kept_is_left { (l, r) } else { (r, l) };
            add_key(&mut a, &mut b, x.clone(), y.clone())?;
        }
        settle_null_keys(join, &mut a, &mut b)?;
        let both = kept.schema().join(other.schema())?;
        let width = a.width();
        let mut residual = Vec::new();
        for predicate in join.filter.iter().flat_map(|f| split_conjunction(f)).filter(|p| !is_true(p)) {
            if temporal::has_now(predicate) {
                return Err(Error::unsupported(
                    "now() in the condition of an outer join or a subquery is not supported in a materialized view",
                )
                .with_hint("Filter the relation before it is joined."));
            }
            let columns = columns_of(predicate, &both)?;
            let on_kept = columns.iter().any(|c| *c < width);
            let on_other = columns.iter().any(|c| *c >= width);
            // A condition on a side that is not preserved decides which of its rows are there to match.
            match (on_kept, on_other) {
                (true, false) if !stays[0] => a.predicates.push(to_side(predicate, &both, a.schema(), 0)?),
                (false, true) if !stays[1] => {
                    b.predicates.push(to_side(predicate, &both, b.schema(), width)?)
                }
                _ => match equality(predicate, &both, width)? {
                    Some(pair) => add_pair(pair, &both, width, &mut a, &mut b)?,
                    None => residual.push(predicate.clone()),
                },
            }
        }
        let exact = residual.is_empty() && !a.keys.is_empty();
        let (mut kept_read, mut other_read) = (kept_output.to_vec(), other_output.to_vec());
        if !exact {
            // Rows are told apart by what is read of them; that must decide whom they match.
            for r in &residual {
                for c in columns_of(r, &both)? {
                    if c < width { kept_read.push(c) } else { other_read.push(c - width) }
                }
            }
            for k in &a.keys {
                kept_read.extend(columns_of(k, a.schema())?);
            }
            for k in &b.keys {
                other_read.extend(columns_of(k, b.schema())?);
            }
        }
        for (read, side) in [(&mut kept_read, &a), (&mut other_read, &b)] {
            read.sort_unstable();
            read.dedup();
            if read.is_empty() && (side.keys.is_empty() || !exact) {
                read.extend(Request::columns(side.schema(), &[]).needed(side.schema())?);
            }
        }
        let (mut l, mut r) = (self.side(a, &kept_read)?, self.side(b, &other_read)?);
        if exact {
            l.node = self.exchange_exactly(l.node, &l.keys);
            r.node = self.exchange_exactly(r.node, &r.keys);
        }
        Ok(Pair { l, r, residual, both, width, exact })
    }

    /// The rows of the first side that have a partner: its columns that were read come first.
    fn matched(&mut self, pair: &Pair) -> Result<NodeId> {
        let Pair { l, r, residual, both, width, exact } = pair;
        if *exact {
            return self.with_key_in(l, r.node, &r.keys);
        }
        let found = self.join_nodes(l.clone(), r.clone(), *width, both, residual.clone(), &l.columns)?;
        self.counted_rows(l, found, Keep::IfThere)
    }

    /// The rows of the first side that have no partner, as [`Self::matched`] gives them.
    fn without_partner(&mut self, pair: &Pair) -> Result<NodeId> {
        let Pair { l, r, residual, both, width, exact } = pair;
        if *exact {
            return self.unmatched(l, r.node, &r.keys);
        }
        let found = self.join_nodes(l.clone(), r.clone(), *width, both, residual.clone(), &l.columns)?;
        self.counted_rows(l, found, Keep::IfNotThere)
    }

    /// The rows of a side for which a join found equal rows, or none.
    fn counted_rows(&mut self, side: &Lowered, found: NodeId, keep: Keep) -> Result<NodeId> {
        let rows = self.first_columns(side.node, side.columns.len())?;
        let schema = self.nodes[rows].schema.clone();
        let own = self.facts(rows).clone();
        let mut facts = Facts {
            unique_keys: own.unique_keys.clone(),
            append_only: keep == Keep::IfThere && own.append_only && self.facts(found).append_only,
            ..Facts::default()
        };
        facts.unbounded_state = self.facts(found).unbounded_state.clone();
        Ok(self.counted(rows, found, keep, schema, facts))
    }

    /// Only the first columns of a node.
    fn first_columns(&mut self, node: NodeId, count: usize) -> Result<NodeId> {
        let schema = self.nodes[node].schema.clone();
        if schema.fields().len() == count {
            return Ok(node);
        }
        if schema.fields().len() < count {
            return Err(Error::unsupported("a semi join of rows without columns is not supported")
                .with_hint("Select a column of the relation whose rows are counted."));
        }
        let exprs = (0..count).map(|i| column_named(&schema, i)).collect();
        self.map(node, vec![], exprs, schema.fields()[..count].to_vec())
    }

    /// `kept` rows that have a partner in `other`.
    fn semi_join(
        &mut self,
        join: &Join,
        kept: &LogicalPlan,
        other: &LogicalPlan,
        kept_is_left: bool,
        request: Request,
    ) -> Result<NodeId> {
        if join.on.iter().any(|(l, _)| is_copy(l)) {
            return self.multiset(join, request);
        }
        let schema = kept.schema().clone();
        let mut request = request.below(plan_schema(join, &schema), &columns_of_schema(&schema))?;
        let (temporal, plain): (Vec<_>, Vec<_>) = request.predicates.into_iter().partition(temporal::has_now);
        request.predicates = temporal;
        let needed = request.needed(&schema)?;
        let pair = self.pair(Asked {
            join,
            kept,
            other,
            kept_is_left,
            stays: [false, false],
            kept_output: &needed,
            other_output: &[],
            predicates: plain,
        })?;
        let node = self.matched(&pair)?;
        self.finish_first(node, &pair.l.columns, &schema, request)
    }

    /// `kept` rows without a partner in `other`.
    fn anti_join(
        &mut self,
        join: &Join,
        kept: &LogicalPlan,
        other: &LogicalPlan,
        kept_is_left: bool,
        request: Request,
    ) -> Result<NodeId> {
        if join.on.iter().any(|(l, _)| is_copy(l)) {
            return self.multiset(join, request);
        }
        if join.null_aware {
            return Err(Error::internal("NOT IN that was not taken apart"));
        }
        let schema = kept.schema().clone();
        let request = request.below(plan_schema(join, &schema), &columns_of_schema(&schema))?;
        let needed = request.needed(&schema)?;
        let pair = self.pair(Asked {
            join,
            kept,
            other,
            kept_is_left,
            stays: [true, false],
            kept_output: &needed,
            other_output: &[],
            predicates: vec![],
        })?;
        let node = self.without_partner(&pair)?;
        self.finish_first(node, &pair.l.columns, &schema, request)
    }

    /// All rows of the left side, and whether each has a partner.
    fn mark_join(&mut self, join: &Join, request: Request) -> Result<NodeId> {
        let width = join.left.schema().fields().len();
        let mut needed = request.needed(&join.schema)?;
        needed.retain(|c| *c < width);
        let pair = self.pair(Asked {
            join,
            kept: &join.left,
            other: &join.right,
            kept_is_left: true,
            stays: [true, false],
            kept_output: &needed,
            other_output: &[],
            predicates: vec![],
        })?;
        let count = pair.l.columns.len();
        let rows = self.first_columns(pair.l.node, count)?;
        let matched = self.matched(&pair)?;
        let matched = self.first_columns(matched, count)?;
        let keys = self.facts(rows).unique_keys.clone();
        let mark = join.schema.field(width).clone();
        let mut marked = |node: NodeId, value: bool| -> Result<NodeId> {
            let schema = self.nodes[node].schema.clone();
            let mut exprs: Vec<Expr> = (0..count).map(|i| column_named(&schema, i)).collect();
            exprs.push(Expr::Literal(ScalarValue::Boolean(Some(value)), None));
            let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
            fields.push(mark.clone());
            self.map(node, vec![], exprs, fields)
        };
        let (yes, no, taken) = (marked(matched, true)?, marked(rows, false)?, marked(matched, false)?);
        let (schema, extra) = (self.nodes[taken].schema.clone(), self.extras[taken].clone());
        let facts = Facts { unbounded_state: self.facts(taken).unbounded_state.clone(), ..Facts::default() };
        let taken = self.add(Op::Negate, vec![taken], schema, facts, extra);
        let node = self.union_nodes(vec![yes, no, taken]);
        keys.into_iter().for_each(|k| self.nodes[node].facts.add_key(k));
        let mut columns = pair.l.columns.clone();
        columns.push(width);
        self.finish(node, &columns, &join.schema, request)
    }

    /// The rows of `kept` whose keys are among the `keys` columns of `other`, with all columns of `kept`.
    fn with_key_in(&mut self, kept: &Lowered, other: NodeId, keys: &[usize]) -> Result<NodeId> {
        let schema = self.nodes[other].schema.clone();
        // Only the keys, in their order.
        let exprs = keys.iter().map(|k| column_named(&schema, *k)).collect();
        let fields = keys.iter().map(|k| schema.fields()[*k].clone()).collect();
        let partners = self.map(other, vec![], exprs, fields)?;
        let partners = self.distinct_rows(partners)?;
        let all: Vec<usize> = (0..self.nodes[kept.node].schema.fields().len()).collect();
        let logical = DFSchema::try_from(self.nodes[kept.node].schema.clone())?;
        let left = Lowered { node: kept.node, columns: all.clone(), keys: kept.keys.clone() };
        let right = Lowered { node: partners, columns: vec![], keys: (0..keys.len()).collect() };
        self.join_nodes(left, right, all.len(), &logical, vec![], &all)
    }

    /// The rows of `kept` whose keys are not among the `keys` columns of `other`, with all columns of `kept`.
    fn unmatched(&mut self, kept: &Lowered, other: NodeId, keys: &[usize]) -> Result<NodeId> {
        let matched = self.with_key_in(kept, other, keys)?;
        let (schema, extra) = (self.nodes[matched].schema.clone(), self.extras[matched].clone());
        let facts =
            Facts { unbounded_state: self.facts(matched).unbounded_state.clone(), ..Facts::default() };
        let taken = self.add(Op::Negate, vec![matched], schema, facts, extra);
        let keys = self.facts(kept.node).unique_keys.clone();
        let node = self.union_nodes(vec![kept.node, taken]);
        // What is left of a set without duplicates has none.
        keys.into_iter().for_each(|k| self.nodes[node].facts.add_key(k));
        Ok(node)
    }

    /// Like `finish`, for a node that may have further columns after those of the request.
    fn finish_first(
        &mut self,
        node: NodeId,
        columns: &[usize],
        schema: &DFSchema,
        request: Request,
    ) -> Result<NodeId> {
        let node = self.first_columns(node, columns.len().max(1))?;
        self.finish(node, columns, schema, request)
    }

    /// The inner join, and the unmatched rows of the preserved sides with NULLs for the other's columns.
    fn outer_join(
        &mut self,
        join: &Join,
        left_stays: bool,
        right_stays: bool,
        request: Request,
    ) -> Result<NodeId> {
        let width = join.left.schema().fields().len();
        let output = request.needed(&join.schema)?;
        let split = output.partition_point(|c| *c < width);
        let right_output: Vec<usize> = output[split..].iter().map(|c| c - width).collect();
        let pair = self.pair(Asked {
            join,
            kept: &join.left,
            other: &join.right,
            kept_is_left: true,
            stays: [left_stays, right_stays],
            kept_output: &output[..split],
            other_output: &right_output,
            predicates: vec![],
        })?;
        let (l, r) = (pair.l.clone(), pair.r.clone());
        let covered =
            |f: &Facts, keys: &[usize]| f.unique_keys.iter().any(|k| k.iter().all(|c| keys.contains(c)));
        let one_partner = !right_stays && covered(self.facts(r.node), &r.keys);
        let one_partner_of_right = !left_stays && covered(self.facts(l.node), &l.keys);
        let unique = [self.facts(l.node).unique_keys.clone(), self.facts(r.node).unique_keys.clone()];
        // What is shown, by position among all columns that were read.
        let mut columns: Vec<usize> = l.columns.clone();
        columns.extend(r.columns.iter().map(|c| c + width));
        let found =
            self.join_nodes(l.clone(), r.clone(), width, &pair.both, pair.residual.clone(), &columns)?;
        let mut parts = vec![found];
        let sides =
            [(left_stays, &l, &r, 0, l.columns.len()), (right_stays, &r, &l, l.columns.len(), columns.len())];
        for (stays, own, other, from, to) in sides {
            if !stays {
                continue;
            }
            let rest = if pair.exact {
                self.unmatched(own, other.node, &other.keys)?
            } else {
                let schema = self.nodes[found].schema.clone();
                let exprs = (from..to).map(|i| column_named(&schema, i)).collect();
                let matches = self.map(found, vec![], exprs, schema.fields()[from..to].to_vec())?;
                self.counted_rows(own, matches, Keep::IfNotThere)?
            };
            let schema = self.nodes[rest].schema.clone();
            let exprs = (0..columns.len())
                .map(|i| -> Result<Expr> {
                    Ok(if (from..to).contains(&i) {
                        column_named(&schema, i - from)
                    } else {
                        let t = join.schema.field(columns[i]).data_type();
                        Expr::Literal(ScalarValue::try_from(t)?, None)
                    })
                })
                .collect::<Result<_>>()?;
            let fields = columns.iter().map(|c| join.schema.field(*c).clone()).collect();
            parts.push(self.map(rest, vec![], exprs, fields)?);
        }
        let node = self.union_nodes(parts);
        // With at most one partner each, a preserved row comes exactly once.
        let (left_width, right_width) = (l.columns.len(), r.columns.len());
        if one_partner {
            for key in unique[0].iter().filter(|k| k.iter().all(|c| *c < left_width)) {
                self.nodes[node].facts.add_key(key.clone());
            }
        }
        if one_partner_of_right {
            for key in unique[1].iter().filter(|k| k.iter().all(|c| *c < right_width)) {
                self.nodes[node].facts.add_key(key.iter().map(|c| c + left_width).collect());
            }
        }
        self.finish(node, &columns, &join.schema, request)
    }
}

/// A join to be taken apart by [`Lowering::pair`].
struct Asked<'a> {
    join: &'a Join,
    kept: &'a LogicalPlan,
    other: &'a LogicalPlan,
    kept_is_left: bool,
    /// Whether rows of the first and of the second side are shown without a partner.
    stays: [bool; 2],
    kept_output: &'a [usize],
    other_output: &'a [usize],
    /// Conditions on the first side.
    predicates: Vec<Expr>,
}

/// A join taken apart.
struct Pair {
    l: Lowered,
    r: Lowered,
    /// What the keys do not say, over `both`.
    residual: Vec<Expr>,
    both: DFSchema,
    width: usize,
    /// The keys say all.
    exact: bool,
}

/// All columns of a schema as expressions.
fn columns_of_schema(schema: &DFSchema) -> Vec<Expr> {
    (0..schema.fields().len()).map(|i| column_of(schema, i)).collect()
}

/// The schema that conditions above a semi join refer to: the kept side's, as the join shows it.
fn plan_schema<'a>(join: &'a Join, kept: &'a Arc<DFSchema>) -> &'a DFSchema {
    if join.schema.fields().len() == kept.fields().len() { &join.schema } else { kept }
}

/// Whether a plan gives exactly one row whatever its inputs are.
fn exactly_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => exactly_one_row(&p.input),
        LogicalPlan::SubqueryAlias(a) => exactly_one_row(&a.input),
        LogicalPlan::Aggregate(a) => a.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(e) => e.produce_one_row,
        _ => false,
    }
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}
