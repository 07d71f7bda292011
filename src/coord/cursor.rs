//! DECLARE, FETCH, MOVE, CLOSE: cursors over queries and subscriptions.
//!
//! A cursor pulls batches from its result as they are asked for. FETCH on a subscription gives what has arrived:
//! it waits for the first row (up to its timeout) and then returns without waiting for more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use futures::StreamExt;

use crate::coord::backend::{BatchStream, Outcome, OutputColumn, RowsTag};
use crate::coord::session::{Parsed, Session, command};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{CursorSource, Declare, Fetch, FetchDirection, OptionValue};

/// An open cursor.
pub struct Cursor {
    columns: Arc<[OutputColumn]>,
    schema: SchemaRef,
    stream: Option<BatchStream>,
    /// Rows read from the stream and not yet passed.
    ahead: VecDeque<RecordBatch>,
    /// Rows already passed, kept for SCROLL.
    behind: Option<Vec<RecordBatch>>,
    /// Rows passed so far.
    position: usize,
    /// Bytes that one FETCH may give, and that SCROLL may keep to go back to.
    limit: usize,
    /// Bytes kept for SCROLL.
    kept: usize,
    live: bool,
    hold: bool,
    /// Declared in this transaction: a rollback closes even a held one.
    new: bool,
}

impl Cursor {
    fn new(
        columns: Arc<[OutputColumn]>,
        stream: BatchStream,
        live: bool,
        declare: &Declare,
        limit: usize,
    ) -> Self {
        let behind = (declare.scroll == Some(true)).then(Vec::new);
        Cursor {
            columns,
            schema: Arc::new(Schema::empty()),
            stream: Some(stream),
            ahead: VecDeque::new(),
            behind,
            position: 0,
            limit,
            kept: 0,
            live,
            hold: declare.hold,
            new: true,
        }
    }

