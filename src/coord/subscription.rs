//! SUBSCRIBE on the session's side: a snapshot, then each closed epoch's changes, as an endless result.
//!
//! The columns are the epoch (µs since the Unix epoch), with PROGRESS whether the row only says how far the stream has come, the
//! difference (how often the row was added, negative: removed), and the row. A progress row of epoch t says that
//! everything before t has been sent. Rows of one epoch belong together: no state between two epochs ever was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use tokio::sync::{mpsc, oneshot};

use crate::catalog::{ObjectBody, ObjectId};
use crate::coord::Shared;
use crate::coord::aside::off_the_wire;
use crate::coord::backend::{CancelHandle, Outcome, OutputColumn, RowsTag};
use crate::coord::command::Command;
use crate::coord::ddl;
use crate::coord::session::Session;
use crate::coord::subscribe::{Notice, Subscriber};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind::{self, BindContext};
use crate::sql::statement::{Emit, Envelope, Name, Subscribe, Target};
use crate::store::relation::Relation;
use crate::store::snapshot::EpochPin;
use crate::time::Epoch;
use crate::types::PgType;
use crate::zset::ZBatch;

/// How long a client that is too slow may take to hear of it.
const STUCK: Duration = Duration::from_secs(10);

/// What a subscription reads: a relation and its columns.
struct Subscribed {
    id: ObjectId,
    relation: Arc<Relation>,
    columns: Vec<OutputColumn>,
    /// The plan, when it is a query's own dataflow.
    plan: Option<Arc<crate::plan::Plan>>,
}

/// The columns before the row's own.
#[derive(Clone)]
struct Envelop {
    progress: bool,
    materialize: bool,
    schema: SchemaRef,
}

impl Envelop {
    fn new(rows: &Schema, columns: &[OutputColumn], progress: bool, materialize: bool) -> Self {
        let time = if materialize { DataType::Decimal128(38, 0) } else { DataType::Int64 };
        let mut fields = vec![Field::new(Self::name(materialize, "timestamp", "epoch"), time, true)];
        if progress {
            fields.push(Field::new(
                Self::name(materialize, "progressed", "progressed"),
                DataType::Boolean,
                true,
            ));
        }
        fields.push(Field::new(Self::name(materialize, "diff", "diff"), DataType::Int64, true));
        for (field, column) in rows.fields().iter().zip(columns) {
            fields.push(field.as_ref().clone().with_name(&column.name).with_nullable(true));
        }
        Envelop { progress, materialize, schema: Arc::new(Schema::new(fields)) }
    }

    fn name(materialize: bool, theirs: &str, ours: &str) -> String {
        if materialize { format!("mz_{theirs}") } else { format!("freshet_{ours}") }
    }

    fn columns(&self, rows: &[OutputColumn]) -> Vec<OutputColumn> {
        let mut columns: Vec<OutputColumn> = self.schema.fields()[..self.leading()]
            .iter()
            .map(|f| OutputColumn::computed(f.name(), PgType::of_field(f)))
            .collect();
        columns.extend(rows.iter().cloned());
        columns
    }

    fn leading(&self) -> usize {
        if self.progress { 3 } else { 2 }
    }

    fn time(&self, epoch: Epoch, rows: usize) -> Result<ArrayRef> {
        if self.materialize {
            let array =
                Decimal128Array::from_value(i128::from(epoch.0), rows).with_precision_and_scale(38, 0)?;
            return Ok(Arc::new(array));
        }
        Ok(Arc::new(Int64Array::from_value(epoch.as_time().0, rows)))
    }

