//! One worker's instance of a dataflow: pushes batches through its operators and closes epochs.
//!
//! Batches go depth first, so that what an operator emits is taken up before it emits more: a join's fan-out is
//! never held whole. Stateful operators are closed in topological order, once all their inputs of the epoch are
//! complete; with several workers the order alternates between closing the operators of one exchange level and
//! exchanging what they emitted. A run can be left at any point between two batches and gone on with later.
//!
//! Boundary: single-threaded; the worker decides when to run and where the output goes.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::exchange::{Patience, Received, Router, Transport};
use super::introspect::{DataflowStats, NodeStats};
use crate::catalog::ObjectId;
use crate::error::{Error, Result};
use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::consolidate::consolidate;
use crate::zset::{TARGET_ROWS, ZBatch};

/// Consumer number of the dataflow's result.
pub(super) const RESULT: usize = usize::MAX;

/// What a node is when it runs.
pub(super) enum Kind {
    /// Changes of a relation, these columns (`None`: all as they are).
    Input { relation: ObjectId, columns: Option<Vec<usize>> },
    /// Rows that are there from the first epoch on; only worker 0 has any.
    Constant(RecordBatch),
    /// Passes all inputs on under its own column names.
    Union,
    /// Passes all rows on with the opposite weight.
    Negate,
    /// Sends rows to their owners.
    Exchange(Vec<usize>),
    /// Sends rows to everyone.
    Broadcast,
    /// Anything that computes.
    Operator(Box<dyn Operator>),
}

/// A node and where its output goes.
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) schema: SchemaRef,
    pub(super) inputs: Vec<usize>,
    /// (node, port) of its users.
    pub(super) consumers: Vec<(usize, usize)>,
    /// Has absorbed something since it was closed last.
    pub(super) touched: bool,
    /// Watermark at which it was closed last.
    pub(super) watermark: Watermark,
    pub(super) rows_in: u64,
    pub(super) rows_out: u64,
    pub(super) busy: Duration,
}

/// A step of the closing pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Close an operator.
    Close(usize),
    /// Tell the peers that an exchange node's output is complete.
    Seal(usize),
    /// Take what the peers have sent to an exchange node, until all of them have ended.
    Drain(usize),
}

/// The time of the epoch that a run closes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closing<'a> {
    pub(super) epoch: Epoch,
    pub(super) now: EventTime,
    /// Watermarks of the relations that the dataflow reads.
    pub(super) watermarks: &'a [(ObjectId, Watermark)],
}

/// What a worker has around its instances.
pub(super) struct Surroundings {
    pub(super) index: usize,
    pub(super) workers: usize,
    pub(super) router: Router,
    pub(super) transport: Arc<dyn Transport>,
}

enum Work {
    Push(usize, usize, ZBatch),
    Resume(usize),
}

/// The time of the epoch that a run closes, as each node has it.
struct Closes {
    epoch: Epoch,
    now: EventTime,
    /// Watermark of each node's output.
    watermarks: Vec<Watermark>,
}

/// A run: how far it has come.
pub(super) struct Run {
    /// What is still to be fed, by input node.
    feed: VecDeque<(usize, ZBatch)>,
    /// What has been emitted and not been taken up; the last one is next.
    work: Vec<Work>,
    /// The next task of the schedule.
    task: usize,
    closes: Option<Closes>,
    outcome: Result<()>,
}

impl Default for Run {
    fn default() -> Self {
        Run { feed: VecDeque::new(), work: Vec::new(), task: 0, closes: None, outcome: Ok(()) }
    }
}

/// One worker's part of a dataflow.
pub(super) struct Instance {
    pub(super) id: ObjectId,
    pub(super) nodes: Vec<Node>,
    pub(super) schedule: Vec<Task>,
    /// Schema under which the result is shown.
    pub(super) schema: SchemaRef,
    /// Whether the result needs no consolidation: it only grows, or its last operator emits net differences.
    pub(super) is_net: bool,
    /// Changes that arrived while hydrating; `None` when live.
    pub(super) buffered: Option<Vec<(ObjectId, Vec<ZBatch>)>>,
    /// Whether it has never been closed.
    pub(super) fresh: bool,
    pub(super) epochs: u64,
    pub(super) result: Vec<ZBatch>,
    /// While hydrating: what is to be taken out of the view when everything has been put in.
    pub(super) taken: VecDeque<ZBatch>,
    pub(super) errors: Vec<ZBatch>,
    pub(super) scratch: Output,
    pub(super) run: Run,
}

