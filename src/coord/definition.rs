//! Changes of the catalog as the coordinator carries them out.
//!
//! A session has bound and planned its statement against the catalog it saw; here it is checked against the catalog
//! as it is, applied in memory, logged with the epoch, and only then carried out: dataflows built, readers
//! started, what was dropped torn down.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use tracing::{error, warn};

use crate::catalog::object::UniqueKey;
use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::coord::command::{DdlOp, DdlRecord, Reply};
use crate::coord::epoch::{Coordinator, OpenEpoch};
use crate::coord::hydrate::{Destination, Hydration};
use crate::coord::ingest::SourceState;
use crate::coord::watermark::WatermarkTracker;
use crate::coord::{World, constraint, recover, rows};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::log::{LogEntry, LogRecord};
use crate::store::relation::Relation;
use crate::time::Epoch;
use crate::zset::ZBatch;

/// What has to be done once definitions are durable.
#[derive(Default)]
pub struct Effects {
    /// Views and sinks to fill, in order.
    pub views: Vec<Hydration>,
    /// Unique keys that are new: checked when the transaction's rows are there.
    keys: Vec<(ObjectId, UniqueKey)>,
    dropped: Vec<Arc<Object>>,
}

impl Coordinator {
    /// Applies definitions to the catalog in memory and puts them into the epoch's log record.
    pub(super) fn apply_definitions(&mut self, open: &mut OpenEpoch, ddl: &[DdlOp]) -> Result<Effects> {
        let mut effects = Effects::default();
        for op in ddl {
            self.apply_definition(op, &mut effects)?;
            let Some(record) = DdlRecord::of(op) else { continue };
            let record = serde_json::to_vec(&record)
                .map_err(|e| Error::internal("a definition could not be encoded").with_source(e))?;
            open.entries.push(LogEntry::Ddl(record));
        }
        Ok(effects)
    }

