//! Coming back: from the log to a server that stands where the last durable epoch left it.
//!
//! The log (base snapshot and records) is what counts; the catalog store is compared with it and repaired. Then
//! tables are as they were, sources are read again as far as their bindings say, and views are
//! filled from them. Recovery may be interrupted and repeated: it writes nothing that is not already so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::catalog::object::StoredCatalog;
use crate::catalog::{Catalog, Object, ObjectBody, ObjectId};
use crate::coord::command::{Command, DdlOp, DdlRecord};
use crate::coord::epoch::Coordinator;
use crate::coord::hydrate::Hydration;
use crate::coord::ingest::{self, Binding, Replay, SourceState};
use crate::coord::subscribe::Hub;
use crate::coord::{Shared, World, ddl, rows};
use crate::dataflow::Engine;
use crate::error::{Error, Result};
use crate::sql::bind::{self, BindContext};
use crate::sql::statement::Emit;
use crate::storage::base::Base;
use crate::storage::log::{Log, LogEntry, LogRecord, Recovery};
use crate::storage::meta::{MetaStore, MetaWrite};
use crate::store::relation::Relation;
use crate::store::snapshot::Epochs;
use crate::time::{Clock, Epoch, Watermark};
use crate::zset::ZBatch;

/// What recovery is given.
pub struct Parts {
    /// The log, open.
    pub log: Log,
    /// What it held.
    pub recovery: Recovery,
    /// The catalog store.
    pub meta: Box<dyn MetaStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Worker threads.
    pub workers: usize,
    /// Bytes of state that views may hold.
    pub memory_limit: usize,
    /// How long past states stay readable.
    pub retention: std::time::Duration,
    /// Size of the log that makes a base snapshot worthwhile.
    pub checkpoint_size: u64,
    /// Rows and bytes after which no more is gathered for an epoch.
    pub epoch_limits: (usize, usize),
    /// Where commands come from and go to.
    pub commands: (Sender<Command>, Receiver<Command>),
    /// Makes a context for binding views' queries again: (catalog, search path).
    pub context: fn(&Catalog, &[String]) -> BindContext<'static>,
}

/// Rebuilds the coordinator; it has not been started.
pub fn recover(parts: Parts) -> Result<(Coordinator, Arc<Shared>)> {
    let Recovery { base, records, torn_bytes } = parts.recovery;
    if torn_bytes > 0 {
        info!(bytes = torn_bytes, "an unfinished write at the end of the log was cut off");
    }
    let base = base.unwrap_or_default();
    let mut catalog = catalog_of(&base, &records)?;
    leave_temporary(&mut catalog);
    repair_store(&*parts.meta, &catalog)?;
    let last_epoch = records.last().map_or(base.epoch, |r| r.epoch.max(base.epoch));
    let world = World { catalog: catalog.clone(), relations: Arc::default() };
    let retention = u64::try_from(parts.retention.as_micros()).unwrap_or(u64::MAX);
    let epochs = Epochs::new(last_epoch, retention);
    let shared = Arc::new(Shared::new(epochs, parts.commands.0, parts.clock, parts.workers, world)?);
    let mut engine = Engine::start(parts.workers);
    engine.set_memory_limit(Some(parts.memory_limit));
    let mut coordinator = Coordinator {
        shared: shared.clone(),
        commands: parts.commands.1,
        engine,
        log: Arc::new(Mutex::new(parts.log)),
        meta: parts.meta,
        catalog,
        relations: BTreeMap::new(),
        trackers: BTreeMap::new(),
        sources: BTreeMap::new(),
        hydrations: VecDeque::new(),
        hidden: BTreeSet::new(),
        hub: Hub::default(),
        last_epoch,
        last_written: BTreeMap::new(),
        next_timer: None,
        unsynced_since: None,
        poisoned: None,
        checkpoint_size: parts.checkpoint_size,
        epoch_limits: parts.epoch_limits,
        memory_limit: parts.memory_limit,
        memory: None,
        base_in_progress: false,
    };
    coordinator.restore(base, records, parts.context)?;
    Ok((coordinator, shared))
}

/// The catalog as the log leaves it.
fn catalog_of(base: &Base, records: &[LogRecord]) -> Result<Catalog> {
    let mut catalog = if base.ddl.is_empty() {
        Catalog::new()
    } else {
        let stored: StoredCatalog = serde_json::from_slice(&base.ddl).map_err(|e| damaged(&e))?;
        Catalog::from(stored)
    };
    for entry in records.iter().flat_map(|r| &r.entries) {
        let LogEntry::Ddl(bytes) = entry else { continue };
        match serde_json::from_slice(bytes).map_err(|e| damaged(&e))? {
            DdlRecord::CreateSchema(name) => catalog.add_schema(&name)?,
            DdlRecord::DropSchema(name) => catalog.remove_schema(&name),
            DdlRecord::Create(object) => catalog.insert(*object)?,
            DdlRecord::Replace(object) => catalog.replace(*object)?,
            DdlRecord::Drop(id) => drop(catalog.remove(id)),
            DdlRecord::Sequence(id, value) => {
                if catalog.get(id).is_some() {
                    catalog.set_sequence(id, value);
                }
            }
        }
    }
    Ok(catalog)
}