    fn rows(&self, epoch: Epoch, change: &ZBatch) -> Result<RecordBatch> {
        let n = change.num_rows();
        let mut columns = vec![self.time(epoch, n)?];
        if self.progress {
            columns.push(Arc::new(BooleanArray::from(vec![false; n])));
        }
        columns.push(Arc::new(change.weights_or_ones()));
        // Columns added since are not part of what was asked for.
        let wanted = self.schema.fields().len() - self.leading();
        columns.extend(change.columns().iter().take(wanted).cloned());
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn progressed(&self, epoch: Epoch) -> Result<RecordBatch> {
        let mut columns = vec![self.time(epoch, 1)?, Arc::new(BooleanArray::from(vec![true])) as ArrayRef];
        for field in &self.schema.fields()[2..] {
            columns.push(new_null_array(field.data_type(), 1));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// Tells the coordinator when the stream is dropped, however that happens.
struct Registration {
    shared: Arc<Shared>,
    subscriber: u64,
    /// Ends the session when the client does not read.
    watch: Option<tokio::task::AbortHandle>,
}

/// A subscriber that was too slow is told so when it reads; one that does not read at all keeps its connection, and what
/// waits for it, only for a while.
async fn end_if_stuck(overflow: Arc<tokio::sync::Notify>, session: CancelHandle) {
    overflow.notified().await;
    tokio::time::sleep(STUCK).await;
    session.terminate();
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        // When the coordinator is gone there is nothing left to leave.
        drop(self.shared.send(Command::Unsubscribe { subscriber: self.subscriber }));
    }
}

struct Stream {
    ready: VecDeque<RecordBatch>,
    queue: mpsc::UnboundedReceiver<Notice>,
    waiting: Arc<AtomicUsize>,
    envelop: Envelop,
    up_to: Option<Epoch>,
    ended: bool,
    overflow: Arc<tokio::sync::Notify>,
    registration: Registration,
}

impl Stream {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            if self.ended {
                return None;
            }
            match self.queue.recv().await {
                None => {
                    self.ended = true;
                    return Some(Err(Error::new(ErrorKind::AdminShutdown, "the server is shutting down")));
                }
                Some(Notice::End(e)) => {
                    self.ended = true;
                    let mut error = Error::new(e.kind(), e.message());
                    if let Some(detail) = e.detail() {
                        error = error.with_detail(detail);
                    }
                    if let Some(hint) = e.hint() {
                        error = error.with_hint(hint);
                    }
                    return Some(Err(error));
                }
                Some(Notice::Epoch(epoch, change)) => {
                    if let Err(e) = self.take(epoch, &change) {
                        self.ended = true;
                        return Some(Err(e));
                    }
                }
            }
        }
    }

    fn take(&mut self, epoch: Epoch, change: &[ZBatch]) -> Result<()> {
        let bytes: usize = change.iter().map(ZBatch::memory_size).sum::<usize>() + 64;
        self.waiting.fetch_sub(bytes, Ordering::AcqRel);
        if self.up_to.is_some_and(|t| epoch >= t) {
            self.ended = true;
            if let (true, Some(t)) = (self.envelop.progress, self.up_to) {
                self.ready.push_back(self.envelop.progressed(t)?);
            }
            return Ok(());
        }
        for batch in change.iter().filter(|b| !b.is_empty()) {
            self.ready.push_back(self.envelop.rows(epoch, batch)?);
        }
        if self.envelop.progress {
            self.ready.push_back(self.envelop.progressed(Epoch(epoch.0 + 1))?);
        }
        Ok(())
    }
}

impl Session {
    /// SUBSCRIBE as a result of rows. `sent`: they go to the client as they come, not when it asks for them.
    pub(super) async fn subscribe_rows(&mut self, subscribe: &Subscribe, sent: bool) -> Result<Outcome> {
        let subscribed = self.subscribed(subscribe)?;
        let progress = subscribe.progress.unwrap_or(false);
        let materialize = self.settings.text("subscribe_columns") == "materialize";
        let envelop = Envelop::new(subscribed.relation.schema(), &subscribed.columns, progress, materialize);
        let columns = envelop.columns(&subscribed.columns);
        let as_of = match &subscribe.as_of {
            Some(a) => Some((self.time_argument(&a.time)?, a.at_least)),
            None => None,
        };
        let up_to = match &subscribe.up_to {
            Some(t) => Some(self.time_argument(t)?),
            None => None,
        };
        let mut stream = self.open_subscription(subscribe, &subscribed, envelop, as_of, up_to).await?;
        if sent {
            let watch = tokio::spawn(end_if_stuck(stream.overflow.clone(), self.handle.clone()));
            stream.registration.watch = Some(watch.abort_handle());
        }
        let stream = futures::stream::unfold(stream, |mut s| async move { s.next().await.map(|b| (b, s)) });
        Ok(Outcome::Rows {
            columns: columns.into(),
            stream: Box::pin(stream),
            tag: RowsTag::counted("SUBSCRIBE").live(),
        })
    }

