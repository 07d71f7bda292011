//! Joins: which conditions are keys, which belong to one side, which remain; and how long a side must be kept.
//!
//! All conditions of an inner join and of the filters above it form one pool. A condition on one side moves
//! below the join, an equality between the sides becomes a key, the rest is the residual condition.
//!
//! Outer, semi and anti joins are made of inner joins with distinct keys, whose result is taken away from a side.
//!
//! Boundary: everything but the equalities of an outer, semi or anti join must concern one side only.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, Operator, when};

use super::expression::{ExprList, cast_to, column_of, columns_of, compile, substitute, substitute_some};
use super::{Extra, Lowering, Request, column_named, is_micros, position_of, temporal, unique_schema};
use crate::error::{Error, Result};
use crate::plan::facts::{Facts, interval_micros};
use crate::plan::{JoinBounds, NodeId, Op};

/// One input of a join while it is taken apart.
struct Side<'a> {
    plan: &'a LogicalPlan,
    predicates: Vec<Expr>,
    keys: Vec<Expr>,
}

impl<'a> Side<'a> {
    fn new(plan: &'a LogicalPlan) -> Self {
        Side { plan, predicates: vec![], keys: vec![] }
    }

    fn schema(&self) -> &DFSchema {
        self.plan.schema()
    }

    fn width(&self) -> usize {
        self.plan.schema().fields().len()
    }
}

