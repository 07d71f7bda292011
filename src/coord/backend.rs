//! What a protocol needs of the server: connections, sessions, statements and their outcomes.
//!
//! Boundary: types and traits only, free of any wire format; [`super::session`] implements them, and protocols
//! can be tested against a scripted one.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;
use crate::types::text::TextOptions;

/// A stream of result batches. Dropping it ends the work behind it.
pub type BatchStream = BoxStream<'static, Result<RecordBatch>>;

/// A parsed statement, opaque to the protocol.
pub type ParsedStatement = Arc<dyn Any + Send + Sync>;

/// Who connects, to what, with which settings.
#[derive(Debug, Clone)]
pub struct ConnectParams {
    /// The role.
    pub user: String,
    /// The database; the role's name when the client did not say.
    pub database: String,
    /// `application_name`, or empty.
    pub application_name: String,
    /// Settings of the startup message and of its `options`, in the order given (without `application_name`).
    pub options: Vec<(String, String)>,
    /// The process id that `pg_backend_pid()` gives and cancel requests name.
    pub pid: i32,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The session's prepared statements, shared with the protocol: SQL's PREPARE, EXECUTE, DEALLOCATE and
    /// DISCARD see and change the same ones as Parse and Close.
    pub statements: Arc<StatementStore>,
}

/// Cancels the running statement of one session. Cloned into the registry of cancel requests.
#[derive(Debug, Clone, Default)]
pub struct CancelHandle(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    statement: Mutex<Running>,
    terminated: CancellationToken,
}

#[derive(Debug, Default)]
struct Running {
    /// A statement runs.
    now: bool,
    token: CancellationToken,
    /// It was not a person who cancelled it, but `statement_timeout`.
    timed_out: bool,
    /// Counts statements, so that a timer hits only its own.
    serial: u64,
    timer: Option<AbortHandle>,
}

impl Running {
    fn disarm(&mut self) {
        self.serial += 1;
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

impl CancelHandle {
    /// The token of the running statement. The backend takes it when it is called; whatever runs long must end
    /// with 57014 when it is cancelled.
    pub fn token(&self) -> CancellationToken {
        self.0.statement.lock().token.clone()
    }

    /// Ends the running statement. An idle session is not affected, now or later.
    pub fn cancel(&self) {
        let state = self.0.statement.lock();
        if state.now {
            state.token.cancel();
        }
    }

    /// Ends the session (`pg_terminate_backend`): its statement is cancelled and the client gets FATAL 57P01.
    pub fn terminate(&self) {
        // Whoever sees the statement cancelled must know why.
        self.0.terminated.cancel();
        self.cancel();
    }

    /// Cancelled when the session shall end.
    pub fn terminated(&self) -> &CancellationToken {
        &self.0.terminated
    }

    /// A statement starts: from now on it can be cancelled.
    pub(crate) fn begin(&self) -> CancellationToken {
        let mut state = self.0.statement.lock();
        state.disarm();
        state.timed_out = false;
        if state.token.is_cancelled() {
            state.token = CancellationToken::new();
        }
        state.now = true;
        state.token.clone()
    }

    /// From now on the statement has this time; without one, all the time it needs. Only inside a runtime.
    pub fn set_timeout(&self, timeout: Option<Duration>) {
        let mut state = self.0.statement.lock();
        state.disarm();
        let Some(timeout) = timeout else { return };
        let (handle, serial) = (self.clone(), state.serial);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            let mut state = handle.0.statement.lock();
            if state.now && state.serial == serial {
                state.timed_out = true;
                state.token.cancel();
            }
        });
        state.timer = Some(timer.abort_handle());
    }

    /// The error of a statement that was cancelled: 57014 with who it was.
    pub fn error(&self) -> Error {
        let cause = if self.0.statement.lock().timed_out { "statement timeout" } else { "user request" };
        Error::new(ErrorKind::QueryCanceled, format!("canceling statement due to {cause}"))
    }

    /// Whether the statement was cancelled because its time was up.
    pub fn is_timed_out(&self) -> bool {
        self.0.statement.lock().timed_out
    }

    /// The statement is over: cancel requests that come late do nothing.
    pub(crate) fn end(&self) {
        let mut state = self.0.statement.lock();
        state.disarm();
        state.now = false;
    }
}

