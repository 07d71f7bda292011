//! Subqueries and LATERAL become joins, for views and ad hoc queries alike.
//!
//! Inner queries first. What a subquery asks of the query around it (its outer references) decides its form:
//! - none: it is joined as it is (EXISTS and scalar subqueries as one row);
//! - references in conditions and outputs only ([`peel`](Flattener::peel)): those conditions become the join's;
//! - anything else: the *domain*, the distinct values of what is referred to, is joined below the operators of the
//!   subquery ([`Flattener::depend`]), which so compute their result for every value at once; that result is joined
//!   back on the values. Where equalities bind all references, the subquery's own columns stand for the domain.
//!
//! Values of three-valued predicates (IN, row IN, ANY, ALL) are put together of marks and counts. Every column made
//! here has a name that no other has.
//!
//! Boundary: typed plans in, typed plans without subqueries out; what cannot be expressed is refused.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, NullEquality, ScalarValue, TableReference};
use datafusion::logical_expr::expr::{InSubquery, Sort as SortExpr};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, Filter, Join, JoinConstraint, JoinType, LogicalPlan, Operator,
    Projection, Sort, Window, cast, lit, when,
};

use super::depend::Domain;
use super::provider::aggregate;
use crate::error::{Error, ErrorKind};
use crate::sql::functions::{DfResult, df_error, sets};

/// The same plan without subqueries.
pub(crate) fn flatten(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    if !has_subqueries(&plan)? {
        return Ok(plan);
    }
    let plan = Flattener { next: 0 }.plan(plan)?;
    if let Some(column) = first_outer(&plan)? {
        return Err(df_error(Error::new(
            ErrorKind::Grouping,
            format!("subquery uses ungrouped column \"{}\" from outer query", column.flat_name()),
        )));
    }
    Ok(plan)
}

fn has_subqueries(plan: &LogicalPlan) -> DfResult<bool> {
    plan.exists(|node| {
        if matches!(node, LogicalPlan::Subquery(_)) {
            return Ok(true);
        }
        node_has_subquery(node)
    })
}