/// A lowered input: the node, which logical columns its first columns are, and its key columns.
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
            JoinType::LeftMark | JoinType::RightMark => {
                Err(Error::unsupported("a subquery inside OR or NOT is not supported in a materialized view"))
            }
        }
    }

    fn inner_join(&mut self, join: &Join, request: Request) -> Result<NodeId> {
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
                    Some((l, r)) => {
                        let l = to_side(&l, &join.schema, left.schema(), 0)?;
                        let r = to_side(&r, &join.schema, right.schema(), width)?;
                        add_key(&mut left, &mut right, l, r)?;
                    }
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

    /// The keys of a join's two sides, where `kept` is the first.
    fn keyed_sides<'a>(
        join: &Join,
        kept: &'a LogicalPlan,
        other: &'a LogicalPlan,
        kept_is_left: bool,
    ) -> Result<(Side<'a>, Side<'a>)> {
        let (mut a, mut b) = (Side::new(kept), Side::new(other));
        for (l, r) in &join.on {
            let (x, y) = if kept_is_left { (l, r) } else { (r, l) };
            add_key(&mut a, &mut b, x.clone(), y.clone())?;
        }
        settle_null_keys(join, &mut a, &mut b)?;
        if a.keys.is_empty() {
            return Err(Error::unsupported(
                "this join is supported in a materialized view only with equality between the two sides",
            ));
        }
        Ok((a, b))
    }

    /// `kept` rows that have a partner in `other`: an inner join with the distinct keys of `other`.
    fn semi_join(
        &mut self,
        join: &Join,
        kept: &LogicalPlan,
        other: &LogicalPlan,
        kept_is_left: bool,
        request: Request,
    ) -> Result<NodeId> {
        let (mut a, mut b) = Self::keyed_sides(join, kept, other, kept_is_left)?;
        push_one_sided(join, &mut a, &mut b, kept_is_left, true)?;
        let schema = kept.schema().clone();
        let mut request = request.below(plan_schema(join, &schema), &columns_of_schema(&schema))?;
        let (temporal, plain) = request.predicates.into_iter().partition(temporal::has_now);
        a.predicates.extend::<Vec<_>>(plain);
        request.predicates = temporal;
        let needed = request.needed(&schema)?;
        let l = self.side(a, &needed)?;
        // side() without columns gives the key expressions, each once.
        let mut r = self.side(b, &[])?;
        r.node = self.distinct_rows(r.node)?;
        let width = schema.fields().len();
        let node = self.join_nodes(l, r, width, &schema, vec![], &needed)?;
        self.finish(node, &needed, &schema, request)
    }

    /// `kept` rows without a partner in `other`: all of them less those of the semi join.
    fn anti_join(
        &mut self,
        join: &Join,
        kept: &LogicalPlan,
        other: &LogicalPlan,
        kept_is_left: bool,
        request: Request,
    ) -> Result<NodeId> {
        let (mut a, mut b) = Self::keyed_sides(join, kept, other, kept_is_left)?;
        push_one_sided(join, &mut a, &mut b, kept_is_left, false)?;
        let nullable = |s: &Side<'_>| s.keys.iter().any(|k| k.nullable(s.schema()).unwrap_or(true));
        if join.null_aware && (nullable(&a) || nullable(&b)) {
            return Err(Error::unsupported(
                "NOT IN of values that can be NULL is not supported in a materialized view",
            )
            .with_hint("Use NOT EXISTS."));
        }
        let schema = kept.schema().clone();
        let request = request.below(plan_schema(join, &schema), &columns_of_schema(&schema))?;
        let needed = request.needed(&schema)?;
        let mut l = self.side(a, &needed)?;
        l.node = self.exchange_exactly(l.node, &l.keys);
        let r = self.side(b, &[])?;
        let node = self.unmatched(&l, r.node, &r.keys)?;
        self.finish_first(node, &needed, &schema, request)
    }

    /// The rows of `kept` whose keys are not among the `keys` columns of `other`, with all columns of `kept`.
    fn unmatched(&mut self, kept: &Lowered, other: NodeId, keys: &[usize]) -> Result<NodeId> {
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
        let matched = self.join_nodes(left, right, all.len(), &logical, vec![], &all)?;
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

    /// Like `finish`, for a node that has further columns after those of the request.
    fn finish_first(
        &mut self,
        node: NodeId,
        columns: &[usize],
        schema: &DFSchema,
        request: Request,
    ) -> Result<NodeId> {
        let own = self.nodes[node].schema.clone();
        let exprs = (0..columns.len().max(1)).map(|i| column_named(&own, i)).collect();
        let node = self.map(node, vec![], exprs, own.fields()[..columns.len().max(1)].to_vec())?;
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
        let (mut a, mut b) = Self::keyed_sides(join, &join.left, &join.right, true)?;
        let width = a.width();
        for predicate in join.filter.iter().flat_map(|f| split_conjunction(f)).filter(|p| !is_true(p)) {
            let columns = columns_of(predicate, &join.schema)?;
            if columns.is_empty() || temporal::has_now(predicate) {
                return Err(one_sided_only("outer joins"));
            }
            // A condition on the side that is not preserved decides which of its rows are there to match.
            if !right_stays && columns.iter().all(|c| *c >= width) {
                b.predicates.push(to_side(predicate, &join.schema, b.schema(), width)?);
            } else if !left_stays && columns.iter().all(|c| *c < width) {
                a.predicates.push(to_side(predicate, &join.schema, a.schema(), 0)?);
            } else {
                return Err(one_sided_only("outer joins"));
            }
        }
        let output = request.needed(&join.schema)?;
        let split = output.partition_point(|c| *c < width);
        let right_read: Vec<usize> = output[split..].iter().map(|c| c - width).collect();
        let (mut l, mut r) = (self.side(a, &output[..split])?, self.side(b, &right_read)?);
        l.node = self.exchange_exactly(l.node, &l.keys);
        r.node = self.exchange_exactly(r.node, &r.keys);
        let (left_keys, right_keys) = (l.keys.clone(), r.keys.clone());
        let covered =
            |f: &Facts, keys: &[usize]| f.unique_keys.iter().any(|k| k.iter().all(|c| keys.contains(c)));
        let one_partner = !right_stays && covered(self.facts(r.node), &right_keys);
        let one_partner_of_right = !left_stays && covered(self.facts(l.node), &left_keys);
        let (left_unique, right_unique) =
            (self.facts(l.node).unique_keys.clone(), self.facts(r.node).unique_keys.clone());
        let mut parts = Vec::new();
        let fields: Vec<_> = output.iter().map(|c| join.schema.field(*c).clone()).collect();
        let null = |c: usize| -> Result<Expr> {
            Ok(Expr::Literal(ScalarValue::try_from(join.schema.field(output[c]).data_type())?, None))
        };
        if left_stays {
            let rest = self.unmatched(&l, r.node, &right_keys)?;
            let own = self.nodes[rest].schema.clone();
            let exprs = (0..output.len())
                .map(|i| if i < split { Ok(column_named(&own, i)) } else { null(i) })
                .collect::<Result<_>>()?;
            parts.push(self.map(rest, vec![], exprs, fields.clone())?);
        }
        if right_stays {
            let rest = self.unmatched(&r, l.node, &left_keys)?;
            let own = self.nodes[rest].schema.clone();
            let exprs = (0..output.len())
                .map(|i| if i < split { null(i) } else { Ok(column_named(&own, i - split)) })
                .collect::<Result<_>>()?;
            parts.push(self.map(rest, vec![], exprs, fields)?);
        }
        parts.insert(0, self.join_nodes(l, r, width, &join.schema, vec![], &output)?);
        let node = self.union_nodes(parts);
        // With at most one partner each, a preserved row comes exactly once.
        if one_partner {
            for key in left_unique.into_iter().filter(|k| k.iter().all(|c| *c < split)) {
                self.nodes[node].facts.add_key(key);
            }
        }
        if one_partner_of_right {
            for key in right_unique.into_iter().filter(|k| k.iter().all(|c| *c < output.len() - split)) {
                self.nodes[node].facts.add_key(key.into_iter().map(|c| c + split).collect());
            }
        }
        self.finish(node, &output, &join.schema, request)
    }
}

