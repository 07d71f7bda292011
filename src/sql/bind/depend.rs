//! The dependent join pushed down: a subquery evaluated for all values of what it refers to at once.
//!
//! The [`Domain`] is the set of those values. It is joined at the leaves; every operator on the way up carries it:
//! groupings and windows as further keys, LIMIT as a row number per value, joins as a further equality.
//!
//! Boundary: called by [`super::decorrelate`], inner subqueries are gone already.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue, TableReference};
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, EmptyRelation, Expr, ExprSchemable, Filter, Join, JoinType, Limit,
    LogicalPlan, Sort, Union, Unnest, Values, Window, lit, when,
};

use super::decorrelate::{
    Flattener, bare, columns, condition_of, expr_refers, filtered, integer, is_null, joined, keeping,
    project, refers, refuse, same, substitute,
};
use crate::error::Error;
use crate::sql::functions::{DfResult, df_error};

/// What a subquery refers to in the query around it, as the values it takes there.
pub(super) struct Domain {
    /// The plan around.
    outer: LogicalPlan,
    /// Columns of the plan around, as they are or cast to a wider type.
    atoms: Vec<(usize, Option<DataType>)>,
    /// Each value once; otherwise each row of the plan around.
    distinct: bool,
}

/// A plan that gives the rows of a subquery for every value of the domain.
pub(super) struct Dependent {
    /// Its columns have the names of the subquery's; the keys come with them.
    pub(super) plan: LogicalPlan,
    /// The value of the domain that a row belongs to.
    pub(super) keys: Vec<Expr>,
    /// Whether a key can be NULL.
    pub(super) nulls: Vec<bool>,
    /// The one row of a value that `plan` has no row for; without it there is none.
    pub(super) default: Option<Vec<Expr>>,
}

/// The columns of an isolated [`Dependent`].
pub(super) struct Outputs {
    pub(super) columns: Vec<Expr>,
    pub(super) keys: Vec<(Expr, bool)>,
    /// Not NULL in every row.
    pub(super) present: Expr,
}

impl Domain {
    /// The values of what `plan` refers to in `outer`.
    pub(super) fn of(plan: &LogicalPlan, outer: &LogicalPlan) -> DfResult<Domain> {
        let schema = outer.schema();
        let mut atoms = Vec::new();
        plan.apply(|node| {
            node.apply_expressions(|e| {
                e.apply(|e| {
                    let Some(atom) = atom(e, schema) else { return Ok(TreeNodeRecursion::Continue) };
                    if !atoms.contains(&atom) {
                        atoms.push(atom);
                    }
                    Ok(TreeNodeRecursion::Jump)
                })
            })
        })?;
        Ok(Domain { outer: outer.clone(), atoms, distinct: true })
    }

    /// All columns of all rows of `outer`.
    pub(super) fn whole(outer: &LogicalPlan) -> Domain {
        let atoms = (0..outer.schema().fields().len()).map(|i| (i, None)).collect();
        Domain { outer: outer.clone(), atoms, distinct: false }
    }

    fn schema(&self) -> &DFSchemaRef {
        self.outer.schema()
    }

    /// Atom `i` as an expression over the plan around.
    fn value(&self, i: usize) -> Expr {
        let (column, to) = &self.atoms[i];
        let column = Expr::Column(Column::from(self.schema().qualified_field(*column)));
        match to {
            None => column,
            Some(t) => datafusion::logical_expr::cast(column, t.clone()),
        }
    }

    /// The condition under which a row of the plan around and one with these keys belong together.
    pub(super) fn condition(&self, keys: &[(Expr, bool)]) -> DfResult<Expr> {
        let mut on = Vec::with_capacity(keys.len());
        for (i, (key, nulls)) in keys.iter().enumerate() {
            let value = self.value(i);
            let nulls = *nulls && value.nullable(self.schema())?;
            on.push(if nulls { same(value, key.clone()) } else { value.eq(key.clone()) });
        }
        Ok(conjunction(on).unwrap_or_else(|| lit(true)))
    }

