//! A session: one client's settings, transaction, statements and cursors; every statement passes here.
//!
//! [`Session::execute`] runs one statement within the current transaction, [`Session::finish`] ends an implicit one.
//! The session decides what a statement means; how its text arrives and how rows leave is the protocol's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::ScalarValue;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::catalog::object::DATABASE;
use crate::catalog::{Catalog, Object, ObjectBody, ObjectId};
use crate::config::{SavedSettings, SessionSettings};
use crate::coord::Shared;
use crate::coord::backend::{
    CancelHandle, ConnectParams, Description, IdleLimit, Notice, Outcome, RowsTag, StatementStore,
    TransactionStatus,
};
use crate::coord::command::{Command, DdlOp, TableWrite};
use crate::coord::copy::CopiedRows;
use crate::coord::cursor::Cursor;
use crate::coord::select::Prepared;
use crate::coord::sequence::SessionSequences;
use crate::coord::server::Server;
use crate::coord::transaction::Transaction;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind::{BindContext, SequenceSource};
use crate::sql::statement::{
    Discard, Isolation, ParsedStatement, Set, SetValue, SqlQuery, Statement, TransactionModes,
};
use crate::store::relation::Relation;
use crate::time::Epoch;
use crate::types::PgType;
use crate::types::text::TextOptions;

/// How often a statement outside a block is run again when another transaction was faster.
const CONFLICT_RETRIES: usize = 20;

/// How loud a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Notice,
    Warning,
}

/// The outcome of a statement without rows.
pub(super) fn command(tag: impl Into<String>) -> Outcome {
    Outcome::Command { tag: tag.into() }
}

/// A parsed statement with what has been worked out about it so far.
pub struct Parsed {
    /// The statement.
    pub parsed: ParsedStatement,
    /// The whole query string it came from, which error positions count in.
    pub(super) whole: Option<Arc<str>>,
    pub(super) prepared: Mutex<Option<Arc<Prepared>>>,
    /// Parameter types that the client gave.
    pub(super) given: Mutex<Vec<u32>>,
}

impl Parsed {
    /// A statement nothing is known about yet.
    pub fn new(parsed: ParsedStatement) -> Arc<Self> {
        Parsed::part(parsed, None)
    }
    /// A statement of a query string.
    fn part(parsed: ParsedStatement, whole: Option<Arc<str>>) -> Arc<Self> {
        Arc::new(Parsed { parsed, whole, prepared: Mutex::new(None), given: Mutex::new(Vec::new()) })
    }
    /// A query that is part of another statement of the query string `whole`.
    pub fn of_query(query: &SqlQuery, whole: Option<Arc<str>>) -> Arc<Self> {
        let statement = Statement::Query(query.ast.clone());
        Parsed::part(ParsedStatement { statement, text: query.text.clone(), offset: 0 }, whole)
    }
    /// The statement itself.
    pub fn statement(&self) -> &Statement {
        &self.parsed.statement
    }
}

/// A use of an index that ends with this.
struct BuiltIndex {
    relation: Arc<Relation>,
    columns: Vec<usize>,
}

impl Drop for BuiltIndex {
    fn drop(&mut self) {
        self.relation.release_index(&self.columns);
    }
}

/// What statements ask the settings again and again, worked out once for as long as no setting changes.
pub(super) struct Derived {
    at: SavedSettings,
    pub(super) search_path: Vec<String>,
    pub(super) time_zone: String,
    text: TextOptions,
    /// `view_errors = raise`.
    pub(super) raises_view_errors: bool,
    statement_timeout: Option<Duration>,
}

/// A client's session.
pub struct Session {
    pub(super) server: Server,
    pub(super) pid: i32,
    pub(super) user: String,
    pub(super) settings: SessionSettings,
    derived: Option<Derived>,
    pub(super) transaction: Option<Transaction>,
    pub(super) cursors: BTreeMap<String, Cursor>,
    /// Prepared statements, shared with the protocol.
    pub(super) statements: Arc<StatementStore>,
    notices: Vec<Notice>,
    /// Rows of a COPY that has been received and not yet written.
    pub(super) copying: Option<Arc<Mutex<CopiedRows>>>,
    /// Statements of the implicit transaction, to be run again after a conflict.
    replayable: Option<Vec<(Arc<Parsed>, Vec<ScalarValue>, String)>>,
    /// The last of them was also the last statement: the client has not been told its tag yet.
    last_is_open: bool,
    /// Whoever may cancel the running statement holds this too.
    pub(super) handle: CancelHandle,
    /// Cancels the running statement.
    pub(super) cancel: CancellationToken,
    pub(super) sequences: Arc<SessionSequences>,
    /// Whether there has been a temporary object.
    pub(super) has_temporary: bool,
    /// The schema for temporary objects, once it has a name.
    pub(super) temporary: std::sync::OnceLock<String>,
}