/// All columns of a schema as expressions.
fn columns_of_schema(schema: &DFSchema) -> Vec<Expr> {
    (0..schema.fields().len()).map(|i| column_of(schema, i)).collect()
}

/// Moves the conditions of a semi or anti join to the sides they are about. One on the kept side decides which
/// rows can have a partner; an anti join would lose the others.
fn push_one_sided<'a>(
    join: &Join,
    kept: &mut Side<'a>,
    other: &mut Side<'a>,
    kept_is_left: bool,
    semi: bool,
) -> Result<()> {
    let width = join.left.schema().fields().len();
    for predicate in join.filter.iter().flat_map(|f| split_conjunction(f)).filter(|p| !is_true(p)) {
        let both = join.left.schema().join(join.right.schema())?;
        let columns = columns_of(predicate, &both)?;
        let on_left = columns.iter().all(|c| *c < width);
        let on_right = columns.iter().all(|c| *c >= width);
        let side = match on_left == kept_is_left {
            _ if on_left == on_right || temporal::has_now(predicate) => {
                return Err(one_sided_only("IN and EXISTS"));
            }
            true if !semi => return Err(one_sided_only("NOT IN and NOT EXISTS")),
            true => &mut *kept,
            false => &mut *other,
        };
        let moved = to_side(predicate, &both, side.schema(), if on_left { 0 } else { width })?;
        side.predicates.push(moved);
    }
    Ok(())
}

fn one_sided_only(what: &str) -> Error {
    Error::unsupported(format!(
        "{what} with a condition other than equality between the two sides are not supported in a materialized view"
    ))
}

/// The schema that conditions above a semi join refer to: the kept side's, as the join shows it.
fn plan_schema<'a>(join: &'a Join, kept: &'a Arc<DFSchema>) -> &'a DFSchema {
    if join.schema.fields().len() == kept.fields().len() { &join.schema } else { kept }
}

/// Adds a pair of key expressions of the same type.
fn add_key(left: &mut Side<'_>, right: &mut Side<'_>, l: Expr, r: Expr) -> Result<()> {
    let (lt, rt) = (l.get_type(left.schema())?, r.get_type(right.schema())?);
    let common = if lt == rt {
        lt.clone()
    } else {
        comparison_coercion(&lt, &rt).ok_or_else(|| {
            Error::new(
                crate::error::ErrorKind::DatatypeMismatch,
                format!("join condition cannot compare {lt} with {rt}"),
            )
        })?
    };
    let common = match common {
        DataType::Dictionary(_, value) => *value,
        other => other,
    };
    left.keys.push(cast_to(l, &lt, &common));
    right.keys.push(cast_to(r, &rt, &common));
    Ok(())
}

