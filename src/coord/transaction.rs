//! A session's transaction: one view of the world, a buffer of writes and definitions, marks for savepoints.
//!
//! Reads stay at the epoch pinned by the first statement and see the transaction's own writes on top. Nothing leaves the
//! session before COMMIT; then everything goes to the coordinator at once and lands in one epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::catalog::{Catalog, Object, ObjectBody, ObjectId};
use crate::config::SavedSettings;
use crate::coord::command::{DdlOp, TableWrite};
use crate::coord::{Shared, World, rows};
use crate::error::{Error, ErrorKind, Result};
use crate::store::relation::Relation;
use crate::store::snapshot::EpochPin;
use crate::time::{Epoch, EventTime};
use crate::zset::ZBatch;
use crate::zset::consolidate::consolidate;

struct Savepoint {
    name: String,
    ddl: usize,
    writes: usize,
    catalog: Option<Catalog>,
    settings: SavedSettings,
}

/// The snapshot a transaction reads from.
pub struct Snapshot {
    /// Keeps the epoch readable.
    pub pin: EpochPin,
    /// Names and relations.
    pub world: Arc<World>,
}

/// A transaction, explicit or implicit.
pub struct Transaction {
    /// Begun by BEGIN; otherwise it ends with the query string or at Sync.
    pub explicit: bool,
    /// A statement has failed: nothing more until the end of the block.
    pub failed: bool,
    /// READ ONLY.
    pub read_only: bool,
    /// `now()` of the transaction.
    pub started: EventTime,
    snapshot: Option<Arc<Snapshot>>,
    /// The catalog with the transaction's own definitions, once there are any.
    catalog: Option<Catalog>,
    ddl: Vec<DdlOp>,
    writes: Vec<TableWrite>,
    savepoints: Vec<Savepoint>,
}

impl Transaction {
    /// A transaction that starts now.
    pub fn new(explicit: bool, now: EventTime) -> Self {
        Transaction {
            explicit,
            failed: false,
            read_only: false,
            started: now,
            snapshot: None,
            catalog: None,
            ddl: Vec::new(),
            writes: Vec::new(),
            savepoints: Vec::new(),
        }
    }

    /// The snapshot, taken at the first call.
    pub fn snapshot(&mut self, shared: &Shared) -> Arc<Snapshot> {
        self.snapshot
            .get_or_insert_with(|| {
                // The world first: its relations are complete at every epoch published by then.
                let world = shared.world();
                Arc::new(Snapshot { pin: shared.epochs.pin(), world })
            })
            .clone()
    }

    /// Lets go of the snapshot of a transaction that has not written: outside a block each statement sees the
    /// newest state.
    pub fn refresh(&mut self) {
        if !self.explicit && self.ddl.is_empty() && self.writes.is_empty() {
            self.snapshot = None;
        }
    }

    /// The epoch read at.
    pub fn epoch(&mut self, shared: &Shared) -> Epoch {
        self.snapshot(shared).pin.epoch()
    }

    /// The catalog as the transaction sees it.
    pub fn catalog(&mut self, shared: &Shared) -> Catalog {
        match &self.catalog {
            Some(c) => c.clone(),
            None => self.snapshot(shared).world.catalog.clone(),
        }
    }

    /// The version of [`Transaction::catalog`].
    pub fn catalog_version(&mut self, shared: &Shared) -> u64 {
        match &self.catalog {
            Some(c) => c.version(),
            None => self.snapshot(shared).world.catalog.version(),
        }
    }

    /// Takes definitions into the transaction.
    pub fn define(&mut self, catalog: Catalog, ops: Vec<DdlOp>) -> Result<()> {
        for op in &ops {
            let DdlOp::Replace(object) = op else { continue };
            for write in self.writes.iter_mut().filter(|w| w.table == object.id) {
                if write.change.columns().len() < object.columns.len() {
                    write.change = write.change.with_rows(rows::widen(write.change.rows(), object)?)?;
                }
                write.object = Arc::new((**object).clone());
            }
        }
        self.catalog = Some(catalog);
        self.ddl.extend(ops);
        Ok(())
    }

