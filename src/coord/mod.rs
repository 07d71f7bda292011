//! The one place that decides: sessions, epochs, definitions, subscriptions.
//!
//! A [`server::Server`] is what protocols talk to; it opens [`session::Session`]s. Sessions read from the [`World`]
//! they see (a catalog and its relations) at a pinned epoch without asking anybody; whatever changes something
//! goes as a [`command::Command`] to the one coordinator thread ([`epoch::Coordinator`]).
//!
//! Boundary: protocols translate and decide nothing; everything they can ask for is a statement given to a
//! session. Nothing below this layer knows sessions or the order of epochs.

pub mod advisory;
mod aside;
pub mod backend;
pub mod checkpoint;
pub mod command;
pub mod consistency;
pub mod constraint;
pub mod copy;
mod copy_binary;
pub mod cursor;
pub mod ddl;
mod define;
pub mod definition;
pub mod dml;
pub mod epoch;
pub mod explain;
pub mod figures;
pub mod hydrate;
pub mod ingest;
pub mod introspect;
pub mod recover;
mod rows;
pub mod select;
pub mod sequence;
pub mod server;
pub mod session;
pub mod show;
pub mod subscribe;
pub mod subscription;
mod system;
pub mod transaction;
mod upsert;
pub mod watermark;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::RwLock;

use crate::catalog::{Catalog, ObjectBody, ObjectId};
use crate::coord::command::Command;
use crate::coord::figures::Figures;
use crate::error::{Error, ErrorKind, Result};
use crate::store::relation::Relation;
use crate::store::snapshot::Epochs;
use crate::time::Clock;

/// What a session sees: names and the relations behind them, at one moment. Reading it at an epoch that was
/// published before or after it was taken is consistent, because relations keep their versions.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Names and definitions.
    pub catalog: Catalog,
    /// The stored relations.
    pub relations: Arc<BTreeMap<ObjectId, Arc<Relation>>>,
}

/// What the coordinator and all sessions share.
pub struct Shared {
    /// Closed epochs and who still reads them.
    pub epochs: Arc<Epochs>,
    /// Requests to the coordinator.
    pub commands: Sender<Command>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Worker threads of the engine.
    pub workers: usize,
    /// Figures for system relations and metrics.
    pub figures: Figures,
    /// Sequences in use.
    pub sequences: sequence::Sequences,
    pub(crate) sync_pool: SyncThread,
    world: RwLock<Arc<World>>,
    next_oid: AtomicU32,
    next_number: AtomicU64,
}

impl Shared {
    /// Shared state of a server that knows `world`.
    pub fn new(
        epochs: Arc<Epochs>,
        commands: Sender<Command>,
        clock: Arc<dyn Clock>,
        workers: usize,
        world: World,
    ) -> Result<Self> {
        let next_oid = AtomicU32::new(world.catalog.next_oid());
        Ok(Shared {
            epochs,
            commands,
            clock,
            workers,
            figures: Figures::default(),
            sequences: sequence::Sequences::default(),
            sync_pool: SyncThread::start()?,
            world: RwLock::new(Arc::new(world)),
            next_oid,
            next_number: AtomicU64::new(1),
        })
    }

    /// The newest world.
    pub fn world(&self) -> Arc<World> {
        self.world.read().clone()
    }

    pub(crate) fn set_world(&self, world: World) {
        self.next_oid.fetch_max(world.catalog.next_oid(), Ordering::SeqCst);
        *self.world.write() = Arc::new(world);
    }

    /// An OID that nobody else gets.
    pub fn allocate_oid(&self) -> ObjectId {
        ObjectId(self.next_oid.fetch_add(1, Ordering::SeqCst))
    }

    /// A number that nobody else gets (sessions, subscriptions).
    pub fn allocate_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::SeqCst)
    }

    /// The companion (`errors`, `late`) of an object.
    pub fn companion(&self, catalog: &Catalog, of: ObjectId, role: &str) -> Option<ObjectId> {
        let object = catalog.get(of)?;
        let named = format!("{}${role}", object.name);
        let is_it = |id: ObjectId, body: &ObjectBody| {
            matches!(body, ObjectBody::Companion { of: o, role: r } if *o == of && r == role).then_some(id)
        };
        if let Some(found) = catalog.find(&object.schema, &named) {
            return is_it(found.id, &found.body);
        }
        catalog.dependents(of).iter().find_map(|o| is_it(o.id, &o.body))
    }

    /// Sends a request; fails when the server is shutting down.
    pub fn send(&self, command: Command) -> Result<()> {
        self.commands
            .send(command)
            .map_err(|_| Error::new(ErrorKind::AdminShutdown, "the server is shutting down"))
    }
}

/// One thread that syncs the log while the dataflows step.
pub(crate) struct SyncThread(std::sync::mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl SyncThread {
    fn start() -> Result<Self> {
        let (tx, rx) = std::sync::mpsc::channel::<Box<dyn FnOnce() + Send>>();
        std::thread::Builder::new().name("log sync".into()).spawn(move || {
            for job in rx {
                job();
            }
        })?;
        Ok(SyncThread(tx))
    }

    /// Runs a job after those before it. When the thread is gone the job is dropped, and whoever waits for its
    /// answer sees that.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        drop(self.0.send(Box::new(job)));
    }
}