impl std::ops::Drop for Session {
    fn drop(&mut self) {
        self.leave_temporary();
        self.server.disconnected(self.pid);
    }
}

impl Session {
    pub(super) fn new(
        server: Server,
        params: ConnectParams,
        settings: SessionSettings,
        handle: CancelHandle,
    ) -> Self {
        Session {
            sequences: Arc::new(SessionSequences::new(server.shared.clone())),
            has_temporary: false,
            temporary: std::sync::OnceLock::new(),
            server,
            pid: params.pid,
            user: params.user,
            settings,
            derived: None,
            transaction: None,
            cursors: BTreeMap::new(),
            statements: params.statements,
            notices: Vec::new(),
            copying: None,
            replayable: None,
            last_is_open: false,
            cancel: handle.token(),
            handle,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.server.shared
    }

    /// Whether the session is in a transaction block.
    pub fn status(&self) -> TransactionStatus {
        match &self.transaction {
            Some(t) if t.explicit && t.failed => TransactionStatus::Failed,
            Some(t) if t.explicit => TransactionStatus::InBlock,
            _ => TransactionStatus::Idle,
        }
    }

    /// Settings the client must be told of.
    pub fn parameter_changes(&mut self) -> Vec<(String, String)> {
        self.settings.parameter_changes()
    }

    /// Notices that have come up.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub(super) fn notice(&mut self, severity: Severity, error: Error) {
        let silent = match self.settings.text("client_min_messages") {
            "error" => true,
            "warning" => severity == Severity::Notice,
            _ => false,
        };
        if !silent {
            let (severity, code) = match severity {
                // Notices of IF EXISTS and the like carry no error code of their own in PostgreSQL.
                Severity::Notice => ("NOTICE", "00000"),
                Severity::Warning => ("WARNING", error.kind().sqlstate()),
            };
            self.notices.push(Notice {
                severity,
                code,
                message: error.message().to_string(),
                detail: error.detail().map(str::to_string),
                hint: error.hint().map(str::to_string),
            });
        }
    }

    /// The settings, for protocols that format values.
    pub fn settings(&self) -> &SessionSettings {
        &self.settings
    }

    /// What follows from the settings as they are.
    pub(super) fn derived(&mut self) -> &Derived {
        let now = &self.settings;
        if !self.derived.as_ref().is_some_and(|d| d.at.is_of(now)) {
            let text = TextOptions {
                extra_float_digits: i32::try_from(now.int("extra_float_digits")).unwrap_or(1),
                bytea_hex: now.text("bytea_output") != "escape",
                ..TextOptions::default()
            };
            self.derived = Some(Derived {
                at: now.save(),
                search_path: self.search_path(),
                time_zone: now.time_zone().to_string(),
                text: text.clone().with_time_zone(now.time_zone()).unwrap_or(text),
                raises_view_errors: now.text("view_errors") == "raise",
                statement_timeout: now.timeout("statement_timeout"),
            });
        }
        self.derived.as_ref().expect("set above")
    }

    /// How values are written as text now.
    pub fn text_options(&mut self) -> TextOptions {
        let now = self.transaction.as_ref().map(|t| t.started);
        TextOptions { now, ..self.derived().text.clone() }
    }

    /// Splits and parses a query string; nothing is run.
    pub fn parse(&self, text: &str) -> Result<Vec<Arc<Parsed>>> {
        let whole: Arc<str> = text.into();
        let part = |statement| Parsed::part(statement, Some(whole.clone()));
        let parsed = off_the_wire(text.len(), || crate::sql::parse(text))?;
        Ok(parsed.into_iter().map(part).collect())
    }