    /// The tables that this transaction has altered, as they are now.
    fn altered(&self) -> impl Iterator<Item = &Object> {
        self.ddl.iter().filter_map(|op| match op {
            DdlOp::Replace(o) if matches!(o.body, ObjectBody::Table { .. }) => Some(&**o),
            _ => None,
        })
    }

    /// A table created or altered in this transaction, as it is now.
    pub fn own_definition(&self, id: ObjectId) -> Option<&Object> {
        self.ddl.iter().rev().find_map(|op| match op {
            DdlOp::Replace(o) | DdlOp::Create(o, _) if o.id == id => Some(&**o),
            _ => None,
        })
    }

    /// The sequences created in this transaction.
    pub fn created_sequences(&self) -> Vec<ObjectId> {
        self.ddl
            .iter()
            .filter_map(|op| match op {
                DdlOp::Create(o, _) if matches!(o.body, ObjectBody::Sequence(_)) => Some(o.id),
                _ => None,
            })
            .collect()
    }

    /// The materialized views created in this transaction, which nobody has filled yet.
    pub fn created_views(&self) -> Vec<ObjectId> {
        self.ddl
            .iter()
            .filter_map(|op| match op {
                DdlOp::Create(o, Some(_)) if matches!(o.body, ObjectBody::MaterializedView { .. }) => {
                    Some(o.id)
                }
                _ => None,
            })
            .collect()
    }

    /// Takes back the writes of a table that goes before anybody sees them.
    pub fn forget_writes(&mut self, table: ObjectId) {
        self.writes.retain(|w| w.table != table);
    }

    /// Adds an operation to be carried out at COMMIT.
    pub fn add(&mut self, op: DdlOp) {
        self.ddl.push(op);
    }

    /// Takes writes into the transaction.
    pub fn write(&mut self, writes: impl IntoIterator<Item = TableWrite>) {
        self.writes.extend(writes.into_iter().filter(|w| !w.change.is_empty()));
    }

    /// Rows of a table that this transaction has changed.
    pub fn own_rows(&self, table: ObjectId) -> usize {
        self.changes().filter(|w| w.table == table).map(|w| w.change.num_rows()).sum()
    }

    /// The place to come back to with [`Transaction::back_to`].
    pub fn mark(&self) -> usize {
        self.writes.len()
    }

    /// Takes back the writes since `mark`.
    pub fn back_to(&mut self, mark: usize) {
        self.writes.truncate(mark);
    }

    /// Whether there is anything to commit.
    pub fn is_read_only_so_far(&self) -> bool {
        self.ddl.is_empty() && self.writes.is_empty()
    }

    /// Whether the transaction has definitions of its own.
    pub fn has_definitions(&self) -> bool {
        !self.ddl.is_empty()
    }

    /// Whether a view of this id was created in this transaction (and is therefore not filled yet).
    pub fn created(&self, id: ObjectId) -> bool {
        self.ddl.iter().any(|op| matches!(op, DdlOp::Create(o, _) if o.id == id))
    }

    /// Empty relations for the tables created in this transaction, so that they can be read.
    pub fn created_relations(&self) -> BTreeMap<ObjectId, Arc<Relation>> {
        self.ddl
            .iter()
            .filter_map(|op| match op {
                DdlOp::Create(o, None) if o.is_stored() => {
                    let schema = self.own_definition(o.id).unwrap_or(o).arrow_schema();
                    Some((o.id, Arc::new(Relation::new(&o.name, schema, Vec::new(), 1))))
                }
                _ => None,
            })
            .collect()
    }

    /// What COMMIT sends.
    pub fn into_changes(self) -> (Vec<DdlOp>, Vec<TableWrite>) {
        (self.ddl, self.writes)
    }

