//! Questions about the catalog: psql's `\d`, drivers, BI tools. The evaluator of [`crate::sql::system`] answers
//! them; this is what it may see of the session and its server.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use parking_lot::Mutex;

use crate::catalog::object::DATABASE;
use crate::catalog::system::{ServerRelation, SessionRow};
use crate::catalog::{Catalog, ObjectId};
use crate::config::{SessionSettings, SettingRow};
use crate::coord::backend::{Description, Outcome, OutputColumn, RowsTag};
use crate::coord::introspect;
use crate::coord::server::Server;
use crate::coord::session::{Session, canceled};
use crate::error::Result;
use crate::sql::Query;
use crate::sql::system::{self, SettingsView, SystemColumn, SystemContext};
use crate::types::PgType;
use tokio_util::sync::CancellationToken;

/// What the evaluator sees of a session; `set_config` works on a copy that is taken over afterwards.
struct View {
    settings: Mutex<SessionSettings>,
    server: Server,
    cancel: CancellationToken,
}

impl SettingsView for View {
    fn get(&self, name: &str) -> Result<String> {
        self.settings.lock().get(name)
    }
    fn set(&self, name: &str, value: &str, local: bool) -> Result<()> {
        self.settings.lock().set(name, value, local).map(drop)
    }
    fn rows(&self) -> Vec<SettingRow> {
        self.settings.lock().rows()
    }
    fn cancel_backend(&self, pid: i32) -> bool {
        self.server.signal(pid, false)
    }
    fn terminate_backend(&self, pid: i32) -> bool {
        self.server.signal(pid, true)
    }
    fn relation_bytes(&self, id: ObjectId) -> u64 {
        self.server.shared.world().relations.get(&id).map_or(0, |r| r.memory_bytes() as u64)
    }
    fn row_count(&self, id: ObjectId) -> Option<u64> {
        self.server.shared.world().relations.get(&id).map(|r| r.row_count() as u64)
    }
    fn check_interrupts(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(canceled()) } else { Ok(()) }
    }
}

fn output(columns: Vec<SystemColumn>) -> Arc<[OutputColumn]> {
    columns
        .into_iter()
        .map(|c| OutputColumn { name: c.name, pg_type: c.pg_type, table_oid: c.table_oid, attnum: c.attnum })
        .collect()
}

fn server_relations() -> Vec<ServerRelation> {
    let tables = introspect::system_tables();
    introspect::names()
        .filter_map(|name| {
            let schema = tables.relation(introspect::SCHEMA, name)?;
            let columns = schema.fields().iter().map(|f| (f.name().clone(), PgType::of_field(f))).collect();
            Some(ServerRelation { schema: introspect::SCHEMA.to_string(), name: name.to_string(), columns })
        })
        .collect()
}

impl Session {
    fn system_view(&self) -> View {
        View {
            settings: Mutex::new(self.settings.clone()),
            server: self.server.clone(),
            cancel: self.cancel.clone(),
        }
    }

    fn system_context<'a>(&mut self, catalog: &'a Catalog, view: &'a View) -> SystemContext<'a> {
        let now = self.transaction().started;
        SystemContext {
            catalog,
            search_path: self.search_path(),
            user: self.user.clone(),
            database: DATABASE.to_string(),
            pid: self.pid,
            settings: view,
            sessions: self
                .server
                .sessions()
                .into_iter()
                .map(|s| SessionRow {
                    pid: s.pid,
                    user: s.user,
                    database: DATABASE.to_string(),
                    application_name: s.application_name,
                    backend_start: Some(s.connected_at.0),
                    state: if s.pid == self.pid { "active".into() } else { "idle".into() },
                    ..SessionRow::default()
                })
                .collect(),
            server_relations: server_relations(),
            now,
            started: self.server.started(),
        }
    }

    /// The types of a query that the catalog's evaluator answers.
    pub(super) fn catalog_description(
        &mut self,
        query: &Query,
        given: &[u32],
    ) -> Result<Option<Description>> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        if !system::is_catalog_query(query, &catalog, &self.search_path()) {
            return Ok(None);
        }
        let view = self.system_view();
        let context = self.system_context(&catalog, &view);
        let described = system::describe(query, &context, given)?;
        Ok(Some(Description { params: described.params, columns: Some(output(described.columns)) }))
    }

    /// The answer to a question about the catalog.
    pub(super) fn catalog_answer(
        &mut self,
        query: &Query,
        params: &[ScalarValue],
    ) -> Result<Option<Outcome>> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        if !system::is_catalog_query(query, &catalog, &self.search_path()) {
            return Ok(None);
        }
        let view = self.system_view();
        let context = self.system_context(&catalog, &view);
        let (columns, rows) = system::answer(query, &context, params)?;
        drop(context);
        self.settings = view.settings.into_inner();
        Ok(Some(Outcome::Rows {
            columns: output(columns),
            stream: Box::pin(futures::stream::iter([Ok(rows)])),
            tag: RowsTag::select(),
        }))
    }
}
