//! Everything that can make the coordinator do something, in one closed enum.
//!
//! No callbacks lead into the coordinator: sessions, source readers and the server's shutdown send a
//! [`Command`] and wait for its reply. Definitions travel as [`DdlOp`]s, rows as [`TableWrite`]s.

use std::sync::Arc;
use std::sync::mpsc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::catalog::{Object, ObjectId, SequenceValue};
use crate::connector::source::{DeadLetter, SourceBatch};
use crate::coord::introspect::Stats;
use crate::coord::subscribe::Subscriber;
use crate::error::Result;
use crate::plan::Plan;
use crate::storage::base::FinishedBase;
use crate::store::relation::Relation;
use crate::time::Epoch;
use crate::zset::ZBatch;

/// A reply that a session waits for.
pub type Reply<T> = oneshot::Sender<Result<T>>;

/// A request to the coordinator.
pub enum Command {
    /// Apply a transaction: all of it in one epoch, or none.
    Commit {
        /// Definitions, in order.
        ddl: Vec<DdlOp>,
        /// Rows, in order.
        writes: Vec<TableWrite>,
        /// New views are not waited for.
        background: bool,
        /// Answered when the epoch is durable and closed, and new views are filled.
        reply: Reply<Epoch>,
    },
    /// Rows that a source's reader has fetched.
    Ingest(Ingest),
    /// Start a subscription to a relation's changes.
    Subscribe {
        /// The relation.
        object: ObjectId,
        /// Who receives.
        subscriber: Subscriber,
        /// Answered with the epoch of the snapshot: changes after it will be sent.
        reply: Reply<Epoch>,
    },
    /// Run a query's plan as a dataflow of its own for one subscription.
    SubscribeQuery {
        /// Id for the dataflow and its relation.
        id: ObjectId,
        /// The plan.
        plan: Arc<Plan>,
        /// Where its result is kept.
        relation: Arc<Relation>,
        /// Who receives.
        subscriber: Subscriber,
        /// Answered with the epoch of the snapshot.
        reply: Reply<Epoch>,
    },
    /// A subscription has ended.
    Unsubscribe {
        /// Number of the subscriber.
        subscriber: u64,
    },
    /// The user no longer wants these views: they need not be filled to the end.
    AbandonViews(Vec<ObjectId>),
    /// A sequence may be handed out as far as `value` once this is durable, or stands there from now on.
    Sequence {
        /// The sequence.
        id: ObjectId,
        /// How far.
        value: SequenceValue,
        /// Answered when it is durable.
        reply: Reply<Epoch>,
    },
    /// A base snapshot has been written, or has failed.
    BaseWritten(Result<FinishedBase>),
    /// Close an epoch now even if nothing changed; answered when it is closed.
    Tick {
        /// Answered with the epoch.
        reply: Reply<Epoch>,
    },
    /// Figures of the running dataflows.
    Stats {
        /// Answered at once.
        reply: oneshot::Sender<Stats>,
    },
    /// Close the last epoch and stop.
    Shutdown {
        /// Answered when everything is at rest.
        reply: oneshot::Sender<()>,
    },
}

/// What a source's reader hands over at once.
pub struct Ingest {
    /// The source.
    pub source: ObjectId,
    /// Decoded rows by partition.
    pub batches: Vec<SourceBatch>,
    /// Records that could not be decoded.
    pub dead_letters: Vec<DeadLetter>,
    /// What the source is doing, for `freshet.sources`.
    pub status: String,
    /// Told when the rows are in a closed epoch; bounds what is under way.
    pub done: mpsc::Sender<()>,
}

/// A change of one table.
#[derive(Debug, Clone)]
pub struct TableWrite {
    /// The table.
    pub table: ObjectId,
    /// What is deleted and inserted; an update is both.
    pub change: ZBatch,
    /// The table as it was when the rows were made and checked.
    pub object: Arc<Object>,
    /// The statement said what to do when a key is there already: a key that has come up since is a conflict of
    /// transactions and no error of the user's.
    pub upsert: bool,
    /// Rows that were read to be changed: they must still be there, and nothing happens to them.
    pub locked: bool,
}

/// A change of the catalog.
#[derive(Debug, Clone)]
pub enum DdlOp {
    /// CREATE SCHEMA.
    CreateSchema(String),
    /// DROP SCHEMA of an empty schema.
    DropSchema(String),
    /// A new object, with its plan if it is to be maintained.
    Create(Box<Object>, Option<Arc<Plan>>),
    /// The same object under another name, comment or definition of a plain view.
    Replace(Box<Object>),
    /// Remove an object (its dependents come first).
    Drop(ObjectId),
    /// Where a sequence stands.
    Sequence(ObjectId, SequenceValue),
    /// Nothing to do, but no row of the table may have changed after this epoch.
    Unchanged(ObjectId, Epoch),
}

/// A [`DdlOp`] as the log keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub enum DdlRecord {
    /// CREATE SCHEMA.
    CreateSchema(String),
    /// DROP SCHEMA.
    DropSchema(String),
    /// CREATE of an object.
    Create(Box<Object>),
    /// A changed object.
    Replace(Box<Object>),
    /// DROP of an object.
    Drop(ObjectId),
    /// How far a sequence may have come.
    Sequence(ObjectId, SequenceValue),
}

impl DdlRecord {
    /// What the log keeps of an operation.
    pub fn of(op: &DdlOp) -> Option<Self> {
        Some(match op {
            DdlOp::CreateSchema(s) => DdlRecord::CreateSchema(s.clone()),
            DdlOp::DropSchema(s) => DdlRecord::DropSchema(s.clone()),
            DdlOp::Create(o, _) => DdlRecord::Create(o.clone()),
            DdlOp::Replace(o) => DdlRecord::Replace(o.clone()),
            DdlOp::Drop(id) => DdlRecord::Drop(*id),
            DdlOp::Sequence(id, value) => DdlRecord::Sequence(*id, *value),
            DdlOp::Unchanged(..) => return None,
        })
    }
}
