//! The coordinator's loop: gathers what has arrived, closes epochs, hydrates new views in between.
//!
//! One thread owns the catalog, the log, the sources' progress and the engine; between two epochs all state is
//! at rest. An epoch is sealed as soon as the last one is done: an idle server seals at the first row, a busy one
//! gathers while the previous step runs, within caps. The life of an epoch:
//! commits are checked and applied to their tables (unseen by readers), the log record is appended, the dataflows step
//! while the record is being synced (before it, if there is little to do), then the epoch is published, subscribers are told and commits are
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::catalog::{Catalog, ObjectBody, ObjectId};
use crate::coord::Shared;
use crate::coord::command::{Command, DdlOp, Ingest, Reply, TableWrite};
use crate::coord::hydrate::Hydration;
use crate::coord::ingest::SourceState;
use crate::coord::introspect::Stats;
use crate::coord::subscribe::Hub;
use crate::coord::watermark::WatermarkTracker;
use crate::coord::{constraint, ingest};
use crate::dataflow::{Engine, EpochInput, StepReport};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::log::{Log, LogEntry, LogRecord};
use crate::storage::meta::MetaStore;
use crate::store::relation::Relation;
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::ZBatch;

/// At most this many commands make one epoch.
const MAX_COMMANDS: usize = 4096;
/// How old the known size of all relations may be.
const MEMORY_INTERVAL: Duration = Duration::from_millis(250);
/// How long a slice of hydration may take before live work is looked at again.
const HYDRATION_SLICE: Duration = Duration::from_millis(10);
/// Bindings of sources without a table write are synced at least this often.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The owner of everything that changes.
pub struct Coordinator {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Receiver<Command>,
    pub(super) engine: Engine,
    pub(super) log: Arc<Mutex<Log>>,
    pub(super) meta: Box<dyn MetaStore>,
    pub(super) catalog: Catalog,
    pub(super) relations: BTreeMap<ObjectId, Arc<Relation>>,
    pub(super) trackers: BTreeMap<ObjectId, WatermarkTracker>,
    pub(super) sources: BTreeMap<ObjectId, SourceState>,
    pub(super) hydrations: VecDeque<Hydration>,
    /// Views that are not full yet: nobody but the coordinator knows them.
    pub(super) hidden: BTreeSet<ObjectId>,
    pub(super) hub: Hub,
    pub(super) last_epoch: Epoch,
    pub(super) next_timer: Option<EventTime>,
    pub(super) unsynced_since: Option<Instant>,
    /// Set after a failed sync: no write is accepted any more.
    pub(super) poisoned: Option<String>,
    /// Bytes of log that make a base snapshot worthwhile.
    pub(super) checkpoint_size: u64,
    pub(super) base_in_progress: bool,
    /// Rows and bytes after which no more is gathered for an epoch.
    pub(super) epoch_limits: (usize, usize),
    /// Bytes that relations may take before rows are refused, and how many they took when.
    pub(super) memory_limit: usize,
    pub(super) memory: Option<(Instant, usize)>,
}

/// An epoch that is being put together.
pub(super) struct OpenEpoch {
    pub(super) epoch: Epoch,
    pub(super) entries: Vec<LogEntry>,
    /// What each relation has been changed by.
    pub(super) changes: BTreeMap<ObjectId, Vec<ZBatch>>,
    /// (relation, change) already applied to the store, to be undone if the log refuses the epoch.
    applied: Vec<(ObjectId, ZBatch)>,
    /// The relations whose changes are in the log record: tables and their companions.
    logged: BTreeSet<ObjectId>,
    /// Event time of the written tables as it was before.
    trackers_before: BTreeMap<ObjectId, WatermarkTracker>,
    replies: Vec<Reply<Epoch>>,
    done: Vec<Sender<()>>,
    /// Whether it must be synced before anybody is told.
    durable: bool,
    rows: usize,
    bytes: usize,
}