    /// The expression with the keys in place of the references.
    fn keyed(&self, expr: Expr, keys: &[Expr]) -> DfResult<Expr> {
        let replaced = expr.transform_down(|e| {
            let found = atom(&e, self.schema());
            match found.and_then(|a| self.atoms.iter().position(|b| *b == a)) {
                Some(i) => Ok(Transformed::new(keys[i].clone(), true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(e)),
            }
        })?;
        Ok(replaced.data)
    }

    /// The same for a named output.
    fn keyed_output(&self, expr: Expr, keys: &[Expr]) -> DfResult<Expr> {
        if !expr_refers(&expr, self.schema())? {
            return Ok(expr);
        }
        let (relation, name) = expr.qualified_name();
        Ok(bare(self.keyed(expr, keys)?).alias_qualified(relation, name))
    }
}

/// What an expression refers to, if it is a reference or one cast to a type that holds all its values.
fn atom(e: &Expr, outer: &DFSchema) -> Option<(usize, Option<DataType>)> {
    match e {
        Expr::OuterReferenceColumn(_, c) => Some((outer.maybe_index_of_column(c)?, None)),
        Expr::Cast(c) => {
            let Expr::OuterReferenceColumn(field, column) = c.expr.as_ref() else { return None };
            let to = c.field.data_type();
            let wider = match (field.data_type(), to) {
                (DataType::Int16, DataType::Int32 | DataType::Int64)
                | (DataType::Int32, DataType::Int64 | DataType::Float64)
                | (DataType::Float32, DataType::Float64) => true,
                (DataType::Int16 | DataType::Int32 | DataType::Int64, DataType::Decimal128(p, s)) => {
                    i16::from(*p) - i16::from(*s) >= 19
                }
                (DataType::Decimal128(p, s), DataType::Decimal128(q, t)) => {
                    s <= t && i16::from(*p) - i16::from(*s) <= i16::from(*q) - i16::from(*t)
                }
                _ => false,
            };
            wider.then_some((outer.maybe_index_of_column(column)?, Some(to.clone())))
        }
        _ => None,
    }
}

/// Whether a plan gives for each row around only what it computes of that row: then the rows themselves can take
/// the way through it, and need not be distinct.
pub(super) fn is_row_wise(plan: &LogicalPlan, outer: &DFSchema) -> DfResult<bool> {
    if !refers(plan, outer)? {
        return Ok(true);
    }
    Ok(match plan {
        LogicalPlan::Projection(p) => is_row_wise(&p.input, outer)?,
        LogicalPlan::Filter(f) => is_row_wise(&f.input, outer)?,
        LogicalPlan::SubqueryAlias(a) => is_row_wise(&a.input, outer)?,
        LogicalPlan::Sort(s) => s.fetch.is_none() && is_row_wise(&s.input, outer)?,
        LogicalPlan::Unnest(u) => is_row_wise(&u.input, outer)?,
        LogicalPlan::Values(_) => true,
        LogicalPlan::Union(u) => {
            for input in &u.inputs {
                if !is_row_wise(input, outer)? {
                    return Ok(false);
                }
            }
            true
        }
        LogicalPlan::Join(j) if j.join_type == JoinType::Inner => {
            let both = refers(&j.left, outer)? && refers(&j.right, outer)?;
            !both && is_row_wise(&j.left, outer)? && is_row_wise(&j.right, outer)?
        }
        _ => false,
    })
}

/// VALUES as a union of rows, each of which may refer to a query around.
pub(super) fn values_as_union(v: Values) -> DfResult<LogicalPlan> {
    let one = LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: true,
        schema: Arc::new(DFSchema::empty()),
    });
    let mut rows = Vec::with_capacity(v.values.len());
    for row in v.values {
        let named = row.into_iter().zip(v.schema.iter());
        let exprs = named.map(|(e, (q, f))| e.alias_qualified(q.cloned(), f.name())).collect();
        rows.push(Arc::new(project(exprs, one.clone())?));
    }
    if rows.len() == 1 {
        return Ok(Arc::unwrap_or_clone(rows.swap_remove(0)));
    }
    Ok(LogicalPlan::Union(Union::try_new(rows)?))
}