/// A prepared statement of a session.
#[derive(Clone)]
pub struct Prepared {
    /// The statement; `None` for an empty query string.
    pub statement: Option<ParsedStatement>,
    /// Its parameters and columns.
    pub description: Arc<Description>,
}

/// The prepared statements of a session by name (the protocol's unnamed statement is not here).
#[derive(Default)]
pub struct StatementStore(Mutex<HashMap<String, Arc<Prepared>>>);

impl std::fmt::Debug for StatementStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.lock().keys()).finish()
    }
}

impl StatementStore {
    /// The statement of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Prepared>> {
        self.0.lock().get(name).cloned()
    }
    /// Adds a statement; false (and nothing happens) when the name is taken.
    pub fn insert(&self, name: &str, statement: Arc<Prepared>) -> bool {
        let mut all = self.0.lock();
        if all.contains_key(name) {
            return false;
        }
        all.insert(name.to_string(), statement);
        true
    }
    /// Removes a statement; false when there is none.
    pub fn remove(&self, name: &str) -> bool {
        self.0.lock().remove(name).is_some()
    }
    /// Removes all statements.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.lock().keys().cloned().collect();
        names.sort();
        names
    }
}

/// The state of a session's transaction, as ReadyForQuery tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// No transaction block.
    Idle,
    /// In a transaction block.
    InBlock,
    /// In a transaction block that failed.
    Failed,
}

/// A time after which a silent client's session ends.
pub struct IdleLimit {
    /// The time.
    pub after: Duration,
    /// The FATAL error.
    pub error: Error,
}

/// A message beside the result.
#[derive(Debug)]
pub struct Notice {
    /// `NOTICE`, `WARNING`, `INFO`, `LOG` or `DEBUG`.
    pub severity: &'static str,
    /// SQLSTATE, `00000` for a plain notice.
    pub code: &'static str,
    /// The text.
    pub message: String,
    /// DETAIL.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
}

impl Notice {
    /// A NOTICE.
    pub fn notice(message: impl Into<String>) -> Notice {
        Notice { severity: "NOTICE", code: "00000", message: message.into(), detail: None, hint: None }
    }
    /// A WARNING with its SQLSTATE.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Notice {
        Notice { severity: "WARNING", code, message: message.into(), detail: None, hint: None }
    }
}

pub use crate::sql::bind::OutputColumn;

/// What a statement takes and gives.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// The types of its parameters, in order.
    pub params: Vec<PgType>,
    /// The columns of its result; `None` when it gives no rows.
    pub columns: Option<Arc<[OutputColumn]>>,
}

/// How the end of a row result is reported.
#[derive(Debug, Clone)]
pub struct RowsTag {
    /// The command, for example `SELECT` or `INSERT 0`.
    pub command: Cow<'static, str>,
    /// Whether the number of rows follows.
    pub counted: bool,
    /// Rows come as they happen and are sent at once (SUBSCRIBE).
    pub live: bool,
}

impl RowsTag {
    /// `SELECT n`.
    pub fn select() -> RowsTag {
        RowsTag::counted("SELECT")
    }
    /// `<command> n`.
    pub fn counted(command: impl Into<Cow<'static, str>>) -> RowsTag {
        RowsTag { command: command.into(), counted: true, live: false }
    }
    /// `<command>`.
    pub fn plain(command: impl Into<Cow<'static, str>>) -> RowsTag {
        RowsTag { command: command.into(), counted: false, live: false }
    }
    /// The same for rows that are sent as they happen.
    pub fn live(mut self) -> RowsTag {
        self.live = true;
        self
    }
}

/// The format of a COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// Tab-separated with backslash escapes.
    Text,
    /// Comma-separated with quotes.
    Csv,
    /// PGCOPY.
    Binary,
}

/// The options of a COPY.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// FORMAT.
    pub format: CopyFormat,
    /// DELIMITER.
    pub delimiter: u8,
    /// NULL.
    pub null: String,
    /// HEADER.
    pub header: bool,
    /// QUOTE (csv).
    pub quote: u8,
    /// ESCAPE (csv).
    pub escape: u8,
    /// FORCE_QUOTE (csv): the numbers of the columns.
    pub force_quote: Vec<usize>,
}

impl CopyOptions {
    /// PostgreSQL's defaults of a format.
    pub fn new(format: CopyFormat) -> CopyOptions {
        let (delimiter, null) = match format {
            CopyFormat::Csv => (b',', ""),
            _ => (b'\t', "\\N"),
        };
        CopyOptions {
            format,
            delimiter,
            null: null.into(),
            header: false,
            quote: b'"',
            escape: b'"',
            force_quote: Vec::new(),
        }
    }
}

