//! LATERAL: joins whose right side refers to the left one, and subqueries in the conditions of joins.
//!
//! Boundary: a part of [`super::decorrelate`].

use std::sync::Arc;

use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, lit};

use super::decorrelate::{
    Flattener, columns, condition_of, expr_refers, filtered, has_subquery, inward, joined, outward, project,
    refers, refuse, substitute,
};
use super::depend::Domain;
use crate::error::{Error, ErrorKind};
use crate::sql::functions::{DfResult, df_error};

impl Flattener {
    /// A join: subqueries in its condition, and a right side that refers to the left one.
    pub(super) fn join(&mut self, mut j: Join) -> DfResult<LogicalPlan> {
        if let Some(f) = j.filter.clone()
            && has_subquery(&f)?
        {
            j.filter = None;
            return match j.join_type {
                JoinType::Inner => {
                    let plan = self.join(j)?;
                    self.filter(Filter::try_new(f, Arc::new(plan))?)
                }
                JoinType::Left => {
                    let schema = j.left.schema().clone();
                    let right = Arc::unwrap_or_clone(j.right);
                    let names = columns(&right);
                    let f = outward(f, &schema)?;
                    let right = self.filter(Filter::try_new(f, Arc::new(right))?)?;
                    j.right = Arc::new(project(names, right)?);
                    self.join(j)
                }
                _ => Err(refuse("a subquery in the condition of this kind of join is not supported")),
            };
        }
        if refers(&j.right, j.left.schema())? {
            return self.lateral(j);
        }
        Ok(LogicalPlan::Join(Join::try_new(
            j.left,
            j.right,
            j.on,
            j.filter,
            j.join_type,
            j.join_constraint,
            j.null_equality,
            j.null_aware,
        )?))
    }

    /// A join whose right side refers to its left side.
    fn lateral(&mut self, j: Join) -> DfResult<LogicalPlan> {
        let condition = condition_of(&j);
        let (left, right) = (Arc::unwrap_or_clone(j.left), Arc::unwrap_or_clone(j.right));
        let outer = left.schema().clone();
        let names = right.schema().clone();
        let renamed = |exprs: Vec<Expr>| -> Vec<Expr> {
            let fields = names.iter().zip(exprs);
            fields.map(|((q, f), e)| e.alias_qualified(q.cloned(), f.name())).collect()
        };
        match j.join_type {
            JoinType::Inner => {
                let plan = if let Some(p) = self.peel(&right, &outer, false)? {
                    let mut kept = columns(&left);
                    let on = p.conditions.into_iter().map(|c| inward(c, &outer));
                    let on = conjunction(on.collect::<DfResult<Vec<_>>>()?);
                    let outputs = p.outputs.into_iter().map(|e| inward(e, &outer));
                    kept.extend(renamed(outputs.collect::<DfResult<_>>()?));
                    project(kept, joined(left, p.core, on, JoinType::Inner)?)?
                } else if super::depend::is_row_wise(&right, &outer)? {
                    let domain = Domain::whole(&left);
                    let found = self.depend(right, &domain)?;
                    let lefts = outer.iter().zip(found.keys);
                    let mut kept: Vec<Expr> =
                        lefts.map(|((q, f), k)| k.alias_qualified(q.cloned(), f.name())).collect();
                    kept.extend(names.columns().into_iter().map(Expr::Column));
                    project(kept, found.plan)?
                } else {
                    let (right, on, outputs) = self.tied_right(right, &left)?;
                    let mut kept = columns(&left);
                    kept.extend(renamed(outputs));
                    project(kept, joined(left, right, Some(on), JoinType::Inner)?)?
                };
                filtered(condition, plan)
            }
            JoinType::Left => {
                let mut kept = columns(&left);
                let peeled = self.peel(&right, &outer, false)?;
                let mut plain = true;
                for e in peeled.iter().flat_map(|p| &p.outputs) {
                    plain &= !expr_refers(e, &outer)?;
                }
                let (right, on, outputs) = match peeled {
                    Some(p) if plain => {
                        let width = p.core.schema().fields().len();
                        let old = p.core.schema().clone();
                        let name = self.fresh();
                        let mut exprs = columns(&p.core);
                        let named = p.outputs.into_iter().enumerate();
                        exprs.extend(named.map(|(i, e)| e.alias(format!("{name}_{i}"))));
                        let (right, columns) = self.isolate(project(exprs, p.core)?)?;
                        let on = p.conditions.into_iter().map(|c| substitute(c, &old, &columns));
                        let on = on.collect::<DfResult<Vec<_>>>()?;
                        let on = on.into_iter().map(|c| inward(c, &outer)).collect::<DfResult<Vec<_>>>()?;
                        let on = conjunction(on).unwrap_or_else(|| lit(true));
                        (right, on, columns[width..].to_vec())
                    }
                    _ => self.tied_right(right, &left)?,
                };
                let further = match condition {
                    None => on,
                    Some(c) => {
                        let mut by: Vec<Expr> = outer.columns().into_iter().map(Expr::Column).collect();
                        by.extend(outputs.iter().cloned());
                        on.and(substitute(c, &outer.join(&names)?, &by)?)
                    }
                };
                kept.extend(renamed(outputs));
                project(kept, joined(left, right, Some(further), JoinType::Left)?)
            }
            _ => Err(df_error(
                Error::new(
                    ErrorKind::InvalidColumnReference,
                    "invalid reference to FROM-clause entry from the right side of this join",
                )
                .with_detail("The combining JOIN type must be INNER or LEFT for a LATERAL reference."),
            )),
        }
    }

    /// A plan that refers to `left` as one that does not, its join condition and its outputs.
    fn tied_right(
        &mut self,
        right: LogicalPlan,
        left: &LogicalPlan,
    ) -> DfResult<(LogicalPlan, Expr, Vec<Expr>)> {
        let domain = Domain::of(&right, left)?;
        let found = self.depend_full(right, &domain)?;
        let (right, outputs) = self.isolate_dependent(found, &domain)?;
        let on = domain.condition(&outputs.keys)?;
        Ok((right, on, outputs.columns))
    }
}
