//! Base snapshots: when the log has grown enough, everything it says is written once more, compactly.
//!
//! The rows are read from a snapshot of one closed epoch on a thread of its own while epochs go on; what is
//! recomputed at a start anyway (views and their errors) is left out. Operator state is not part of it yet.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tracing::{info, warn};

use crate::catalog::object::StoredCatalog;
use crate::catalog::{ObjectBody, ObjectId};
use crate::coord::command::Command;
use crate::coord::epoch::Coordinator;
use crate::error::{Error, Result};
use crate::storage::base::{Binding, FinishedBase};
use crate::store::relation::Relation;
use crate::time::Watermark;

impl Coordinator {
    /// Begins a base snapshot when the log has outgrown its limit and what it would be replaced by.
    pub(super) fn begin_base_if_worthwhile(&mut self) {
        let (log, base) = self.log.lock().sizes();
        if self.base_in_progress || log < self.checkpoint_size || log < base {
            return;
        }
        if let Err(e) = self.begin_base() {
            warn!(error = ?e, "a base snapshot could not be begun");
        }
    }

    fn begin_base(&mut self) -> Result<()> {
        let ddl = serde_json::to_vec(&StoredCatalog::from(&self.catalog))
            .map_err(|e| Error::internal("the catalog could not be encoded").with_source(e))?;
        let epoch = self.last_epoch;
        let pin = self.shared.epochs.pin();
        let tables = self.durable_relations();
        let bindings = self.bindings();
        let ticket = self.log.lock().begin_base()?;
        self.base_in_progress = true;
        let commands = self.shared.commands.clone();
        std::thread::Builder::new().name("base snapshot".into()).spawn(move || {
            let mut rows = tables.iter().flat_map(|(id, relation)| rows_of(*id, relation, epoch));
            let written = ticket.write(epoch, &ddl, &mut rows, &bindings);
            drop(pin);
            drop(commands.send(Command::BaseWritten(written)));
        })?;
        Ok(())
    }

    /// The snapshot is durable (or could not be written): what it replaces can go.
    pub(super) fn base_written(&mut self, written: Result<FinishedBase>) {
        self.base_in_progress = false;
        let finished = written.and_then(|base| self.log.lock().finish_base(base));
        match finished {
            Ok(()) => info!(epoch = %self.last_epoch, "base snapshot written"),
            Err(e) => warn!(error = ?e, "a base snapshot could not be written"),
        }
    }

    /// At the end nothing else runs: a log that has grown is shortened at once.
    pub(super) fn write_base_at_end(&mut self) -> Result<()> {
        let (log, base) = self.log.lock().sizes();
        if self.base_in_progress || self.poisoned.is_some() || log < self.checkpoint_size / 4 || log < base {
            return Ok(());
        }
        let ddl = serde_json::to_vec(&StoredCatalog::from(&self.catalog))
            .map_err(|e| Error::internal("the catalog could not be encoded").with_source(e))?;
        let epoch = self.last_epoch;
        let tables = self.durable_relations();
        let bindings = self.bindings();
        let mut rows = tables.iter().flat_map(|(id, relation)| rows_of(*id, relation, epoch));
        self.log.lock().write_base(epoch, &ddl, &mut rows, &bindings)
    }

    /// The relations whose rows nobody can compute: tables, sources' histories, and their companions.
    fn durable_relations(&self) -> Vec<(ObjectId, Arc<Relation>)> {
        let is_durable = |body: &ObjectBody| match body {
            ObjectBody::Table { .. } | ObjectBody::Source { .. } => true,
            ObjectBody::Companion { of, .. } => self
                .catalog
                .get(*of)
                .is_some_and(|o| matches!(o.body, ObjectBody::Table { .. } | ObjectBody::Source { .. })),
            _ => false,
        };
        self.catalog
            .objects()
            .filter(|o| is_durable(&o.body))
            .filter_map(|o| Some((o.id, self.relations.get(&o.id)?.clone())))
            .collect()
    }

    fn bindings(&self) -> Vec<Binding> {
        let watermark = |id| self.trackers.get(id).map_or(Watermark::NONE, |t| t.current());
        let sources = self.sources.iter().map(|(id, state)| Binding {
            object: id.0,
            offsets: state.binding(),
            watermark: watermark(id),
        });
        let tables = self.trackers.keys().filter(|id| !self.sources.contains_key(*id)).map(|id| Binding {
            object: id.0,
            offsets: Vec::new(),
            watermark: watermark(id),
        });
        sources.chain(tables).collect()
    }
}

fn rows_of(
    id: ObjectId,
    relation: &Arc<Relation>,
    epoch: crate::time::Epoch,
) -> impl Iterator<Item = Result<(u32, RecordBatch)>> + use<> {
    match relation.snapshot(epoch).batches(None) {
        Ok(batches) => batches.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(e) => vec![Err(e)],
    }
    .into_iter()
    .map(move |rows| rows.map(|rows| (id.0, rows)))
}