impl Flattener {
    /// The domain itself.
    fn instance(&mut self, domain: &Domain) -> DfResult<Dependent> {
        let name = self.fresh();
        let relation = TableReference::bare(name.clone());
        let mut exprs = Vec::with_capacity(domain.atoms.len());
        let mut nulls = Vec::with_capacity(domain.atoms.len());
        for i in 0..domain.atoms.len() {
            let value = domain.value(i);
            nulls.push(value.nullable(domain.schema())?);
            exprs.push(value.alias_qualified(Some(relation.clone()), format!("{name}_{i}")));
        }
        let plan = project(exprs, domain.outer.clone())?;
        let keys = columns(&plan);
        let plan = if domain.distinct { LogicalPlan::Distinct(Distinct::All(Arc::new(plan))) } else { plan };
        Ok(Dependent { plan, keys, nulls, default: None })
    }

    /// A dependent plan under names of its own.
    pub(super) fn isolate_dependent(
        &mut self,
        found: Dependent,
        _domain: &Domain,
    ) -> DfResult<(LogicalPlan, Outputs)> {
        let schema = found.plan.schema().clone();
        let (plan, mut all) = self.isolate(found.plan)?;
        let name = self.fresh();
        all.push(lit(true).alias(&name));
        let at = |e: &Expr| match e {
            Expr::Column(c) => schema.maybe_index_of_column(c),
            _ => None,
        };
        let places: Vec<usize> = found
            .keys
            .iter()
            .map(|k| at(k).ok_or_else(|| df_error(Error::internal("a key of a subquery was lost"))))
            .collect::<DfResult<_>>()?;
        let plan = project(all, plan)?;
        let shown = columns(&plan);
        let rest = (0..shown.len() - 1).filter(|i| !places.contains(i)).map(|i| shown[i].clone()).collect();
        let keys = places.iter().zip(found.nulls).map(|(i, n)| (shown[*i].clone(), n)).collect();
        let present = shown[shown.len() - 1].clone();
        Ok((plan, Outputs { columns: rest, keys, present }))
    }

    /// Like [`Self::depend`], with a row for every value that has one.
    pub(super) fn depend_full(&mut self, plan: LogicalPlan, domain: &Domain) -> DfResult<Dependent> {
        let names = plan.schema().clone();
        let mut found = self.depend(plan, domain)?;
        let Some(default) = found.default.take() else { return Ok(found) };
        let all = self.instance(domain)?;
        let (right, outputs) = self.isolate_dependent(found, domain)?;
        let mut on = Vec::with_capacity(all.keys.len());
        for (i, (key, nulls)) in outputs.keys.iter().enumerate() {
            let own = all.keys[i].clone();
            on.push(if *nulls && all.nulls[i] { same(own, key.clone()) } else { own.eq(key.clone()) });
        }
        let plan = joined(all.plan, right, conjunction(on), JoinType::Left)?;
        let mut exprs = Vec::with_capacity(names.fields().len() + all.keys.len());
        for (((q, f), column), value) in names.iter().zip(outputs.columns).zip(default) {
            let value = domain.keyed(value, &all.keys)?;
            let e = if is_null(&value) {
                column
            } else {
                keeping(when(outputs.present.clone().is_null(), value).otherwise(column)?, f)
            };
            exprs.push(e.alias_qualified(q.cloned(), f.name()));
        }
        exprs.extend(all.keys.iter().cloned());
        Ok(Dependent { plan: project(exprs, plan)?, keys: all.keys, nulls: all.nulls, default: None })
    }

    /// The rows of `plan` for every value of the domain.
    pub(super) fn depend(&mut self, plan: LogicalPlan, domain: &Domain) -> DfResult<Dependent> {
        super::with_stack(|| self.depend_inner(plan, domain))
    }