fn node_has_subquery(node: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    node.apply_expressions(|e| {
        found |= has_subquery(e)?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether an expression has a subquery in it.
pub(super) fn has_subquery(expr: &Expr) -> DfResult<bool> {
    expr.exists(|e| {
        Ok(matches!(
            e,
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)
        ))
    })
}

/// A column of a query around that is left over.
fn first_outer(plan: &LogicalPlan) -> DfResult<Option<Column>> {
    let mut found = None;
    plan.apply(|node| {
        node.apply_expressions(|e| {
            e.apply(|e| {
                if let Expr::OuterReferenceColumn(_, c) = e {
                    found.get_or_insert(c.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// Whether a plan refers to columns of `outer`.
pub(super) fn refers(plan: &LogicalPlan, outer: &DFSchema) -> DfResult<bool> {
    let mut found = false;
    plan.apply(|node| {
        node.apply_expressions(|e| {
            found |= expr_refers(e, outer)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether an expression refers to columns of `outer` as those of a query around.
pub(super) fn expr_refers(expr: &Expr, outer: &DFSchema) -> DfResult<bool> {
    expr.exists(|e| {
        Ok(matches!(e, Expr::OuterReferenceColumn(_, c) if outer.maybe_index_of_column(c).is_some()))
    })
}

/// Columns of the query around as columns of the plan they are joined with.
pub(super) fn inward(expr: Expr, outer: &DFSchema) -> DfResult<Expr> {
    Ok(expr
        .transform_up(|e| match e {
            Expr::OuterReferenceColumn(_, c) if outer.maybe_index_of_column(&c).is_some() => {
                Ok(Transformed::yes(Expr::Column(c)))
            }
            e => Ok(Transformed::no(e)),
        })?
        .data)
}

/// Columns of `schema` as references from within a subquery.
pub(super) fn outward(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    Ok(expr
        .transform_up(|e| match e {
            Expr::Column(c) => match schema.maybe_index_of_column(&c) {
                Some(i) => {
                    let (qualifier, field) = schema.qualified_field(i);
                    let column = Column::from((qualifier, field));
                    Ok(Transformed::yes(Expr::OuterReferenceColumn(field.clone(), column)))
                }
                None => Ok(Transformed::no(Expr::Column(c))),
            },
            e => Ok(Transformed::no(e)),
        })?
        .data)
}

/// `expr` with column `i` of `schema` replaced by `by[i]`.
pub(super) fn substitute(expr: Expr, schema: &DFSchema, by: &[Expr]) -> DfResult<Expr> {
    Ok(expr
        .transform_up(|e| match e {
            Expr::Column(c) => Ok(Transformed::yes(by[schema.index_of_column(&c)?].clone())),
            e => Ok(Transformed::no(e)),
        })?
        .data)
}

/// An expression without the names around it.
pub(super) fn bare(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(a) => bare(*a.expr),
        e => e,
    }
}

/// All columns of a plan.
pub(super) fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

pub(super) fn project(exprs: Vec<Expr>, input: LogicalPlan) -> DfResult<LogicalPlan> {
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
}

pub(super) fn filtered(predicate: Option<Expr>, input: LogicalPlan) -> DfResult<LogicalPlan> {
    Ok(match predicate {
        Some(p) => LogicalPlan::Filter(Filter::try_new(p, Arc::new(input))?),
        None => input,
    })
}

pub(super) fn joined(
    left: LogicalPlan,
    right: LogicalPlan,
    on: Option<Expr>,
    kind: JoinType,
) -> DfResult<LogicalPlan> {
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        vec![],
        on,
        kind,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?))
}

/// The whole condition of a join as one expression.
pub(super) fn condition_of(j: &Join) -> Option<Expr> {
    let pairs = j.on.iter().map(|(l, r)| match j.null_equality {
        NullEquality::NullEqualsNothing => l.clone().eq(r.clone()),
        NullEquality::NullEqualsNull => same(l.clone(), r.clone()),
    });
    let rest = j.filter.iter().flat_map(|f| split_conjunction_owned(f.clone()));
    conjunction(pairs.chain(rest).filter(|e| !is_true(e)))
}

fn is_true(e: &Expr) -> bool {
    matches!(e, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// `l IS NOT DISTINCT FROM r`.
pub(super) fn same(l: Expr, r: Expr) -> Expr {
    Expr::BinaryExpr(datafusion::logical_expr::BinaryExpr::new(
        Box::new(l),
        Operator::IsNotDistinctFrom,
        Box::new(r),
    ))
}

pub(super) fn refuse(what: &str) -> datafusion::error::DataFusionError {
    df_error(Error::unsupported(what.to_string()))
}

/// The value of an integer constant.
pub(super) fn integer(e: &Expr) -> Option<i64> {
    match e {
        Expr::Literal(v, _) => match v.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(n)) => n,
            _ => None,
        },
        Expr::Cast(c) => integer(&c.expr),
        Expr::Alias(a) => integer(&a.expr),
        _ => None,
    }
}

/// A call of an aggregate function.
fn aggregated(name: &str, arg: Expr) -> DfResult<Expr> {
    let udf = aggregate(name).ok_or_else(|| df_error(Error::internal(format!("no aggregate {name}"))))?;
    Ok(udf.call(vec![arg]))
}

/// Whether a plan gives exactly one row whatever there is.
fn exactly_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => exactly_one_row(&p.input),
        LogicalPlan::SubqueryAlias(a) => exactly_one_row(&a.input),
        LogicalPlan::Sort(s) => s.fetch != Some(0) && exactly_one_row(&s.input),
        LogicalPlan::Aggregate(a) => a.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(e) => e.produce_one_row,
        _ => false,
    }
}

/// Whether a plan is expressions over nothing.
fn reads_nothing(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => reads_nothing(&p.input),
        LogicalPlan::EmptyRelation(e) => e.produce_one_row,
        _ => false,
    }
}

/// Whether a plan never gives two rows (for each value of what it refers to).
fn at_most_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => at_most_one_row(&p.input),
        LogicalPlan::SubqueryAlias(a) => at_most_one_row(&a.input),
        LogicalPlan::Filter(f) => at_most_one_row(&f.input),
        LogicalPlan::Sort(s) => at_most_one_row(&s.input),
        LogicalPlan::Limit(l) => {
            l.fetch.as_deref().and_then(integer).is_some_and(|n| n <= 1) || at_most_one_row(&l.input)
        }
        other => exactly_one_row(other),
    }
}

/// A subquery taken apart: a plan without references to the query around, the conditions and outputs with them.
pub(super) struct Peeled {
    pub(super) core: LogicalPlan,
    pub(super) conditions: Vec<Expr>,
    pub(super) outputs: Vec<Expr>,
}

/// The state of one statement's flattening.
pub(super) struct Flattener {
    next: usize,
}

impl Flattener {
    /// A name that nothing else has.
    pub(super) fn fresh(&mut self) -> String {
        self.next += 1;
        format!("__q{}", self.next)
    }

    pub(super) fn plan(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        super::with_stack(|| self.plan_inner(plan))
    }

    fn plan_inner(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        let plan = plan.map_children(|child| Ok(Transformed::yes(self.plan(child)?)))?.data;
        match plan {
            LogicalPlan::Subquery(s) => Ok(Arc::unwrap_or_clone(s.subquery)),
            LogicalPlan::Join(j) => self.join(j),
            plan if !node_has_subquery(&plan)? => Ok(plan),
            LogicalPlan::Filter(f) => self.filter(f),
            LogicalPlan::Projection(p) => {
                let mut input = Arc::unwrap_or_clone(p.input);
                let exprs = self.named(p.expr, &mut input)?;
                project(exprs, input)
            }
            LogicalPlan::Aggregate(a) => {
                let mut input = Arc::unwrap_or_clone(a.input);
                let groups = self.named(a.group_expr, &mut input)?;
                let calls = self.named(a.aggr_expr, &mut input)?;
                Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, calls)?))
            }
            LogicalPlan::Window(w) => {
                let mut input = Arc::unwrap_or_clone(w.input);
                let kept = w.schema.columns().into_iter().map(Expr::Column).collect();
                let calls = self.named(w.window_expr, &mut input)?;
                project(kept, LogicalPlan::Window(Window::try_new(calls, Arc::new(input))?))
            }
            LogicalPlan::Sort(s) => {
                let mut input = Arc::unwrap_or_clone(s.input);
                let kept = columns(&input);
                let mut keys = Vec::with_capacity(s.expr.len());
                for k in s.expr {
                    keys.push(SortExpr { expr: self.expr(k.expr, &mut input)?, ..k });
                }
                project(kept, LogicalPlan::Sort(Sort { expr: keys, input: Arc::new(input), fetch: s.fetch }))
            }
            LogicalPlan::Values(v) => {
                let plan = super::depend::values_as_union(v)?;
                self.plan(plan)
            }
            LogicalPlan::Limit(_) => Err(refuse("a subquery in LIMIT or OFFSET is not supported")),
            _ => Err(refuse("a subquery in this place is not supported")),
        }
    }

    /// The expressions of a node over `input`, each under the name it had.
    fn named(&mut self, exprs: Vec<Expr>, input: &mut LogicalPlan) -> DfResult<Vec<Expr>> {
        let mut out = Vec::with_capacity(exprs.len());
        for e in exprs {
            if !has_subquery(&e)? {
                out.push(e);
                continue;
            }
            let name = e.qualified_name();
            let e = self.expr(e, input)?;
            out.push(if e.qualified_name() == name { e } else { e.alias_qualified(name.0, name.1) });
        }
        Ok(out)
    }

    /// The expression with its subqueries as columns, which `input` is given.
    fn expr(&mut self, expr: Expr, input: &mut LogicalPlan) -> DfResult<Expr> {
        if !has_subquery(&expr)? {
            return Ok(expr);
        }
        let done = |e| Ok(Transformed::new(e, true, TreeNodeRecursion::Jump));
        let expr = expr.transform_down(|e| match e {
            Expr::Exists(x) => {
                let plan = self.plan(Arc::unwrap_or_clone(x.subquery.subquery))?;
                let mark = self.mark(input, plan)?;
                done(if x.negated { Expr::Not(Box::new(mark)) } else { mark })
            }
            Expr::InSubquery(x) => done(self.in_value(x, input)?),
            Expr::ScalarSubquery(s) => {
                let plan = self.plan(Arc::unwrap_or_clone(s.subquery))?;
                done(self.scalar(input, plan)?)
            }
            Expr::SetComparison(_) => Err(refuse("this comparison with a subquery is not supported")),
            e => Ok(Transformed::no(e)),
        })?;
        Ok(expr.data)
    }

    /// WHERE: what need not be known as a value becomes a semi or anti join.
    pub(super) fn filter(&mut self, f: Filter) -> DfResult<LogicalPlan> {
        let mut input = Arc::unwrap_or_clone(f.input);
        let kept = input.schema().columns();
        let mut plain = Vec::new();
        let mut asking = Vec::new();
        for c in split_conjunction_owned(f.predicate) {
            if has_subquery(&c)? { asking.push(c) } else { plain.push(c) }
        }
        input = filtered(conjunction(plain), input)?;
        let mut rest = Vec::new();
        for c in asking {
            match only_if_true(c) {
                Expr::Exists(x) => {
                    let plan = self.plan(Arc::unwrap_or_clone(x.subquery.subquery))?;
                    input = self.semi(input, plan, x.negated)?;
                }
                Expr::InSubquery(x) => {
                    let lhs = self.expr(*x.expr, &mut input)?;
                    let plan = self.plan(Arc::unwrap_or_clone(x.subquery.subquery))?;
                    let matching = matching(&lhs, plan.clone(), input.schema())?;
                    let exact = !lhs.nullable(input.schema())? && !plan.schema().field(0).is_nullable();
                    input = self.semi(input, matching, x.negated)?;
                    if x.negated && !exact {
                        let [all, known] = self.counts(&mut input, plan)?;
                        rest.push(all.clone().eq(lit(0i64)).or(lhs.is_not_null().and(all.eq(known))));
                    }
                }
                c => rest.push(self.expr(c, &mut input)?),
            }
        }
        input = filtered(conjunction(rest), input)?;
        if input.schema().columns() == kept {
            return Ok(input);
        }
        project(kept.into_iter().map(Expr::Column).collect(), input)
    }

    /// `x IN (subquery)` as a value of three.
    fn in_value(&mut self, x: InSubquery, input: &mut LogicalPlan) -> DfResult<Expr> {
        let lhs = self.expr(*x.expr, input)?;
        let plan = self.plan(Arc::unwrap_or_clone(x.subquery.subquery))?;
        let exact = !lhs.nullable(input.schema())? && !plan.schema().field(0).is_nullable();
        let matching = matching(&lhs, plan.clone(), input.schema())?;
        let found = self.mark(input, matching)?;
        let value = if exact {
            found
        } else {
            let [all, known] = self.counts(input, plan)?;
            let unknown = Expr::Literal(ScalarValue::Boolean(None), None);
            when(found, lit(true))
                .when(all.clone().eq(lit(0i64)), lit(false))
                .when(lhs.is_null().or(all.not_eq(known)), unknown)
                .otherwise(lit(false))?
        };
        Ok(if x.negated { Expr::Not(Box::new(value)) } else { value })
    }

    /// How many rows a subquery of one column has, and how many that are not NULL.
    fn counts(&mut self, input: &mut LogicalPlan, plan: LogicalPlan) -> DfResult<[Expr; 2]> {
        let value = Expr::Column(plan.schema().columns().remove(0));
        let calls = vec![
            aggregated("count", lit(1i64))?.alias(self.fresh()),
            aggregated("count", value)?.alias(self.fresh()),
        ];
        let counted = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), vec![], calls)?);
        let found = self.attach(input, counted)?;
        <[Expr; 2]>::try_from(found).map_err(|_| df_error(Error::internal("two counts became others")))
    }

    /// A plan under names of its own.
    pub(super) fn isolate(&mut self, plan: LogicalPlan) -> DfResult<(LogicalPlan, Vec<Expr>)> {
        let name = self.fresh();
        let relation = TableReference::bare(name.clone());
        let exprs = columns(&plan)
            .into_iter()
            .enumerate()
            .map(|(i, c)| c.alias_qualified(Some(relation.clone()), format!("{name}_{i}")))
            .collect();
        let plan = project(exprs, plan)?;
        let outputs = columns(&plan);
        Ok((plan, outputs))
    }

    /// What the rows of `plan` are to be joined with `input` on; `None` when it refers to nothing there.
    fn tie(&mut self, input: &LogicalPlan, plan: &LogicalPlan) -> DfResult<Option<(LogicalPlan, Expr)>> {
        let outer = input.schema().clone();
        if !refers(plan, &outer)? {
            return Ok(None);
        }
        if let Some(p) = self.peel(plan, &outer, true)? {
            let on = p.conditions.into_iter().map(|c| inward(c, &outer)).collect::<DfResult<Vec<_>>>()?;
            return Ok(Some((p.core, conjunction(on).unwrap_or_else(|| lit(true)))));
        }
        let domain = Domain::of(plan, input)?;
        let found = self.depend_full(plan.clone(), &domain)?;
        let (right, outputs) = self.isolate_dependent(found, &domain)?;
        let on = domain.condition(&outputs.keys)?;
        Ok(Some((right, on)))
    }

    /// The rows of `input` for which `plan` has rows, or none.
    fn semi(&mut self, mut input: LogicalPlan, plan: LogicalPlan, negated: bool) -> DfResult<LogicalPlan> {
        match self.tie(&input, &plan)? {
            Some((right, on)) => {
                joined(input, right, Some(on), if negated { JoinType::LeftAnti } else { JoinType::LeftSemi })
            }
            None => {
                let kept = columns(&input);
                let there = self.is_there(&mut input, plan)?;
                let wanted = if negated { Expr::Not(Box::new(there)) } else { there };
                project(kept, filtered(Some(wanted), input)?)
            }
        }
    }

    /// Whether a plan that refers to nothing has rows.
    fn is_there(&mut self, input: &mut LogicalPlan, plan: LogicalPlan) -> DfResult<Expr> {
        let call = aggregated("count", lit(1i64))?.alias(self.fresh());
        let counted = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), vec![], vec![call])?);
        let count = self.attach(input, counted)?.remove(0);
        Ok(count.gt(lit(0i64)))
    }

    /// Whether `plan` has rows for a row of `input`, as a column.
    fn mark(&mut self, input: &mut LogicalPlan, plan: LogicalPlan) -> DfResult<Expr> {
        let Some((right, on)) = self.tie(input, &plan)? else { return self.is_there(input, plan) };
        // The mark is named after the one relation of its right side.
        let old = right.schema().clone();
        let (right, outputs) = self.isolate(right)?;
        let on = on
            .transform_up(|e| match e {
                Expr::Column(c) => Ok(match old.maybe_index_of_column(&c) {
                    Some(i) => Transformed::yes(outputs[i].clone()),
                    None => Transformed::no(Expr::Column(c)),
                }),
                e => Ok(Transformed::no(e)),
            })?
            .data;
        let relation = right.schema().qualified_field(0).0.cloned();
        let name = self.fresh();
        let mut kept = columns(input);
        kept.push(Expr::Column(Column::new(relation, "mark")).alias(&name));
        let left = std::mem::take(input);
        *input = project(kept, joined(left, right, Some(on), JoinType::LeftMark)?)?;
        Ok(Expr::Column(Column::new_unqualified(name)))
    }

    /// The value of a scalar subquery.
    fn scalar(&mut self, input: &mut LogicalPlan, plan: LogicalPlan) -> DfResult<Expr> {
        let correlated = refers(&plan, input.schema())?;
        if correlated && reads_nothing(&plan) {
            // Only an expression: `(SELECT t.a + 1)`.
            let outer = input.schema().clone();
            if let Some(p) = self.peel(&plan, &outer, false)?
                && p.conditions.is_empty()
                && let [value] = p.outputs.as_slice()
            {
                return inward(value.clone(), &outer);
            }
        }
        if exactly_one_row(&plan) || correlated && at_most_one_row(&plan) {
            return Ok(self.attach(input, plan)?.remove(0));
        }
        let single = at_most_one_row(&plan);
        let field = plan.schema().field(0).clone();
        let value = Expr::Column(plan.schema().columns().remove(0));
        let flag = *field.data_type() == DataType::Boolean;
        let value = if flag { cast(value, DataType::Int32) } else { value };
        let calls = vec![
            aggregated("min", value)?.alias(self.fresh()),
            aggregated("count", lit(1i64))?.alias(self.fresh()),
        ];
        let one = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), vec![], calls)?);
        let mut found = self.attach_missing(input, one)?.into_iter();
        let (Some(value), Some(count)) = (found.next(), found.next()) else {
            return Err(df_error(Error::internal("a scalar subquery lost its value")));
        };
        let value = if flag { cast(value, DataType::Boolean) } else { value };
        Ok(if single { keeping(value, &field) } else { sets::single_row(value, count, &field) })
    }

    /// Joins the one row that `plan` gives for each row of `input`; gives its columns.
    fn attach(&mut self, input: &mut LogicalPlan, plan: LogicalPlan) -> DfResult<Vec<Expr>> {
        self.attach_with(input, plan, true)
    }

    /// The same, NULL where the row is one over nothing.
    fn attach_missing(&mut self, input: &mut LogicalPlan, plan: LogicalPlan) -> DfResult<Vec<Expr>> {
        self.attach_with(input, plan, false)
    }

    fn attach_with(
        &mut self,
        input: &mut LogicalPlan,
        plan: LogicalPlan,
        defaults: bool,
    ) -> DfResult<Vec<Expr>> {
        let outer = input.schema().clone();
        let left = std::mem::take(input);
        if !refers(&plan, &outer)? {
            let (right, outputs) = self.isolate(plan)?;
            *input = joined(left, right, None, JoinType::Inner)?;
            return Ok(outputs);
        }
        let domain = Domain::of(&plan, &left)?;
        let mut found = self.depend(plan, &domain)?;
        let default = found.default.take().filter(|_| defaults);
        let (right, outputs) = self.isolate_dependent(found, &domain)?;
        let on = domain.condition(&outputs.keys)?;
        *input = joined(left, right, Some(on), JoinType::Left)?;
        let Some(default) = default else { return Ok(outputs.columns) };
        let mut values = Vec::with_capacity(default.len());
        for (column, value) in outputs.columns.into_iter().zip(default) {
            values.push(if is_null(&value) {
                column
            } else {
                let field = column.to_field(input.schema())?.1;
                let value = inward(value, &outer)?;
                keeping(when(outputs.present.clone().is_null(), value).otherwise(column)?, &field)
            });
        }
        Ok(values)
    }

    /// Takes a subquery apart, if nothing but conditions and outputs refers to `outer`. `exists`: only whether
    /// there are rows matters.
    pub(super) fn peel(
        &mut self,
        plan: &LogicalPlan,
        outer: &DFSchemaRef,
        exists: bool,
    ) -> DfResult<Option<Peeled>> {
        if !refers(plan, outer)? {
            let (core, outputs) = self.isolate(plan.clone())?;
            return Ok(Some(Peeled { core, conditions: vec![], outputs }));
        }
        match plan {
            LogicalPlan::Projection(p) => {
                let Some(mut inner) = self.peel(&p.input, outer, exists)? else { return Ok(None) };
                let schema = p.input.schema();
                let outputs = p.expr.iter().map(|e| substitute(bare(e.clone()), schema, &inner.outputs));
                inner.outputs = outputs.collect::<DfResult<_>>()?;
                Ok(Some(inner))
            }
            LogicalPlan::SubqueryAlias(a) => self.peel(&a.input, outer, exists),
            LogicalPlan::Sort(s) if s.fetch.is_none() => self.peel(&s.input, outer, exists),
            LogicalPlan::Distinct(Distinct::All(input)) if exists => self.peel(input, outer, exists),
            LogicalPlan::Limit(l)
                if exists
                    && l.skip.is_none()
                    && l.fetch.as_deref().and_then(integer).is_some_and(|n| n > 0) =>
            {
                self.peel(&l.input, outer, exists)
            }
            LogicalPlan::Filter(f) => {
                // Below a condition it matters which rows a LIMIT leaves.
                let Some(mut inner) = self.peel(&f.input, outer, false)? else { return Ok(None) };
                for c in split_conjunction_owned(f.predicate.clone()) {
                    inner.conditions.push(substitute(c, f.input.schema(), &inner.outputs)?);
                }
                Ok(Some(inner))
            }
            LogicalPlan::Join(j) => self.peel_join(j, outer),
            _ => Ok(None),
        }
    }

    fn peel_join(&mut self, j: &Join, outer: &DFSchemaRef) -> DfResult<Option<Peeled>> {
        let condition = condition_of(j);
        let own = match &condition {
            Some(c) => !expr_refers(c, outer)?,
            None => true,
        };
        let inner = j.join_type == JoinType::Inner;
        let kept = matches!(j.join_type, JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti);
        if !(inner || kept && own && !refers(&j.right, outer)?) {
            return Ok(None);
        }
        let Some(left) = self.peel(&j.left, outer, false)? else { return Ok(None) };
        let Some(right) = self.peel(&j.right, outer, false)? else { return Ok(None) };
        let both = j.left.schema().join(j.right.schema())?;
        let shown = matches!(j.join_type, JoinType::Inner | JoinType::Left);
        let all: Vec<Expr> = left.outputs.iter().chain(&right.outputs).cloned().collect();
        let mut conditions: Vec<Expr> = left.conditions.into_iter().chain(right.conditions).collect();
        let mut on = None;
        if let Some(c) = condition {
            let c = substitute(c, &both, &all)?;
            // A condition that is about outputs with references is no longer the core's own.
            if !expr_refers(&c, outer)? {
                on = Some(c);
            } else if inner {
                conditions.extend(split_conjunction_owned(c));
            } else {
                return Ok(None);
            }
        }
        let core = joined(left.core, right.core, on, j.join_type)?;
        Ok(Some(Peeled { core, conditions, outputs: if shown { all } else { left.outputs } }))
    }
}

