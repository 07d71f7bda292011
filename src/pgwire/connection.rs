//! One connection's life after startup: the message loop, simple queries, COPY, and the sending of results.
//!
//! Boundary: prepared statements and portals are in [`super::extended`]; what statements mean is the backend's.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::{FutureExt, StreamExt};
use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};
use tokio_util::sync::CancellationToken;

use super::codec::{Body, Message, put, text, write_bare, write_tag};
use super::copy::CopyEncoder;
use super::errors::{self, Severity, protocol};
use super::extended::Portal;
use super::io::{FLUSH_AT, Frame, Io, ReadError};
use super::rows::{Format, RowEncoder, write_row_description};
use crate::coord::backend::{
    BackendSession, BatchStream, CancelHandle, CopyFormat, CopyOptions, CopySink, Outcome, OutputColumn,
    ParsedStatement, Prepared, RowsTag, StatementStore, TransactionStatus,
};
use crate::error::{Error, ErrorKind, Result};
use crate::types::text::TextOptions;

/// Replies that wait while a statement runs are sent after this time.
const LINGER: Duration = Duration::from_millis(10);

/// How the handling of a message ended when not well.
pub(super) enum Failure {
    /// The client is told; the connection goes on.
    Error(Error),
    /// The client is told; the connection ends.
    Fatal(Error),
    /// There is nobody to tell.
    Gone,
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Error(e)
    }
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Failure::Gone
    }
}

impl From<ReadError> for Failure {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Gone => Failure::Gone,
            ReadError::Fatal(e) => Failure::Fatal(e),
        }
    }
}

/// Awaits a call of the backend; a panic in it becomes XX000.
pub(super) async fn caught<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(errors::panicked(&*panic)),
    }
}

/// Makes a call of the backend that does not wait; a panic in it becomes XX000.
fn caught_now<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(errors::panicked(&*panic)))
}

/// What is looked at while a statement runs.
#[derive(Clone)]
pub(super) struct Watch {
    pub cancel: CancelHandle,
    pub shutdown: CancellationToken,
}

impl Watch {
    /// Returns when the server or somebody else ends the session.
    async fn stopped(&self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.cancel.terminated().cancelled() => {}
        }
    }

    /// Awaits a call of the backend to its end, whatever happens: it is told through its token, never dropped.
    pub async fn call<T>(&self, io: &mut Io, call: impl Future<Output = Result<T>>) -> Result<T, Failure> {
        let mut call = pin!(caught(call));
        // Most calls are over at once: nothing is set up for them.
        if let Poll::Ready(result) = futures::poll!(&mut call) {
            return result.map_err(|e| self.failure(e));
        }
        if !io.out.is_empty() {
            let late = async {
                tokio::time::sleep(LINGER).await;
                io.flush().await
            };
            tokio::select! {
                biased;
                result = &mut call => return result.map_err(|e| self.failure(e)),
                flushed = late => if flushed.is_err() {
                    self.cancel.cancel();
                },
            }
        }
        let (mut gone, mut stopped) = (false, false);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut call => break result,
                () = io.hangup(), if !gone => gone = true,
                () = self.stopped(), if !stopped => stopped = true,
            }
            self.cancel.cancel();
        };
        if gone { Err(Failure::Gone) } else { result.map_err(|e| self.failure(e)) }
    }

    /// The next batch of a result. What is written already is sent before it is waited for; the stream is left
    /// when the statement is cancelled or the client has gone.
    async fn next(
        &self,
        io: &mut Io,
        token: &CancellationToken,
        stream: &mut BatchStream,
    ) -> Result<Option<RecordBatch>, Failure> {
        let mut next = pin!(AssertUnwindSafe(stream.next()).catch_unwind());
        let unpack = |r: std::thread::Result<Option<Result<RecordBatch>>>| match r {
            Ok(batch) => batch.transpose().map_err(|e| self.failure(e)),
            Err(panic) => Err(Failure::Error(errors::panicked(&*panic))),
        };
        if let Poll::Ready(r) = futures::poll!(&mut next) {
            let batch = unpack(r)?;
            return if token.is_cancelled() { Err(self.why().await) } else { Ok(batch) };
        }
        if !io.out.is_empty() {
            tokio::select! {
                biased;
                r = &mut next => return unpack(r),
                flushed = io.flush() => flushed?,
            }
        }
        tokio::select! {
            biased;
            r = &mut next => unpack(r),
            () = token.cancelled() => Err(self.why().await),
            () = io.hangup() => Err(Failure::Gone),
            () = self.stopped() => Err(Failure::Fatal(errors::shutdown())),
        }
    }

    /// How an error ends a statement: one that was cancelled because the session ends takes the connection along.
    fn failure(&self, e: Error) -> Failure {
        if e.kind() == ErrorKind::QueryCanceled && self.stopped().now_or_never().is_some() {
            return Failure::Fatal(errors::shutdown());
        }
        Failure::Error(e)
    }

    /// Sends what waits, unless the session ends before the client takes it.
    async fn flush(&self, io: &mut Io) -> Result<(), Failure> {
        tokio::select! {
            biased;
            flushed = io.flush() => Ok(flushed?),
            () = self.stopped() => Err(Failure::Fatal(errors::shutdown())),
        }
    }

    /// Why a statement's token was cancelled.
    async fn why(&self) -> Failure {
        if self.stopped().now_or_never().is_some() {
            Failure::Fatal(errors::shutdown())
        } else {
            Failure::Error(self.cancel.error())
        }
    }
}