    /// The transaction's own net change of a table.
    pub fn own_changes(&self, table: ObjectId) -> Result<Option<ZBatch>> {
        let batches: Vec<ZBatch> =
            self.changes().filter(|w| w.table == table).map(|w| w.change.clone()).collect();
        let Some(schema) = batches.first().map(ZBatch::schema) else { return Ok(None) };
        if batches.iter().all(|b| b.weights().is_none()) {
            return ZBatch::concat(&schema, &batches).map(Some);
        }
        consolidate(&schema, &batches).map(Some)
    }

    /// The writes that change something.
    fn changes(&self) -> impl Iterator<Item = &TableWrite> {
        self.writes.iter().filter(|w| !w.locked)
    }

    /// The tables of which this transaction sees other rows than everybody else: written or altered.
    pub fn written(&self) -> Vec<ObjectId> {
        let altered = self.altered().map(|o| o.id);
        let mut ids: Vec<ObjectId> = self.changes().map(|w| w.table).chain(altered).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The rows of a written table as this transaction sees them.
    pub fn overlay(
        &self,
        table: ObjectId,
        relation: Option<&Relation>,
        epoch: Epoch,
    ) -> Result<Vec<RecordBatch>> {
        let mut batches = match relation {
            Some(r) => r.snapshot(epoch).batches(None)?,
            None => Vec::new(),
        };
        if let Some(object) = self.own_definition(table) {
            for batch in &mut batches {
                *batch = rows::widen(batch, object)?;
            }
        }
        let Some(own) = self.own_changes(table)? else { return Ok(batches) };
        if own.weights().is_none() {
            batches.push(own.rows().clone());
            return Ok(batches);
        }
        let schema = own.schema();
        let mut all = Vec::with_capacity(batches.len() + 1);
        for batch in batches {
            all.push(ZBatch::inserts(RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?));
        }
        all.push(own);
        repeat_by_weight(&consolidate(&schema, &all)?)
    }

    /// SAVEPOINT.
    pub fn savepoint(&mut self, name: &str, settings: SavedSettings) {
        self.savepoints.push(Savepoint {
            name: name.to_string(),
            ddl: self.ddl.len(),
            writes: self.writes.len(),
            catalog: self.catalog.clone(),
            settings,
        });
    }

    /// RELEASE SAVEPOINT: the mark and those after it go, what was done stays.
    pub fn release(&mut self, name: &str) -> Result<()> {
        let at = self.find_savepoint(name)?;
        self.savepoints.truncate(at);
        Ok(())
    }

    /// ROLLBACK TO SAVEPOINT: what was done since goes, the mark stays. Answers the settings of that moment.
    pub fn rollback_to(&mut self, name: &str) -> Result<SavedSettings> {
        let at = self.find_savepoint(name)?;
        self.savepoints.truncate(at + 1);
        let mark = &self.savepoints[at];
        self.ddl.truncate(mark.ddl);
        self.writes.truncate(mark.writes);
        self.catalog.clone_from(&mark.catalog);
        self.failed = false;
        Ok(mark.settings.clone())
    }

    fn find_savepoint(&self, name: &str) -> Result<usize> {
        self.savepoints.iter().rposition(|s| s.name == name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidSavepoint, format!("savepoint \"{name}\" does not exist"))
        })
    }

    /// The relations to read from: (relation, whether the transaction has written it).
    pub fn relation(&mut self, shared: &Shared, id: ObjectId) -> Option<Arc<Relation>> {
        self.snapshot(shared).world.relations.get(&id).cloned()
    }
}

/// Rows as often as their weight says.
fn repeat_by_weight(net: &ZBatch) -> Result<Vec<RecordBatch>> {
    let Some(weights) = net.weights() else { return Ok(vec![net.rows().clone()]) };
    let mut indices: Vec<u32> = Vec::with_capacity(net.num_rows());
    for (i, w) in weights.values().iter().enumerate() {
        let row = u32::try_from(i).map_err(|_| Error::internal("a batch of more than 4 G rows"))?;
        indices.extend(std::iter::repeat_n(row, usize::try_from(*w).unwrap_or(0)));
    }
    Ok(vec![net.take(&indices.into())?.rows().clone()])
}
