//! The server as protocols see it: open it on a data directory, connect sessions, shut it down.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::session_state::SessionState;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::info;

use crate::catalog::Catalog;
use crate::catalog::object::DATABASE;
use crate::config::{ServerSettings, SessionSettings};
use crate::coord::advisory::Locks;
use crate::coord::backend::{
    Backend, BackendSession, CancelHandle, ConnectParams, Description, IdleLimit, Notice, Outcome,
    OutputColumn, ParsedStatement, TransactionStatus,
};
use crate::coord::command::Command;
use crate::coord::recover::{self, Parts};
use crate::coord::session::{Parsed, Session};
use crate::coord::{Shared, introspect};
use crate::error::{Error, ErrorKind, Result};
use crate::read;
use crate::sql::bind::BindContext;
use crate::storage::dir::DataDir;
use crate::storage::fs::RealFs;
use crate::storage::log::Log;
use crate::storage::meta::SledStore;
use crate::time::{Clock, EventTime, SystemClock};
use crate::types::text::TextOptions;

/// Stack of the coordinator's thread: it plans views again at a start.
const COORDINATOR_STACK: usize = 64 << 20;
/// Stack of threads that plan and run queries.
const QUERY_STACK: usize = 32 << 20;

/// A running server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    /// What sessions and the coordinator share.
    pub shared: Arc<Shared>,
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    started: EventTime,
    pub(super) settings: ServerSettings,
    pub(super) query_state: Arc<SessionState>,
    /// What all running queries may hold together.
    pub(super) query_memory: Arc<dyn MemoryPool>,
    /// Advisory locks.
    pub(super) locks: Locks,
    pub(super) query_runtime: tokio::runtime::Handle,
    /// Kept so that it lives as long as the server; taken out at the end.
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    sessions: Mutex<BTreeMap<i32, (SessionInfo, CancelHandle)>>,
    coordinator: Mutex<Option<JoinHandle<()>>>,
    /// The lock on the data directory.
    directory: Mutex<Option<DataDir>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime must not be waited for where async code may be dropping it.
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

/// A connected session, as `freshet.sessions` shows it.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Process id.
    pub pid: i32,
    /// The role.
    pub user: String,
    /// `application_name` at connect.
    pub application_name: String,
    /// When it connected.
    pub connected_at: EventTime,
}

fn recovery_context(catalog: &Catalog, search_path: &[String]) -> BindContext<'static> {
    let mut context = BindContext::new(catalog.clone(), EventTime(0), introspect::system_tables());
    context.search_path = search_path.to_vec();
    context.in_view = true;
    context
}

impl Server {
    /// Opens the data directory, recovers, and starts the coordinator.
    pub fn open(settings: ServerSettings) -> Result<Server> {
        Server::open_with_clock(settings, Arc::new(SystemClock))
    }