/// Rows on their way to the client; a portal keeps them between two Executes.
pub(super) struct RowsInFlight {
    pub columns: Arc<[OutputColumn]>,
    pub tag: RowsTag,
    stream: BatchStream,
    encoder: Option<RowEncoder>,
    batch: Option<RecordBatch>,
    at: usize,
    ended: bool,
}

impl RowsInFlight {
    pub fn new(columns: Arc<[OutputColumn]>, stream: BatchStream, tag: RowsTag) -> RowsInFlight {
        RowsInFlight { columns, tag, stream, encoder: None, batch: None, at: 0, ended: false }
    }

    /// Sends up to `limit` rows; how many, and whether the limit was what ended it.
    pub async fn send(
        &mut self,
        io: &mut Io,
        watch: &Watch,
        token: &CancellationToken,
        formats: &[Format],
        limit: usize,
        options: &TextOptions,
    ) -> Result<(usize, bool), Failure> {
        let mut sent = 0;
        loop {
            if sent == limit {
                return Ok((sent, true));
            }
            let Some(batch) = &self.batch else {
                if self.ended {
                    return Ok((sent, false));
                }
                match watch.next(io, token, &mut self.stream).await? {
                    Some(batch) => {
                        if !self.encoder.as_ref().is_some_and(|e| e.fits(&batch)) {
                            self.encoder = Some(RowEncoder::new(&self.columns, formats, &batch, options)?);
                        }
                        (self.batch, self.at) = (Some(batch), 0);
                    }
                    None => self.ended = true,
                }
                continue;
            };
            let Some(encoder) = &self.encoder else {
                return Err(Error::internal("a batch without encoder").into());
            };
            let next = encoder.write_rows(batch, self.at, limit - sent, FLUSH_AT, &mut io.out);
            sent += next - self.at;
            self.at = next;
            if next == batch.num_rows() {
                self.batch = None;
            }
            if io.out.len() >= FLUSH_AT || (self.tag.live && self.batch.is_none()) {
                watch.flush(io).await?;
                if token.is_cancelled() {
                    return Err(watch.why().await);
                }
            }
        }
    }

    /// The command tag after `sent` rows.
    pub fn command_tag(&self, sent: usize) -> String {
        if self.tag.counted { format!("{} {sent}", self.tag.command) } else { self.tag.command.to_string() }
    }
}

