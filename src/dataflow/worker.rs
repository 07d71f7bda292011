//! A worker: its instances of all dataflows, and the commands of the coordinator.
//!
//! All workers execute the same commands in the same order. Whether a dataflow has failed on any worker is
//! agreed on at a barrier before anyone sees its output: before a later dataflow reads it, and before it is
//! applied to the view.
//!
//! Boundary: executes; which dataflows run is decided by the driver.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::DerefMut;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use arrow::array::BooleanArray;
use parking_lot::Mutex;

use super::exchange::{Patience, Router, Transport, share};
use super::instance::{Closing, Instance, Surroundings, guarded};
use super::introspect::DataflowStats;
use super::{DataflowSpec, Target, build};
use crate::catalog::ObjectId;
use crate::error::{Error, Result};
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::{TARGET_ROWS, ZBatch};

/// What the workers of an engine share.
pub(super) struct Shared {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) barrier: Barrier,
    /// Dataflows that have failed on some worker in the command at hand.
    pub(super) failed: Mutex<HashSet<ObjectId>>,
}

/// A dataflow that takes part in a step.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) id: ObjectId,
    /// Watermarks of the relations it reads.
    pub(super) watermarks: Vec<(ObjectId, Watermark)>,
    /// Whether a later dataflow of the step reads its changes.
    pub(super) is_read: bool,
    /// Whether its changes are wanted in the report.
    pub(super) keep_changelog: bool,
}

/// A step.
#[derive(Debug)]
pub(super) struct StepCommand {
    pub(super) epoch: Epoch,
    pub(super) now: EventTime,
    pub(super) changes: Vec<(ObjectId, Vec<ZBatch>)>,
    /// In the order of their ids.
    pub(super) active: Vec<Active>,
}

/// A turn of a round that ends a hydration.
#[derive(Debug)]
pub(super) struct FinishCommand {
    /// Whether this is the round's first turn.
    pub(super) begins: bool,
    pub(super) epoch: Epoch,
    pub(super) now: EventTime,
    pub(super) id: ObjectId,
    /// Watermarks of the relations it reads.
    pub(super) watermarks: Vec<(ObjectId, Watermark)>,
    /// When the turn ends; `None`: with the round.
    pub(super) until: Option<Instant>,
}

/// What the coordinator tells the workers.
#[derive(Clone)]
pub(super) enum Command {
    Create(Arc<DataflowSpec>),
    Drop(ObjectId),
    Step(Arc<StepCommand>),
    Hydrate(ObjectId, Arc<Vec<(ObjectId, Vec<ZBatch>)>>),
    Finish(Arc<FinishCommand>),
    /// The view is full: from now on the dataflow takes part in steps.
    GoLive(ObjectId),
    Stats,
}

/// What a run of a dataflow came to on one worker.
#[derive(Debug)]
pub(super) struct RunResult {
    pub(super) id: ObjectId,
    pub(super) changelog: Vec<ZBatch>,
    pub(super) errors: Vec<ZBatch>,
    pub(super) next_timer: Option<EventTime>,
    pub(super) waits: bool,
    pub(super) state_bytes: usize,
    pub(super) failure: Option<Error>,
    /// Whether there is more to do before what was asked for is done (hydrations only).
    pub(super) more: bool,
    /// Whether changes have been kept back since this was begun (hydrations only).
    pub(super) has_kept: bool,
}

impl RunResult {
    fn failure(id: ObjectId, failure: Error) -> Self {
        RunResult {
            id,
            changelog: vec![],
            errors: vec![],
            next_timer: None,
            waits: false,
            state_bytes: 0,
            failure: Some(failure),
            more: false,
            has_kept: false,
        }
    }
}

/// A worker's answer to a command.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) results: Vec<RunResult>,
    pub(super) stats: Vec<DataflowStats>,
}

/// A dataflow that has run, before it is known whether it has on all workers.
struct Ran {
    id: ObjectId,
    keep_changelog: bool,
    outcome: Result<Vec<ZBatch>>,
    errors: Vec<ZBatch>,
}

