//! The engine: which dataflows exist, which of them an epoch touches, and the worker threads that run them.
//!
//! Boundary: the only part of `dataflow` that the coordinator calls.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::exchange::{Delivery, Mailboxes};
use super::introspect::DataflowStats;
use super::worker::{
    Active, Answer, Command, FinishCommand, RunResult, Shared, StepCommand, Worker, step_together,
};
use super::{DataflowSpec, EpochInput, StepReport, Target};
use crate::catalog::ObjectId;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::eval_error;
use crate::plan::Op;
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::ZBatch;
use crate::zset::consolidate::consolidate;

/// Plans nest deeply, and expressions recurse.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Steps of at most this many rows are run by the thread that asks for them, for all workers.
const TOGETHER_ROWS: usize = 512;
/// If that took longer than this, the next ones are left to the workers' threads.
const TOGETHER_TIME: Duration = Duration::from_millis(2);
/// So many steps then are.
const APART_STEPS: u32 = 32;
/// How often the end of a hydration is worked at in turns that leave room for others. Changes come in meanwhile, so
/// that there is always another round; the one after these is worked through.
const SLICED_ROUNDS: u32 = 6;

/// The end of a hydration: rounds, in each of which what has come in since the one before is absorbed.
#[derive(Default)]
struct Ending {
    rounds: u32,
    /// Errors so far.
    errors: Vec<ZBatch>,
}

/// What the engine knows of a dataflow.
struct Dataflow {
    spec: Arc<DataflowSpec>,
    keep_changelog: bool,
    /// Relations it reads.
    inputs: Vec<ObjectId>,
    hydrating: bool,
    /// A round of the end of its hydration is under way, closed at this time.
    ending: Option<Ending>,
    round: Option<(Epoch, EventTime)>,
    timer: Option<EventTime>,
    waits: bool,
    state_bytes: usize,
    watermark: Watermark,
}

/// The workers. One needs no thread; of several, each has one, and all are at rest between commands.
struct Crew {
    workers: Vec<Arc<Mutex<Worker>>>,
    threads: Option<Threads>,
    /// Small steps that are still to be left to the threads.
    apart: u32,
    /// What is small.
    together_rows: usize,
}

struct Threads {
    senders: Vec<Sender<Command>>,
    answers: Receiver<Answer>,
    threads: Vec<JoinHandle<()>>,
}

/// All running dataflows and the workers that run them.
pub struct Engine {
    crew: Crew,
    shared: Arc<Shared>,
    dataflows: BTreeMap<ObjectId, Dataflow>,
    /// Dataflows that read a relation.
    readers: HashMap<ObjectId, Vec<ObjectId>>,
    /// Watermarks of tables and sources.
    watermarks: HashMap<ObjectId, Watermark>,
    timers: BTreeSet<(EventTime, ObjectId)>,
    memory_limit: Option<usize>,
}

impl Engine {
    /// Starts the workers; between 1 and 256 of them.
    pub fn start(workers: usize) -> Engine {
        Engine::start_with(workers, Delivery::AsArrived)
    }

    /// Starts the workers with a certain order of delivery between them.
    pub fn start_with(workers: usize, delivery: Delivery) -> Engine {
        let workers = workers.clamp(1, 256);
        let shared = Arc::new(Shared {
            transport: Arc::new(Mailboxes::new(workers, delivery)),
            barrier: Barrier::new(workers),
            failed: Mutex::default(),
        });
        let all: Vec<Arc<Mutex<Worker>>> = (0..workers)
            .map(|index| Arc::new(Mutex::new(Worker::new(index, workers, shared.clone()))))
            .collect();
        let threads = (workers > 1).then(|| start_threads(&all));
        let crew = Crew { workers: all, threads, apart: 0, together_rows: TOGETHER_ROWS };
        Engine {
            crew,
            shared,
            dataflows: BTreeMap::new(),
            readers: HashMap::new(),
            watermarks: HashMap::new(),
            timers: BTreeSet::new(),
            memory_limit: None,
        }
    }

    /// The most bytes of operator state that all dataflows together may hold; the largest one is stopped when
    /// they hold more.
    pub fn set_memory_limit(&mut self, bytes: Option<usize>) {
        self.memory_limit = bytes;
    }

