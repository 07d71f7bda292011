//! Running dataflows: plans turned into operators on worker threads, stepped one epoch at a time.
//!
//! The [`Engine`] belongs to the coordinator. An epoch is one step: the dataflows that something has changed for
//! run in the order of their ids, which is a topological order because a view is created after what it reads.
//! Every worker runs the same list with its own instances of all operators; exchanges bring rows that belong
//! together to one worker. Between steps all state is at rest, so dataflows are created, hydrated, read and
//! dropped there. A dataflow that nothing has changed for costs nothing.
//!
//! A dataflow that fails (an error or a panic of an operator, too much memory) stops alone: its view keeps the
//! state of the last epoch that it closed, and nothing of the failing epoch is seen by anyone.
//!
//! Boundary: decides nothing about epochs, time or durability; knows relations by id and views as [`ViewStore`].

mod build;
mod driver;
mod exchange;
mod instance;
mod introspect;
mod worker;

use std::sync::Arc;

use crate::catalog::ObjectId;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::ZBatch;

pub use driver::Engine;
pub use exchange::Delivery;
pub use introspect::{DataflowStats, NodeStats};

/// What keeps the rows of a view: [`crate::store`]'s relation.
pub trait ViewStore: Send + Sync {
    /// Applies the change of one epoch. `partition` is the worker that owns the rows.
    fn apply(&self, partition: usize, epoch: Epoch, delta: &ZBatch) -> Result<()>;
    /// Applies a part of a new view's contents: nobody sees it before [`ViewStore::reveal`].
    fn fill(&self, partition: usize, delta: &ZBatch) -> Result<()>;
    /// The contents are complete: they begin at `epoch`.
    fn reveal(&self, epoch: Epoch);
    /// Rows will be taken out again while the view is filled.
    fn expect_deletes(&self) -> Result<()>;
}

impl ViewStore for crate::store::Relation {
    fn apply(&self, partition: usize, epoch: Epoch, delta: &ZBatch) -> Result<()> {
        crate::store::Relation::apply(self, partition, epoch, delta)
    }
    fn fill(&self, partition: usize, delta: &ZBatch) -> Result<()> {
        crate::store::Relation::apply(self, partition, crate::store::Relation::HIDDEN, delta)
    }
    fn reveal(&self, epoch: Epoch) {
        crate::store::Relation::reveal(self, epoch);
    }
    fn expect_deletes(&self) -> Result<()> {
        crate::store::Relation::build_primary_index(self)
    }
}

/// Where the result of a dataflow goes.
#[derive(Clone)]
pub enum Target {
    /// To a view and the relation of its errors. The error relation is written through partition 0 only.
    View(Arc<dyn ViewStore>, Arc<dyn ViewStore>),
    /// Nowhere (a sink takes the changelog; hydration measurements).
    Blackhole,
}

/// A dataflow to be created.
#[derive(Clone)]
pub struct DataflowSpec {
    /// The view or sink; later dataflows read its changes under this id.
    pub id: ObjectId,
    /// What it computes.
    pub plan: Arc<Plan>,
    /// Where its result goes.
    pub target: Target,
    /// Whether [`StepReport::changelogs`] holds its changes.
    pub keep_changelog: bool,
}

/// What an epoch brings.
#[derive(Debug, Clone, Default)]
pub struct EpochInput {
    /// The epoch to close.
    pub epoch: Epoch,
    /// `now()` of the epoch.
    pub now: EventTime,
    /// Changes of tables and sources, each relation once.
    pub changes: Vec<(ObjectId, Vec<ZBatch>)>,
    /// Watermarks of tables and sources that have moved.
    pub watermarks: Vec<(ObjectId, Watermark)>,
}

/// What an epoch has done.
#[derive(Debug, Default)]
pub struct StepReport {
    /// The consolidated changes of the views that were asked for, in the order of their ids.
    pub changelogs: Vec<(ObjectId, Vec<ZBatch>)>,
    /// The consolidated changes of error relations.
    pub errors: Vec<(ObjectId, Vec<ZBatch>)>,
    /// The earliest moment at which a dataflow has something to do by itself.
    pub next_timer: Option<EventTime>,
    /// Dataflows that took part.
    pub ran: Vec<ObjectId>,
    /// Dataflows that have failed in this epoch; they no longer run.
    pub failed: Vec<(ObjectId, Error)>,
}

#[cfg(test)]
mod tests;