/// A step that is under way on a worker.
struct Stepping {
    /// This worker's share of the changes of each relation.
    changes: HashMap<ObjectId, Vec<ZBatch>>,
    ran: Vec<Ran>,
}

/// One worker.
pub(super) struct Worker {
    around: Surroundings,
    shared: Arc<Shared>,
    instances: BTreeMap<ObjectId, (Instance, Arc<DataflowSpec>)>,
}

impl Worker {
    pub(super) fn new(index: usize, workers: usize, shared: Arc<Shared>) -> Self {
        let around = Surroundings {
            index,
            workers,
            router: Router::new(workers),
            transport: shared.transport.clone(),
        };
        Worker { around, shared, instances: BTreeMap::new() }
    }

    pub(super) fn execute(&mut self, command: &Command) -> Answer {
        match command {
            Command::Create(spec) => self.create(spec),
            Command::Drop(id) => {
                self.instances.remove(id);
                self.around.transport.forget(*id, self.around.index);
                Answer::default()
            }
            Command::Step(step) => self.step(step),
            Command::Hydrate(id, slice) => self.hydrate(*id, slice),
            Command::Finish(finish) => self.finish(finish),
            Command::GoLive(id) => {
                if let Some((instance, _)) = self.instances.get_mut(id) {
                    instance.buffered = None;
                }
                Answer::default()
            }
            Command::Stats => {
                Answer { results: vec![], stats: self.instances.values().map(|(i, _)| i.stats()).collect() }
            }
        }
    }

    fn create(&mut self, spec: &Arc<DataflowSpec>) -> Answer {
        let built = guarded(|| build::instance(spec, self.around.index, self.around.workers));
        let mut answer = Answer::default();
        match built {
            Ok(instance) => {
                self.instances.insert(spec.id, (instance, spec.clone()));
            }
            Err(e) => answer.results.push(RunResult::failure(spec.id, e)),
        }
        answer
    }

    /// Waits for all workers; afterwards all see the same failures.
    fn agree(&self) {
        if self.around.workers > 1 {
            self.shared.barrier.wait();
        }
    }

    fn has_failed(&self, id: ObjectId) -> bool {
        self.shared.failed.lock().contains(&id)
    }

    fn step(&mut self, step: &StepCommand) -> Answer {
        let mut stepping = self.start(step);
        for active in &step.active {
            if !self.begin(&stepping, step, active) {
                continue;
            }
            self.advance(active.id, Patience::Endless);
            self.end(&mut stepping, active);
            if active.is_read {
                self.agree();
                self.hand_on(&mut stepping, active);
            }
        }
        self.agree();
        self.publish_all(step, stepping)
    }

    fn start(&self, step: &StepCommand) -> Stepping {
        let (index, workers) = (self.around.index, self.around.workers);
        let mut changes = HashMap::with_capacity(step.changes.len() + step.active.len());
        for (relation, batches) in &step.changes {
            changes.insert(*relation, share(batches, index, workers));
        }
        Stepping { changes, ran: Vec::with_capacity(step.active.len()) }
    }

    /// Begins a dataflow's part in a step. False: it is hydrating and has kept the changes, or is not there.
    fn begin(&mut self, stepping: &Stepping, step: &StepCommand, active: &Active) -> bool {
        let Some((instance, _)) = self.instances.get_mut(&active.id) else { return false };
        let changes = &stepping.changes;
        let inputs: Vec<(ObjectId, Vec<ZBatch>)> =
            active.watermarks.iter().filter_map(|(r, _)| Some((*r, changes.get(r)?.clone()))).collect();
        if let Some(buffer) = &mut instance.buffered {
            buffer.extend(inputs.into_iter().filter(|(_, b)| !b.is_empty()));
            return false;
        }
        let closing = Closing { epoch: step.epoch, now: step.now, watermarks: &active.watermarks };
        instance.begin(&self.around, &inputs, Some(closing));
        true
    }

