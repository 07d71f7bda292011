//! The rules of DataFusion that are trusted with plans, by name.
//!
//! Boundary: which rules run and in which order; the rules are DataFusion's.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRewriter};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext, OptimizerRule};

use super::resolve::{field_of, yields_boolean};
use crate::error::Result;
use crate::sql::functions::Native;

/// What is left of type coercion after the binder: arguments of DataFusion's own functions, join keys.
///
/// DataFusion's rule asks for the types of all operands at every level of every expression; here only the nodes that
/// the binder has not settled are given to its rewriter.
pub(crate) fn coerce(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let plan = plan.transform_up_with_subqueries(coerce_node)?.data;
    Analyzer::with_rules(vec![]).execute_and_check(plan, &ConfigOptions::default(), |_, _| {})
}

fn coerce_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>, DataFusionError> {
    if matches!(plan, LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_)) {
        return Ok(Transformed::no(plan));
    }
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let mut rewriter = TypeCoercionRewriter::new(&schema);
    let plan = plan
        .map_expressions(|e| {
            if !e.exists(|e| Ok(unsettled(e, &schema)))? {
                return Ok(Transformed::no(e));
            }
            let name = names.save(&e);
            let e = e.transform_up(|e| {
                if unsettled(&e, &schema) { rewriter.f_up(e) } else { Ok(Transformed::no(e)) }
            })?;
            Ok(Transformed::yes(name.restore(e.data)))
        })?
        .data;
    let plan = rewriter.coerce_plan(plan)?;
    Ok(Transformed::yes(plan.recompute_schema()?))
}

/// Whether DataFusion's coercion may have something to do for this node itself.
fn unsettled(expr: &Expr, schema: &DFSchema) -> bool {
    let equal = |exprs: &mut dyn Iterator<Item = &Expr>| {
        let mut types = exprs.map(|e| field_of(e, schema).map(|f| f.data_type().clone()));
        match types.next() {
            Some(Ok(first)) => types.all(|t| t.is_ok_and(|t| t == first)),
            _ => false,
        }
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And | Operator::Or => false,
            op if yields_boolean(*op) || *op == Operator::StringConcat => {
                !equal(&mut [left.as_ref(), right.as_ref()].into_iter())
            }
            _ => true,
        },
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            !equal(&mut results.chain(case.else_expr.as_deref()))
        }
        Expr::InList(list) => !equal(&mut std::iter::once(list.expr.as_ref()).chain(&list.list)),
        Expr::Like(like) => !equal(&mut [like.expr.as_ref(), like.pattern.as_ref()].into_iter()),
        Expr::ScalarFunction(f) => !f.func.inner().is::<Native>(),
        // The binder has settled them; their arguments are looked at by themselves.
        Expr::WindowFunction(_) => false,
        Expr::Literal(..)
        | Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Placeholder(_)
        | Expr::Alias(_)
        | Expr::Cast(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_) => false,
        _ => true,
    }
}

/// The rules for the plans of views, in order:
/// - `simplify_expressions`: constants are folded, conditions normalised;
/// - `eliminate_filter`: filters that are always true or false;
/// - `decorrelate_predicate_subquery`: IN and EXISTS become semi and anti joins;
/// - `scalar_subquery_to_join`: a scalar subquery becomes a left join;
/// - `eliminate_cross_join`: a comma join with its WHERE becomes an inner join;
/// - `push_down_filter`: conditions go below joins, aggregates and projections;
/// - `extract_equijoin_predicate`: equalities of a join condition become its keys;
/// - `simplify_expressions` again, over what was moved;
/// - `optimize_projections`: columns that nobody reads are not carried.
fn view_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(OptimizeProjections::new()),
    ]
}

/// A bound plan made ready for lowering: the trusted rules, and nothing else, have run.
pub fn optimize_for_view(plan: LogicalPlan) -> Result<LogicalPlan> {
    super::with_stack(|| {
        let mut options = ConfigOptions::default();
        options.optimizer.filter_null_join_keys = true;
        // Scalar subqueries must become joins: that is what can be maintained.
        options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        let context = OptimizerContext::new_with_config_options(Arc::new(options))
            .with_max_passes(3)
            .with_skip_failing_rules(false);
        Ok(Optimizer::with_rules(view_rules()).optimize(plan, &context, |_, _| {})?)
    })
}