impl OpenEpoch {
    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.entries.is_empty() && self.replies.is_empty() && self.done.is_empty()
    }
}

impl Coordinator {
    /// Runs until it is told to shut down. A panic here is a bug that leaves the state of the server unknown: the
    /// process ends, and the next start recovers what was acknowledged from the log.
    pub fn run(self) {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.serve()));
        if ran.is_err() {
            error!("the coordinator failed; the server ends, start it again to recover");
            std::process::exit(70);
        }
    }

    fn serve(mut self) {
        loop {
            let first = match self.next_command() {
                Ok(first) => first,
                Err(()) => return self.stop(None),
            };
            let mut open = self.open_epoch();
            let mut queue: VecDeque<Command> = first.into_iter().collect();
            let mut taken = 0;
            while let Some(command) = queue.pop_front().or_else(|| self.more(taken, &open)) {
                taken += 1;
                match command {
                    Command::Shutdown { reply } => {
                        self.close_epoch(open);
                        return self.stop(Some(reply));
                    }
                    // Definitions stand at an epoch border of their own.
                    Command::Commit { ddl, writes, background, reply } if !ddl.is_empty() => {
                        self.close_epoch(open);
                        self.commit_definitions(ddl, writes, background, reply);
                        open = self.open_epoch();
                    }
                    command => self.take(&mut open, command),
                }
            }
            self.close_epoch(open);
            self.hydrate_some(HYDRATION_SLICE);
            self.sync_if_due();
            self.begin_base_if_worthwhile();
        }
    }

    /// Waits for a command, a timer, or returns at once when there is work in the background.
    fn next_command(&mut self) -> Result<Option<Command>, ()> {
        if !self.hydrations.is_empty() && self.poisoned.is_none() {
            return Ok(self.commands.try_recv().ok());
        }
        let wait = self.time_to_wait();
        match wait {
            None => self.commands.recv().map(Some).map_err(|_| ()),
            Some(wait) => match self.commands.recv_timeout(wait) {
                Ok(command) => Ok(Some(command)),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(()),
            },
        }
    }

    fn more(&mut self, taken: usize, open: &OpenEpoch) -> Option<Command> {
        let (rows, bytes) = self.epoch_limits;
        (taken < MAX_COMMANDS && open.rows < rows && open.bytes < bytes)
            .then(|| self.commands.try_recv().ok())
            .flatten()
    }

    /// How long until something is due by itself; `None`: nothing ever is.
    fn time_to_wait(&self) -> Option<Duration> {
        if self.poisoned.is_some() {
            return None;
        }
        let idle = self.trackers.values().filter_map(|t| t.next_idle()).map(|e| e.as_time()).min();
        let timer = [self.next_timer, idle, self.hub.next_tick()].into_iter().flatten().min();
        let now = self.shared.clock.now();
        let timer =
            timer.map(|t| Duration::from_micros(u64::try_from(t.0.saturating_sub(now.0)).unwrap_or(0)));
        let sync = self.unsynced_since.map(|since| SYNC_INTERVAL.saturating_sub(since.elapsed()));
        [timer, sync].into_iter().flatten().min()
    }

    /// Whether `now()` has reached a moment at which something happens by itself.
    fn timer_is_due(&self, epoch: Epoch) -> bool {
        let now = epoch.as_time();
        self.next_timer.is_some_and(|t| t <= now)
            || self.hub.next_tick().is_some_and(|t| t <= now)
            || self.trackers.values().filter_map(|t| t.next_idle()).any(|e| e <= epoch)
    }

    pub(super) fn open_epoch(&mut self) -> OpenEpoch {
        let epoch = self.last_epoch.next(self.shared.clock.now());
        OpenEpoch {
            epoch,
            entries: Vec::new(),
            changes: BTreeMap::new(),
            applied: Vec::new(),
            logged: BTreeSet::new(),
            trackers_before: BTreeMap::new(),
            replies: Vec::new(),
            done: Vec::new(),
            durable: false,
            rows: 0,
            bytes: 0,
        }
    }

    fn take(&mut self, open: &mut OpenEpoch, command: Command) {
        match command {
            Command::Commit { writes, reply, .. } => match self.apply_writes(open, writes) {
                Ok(()) => open.replies.push(reply),
                Err(e) => drop(reply.send(Err(e))),
            },
            Command::Ingest(ingest) => {
                let done = ingest.done.clone();
                if let Err(e) = self.apply_ingest(open, ingest) {
                    error!(error = ?e, "a fetched batch could not be applied");
                }
                open.done.push(done);
            }
            Command::Subscribe { object, subscriber, reply } => {
                let known = self.relations.contains_key(&object);
                let answer = if known {
                    // The snapshot is of the last closed epoch; this epoch's changes follow it.
                    self.engine.keep_changelog(object, true);
                    self.hub.add(object, subscriber, self.shared.epochs.published());
                    Ok(self.shared.epochs.published())
                } else {
                    Err(Error::new(ErrorKind::UndefinedTable, "the relation has been dropped"))
                };
                drop(reply.send(answer));
            }
            Command::SubscribeQuery { id, plan, relation, subscriber, reply } => {
                let waiting = Hydration::for_subscription(id, plan, relation, subscriber, reply);
                self.hydrations.push_back(waiting);
            }
            Command::Unsubscribe { subscriber } => self.unsubscribe(subscriber),
            Command::AbandonViews(ids) => {
                for id in ids {
                    self.abandon_hydration(id);
                }
            }
            Command::BaseWritten(written) => self.base_written(written),
            Command::Tick { reply } => open.replies.push(reply),
            Command::Stats { reply } => drop(reply.send(self.stats())),
            Command::Shutdown { .. } => {}
        }
    }

    /// Checks a transaction's rows against the tables as they are, then applies them all.
    pub(super) fn apply_writes(&mut self, open: &mut OpenEpoch, writes: Vec<TableWrite>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        self.refuse_if_poisoned()?;
        let mut changes: Vec<(ObjectId, ZBatch)> = Vec::with_capacity(writes.len());
        for write in constraint::merge(writes)? {
            let object = self.catalog.get(write.table).cloned().ok_or_else(|| {
                Error::new(ErrorKind::UndefinedTable, "a table of this transaction has been dropped")
            })?;
            let relation = self.relation(write.table)?;
            constraint::check(&object, &relation, open.epoch, &write.change)?;
            changes.push((write.table, write.change));
        }
        self.refuse_if_full(&changes)?;
        for (table, change) in changes {
            self.apply_table_change(open, table, change)?;
        }
        Ok(())
    }

    /// Refuses more rows when those that are there take too much memory.
    fn refuse_if_full(&mut self, changes: &[(ObjectId, ZBatch)]) -> Result<()> {
        let grows = |(_, change): &(ObjectId, ZBatch)| match change.weights() {
            None => change.num_rows() > 0,
            Some(weights) => weights.values().iter().sum::<i64>() > 0,
        };
        if changes.iter().any(grows) { self.refuse_over_limit() } else { Ok(()) }
    }

    /// Refuses what takes more memory when tables and views hold more than they may.
    fn refuse_over_limit(&mut self) -> Result<()> {
        let held = match self.memory {
            Some((at, held)) if at.elapsed() < MEMORY_INTERVAL => held,
            _ => {
                let mut held: usize = self.relations.values().map(|r| r.memory_bytes()).sum();
                if held > self.memory_limit {
                    // What nobody can see any more may be what is too much.
                    let all: Vec<ObjectId> = self.relations.keys().copied().collect();
                    self.compact(&all);
                    held = self.relations.values().map(|r| r.memory_bytes()).sum();
                }
                self.memory = Some((Instant::now(), held));
                held
            }
        };
        if held <= self.memory_limit {
            return Ok(());
        }
        let detail =
            format!("Tables and views hold {held} bytes; memory_limit is {} bytes.", self.memory_limit);
        Err(Error::new(ErrorKind::OutOfMemory, "out of memory")
            .with_detail(detail)
            .with_hint("Delete rows, drop views, or raise memory_limit."))
    }

    fn apply_table_change(&mut self, open: &mut OpenEpoch, table: ObjectId, change: ZBatch) -> Result<()> {
        let (in_time, late) = match self.trackers.get_mut(&table) {
            Some(tracker) => {
                open.trackers_before.entry(table).or_insert_with(|| tracker.clone());
                tracker.split("", open.epoch, change)?
            }
            None => (change, None),
        };
        if let Some(late) = late
            && let Some(companion) = self.companion(table, "late")
        {
            self.put(open, companion, late, true)?;
        }
        open.durable = true;
        self.put(open, table, in_time, true)
    }

    /// Applies a change to a relation, unseen until the epoch is published.
    pub(super) fn put(
        &mut self,
        open: &mut OpenEpoch,
        id: ObjectId,
        change: ZBatch,
        logged: bool,
    ) -> Result<()> {
        if change.is_empty() {
            return Ok(());
        }
        if let Some(relation) = self.relations.get(&id) {
            relation.apply(0, open.epoch, &change)?;
            open.applied.push((id, change.clone()));
        }
        open.rows += change.num_rows();
        open.bytes += change.memory_size();
        if logged {
            open.logged.insert(id);
            open.entries.push(LogEntry::Table { object: id.0, change: change.clone() });
        }
        open.changes.entry(id).or_default().push(change);
        Ok(())
    }

    pub(super) fn apply_ingest(&mut self, open: &mut OpenEpoch, fetched: Ingest) -> Result<()> {
        let Some(state) = self.sources.get_mut(&fetched.source) else {
            return Ok(()); // dropped while the batch was on its way
        };
        let prepared = ingest::prepare(state, open.epoch, fetched)?;
        let id = prepared.source;
        let keeps = state.keeps_history;
        let mut late = Vec::new();
        let mut in_time = Vec::new();
        for (partition, rows) in prepared.rows {
            match self.trackers.get_mut(&id) {
                Some(tracker) => {
                    let (ok, too_late) = tracker.split(&partition, open.epoch, rows)?;
                    in_time.push(ok);
                    late.extend(too_late);
                }
                None => in_time.push(rows),
            }
        }
        for rows in in_time {
            if keeps {
                self.put(open, id, rows, false)?;
            } else if !rows.is_empty() {
                open.rows += rows.num_rows();
                open.bytes += rows.memory_size();
                open.changes.entry(id).or_default().push(rows);
            }
        }
        if let Some(companion) = self.companion(id, "late") {
            for rows in late {
                self.put(open, companion, rows, false)?;
            }
        }
        if let (Some(errors), Some(companion)) = (prepared.errors, self.companion(id, "errors")) {
            self.put(open, companion, errors, false)?;
        }
        Ok(())
    }

    /// Closes an epoch: log, step, publish, tell.
    /// Answers whether the epoch came to be.
    pub(super) fn close_epoch(&mut self, mut open: OpenEpoch) -> bool {
        if open.is_empty() && !self.timer_is_due(open.epoch) {
            return true;
        }
        if self.poisoned.is_some() {
            // What an unsynced epoch has done must never be seen, so no later epoch is published either.
            for reply in open.replies {
                drop(reply.send(Err(self.poison_error())));
            }
            return false;
        }
        let mut watermarks = self.close_watermarks(&mut open);
        let mut whole = true;
        if let Err(e) = self.append(&mut open) {
            whole = false;
            self.refuse_commits(&mut open, &mut watermarks, &e);
            if open.changes.is_empty() && open.done.is_empty() {
                self.last_epoch = open.epoch;
                return false;
            }
        }
        let input = EpochInput {
            epoch: open.epoch,
            now: open.epoch.as_time(),
            changes: std::mem::take(&mut open.changes).into_iter().collect(),
            watermarks,
        };
        // Beside a step that is over at once, a sync is not worth handing to another thread.
        let beside = open.durable && !self.engine.is_small(&input.changes);
        let sync = beside.then(|| {
            let log = self.log.clone();
            let (tx, rx) = std::sync::mpsc::sync_channel(1);
            self.shared.sync_pool.run(move || drop(tx.send(log.lock().sync())));
            rx
        });
        let table_changes: Vec<(ObjectId, Vec<ZBatch>)> =
            input.changes.iter().filter(|(id, _)| self.hub.wants(*id)).cloned().collect();
        let mut touched: Vec<ObjectId> = input.changes.iter().map(|(id, _)| *id).collect();
        let started = Instant::now();
        let report = self.step_with_errors(input);
        if open.durable {
            let synced = match sync {
                Some(sync) => {
                    sync.recv().unwrap_or_else(|_| Err(Error::internal("the log's thread has ended")))
                }
                None => self.log.lock().sync(),
            };
            if let Err(e) = synced {
                self.poison(open, e);
                return false;
            }
            self.unsynced_since = None;
        } else if !open.entries.is_empty() {
            self.unsynced_since.get_or_insert_with(Instant::now);
        }
        self.last_epoch = open.epoch;
        let mut changelogs = table_changes;
        match report {
            Ok(report) => {
                self.next_timer = report.next_timer;
                changelogs.extend(report.changelogs);
                touched.extend(report.ran);
                for (id, e) in report.failed {
                    self.dataflow_failed(id, &e);
                }
            }
            Err(e) => error!(error = ?e, "the step of an epoch failed"),
        }
        self.shared.figures.epoch_closed(open.epoch, started.elapsed(), open.rows);
        self.shared.epochs.publish(open.epoch);
        self.hub.publish(open.epoch, changelogs);
        for reply in open.replies {
            drop(reply.send(Ok(open.epoch)));
        }
        for done in open.done {
            let _ = done.send(());
        }
        self.compact(&touched);
        whole
    }

    /// A step, and further ones of the same epoch for dataflows that read the `$errors` of others.
    fn step_with_errors(&mut self, input: EpochInput) -> Result<StepReport> {
        let (epoch, now) = (input.epoch, input.now);
        let mut report = self.engine.step(input)?;
        let mut errors = std::mem::take(&mut report.errors);
        while !errors.is_empty() {
            let changes: Vec<(ObjectId, Vec<ZBatch>)> = errors
                .drain(..)
                .filter_map(|(id, batches)| Some((self.companion(id, "errors")?, batches)))
                .collect();
            let wanted = changes.iter().filter(|(id, _)| self.hub.wants(*id)).cloned();
            report.changelogs.extend(wanted);
            if !changes.iter().any(|(id, _)| self.engine.reads(*id)) {
                break;
            }
            let further = self.engine.step(EpochInput { epoch, now, changes, watermarks: Vec::new() })?;
            report.changelogs.extend(further.changelogs);
            report.ran.extend(further.ran);
            report.failed.extend(further.failed);
            report.next_timer = further.next_timer;
            errors = further.errors;
        }
        Ok(report)
    }

    /// Watermarks rise as the epoch closes; what the sources have reached goes into the log with them.
    fn close_watermarks(&mut self, open: &mut OpenEpoch) -> Vec<(ObjectId, Watermark)> {
        let mut moved = Vec::new();
        for (id, tracker) in &mut self.trackers {
            if let Some(promise) = tracker.close(open.epoch) {
                moved.push((*id, promise));
                if let Some(state) = self.sources.get_mut(id) {
                    state.dirty = true;
                } else {
                    open.entries.push(LogEntry::Binding {
                        object: id.0,
                        offsets: Vec::new(),
                        watermark: tracker.current(),
                    });
                }
            }
        }
        for (id, state) in &mut self.sources {
            if std::mem::take(&mut state.dirty) {
                let watermark = self.trackers.get(id).map_or(Watermark::NONE, |t| t.current());
                open.entries.push(LogEntry::Binding { object: id.0, offsets: state.binding(), watermark });
            }
        }
        moved
    }

    fn append(&mut self, open: &mut OpenEpoch) -> Result<()> {
        if open.entries.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut open.entries);
        let record = LogRecord { epoch: open.epoch, entries };
        let appended = self.log.lock().append(&record);
        open.entries = record.entries;
        appended
    }

    /// The log took no more (a full disk): the epoch's commits never were. What sources have delivered stays, because
    /// it can be read again; the next record that the log takes says how far they are.
    fn refuse_commits(
        &mut self,
        open: &mut OpenEpoch,
        watermarks: &mut Vec<(ObjectId, Watermark)>,
        cause: &Error,
    ) {
        // Sources come back every few milliseconds: say it for what is really lost, the users' commits.
        if !open.replies.is_empty() {
            warn!(error = ?cause, "the log refused an epoch");
        }
        let logged = std::mem::take(&mut open.logged);
        let (undone, kept) =
            std::mem::take(&mut open.applied).into_iter().partition(|(id, _)| logged.contains(id));
        open.applied = kept;
        self.undo(open.epoch, &undone);
        open.changes.retain(|id, _| !logged.contains(id));
        watermarks.retain(|(id, _)| !open.trackers_before.contains_key(id));
        self.trackers.append(&mut open.trackers_before);
        for state in self.sources.values_mut() {
            state.dirty = true;
        }
        open.entries.clear();
        open.durable = false;
        for reply in open.replies.drain(..) {
            drop(reply.send(Err(again(cause))));
        }
    }

    /// Takes back what will not be published.
    fn undo(&self, epoch: Epoch, applied: &[(ObjectId, ZBatch)]) {
        for (id, change) in applied {
            if let Some(relation) = self.relations.get(id)
                && let Err(e) = relation.apply(0, epoch, &change.negate())
            {
                error!(error = ?e, "an unpublished change could not be taken back");
            }
        }
    }

    /// After a failed sync nobody knows what is on the disk: stop accepting writes (and say so).
    fn poison(&mut self, open: OpenEpoch, cause: Error) {
        error!(error = ?cause, "the log could not be synced; no more writes are accepted, restart the server");
        self.poisoned = Some(cause.message().to_string());
        self.shared.figures.poison();
        for reply in open.replies {
            drop(reply.send(Err(self.poison_error())));
        }
    }

    pub(super) fn poison_error(&self) -> Error {
        Error::new(ErrorKind::Io, "the server no longer accepts writes because its log could not be synced")
            .with_detail(self.poisoned.clone().unwrap_or_default())
            .with_hint("Check the disk and restart the server; it recovers to the last durable epoch.")
    }

    pub(super) fn refuse_if_poisoned(&self) -> Result<()> {
        if self.poisoned.is_some() { Err(self.poison_error()) } else { Ok(()) }
    }

    fn commit_definitions(
        &mut self,
        ddl: Vec<DdlOp>,
        writes: Vec<TableWrite>,
        background: bool,
        reply: Reply<Epoch>,
    ) {
        let saved = (self.catalog.clone(), self.relations.clone(), self.trackers.clone());
        let mut open = self.open_epoch();
        let makes_views = ddl.iter().any(|op| matches!(op, DdlOp::Create(_, Some(_))));
        let applied = self
            .refuse_if_poisoned()
            .and_then(|()| if makes_views { self.refuse_over_limit() } else { Ok(()) })
            .and_then(|()| self.apply_definitions(&mut open, &ddl))
            .and_then(|effects| self.apply_writes(&mut open, writes).map(|()| effects));
        let effects = match applied {
            Ok(effects) => effects,
            Err(e) => {
                self.undo(open.epoch, &open.applied);
                (self.catalog, self.relations, self.trackers) = saved;
                return drop(reply.send(Err(e)));
            }
        };
        open.durable = true;
        let waits_for_view = !effects.views.is_empty() && !background;
        let mut reply = Some(reply);
        if !waits_for_view {
            open.replies.extend(reply.take());
        }
        // Readers that see the new names see their relations empty until the epoch is published.
        self.publish_world();
        if !self.close_epoch(open) {
            (self.catalog, self.relations, self.trackers) = saved;
            self.publish_world();
            if let Some(reply) = reply {
                drop(
                    reply.send(Err(Error::new(ErrorKind::DiskFull, "the log could not take the definition"))),
                );
            }
            return;
        }
        self.remember(&ddl);
        self.carry_out(effects, reply);
    }

    fn sync_if_due(&mut self) {
        if self.unsynced_since.is_some_and(|since| since.elapsed() >= SYNC_INTERVAL) {
            self.unsynced_since = None;
            if let Err(e) = self.log.lock().sync() {
                error!(error = ?e, "the log could not be synced");
                self.poisoned = Some(e.message().to_string());
                self.shared.figures.poison();
            }
        }
    }

    /// Merges and trims what this epoch has touched, a little at a time.
    fn compact(&mut self, touched: &[ObjectId]) {
        let oldest = self.shared.epochs.oldest_pinned();
        for id in touched {
            if let Some(relation) = self.relations.get(id)
                && let Err(e) = relation.compact(oldest)
            {
                warn!(error = ?e, "a relation could not be compacted");
            }
        }
    }

    pub(super) fn relation(&self, id: ObjectId) -> Result<Arc<Relation>> {
        self.relations
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::UndefinedTable, "the relation has been dropped"))
    }

    /// The `$errors` or `$late` relation of an object.
    pub(super) fn companion(&self, of: ObjectId, role: &str) -> Option<ObjectId> {
        self.shared.companion(&self.catalog, of, role)
    }

    fn stats(&mut self) -> Stats {
        let sources = self.sources.values().map(SourceState::stats).collect();
        Stats {
            dataflows: self.engine.stats(),
            sources,
            subscriptions: self.hub.list().collect(),
            hydrating: self.hidden.iter().copied().collect(),
            watermarks: self.trackers.iter().map(|(id, t)| (*id, t.current().0)).collect(),
        }
    }

    fn unsubscribe(&mut self, subscriber: u64) {
        if let Some((object, is_last)) = self.hub.remove(subscriber)
            && is_last
        {
            self.engine.keep_changelog(object, false);
            if self.catalog.get(object).is_none() {
                // The dataflow of a SUBSCRIBE to a query ends with it.
                self.engine.drop(object);
                self.relations.remove(&object);
            }
        }
    }

    fn dataflow_failed(&mut self, id: ObjectId, cause: &Error) {
        let name = self.catalog.get(id).map_or_else(|| id.to_string(), |o| o.name.clone());
        error!(object = %name, error = ?cause, "a dataflow has stopped; its view keeps its last state");
        self.shared.figures.failed(id, cause);
    }

    /// The last things: sources end, the log is synced.
    fn stop(mut self, reply: Option<tokio::sync::oneshot::Sender<()>>) {
        for state in self.sources.values_mut() {
            state.stop();
        }
        if let Err(e) = self.log.lock().sync() {
            error!(error = ?e, "the log could not be synced at the end");
        }
        if let Err(e) = self.write_base_at_end() {
            warn!(error = ?e, "the log could not be shortened");
        }
        if let Err(e) = self.meta.flush() {
            warn!(error = ?e, "the catalog store could not be flushed");
        }
        info!(epoch = %self.last_epoch, "stopped");
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    /// Whether an object is a source that keeps its rows.
    pub(super) fn keeps_history(body: &ObjectBody) -> bool {
        !matches!(body, ObjectBody::Source { keeps_history: false, .. })
    }
}

/// The same error for one more waiter.
fn again(e: &Error) -> Error {
    let mut copy = Error::new(e.kind(), e.message());
    if let Some(hint) = e.hint() {
        copy = copy.with_hint(hint);
    }
    copy
}