    /// Goes on with a dataflow that has been begun; whether its run is over.
    fn advance(&mut self, id: ObjectId, patience: Patience) -> bool {
        self.instances.get_mut(&id).is_none_or(|(instance, _)| instance.advance(&mut self.around, patience))
    }

    fn end(&mut self, stepping: &mut Stepping, active: &Active) {
        let Some((instance, _)) = self.instances.get_mut(&active.id) else { return };
        let outcome = instance.end().and_then(|()| instance.take_result());
        let errors = instance.take_errors();
        if outcome.is_err() {
            self.shared.failed.lock().insert(active.id);
        }
        let keep_changelog = active.keep_changelog;
        stepping.ran.push(Ran { id: active.id, keep_changelog, outcome, errors });
    }

    /// Lets later dataflows of the step read what this one has given, unless it has failed anywhere.
    fn hand_on(&self, stepping: &mut Stepping, active: &Active) {
        if let Some(Ran { id, outcome: Ok(output), .. }) = stepping.ran.last()
            && *id == active.id
            && !self.has_failed(active.id)
        {
            stepping.changes.insert(active.id, output.clone());
        }
    }

    fn publish_all(&self, step: &StepCommand, stepping: Stepping) -> Answer {
        let results = stepping.ran.into_iter().filter_map(|r| self.publish(step.epoch, r)).collect();
        Answer { results, stats: vec![] }
    }

    /// Applies what a dataflow has given to its view.
    fn publish(&self, epoch: Epoch, ran: Ran) -> Option<RunResult> {
        let id = ran.id;
        let output = match ran.outcome {
            Ok(output) => output,
            Err(e) => return Some(RunResult::failure(id, e)),
        };
        if self.has_failed(id) {
            // Another worker tells why.
            return None;
        }
        let (instance, spec) = self.instances.get(&id)?;
        if let Target::View(view, _) = &spec.target {
            let applied =
                output.iter().try_for_each(|delta| guarded(|| view.apply(self.around.index, epoch, delta)));
            if let Err(e) = applied {
                return Some(RunResult::failure(id, e));
            }
        }
        let changelog = if ran.keep_changelog { output } else { vec![] };
        Some(RunResult { changelog, errors: ran.errors, ..figures(instance) })
    }

    fn hydrate(&mut self, id: ObjectId, slice: &[(ObjectId, Vec<ZBatch>)]) -> Answer {
        let Some((instance, spec)) = self.instances.get_mut(&id) else { return Answer::default() };
        let (index, workers) = (self.around.index, self.around.workers);
        let own: Vec<_> = slice.iter().map(|(r, batches)| (*r, share(batches, index, workers))).collect();
        let filled = instance.run(&mut self.around, &own, None);
        let filled = filled.and_then(|()| fill(instance, &spec.target, index));
        let result = match filled {
            Ok(()) => RunResult { next_timer: None, waits: false, ..figures(instance) },
            Err(e) => RunResult::failure(id, e),
        };
        Answer { results: vec![result], stats: vec![] }
    }

    /// A turn of a round that ends a hydration: what was kept back is absorbed, the epoch is closed, and what comes
    /// out goes to the view, where nobody sees it yet.
    fn finish(&mut self, finish: &FinishCommand) -> Answer {
        let id = finish.id;
        let Some((instance, spec)) = self.instances.get_mut(&id) else { return Answer::default() };
        if finish.begins {
            let kept = instance.buffered.replace(Vec::new()).unwrap_or_default();
            let closing = Closing { epoch: finish.epoch, now: finish.now, watermarks: &finish.watermarks };
            instance.begin(&self.around, &kept, Some(closing));
        }
        // A peer that has failed is waited for no longer than one that works.
        let patience = finish.until.map_or(Patience::Endless, Patience::Until);
        let mut over = instance.advance(&mut self.around, patience);
        let mut filled = fill(instance, &spec.target, self.around.index);
        if over && filled.is_ok() {
            match take_away(instance, &spec.target, self.around.index, finish.until) {
                Ok(done) => over = done,
                Err(e) => filled = Err(e),
            }
        }
        if over {
            filled = instance.end().and(filled);
        }
        let result = match filled {
            Ok(()) => {
                let has_kept = instance.buffered.as_ref().is_some_and(|b| !b.is_empty());
                let errors = instance.take_errors();
                RunResult { errors, more: !over, has_kept, ..figures(instance) }
            }
            Err(e) => RunResult { more: !over, ..RunResult::failure(id, e) },
        };
        Answer { results: vec![result], stats: vec![] }
    }
}

