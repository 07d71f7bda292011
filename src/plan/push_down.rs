//! The one rule of DataFusion's logical optimizer that needs a guard.
//!
//! Boundary: everything else of the rule is DataFusion's.

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// DataFusion's `push_down_filter`, except where it moves a condition without columns below an aggregate that gives a
/// row for no rows.
#[derive(Debug)]
pub struct SafePushDown(PushDownFilter);

impl SafePushDown {
    /// The rule.
    #[expect(clippy::new_without_default, reason = "rules are made by new() everywhere")]
    pub fn new() -> SafePushDown {
        SafePushDown(PushDownFilter::new())
    }
}

impl OptimizerRule for SafePushDown {
    fn name(&self) -> &str {
        "push_down_filter"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>, DataFusionError> {
        if let LogicalPlan::Filter(f) = &plan
            && let LogicalPlan::Aggregate(a) = f.input.as_ref()
            && a.group_expr.is_empty()
        {
            return Ok(Transformed::no(plan));
        }
        self.0.rewrite(plan, config)
    }
}
