//! A worker: its instances of all dataflows, and the commands of the coordinator.
//!
//! All workers execute the same commands in the same order. Whether a dataflow has failed on any worker is
//! agreed on at a barrier before anyone sees its output: before a later dataflow reads it, and before it is
//! applied to the view.
//!
//! Boundary: executes; which dataflows run is decided by the driver.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Barrier};

use parking_lot::Mutex;

use super::exchange::{Router, Transport, share};
use super::instance::{Closing, Instance, Surroundings, guarded};
use super::introspect::DataflowStats;
use super::{DataflowSpec, Target, build};
use crate::catalog::ObjectId;
use crate::error::{Error, Result};
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::ZBatch;

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

/// The end of a hydration.
#[derive(Debug)]
pub(super) struct FinishCommand {
    pub(super) epoch: Epoch,
    pub(super) now: EventTime,
    pub(super) dataflow: Active,
}

/// What the coordinator tells the workers.
#[derive(Clone)]
pub(super) enum Command {
    Create(Arc<DataflowSpec>),
    Drop(ObjectId),
    Step(Arc<StepCommand>),
    Hydrate(ObjectId, Arc<Vec<(ObjectId, Vec<ZBatch>)>>),
    Finish(Arc<FinishCommand>),
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
                Answer::default()
            }
            Command::Step(step) => self.step(step),
            Command::Hydrate(id, slice) => self.hydrate(*id, slice),
            Command::Finish(finish) => self.finish(finish),
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
        let (index, workers) = (self.around.index, self.around.workers);
        let mut changes: HashMap<ObjectId, Vec<ZBatch>> =
            HashMap::with_capacity(step.changes.len() + step.active.len());
        for (relation, batches) in &step.changes {
            changes.insert(*relation, share(batches, index, workers));
        }
        let mut ran = Vec::with_capacity(step.active.len());
        for active in &step.active {
            let Some((instance, _)) = self.instances.get_mut(&active.id) else { continue };
            let inputs: Vec<(ObjectId, Vec<ZBatch>)> =
                active.watermarks.iter().filter_map(|(r, _)| Some((*r, changes.get(r)?.clone()))).collect();
            if let Some(buffer) = &mut instance.buffered {
                buffer.extend(inputs.into_iter().filter(|(_, b)| !b.is_empty()));
                continue;
            }
            let closing = Closing { epoch: step.epoch, now: step.now, watermarks: &active.watermarks };
            let outcome = instance.run(&mut self.around, &inputs, Some(closing));
            let outcome = outcome.and_then(|()| instance.take_result());
            let errors = instance.take_errors();
            if outcome.is_err() {
                self.shared.failed.lock().insert(active.id);
            }
            if active.is_read {
                self.agree();
                if let Ok(output) = &outcome
                    && !self.has_failed(active.id)
                {
                    changes.insert(active.id, output.clone());
                }
            }
            ran.push(Ran { id: active.id, keep_changelog: active.keep_changelog, outcome, errors });
        }
        self.agree();
        Answer {
            results: ran.into_iter().filter_map(|r| self.publish(step.epoch, r)).collect(),
            stats: vec![],
        }
    }

    /// Applies what a dataflow has given to its view.
    fn publish(&mut self, epoch: Epoch, ran: Ran) -> Option<RunResult> {
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
        Some(RunResult {
            id,
            changelog: if ran.keep_changelog { output } else { vec![] },
            errors: ran.errors,
            next_timer: instance.next_timer(),
            waits: instance.waits_for_watermark(),
            state_bytes: instance.state_bytes(),
            failure: None,
        })
    }

    fn hydrate(&mut self, id: ObjectId, slice: &[(ObjectId, Vec<ZBatch>)]) -> Answer {
        let mut answer = Answer::default();
        let Some((instance, _)) = self.instances.get_mut(&id) else { return answer };
        let (index, workers) = (self.around.index, self.around.workers);
        let own: Vec<_> = slice.iter().map(|(r, batches)| (*r, share(batches, index, workers))).collect();
        match instance.run(&mut self.around, &own, None) {
            Err(e) => answer.results.push(RunResult::failure(id, e)),
            Ok(()) => answer.results.push(RunResult {
                id,
                changelog: vec![],
                errors: vec![],
                next_timer: None,
                waits: false,
                state_bytes: instance.state_bytes(),
                failure: None,
            }),
        }
        answer
    }

    fn finish(&mut self, finish: &FinishCommand) -> Answer {
        let id = finish.dataflow.id;
        let mut answer = Answer::default();
        let Some((instance, _)) = self.instances.get_mut(&id) else { return answer };
        let buffered = instance.buffered.take().unwrap_or_default();
        let closing =
            Closing { epoch: finish.epoch, now: finish.now, watermarks: &finish.dataflow.watermarks };
        let outcome = instance.run(&mut self.around, &buffered, Some(closing));
        let outcome = outcome.and_then(|()| instance.take_result());
        let errors = instance.take_errors();
        if outcome.is_err() {
            self.shared.failed.lock().insert(id);
        }
        self.agree();
        answer.results.extend(self.publish(finish.epoch, Ran { id, keep_changelog: false, outcome, errors }));
        answer
    }
}
