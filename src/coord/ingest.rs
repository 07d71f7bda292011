//! Sources: the threads that read them, what they have reached, and reading them again after a restart.
//!
//! A reader is synchronous and deterministic per partition; it runs on a thread of its own and never gets more than a
//! few batches ahead of the coordinator. Each epoch's binding in the log says how many rows of each partition it
//! held and the watermark it closed with. A restart reads the source again from the start (or from
//! the last base snapshot) and cuts it at the same places, so the same rows are late as before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::connector::source::{self, DeadLetter, SourceBatch, SourceReader, SourceSpec, Status};
use crate::coord::command::{Command, Ingest};
use crate::coord::introspect::SourceStats;
use crate::error::{Error, Result};
use crate::expr::eval_error;
use crate::time::{Clock, Epoch, EventTime};
use crate::types::UTC;
use crate::zset::ZBatch;

/// Rows a reader fetches at once.
const FETCH_ROWS: usize = 8192 * 4;
/// Bytes a reader fetches at once.
const FETCH_BYTES: usize = 16 << 20;
/// Batches a reader may be ahead of the coordinator.
const AHEAD: usize = 3;
/// Fetches without rows after which a source that is read again counts as exhausted.
const EMPTY_FETCHES: usize = 8;
/// What the reader's clock advances by between two fetches of a recovery (µs).
const HOURS: i64 = 3 * 3_600_000_000;
/// Pause after a failed fetch, doubled up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What one partition has delivered so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PartitionProgress {
    /// The connector's own offset after the last row.
    pub offset: serde_json::Value,
    /// Rows decoded so far.
    pub rows: u64,
    /// Records that could not be decoded so far.
    pub errors: u64,
}

/// Progress of a source: partition → what it has delivered.
pub type Binding = BTreeMap<String, PartitionProgress>;

/// The coordinator's knowledge of one source.
pub struct SourceState {
    /// The source.
    pub id: ObjectId,
    /// Whether its rows stay in the store.
    pub keeps_history: bool,
    /// How far it has come.
    pub progress: Binding,
    /// Whether progress or watermark have moved in the open epoch.
    pub dirty: bool,
    /// What its reader last said.
    pub status: String,
    reader: Option<Reader>,
}

struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SourceState {
    /// A source whose reader has not been started.
    pub fn new(object: &Object) -> Self {
        let keeps_history = !matches!(object.body, ObjectBody::Source { keeps_history: false, .. });
        SourceState {
            id: object.id,
            keeps_history,
            progress: Binding::new(),
            dirty: false,
            status: "created".into(),
            reader: None,
        }
    }

    /// The progress as the log keeps it.
    pub fn binding(&self) -> Vec<u8> {
        serde_json::to_vec(&self.progress).unwrap_or_default()
    }

    /// The offsets to go on from.
    pub fn offsets(&self) -> Option<serde_json::Value> {
        if self.progress.is_empty() {
            return None;
        }
        Some(self.progress.iter().map(|(p, progress)| (p.clone(), progress.offset.clone())).collect())
    }

    /// Progress for system relations.
    pub fn stats(&self) -> SourceStats {
        let partitions = self
            .progress
            .iter()
            .map(|(name, p)| (name.clone(), p.offset.to_string(), p.rows, p.errors))
            .collect();
        SourceStats { id: self.id, status: self.status.clone(), partitions }
    }

    /// Whether its thread has been started.
    pub fn is_running(&self) -> bool {
        self.reader.is_some()
    }

    /// Starts the thread that reads it.
    pub fn start(&mut self, object: &Object, commands: Sender<Command>, clock: Arc<dyn Clock>) -> Result<()> {
        let spec = spec_of(object)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (id, stop, start) = (self.id, stop.clone(), self.offsets());
            let name = object.name.clone();
            std::thread::Builder::new()
                .name(format!("source {name}"))
                .spawn(move || read_loop(id, &name, &spec, start, &commands, &*clock, &stop))?
        };
        self.status = "running".into();
        self.reader = Some(Reader { stop, thread: Some(thread) });
        Ok(())
    }

    /// Ends the thread (it looks at least every 100 ms).
    pub fn stop(&mut self) {
        if let Some(mut reader) = self.reader.take() {
            reader.stop.store(true, Ordering::SeqCst);
            if let Some(thread) = reader.thread.take() {
                thread.thread().unpark();
            }
        }
    }
}