    /// The columns that SUBSCRIBE gives, for Describe.
    pub(super) fn subscribe_columns(&mut self, subscribe: &Subscribe) -> Result<Vec<OutputColumn>> {
        let subscribed = self.subscribed(subscribe)?;
        let progress = subscribe.progress.unwrap_or(false);
        let materialize = self.settings.text("subscribe_columns") == "materialize";
        let envelop = Envelop::new(subscribed.relation.schema(), &subscribed.columns, progress, materialize);
        Ok(envelop.columns(&subscribed.columns))
    }

    fn subscribed(&mut self, subscribe: &Subscribe) -> Result<Subscribed> {
        if subscribe.envelope != Envelope::Diff {
            return Err(Error::unsupported("ENVELOPE is not supported by SUBSCRIBE")
                .with_hint("Without it each row comes with its difference: 1 added, -1 removed."));
        }
        let (name, query) = match &subscribe.target {
            Target::Relation(name) => (Some(name), None),
            Target::Query(query) => (None, Some(query.text.clone())),
        };
        if let Some(name) = name
            && let Some(found) = self.stored_relation(name)?
        {
            return Ok(found);
        }
        let text = match (query, name) {
            (Some(text), _) => text,
            (None, Some(name)) => format!("SELECT * FROM {name}"),
            (None, None) => return Err(Error::internal("SUBSCRIBE to nothing")),
        };
        self.subscribed_query(&text)
    }