/// Temporary objects are those of sessions that are gone.
fn leave_temporary(catalog: &mut Catalog) {
    let temporary: Vec<ObjectId> =
        catalog.objects().filter(|o| ddl::is_temporary(&o.schema)).map(|o| o.id).collect();
    temporary.into_iter().for_each(|id| drop(catalog.remove(id)));
    let schemas: Vec<String> =
        catalog.schemas().map(|(n, _)| n.to_string()).filter(|n| ddl::is_temporary(n)).collect();
    schemas.iter().for_each(|name| catalog.remove_schema(name));
}

/// The tables that are altered by these records.
fn altered(records: &[LogRecord]) -> BTreeSet<ObjectId> {
    let of = |entry: &LogEntry| match entry {
        LogEntry::Ddl(bytes) => match serde_json::from_slice(bytes) {
            Ok(DdlRecord::Replace(o)) if matches!(o.body, ObjectBody::Table { .. }) => Some(o.id),
            _ => None,
        },
        _ => None,
    };
    records.iter().flat_map(|r| &r.entries).filter_map(of).collect()
}

fn damaged(e: &serde_json::Error) -> Error {
    Error::new(crate::error::ErrorKind::DataCorrupted, "a definition in the log cannot be read")
        .with_detail(e.to_string())
        .with_hint("It may have been written by a newer version of the server.")
}

fn object_key(id: ObjectId) -> Vec<u8> {
    format!("object/{:010}", id.0).into_bytes()
}

fn schema_key(name: &str) -> Vec<u8> {
    format!("schema/{name}").into_bytes()
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal("a definition could not be encoded").with_source(e))
}

/// Compares the catalog store with the catalog and rewrites what differs.
fn repair_store(meta: &dyn MetaStore, catalog: &Catalog) -> Result<()> {
    let mut wanted: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for object in catalog.objects() {
        wanted.insert(object_key(object.id), encode(&**object)?);
    }
    for (name, oid) in catalog.schemas() {
        wanted.insert(schema_key(name), encode(&oid)?);
    }
    let mut batch = Vec::new();
    for prefix in [b"object/".as_slice(), b"schema/"] {
        for (key, value) in meta.scan_prefix(prefix)? {
            match wanted.get(&key) {
                Some(v) if *v == value => drop(wanted.remove(&key)),
                Some(_) => {}
                None => batch.push(MetaWrite::Delete(key)),
            }
        }
    }
    batch.extend(wanted.into_iter().map(|(k, v)| MetaWrite::Put(k, v)));
    if batch.is_empty() {
        return Ok(());
    }
    info!(entries = batch.len(), "the catalog store is brought up to date from the log");
    meta.commit(&batch)?;
    meta.flush()
}

/// Writes what a statement has changed to the catalog store.
pub(super) fn store_definitions(meta: &dyn MetaStore, catalog: &Catalog, ddl: &[DdlOp]) -> Result<()> {
    let mut batch = Vec::with_capacity(ddl.len());
    for op in ddl {
        batch.push(match op {
            // The log alone keeps them.
            DdlOp::Sequence(..) | DdlOp::Unchanged(..) => continue,
            DdlOp::CreateSchema(name) => {
                let oid = catalog.schemas().find(|(n, _)| n == name).map_or(0, |(_, oid)| oid);
                MetaWrite::Put(schema_key(name), encode(&oid)?)
            }
            DdlOp::DropSchema(name) => MetaWrite::Delete(schema_key(name)),
            DdlOp::Create(object, _) | DdlOp::Replace(object) => {
                MetaWrite::Put(object_key(object.id), encode(&**object)?)
            }
            DdlOp::Drop(id) => MetaWrite::Delete(object_key(*id)),
        });
    }
    meta.commit(&batch)?;
    meta.flush()
}

impl Coordinator {
    fn restore(
        &mut self,
        base: Base,
        records: Vec<LogRecord>,
        context: fn(&Catalog, &[String]) -> BindContext<'static>,
    ) -> Result<()> {
        let objects: Vec<Arc<Object>> = self.catalog.objects().cloned().collect();
        let altered = altered(&records);
        for object in objects.iter().filter(|o| o.is_stored()) {
            self.add_to_store(object)?;
            if altered.contains(&object.id) {
                // Rows may have been NULL where they must not be any more.
                let mut open = (**object).clone();
                open.columns.iter_mut().for_each(|c| c.nullable = true);
                let relation = Relation::new(&open.name, open.arrow_schema(), open.unique_key().to_vec(), 1);
                self.relations.insert(object.id, Arc::new(relation));
            }
        }
        self.restore_tables(base, records)?;
        for object in objects.iter().filter(|o| altered.contains(&o.id)) {
            self.reshape(object)?;
        }
        for object in objects.iter().filter(|o| matches!(o.body, ObjectBody::Index { .. })) {
            if let Err(e) = self.add_to_store(object) {
                error!(index = %object.name, error = ?e, "an index could not be built again");
            }
        }
        self.shared.epochs.publish(self.last_epoch);
        for object in &objects {
            self.restore_dataflow(object, context);
        }
        self.hydrate_all();
        self.publish_world();
        self.start_readers();
        Ok(())
    }