/// Where the join takes NULL for equal to NULL (INTERSECT, EXCEPT, IS NOT DISTINCT FROM), a key that can be NULL
/// becomes two that cannot: the value or a stand-in, and whether it is NULL.
fn settle_null_keys(join: &Join, left: &mut Side<'_>, right: &mut Side<'_>) -> Result<()> {
    if join.null_equality != NullEquality::NullEqualsNull {
        return Ok(());
    }
    let whole = |key: &Expr, schema: &DFSchema| -> Result<Expr> {
        let stand_in = Expr::Literal(ScalarValue::new_default(&key.get_type(schema)?)?, None);
        Ok(when(key.clone().is_null(), stand_in).otherwise(key.clone())?)
    };
    for i in 0..left.keys.len() {
        let (l, r) = (left.keys[i].clone(), right.keys[i].clone());
        if l.nullable(left.schema())? && r.nullable(right.schema())? {
            left.keys[i] = whole(&l, left.schema())?;
            right.keys[i] = whole(&r, right.schema())?;
            left.keys.push(l.is_null());
            right.keys.push(r.is_null());
        }
    }
    Ok(())
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

/// A condition over the join's columns as a condition over one side's, whose columns start at `base`.
fn to_side(expr: &Expr, joined: &DFSchema, side: &DFSchema, base: usize) -> Result<Expr> {
    let columns: Vec<Expr> = (0..joined.fields().len())
        .map(|i| column_of(side, i.saturating_sub(base).min(side.fields().len().saturating_sub(1))))
        .collect();
    substitute(expr, joined, &columns)
}

/// The two sides of an equality between the inputs.
fn equality(predicate: &Expr, schema: &DFSchema, width: usize) -> Result<Option<(Expr, Expr)>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = predicate else { return Ok(None) };
    if temporal::has_now(predicate) {
        return Ok(None);
    }
    let (a, b) = (columns_of(left, schema)?, columns_of(right, schema)?);
    if a.is_empty() || b.is_empty() {
        return Ok(None);
    }
    let is_left = |c: &[usize]| c.iter().all(|c| *c < width);
    let is_right = |c: &[usize]| c.iter().all(|c| *c >= width);
    Ok(if is_left(&a) && is_right(&b) {
        Some((left.as_ref().clone(), right.as_ref().clone()))
    } else if is_right(&a) && is_left(&b) {
        Some((right.as_ref().clone(), left.as_ref().clone()))
    } else {
        None
    })
}

/// The facts `small <= great + by µs` between two columns that a condition implies.
fn order_between(expr: &Expr, schema: &DFSchema) -> Vec<(usize, usize, i64)> {
    // a <= b
    let le = |a: &Expr, b: &Expr| -> Option<(usize, usize, i64)> {
        let ((a, plus), (b, by)) = (moved_column(a, schema)?, moved_column(b, schema)?);
        Some((a, b, by.checked_sub(plus)?))
    };
    match expr {
        Expr::Between(b) if !b.negated => {
            le(&b.low, &b.expr).into_iter().chain(le(&b.expr, &b.high)).collect()
        }
        Expr::BinaryExpr(b) => match b.op {
            Operator::Lt | Operator::LtEq => le(&b.left, &b.right).into_iter().collect(),
            Operator::Gt | Operator::GtEq => le(&b.right, &b.left).into_iter().collect(),
            Operator::Eq => le(&b.left, &b.right).into_iter().chain(le(&b.right, &b.left)).collect(),
            _ => vec![],
        },
        _ => vec![],
    }
}

/// `column + by µs`.
fn moved_column(expr: &Expr, schema: &DFSchema) -> Option<(usize, i64)> {
    match expr {
        Expr::Column(_) => Some((position_of(expr, schema)?, 0)),
        Expr::BinaryExpr(b) if b.op == Operator::Plus => {
            let (c, by) = moved_column(&b.left, schema)?;
            Some((c, by.checked_add(interval_micros(&b.right)?)?))
        }
        Expr::BinaryExpr(b) if b.op == Operator::Minus => {
            let (c, by) = moved_column(&b.left, schema)?;
            Some((c, by.checked_sub(interval_micros(&b.right)?)?))
        }
        _ => None,
    }
}