    /// How long the client may stay silent in the state the session is in.
    pub(super) fn idle_limit(&self) -> Option<IdleLimit> {
        let (setting, kind, what) = match self.status() {
            TransactionStatus::Idle => ("idle_session_timeout", ErrorKind::IdleSession, "idle-session"),
            _ => ("idle_in_transaction_session_timeout", ErrorKind::IdleInTransaction, "idle-in-transaction"),
        };
        let after = self.settings.timeout(setting)?;
        let text = format!("terminating connection due to {what} timeout");
        Some(IdleLimit { after, error: Error::new(kind, text) })
    }

    // ---- transactions -------------------------------------------------------------------------

    pub(super) fn transaction(&mut self) -> &mut Transaction {
        if self.transaction.is_none() {
            self.settings.begin();
            self.transaction = Some(Transaction::new(false, self.server.shared.clock.now()));
            self.replayable = Some(Vec::new());
        }
        self.transaction.get_or_insert_with(|| unreachable!("set above"))
    }

    /// Ends an implicit transaction (at the end of a query string, at Sync): commits it, or drops what it did. If
    /// its statements had to be run again, answers the tag of the last one.
    pub async fn finish(&mut self, ok: bool) -> Result<Option<String>> {
        match &self.transaction {
            Some(t) if !t.explicit => {}
            _ => return Ok(None),
        }
        if ok {
            if let Err(e) = self.take_copied() {
                self.abandon()?;
                return Err(e);
            }
            self.commit().await
        } else {
            self.abandon().map(|()| None)
        }
    }

    /// As [`Session::finish`] for a transaction that has only read: there is nothing to wait for. `None`: there may be.
    pub(super) fn finish_reading(&mut self, ok: bool) -> Option<Result<Option<String>>> {
        match &self.transaction {
            Some(t) if t.explicit => return Some(Ok(None)),
            None => return Some(Ok(None)),
            Some(t) if !ok || self.copying.is_some() || !t.is_read_only_so_far() => return None,
            Some(_) => {}
        }
        self.transaction = None;
        self.replayable = None;
        self.close_cursors(true);
        self.ended(true);
        Some(Ok(None))
    }

    /// What ends with a transaction.
    fn ended(&mut self, committed: bool) {
        self.settings.end(committed);
        self.server.inner.locks.release(self.pid, true);
    }

    fn abandon(&mut self) -> Result<()> {
        self.transaction = None;
        self.replayable = None;
        self.copying = None;
        self.close_cursors(false);
        self.ended(false);
        Ok(())
    }

    /// Commits the current transaction, if any.
    async fn commit(&mut self) -> Result<Option<String>> {
        let mut attempt = 0;
        let mut tag = None;
        loop {
            if self.has_temporary {
                self.end_temporary_tables()?;
            }
            let Some(mut transaction) = self.transaction.take() else { return Ok(tag) };
            let replayable = self.replayable.take();
            if transaction.is_read_only_so_far() {
                self.close_cursors(true);
                self.ended(true);
                return Ok(tag);
            }
            let may_retry = !transaction.explicit;
            for id in transaction.created_sequences() {
                // Values that the transaction has taken from its own sequences.
                if let Some(value) = self.shared().sequences.value(id) {
                    transaction.add(DdlOp::Sequence(id, value));
                }
            }
            let (ddl, writes) = transaction.into_changes();
            match self.send_commit(ddl, writes).await {
                Ok(_) => {
                    self.close_cursors(true);
                    self.ended(true);
                    return Ok(tag);
                }
                Err(e) if e.kind() == ErrorKind::Serialization && may_retry && attempt < CONFLICT_RETRIES => {
                    attempt += 1;
                    let Some(statements) = replayable else { return self.failed_commit(e) };
                    // What was faster may be in an epoch that is still open: the same snapshot again would lose again.
                    self.tick().await?;
                    match self.run_again(statements).await {
                        Ok(again) => tag = again,
                        Err(again) => return self.failed_commit(again),
                    }
                }
                Err(e) => return self.failed_commit(e),
            }
        }
    }

    fn failed_commit(&mut self, e: Error) -> Result<Option<String>> {
        self.abandon()?;
        Err(e)
    }

    /// Runs the statements of an implicit transaction again on the newest state. The client has already been told
    /// their tags, so they must come out the same, except that of the last statement, which is answered.
    async fn run_again(
        &mut self,
        statements: Vec<(Arc<Parsed>, Vec<ScalarValue>, String)>,
    ) -> Result<Option<String>> {
        let open = if self.last_is_open { statements.len() } else { usize::MAX };
        let mut last = None;
        for (number, (statement, params, tag)) in (1..).zip(statements) {
            let outcome = Box::pin(self.execute(&statement, params)).await?;
            match outcome {
                Outcome::Command { tag: again } if number == open => last = Some(again),
                Outcome::Command { tag: again } if again == tag => {}
                _ => {
                    return Err(Error::new(
                        ErrorKind::Serialization,
                        "could not serialize access due to concurrent update",
                    )
                    .with_hint("The transaction might succeed if retried."));
                }
            }
        }
        Ok(last)
    }