/// What is told of a dataflow after each run.
fn figures(instance: &Instance) -> RunResult {
    RunResult {
        id: instance.id,
        changelog: vec![],
        errors: vec![],
        next_timer: instance.next_timer(),
        waits: instance.waits_for_watermark(),
        state_bytes: instance.state_bytes(),
        failure: None,
        more: false,
        has_kept: false,
    }
}

/// Puts what a hydrating dataflow has given so far into its view, hidden. What it takes away again waits until
/// everything is there: it may come before what it takes away.
fn fill(instance: &mut Instance, target: &Target, index: usize) -> Result<()> {
    let Target::View(view, _) = target else {
        instance.result.clear();
        return Ok(());
    };
    for batch in std::mem::take(&mut instance.result) {
        let Some(weights) = batch.weights().filter(|w| w.values().iter().any(|w| *w < 0)) else {
            guarded(|| view.fill(index, &batch))?;
            continue;
        };
        let added: BooleanArray = weights.values().iter().map(|w| Some(*w > 0)).collect();
        let taken: BooleanArray = weights.values().iter().map(|w| Some(*w < 0)).collect();
        let added = batch.filter(&added)?;
        guarded(|| view.fill(index, &added))?;
        instance.taken.push_back(batch.filter(&taken)?);
    }
    Ok(())
}

/// Takes out of the view what was found superfluous; false when the time was not enough.
fn take_away(instance: &mut Instance, target: &Target, index: usize, until: Option<Instant>) -> Result<bool> {
    let Target::View(view, _) = target else { return Ok(true) };
    while let Some(mut batch) = instance.taken.pop_front() {
        if batch.num_rows() > TARGET_ROWS {
            let rest = batch.slice(TARGET_ROWS, batch.num_rows() - TARGET_ROWS);
            instance.taken.push_front(rest);
            batch = batch.slice(0, TARGET_ROWS);
        }
        guarded(|| view.fill(index, &batch))?;
        if !instance.taken.is_empty() && until.is_some_and(|u| Instant::now() >= u) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A step of all workers on one thread, in turns: for an epoch of a few rows, waking the others takes longer than
/// the work does.
pub(super) fn step_together(workers: &mut [impl DerefMut<Target = Worker>], step: &StepCommand) -> Answer {
    let mut all: Vec<Stepping> = workers.iter().map(|w| w.start(step)).collect();
    for active in &step.active {
        let mut any = false;
        for (worker, stepping) in workers.iter_mut().zip(&all) {
            any |= worker.begin(stepping, step, active);
        }
        if !any {
            continue;
        }
        // Someone can always go on: all of an exchange is sent before any of it is waited for.
        let mut over = false;
        while !over {
            over = true;
            for worker in workers.iter_mut() {
                over &= worker.advance(active.id, Patience::None);
            }
        }
        for (worker, stepping) in workers.iter_mut().zip(&mut all) {
            worker.end(stepping, active);
        }
        if active.is_read {
            for (worker, stepping) in workers.iter().zip(&mut all) {
                worker.hand_on(stepping, active);
            }
        }
    }
    let mut answer = Answer::default();
    for (worker, stepping) in workers.iter().zip(all) {
        answer.results.extend(worker.publish_all(step, stepping).results);
    }
    answer
}
