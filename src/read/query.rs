//! SELECT at one epoch: a logical plan, its sources replaced by snapshots, run by DataFusion.
//!
//! A query is planned and run as a task of its own runtime (never the wire's), under its own memory pool, and
//! hands its batches over through a short queue. Whoever waits for it returns at once when it is canceled, also when
//! the query itself takes a while to notice.
//!
//! Boundary: the epoch is pinned by the caller's pin, which the query keeps until it ends; names are resolved by
//! the caller's [`Resolver`].

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::TableReference;
use datafusion::common::tree_node::Transformed;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::guard::{canceled, protect};
use super::table::RelationProvider;
use crate::catalog::{CatalogTable, ObjectId};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{EpochPin, Relation};

/// Rows per batch; and for joins of all pairs, whose innermost loop is not interrupted.
const BATCH_ROWS: usize = 8192;
const ALL_PAIRS_BATCH_ROWS: usize = 1024;
/// Batches that wait for a slow consumer.
const QUEUE: usize = 2;

/// Gives a plan's sources their rows.
pub trait Resolver {
    /// The stored relation of this object.
    fn relation(&self, id: ObjectId) -> Result<Arc<Relation>>;

    /// The rows of a source that is not a [`CatalogTable`] (system tables), in the source's schema. `None`: the
    /// source is left as it is (a source that DataFusion can read itself).
    fn rows(&self, name: &TableReference, source: &dyn TableSource) -> Result<Option<Vec<RecordBatch>>>;
}

/// The limits of one query.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What sorts, joins and groupings may hold, together with those of all other queries that share it.
    pub memory: Arc<dyn MemoryPool>,
    /// Where they may spill; `None`: nowhere.
    pub spill: Option<PathBuf>,
}

/// Memory that queries share.
pub fn memory_pool(bytes: usize) -> Arc<dyn MemoryPool> {
    Arc::new(GreedyMemoryPool::new(bytes))
}

/// A state with DataFusion's own functions and rules: made once, given functions of ours, used for all queries.
/// One target partition gives the lowest latency.
pub fn session_state(target_partitions: usize) -> Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_target_partitions(target_partitions.max(1))
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(false);
    // Names are resolved when a statement is bound; nothing is folded to lower case again.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let no_spill = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let environment = RuntimeEnvBuilder::new().with_disk_manager_builder(no_spill).build_arc()?;
    // The physical filter pushdown finds columns by their bare names: above a join of relations that share a name
    // it filters the wrong side. Conditions have been pushed down by the logical rules already, by full names.
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    Ok(SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(environment)
        .with_default_features()
        .with_physical_optimizer_rules(rules)
        .build())
}

/// Replaces the sources of a plan by the rows of `pin`'s epoch.
pub fn resolve(plan: LogicalPlan, resolver: &dyn Resolver, pin: &EpochPin) -> Result<LogicalPlan> {
    let resolved = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let table = (&*scan.source as &dyn Any).downcast_ref::<CatalogTable>();
        let schema = scan.source.schema();
        let provider = match table {
            Some(table) => {
                let relation = resolver.relation(table.object.id).map_err(external)?;
                RelationProvider::new(relation, pin.epoch(), schema)
            }
            None => match resolver.rows(&scan.table_name, &*scan.source).map_err(external)? {
                Some(batches) => RelationProvider::of_batches(schema, batches),
                None => return Ok(Transformed::no(LogicalPlan::TableScan(scan))),
            },
        };
        scan.source = provider_as_source(Arc::new(provider));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    })?;
    Ok(resolved.data)
}

fn external(e: Error) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