    async fn send_commit(&mut self, ddl: Vec<DdlOp>, writes: Vec<TableWrite>) -> Result<Epoch> {
        let views: Vec<ObjectId> = ddl
            .iter()
            .filter_map(|op| match op {
                DdlOp::Create(object, Some(_)) => Some(object.id),
                _ => None,
            })
            .collect();
        let (shared, handle) = (self.shared().clone(), self.handle.clone());
        let _indexes = build_indexes(&shared, &handle, &ddl).await?;
        let background = self.settings.is_on("background_ddl");
        let (reply, mut answer) = oneshot::channel();
        self.shared().send(Command::Commit { ddl, writes, background, reply })?;
        let gone = |_| Error::new(ErrorKind::AdminShutdown, "the server is shutting down");
        if views.is_empty() || background {
            // What has been sent is on its way: there is no taking it back.
            return answer.await.map_err(gone)?;
        }
        let cancel = self.handle.token();
        tokio::select! {
            answered = &mut answer => return answered.map_err(gone)?,
            () = cancel.cancelled() => {}
        }
        self.shared().send(Command::AbandonViews(views))?;
        answer.await.map_err(gone)?
    }

    fn begin(&mut self, start: bool, modes: &TransactionModes) -> Result<Outcome> {
        let tag = if start { "START TRANSACTION" } else { "BEGIN" };
        if self.transaction.as_ref().is_some_and(|t| t.explicit) {
            let message = "there is already a transaction in progress";
            self.notice(Severity::Warning, Error::new(ErrorKind::ActiveTransaction, message));
        } else {
            self.transaction().explicit = true;
            self.replayable = None;
        }
        self.set_modes(modes, false)?;
        Ok(command(tag))
    }

    fn set_modes(&mut self, modes: &TransactionModes, session: bool) -> Result<()> {
        let prefix = if session { "default_transaction" } else { "transaction" };
        if let Some(level) = modes.isolation {
            let level = match level {
                Isolation::ReadUncommitted => "read uncommitted",
                Isolation::ReadCommitted => "read committed",
                Isolation::RepeatableRead => "repeatable read",
                Isolation::Serializable => "serializable",
            };
            self.settings.set(&format!("{prefix}_isolation"), level, !session)?;
        }
        if let Some(read_only) = modes.read_only {
            let value = if read_only { "on" } else { "off" };
            self.settings.set(&format!("{prefix}_read_only"), value, !session)?;
            if !session {
                self.transaction().read_only = read_only;
            }
        }
        Ok(())
    }

    async fn commit_statement(&mut self, chain: bool) -> Result<Outcome> {
        let (explicit, failed) = self.transaction.as_ref().map_or((false, false), |t| (t.explicit, t.failed));
        if !explicit {
            let message = "there is no transaction in progress";
            self.notice(Severity::Warning, Error::new(ErrorKind::NoActiveTransaction, message));
        }
        let tag = if failed {
            self.abandon()?;
            "ROLLBACK"
        } else {
            self.commit().await?;
            "COMMIT"
        };
        if chain {
            self.transaction().explicit = true;
            self.replayable = None;
        }
        Ok(command(tag))
    }

    fn rollback_statement(&mut self, chain: bool) -> Result<Outcome> {
        if !self.transaction.as_ref().is_some_and(|t| t.explicit) {
            let message = "there is no transaction in progress";
            self.notice(Severity::Warning, Error::new(ErrorKind::NoActiveTransaction, message));
        }
        self.abandon()?;
        if chain {
            self.transaction().explicit = true;
            self.replayable = None;
        }
        Ok(command("ROLLBACK"))
    }

    fn in_block(&mut self, what: &str) -> Result<&mut Transaction> {
        match &mut self.transaction {
            Some(t) if t.explicit => Ok(t),
            _ => Err(Error::new(
                ErrorKind::NoActiveTransaction,
                format!("{what} can only be used in transaction blocks"),
            )),
        }
    }