/// An expression with what the field says of its type beyond Arrow's.
pub(super) fn keeping(e: Expr, field: &arrow::datatypes::Field) -> Expr {
    if field.metadata().is_empty() { e } else { sets::item(e, &field.clone().with_nullable(true)) }
}

pub(super) fn is_null(e: &Expr) -> bool {
    match e {
        Expr::Literal(v, _) => v.is_null(),
        Expr::Alias(a) => is_null(&a.expr),
        Expr::Cast(c) => is_null(&c.expr),
        _ => false,
    }
}

/// The rows of a one-column subquery that are equal to `lhs`, an expression of the query around.
fn matching(lhs: &Expr, plan: LogicalPlan, outer: &DFSchema) -> DfResult<LogicalPlan> {
    let value = Expr::Column(plan.schema().columns().remove(0));
    let (l, r) = (lhs.get_type(outer)?, value.get_type(plan.schema())?);
    let lhs = outward(lhs.clone(), outer)?;
    let on = if l == r { lhs.eq(value) } else { lhs.eq(cast(value, l)) };
    filtered(Some(on), plan)
}

/// A condition in WHERE, where NULL is as good as false: `NOT` is taken inside, and of
/// `CASE WHEN a THEN true WHEN b THEN NULL ELSE false END` only `a` is left.
fn only_if_true(c: Expr) -> Expr {
    match c {
        Expr::Not(e) => match *e {
            Expr::Exists(mut x) => {
                x.negated = !x.negated;
                Expr::Exists(x)
            }
            Expr::InSubquery(mut x) => {
                x.negated = !x.negated;
                Expr::InSubquery(x)
            }
            e => Expr::Not(Box::new(e)),
        },
        Expr::Case(case) => {
            let no =
                |e: &Expr| is_null(e) || matches!(e, Expr::Literal(ScalarValue::Boolean(Some(false)), _));
            let rest = case.when_then_expr.iter().skip(1).all(|(_, then)| no(then));
            let first = case.when_then_expr.first().is_some_and(|(_, then)| is_true(then));
            if case.expr.is_none() && first && rest && case.else_expr.as_deref().is_none_or(no) {
                let mut branches = case.when_then_expr;
                return only_if_true(*branches.swap_remove(0).0);
            }
            Expr::Case(case)
        }
        c => c,
    }
}