/// Where the data of a COPY FROM STDIN go.
#[async_trait]
pub trait CopySink: Send {
    /// The next bytes, cut anywhere.
    async fn data(&mut self, bytes: Bytes) -> Result<()>;
    /// All data were sent: the command tag (`COPY n`).
    async fn finish(&mut self) -> Result<String>;
    /// The client gave up or an error occurred: nothing may be kept.
    async fn fail(&mut self, message: &str);
}

/// What a statement gave.
pub enum Outcome {
    /// Rows.
    Rows {
        /// Their columns.
        columns: Arc<[OutputColumn]>,
        /// The batches; their columns correspond to `columns` in order.
        stream: BatchStream,
        /// How their end is reported.
        tag: RowsTag,
    },
    /// No rows: the command tag.
    Command {
        /// For example `CREATE TABLE` or `INSERT 0 1`.
        tag: String,
    },
    /// The client shall send data.
    CopyIn {
        /// How many columns.
        columns: usize,
        /// In which format.
        format: CopyFormat,
        /// Where to.
        sink: Box<dyn CopySink>,
    },
    /// Data are sent as COPY.
    CopyOut {
        /// Their columns.
        columns: Arc<[OutputColumn]>,
        /// How they are written.
        options: CopyOptions,
        /// The batches.
        stream: BatchStream,
        /// Rows come as they happen and are sent at once.
        live: bool,
    },
    /// There was no statement.
    Empty,
}

/// The server as the protocol sees it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Opens a session; an error is FATAL to the connection.
    async fn connect(&self, params: ConnectParams, cancel: CancelHandle) -> Result<Box<dyn BackendSession>>;
}

/// A session. Its methods are never called concurrently; none is dropped before it has returned, except when the
/// whole session is: cancellation goes through [`CancelHandle::token`]. Streams it gave may be dropped at any time.
#[async_trait]
pub trait BackendSession: Send {
    /// The state of the transaction.
    fn status(&self) -> TransactionStatus;
    /// Settings that clients are told of and that changed since the last call; at first all of them.
    fn parameter_changes(&mut self) -> Vec<(String, String)>;
    /// Notices since the last call.
    fn notices(&mut self) -> Vec<Notice>;
    /// How values are written as text now.
    fn text_options(&mut self) -> TextOptions;
    /// Splits and parses a query string; nothing is run.
    fn parse(&mut self, text: &str) -> Result<Vec<ParsedStatement>>;
    /// What a statement takes and gives. `param_types`: OIDs the client gave, 0 where it left them open.
    async fn describe(&mut self, statement: &ParsedStatement, param_types: &[u32]) -> Result<Description>;
    /// Runs a statement with parameters of the described types.
    async fn execute(&mut self, statement: &ParsedStatement, params: Vec<ScalarValue>) -> Result<Outcome>;
    /// Runs a statement that is answered at once, without a future; `None` when [`BackendSession::execute`] must.
    fn execute_at_once(
        &mut self,
        _statement: &ParsedStatement,
        _params: &[ScalarValue],
    ) -> Option<Result<Outcome>> {
        None
    }
    /// A query string or a pipeline starts: outside a block its statements are one transaction.
    fn begin_implicit(&mut self) -> Result<()>;
    /// It ends: commit, or roll back when `ok` is false. Does nothing inside a block. Statements may have had to be run
    /// again because others were faster: then the command tag of the last one is given, if it has one.
    async fn finish_implicit(&mut self, ok: bool) -> Result<Option<String>>;
    /// The same when there is nothing to wait for (nothing was written); `None` when there may be.
    fn finish_at_once(&mut self, _ok: bool) -> Option<Result<Option<String>>> {
        None
    }
    /// The columns of a cursor that SQL has declared: the protocol may describe and run it as a portal.
    fn cursor_columns(&mut self, _name: &str) -> Option<Arc<[OutputColumn]>> {
        None
    }
    /// How long the client may stay silent now, and what it is told then.
    fn idle_limit(&self) -> Option<IdleLimit> {
        None
    }
    /// An error was reported to the client, from wherever: an open transaction block has failed.
    fn statement_failed(&mut self, error: &Error);
    /// The connection ended.
    async fn close(&mut self) {}
}
