//! The rules of DataFusion that are trusted with plans, by name.
//!
//! Boundary: which rules run and in which order; the rules are DataFusion's.

use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerContext, OptimizerRule};

use crate::error::Result;

/// What is left of type coercion after the binder: arguments of DataFusion's own functions, join keys.
pub(crate) fn coerce(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(TypeCoercion::new())];
    Analyzer::with_rules(rules).execute_and_check(plan, &ConfigOptions::default(), |_, _| {})
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