    fn stored_relation(&mut self, name: &Name) -> Result<Option<Subscribed>> {
        let shared = self.shared().clone();
        let path = self.search_path();
        let catalog = self.transaction().catalog(&shared);
        let Some(object) = ddl::find(&catalog, &path, name) else { return Ok(None) };
        if !object.is_relation() {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("cannot subscribe to {} \"{}\"", object.kind_name(), object.name),
            ));
        }
        if matches!(object.body, ObjectBody::View { .. }) || object.columns.iter().any(|c| c.dropped) {
            return Ok(None);
        }
        let relation = shared.world().relations.get(&object.id).cloned().ok_or_else(|| {
            Error::unsupported(format!("\"{}\" was created in this transaction", object.name))
                .with_hint("Commit first.")
        })?;
        let columns = object
            .columns
            .iter()
            .zip(1..)
            .map(|(c, attnum)| OutputColumn {
                name: c.name.clone(),
                pg_type: c.pg_type(),
                table_oid: object.id.0,
                attnum,
            })
            .collect();
        Ok(Some(Subscribed { id: object.id, relation, columns, plan: None }))
    }

    fn subscribed_query(&mut self, text: &str) -> Result<Subscribed> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        let context = BindContext { text: Some(text.to_string()), ..self.context_over(&catalog, true) };
        let bound = bind::bind_query_text(text, &context)?;
        if !bound.param_types.is_empty() {
            return Err(Error::unsupported("parameters in SUBSCRIBE are not supported"));
        }
        let plan = ddl::plan_query(&bound, &catalog, Emit::OnUpdate)?;
        let schema = plan.root().schema.clone();
        let id = shared.allocate_oid();
        let relation = Relation::new("subscription", schema, Vec::new(), shared.workers);
        Ok(Subscribed { id, relation: Arc::new(relation), columns: bound.columns, plan: Some(plan) })
    }

    async fn open_subscription(
        &mut self,
        subscribe: &Subscribe,
        subscribed: &Subscribed,
        envelop: Envelop,
        as_of: Option<(Epoch, bool)>,
        up_to: Option<Epoch>,
    ) -> Result<Stream> {
        let shared = self.shared().clone();
        let pin = match as_of {
            Some((t, at_least)) if t < shared.epochs.published() => match shared.epochs.pin_at(t) {
                Ok(pin) => pin,
                Err(_) if at_least => shared.epochs.pin(),
                Err(e) => return Err(e),
            },
            Some((t, _)) => self.wait_for(t).await?,
            None => shared.epochs.pin(),
        };
        let (queue, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let subscriber = shared.allocate_number();
        let limit = usize::try_from(self.settings.int("subscribe_buffer")).unwrap_or(0);
        let overflow = Arc::new(tokio::sync::Notify::new());
        let request = Subscriber {
            id: subscriber,
            progress: envelop.progress,
            up_to,
            limit: if limit == 0 { 64 << 20 } else { limit },
            waiting: waiting.clone(),
            overflow: overflow.clone(),
            queue,
        };
        let registration = Registration { shared: shared.clone(), subscriber, watch: None };
        let (reply, answer) = oneshot::channel();
        shared.send(match &subscribed.plan {
            None => Command::Subscribe { object: subscribed.id, subscriber: request, reply },
            Some(plan) => Command::SubscribeQuery {
                id: subscribed.id,
                plan: plan.clone(),
                relation: subscribed.relation.clone(),
                subscriber: request,
                reply,
            },
        })?;
        let since = answer
            .await
            .map_err(|_| Error::new(ErrorKind::AdminShutdown, "the server is shutting down"))??;
        let mut stream = Stream {
            ready: VecDeque::new(),
            queue: receiver,
            waiting,
            envelop,
            up_to,
            ended: up_to.is_some_and(|t| since >= t),
            overflow,
            registration,
        };
        let from = if as_of.is_some() && subscribed.plan.is_none() { pin.epoch() } else { since };
        off_the_wire(usize::MAX, || self.first_rows(subscribe, subscribed, &mut stream, from, since, &pin))?;
        Ok(stream)
    }

    /// The snapshot at `from`, and what changed from then until the stream begins.
    fn first_rows(
        &self,
        subscribe: &Subscribe,
        subscribed: &Subscribed,
        stream: &mut Stream,
        from: Epoch,
        since: Epoch,
        _pin: &EpochPin,
    ) -> Result<()> {
        let up_to = stream.up_to.unwrap_or(Epoch::MAX);
        if up_to <= from {
            // There is nothing before it to tell.
            return Ok(());
        }
        let envelop = stream.envelop.clone();
        if envelop.progress {
            stream.ready.push_back(envelop.progressed(from)?);
        }
        if subscribe.snapshot.unwrap_or(true) {
            for batch in subscribed.relation.snapshot(from).batches(None)? {
                stream.ready.push_back(envelop.rows(from, &ZBatch::inserts(batch))?);
            }
        }
        // What has happened since the past time that was asked for comes as it came.
        if from < since {
            for (epoch, change) in subscribed.relation.changes(from, since)? {
                if epoch >= up_to {
                    break;
                }
                stream.ready.push_back(envelop.rows(epoch, &change)?);
                if envelop.progress {
                    stream.ready.push_back(envelop.progressed(Epoch(epoch.0 + 1))?);
                }
            }
        }
        if envelop.progress {
            stream.ready.push_back(envelop.progressed(Epoch(since.0 + 1).min(up_to))?);
        }
        Ok(())
    }

    /// Waits until an epoch at or after `t` is closed.
    async fn wait_for(&mut self, t: Epoch) -> Result<EpochPin> {
        loop {
            let now = self.shared().clock.now();
            let ahead = t.as_time().0.saturating_sub(now.0);
            if ahead > 0 {
                let micros = u64::try_from(ahead).unwrap_or(0);
                tokio::time::sleep(Duration::from_micros(micros)).await;
            }
            if self.tick().await? >= t {
                return Ok(self.shared().epochs.pin());
            }
        }
    }

    /// A time in AS OF or UP TO: a timestamp, or a number of µs since the Unix epoch.
    fn time_argument(&mut self, expr: &crate::sql::Expr) -> Result<Epoch> {
        let context = self.bind_context(Vec::new());
        let value = bind::evaluate_constant(expr, &context)?;
        let micros = match value {
            ScalarValue::TimestampMicrosecond(Some(t), _) => Some(t),
            ScalarValue::Int64(Some(t)) => Some(t),
            ScalarValue::Int32(Some(t)) => Some(i64::from(t)),
            ScalarValue::Decimal128(Some(t), _, 0) => i64::try_from(t).ok(),
            // A bare literal takes its type from where it stands.
            ScalarValue::Utf8(Some(_)) => match bind::evaluate_as(expr, PgType::TIMESTAMPTZ, &context)? {
                ScalarValue::TimestampMicrosecond(t, _) => t,
                _ => None,
            },
            _ => None,
        };
        micros.and_then(|t| u64::try_from(t).ok()).map(Epoch).ok_or_else(|| {
            Error::new(ErrorKind::InvalidParameter, "AS OF and UP TO take a timestamp")
                .with_hint("A number is read as microseconds since 1970-01-01.")
        })
    }
}