    fn depend_inner(&mut self, plan: LogicalPlan, domain: &Domain) -> DfResult<Dependent> {
        if !refers(&plan, domain.schema())? {
            let mut all = self.instance(domain)?;
            let one = matches!(&plan, LogicalPlan::EmptyRelation(e) if e.produce_one_row);
            if !one {
                all.plan = joined(all.plan, plan, None, JoinType::Inner)?;
            }
            return Ok(all);
        }
        match plan {
            LogicalPlan::Projection(p) => {
                let schema = p.input.schema().clone();
                let mut d = self.depend(Arc::unwrap_or_clone(p.input), domain)?;
                if let Some(default) = &d.default {
                    let of = |e: &Expr| substitute(bare(e.clone()), &schema, default);
                    d.default = Some(p.expr.iter().map(of).collect::<DfResult<_>>()?);
                }
                let exprs = p.expr.into_iter().map(|e| domain.keyed_output(e, &d.keys));
                let mut exprs = exprs.collect::<DfResult<Vec<_>>>()?;
                exprs.extend(d.keys.iter().cloned());
                d.plan = project(exprs, d.plan)?;
                Ok(d)
            }
            LogicalPlan::SubqueryAlias(a) => {
                let (names, own) = (a.schema.clone(), a.input.schema().clone());
                let mut d = self.depend(Arc::unwrap_or_clone(a.input), domain)?;
                let named = names.iter().zip(own.columns());
                let mut exprs: Vec<Expr> =
                    named.map(|((q, f), c)| Expr::Column(c).alias_qualified(q.cloned(), f.name())).collect();
                exprs.extend(d.keys.iter().cloned());
                d.plan = project(exprs, d.plan)?;
                Ok(d)
            }
            LogicalPlan::Subquery(s) => self.depend(Arc::unwrap_or_clone(s.subquery), domain),
            LogicalPlan::Filter(f) => self.depend_filter(f, domain),
            LogicalPlan::Aggregate(a) => self.depend_aggregate(a, domain),
            LogicalPlan::Window(w) => self.depend_window(w, domain),
            LogicalPlan::Sort(s) if s.fetch.is_none() => {
                let mut d = self.depend_full(Arc::unwrap_or_clone(s.input), domain)?;
                let keys = s.expr.into_iter().map(|k| -> DfResult<SortExpr> {
                    Ok(SortExpr { expr: domain.keyed(k.expr.clone(), &d.keys)?, ..k })
                });
                let expr = keys.collect::<DfResult<_>>()?;
                d.plan = LogicalPlan::Sort(Sort { expr, input: Arc::new(d.plan), fetch: None });
                Ok(d)
            }
            LogicalPlan::Limit(l) => self.depend_limit(l, domain),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut d = self.depend_full(Arc::unwrap_or_clone(input), domain)?;
                d.plan = LogicalPlan::Distinct(Distinct::All(Arc::new(d.plan)));
                Ok(d)
            }
            LogicalPlan::Distinct(Distinct::On(on)) => self.depend_distinct_on(on, domain),
            LogicalPlan::Union(u) => self.depend_union(u, domain),
            LogicalPlan::Values(v) => self.depend(values_as_union(v)?, domain),
            LogicalPlan::Join(j) => self.depend_join(j, domain),
            LogicalPlan::Unnest(u) => self.depend_unnest(u, domain),
            LogicalPlan::RecursiveQuery(_) => {
                Err(refuse("WITH RECURSIVE that refers to a query around it is not supported"))
            }
            _ => Err(refuse("a subquery of this kind that refers to the query around it is not supported")),
        }
    }

    /// A condition. Where equalities give the value of every reference, no domain is needed.
    fn depend_filter(&mut self, f: Filter, domain: &Domain) -> DfResult<Dependent> {
        if domain.distinct && !refers(&f.input, domain.schema())? {
            let schema = f.input.schema().clone();
            let mut bound: Vec<Option<Expr>> = vec![None; domain.atoms.len()];
            let mut rest = Vec::new();
            for c in split_conjunction(&f.predicate) {
                let pair = match c {
                    Expr::BinaryExpr(b) if b.op == datafusion::logical_expr::Operator::Eq => {
                        let of = |x: &Expr, y: &Expr| -> DfResult<Option<usize>> {
                            let place = atom(x, domain.schema())
                                .and_then(|a| domain.atoms.iter().position(|b| *b == a));
                            let Some(i) = place else { return Ok(None) };
                            let fits = !expr_refers(y, domain.schema())?
                                && !y.column_refs().is_empty()
                                && y.get_type(&schema)? == domain.value(i).get_type(domain.schema())?;
                            Ok(fits.then_some(i))
                        };
                        match of(&b.left, &b.right)? {
                            Some(i) => Some((i, b.right.as_ref().clone())),
                            None => of(&b.right, &b.left)?.map(|i| (i, b.left.as_ref().clone())),
                        }
                    }
                    _ => None,
                };
                match pair {
                    Some((i, e)) if bound[i].is_none() => bound[i] = Some(e),
                    _ => rest.push(c.clone()),
                }
            }
            if let Some(bound) = bound.into_iter().collect::<Option<Vec<Expr>>>() {
                let mut conditions = Vec::with_capacity(rest.len());
                for c in rest {
                    conditions.push(domain.keyed(c, &bound)?);
                }
                for e in &bound {
                    if e.nullable(&schema)? {
                        conditions.push(e.clone().is_not_null());
                    }
                }
                let plan = filtered(conjunction(conditions), Arc::unwrap_or_clone(f.input))?;
                let mut exprs = columns(&plan);
                let (name, width) = (self.fresh(), exprs.len());
                let nulls = vec![false; bound.len()];
                let named = bound.into_iter().enumerate();
                let relation = TableReference::bare(name.clone());
                exprs
                    .extend(named.map(|(i, e)| {
                        bare(e).alias_qualified(Some(relation.clone()), format!("{name}_{i}"))
                    }));
                let plan = project(exprs, plan)?;
                let keys = columns(&plan).split_off(width);
                return Ok(Dependent { plan, keys, nulls, default: None });
            }
        }
        let mut d = self.depend_full(Arc::unwrap_or_clone(f.input), domain)?;
        let predicate = domain.keyed(f.predicate, &d.keys)?;
        d.plan = filtered(Some(predicate), d.plan)?;
        Ok(d)
    }

    fn depend_aggregate(&mut self, a: Aggregate, domain: &Domain) -> DfResult<Dependent> {
        if a.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Err(refuse(
                "GROUPING SETS in a subquery that refers to the query around it are not supported",
            ));
        }
        for e in &a.aggr_expr {
            let outer_only = |e: &Expr| -> DfResult<bool> {
                Ok(expr_refers(e, domain.schema())? && e.column_refs().is_empty())
            };
            if let Expr::AggregateFunction(f) = bare(e.clone()) {
                for arg in &f.params.args {
                    if outer_only(arg)? {
                        return Err(refuse(
                            "an aggregate in a subquery over columns of the query around it is not supported",
                        ));
                    }
                }
            }
        }
        let mut d = self.depend_full(Arc::unwrap_or_clone(a.input), domain)?;
        let keyed = |list: Vec<Expr>, keys: &[Expr]| -> DfResult<Vec<Expr>> {
            list.into_iter().map(|e| domain.keyed_output(e, keys)).collect()
        };
        if a.group_expr.is_empty() {
            let empty = |(e, (_, f)): (&Expr, (_, &arrow::datatypes::FieldRef))| -> DfResult<Expr> {
                let counts = match bare(e.clone()) {
                    Expr::AggregateFunction(call) => {
                        matches!(
                            call.func.name(),
                            "count" | "regr_count" | "approx_distinct" | "approx_count_distinct"
                        )
                    }
                    _ => false,
                };
                Ok(if counts {
                    Expr::Literal(ScalarValue::new_zero(f.data_type())?, None)
                } else {
                    Expr::Literal(ScalarValue::try_from(f.data_type())?, None)
                })
            };
            let outputs = a.aggr_expr.iter().zip(a.schema.iter());
            d.default = Some(outputs.map(empty).collect::<DfResult<_>>()?);
        }
        let mut groups = keyed(a.group_expr, &d.keys)?;
        groups.extend(d.keys.iter().cloned());
        let calls = keyed(a.aggr_expr, &d.keys)?;
        d.plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(d.plan), groups, calls)?);
        Ok(d)
    }

    fn depend_window(&mut self, w: Window, domain: &Domain) -> DfResult<Dependent> {
        let mut d = self.depend_full(Arc::unwrap_or_clone(w.input), domain)?;
        let mut calls = Vec::with_capacity(w.window_expr.len());
        for e in w.window_expr {
            let (relation, name) = e.qualified_name();
            let call = match bare(domain.keyed(e, &d.keys)?) {
                Expr::WindowFunction(mut f) => {
                    f.params.partition_by.extend(d.keys.iter().cloned());
                    Expr::WindowFunction(f)
                }
                other => other,
            };
            calls.push(call.alias_qualified(relation, name));
        }
        d.plan = LogicalPlan::Window(Window::try_new(calls, Arc::new(d.plan))?);
        Ok(d)
    }

    /// LIMIT per value: rows are numbered.
    fn depend_limit(&mut self, l: Limit, domain: &Domain) -> DfResult<Dependent> {
        if let LogicalPlan::Projection(p) = l.input.as_ref() {
            // What is computed of the first rows: the order is known below.
            let limit = Limit { skip: l.skip.clone(), fetch: l.fetch.clone(), input: p.input.clone() };
            return self.depend(project(p.expr.clone(), LogicalPlan::Limit(limit))?, domain);
        }
        let given = |e: Option<Box<Expr>>| e.map(|e| *e).filter(|e| !is_null(e));
        let (skip, fetch) = (given(l.skip).filter(|e| integer(e) != Some(0)), given(l.fetch));
        let (order, input) = match Arc::unwrap_or_clone(l.input) {
            LogicalPlan::Sort(s) if s.fetch.is_none() => (s.expr, Arc::unwrap_or_clone(s.input)),
            other => (vec![], other),
        };
        let input_columns = columns(&input);
        let mut d = self.depend_full(input, domain)?;
        if skip.is_none() && fetch.is_none() {
            return Ok(d);
        }
        let mut order_by: Vec<SortExpr> = order
            .into_iter()
            .map(|k| Ok(SortExpr { expr: domain.keyed(k.expr.clone(), &d.keys)?, ..k }))
            .collect::<DfResult<_>>()?;
        // The whole row decides among equals, as it does in views.
        for column in input_columns {
            if !order_by.iter().any(|s| s.expr == column) {
                order_by.push(SortExpr::new(column, true, false));
            }
        }
        let name = self.fresh();
        let kept = columns(&d.plan);
        let call = super::window::row_number(d.keys.clone(), order_by, d.plan.schema())?.alias(&name);
        let numbered = LogicalPlan::Window(Window::try_new(vec![call], Arc::new(d.plan))?);
        let number = Expr::Column(Column::new_unqualified(name));
        let skipped = skip.as_ref().map(|s| number.clone().gt(s.clone()));
        let last = match (skip, fetch) {
            (_, None) => None,
            (None, Some(n)) => Some(n),
            (Some(s), Some(n)) => Some(match (integer(&s), integer(&n)) {
                (Some(s), Some(n)) => lit(s.saturating_add(n)),
                _ => s + n,
            }),
        };
        let wanted = last.map(|n| number.lt_eq(n)).into_iter().chain(skipped);
        d.plan = project(kept, filtered(conjunction(wanted), numbered)?)?;
        Ok(d)
    }

    fn depend_distinct_on(&mut self, on: DistinctOn, domain: &Domain) -> DfResult<Dependent> {
        let mut d = self.depend_full(Arc::unwrap_or_clone(on.input), domain)?;
        let keyed = |list: Vec<Expr>| -> DfResult<Vec<Expr>> {
            list.into_iter().map(|e| domain.keyed_output(e, &d.keys)).collect()
        };
        let mut by = d.keys.clone();
        by.extend(keyed(on.on_expr)?);
        let mut shown = keyed(on.select_expr)?;
        shown.extend(d.keys.iter().cloned());
        let order = match on.sort_expr {
            None => None,
            Some(list) => {
                let first = d.keys.iter().map(|k| SortExpr::new(k.clone(), true, false));
                let mut all: Vec<SortExpr> = first.collect();
                for k in list {
                    all.push(SortExpr { expr: domain.keyed(k.expr.clone(), &d.keys)?, ..k });
                }
                Some(all)
            }
        };
        let on = DistinctOn::try_new(by, shown, order, Arc::new(d.plan))?;
        d.plan = LogicalPlan::Distinct(Distinct::On(on));
        Ok(d)
    }

    fn depend_union(&mut self, u: Union, domain: &Domain) -> DfResult<Dependent> {
        let name = self.fresh();
        let relation = TableReference::bare(name.clone());
        let mut nulls = vec![false; domain.atoms.len()];
        let mut inputs = Vec::with_capacity(u.inputs.len());
        let mut keys = Vec::new();
        for input in u.inputs {
            let own = input.schema().columns();
            let d = self.depend_full(Arc::unwrap_or_clone(input), domain)?;
            nulls.iter_mut().zip(d.nulls).for_each(|(a, b)| *a |= b);
            let named = u.schema.iter().zip(own);
            let mut exprs: Vec<Expr> =
                named.map(|((q, f), c)| Expr::Column(c).alias_qualified(q.cloned(), f.name())).collect();
            let named = d.keys.into_iter().enumerate();
            exprs
                .extend(named.map(|(i, k)| k.alias_qualified(Some(relation.clone()), format!("{name}_{i}"))));
            let plan = project(exprs, d.plan)?;
            keys = columns(&plan).split_off(u.schema.fields().len());
            inputs.push(Arc::new(plan));
        }
        // A union shows bare names; those of its first input come back above it.
        let first = columns(&inputs[0]);
        let union = LogicalPlan::Union(Union::try_new(inputs)?);
        let shown = columns(&union).into_iter().zip(&first).map(|(e, f)| match f {
            Expr::Column(c) => e.alias_qualified(c.relation.clone(), c.name.clone()),
            _ => e,
        });
        let plan = project(shown.collect(), union)?;
        Ok(Dependent { plan, keys, nulls, default: None })
    }

    fn depend_unnest(&mut self, u: Unnest, domain: &Domain) -> DfResult<Dependent> {
        let names = u.input.schema().clone();
        let mut d = self.depend_full(Arc::unwrap_or_clone(u.input), domain)?;
        let mut exprs: Vec<Expr> = names.columns().into_iter().map(Expr::Column).collect();
        exprs.extend(d.keys.iter().cloned());
        let input = project(exprs, d.plan)?;
        let mut fields: Vec<_> = u.schema.iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        let mut dependency_indices = u.dependency_indices;
        for i in names.fields().len()..input.schema().fields().len() {
            let (q, f) = input.schema().qualified_field(i);
            fields.push((q.cloned(), f.clone()));
            dependency_indices.push(i);
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, HashMap::new())?);
        d.plan = LogicalPlan::Unnest(Unnest { input: Arc::new(input), dependency_indices, schema, ..u });
        Ok(d)
    }

    fn depend_join(&mut self, j: Join, domain: &Domain) -> DfResult<Dependent> {
        let outer = domain.schema().clone();
        let condition = condition_of(&j);
        let asks = match &condition {
            Some(c) => expr_refers(c, &outer)?,
            None => false,
        };
        let (left, right) = (Arc::unwrap_or_clone(j.left), Arc::unwrap_or_clone(j.right));
        let (in_left, in_right) = (refers(&left, &outer)?, refers(&right, &outer)?);
        match j.join_type {
            JoinType::Inner => {
                if asks {
                    let c = condition.unwrap_or_else(|| lit(true));
                    let (here, own): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(c)
                        .into_iter()
                        .partition(|c| expr_refers(c, &outer).unwrap_or(true));
                    let plan = joined(left, right, conjunction(own), JoinType::Inner)?;
                    let above = conjunction(here).unwrap_or_else(|| lit(true));
                    return self.depend_filter(Filter::try_new(above, Arc::new(plan))?, domain);
                }
                if !in_right {
                    let mut d = self.depend_full(left, domain)?;
                    d.plan = joined(d.plan, right, condition, JoinType::Inner)?;
                    return Ok(d);
                }
                if !in_left {
                    let mut d = self.depend_full(right, domain)?;
                    d.plan = joined(left, d.plan, condition, JoinType::Inner)?;
                    return Ok(d);
                }
                let mut l = self.depend_full(left, domain)?;
                let r = self.depend_full(right, domain)?;
                let on = conjunction(condition.into_iter().chain(agree(&l, &r)));
                l.plan = joined(l.plan, r.plan, on, JoinType::Inner)?;
                Ok(l)
            }
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                let mut l = self.depend_full(left, domain)?;
                let own = condition.map(|c| domain.keyed(c, &l.keys)).transpose()?;
                if !in_right {
                    l.plan = joined(l.plan, right, own, j.join_type)?;
                    return Ok(l);
                }
                let relation = right.schema().iter().next().and_then(|(q, _)| q.cloned());
                let shown = columns(&right);
                let mut r = self.depend_full(right, domain)?;
                if j.join_type == JoinType::LeftMark {
                    // All columns stay those of the one relation that the mark is named after.
                    let mut exprs = shown;
                    let (name, width) = (self.fresh(), exprs.len());
                    let keys = r.keys.iter().enumerate();
                    exprs.extend(
                        keys.map(|(i, k)| k.clone().alias_qualified(relation.clone(), format!("{name}_{i}"))),
                    );
                    r.plan = project(exprs, r.plan)?;
                    r.keys = columns(&r.plan).split_off(width);
                }
                let on = conjunction(own.into_iter().chain(agree(&l, &r)));
                l.plan = joined(l.plan, r.plan, on, j.join_type)?;
                Ok(l)
            }
            JoinType::Right | JoinType::Full => {
                let names: Vec<Expr> = columns(&left).into_iter().chain(columns(&right)).collect();
                let l = self.depend_full(left, domain)?;
                let mut r = self.depend_full(right, domain)?;
                let own = condition.map(|c| domain.keyed(c, &r.keys)).transpose()?;
                let on = conjunction(own.into_iter().chain(agree(&l, &r)));
                let plan = joined(l.plan, r.plan, on, j.join_type)?;
                if j.join_type == JoinType::Right {
                    r.plan = plan;
                    return Ok(r);
                }
                let name = self.fresh();
                let mut exprs = names;
                let width = exprs.len();
                for (i, (a, b)) in l.keys.iter().zip(&r.keys).enumerate() {
                    let either = when(a.clone().is_not_null(), a.clone()).otherwise(b.clone())?;
                    exprs.push(either.alias(format!("{name}_{i}")));
                }
                let plan = project(exprs, plan)?;
                let keys = columns(&plan).split_off(width);
                Ok(Dependent { plan, keys, nulls: l.nulls, default: None })
            }
            _ => Err(refuse("this join in a subquery that refers to the query around it is not supported")),
        }
    }
}

/// Both sides belong to the same value.
fn agree(l: &Dependent, r: &Dependent) -> Vec<Expr> {
    let keys = l.keys.iter().zip(&r.keys).zip(l.nulls.iter().zip(&r.nulls));
    keys.map(|((a, b), (m, n))| if *m && *n { same(a.clone(), b.clone()) } else { a.clone().eq(b.clone()) })
        .collect()
}
