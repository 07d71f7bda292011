//! Settling the types of plans, inputs first.
//!
//! Boundary: the shape of plans; expressions are [`super::resolve`]'s.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Distinct, Expr, Limit, LogicalPlan, Projection, Union, Values};

use super::provider::aggregate;
use super::resolve::{Operand, Resolver, to_arrow};
use crate::error::{Error, ErrorKind};
use crate::sql::functions::cast::CastContext;
use crate::sql::functions::{DfResult, VALUES_ITEM, df_error, operators};
use crate::types::PgType;

impl Resolver<'_> {
    /// The plan with all types settled.
    pub fn plan(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        super::with_stack(|| self.plan_inner(plan))
    }

    fn plan_inner(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        use datafusion::common::tree_node::TreeNode;
        let plan = match flat_union(plan) {
            LogicalPlan::Window(w) => super::window::by_order(w)?,
            plan => plan,
        };
        let plan = plan.map_children(|child| Ok(Transformed::yes(self.plan(child)?)))?.data;
        match plan {
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) => Ok(plan),
            plan => {
                let schema = merge_schema(&plan.inputs());
                let names = NamePreserver::new(&plan);
                if let LogicalPlan::Window(w) = &plan {
                    self.ties = Self::tie_columns(&w.input);
                }
                let plan = plan
                    .map_expressions(|e| {
                        if let Expr::GroupingSet(set) = e {
                            let set = self.grouping_set(set, &names, &schema)?;
                            return Ok(Transformed::yes(Expr::GroupingSet(set)));
                        }
                        let name = names.save(&e);
                        let e = self.expr(e, &schema)?;
                        Ok(Transformed::yes(name.restore(e)))
                    })?
                    .data;
                let plan = match plan {
                    LogicalPlan::Filter(mut f) => {
                        f.predicate = self.boolean(f.predicate, &schema, "WHERE")?;
                        LogicalPlan::Filter(f)
                    }
                    LogicalPlan::Join(mut j) => {
                        j.filter = j.filter.map(|f| self.boolean(f, &schema, "JOIN/ON")).transpose()?;
                        LogicalPlan::Join(j)
                    }
                    plan => plan,
                };
                let plan = match plan {
                    LogicalPlan::Aggregate(a) => return self.aggregate_plan(a),
                    LogicalPlan::Window(w) => return super::window::split_averages(w),
                    plan => plan,
                };
                plan.recompute_schema()
            }
        }
    }

    /// A subquery in an expression over `schema`.
    pub(super) fn subquery(&mut self, plan: LogicalPlan, schema: &DFSchema) -> DfResult<LogicalPlan> {
        self.outer.push(Arc::new(schema.clone()));
        let ties = std::mem::take(&mut self.ties);
        let plan = self.plan(plan);
        self.ties = ties;
        self.outer.pop();
        plan
    }

    fn limit(&mut self, limit: Limit) -> DfResult<LogicalPlan> {
        let empty = DFSchema::empty();
        let mut bound = |e: Option<Box<Expr>>| -> DfResult<Option<Box<Expr>>> {
            let Some(e) = e else { return Ok(None) };
            let e = self.expr(*e, &empty)?;
            let operand = self.operand(e, &empty)?;
            let e = self.coerce(operand, PgType::INT8, CastContext::Assignment).map_err(df_error)?;
            Ok(Some(Box::new(to_arrow(e, &DataType::Int64))))
        };
        let (skip, fetch) = (bound(limit.skip)?, bound(limit.fetch)?);
        for (e, kind, name) in
            [(&skip, ErrorKind::InvalidOffset, "OFFSET"), (&fetch, ErrorKind::InvalidLimit, "LIMIT")]
        {
            if e.as_ref().is_some_and(|e| constant_integer(e).is_some_and(|n| n < 0)) {
                return Err(df_error(Error::new(kind, format!("{name} must not be negative"))));
            }
        }
        Ok(LogicalPlan::Limit(Limit { skip, fetch, input: limit.input }))
    }

    fn values(&mut self, values: Values) -> DfResult<LogicalPlan> {
        let empty = DFSchema::empty();
        let width = values.schema.fields().len();
        let mut rows = Vec::with_capacity(values.values.len());
        for row in values.values {
            let row = row
                .into_iter()
                .map(|e| {
                    let e = self.expr(values_item(e), &empty)?;
                    self.operand(e, &empty)
                })
                .collect::<DfResult<Vec<_>>>()?;
            rows.push(row);
        }
        let mut columns: Vec<std::vec::IntoIter<Expr>> = Vec::with_capacity(width);
        let mut fields = Vec::with_capacity(width);
        for i in 0..width {
            let column: Vec<Operand> = rows.iter().map(|r| r[i].clone()).collect();
            let (exprs, data_type, common) = self.unify(column, "VALUES").map_err(df_error)?;
            columns.push(exprs.into_iter());
            let name = values.schema.field(i).name().clone();
            fields.push(common.field(name, true).with_data_type(data_type));
        }
        let rows = (0..rows.len()).map(|_| columns.iter_mut().filter_map(Iterator::next).collect()).collect();
        values_plan(rows, fields)
    }

    fn union(&mut self, union: Union) -> DfResult<LogicalPlan> {
        let mut inputs: Vec<LogicalPlan> = union.inputs.into_iter().map(Arc::unwrap_or_clone).collect();
        let names: Vec<String> = union.schema.fields().iter().map(|f| f.name().clone()).collect();
        let width = names.len();
        let mut columns: Vec<Vec<Expr>> = vec![Vec::with_capacity(width); inputs.len()];
        for i in 0..width {
            let operands = inputs.iter().map(|p| output_operand(p, i)).collect::<DfResult<Vec<_>>>()?;
            let (exprs, ..) = self.unify(operands, "UNION").map_err(df_error)?;
            for (n, e) in exprs.into_iter().enumerate() {
                columns[n].push(e.alias(&names[i]));
            }
        }
        for (plan, exprs) in inputs.iter_mut().zip(columns) {
            let input = std::mem::take(plan);
            *plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?);
        }
        Ok(LogicalPlan::Union(Union::try_new(inputs.into_iter().map(Arc::new).collect())?))
    }

    /// Outputs that nothing gave a type are text.
    pub(super) fn settle_outputs(&mut self, plan: LogicalPlan) -> DfResult<LogicalPlan> {
        match plan {
            LogicalPlan::Projection(p) => {
                let schema = p.input.schema().clone();
                let mut exprs = Vec::with_capacity(p.expr.len());
                for e in p.expr {
                    let (inner, alias) = match e {
                        Expr::Alias(a) => (*a.expr, Some((a.relation, a.name))),
                        e => (e, None),
                    };
                    let operand = self.operand(inner, &schema)?;
                    let inner = if operand.unknown() {
                        self.coerce(operand, PgType::TEXT, CastContext::Implicit).map_err(df_error)?
                    } else {
                        operand.expr
                    };
                    exprs.push(match alias {
                        Some((relation, name)) => inner.alias_qualified(relation, name),
                        None => inner,
                    });
                }
                Ok(LogicalPlan::Projection(Projection::try_new(exprs, p.input)?))
            }
            LogicalPlan::Limit(mut l) => {
                l.input = Arc::new(self.settle_outputs(Arc::unwrap_or_clone(l.input))?);
                Ok(LogicalPlan::Limit(l))
            }
            LogicalPlan::Sort(mut s) => {
                s.input = Arc::new(self.settle_outputs(Arc::unwrap_or_clone(s.input))?);
                Ok(LogicalPlan::Sort(s))
            }
            plan => Ok(plan),
        }
    }
}

