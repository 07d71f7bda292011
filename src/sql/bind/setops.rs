//! INTERSECT and EXCEPT: the types of their columns, and how many copies of a row ALL leaves.
//!
//! DataFusion's planner makes semi and anti joins of them, whose keys take NULL for equal to NULL. With ALL the copies
//! of a row are numbered on both sides, and the number is one more key: of `a` and `b` copies INTERSECT ALL leaves
//! those numbered up to `b`, EXCEPT ALL those above.
//!
//! Boundary: plans; UNION is settled in [`super::resolve_plan`].

use std::sync::Arc;

use datafusion::common::NullEquality;
use datafusion::logical_expr::{
    Distinct, Expr, Join, JoinConstraint, JoinType, LogicalPlan, Projection, Window,
};

use super::resolve::Resolver;
use super::resolve_plan::output_operand;
use crate::error::Error;
use crate::plan::facts::COPY_NUMBERS;
use crate::sql::functions::{DfResult, df_error};

/// Whether a join stands for INTERSECT or EXCEPT.
fn is_set_operation(j: &Join) -> bool {
    matches!(j.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && j.null_equality == NullEquality::NullEqualsNull
        && j.filter.is_none()
        && j.on.len() == j.left.schema().fields().len()
}

impl Resolver<'_> {
    /// A join whose inputs are settled; set operations get columns of common types.
    pub(super) fn set_operation(&mut self, j: Join) -> DfResult<LogicalPlan> {
        if !is_set_operation(&j) {
            return LogicalPlan::Join(j).recompute_schema();
        }
        let word = if j.join_type == JoinType::LeftSemi { "INTERSECT" } else { "EXCEPT" };
        let (left, all) = match Arc::unwrap_or_clone(j.left) {
            LogicalPlan::Distinct(Distinct::All(input)) => (Arc::unwrap_or_clone(input), false),
            other => (other, true),
        };
        let right = Arc::unwrap_or_clone(j.right);
        let schema = left.schema().clone();
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        for (i, (q, f)) in schema.iter().enumerate() {
            let pair = vec![output_operand(&left, i)?, output_operand(&right, i)?];
            let (exprs, ..) = self.unify(pair, word).map_err(df_error)?;
            let [l, r] = <[Expr; 2]>::try_from(exprs)
                .map_err(|_| df_error(Error::internal("two columns became others")))?;
            lefts.push(l.alias_qualified(q.cloned(), f.name()));
            rights.push(r.alias(format!("__right_{i}")));
        }
        let shown: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
        let width = shown.len();
        let mut left = LogicalPlan::Projection(Projection::try_new(lefts, Arc::new(left))?);
        let mut right = LogicalPlan::Projection(Projection::try_new(rights, Arc::new(right))?);
        if all {
            left = numbered(left, COPY_NUMBERS[0])?;
            right = numbered(right, COPY_NUMBERS[1])?;
        } else {
            left = LogicalPlan::Distinct(Distinct::All(Arc::new(left)));
        }
        let keys =
            |p: &LogicalPlan| -> Vec<Expr> { p.schema().columns().into_iter().map(Expr::Column).collect() };
        let on = keys(&left).into_iter().zip(keys(&right)).collect();
        let plan = LogicalPlan::Join(Join::try_new(
            Arc::new(left),
            Arc::new(right),
            on,
            None,
            j.join_type,
            JoinConstraint::On,
            NullEquality::NullEqualsNull,
            false,
        )?);
        if plan.schema().fields().len() == width {
            return Ok(plan);
        }
        Ok(LogicalPlan::Projection(Projection::try_new(shown, Arc::new(plan))?))
    }
}

/// The rows of a plan and, last, the number of each among its equals.
fn numbered(plan: LogicalPlan, name: &str) -> DfResult<LogicalPlan> {
    let all = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let call = super::window::row_number(all, vec![], plan.schema())?.alias(name);
    Ok(LogicalPlan::Window(Window::try_new(vec![call], Arc::new(plan))?))
}