    /// Adds a dataflow. It is hydrating: feed it with [`Engine::hydrate_slice`] and end with
    /// [`Engine::finish_hydration`]. Changes of its inputs in steps between are kept for it.
    pub fn create(&mut self, spec: DataflowSpec) -> Result<()> {
        if self.dataflows.contains_key(&spec.id) {
            return Err(Error::internal(format!("dataflow {} is there already", spec.id)));
        }
        let inputs = spec.plan.relations();
        if let Some(later) = inputs.iter().find(|i| **i >= spec.id) {
            return Err(Error::internal(format!("dataflow {} reads {later}, which is younger", spec.id)));
        }
        let spec = Arc::new(spec);
        let results = self.command(Command::Create(spec.clone())).results;
        if let Some(e) = results.into_iter().find_map(|r| r.failure) {
            self.command(Command::Drop(spec.id));
            return Err(e);
        }
        for input in &inputs {
            self.readers.entry(*input).or_default().push(spec.id);
        }
        let id = spec.id;
        if let Target::View(view, _) = &spec.target
            && spec.plan.nodes.iter().any(|n| matches!(n.op, Op::Negate))
        {
            view.expect_deletes()?;
        }
        let dataflow = Dataflow {
            keep_changelog: spec.keep_changelog,
            spec,
            inputs,
            hydrating: true,
            ending: None,
            round: None,
            timer: None,
            waits: false,
            state_bytes: 0,
            watermark: Watermark::NONE,
        };
        self.dataflows.insert(id, dataflow);
        Ok(())
    }

    /// Removes a dataflow and its state; unknown ids are no error.
    pub fn drop(&mut self, id: ObjectId) {
        let Some(dataflow) = self.dataflows.remove(&id) else { return };
        for input in &dataflow.inputs {
            if let Some(readers) = self.readers.get_mut(input) {
                readers.retain(|r| *r != id);
                if readers.is_empty() {
                    self.readers.remove(input);
                }
            }
        }
        if let Some(t) = dataflow.timer {
            self.timers.remove(&(t, id));
        }
        self.command(Command::Drop(id));
    }

    /// From now on, whether reports hold the changes of this dataflow (unknown ids are no error).
    pub fn keep_changelog(&mut self, id: ObjectId, keep: bool) {
        if let Some(dataflow) = self.dataflows.get_mut(&id) {
            dataflow.keep_changelog = keep;
        }
    }

    /// Whether a dataflow reads this relation.
    pub fn reads(&self, relation: ObjectId) -> bool {
        self.readers.get(&relation).is_some_and(|r| !r.is_empty())
    }

    /// Whether this dataflow exists and has not failed.
    pub fn contains(&self, id: ObjectId) -> bool {
        self.dataflows.contains_key(&id)
    }

    /// Closes an epoch: runs every dataflow that the changes, a due timer or a moved watermark concern. The
    /// changes are applied to the views when this returns.
    pub fn step(&mut self, input: EpochInput) -> Result<StepReport> {
        let active = self.active(&input);
        let mut report = StepReport::default();
        if !active.is_empty() {
            let step = StepCommand { epoch: input.epoch, now: input.now, changes: input.changes, active };
            let results = self.run_step(step).results;
            self.gather(results, input.epoch, &mut report)?;
        }
        report.next_timer = self.timers.first().map(|(t, _)| *t);
        Ok(report)
    }

    /// Whether a step with these changes is likely to be over at once, without waking a worker.
    pub fn is_small(&self, changes: &[(ObjectId, Vec<ZBatch>)]) -> bool {
        let rows: usize = changes.iter().flat_map(|(_, b)| b).map(ZBatch::num_rows).sum();
        rows <= self.crew.together_rows && self.crew.apart == 0
    }

    /// Leaves all steps to the workers' threads.
    #[cfg(test)]
    pub(super) fn keep_apart(&mut self) {
        self.crew.together_rows = 0;
        self.crew.apart = u32::MAX;
    }

    fn run_step(&mut self, step: StepCommand) -> Answer {
        let together = self.is_small(&step.changes);
        if self.crew.threads.is_none() || !together {
            self.crew.apart = self.crew.apart.saturating_sub(1);
            return self.command(Command::Step(Arc::new(step)));
        }
        let start = Instant::now();
        self.shared.failed.lock().clear();
        let mut workers: Vec<_> = self.crew.workers.iter().map(|w| w.lock()).collect();
        let answer = step_together(&mut workers, &step);
        if start.elapsed() > TOGETHER_TIME {
            self.crew.apart = APART_STEPS;
        }
        answer
    }