impl Instance {
    /// Feeds changes of relations and, if given, closes the epoch, to the end.
    pub(super) fn run(
        &mut self,
        around: &mut Surroundings,
        changes: &[(ObjectId, Vec<ZBatch>)],
        closing: Option<Closing<'_>>,
    ) -> Result<()> {
        self.begin(around, changes, closing);
        self.advance(around, Patience::Endless);
        self.end()
    }

    /// Begins a run: feeds changes of relations and, if given, closes the epoch. [`Instance::advance`] carries it
    /// out.
    pub(super) fn begin(
        &mut self,
        around: &Surroundings,
        changes: &[(ObjectId, Vec<ZBatch>)],
        closing: Option<Closing<'_>>,
    ) {
        let run = &mut self.run;
        run.outcome = Ok(());
        run.task = 0;
        for (relation, batches) in changes {
            for (n, node) in self.nodes.iter().enumerate() {
                if matches!(&node.kind, Kind::Input { relation: r, .. } if r == relation) {
                    run.feed.extend(batches.iter().filter(|b| !b.is_empty()).map(|b| (n, b.clone())));
                }
            }
        }
        if closing.is_some() && self.fresh && around.index == 0 {
            for (n, node) in self.nodes.iter().enumerate() {
                if let Kind::Constant(rows) = &node.kind
                    && rows.num_rows() > 0
                {
                    run.feed.push_front((n, ZBatch::inserts(rows.clone())));
                }
            }
        }
        let closes =
            closing.map(|c| Closes { epoch: c.epoch, now: c.now, watermarks: self.watermarks(c.watermarks) });
        self.run.closes = closes;
    }

    /// Carries a run on; whether it is over. Whatever fails, this worker's part of every exchange is carried out,
    /// so that no peer waits for ever.
    pub(super) fn advance(&mut self, around: &mut Surroundings, patience: Patience) -> bool {
        loop {
            match guarded(|| self.work_on(around, patience)) {
                Ok(over) => return over,
                Err(e) => {
                    self.run.work.clear();
                    self.run.feed.clear();
                    if self.run.outcome.is_ok() {
                        self.run.outcome = Err(e);
                    }
                }
            }
        }
    }

