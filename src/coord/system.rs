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
use crate::coord::server::{Server, SessionInfo};
use crate::coord::session::{Parsed, Session, canceled};
use crate::error::{Error, Result};
use crate::sql::Query;
use crate::sql::statement::Statement;
use crate::sql::system::{self, AdvisoryRequest, SettingsView, SystemColumn, SystemContext};
use crate::time::EventTime;
use crate::types::PgType;
use tokio_util::sync::CancellationToken;

/// What the evaluator sees of a session; `set_config` works on a copy that is taken over afterwards.
struct View {
    settings: Mutex<SessionSettings>,
    pid: i32,
    server: Server,
    cancel: CancellationToken,
}

/// The rest of what a question is answered from. Long questions are answered on a thread of their own.
struct Asked {
    view: View,
    catalog: Catalog,
    search_path: Vec<String>,
    user: String,
    pid: i32,
    now: EventTime,
}

impl Asked {
    fn context(&self) -> SystemContext<'_> {
        let server = &self.view.server;
        let session = |s: SessionInfo| SessionRow {
            pid: s.pid,
            user: s.user,
            database: DATABASE.to_string(),
            application_name: s.application_name,
            backend_start: Some(s.connected_at.0),
            state: if s.pid == self.pid { "active".into() } else { "idle".into() },
            ..SessionRow::default()
        };
        SystemContext {
            catalog: &self.catalog,
            search_path: self.search_path.clone(),
            user: self.user.clone(),
            database: DATABASE.to_string(),
            pid: self.pid,
            settings: &self.view,
            sessions: server.sessions().into_iter().map(session).collect(),
            server_relations: server_relations(),
            now: self.now,
            started: server.started(),
        }
    }
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
    fn advisory(&self, request: AdvisoryRequest) -> Result<bool> {
        let timeout = self.settings.lock().timeout("lock_timeout");
        self.server.inner.locks.serve(self.pid, request, timeout, || self.check_interrupts())
    }
    fn memory_limit(&self) -> usize {
        self.server.inner.settings.query_memory_limit()
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
    /// What a question about the catalog is answered from, if a query is one.
    fn asked(&mut self, query: &Query) -> Option<Asked> {
        let shared = self.shared().clone();
        let transaction = self.transaction();
        let (catalog, now) = (transaction.catalog(&shared), transaction.started);
        let search_path = self.search_path();
        if !system::is_catalog_query(query, &catalog, &search_path) {
            return None;
        }
        let view = View {
            settings: Mutex::new(self.settings.clone()),
            pid: self.pid,
            server: self.server.clone(),
            cancel: self.cancel.clone(),
        };
        Some(Asked { view, catalog, search_path, user: self.user.clone(), pid: self.pid, now })
    }

    /// The types of a query that the catalog's evaluator answers.
    pub(super) fn catalog_description(
        &mut self,
        query: &Query,
        given: &[u32],
    ) -> Result<Option<Description>> {
        let Some(asked) = self.asked(query) else { return Ok(None) };
        let described = system::describe(query, &asked.context(), given)?;
        Ok(Some(Description { params: described.params, columns: Some(output(described.columns)) }))
    }

    /// The answer to a question about the catalog.
    pub(super) async fn catalog_answer(
        &mut self,
        parsed: &Arc<Parsed>,
        params: &[ScalarValue],
    ) -> Result<Option<Outcome>> {
        let Statement::Query(query) = parsed.statement() else { return Ok(None) };
        let Some(asked) = self.asked(query) else { return Ok(None) };
        let (columns, rows, asked) = if system::is_short(query) {
            let (columns, rows) = system::answer(query, &asked.context(), params)?;
            (columns, rows, asked)
        } else {
            let (parsed, params) = (parsed.clone(), params.to_vec());
            let work = move || {
                let Statement::Query(query) = parsed.statement() else {
                    return Err(Error::internal("a query is a query"));
                };
                let (columns, rows) = system::answer(query, &asked.context(), &params)?;
                Ok((columns, rows, asked))
            };
            // When the session no longer waits, its token is what ends the work.
            match tokio::task::spawn_blocking(work).await {
                Ok(answer) => answer?,
                Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Err(_) => return Err(canceled()),
            }
        };
        self.settings = asked.view.settings.into_inner();
        Ok(Some(Outcome::Rows {
            columns: output(columns),
            stream: Box::pin(futures::stream::iter([Ok(rows)])),
            tag: RowsTag::select(),
        }))
    }
}