/// A chain of UNION as one union of many inputs, whose types are settled together.
fn flat_union(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Union(u) => LogicalPlan::Union(flattened(u, false)),
        LogicalPlan::Distinct(Distinct::All(input)) if matches!(input.as_ref(), LogicalPlan::Union(_)) => {
            let input = match Arc::unwrap_or_clone(input) {
                LogicalPlan::Union(u) => LogicalPlan::Union(flattened(u, true)),
                other => other,
            };
            LogicalPlan::Distinct(Distinct::All(Arc::new(input)))
        }
        plan => plan,
    }
}

/// The inputs of a union's unions are its own; below a DISTINCT those of its UNION DISTINCTs as well.
fn flattened(union: Union, distinct: bool) -> Union {
    let mut inputs = Vec::with_capacity(union.inputs.len());
    let mut next: Vec<Arc<LogicalPlan>> = union.inputs.into_iter().rev().collect();
    while let Some(input) = next.pop() {
        match input.as_ref() {
            LogicalPlan::Union(u) => next.extend(u.inputs.iter().rev().cloned()),
            LogicalPlan::Distinct(Distinct::All(inner))
                if distinct && matches!(inner.as_ref(), LogicalPlan::Union(_)) =>
            {
                next.push(inner.clone());
            }
            _ => inputs.push(input),
        }
    }
    Union { inputs, schema: union.schema }
}