    fn apply_definition(&mut self, op: &DdlOp, effects: &mut Effects) -> Result<()> {
        match op {
            DdlOp::CreateSchema(name) => self.catalog.add_schema(name),
            DdlOp::DropSchema(name) => {
                if self.catalog.objects().any(|o| &o.schema == name) {
                    return Err(Error::new(
                        ErrorKind::DependentObjects,
                        format!("cannot drop schema {name} because other objects depend on it"),
                    )
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
                }
                self.catalog.remove_schema(name);
                Ok(())
            }
            DdlOp::Create(object, plan) => {
                for needed in &object.depends_on {
                    if self.catalog.get(*needed).is_none() {
                        return Err(Error::new(
                            ErrorKind::Serialization,
                            format!("an object that \"{}\" is built on has just been dropped", object.name),
                        ));
                    }
                }
                self.catalog.insert((**object).clone())?;
                self.add_to_store(object)?;
                if let ObjectBody::Index { on, columns, unique: true, .. } = &object.body {
                    let (name, columns) = (object.name.clone(), columns.clone());
                    effects.keys.push((*on, UniqueKey { name, columns, constraint: false }));
                }
                if let Some(plan) = plan {
                    let target = self.target_of(object)?;
                    self.hidden.insert(object.id);
                    effects.views.push(Hydration::new(object, plan.clone(), target));
                }
                Ok(())
            }
            DdlOp::Replace(object) => {
                let had_key = self.catalog.get(object.id).is_some_and(|o| !o.unique_key().is_empty());
                self.catalog.replace((**object).clone())?;
                if let ObjectBody::Table { primary_key, .. } = &object.body
                    && !had_key
                    && !primary_key.is_empty()
                {
                    let (name, columns) = (object.key_name(), primary_key.clone());
                    effects.keys.push((object.id, UniqueKey { name, columns, constraint: true }));
                }
                self.reshape(object)
            }
            DdlOp::Sequence(id, value) => {
                self.catalog.set_sequence(*id, *value);
                Ok(())
            }
            DdlOp::Unchanged(id, since) => {
                let written = self.last_written.get(id).is_some_and(|at| at > since);
                if written { Err(constraint::conflict()) } else { Ok(()) }
            }
            DdlOp::Drop(id) => {
                // A table that owns a sequence goes right after it.
                let owner = self.catalog.get(*id).and_then(|o| match &o.body {
                    ObjectBody::Sequence(spec) => spec.owned_by.map(|(table, _)| table),
                    _ => None,
                });
                let dependents = self.catalog.dependents(*id);
                if let Some(d) = dependents.iter().find(|d| Some(d.id) != owner) {
                    return Err(Error::new(
                        ErrorKind::DependentObjects,
                        "cannot drop the object because other objects depend on it",
                    )
                    .with_detail(format!("{} {} depends on it.", d.kind_name(), d.name))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
                }
                let object = self.catalog.remove(*id).ok_or_else(|| {
                    Error::new(ErrorKind::UndefinedTable, "the object has already been dropped")
                })?;
                if let ObjectBody::Index { on, columns, .. } = &object.body
                    && let Some(relation) = self.relations.get(on)
                {
                    relation.drop_index(columns);
                }
                self.relations.remove(id);
                self.trackers.remove(id);
                effects.dropped.push(object);
                Ok(())
            }
        }
    }

    /// A table whose columns have changed gets a relation of its new shape, with the rows of the old one. Readers keep
    /// the old one as long as they keep their world.
    pub(super) fn reshape(&mut self, object: &Object) -> Result<()> {
        let Some(old) = self.relations.get(&object.id).cloned() else { return Ok(()) };
        let ObjectBody::Table { primary_key, .. } = &object.body else { return Ok(()) };
        let schema = object.arrow_schema();
        let key_is_there = primary_key.is_empty() || old.has_index(primary_key);
        let shape = |s: &Schema| -> Vec<(DataType, bool)> {
            s.fields().iter().map(|f| (f.data_type().clone(), f.is_nullable())).collect()
        };
        if shape(old.schema()) == shape(&schema) && key_is_there {
            return Ok(());
        }
        let relation = Relation::new(&object.name, schema, primary_key.clone(), old.partitions());
        let newest = Epoch(u64::MAX - 1);
        for batch in old.snapshot(newest).batches(None)? {
            relation.apply(0, self.last_epoch, &ZBatch::inserts(rows::widen(&batch, object)?))?;
        }
        for index in self.catalog.indexes_on(object.id) {
            if let ObjectBody::Index { columns, .. } = &index.body {
                relation.create_index(columns.clone())?;
            }
        }
        self.relations.insert(object.id, Arc::new(relation));
        Ok(())
    }

    /// Checks new unique keys against all rows, those of the same transaction included.
    pub(super) fn check_new_keys(&self, effects: &Effects) -> Result<()> {
        for (table, key) in &effects.keys {
            let (Some(object), Some(relation)) = (self.catalog.get(*table), self.relations.get(table)) else {
                continue;
            };
            if let Err(e) = constraint::check_new_key(object, key, relation, Epoch(u64::MAX - 1)) {
                relation.drop_index(&key.columns);
                return Err(e);
            }
        }
        Ok(())
    }

    /// Sequences in use learn what definitions say of them.
    pub(super) fn settle_sequences(&self, ddl: &[DdlOp]) {
        for op in ddl {
            match op {
                DdlOp::Sequence(id, value) => self.shared.sequences.set(*id, *value),
                DdlOp::Drop(id) => self.shared.sequences.forget(*id),
                _ => {}
            }
        }
    }

    /// Gives a new object its place in the store.
    pub(super) fn add_to_store(&mut self, object: &Object) -> Result<()> {
        if let ObjectBody::Index { on, columns, .. } = &object.body {
            let relation = self.relation(*on)?;
            relation.create_index(columns.clone())?;
            return Ok(());
        }
        if !object.is_stored() {
            return Ok(());
        }
        let maintained = match object.body {
            ObjectBody::MaterializedView { .. } => true,
            // A view's errors are written by the workers that write the view.
            ObjectBody::Companion { of, .. } => self.catalog.get(of).is_some_and(|o| {
                matches!(o.body, ObjectBody::MaterializedView { .. } | ObjectBody::Sink { .. })
            }),
            _ => false,
        };
        let partitions = if maintained { self.shared.workers } else { 1 };
        let key = object.unique_key().to_vec();
        let relation = Relation::new(&object.name, object.arrow_schema(), key, partitions);
        self.relations.insert(object.id, Arc::new(relation));
        if let Some(spec) = object.watermark() {
            self.trackers.insert(object.id, WatermarkTracker::new(spec.clone()));
        }
        Ok(())
    }

    /// Where a dataflow's result goes. Its `$errors` companion is created right after it, so it is looked up
    /// when the dataflow is built.
    pub(super) fn target_of(&self, object: &Object) -> Result<Destination> {
        Ok(match object.body {
            ObjectBody::Sink { .. } => Destination::Blackhole,
            _ => Destination::View { rows: self.relation(object.id)?, errors: None },
        })
    }

    /// Carries out what has become durable.
    pub(super) fn carry_out(&mut self, effects: Effects, reply: Option<Reply<Epoch>>) {
        for object in &effects.dropped {
            match &object.body {
                ObjectBody::MaterializedView { .. } | ObjectBody::Sink { .. } => {
                    self.engine.drop(object.id);
                    self.hidden.remove(&object.id);
                    self.hydrations.retain(|h| h.id() != object.id);
                }
                ObjectBody::Source { .. } => drop(self.sources.remove(&object.id)),
                _ => {}
            }
            self.hub.relation_dropped(object.id);
            self.shared.figures.dropped(object.id);
        }
        let mut views = effects.views;
        for view in &mut views {
            if let Some(errors) = self.companion(view.id(), "errors")
                && let Some(relation) = self.relations.get(&errors)
            {
                view.set_errors(relation.clone());
            }
        }
        if let (Some(last), Some(reply)) = (views.last_mut(), reply) {
            last.reply_when_done(reply);
        }
        self.hydrations.extend(views);
        self.start_readers();
    }

    /// Starts the readers of sources that have none: those with history at once, others when a dataflow
    /// reads them.
    pub(super) fn start_readers(&mut self) {
        let sources: Vec<Arc<Object>> = self
            .catalog
            .objects()
            .filter(|o| matches!(o.body, ObjectBody::Source { .. }))
            .filter(|o| !self.sources.get(&o.id).is_some_and(SourceState::is_running))
            .cloned()
            .collect();
        for object in sources {
            let is_read = Self::keeps_history(&object.body) || self.engine.reads(object.id);
            let state = self.sources.entry(object.id).or_insert_with(|| SourceState::new(&object));
            if !is_read || state.status == "finished" {
                continue;
            }
            let started = state.start(&object, self.shared.commands.clone(), self.shared.clock.clone());
            if let Err(e) = started {
                error!(source = %object.name, error = ?e, "the reader of a source could not be started");
                state.status = format!("failed: {e}");
            }
        }
    }

    /// Lets sessions see the catalog as it is now, without the views that are still being filled.
    pub(super) fn publish_world(&self) {
        let mut catalog = self.catalog.clone();
        for id in &self.hidden {
            let companions = catalog.dependents(*id);
            for c in companions.iter().filter(|c| matches!(c.body, ObjectBody::Companion { .. })) {
                catalog.remove(c.id);
            }
            catalog.remove(*id);
        }
        let relations = self.relations.clone();
        self.shared.set_world(World { catalog, relations: Arc::new(relations) });
    }

    /// Writes definitions to the catalog store. The log is what counts; a failure here is repaired at the next
    /// start.
    pub(super) fn remember(&mut self, ddl: &[DdlOp]) {
        if let Err(e) = recover::store_definitions(&*self.meta, &self.catalog, ddl) {
            warn!(error = ?e, definitions = ddl.len(), "the catalog store could not be written");
        }
    }

    /// Removes what could not be brought into being.
    pub(super) fn take_back(&mut self, ddl: Vec<DdlOp>) {
        let mut effects = Effects::default();
        let mut entries = Vec::new();
        for op in &ddl {
            if let Err(e) = self.apply_definition(op, &mut effects) {
                error!(error = ?e, "a definition could not be taken back");
            }
            let record = DdlRecord::of(op).and_then(|r| serde_json::to_vec(&r).ok());
            entries.extend(record.map(LogEntry::Ddl));
        }
        self.last_epoch = self.last_epoch.next(self.shared.clock.now());
        let record = LogRecord { epoch: self.last_epoch, entries };
        let mut log = self.log.lock();
        if let Err(e) = log.append(&record).and_then(|()| log.sync()) {
            error!(error = ?e, "the log could not take a definition back");
        }
        drop(log);
        self.remember(&ddl);
        self.publish_world();
    }
}