impl Drop for SourceState {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the connector needs to know of a source object.
pub fn spec_of(object: &Object) -> Result<SourceSpec> {
    match &object.body {
        ObjectBody::Source { connector, options, format, .. } => Ok(SourceSpec {
            connector: connector.clone(),
            options: options.clone(),
            format: format.clone(),
            schema: object.arrow_schema(),
        }),
        _ => Err(Error::internal(format!("\"{}\" is not a source", object.name))),
    }
}

fn read_loop(
    id: ObjectId,
    name: &str,
    spec: &SourceSpec,
    start: Option<serde_json::Value>,
    commands: &Sender<Command>,
    clock: &dyn Clock,
    stop: &AtomicBool,
) {
    let (done, acknowledged) = mpsc::channel();
    let mut ahead = 0;
    let mut retry = RETRY_FIRST;
    let mut last_status = "running".to_string();
    let mut reader: Option<Box<dyn SourceReader>> = None;
    let send = |batches, dead_letters, status: &str| {
        let ingest =
            Ingest { source: id, batches, dead_letters, status: status.to_string(), done: done.clone() };
        commands.send(Command::Ingest(ingest)).is_ok()
    };
    while !stop.load(Ordering::SeqCst) {
        while ahead >= AHEAD {
            match acknowledged.recv_timeout(Duration::from_millis(100)) {
                Ok(()) => ahead -= 1,
                Err(_) if stop.load(Ordering::SeqCst) => return,
                Err(_) => {}
            }
        }
        let fetched = match &mut reader {
            Some(r) => r.next(FETCH_ROWS, FETCH_BYTES, clock.now()),
            None => match source::open(spec, start.as_ref()) {
                Ok(r) => {
                    reader = Some(r);
                    continue;
                }
                Err(e) => Err(e),
            },
        };
        match fetched {
            Ok(fetch) => {
                retry = RETRY_FIRST;
                let finished = matches!(fetch.status, Status::Finished);
                let is_empty = fetch.batches.is_empty() && fetch.dead_letters.is_empty();
                let status = match fetch.problems.first() {
                    Some((partition, e)) => format!("retrying {partition}: {e}"),
                    None if finished => "finished".to_string(),
                    None => "running".to_string(),
                };
                if !is_empty || status != last_status {
                    last_status.clone_from(&status);
                    if !send(fetch.batches, fetch.dead_letters, &status) {
                        return;
                    }
                    ahead += 1;
                }
                match fetch.status {
                    Status::Finished => {
                        info!(source = name, "the source has been read to its end");
                        return;
                    }
                    Status::Idle(wait) => pause(wait, stop),
                    Status::More => {}
                }
            }
            Err(e) => {
                warn!(source = name, error = ?e, "a source could not be read; it will be tried again");
                if !send(Vec::new(), Vec::new(), &format!("retrying: {e}")) {
                    return;
                }
                ahead += 1;
                pause(retry, stop);
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

fn pause(mut wait: Duration, stop: &AtomicBool) {
    const LOOK: Duration = Duration::from_millis(100);
    while !wait.is_zero() && !stop.load(Ordering::SeqCst) {
        let part = wait.min(LOOK);
        std::thread::park_timeout(part);
        wait -= part;
    }
}

/// A fetch made ready to be applied.
pub struct Prepared {
    /// The source.
    pub source: ObjectId,
    /// Rows by partition.
    pub rows: Vec<(String, ZBatch)>,
    /// Rows for the `$errors` relation.
    pub errors: Option<ZBatch>,
}

/// Notes the progress of a fetch and turns it into changes.
pub fn prepare(state: &mut SourceState, epoch: Epoch, fetched: Ingest) -> Result<Prepared> {
    state.status = fetched.status;
    let mut rows = Vec::with_capacity(fetched.batches.len());
    for batch in fetched.batches {
        let progress = state.progress.entry(batch.partition.clone()).or_default();
        progress.rows += batch.rows.num_rows() as u64;
        progress.offset = batch.offset_after;
        state.dirty = true;
        rows.push((batch.partition, ZBatch::inserts(batch.rows)));
    }
    for letter in &fetched.dead_letters {
        state.progress.entry(letter.partition.clone()).or_default().errors += 1;
        state.dirty = true;
    }
    let errors = match fetched.dead_letters.as_slice() {
        [] => None,
        letters => Some(dead_letter_rows(letters, epoch)?),
    };
    Ok(Prepared { source: fetched.source, rows, errors })
}

/// The rows of `source$errors` for records that could not be decoded.
fn dead_letter_rows(letters: &[DeadLetter], epoch: Epoch) -> Result<ZBatch> {
    let time = TimestampMicrosecondArray::from_value(epoch.as_time().0, letters.len()).with_timezone(UTC);
    let code = StringArray::from_iter_values(letters.iter().map(|l| l.error.kind().sqlstate()));
    let text = StringArray::from_iter_values(letters.iter().map(|l| l.error.message()));
    let stage = StringArray::from_iter_values(letters.iter().map(|_| "decode"));
    let partition = StringArray::from_iter_values(letters.iter().map(|l| l.partition.as_str()));
    let offset = Int64Array::from_iter_values(letters.iter().map(|l| l.offset));
    let key = BinaryArray::from_iter(letters.iter().map(|_| None::<&[u8]>));
    let value = BinaryArray::from_iter_values(letters.iter().map(|l| l.raw.as_slice()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(time),
        Arc::new(code),
        Arc::new(text),
        Arc::new(stage),
        Arc::new(partition),
        Arc::new(offset),
        Arc::new(key),
        Arc::new(value),
    ];
    Ok(ZBatch::inserts(RecordBatch::try_new(eval_error::source_schema(), columns)?))
}

/// Reads a source again from its start and hands it out cut as the log's bindings say.
pub struct Replay {
    reader: Box<dyn SourceReader>,
    waiting: BTreeMap<String, VecDeque<RecordBatch>>,
    letters: BTreeMap<String, VecDeque<DeadLetter>>,
    delivered: Binding,
    exhausted: bool,
    /// The time that the reader is shown, in µs.
    clock: i64,
}

impl Replay {
    /// Opens the source where a base snapshot left it, or at its start.
    pub fn open(spec: &SourceSpec, from: &SourceState) -> Result<Self> {
        Ok(Replay {
            reader: source::open(spec, from.offsets().as_ref())?,
            waiting: BTreeMap::new(),
            letters: BTreeMap::new(),
            delivered: from.progress.clone(),
            exhausted: false,
            clock: 0,
        })
    }

    /// The fetch that brings the source from where it is to `target`. What the source no longer has is missing
    /// from it.
    pub fn advance(&mut self, source: ObjectId, target: &Binding) -> Result<Ingest> {
        let (done, _) = mpsc::channel();
        let mut ingest = Ingest {
            source,
            batches: Vec::new(),
            dead_letters: Vec::new(),
            status: "recovering".into(),
            done,
        };
        for (partition, goal) in target {
            self.rows_up_to(partition, goal, &mut ingest)?;
            self.letters_up_to(partition, goal, &mut ingest)?;
        }
        Ok(ingest)
    }

    fn rows_up_to(&mut self, partition: &str, goal: &PartitionProgress, out: &mut Ingest) -> Result<()> {
        loop {
            let delivered = self.delivered.entry(partition.to_string()).or_default();
            let missing = usize::try_from(goal.rows.saturating_sub(delivered.rows)).unwrap_or(usize::MAX);
            if missing == 0 {
                return Ok(());
            }
            let queue = self.waiting.entry(partition.to_string()).or_default();
            let Some(batch) = queue.pop_front() else {
                if !self.fetch()? {
                    return Ok(());
                }
                continue;
            };
            let taken = missing.min(batch.num_rows());
            if taken < batch.num_rows() {
                queue.push_front(batch.slice(taken, batch.num_rows() - taken));
            }
            delivered.rows += taken as u64;
            out.batches.push(SourceBatch {
                partition: partition.to_string(),
                rows: batch.slice(0, taken),
                offset_after: goal.offset.clone(),
            });
        }
    }

    fn letters_up_to(&mut self, partition: &str, goal: &PartitionProgress, out: &mut Ingest) -> Result<()> {
        loop {
            let delivered = self.delivered.entry(partition.to_string()).or_default();
            if delivered.errors >= goal.errors {
                return Ok(());
            }
            match self.letters.entry(partition.to_string()).or_default().pop_front() {
                Some(letter) => {
                    delivered.errors += 1;
                    out.dead_letters.push(letter);
                }
                None if self.fetch()? => {}
                None => return Ok(()),
            }
        }
    }

    /// Reads on; false when the source has nothing more for now.
    fn fetch(&mut self) -> Result<bool> {
        if self.exhausted {
            return Ok(false);
        }
        // A rate limit must not slow recovery down: by the clock that the reader is shown, hours pass between fetches.
        // Its first look only starts that clock, so it is asked again before it counts as empty.
        for _ in 0..EMPTY_FETCHES {
            self.clock += HOURS;
            let fetch = self.reader.next(FETCH_ROWS, FETCH_BYTES, EventTime(self.clock))?;
            let is_empty = fetch.batches.is_empty() && fetch.dead_letters.is_empty();
            let finished = matches!(fetch.status, Status::Finished);
            for batch in fetch.batches {
                self.waiting.entry(batch.partition).or_default().push_back(batch.rows);
            }
            for letter in fetch.dead_letters {
                self.letters.entry(letter.partition.clone()).or_default().push_back(letter);
            }
            if !is_empty {
                return Ok(true);
            }
            if finished {
                break;
            }
        }
        self.exhausted = true;
        Ok(!self.exhausted)
    }
}