/// Output `i` of a plan, as the literal it is if it is one.
fn output_operand(plan: &LogicalPlan, i: usize) -> DfResult<Operand> {
    let (qualifier, field) = plan.schema().qualified_field(i);
    if let LogicalPlan::Projection(p) = plan {
        let mut e = &p.expr[i];
        while let Expr::Alias(a) = e {
            e = &a.expr;
        }
        let operand = Operand { expr: e.clone(), field: field.clone() };
        if matches!(e, Expr::Literal(..) | Expr::Placeholder(_)) && operand.unknown() {
            return Ok(operand);
        }
    }
    Ok(Operand { expr: Expr::Column(Column::from((qualifier, field))), field: field.clone() })
}

/// The value of a constant of an integer type.
fn constant_integer(e: &Expr) -> Option<i64> {
    let value = match e {
        Expr::Literal(value, _) => value.clone(),
        Expr::Placeholder(_) => return None,
        Expr::Cast(c) => return constant_integer(&c.expr),
        e => super::scalar::constant(e)?,
    };
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(n)) => n,
        _ => None,
    }
}

/// A cell of VALUES without the casts of DataFusion's builder.
fn values_item(e: Expr) -> Expr {
    match e {
        Expr::Cast(c) => values_item(*c.expr),
        Expr::Alias(a) => values_item(*a.expr),
        Expr::ScalarFunction(mut f) if f.func.name() == VALUES_ITEM && f.args.len() == 1 => f.args.remove(0),
        e => e,
    }
}

/// VALUES whose rows have the types of these fields already.
pub(super) fn values_plan(values: Vec<Vec<Expr>>, fields: Vec<Field>) -> DfResult<LogicalPlan> {
    let schema = DFSchema::from_unqualified_fields(fields.into(), HashMap::new())?;
    Ok(LogicalPlan::Values(Values { schema: Arc::new(schema), values }))
}

pub(super) fn unaliased(e: &Expr) -> &Expr {
    match e {
        Expr::Alias(a) => unaliased(&a.expr),
        e => e,
    }
}

/// `sum / count`, of two columns of the node below.
pub(super) fn quotient(sum: &str, count: &str) -> Expr {
    let of = |name: &str| Expr::Column(Column::new_unqualified(name));
    operators::numeric_average(of(sum), to_arrow(of(count), &DataType::Decimal128(19, 0)))
}

pub(super) fn known_aggregate(name: &str) -> DfResult<Arc<datafusion::logical_expr::AggregateUDF>> {
    aggregate(name).ok_or_else(|| df_error(Error::internal(format!("aggregate {name} is missing"))))
}