    /// Absorbs a part of the snapshots of a hydrating dataflow's inputs.
    pub fn hydrate_slice(&mut self, id: ObjectId, slice: Vec<(ObjectId, Vec<ZBatch>)>) -> Result<()> {
        self.hydrating(id)?;
        let results = self.command(Command::Hydrate(id, Arc::new(slice))).results;
        let mut bytes = 0;
        let mut failure = None;
        for result in results {
            bytes += result.state_bytes;
            failure = failure.or(result.failure);
        }
        let others: usize = self.dataflows.values().map(|d| d.state_bytes).sum();
        let dataflow = self.hydrating(id)?;
        let before = std::mem::replace(&mut dataflow.state_bytes, bytes);
        if failure.is_none() && self.memory_limit.is_some_and(|limit| others - before + bytes > limit) {
            failure = Some(out_of_memory(bytes));
        }
        match failure {
            Some(e) => {
                self.drop(id);
                Err(e)
            }
            None => Ok(()),
        }
    }

    /// Ends a hydration at the border after `input.epoch`: absorbs what was kept back and closes. The view's
    /// rows begin at that epoch. `changes` of the input are ignored, its watermarks are taken over.
    pub fn finish_hydration(&mut self, id: ObjectId, input: EpochInput) -> Result<StepReport> {
        self.finish_some(id, &input, None)?
            .ok_or_else(|| Error::internal("a hydration without a time limit has not come to its end"))
    }

    /// Works at the end of a hydration for about `budget` (`None`: to the end); gives the report when it is there.
    /// `input` is the epoch border of the moment. What the dataflow gives goes to its view bit by bit, where nobody
    /// sees it; when nothing is left to do, it begins at `input.epoch`.
    pub fn finish_some(
        &mut self,
        id: ObjectId,
        input: &EpochInput,
        budget: Option<Duration>,
    ) -> Result<Option<StepReport>> {
        let deadline = budget.map(|b| Instant::now() + b);
        loop {
            let begins = self.begin_round(id, input)?;
            let watermarks = self.input_watermarks(id);
            let dataflow = self.hydrating(id)?;
            let rounds = dataflow.ending.get_or_insert_default().rounds;
            let until = deadline.filter(|_| rounds <= SLICED_ROUNDS);
            let (epoch, now) = dataflow.round.unwrap_or((input.epoch, input.now));
            let finish = FinishCommand { begins, epoch, now, id, watermarks, until };
            let mut results = self.command(Command::Finish(Arc::new(finish))).results;
            if let Some(failed) = results.iter_mut().find(|r| r.failure.is_some()) {
                let mut report = StepReport::default();
                report.failed.extend(failed.failure.take().map(|e| (id, e)));
                report.ran.push(id);
                self.drop(id);
                return Ok(Some(report));
            }
            let dataflow = self.hydrating(id)?;
            dataflow.state_bytes = results.iter().map(|r| r.state_bytes).sum();
            let errors = results.iter_mut().flat_map(|r| std::mem::take(&mut r.errors));
            dataflow.ending.get_or_insert_default().errors.extend(errors);
            if results.iter().any(|r| r.more) {
                if deadline.is_some_and(|d| Instant::now() >= d) {
                    return Ok(None);
                }
                continue;
            }
            dataflow.round = None;
            // An earlier round does not know what time has passed since.
            if epoch == input.epoch && !results.iter().any(|r| r.has_kept) {
                return self.go_live(id, input.epoch, results).map(Some);
            }
        }
    }

    /// Whether a new round begins; then the watermarks of `input` are taken over.
    fn begin_round(&mut self, id: ObjectId, input: &EpochInput) -> Result<bool> {
        let dataflow = self.hydrating(id)?;
        if dataflow.round.is_some() {
            return Ok(false);
        }
        dataflow.round = Some((input.epoch, input.now));
        dataflow.ending.get_or_insert_default().rounds += 1;
        for (relation, watermark) in &input.watermarks {
            self.watermarks.insert(*relation, *watermark);
        }
        Ok(true)
    }

    /// The view is full and begins at `epoch`.
    fn go_live(&mut self, id: ObjectId, epoch: Epoch, mut results: Vec<RunResult>) -> Result<StepReport> {
        self.command(Command::GoLive(id));
        let dataflow = self.hydrating(id)?;
        dataflow.hydrating = false;
        let ending = dataflow.ending.take().unwrap_or_default();
        if let Some(first) = results.first_mut() {
            first.errors = ending.errors;
        }
        if let Target::View(view, _) = &dataflow.spec.target {
            view.reveal(epoch);
        }
        self.renew_watermark(id);
        let mut report = StepReport::default();
        self.gather(results, epoch, &mut report)?;
        report.next_timer = self.timers.first().map(|(t, _)| *t);
        Ok(report)
    }