    /// What a run that is over came to.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.run.closes.take().is_some() {
            self.fresh = false;
            self.epochs += 1;
        }
        std::mem::replace(&mut self.run.outcome, Ok(()))
    }

    /// Works until the run is over (true), the time is up or a peer has to be waited for. What has been emitted is
    /// taken up before anything new, so that no output is ever held whole.
    fn work_on(&mut self, around: &mut Surroundings, patience: Patience) -> Result<bool> {
        let mut begun = false;
        loop {
            // However little time there is, something is done.
            if let Patience::Until(moment) = patience
                && std::mem::replace(&mut begun, true)
                && Instant::now() >= moment
            {
                return Ok(false);
            }
            if let Some(next) = self.run.work.pop() {
                self.handle(around, next)?;
                continue;
            }
            if let Some((n, batch)) = self.run.feed.pop_front() {
                self.feed(n, batch)?;
                self.take_in(around);
                continue;
            }
            let Some(task) = self.schedule.get(self.run.task).copied() else { return Ok(true) };
            match task {
                Task::Close(node) => {
                    // Not to be done again if it fails.
                    self.run.task += 1;
                    self.close(node)?;
                }
                Task::Seal(node) => {
                    self.run.task += 1;
                    for peer in (0..around.workers).filter(|p| *p != around.index) {
                        around.transport.send((self.id, node), around.index, peer, None);
                    }
                }
                Task::Drain(node) => {
                    match around.transport.receive((self.id, node), around.index, patience) {
                        Received::Batches(batches) => {
                            if self.run.outcome.is_ok() {
                                self.emit(node, batches);
                            }
                        }
                        Received::End => self.run.task += 1,
                        Received::Nothing => return Ok(false),
                    }
                }
            }
        }
    }

    /// Takes up what peers have sent meanwhile, so that the rows of an epoch do not pile up between the workers and
    /// their memory is used again while it is in the cache.
    fn take_in(&mut self, around: &Surroundings) {
        if around.workers == 1 || self.run.outcome.is_err() {
            return;
        }
        for (node, batches) in around.transport.arrived(self.id, around.index) {
            self.emit(node, batches);
        }
    }

    /// Takes a batch of an input up, or the first part of a large one.
    fn feed(&mut self, n: usize, batch: ZBatch) -> Result<()> {
        let rows = batch.num_rows();
        // Larger batches leave the cache between operators.
        let part = if rows <= 2 * TARGET_ROWS {
            batch
        } else {
            self.run.feed.push_front((n, batch.slice(TARGET_ROWS, rows - TARGET_ROWS)));
            batch.slice(0, TARGET_ROWS)
        };
        let part = self.read(n, part)?;
        self.emit(n, vec![part]);
        Ok(())
    }

    /// A batch of a relation as input node `n` gives it out.
    fn read(&mut self, n: usize, batch: ZBatch) -> Result<ZBatch> {
        let node = &mut self.nodes[n];
        node.rows_in += batch.num_rows() as u64;
        match &node.kind {
            Kind::Input { columns: Some(columns), .. } => {
                let rows = batch.rows();
                let columns = columns.iter().map(|c| rows.column(*c).clone()).collect();
                renamed(&batch, columns, &node.schema)
            }
            // Columns that were added to the relation after this dataflow was planned are not for it.
            Kind::Input { .. } if batch.columns().len() > node.schema.fields().len() => {
                let columns = batch.columns()[..node.schema.fields().len()].to_vec();
                renamed(&batch, columns, &node.schema)
            }
            _ => Ok(batch),
        }
    }

    /// Schedules the output of a node for its users, first batch first.
    fn emit(&mut self, n: usize, batches: Vec<ZBatch>) {
        let (node, work) = (&mut self.nodes[n], &mut self.run.work);
        node.rows_out += batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
        for batch in batches.into_iter().rev() {
            if let [(to, port)] = node.consumers[..] {
                work.push(Work::Push(to, port, batch));
            } else {
                for (to, port) in node.consumers.iter().rev() {
                    work.push(Work::Push(*to, *port, batch.clone()));
                }
            }
        }
    }

    fn handle(&mut self, around: &mut Surroundings, next: Work) -> Result<()> {
        match next {
            Work::Push(RESULT, _, batch) => {
                let columns = batch.columns().to_vec();
                let batch = renamed(&batch, columns, &self.schema)?;
                self.result.push(batch);
            }
            Work::Push(n, port, batch) => self.push(around, n, port, batch)?,
            Work::Resume(n) => {
                let mut out = std::mem::take(&mut self.scratch);
                let start = Instant::now();
                let progress = match &mut self.nodes[n].kind {
                    Kind::Operator(op) => op.resume(&mut out)?,
                    _ => Progress::Done,
                };
                self.nodes[n].busy += start.elapsed();
                self.take_up(n, progress, out);
            }
        }
        Ok(())
    }

    fn push(&mut self, around: &mut Surroundings, n: usize, port: usize, batch: ZBatch) -> Result<()> {
        let id = self.id;
        let node = &mut self.nodes[n];
        node.rows_in += batch.num_rows() as u64;
        match &mut node.kind {
            Kind::Operator(op) => {
                node.touched = true;
                let mut out = std::mem::take(&mut self.scratch);
                let start = Instant::now();
                let progress = op.absorb(port, batch, &mut out)?;
                node.busy += start.elapsed();
                self.take_up(n, progress, out);
            }
            Kind::Union => {
                let batch = renamed(&batch, batch.columns().to_vec(), &node.schema)?;
                self.emit(n, vec![batch]);
            }
            Kind::Negate => self.emit(n, vec![batch.negate()]),
            Kind::Exchange(keys) => {
                let (index, transport) = (around.index, &around.transport);
                let mut own = None;
                around.router.route(batch, keys, |to, part| {
                    if to == index {
                        own = Some(part);
                    } else {
                        transport.send((id, n), index, to, Some(part));
                    }
                })?;
                if let Some(own) = own {
                    self.emit(n, vec![own]);
                }
            }
            Kind::Broadcast => {
                for peer in (0..around.workers).filter(|p| *p != around.index) {
                    around.transport.send((id, n), around.index, peer, Some(batch.clone()));
                }
                self.emit(n, vec![batch]);
            }
            Kind::Input { .. } | Kind::Constant(_) => {
                return Err(Error::internal("an input node has no inputs"));
            }
        }
        Ok(())
    }

    /// Takes what an operator has emitted; it goes on itself after that has been worked off.
    fn take_up(&mut self, n: usize, progress: Progress, mut out: Output) {
        if progress == Progress::More {
            self.run.work.push(Work::Resume(n));
        }
        let rows = std::mem::take(&mut out.rows);
        self.errors.append(&mut out.errors);
        self.scratch = out;
        self.emit(n, rows);
    }

    /// Closes the epoch for one operator, if the run closes it and the operator has anything to do with it.
    fn close(&mut self, n: usize) -> Result<()> {
        let fresh = self.fresh;
        let (Ok(()), Some(closes)) = (&self.run.outcome, &self.run.closes) else { return Ok(()) };
        let node = &mut self.nodes[n];
        let ports: Vec<Watermark> = node.inputs.iter().map(|i| closes.watermarks[*i]).collect();
        let least = ports.iter().copied().min().unwrap_or(Watermark::FINAL);
        let Kind::Operator(op) = &mut node.kind else { return Ok(()) };
        let moved = least > node.watermark && op.waits_for_watermark();
        if !(fresh || node.touched || moved || op.next_timer().is_some_and(|t| t <= closes.now)) {
            return Ok(());
        }
        node.touched = false;
        node.watermark = least;
        let time = TimeFacts { epoch: closes.epoch, now: closes.now, watermarks: &ports };
        let mut out = std::mem::take(&mut self.scratch);
        let start = Instant::now();
        let progress = op.close_epoch(&time, &mut out)?;
        node.busy += start.elapsed();
        self.take_up(n, progress, out);
        Ok(())
    }

    /// Watermark of each node's output.
    fn watermarks(&self, relations: &[(ObjectId, Watermark)]) -> Vec<Watermark> {
        let mut all: Vec<Watermark> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let own = match &node.kind {
                Kind::Input { relation, .. } => {
                    relations.iter().find(|(r, _)| r == relation).map_or(Watermark::NONE, |(_, w)| *w)
                }
                Kind::Constant(_) => Watermark::FINAL,
                Kind::Operator(op) => {
                    let ports: Vec<Watermark> = node.inputs.iter().map(|i| all[*i]).collect();
                    op.watermark(&ports)
                }
                _ => node.inputs.iter().map(|i| all[*i]).min().unwrap_or(Watermark::NONE),
            };
            all.push(own);
        }
        all
    }

    /// The result of the epoch, each row once with its net weight.
    pub(super) fn take_result(&mut self) -> Result<Vec<ZBatch>> {
        let batches = std::mem::take(&mut self.result);
        if self.is_net || batches.is_empty() {
            return Ok(batches);
        }
        let net = guarded(|| consolidate(&self.schema, &batches))?;
        Ok(if net.is_empty() { vec![] } else { vec![net] })
    }

    /// The errors of the epoch, as they came.
    pub(super) fn take_errors(&mut self) -> Vec<ZBatch> {
        std::mem::take(&mut self.errors)
    }

    fn operators(&self) -> impl Iterator<Item = &dyn Operator> {
        self.nodes.iter().filter_map(|n| match &n.kind {
            Kind::Operator(op) => Some(&**op),
            _ => None,
        })
    }

    /// The earliest moment at which an operator acts by itself.
    pub(super) fn next_timer(&self) -> Option<EventTime> {
        self.operators().filter_map(Operator::next_timer).min()
    }

    /// Whether an operator must hear of a watermark that moves.
    pub(super) fn waits_for_watermark(&self) -> bool {
        self.operators().any(Operator::waits_for_watermark)
    }

    /// Bytes of state of all operators.
    pub(super) fn state_bytes(&self) -> usize {
        self.operators().map(Operator::state_bytes).sum()
    }

    /// The figures of this worker's part.
    pub(super) fn stats(&self) -> DataflowStats {
        let nodes = self.nodes.iter().enumerate().map(|(i, n)| {
            let (name, state_rows, state_bytes) = match &n.kind {
                Kind::Input { .. } => ("input", 0, 0),
                Kind::Constant(_) => ("constant", 0, 0),
                Kind::Union => ("union", 0, 0),
                Kind::Negate => ("negate", 0, 0),
                Kind::Exchange(_) => ("exchange", 0, 0),
                Kind::Broadcast => ("broadcast", 0, 0),
                Kind::Operator(op) => (op.name(), op.state_rows(), op.state_bytes()),
            };
            NodeStats {
                node: i,
                name: name.to_string(),
                rows_in: n.rows_in,
                rows_out: n.rows_out,
                state_rows,
                state_bytes,
                busy: n.busy,
            }
        });
        DataflowStats {
            id: self.id,
            hydrating: self.buffered.is_some(),
            epochs: self.epochs,
            nodes: nodes.collect(),
        }
    }
}

/// The same rows as columns of another schema (same types, other names).
fn renamed(batch: &ZBatch, columns: Vec<arrow::array::ArrayRef>, schema: &SchemaRef) -> Result<ZBatch> {
    if Arc::ptr_eq(batch.rows().schema_ref(), schema) && columns.len() == batch.columns().len() {
        return Ok(batch.clone());
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    batch.with_rows(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// Runs code of operators: a panic is an error of this dataflow, not the end of the server.
pub(super) fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(panic) => Err(Error::internal(format!("a dataflow operator panicked: {}", panic_text(&*panic)))),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