/// Starts a query on `runtime`; the batches come from the stream.
pub fn start(
    plan: LogicalPlan,
    resolver: &dyn Resolver,
    pin: EpochPin,
    state: Arc<SessionState>,
    limits: &Limits,
    runtime: &tokio::runtime::Handle,
    cancel: CancellationToken,
) -> Result<QueryStream> {
    let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
    let plan = resolve(plan, resolver, &pin)?;
    let environment = environment(&state, limits)?;
    // The query's own token: canceled with the caller's, and when the stream is dropped.
    let own = cancel.child_token();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let query = Query { state, environment, cancel: own.clone(), sender: sender.clone() };
    let task = runtime.spawn(async move {
        let outcome = AssertUnwindSafe(query.run(plan)).catch_unwind().await;
        let last = match outcome {
            Ok(Ok(())) => Ok(None),
            Ok(Err(e)) => Err(e),
            Err(panic) => Err(panicked(&*panic)),
        };
        // Nobody listens any more: then nobody misses it.
        let _ = sender.send(last).await;
        drop(pin);
    });
    let canceled = Box::pin(own.clone().cancelled_owned());
    Ok(QueryStream { schema, receiver, task, canceled, cancel: own, done: false })
}

/// The shared environment with a memory pool (and a place to spill to) of the query's own.
fn environment(state: &SessionState, limits: &Limits) -> Result<Arc<RuntimeEnv>> {
    let mut environment = (**state.runtime_env()).clone();
    environment.memory_pool = limits.memory.clone();
    if let Some(directory) = &limits.spill {
        let disk = DiskManagerMode::Directories(vec![directory.clone()]);
        environment.disk_manager = Arc::new(DiskManagerBuilder::default().with_mode(disk).build()?);
    }
    Ok(Arc::new(environment))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|m| m.to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(message, "query panicked");
    Error::internal("the query failed unexpectedly").with_detail(message)
}

/// A batch, the end of the result, or the error that ended it.
type Message = Result<Option<RecordBatch>>;

struct Query {
    state: Arc<SessionState>,
    environment: Arc<RuntimeEnv>,
    cancel: CancellationToken,
    sender: mpsc::Sender<Message>,
}

impl Query {
    async fn run(self, plan: LogicalPlan) -> Result<()> {
        let physical = self.state.create_physical_plan(&plan).await?;
        drop(plan);
        if self.cancel.is_cancelled() {
            return Err(canceled());
        }
        let (physical, all_pairs): (Arc<dyn ExecutionPlan>, bool) = protect(physical, &self.cancel)?;
        let mut config = self.state.config().clone();
        if all_pairs {
            config = config.with_batch_size(ALL_PAIRS_BATCH_ROWS);
        }
        // The functions are in the plan already; the context needs only settings and memory.
        let context = TaskContext::new(
            None,
            String::new(),
            config,
            Default::default(),
            Default::default(),
            Default::default(),
            Default::default(),
            self.environment.clone(),
        );
        let mut batches = execute_stream(physical, Arc::new(context))?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            if self.cancel.is_cancelled() {
                return Err(canceled());
            }
            if batch.num_rows() > 0 && self.sender.send(Ok(Some(batch))).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The batches of a running query. Dropping it ends the query.
pub struct QueryStream {
    schema: SchemaRef,
    receiver: mpsc::Receiver<Message>,
    task: JoinHandle<()>,
    canceled: Pin<Box<WaitForCancellationFutureOwned>>,
    cancel: CancellationToken,
    done: bool,
}

impl QueryStream {
    /// The columns of the result. Batches have the same types; their field names may differ.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// All batches at once.
    pub async fn collect_all(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        if self.canceled.as_mut().poll(cx).is_ready() {
            self.done = true;
            self.task.abort();
            return Poll::Ready(Some(Err(canceled())));
        }
        let next = match std::task::ready!(self.receiver.poll_recv(cx)) {
            Some(Ok(Some(batch))) => return Poll::Ready(Some(Ok(batch))),
            Some(Ok(None)) => None,
            Some(Err(e)) => Some(Err(e)),
            // The task went away without a word: its runtime was shut down.
            None => {
                Some(Err(Error::new(ErrorKind::AdminShutdown, "canceling statement due to server shutdown")))
            }
        };
        self.done = true;
        Poll::Ready(next)
    }
}

impl Drop for QueryStream {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.task.abort();
    }
}

impl std::fmt::Debug for QueryStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryStream").field("schema", &self.schema).field("done", &self.done).finish()
    }
}

/// The error for a relation that the resolver does not know.
pub fn unknown_relation(id: ObjectId) -> Error {
    Error::new(ErrorKind::UndefinedTable, format!("relation with OID {id} does not exist"))
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