/// A client with its session.
pub(super) struct Connection<'a> {
    pub io: &'a mut Io,
    pub session: Box<dyn BackendSession>,
    pub watch: Watch,
    pub statements: Arc<StatementStore>,
    /// The unnamed prepared statement.
    pub unnamed: Option<Arc<Prepared>>,
    pub portals: HashMap<String, Portal>,
    /// An implicit transaction was begun and is finished at Sync.
    pub implicit: bool,
    /// After an error everything up to Sync is skipped.
    pub skipping: bool,
    /// A ReadyForQuery has been written and may not have been sent.
    owed: bool,
    /// The command tag that waits for the commit of the implicit transaction.
    pub held: Held,
}

/// The command tag of the last statement of an implicit transaction. It is a promise, so it is not written before the
/// transaction is committed; replies that need no commit and follow it wait with it.
#[derive(Default)]
pub(super) struct Held {
    tag: Option<String>,
    pub replies: Vec<u8>,
}

impl Held {
    /// Whether something waits.
    pub fn is_any(&self) -> bool {
        self.tag.is_some()
    }
}

impl<'a> Connection<'a> {
    pub fn new(
        io: &'a mut Io,
        session: Box<dyn BackendSession>,
        cancel: CancelHandle,
        statements: Arc<StatementStore>,
        shutdown: CancellationToken,
    ) -> Connection<'a> {
        Connection {
            io,
            session,
            watch: Watch { cancel, shutdown },
            statements,
            unnamed: None,
            portals: HashMap::new(),
            implicit: false,
            skipping: false,
            owed: false,
            held: Held::default(),
        }
    }

    /// Writes what follows a successful startup.
    pub fn greet(&mut self, pid: i32, secret: i32) {
        put(&Authentication::Ok, &mut self.io.out);
        self.write_parameters();
        put(&BackendKeyData::new(pid, SecretKey::I32(secret)), &mut self.io.out);
        self.write_notices();
        self.write_ready();
    }

    /// Serves messages until the connection ends; an error is FATAL and still to be sent.
    pub async fn run(&mut self) -> Result<(), Error> {
        if self.io.flush().await.is_err() {
            return Ok(());
        }
        let watch = self.watch.clone();
        let mut stopped = pin!(watch.stopped());
        loop {
            // What follows may be the beginning of a pipeline only, or what is left of a COPY.
            if self.owed && !self.io.has_frame() {
                self.owed = false;
                if self.io.flush().await.is_err() {
                    return Ok(());
                }
            }
            if watch.shutdown.is_cancelled() || watch.cancel.terminated().is_cancelled() {
                return Err(errors::shutdown());
            }
            let limit = self.session.idle_limit();
            let silent = async {
                match &limit {
                    Some(limit) => tokio::time::sleep(limit.after).await,
                    None => std::future::pending().await,
                }
            };
            let frame = tokio::select! {
                biased;
                f = self.io.read_frame() => f,
                () = &mut stopped => return Err(errors::shutdown()),
                () = silent => match limit {
                    Some(limit) => return Err(limit.error),
                    None => continue,
                },
            };
            let handled = match frame {
                Ok(Frame::Message(b'X', _)) => return Ok(()),
                Ok(Frame::Message(kind, body)) => self.message(kind, body).await,
                Ok(Frame::TooLarge(kind, len)) => self.too_large(kind, len).await,
                Err(e) => Err(e.into()),
            };
            self.watch.cancel.end();
            match handled {
                Ok(()) => {}
                Err(Failure::Gone) => return Ok(()),
                Err(Failure::Fatal(e) | Failure::Error(e)) => return Err(e),
            }
        }
    }

    /// Ends the session.
    pub async fn close(&mut self) {
        self.portals.clear();
        if self.implicit {
            let _ = caught(self.session.finish_implicit(false)).await;
        }
        let closed = async {
            self.session.close().await;
            Ok(())
        };
        if let Err(e) = caught(closed).await {
            tracing::error!("closing a session: {e}");
        }
    }

    async fn message(&mut self, kind: u8, body: Bytes) -> Result<(), Failure> {
        match kind {
            b'S' => self.sync().await,
            _ if self.skipping => Ok(()),
            b'Q' => self.simple(body).await,
            b'P' | b'B' | b'D' | b'E' | b'C' => match self.extended(kind, body).await {
                Err(Failure::Error(e)) => self.failed_until_sync(&e).await,
                other => other,
            },
            b'H' => {
                // The client may wait for the tag before it goes on.
                self.release();
                Ok(self.io.flush().await?)
            }
            b'F' => {
                let e = Error::unsupported("the function call protocol is not supported");
                self.report(&e);
                self.ready().await
            }
            // What is left of a COPY that failed.
            b'd' | b'c' | b'f' => Ok(()),
            other => Err(Failure::Fatal(protocol(format!("unexpected frontend message type {other}")))),
        }
    }

    async fn too_large(&mut self, kind: u8, len: usize) -> Result<(), Failure> {
        if self.skipping {
            return Ok(());
        }
        let e = Error::new(ErrorKind::ProgramLimit, format!("a message of {len} bytes exceeds the limit"));
        match kind {
            b'P' | b'B' => self.failed_until_sync(&e).await,
            b'd' | b'f' => Ok(()),
            _ => {
                self.report(&e);
                self.ready().await
            }
        }
    }

    async fn failed_until_sync(&mut self, e: &Error) -> Result<(), Failure> {
        self.report(e);
        self.skipping = true;
        // The client may have asked for a flush instead of a sync; that request is skipped now.
        Ok(self.io.flush().await?)
    }

    /// Writes an error with the notices before it, and fails the transaction block.
    pub fn report(&mut self, e: &Error) {
        self.release();
        self.write_notices();
        let timed_out = e.kind() == ErrorKind::QueryCanceled && self.watch.cancel.is_timed_out();
        let e = if timed_out { &self.watch.cancel.error() } else { e };
        errors::write_error(e, Severity::Error, &mut self.io.out);
        let failed = caught_now(|| {
            self.session.statement_failed(e);
            Ok(())
        });
        if let Err(e) = failed {
            tracing::error!("failing a transaction: {e}");
        }
    }

    pub fn write_notices(&mut self) {
        for notice in self.session.notices() {
            errors::write_notice(&notice, &mut self.io.out);
        }
    }

    fn write_parameters(&mut self) {
        for (name, value) in self.session.parameter_changes() {
            put(&ParameterStatus::new(text(&name), text(&value)), &mut self.io.out);
        }
    }

    fn write_ready(&mut self) {
        let status = match self.session.status() {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InBlock => b'T',
            TransactionStatus::Failed => b'E',
        };
        let mut message = Message::new(b'Z', &mut self.io.out);
        message.u8(status);
        message.end();
    }

    /// The end of a query cycle: everything is sent.
    pub async fn ready(&mut self) -> Result<(), Failure> {
        self.write_notices();
        self.write_parameters();
        self.write_ready();
        // The next cycle may have been asked for already: its replies go with these, unless they take long.
        self.owed = true;
        Ok(self.io.flush_if_full().await?)
    }

    async fn simple(&mut self, body: Bytes) -> Result<(), Failure> {
        // A query string ends the unnamed statement and portal, and whatever a pipeline without Sync had begun.
        self.release();
        self.unnamed = None;
        self.portals.remove("");
        let result = match self.query_string(body).await {
            Ok(()) => self.finish(true).await,
            Err(e) => Err(e),
        };
        match result {
            Err(Failure::Error(e)) => {
                self.report(&e);
                if let Err(Failure::Error(e)) = self.finish(false).await {
                    tracing::error!("rolling back: {e}");
                }
            }
            other => other?,
        }
        if self.session.status() == TransactionStatus::Idle {
            self.portals.clear();
        }
        self.ready().await
    }

    async fn query_string(&mut self, body: Bytes) -> Result<(), Failure> {
        let mut body = Body(body);
        let text = body.cstr()?;
        body.end()?;
        let token = self.watch.cancel.begin();
        let statements = caught_now(|| self.session.parse(&text))?;
        if statements.is_empty() {
            write_bare(b'I', &mut self.io.out);
            return Ok(());
        }
        self.begin()?;
        for statement in &statements {
            // Only the last tag waits for the commit.
            self.release();
            if token.is_cancelled() {
                return Err(self.watch.cancel.error().into());
            }
            self.simple_statement(statement, &token).await?;
        }
        Ok(())
    }

    /// Begins an implicit transaction unless one has begun.
    pub fn begin(&mut self) -> Result<()> {
        if !self.implicit {
            self.implicit = true;
            caught_now(|| self.session.begin_implicit())?;
        }
        Ok(())
    }

    /// The outcome of a statement that needs no waiting; `None`: it has to be run as a future.
    pub fn execute_at_once(
        &mut self,
        statement: &ParsedStatement,
        params: &[ScalarValue],
    ) -> Option<Result<Outcome>> {
        let session = &mut self.session;
        caught_now(|| session.execute_at_once(statement, params).transpose()).transpose()
    }

    /// Finishes the implicit transaction, if there is one; after its commit the tag that waited for it is written.
    pub async fn finish(&mut self, ok: bool) -> Result<(), Failure> {
        if std::mem::take(&mut self.implicit) {
            let session = &mut self.session;
            let finished = match caught_now(|| session.finish_at_once(ok).transpose()).transpose() {
                Some(finished) => finished.map_err(Failure::from),
                None => self.watch.call(self.io, self.session.finish_implicit(ok)).await,
            };
            match finished {
                Ok(None) => {}
                Ok(Some(tag)) if self.held.is_any() => self.held.tag = Some(tag),
                Ok(Some(_)) => {}
                Err(e) => {
                    self.held = Held::default();
                    return Err(e);
                }
            }
        }
        if self.held.is_any() {
            self.write_notices();
            self.release();
        }
        Ok(())
    }

    /// Writes a command tag, or keeps it until the implicit transaction is committed.
    pub fn complete(&mut self, tag: String) {
        self.release();
        self.write_notices();
        if self.implicit && self.session.status() == TransactionStatus::Idle {
            self.held.tag = Some(tag);
        } else {
            write_tag(&tag, &mut self.io.out);
        }
    }

    /// Writes what was held back.
    pub fn release(&mut self) {
        if let Some(tag) = self.held.tag.take() {
            write_tag(&tag, &mut self.io.out);
            self.io.out.append(&mut self.held.replies);
        }
    }

    /// Where replies go that follow a tag which may be waiting.
    pub fn replies(&mut self) -> &mut Vec<u8> {
        if self.held.is_any() { &mut self.held.replies } else { &mut self.io.out }
    }

    async fn simple_statement(
        &mut self,
        statement: &ParsedStatement,
        token: &CancellationToken,
    ) -> Result<(), Failure> {
        let outcome = match self.execute_at_once(statement, &[]) {
            Some(outcome) => outcome?,
            None => self.watch.call(self.io, self.session.execute(statement, Vec::new())).await?,
        };
        match outcome {
            Outcome::Rows { columns, stream, tag } => {
                write_row_description(&columns, &[], &mut self.io.out);
                let options = self.session.text_options();
                let mut rows = RowsInFlight::new(columns, stream, tag);
                if rows.tag.live {
                    self.io.flush().await?;
                }
                let (sent, _) = rows.send(self.io, &self.watch, token, &[], usize::MAX, &options).await?;
                self.complete(rows.command_tag(sent));
            }
            other => self.no_rows(other, token).await?,
        }
        Ok(self.io.flush_if_full().await?)
    }

    /// Sends an outcome that is the same in both query protocols.
    pub async fn no_rows(&mut self, outcome: Outcome, token: &CancellationToken) -> Result<(), Failure> {
        let tag = match outcome {
            Outcome::Command { tag } => tag,
            Outcome::CopyIn { columns, format, sink } => self.copy_in(columns, format, sink, token).await?,
            Outcome::CopyOut { columns, options, stream, live } => {
                self.copy_out(&columns, options, stream, live, token).await?
            }
            Outcome::Empty => {
                write_bare(b'I', &mut self.io.out);
                return Ok(());
            }
            Outcome::Rows { .. } => return Err(Error::internal("rows where none were expected").into()),
        };
        self.complete(tag);
        Ok(())
    }

    async fn copy_in(
        &mut self,
        columns: usize,
        format: CopyFormat,
        mut sink: Box<dyn CopySink>,
        token: &CancellationToken,
    ) -> Result<String, Failure> {
        self.write_notices();
        let code = CopyEncoder::format_code(format);
        let start = CopyInResponse::new(code, columns as i16, vec![code.into(); columns]);
        put(&start, &mut self.io.out);
        self.io.flush().await?;
        let result = self.copy_messages(sink.as_mut(), token).await;
        if let Err(failure) = &result {
            let message = match failure {
                Failure::Error(e) | Failure::Fatal(e) => e.message().to_string(),
                Failure::Gone => "the client has gone".into(),
            };
            let failed = async {
                sink.fail(&message).await;
                Ok(())
            };
            caught(failed).await?;
        }
        result
    }

    async fn copy_messages(
        &mut self,
        sink: &mut dyn CopySink,
        token: &CancellationToken,
    ) -> Result<String, Failure> {
        loop {
            let frame = tokio::select! {
                biased;
                () = token.cancelled() => return Err(self.watch.why().await),
                () = self.watch.stopped() => return Err(Failure::Fatal(errors::shutdown())),
                f = self.io.read_frame() => f?,
            };
            let (kind, body) = match frame {
                Frame::Message(kind, body) => (kind, body),
                Frame::TooLarge(_, len) => {
                    let text = format!("a message of {len} bytes exceeds the limit");
                    return Err(Error::new(ErrorKind::ProgramLimit, text).into());
                }
            };
            match kind {
                b'd' => self.watch.call(self.io, sink.data(body)).await?,
                b'c' => return self.watch.call(self.io, sink.finish()).await,
                b'f' => {
                    let reason = Body(body).cstr()?;
                    let text = format!("COPY from stdin failed: {reason}");
                    return Err(Error::new(ErrorKind::QueryCanceled, text).into());
                }
                b'H' | b'S' => {}
                b'X' => return Err(Failure::Gone),
                other => {
                    let text = format!("unexpected message type 0x{other:02X} during COPY from stdin");
                    return Err(protocol(text).into());
                }
            }
        }
    }

    async fn copy_out(
        &mut self,
        columns: &[OutputColumn],
        options: CopyOptions,
        mut stream: BatchStream,
        live: bool,
        token: &CancellationToken,
    ) -> Result<String, Failure> {
        self.write_notices();
        let code = CopyEncoder::format_code(options.format);
        let start = CopyOutResponse::new(code, columns.len() as i16, vec![code.into(); columns.len()]);
        put(&start, &mut self.io.out);
        let text = self.session.text_options();
        let mut encoder = CopyEncoder::new(options);
        encoder.write_header(columns, &mut self.io.out);
        if live {
            self.io.flush().await?;
        }
        let mut count = 0;
        while let Some(batch) = self.watch.next(self.io, token, &mut stream).await? {
            let mut at = 0;
            while at < batch.num_rows() {
                at = encoder.write_rows(columns, &batch, at, FLUSH_AT, &text, &mut self.io.out)?;
                if self.io.out.len() >= FLUSH_AT || (live && at == batch.num_rows()) {
                    self.watch.flush(self.io).await?;
                    if token.is_cancelled() {
                        return Err(self.watch.why().await);
                    }
                }
            }
            count += batch.num_rows();
        }
        encoder.write_trailer(&mut self.io.out);
        put(&CopyDone::new(), &mut self.io.out);
        Ok(format!("COPY {count}"))
    }
}