    /// Figures of all dataflows, summed over the workers.
    pub fn stats(&mut self) -> Vec<DataflowStats> {
        let mut all: BTreeMap<ObjectId, DataflowStats> = BTreeMap::new();
        for stats in self.command(Command::Stats).stats {
            match all.get_mut(&stats.id) {
                Some(sum) => sum.merge(&stats),
                None => {
                    all.insert(stats.id, stats);
                }
            }
        }
        all.into_values().collect()
    }

    /// Bytes of state of all dataflows, as of the last epoch that each took part in.
    pub fn state_bytes(&self) -> usize {
        self.dataflows.values().map(|d| d.state_bytes).sum()
    }

    /// The watermark that a table, source or view has.
    pub fn watermark(&self, relation: ObjectId) -> Watermark {
        match self.dataflows.get(&relation) {
            Some(d) => d.watermark,
            None => self.watermarks.get(&relation).copied().unwrap_or(Watermark::NONE),
        }
    }

    fn hydrating(&mut self, id: ObjectId) -> Result<&mut Dataflow> {
        self.dataflows
            .get_mut(&id)
            .filter(|d| d.hydrating)
            .ok_or_else(|| Error::internal(format!("dataflow {id} is not being hydrated")))
    }

    fn input_watermarks(&self, id: ObjectId) -> Vec<(ObjectId, Watermark)> {
        let inputs = self.dataflows.get(&id).map_or(&[][..], |d| &d.inputs);
        inputs.iter().map(|i| (*i, self.watermark(*i))).collect()
    }

    /// Computes a dataflow's watermark again; whether it has moved.
    fn renew_watermark(&mut self, id: ObjectId) -> bool {
        let least = self.input_watermarks(id).iter().map(|(_, w)| *w).min().unwrap_or(Watermark::FINAL);
        match self.dataflows.get_mut(&id) {
            Some(d) if d.watermark < least => {
                d.watermark = least;
                true
            }
            _ => false,
        }
    }

    /// The dataflows that this epoch touches, in the order of their ids.
    fn active(&mut self, input: &EpochInput) -> Vec<Active> {
        let mut active: BTreeSet<ObjectId> = BTreeSet::new();
        let mut reached: BTreeSet<ObjectId> = BTreeSet::new();
        for (relation, batches) in &input.changes {
            if batches.iter().any(|b| !b.is_empty()) {
                reached.extend(self.readers.get(relation).into_iter().flatten());
            }
        }
        reached.extend(self.timers.iter().take_while(|(t, _)| *t <= input.now).map(|(_, id)| *id));
        // Ids ascend along dependencies, so everything moved is known before a reader is looked at.
        let mut moved: BTreeSet<ObjectId> = BTreeSet::new();
        for (relation, watermark) in &input.watermarks {
            let old = self.watermarks.entry(*relation).or_default();
            if *watermark > *old {
                *old = *watermark;
                moved.extend(self.readers.get(relation).into_iter().flatten());
            }
        }
        while let Some(id) = moved.pop_first() {
            let Some(dataflow) = self.dataflows.get(&id) else { continue };
            if dataflow.hydrating {
                continue;
            }
            if dataflow.waits {
                reached.insert(id);
            }
            if self.renew_watermark(id) {
                moved.extend(self.readers.get(&id).into_iter().flatten());
            }
        }
        while let Some(id) = reached.pop_first() {
            active.insert(id);
            if self.dataflows.get(&id).is_some_and(|d| !d.hydrating) {
                reached.extend(self.readers.get(&id).into_iter().flatten());
            }
        }
        active
            .iter()
            .map(|id| Active {
                id: *id,
                watermarks: self.input_watermarks(*id),
                is_read: self.readers.get(id).is_some_and(|r| !r.is_empty()),
                keep_changelog: self.dataflows.get(id).is_some_and(|d| d.keep_changelog),
            })
            .collect()
    }

    /// Sends a command to all workers and waits for all answers.
    fn command(&mut self, command: Command) -> Answer {
        self.shared.failed.lock().clear();
        match &mut self.crew.threads {
            None => self.crew.workers[0].lock().execute(&command),
            Some(Threads { senders, answers, .. }) => {
                for sender in senders.iter() {
                    // A worker ends only when the engine is dropped.
                    let _ = sender.send(command.clone());
                }
                let mut all = Answer::default();
                for _ in 0..senders.len() {
                    if let Ok(answer) = answers.recv() {
                        all.results.extend(answer.results);
                        all.stats.extend(answer.stats);
                    }
                }
                all
            }
        }
    }