    /// As [`Server::open`], with a clock of one's own (tests).
    pub fn open_with_clock(settings: ServerSettings, clock: Arc<dyn Clock>) -> Result<Server> {
        let directory = DataDir::open(settings.data_dir())?;
        let (log, recovery) = Log::open(&directory.log(), Arc::new(RealFs))?;
        let (meta, _lost) = SledStore::open_or_set_aside(&directory.catalog())?;
        let parts = Parts {
            log,
            recovery,
            meta: Box::new(meta),
            clock,
            workers: settings.workers(),
            memory_limit: settings.memory_limit(),
            retention: settings.retention(),
            checkpoint_size: settings.checkpoint_size() as u64,
            epoch_limits: (settings.epoch_max_rows(), settings.epoch_max_bytes()),
            commands: mpsc::channel(),
            context: recovery_context,
        };
        let (ready, started) = mpsc::channel();
        let coordinator = std::thread::Builder::new()
            .name("coordinator".into())
            .stack_size(COORDINATOR_STACK)
            .spawn(move || match recover::recover(parts) {
                Ok((coordinator, shared)) => {
                    drop(ready.send(Ok(shared)));
                    coordinator.run();
                }
                Err(e) => drop(ready.send(Err(e))),
            })?;
        let shared =
            started.recv().map_err(|_| Error::internal("the coordinator ended while it was starting"))??;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.workers().max(2))
            .thread_name("query")
            .thread_stack_size(QUERY_STACK)
            .enable_all()
            .build()?;
        let inner = Inner {
            started: shared.clock.now(),
            query_state: Arc::new(read::query::session_state(1)?),
            query_memory: read::query::memory_pool(settings.query_memory_limit()),
            locks: Locks::default(),
            query_runtime: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            sessions: Mutex::new(BTreeMap::new()),
            coordinator: Mutex::new(Some(coordinator)),
            directory: Mutex::new(Some(directory)),
            settings,
        };
        Ok(Server { shared, inner: Arc::new(inner) })
    }

    /// The settings it was started with.
    pub fn settings(&self) -> &ServerSettings {
        &self.inner.settings
    }

    /// Whether writes are accepted (the log is sound).
    pub fn is_accepting(&self) -> bool {
        self.shared.figures.is_accepting()
    }

    /// When it was opened.
    pub fn started(&self) -> EventTime {
        self.inner.started
    }

    /// Connected sessions.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.inner.sessions.lock().values().map(|(s, _)| s.clone()).collect()
    }

    /// Cancels the statement of a session, or ends the session; false when there is none of this number.
    pub fn signal(&self, pid: i32, terminate: bool) -> bool {
        let sessions = self.inner.sessions.lock();
        match sessions.get(&pid) {
            Some((_, handle)) if terminate => handle.terminate(),
            Some((_, handle)) => handle.cancel(),
            None => return false,
        }
        true
    }

    /// Opens a session.
    pub fn connect(&self, params: ConnectParams, cancel: CancelHandle) -> Result<Session> {
        if params.database != DATABASE && params.database != params.user {
            return Err(Error::new(
                ErrorKind::UndefinedDatabase,
                format!("database \"{}\" does not exist", params.database),
            )
            .with_hint(format!("There is one database: {DATABASE}.")));
        }
        let mut settings = SessionSettings::new(&self.inner.settings, &params.user);
        if !params.application_name.is_empty() {
            settings.set_at_startup("application_name", &params.application_name)?;
        }
        for (name, value) in &params.options {
            settings.set_at_startup(name, value)?;
        }
        let info = SessionInfo {
            pid: params.pid,
            user: params.user.clone(),
            application_name: params.application_name.clone(),
            connected_at: self.shared.clock.now(),
        };
        self.inner.sessions.lock().insert(params.pid, (info, cancel.clone()));
        Ok(Session::new(self.clone(), params, settings, cancel))
    }

    pub(super) fn disconnected(&self, pid: i32) {
        self.inner.locks.release(pid, true);
        self.inner.locks.release(pid, false);
        self.inner.sessions.lock().remove(&pid);
    }

    /// Closes the last epoch, syncs the log and ends the coordinator. Sessions get 57P01 from then on.
    pub async fn shutdown(&self, within: Duration) -> Result<()> {
        let (reply, done) = oneshot::channel();
        if self.shared.send(Command::Shutdown { reply }).is_ok() {
            match tokio::time::timeout(within, done).await {
                Ok(_) => {}
                Err(_) => {
                    return Err(Error::new(
                        ErrorKind::AdminShutdown,
                        "the last epoch was not closed in time",
                    )
                    .with_hint("Nothing acknowledged is lost; the next start recovers it from the log."));
                }
            }
        }
        let thread = self.inner.coordinator.lock().take();
        if let Some(thread) = thread {
            drop(tokio::task::spawn_blocking(move || thread.join()).await);
        }
        drop(self.inner.directory.lock().take());
        info!("shut down");
        Ok(())
    }
}

#[async_trait]
impl Backend for Server {
    async fn connect(&self, params: ConnectParams, cancel: CancelHandle) -> Result<Box<dyn BackendSession>> {
        Ok(Box::new(Server::connect(self, params, cancel)?))
    }
}

fn of_ours(statement: &ParsedStatement) -> Result<Arc<Parsed>> {
    let any: Arc<dyn Any + Send + Sync> = statement.clone();
    any.downcast::<Parsed>().map_err(|_| Error::internal("a statement of another server"))
}

#[async_trait]
impl BackendSession for Session {
    fn status(&self) -> TransactionStatus {
        Session::status(self)
    }
    fn parameter_changes(&mut self) -> Vec<(String, String)> {
        Session::parameter_changes(self)
    }
    fn notices(&mut self) -> Vec<Notice> {
        Session::notices(self)
    }
    fn text_options(&mut self) -> TextOptions {
        Session::text_options(self)
    }
    fn parse(&mut self, text: &str) -> Result<Vec<ParsedStatement>> {
        Ok(Session::parse(self, text)?.into_iter().map(|p| p as ParsedStatement).collect())
    }
    async fn describe(&mut self, statement: &ParsedStatement, param_types: &[u32]) -> Result<Description> {
        Session::describe(self, &of_ours(statement)?, param_types).await
    }
    async fn execute(&mut self, statement: &ParsedStatement, params: Vec<ScalarValue>) -> Result<Outcome> {
        Session::execute(self, &of_ours(statement)?, params).await
    }
    fn execute_at_once(
        &mut self,
        statement: &ParsedStatement,
        params: &[ScalarValue],
    ) -> Option<Result<Outcome>> {
        Session::execute_at_once(self, statement.downcast_ref::<Parsed>()?, params)
    }
    fn begin_implicit(&mut self) -> Result<()> {
        Ok(())
    }
    fn finish_at_once(&mut self, ok: bool) -> Option<Result<Option<String>>> {
        self.finish_reading(ok)
    }
    async fn finish_implicit(&mut self, ok: bool) -> Result<Option<String>> {
        self.finish(ok).await
    }
    fn cursor_columns(&mut self, name: &str) -> Option<Arc<[OutputColumn]>> {
        Session::cursor_columns(self, name).ok()
    }
    fn idle_limit(&self) -> Option<IdleLimit> {
        Session::idle_limit(self)
    }
    fn statement_failed(&mut self, _error: &Error) {
        self.fail_statement();
    }
}
