//! Makes a physical plan cancellable: a node that looks at a flag before every batch.
//!
//! DataFusion's joins can produce batches for hours without asking anything below them for more, so they never yield
//! and never notice that nobody listens. [`protect`] puts a guard on every leaf and every join.
//!
//! Boundary: plans and streams; who cancels, and why, is the caller's business.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::stats::Statistics;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};

/// The error of a canceled statement.
pub fn canceled() -> Error {
    Error::new(ErrorKind::QueryCanceled, "canceling statement due to user request")
}

/// Guards every leaf and every join of the plan. The flag says whether it holds a join of all pairs, which should
/// get small batches so that its innermost loop is short.
pub fn protect(
    plan: Arc<dyn ExecutionPlan>,
    cancel: &CancellationToken,
) -> Result<(Arc<dyn ExecutionPlan>, bool)> {
    let mut all_pairs = false;
    let guarded = plan.transform_up(|node| {
        all_pairs |= node.is::<CrossJoinExec>() || node.is::<NestedLoopJoinExec>();
        if node.children().len() == 1 {
            return Ok(Transformed::no(node));
        }
        Ok(Transformed::yes(Arc::new(Guard::new(node, cancel.clone())) as Arc<dyn ExecutionPlan>))
    })?;
    Ok((guarded.data, all_pairs))
}

/// A node that passes its input on until it is canceled.
#[derive(Debug)]
struct Guard {
    input: Arc<dyn ExecutionPlan>,
    cancel: CancellationToken,
}

impl Guard {
    fn new(input: Arc<dyn ExecutionPlan>, cancel: CancellationToken) -> Self {
        Guard { input, cancel }
    }
}

impl DisplayAs for Guard {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl ExecutionPlan for Guard {
    fn name(&self) -> &str {
        "Guard"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Guard::new(input, self.cancel.clone()))),
            _ => Err(DataFusionError::Internal("a guard has one input".into())),
        }
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let schema = input.schema();
        Ok(make_cooperative(Box::pin(GuardStream { input, schema, cancel: self.cancel.clone() })))
    }
    fn child_stats_requests(
        &self,
        partition: Option<usize>,
    ) -> Vec<datafusion::physical_plan::statistics::ChildStats> {
        vec![datafusion::physical_plan::statistics::ChildStats::At(partition)]
    }
    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _args: &datafusion::physical_plan::statistics::StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(inputs[0].clone())
    }
}

struct GuardStream {
    input: SendableRecordBatchStream,
    schema: SchemaRef,
    cancel: CancellationToken,
}

impl Stream for GuardStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.cancel.is_cancelled() {
            return Poll::Ready(Some(Err(DataFusionError::External(Box::new(canceled())))));
        }
        self.input.poll_next_unpin(cx)
    }
}

impl RecordBatchStream for GuardStream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