    /// Makes sure that a batch is at hand; false at the end (or when the time is up on a live cursor).
    async fn fill(&mut self, deadline: Option<tokio::time::Instant>) -> Result<bool> {
        while self.ahead.front().is_none_or(|b| b.num_rows() == 0) {
            self.ahead.pop_front();
            let Some(stream) = &mut self.stream else { return Ok(false) };
            let next = match deadline {
                Some(at) => match tokio::time::timeout_at(at, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(false),
                },
                None => stream.next().await,
            };
            match next {
                Some(batch) => {
                    let batch = batch?;
                    self.schema = batch.schema();
                    self.ahead.push_back(batch);
                }
                None => {
                    self.stream = None;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The next rows, at most `count`.
    async fn forward(&mut self, count: usize, timeout: Option<Duration>) -> Result<Vec<RecordBatch>> {
        let mut out = Vec::new();
        self.advance(count, timeout, &mut Some(&mut out)).await?;
        Ok(out)
    }

    /// Passes the next rows, at most `count`, and gives them if they are wanted. How many they were.
    async fn advance(
        &mut self,
        count: usize,
        timeout: Option<Duration>,
        out: &mut Option<&mut Vec<RecordBatch>>,
    ) -> Result<usize> {
        let mut missing = count;
        let mut given = 0;
        let start = tokio::time::Instant::now();
        while missing > 0 {
            let deadline = match (self.live, missing == count) {
                (false, _) => None,
                // The first row may be waited for, the others must be there already.
                (true, true) => timeout.map(|t| start + t),
                (true, false) => Some(tokio::time::Instant::now()),
            };
            if !self.fill(deadline).await? {
                break;
            }
            let Some(batch) = self.ahead.pop_front() else { break };
            let taken = missing.min(batch.num_rows());
            if taken < batch.num_rows() {
                self.ahead.push_front(batch.slice(taken, batch.num_rows() - taken));
            }
            let part = batch.slice(0, taken);
            missing -= taken;
            self.position += taken;
            if let Some(behind) = &mut self.behind {
                self.kept += part.get_array_memory_size() * taken / batch.num_rows().max(1);
                if self.kept > self.limit {
                    return Err(too_much("the rows that the scrollable cursor keeps"));
                }
                behind.push(part.clone());
            }
            if let Some(out) = out {
                given += part.get_array_memory_size() * taken / batch.num_rows().max(1);
                if given > self.limit && !out.is_empty() {
                    return Err(too_much("the rows of one FETCH").with_hint("Fetch fewer rows at a time."));
                }
                out.push(part);
            }
        }
        Ok(count - missing)
    }

    /// Goes back `count` rows and gives them in reverse order.
    fn backward(&mut self, count: usize) -> Result<Vec<RecordBatch>> {
        let Some(behind) = &mut self.behind else {
            return Err(Error::new(ErrorKind::ObjectNotInState, "cursor can only scan forward")
                .with_hint("Declare it with SCROLL option to enable backward scan."));
        };
        // The cursor stands on the last row passed: going back one gives the row before it.
        let mut out = Vec::new();
        let mut missing = count + 1;
        let mut first = true;
        while missing > 0 {
            let Some(batch) = behind.pop() else { break };
            let taken = missing.min(batch.num_rows());
            let keep = batch.num_rows() - taken;
            if keep > 0 {
                behind.push(batch.slice(0, keep));
            }
            let part = batch.slice(keep, taken);
            self.position -= taken;
            missing -= taken;
            self.ahead.push_front(part.clone());
            for row in (0..part.num_rows()).rev() {
                if std::mem::take(&mut first) {
                    continue;
                }
                out.push(part.slice(row, 1));
            }
        }
        // It now stands before the last row given; stand on it.
        if !out.is_empty()
            && let Some(batch) = self.ahead.pop_front()
        {
            behind.push(batch.slice(0, 1));
            self.position += 1;
            if batch.num_rows() > 1 {
                self.ahead.push_front(batch.slice(1, batch.num_rows() - 1));
            }
        }
        Ok(out)
    }

    async fn go(&mut self, direction: FetchDirection, timeout: Option<Duration>) -> Result<Vec<RecordBatch>> {
        match direction {
            FetchDirection::Forward(n) if n >= 0 => {
                self.forward(usize::try_from(n).unwrap_or(usize::MAX), timeout).await
            }
            FetchDirection::Forward(n) => {
                self.backward(usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX - 1))
            }
            FetchDirection::ForwardAll => {
                // ALL of an endless result is what is there.
                let timeout = if self.live { Some(timeout.unwrap_or(Duration::ZERO)) } else { timeout };
                self.forward(usize::MAX, timeout).await
            }
            FetchDirection::BackwardAll => self.backward(usize::MAX - 1),
            FetchDirection::Absolute(n) if n >= 0 => {
                self.to_position(usize::try_from(n).unwrap_or(usize::MAX)).await
            }
            FetchDirection::Relative(n) => {
                let target = i64::try_from(self.position).unwrap_or(i64::MAX).saturating_add(n);
                self.to_position(usize::try_from(target).unwrap_or(0)).await
            }
            FetchDirection::Absolute(_) => {
                self.advance(usize::MAX, None, &mut None).await?;
                self.to_position(self.position).await
            }
        }
    }

    /// The single row with this number (from 1).
    async fn to_position(&mut self, row: usize) -> Result<Vec<RecordBatch>> {
        if row > self.position {
            let skipped = row - self.position - 1;
            self.advance(skipped, None, &mut None).await?;
            return self.forward(1, None).await;
        }
        let back = self.position - row;
        if row == 0 {
            self.backward(usize::MAX - 1)?;
            return Ok(Vec::new());
        }
        let mut rows = self.backward(back + 1)?;
        rows.clear();
        if self.position >= row {
            self.backward(self.position - row + 1)?;
        }
        self.forward(row - self.position, None).await.map(|b| b.into_iter().next_back().into_iter().collect())
    }
}

impl Session {
    pub(super) async fn declare(
        &mut self,
        declare: &Declare,
        params: Vec<ScalarValue>,
        whole: Option<Arc<str>>,
    ) -> Result<Outcome> {
        let in_block = self.transaction.as_ref().is_some_and(|t| t.explicit);
        if !in_block && !declare.hold {
            return Err(Error::new(
                ErrorKind::NoActiveTransaction,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if self.cursors.contains_key(&declare.name) {
            return Err(Error::new(
                ErrorKind::DuplicateCursor,
                format!("cursor \"{}\" already exists", declare.name),
            ));
        }
        let outcome = match &declare.source {
            CursorSource::Query(query) => self.select(&Parsed::of_query(query, whole), params).await?,
            CursorSource::Subscribe(subscribe) => self.subscribe_rows(subscribe, false).await?,
        };
        let Outcome::Rows { columns, stream, tag } = outcome else {
            return Err(Error::internal("a cursor over a statement without rows"));
        };
        let limit = self.server.inner.settings.query_memory_limit();
        self.cursors.insert(declare.name.clone(), Cursor::new(columns, stream, tag.live, declare, limit));
        Ok(command("DECLARE CURSOR"))
    }

    fn cursor(&mut self, name: &str) -> Result<&mut Cursor> {
        self.cursors.get_mut(name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidCursorName, format!("cursor \"{name}\" does not exist"))
        })
    }

    /// The columns that FETCH from this cursor gives.
    pub(super) fn cursor_columns(&mut self, name: &str) -> Result<Arc<[OutputColumn]>> {
        Ok(self.cursor(name)?.columns.clone())
    }

    pub(super) async fn fetch(&mut self, fetch: &Fetch) -> Result<Outcome> {
        let timeout = fetch_timeout(fetch)?;
        let cursor = self.cursor(&fetch.cursor)?;
        let batches = cursor.go(fetch.direction, timeout).await?;
        let columns = cursor.columns.clone();
        let stream = Box::pin(futures::stream::iter(batches.into_iter().map(Ok)));
        Ok(Outcome::Rows { columns, stream, tag: RowsTag::counted("FETCH") })
    }

    pub(super) async fn move_cursor(&mut self, fetch: &Fetch) -> Result<Outcome> {
        let timeout = fetch_timeout(fetch)?;
        let cursor = self.cursor(&fetch.cursor)?;
        let rows = match fetch.direction {
            FetchDirection::Forward(n) if n >= 0 => {
                cursor.advance(usize::try_from(n).unwrap_or(usize::MAX), timeout, &mut None).await?
            }
            FetchDirection::ForwardAll if !cursor.live => {
                cursor.advance(usize::MAX, timeout, &mut None).await?
            }
            other => cursor.go(other, timeout).await?.iter().map(RecordBatch::num_rows).sum(),
        };
        Ok(command(format!("MOVE {rows}")))
    }

    pub(super) fn close(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            Some(name) => {
                self.cursor(name)?;
                self.cursors.remove(name);
                Ok(command("CLOSE CURSOR"))
            }
            None => {
                self.cursors.clear();
                Ok(command("CLOSE CURSOR ALL"))
            }
        }
    }

    /// The transaction ends: cursors end with it, but for those WITH HOLD (if it was committed).
    pub(super) fn close_cursors(&mut self, committed: bool) {
        self.cursors.retain(|_, c| c.hold && (committed || !c.new));
        for cursor in self.cursors.values_mut() {
            cursor.new = false;
        }
    }

    pub(super) fn close_all_cursors(&mut self) {
        self.cursors.clear();
    }
}

fn too_much(what: &str) -> Error {
    Error::new(ErrorKind::ConfigurationLimit, format!("{what} exceed query_memory_limit"))
}

fn fetch_timeout(fetch: &Fetch) -> Result<Option<Duration>> {
    let Some(value) = &fetch.timeout else { return Ok(None) };
    let text = match value {
        OptionValue::String(s)
        | OptionValue::Interval(s)
        | OptionValue::Ident(s)
        | OptionValue::Number(s) => s,
        _ => return Err(Error::new(ErrorKind::InvalidParameter, "invalid value for timeout")),
    };
    let micros = crate::config::parse_duration_micros(text)
        .ok_or_else(|| Error::new(ErrorKind::InvalidParameter, format!("invalid timeout: \"{text}\"")))?;
    Ok(Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
}