    /// Puts the workers' results together, and stops what has failed or is too large.
    fn gather(&mut self, results: Vec<RunResult>, epoch: Epoch, report: &mut StepReport) -> Result<()> {
        let mut merged: BTreeMap<ObjectId, RunResult> = BTreeMap::new();
        for result in results {
            match merged.get_mut(&result.id) {
                None => {
                    merged.insert(result.id, result);
                }
                Some(sum) => {
                    sum.changelog.extend(result.changelog);
                    sum.errors.extend(result.errors);
                    sum.next_timer = sum.next_timer.into_iter().chain(result.next_timer).min();
                    sum.waits |= result.waits;
                    sum.state_bytes += result.state_bytes;
                    if sum.failure.is_none() {
                        sum.failure = result.failure;
                    }
                }
            }
        }
        for (id, mut result) in merged {
            let Some(dataflow) = self.dataflows.get_mut(&id) else { continue };
            report.ran.push(id);
            if result.failure.is_none() && !result.errors.is_empty() {
                result.failure = settle_errors(dataflow, id, epoch, &result.errors, report).err();
            }
            if let Some(e) = result.failure {
                report.failed.push((id, e));
                continue;
            }
            dataflow.waits = result.waits;
            dataflow.state_bytes = result.state_bytes;
            if dataflow.timer != result.next_timer {
                if let Some(t) = dataflow.timer {
                    self.timers.remove(&(t, id));
                }
                if let Some(t) = result.next_timer {
                    self.timers.insert((t, id));
                }
                dataflow.timer = result.next_timer;
            }
            if dataflow.keep_changelog {
                report.changelogs.push((id, result.changelog));
            }
        }
        self.enforce_memory_limit(report);
        for (id, _) in &report.failed {
            self.drop(*id);
        }
        Ok(())
    }

    /// Picks the largest dataflows to stop until the rest fits; of equals the newest.
    fn enforce_memory_limit(&mut self, report: &mut StepReport) {
        let Some(limit) = self.memory_limit else { return };
        let mut total = self.state_bytes();
        let mut sizes: Vec<(usize, ObjectId)> =
            self.dataflows.iter().map(|(id, d)| (d.state_bytes, *id)).collect();
        sizes.sort_unstable();
        while total > limit
            && let Some((bytes, id)) = sizes.pop()
            && bytes > 0
        {
            total -= bytes;
            if !report.failed.iter().any(|(f, _)| *f == id) {
                report.failed.push((id, out_of_memory(bytes)));
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(Threads { senders, threads, .. }) = &mut self.crew.threads {
            senders.clear();
            for thread in threads.drain(..) {
                // A panic of a worker has been told where it happened.
                let _ = thread.join();
            }
        }
    }
}

fn out_of_memory(bytes: usize) -> Error {
    Error::new(ErrorKind::OutOfMemory, "out of memory for operator state")
        .with_detail(format!(
            "The dataflow held {bytes} bytes when the limit for all dataflows was exceeded."
        ))
        .with_hint("Raise the memory limit, or let the view keep less (time bounds, windows that close).")
}

/// Consolidates the errors of all workers and writes them to the view's error relation: a retraction may come
/// from another worker than the error did.
fn settle_errors(
    dataflow: &Dataflow,
    id: ObjectId,
    epoch: Epoch,
    errors: &[ZBatch],
    report: &mut StepReport,
) -> Result<()> {
    let net = consolidate(&eval_error::schema(), errors)?;
    if net.is_empty() {
        return Ok(());
    }
    if let Target::View(_, relation) = &dataflow.spec.target {
        relation.apply(0, epoch, &net)?;
    }
    report.errors.push((id, vec![net]));
    Ok(())
}

fn start_threads(workers: &[Arc<Mutex<Worker>>]) -> Threads {
    let (reply, answers) = channel();
    let mut senders = Vec::with_capacity(workers.len());
    let mut threads = Vec::with_capacity(workers.len());
    for (index, worker) in workers.iter().enumerate() {
        let (sender, commands) = channel::<Command>();
        let (reply, worker) = (reply.clone(), worker.clone());
        let run = move || {
            while let Ok(command) = commands.recv() {
                let answer = worker.lock().execute(&command);
                if reply.send(answer).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .stack_size(STACK_BYTES)
            .spawn(run)
            .expect("the system gives a thread per worker when the server starts");
        senders.push(sender);
        threads.push(thread);
    }
    Threads { senders, answers, threads }
}