    /// Tables from the base and the log; sources from where they come from.
    fn restore_tables(&mut self, base: Base, records: Vec<LogRecord>) -> Result<()> {
        for (id, batches) in base.tables {
            if let Some(relation) = self.relations.get(&ObjectId(id)) {
                for rows in batches {
                    relation.apply(0, base.epoch, &self.widened(ObjectId(id), ZBatch::inserts(rows))?)?;
                }
            }
        }
        for binding in base.bindings {
            self.restore_binding(ObjectId(binding.object), &binding.offsets, binding.watermark)?;
        }
        let mut replays: BTreeMap<ObjectId, Option<Replay>> = BTreeMap::new();
        for record in records {
            let epoch = record.epoch;
            for entry in record.entries {
                match entry {
                    LogEntry::Ddl(_) => {}
                    LogEntry::Table { object, change } => {
                        if let Some(relation) = self.relations.get(&ObjectId(object)) {
                            relation.apply(0, epoch, &self.widened(ObjectId(object), change)?)?;
                        }
                    }
                    LogEntry::Binding { object, offsets, watermark } => {
                        self.replay_source(ObjectId(object), epoch, &offsets, &mut replays)?;
                        self.restore_binding(ObjectId(object), &offsets, watermark)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Rows written before columns were added to their table.
    fn widened(&self, id: ObjectId, change: ZBatch) -> Result<ZBatch> {
        let Some(object) = self.catalog.get(id) else { return Ok(change) };
        if change.columns().len() >= object.columns.len() {
            return Ok(change);
        }
        let mut object = (**object).clone();
        object.columns.iter_mut().for_each(|c| c.nullable = true);
        change.with_rows(rows::widen(change.rows(), &object)?)
    }

    fn restore_binding(&mut self, id: ObjectId, offsets: &[u8], watermark: Watermark) -> Result<()> {
        if let Some(tracker) = self.trackers.get_mut(&id) {
            tracker.restore(watermark);
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let Some(object) = self.catalog.get(id) else { return Ok(()) };
        let progress: Binding = serde_json::from_slice(offsets).map_err(|e| damaged(&e))?;
        self.sources.entry(id).or_insert_with(|| SourceState::new(object)).progress = progress;
        Ok(())
    }

    /// Reads a source on to where an epoch's binding says it was.
    fn replay_source(
        &mut self,
        id: ObjectId,
        epoch: Epoch,
        offsets: &[u8],
        replays: &mut BTreeMap<ObjectId, Option<Replay>>,
    ) -> Result<()> {
        let Some(object) = self.catalog.get(id).cloned() else { return Ok(()) };
        if offsets.is_empty() || !Self::keeps_history(&object.body) {
            return Ok(());
        }
        let target: Binding = serde_json::from_slice(offsets).map_err(|e| damaged(&e))?;
        let state = self.sources.entry(id).or_insert_with(|| SourceState::new(&object));
        let replay = replays.entry(id).or_insert_with(|| {
            let opened = ingest::spec_of(&object).and_then(|spec| Replay::open(&spec, state));
            opened
                .inspect_err(|e| {
                    error!(source = %object.name, error = ?e, "a source could not be read again; it starts over");
                })
                .ok()
        });
        let Some(replay) = replay else { return Ok(()) };
        match replay.advance(id, &target) {
            Ok(fetched) => {
                let mut open = self.open_epoch();
                open.epoch = epoch;
                self.apply_ingest(&mut open, fetched)
            }
            Err(e) => {
                warn!(source = %object.name, error = ?e, "a source could not be read again to where it was");
                Ok(())
            }
        }
    }

    /// Plans a view or sink again and queues it for filling.
    fn restore_dataflow(
        &mut self,
        object: &Object,
        context: fn(&Catalog, &[String]) -> BindContext<'static>,
    ) {
        let (query, emit) = match &object.body {
            ObjectBody::MaterializedView { query, emit_on_window_close: true, .. } => {
                (query, Emit::OnWindowClose)
            }
            ObjectBody::MaterializedView { query, .. } | ObjectBody::Sink { query, .. } => {
                (query, Emit::OnUpdate)
            }
            _ => return,
        };
        let mut context = context(&self.catalog, &object.search_path);
        context.written_in = self.catalog.get(object.id).cloned();
        let planned = bind::bind_query_text(query, &context)
            .and_then(|bound| ddl::plan_query(&bound, &self.catalog, emit))
            .and_then(|plan| Ok((plan, self.target_of(object)?)));
        match planned {
            Ok((plan, target)) => {
                let mut waiting = Hydration::new(object, plan, target);
                if let Some(errors) = self.companion(object.id, "errors")
                    && let Some(relation) = self.relations.get(&errors)
                {
                    waiting.set_errors(relation.clone());
                }
                self.hydrations.push_back(waiting);
            }
            Err(e) => {
                error!(view = %object.name, error = ?e, "a view could not be planned again; it stays empty");
                self.shared.figures.failed(object.id, &e);
            }
        }
    }
}