    /// Writes are refused in READ ONLY transactions.
    pub(super) fn check_writable(&mut self, what: &str) -> Result<()> {
        self.transaction();
        if self.settings.is_on("transaction_read_only") {
            return Err(Error::new(
                ErrorKind::ReadOnlyTransaction,
                format!("cannot execute {what} in a read-only transaction"),
            ));
        }
        Ok(())
    }

    // ---- binding ------------------------------------------------------------------------------

    /// The context that names and types of a statement are looked up in.
    pub(super) fn bind_context(&mut self, param_types: Vec<Option<PgType>>) -> BindContext<'static> {
        let shared = self.shared().clone();
        let transaction = self.transaction();
        let started = transaction.started;
        let mut catalog = transaction.catalog(&shared);
        // Nobody has filled the views of this transaction: their queries are run instead.
        for id in transaction.created_views() {
            if let Some(object) = catalog.get(id).cloned()
                && let ObjectBody::MaterializedView { query, emit_on_window_close: false, .. } = &object.body
            {
                let body = ObjectBody::View { query: query.clone() };
                catalog.replace(Object { body, ..(*object).clone() }).unwrap_or_default();
            }
        }
        let context = self.context_over(&catalog, false);
        BindContext { now: started, param_types, ..context }
    }

    pub(super) fn context_over(&self, catalog: &Catalog, in_view: bool) -> BindContext<'static> {
        BindContext {
            catalog: catalog.clone(),
            search_path: self.search_path(),
            time_zone: self.settings.time_zone().to_string(),
            now: self.transaction.as_ref().map_or_else(|| self.shared().clock.now(), |t| t.started),
            user: self.user.clone(),
            database: DATABASE.to_string(),
            param_types: Vec::new(),
            in_view,
            system: crate::coord::introspect::system_tables(),
            text: None,
            sequences: (!in_view).then(|| self.sequences.clone() as Arc<dyn SequenceSource>),
            written_in: None,
        }
    }

    /// The schemas to search, `$user` resolved; temporary objects come first.
    pub(super) fn search_path(&self) -> Vec<String> {
        let mut path: Vec<String> = self
            .settings
            .search_path()
            .into_iter()
            .map(|s| match s.as_str() {
                "$user" => self.user.clone(),
                "pg_temp" => self.temporary_schema(),
                _ => s,
            })
            .collect();
        if self.has_temporary && !path.contains(&self.temporary_schema()) {
            path.insert(0, self.temporary_schema());
        }
        path
    }

    /// Parameter and result types of a statement. Statements that cannot be described before they run have none.
    pub async fn describe(&mut self, statement: &Arc<Parsed>, param_oids: &[u32]) -> Result<Description> {
        self.refuse_in_failed_block(statement.statement())?;
        *statement.given.lock() = param_oids.to_vec();
        let described = self.describe_inner(statement, param_oids);
        self.note_failure(described.as_ref().err());
        described
    }

    // ---- running ------------------------------------------------------------------------------

    fn refuse_in_failed_block(&self, statement: &Statement) -> Result<()> {
        if self.status() == TransactionStatus::Failed && !statement.ends_transaction() {
            return Err(Error::new(
                ErrorKind::FailedTransaction,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    fn note_failure(&mut self, error: Option<&Error>) {
        if error.is_some()
            && let Some(t) = &mut self.transaction
        {
            t.failed = true;
        }
    }

    /// A statement has failed while its rows were on their way.
    pub fn fail_statement(&mut self) {
        if let Some(t) = &mut self.transaction {
            t.failed = true;
        }
    }

    /// Runs one statement in the current transaction (an implicit one is begun if there is none).
    pub async fn execute(&mut self, statement: &Arc<Parsed>, params: Vec<ScalarValue>) -> Result<Outcome> {
        self.take_copied()?;
        self.refuse_in_failed_block(statement.statement())?;
        if let Some(t) = &mut self.transaction {
            t.refresh();
        }
        let cancel = self.handle.token();
        self.cancel = cancel.clone();
        // The time goes on running while the rows are fetched: the protocol ends it with the statement.
        let timeout = self.derived().statement_timeout;
        self.handle.set_timeout(timeout);
        let handle = self.handle.clone();
        let is_commit = matches!(statement.statement(), Statement::Commit { .. });
        let work = self.dispatch(statement, params.clone());
        let result = tokio::select! {
            biased;
            // A commit that is on its way must be waited for.
            () = cancel.cancelled(), if !is_commit => Err(handle.error()),
            result = work => result,
        };
        if let Ok(
            Outcome::Rows { tag: RowsTag { live: true, .. }, .. } | Outcome::CopyOut { live: true, .. },
        ) = &result
        {
            // Endless results have all the time.
            handle.set_timeout(None);
        }
        self.note_failure(result.as_ref().err());
        if let (Ok(Outcome::Command { tag }), Some(replayable)) = (&result, &mut self.replayable) {
            replayable.push((statement.clone(), params, tag.clone()));
            self.last_is_open = true;
            return result;
        }
        self.last_is_open = false;
        let has_written = self.transaction.as_ref().is_some_and(|t| !t.is_read_only_so_far());
        if has_written || !matches!(statement.statement(), Statement::Query(_)) {
            // Rows have been handed out that would have to be taken back.
            self.replayable = None;
        }
        result
    }

    /// Answers a point query that has been bound before, at once and without a task. `None`: this is another
    /// statement, or something is in the way; [`Session::execute`] runs it.
    pub(super) fn execute_at_once(
        &mut self,
        statement: &Parsed,
        params: &[ScalarValue],
    ) -> Option<Result<Outcome>> {
        if self.copying.is_some() || self.status() == TransactionStatus::Failed {
            return None;
        }
        if let Some(t) = &mut self.transaction {
            t.refresh();
        }
        let answer = self.point_read(statement, params)?;
        self.last_is_open = false;
        self.note_failure(answer.as_ref().err());
        Some(answer)
    }

    pub(super) async fn dispatch(
        &mut self,
        parsed: &Arc<Parsed>,
        params: Vec<ScalarValue>,
    ) -> Result<Outcome> {
        match parsed.statement() {
            Statement::Begin { start, modes } => self.begin(*start, modes),
            Statement::Commit { chain } => self.commit_statement(*chain).await,
            Statement::Rollback { chain } => self.rollback_statement(*chain),
            Statement::Savepoint(name) => {
                let settings = self.settings.save();
                self.in_block("SAVEPOINT")?.savepoint(name, settings);
                Ok(command("SAVEPOINT"))
            }
            Statement::Release(name) => {
                self.in_block("RELEASE SAVEPOINT")?.release(name)?;
                Ok(command("RELEASE"))
            }
            Statement::RollbackTo(name) => {
                let settings = self.in_block("ROLLBACK TO SAVEPOINT")?.rollback_to(name)?;
                self.settings.restore(&settings);
                Ok(command("ROLLBACK"))
            }
            Statement::Query(_) => self.select(parsed, params).await,
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => {
                self.dml(parsed, params).await
            }
            Statement::Truncate(truncate) => self.truncate(truncate),
            Statement::Copy(copy) => self.copy(copy, parsed.whole.clone()).await,
            Statement::Set(set) => self.set(set),
            Statement::SetTransaction { session, modes } => {
                self.set_modes(modes, *session)?;
                Ok(command("SET"))
            }
            Statement::Show(name) => self.show_setting(name),
            Statement::Reset(name) => {
                match name {
                    Some(name) => self.settings.reset(name)?,
                    None => self.settings.reset_all(),
                }
                Ok(command("RESET"))
            }
            Statement::Discard(what) => self.discard(*what),
            Statement::ShowObjects(show) => self.show_objects(show),
            Statement::ShowCreate { kind, name } => self.show_create(*kind, name),
            Statement::Explain(explain) => self.explain(explain).await,
            Statement::Subscribe(subscribe) => self.subscribe_rows(subscribe, true).await,
            Statement::Declare(declare) => self.declare(declare, params, parsed.whole.clone()).await,
            Statement::Fetch(fetch) => self.fetch(fetch).await,
            Statement::Move(fetch) => self.move_cursor(fetch).await,
            Statement::Close(name) => self.close(name.as_deref()),
            Statement::Prepare(prepare) => self.prepare(prepare).await,
            Statement::Execute(execute) => Box::pin(self.execute_prepared(execute)).await,
            Statement::Deallocate(name) => self.deallocate(name.as_deref()),
            Statement::CheckMaterializedView(name) => self.check_view(name).await,
            Statement::Flush | Statement::Wait => {
                let tag = parsed.statement().tag();
                self.tick().await?;
                Ok(command(tag))
            }
            Statement::Refresh(name) => {
                self.named_view(name)?;
                let message = "a materialized view is always fresh; there is nothing to do";
                self.notice(Severity::Notice, Error::new(ErrorKind::ObjectNotInState, message));
                Ok(command("REFRESH MATERIALIZED VIEW"))
            }
            Statement::Listen(_) | Statement::Unlisten(_) | Statement::Notify { .. } => {
                // UNLISTEN is what connection pools send on release; there is nothing to stop listening to.
                if matches!(parsed.statement(), Statement::Unlisten(_)) {
                    return Ok(command("UNLISTEN"));
                }
                Err(Error::unsupported(format!("{} is not supported", parsed.statement().tag()))
                    .with_hint("Use SUBSCRIBE to be told of changes."))
            }
            Statement::Vacuum(_) | Statement::Analyze(_) => {
                // Storage looks after itself; tools send these as a matter of course.
                Ok(command(parsed.statement().tag()))
            }
            _ => self.define(parsed).await,
        }
    }

    fn set(&mut self, set: &Set) -> Result<Outcome> {
        self.transaction();
        match &set.value {
            SetValue::Default => self.settings.reset(&set.name)?,
            SetValue::Values(values) => {
                let value = values.join(", ");
                if let Some(text) = self.settings.set(&set.name, &value, set.local)? {
                    self.notice(Severity::Notice, Error::new(ErrorKind::InvalidParameter, text));
                }
            }
        }
        Ok(command("SET"))
    }

    fn discard(&mut self, what: Discard) -> Result<Outcome> {
        if matches!(what, Discard::All | Discard::Sequences) {
            self.sequences.discard();
        }
        if what == Discard::Temp {
            self.drop_temporary()?;
        }
        if what == Discard::All {
            if self.transaction.as_ref().is_some_and(|t| t.explicit) {
                return Err(Error::new(
                    ErrorKind::ActiveTransaction,
                    "DISCARD ALL cannot run inside a transaction block",
                ));
            }
            self.close_all_cursors();
            self.statements.clear();
            self.server.inner.locks.release(self.pid, false);
            self.settings.reset_all();
            self.drop_temporary()?;
        }
        Ok(command(Statement::Discard(what).tag()))
    }

    /// Closes an epoch, so that everything before is visible everywhere.
    pub(super) async fn tick(&mut self) -> Result<Epoch> {
        let (reply, answer) = oneshot::channel();
        self.shared().send(Command::Tick { reply })?;
        answer.await.map_err(|_| Error::new(ErrorKind::AdminShutdown, "the server is shutting down"))?
    }
}

/// Builds the indexes that a commit creates over relations which are there already: nobody else waits for it. The
/// coordinator finds them built; if the commit fails they go.
async fn build_indexes(shared: &Shared, handle: &CancelHandle, ddl: &[DdlOp]) -> Result<Vec<BuiltIndex>> {
    let mut built = Vec::new();
    for op in ddl {
        let DdlOp::Create(object, _) = op else { continue };
        let ObjectBody::Index { on, columns, .. } = &object.body else { continue };
        let Some(relation) = shared.world().relations.get(on).cloned() else { continue };
        let width = relation.schema().fields().len();
        if columns.iter().any(|c| *c >= width) {
            // Over a column that the same transaction adds: the coordinator builds it with the table's new shape.
            continue;
        }
        let columns = columns.clone();
        let build = move || -> Result<BuiltIndex> {
            relation.create_index(columns.clone())?;
            Ok(BuiltIndex { relation, columns })
        };
        let cancel = handle.token();
        tokio::select! {
            index = tokio::task::spawn_blocking(build) => {
                let failed = |e| Error::internal(format!("an index could not be built: {e}"));
                built.push(index.map_err(failed)??);
            }
            () = cancel.cancelled() => return Err(handle.error()),
        }
    }
    Ok(built)
}

/// Statements of more bytes than this take so long to parse and bind that others should not wait for it.
const LONG: usize = 8192;

/// Does work that takes long for long statements (`length` bytes) without keeping other connections from being
/// served by this thread.
pub(super) fn off_the_wire<T>(length: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let shared = || Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if length > LONG && shared() { tokio::task::block_in_place(work) } else { work() }
}

/// The error of a statement that its user has cancelled.
pub fn canceled() -> Error {
    Error::new(ErrorKind::QueryCanceled, "canceling statement due to user request")
}
