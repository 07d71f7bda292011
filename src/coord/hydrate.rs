//! Filling a new view from what its inputs already hold, in slices between live epochs.
//!
//! The dataflow is created first, in a hydrating state in which the engine keeps the changes of later epochs for it;
//! then the rows of one snapshot of its inputs are fed to it a slice at a time; at the end it absorbs what
//! was kept and closes, in slices too, until it has caught up at an epoch border; there the rows of its view begin.
//! Other views keep their pace, and nobody sees the new one half full.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use tracing::{error, info};

use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::coord::command::{DdlOp, Reply};
use crate::coord::epoch::Coordinator;
use crate::coord::subscribe::Subscriber;
use crate::dataflow::{DataflowSpec, EpochInput, StepReport, Target};
use crate::error::{Error, Result};
use crate::expr::eval_error;
use crate::plan::Plan;
use crate::store::relation::Relation;
use crate::time::Epoch;
use crate::zset::{TARGET_ROWS, ZBatch};

/// Rows that are fed at once before the clock is looked at: few at first, because nobody knows how many each of them
/// makes in a join, then as many as take no longer than a slice may.
const FIRST_ROWS: usize = 64;
const MOST_ROWS: usize = 4 * TARGET_ROWS;
const FEW_MILLIS: Duration = Duration::from_millis(3);

/// Who waits for a hydration.
enum Waiter {
    Nobody,
    Statement(Reply<Epoch>),
    Subscription(Subscriber, Reply<Epoch>),
}

/// Where a dataflow's result goes.
#[derive(Clone)]
pub enum Destination {
    /// To a view, and to its `$errors` companion once that is known.
    View {
        /// The view's rows.
        rows: Arc<Relation>,
        /// The companion.
        errors: Option<Arc<Relation>>,
    },
    /// To a sink that only counts.
    Blackhole,
}

impl Destination {
    fn target(&self) -> Target {
        match self {
            Destination::View { rows, errors } => {
                let errors = errors.clone().unwrap_or_else(|| {
                    Arc::new(Relation::new("errors", eval_error::schema(), Vec::new(), 1))
                });
                Target::View(rows.clone(), errors)
            }
            Destination::Blackhole => Target::Blackhole,
        }
    }
}

/// A new dataflow that is being filled, or waits for its turn.
pub struct Hydration {
    id: ObjectId,
    name: String,
    plan: Arc<Plan>,
    target: Destination,
    /// What is left of the snapshot; `None` before the turn has come.
    inputs: Option<VecDeque<(ObjectId, VecDeque<RecordBatch>)>>,
    /// Rows to be fed next.
    rows: usize,
    waiter: Waiter,
    started: Instant,
}

impl Hydration {
    /// A view or sink that is to be filled.
    pub fn new(object: &Object, plan: Arc<Plan>, target: Destination) -> Self {
        Hydration {
            id: object.id,
            name: object.name.clone(),
            plan,
            target,
            inputs: None,
            rows: FIRST_ROWS,
            waiter: Waiter::Nobody,
            started: Instant::now(),
        }
    }

    /// The dataflow behind a SUBSCRIBE to a query; its result is kept in `relation`.
    pub fn for_subscription(
        id: ObjectId,
        plan: Arc<Plan>,
        relation: Arc<Relation>,
        subscriber: Subscriber,
        reply: Reply<Epoch>,
    ) -> Self {
        Hydration {
            id,
            name: format!("subscription {id}"),
            plan,
            target: Destination::View { rows: relation, errors: None },
            inputs: None,
            rows: FIRST_ROWS,
            waiter: Waiter::Subscription(subscriber, reply),
            started: Instant::now(),
        }
    }

    /// Who is to be told when the view is full.
    pub fn reply_when_done(&mut self, reply: Reply<Epoch>) {
        self.waiter = Waiter::Statement(reply);
    }

    /// Where rows that cannot be computed go.
    pub fn set_errors(&mut self, relation: Arc<Relation>) {
        if let Destination::View { errors, .. } = &mut self.target {
            *errors = Some(relation);
        }
    }

    /// Which dataflow this is about.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    fn fail(self, cause: Error) {
        match self.waiter {
            Waiter::Nobody => error!(view = %self.name, error = ?cause, "a view could not be filled"),
            Waiter::Statement(reply) => drop(reply.send(Err(cause))),
            Waiter::Subscription(_, reply) => drop(reply.send(Err(cause))),
        }
    }
}

impl Coordinator {
    /// Works on the hydration whose turn it is, for about `budget`.
    pub(super) fn hydrate_some(&mut self, budget: Duration) {
        let deadline = Instant::now() + budget;
        while let Some(mut current) = self.hydrations.pop_front() {
            if self.poisoned.is_some() {
                let cause = self.poison_error();
                self.hydration_failed(current, cause);
                continue;
            }
            match self.hydration_step(&mut current, deadline) {
                Ok(None) => {
                    self.hydrations.push_front(current);
                    return;
                }
                Ok(Some((epoch, report))) => self.hydrated(current, epoch, report),
                Err(e) => self.hydration_failed(current, e),
            }
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Fills everything that waits (used while starting, when nobody else is served yet).
    pub(super) fn hydrate_all(&mut self) {
        while !self.hydrations.is_empty() {
            self.hydrate_some(Duration::from_secs(3600));
        }
    }

    /// Feeds slices until the deadline, and then turns of the end; the report and its epoch when the view is full.
    fn hydration_step(
        &mut self,
        h: &mut Hydration,
        deadline: Instant,
    ) -> Result<Option<(Epoch, StepReport)>> {
        if h.inputs.is_none() {
            h.started = Instant::now();
            self.engine.create(DataflowSpec {
                id: h.id,
                plan: h.plan.clone(),
                target: h.target.target(),
                keep_changelog: matches!(h.waiter, Waiter::Subscription(..)),
            })?;
            let mut inputs = VecDeque::new();
            for id in h.plan.relations() {
                if let Some(relation) = self.relations.get(&id) {
                    let batches = relation.snapshot(self.last_epoch).batches(None)?;
                    inputs.push_back((id, cut(batches)));
                }
            }
            h.inputs = Some(inputs);
        }
        while let Some((id, batches)) = h.inputs.as_mut().and_then(VecDeque::front_mut) {
            if batches.is_empty() {
                h.inputs.as_mut().and_then(VecDeque::pop_front);
                continue;
            }
            let slice: Vec<ZBatch> = first_rows(batches, h.rows).into_iter().map(ZBatch::inserts).collect();
            let id = *id;
            let started = Instant::now();
            self.engine.hydrate_slice(h.id, vec![(id, slice)])?;
            h.rows = match started.elapsed() {
                took if took < FEW_MILLIS => (h.rows * 2).min(MOST_ROWS),
                took if took > 3 * FEW_MILLIS => (h.rows / 2).max(1),
                _ => h.rows,
            };
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
        let epoch = self.last_epoch.next(self.shared.clock.now());
        let watermarks = self.trackers.iter().map(|(id, t)| (*id, t.promise())).collect();
        let input = EpochInput { epoch, now: epoch.as_time(), changes: Vec::new(), watermarks };
        let budget = deadline.saturating_duration_since(Instant::now());
        let report = self.engine.finish_some(h.id, &input, Some(budget))?;
        Ok(report.map(|report| (epoch, report)))
    }

    /// A view is full from `epoch` on.
    fn hydrated(&mut self, h: Hydration, epoch: Epoch, report: StepReport) {
        if let Some((_, e)) = report.failed.into_iter().find(|(id, _)| *id == h.id) {
            return self.hydration_failed(h, e);
        }
        self.next_timer = report.next_timer;
        self.last_epoch = epoch;
        self.shared.epochs.publish(epoch);
        self.shared.figures.hydrated(h.id, epoch, h.started.elapsed());
        info!(view = %h.name, seconds = h.started.elapsed().as_secs_f64(), "filled");
        self.hidden.remove(&h.id);
        self.publish_world();
        self.start_readers();
        match h.waiter {
            Waiter::Nobody => {}
            Waiter::Statement(reply) => drop(reply.send(Ok(epoch))),
            Waiter::Subscription(subscriber, reply) => {
                if let Destination::View { rows, .. } = h.target {
                    self.relations.insert(h.id, rows);
                }
                self.hub.add(h.id, subscriber, epoch);
                drop(reply.send(Ok(epoch)));
            }
        }
        self.hub.publish(epoch, Vec::new());
    }

    /// The user has cancelled the statement that makes a view.
    pub(super) fn abandon_hydration(&mut self, id: ObjectId) {
        if let Some(at) = self.hydrations.iter().position(|h| h.id == id)
            && let Some(h) = self.hydrations.remove(at)
        {
            self.hydration_failed(h, crate::coord::session::canceled());
        }
    }

    fn hydration_failed(&mut self, h: Hydration, cause: Error) {
        self.engine.drop(h.id);
        if let Destination::View { rows, .. } = &h.target {
            rows.discard_hidden();
        }
        if self.hidden.remove(&h.id) {
            // The view never came to be: take its definition back.
            let companions: Vec<ObjectId> = self
                .catalog
                .dependents(h.id)
                .iter()
                .filter(|o| matches!(o.body, ObjectBody::Companion { .. }))
                .map(|o| o.id)
                .collect();
            let ddl: Vec<DdlOp> = companions.into_iter().chain([h.id]).map(DdlOp::Drop).collect();
            self.take_back(ddl);
        }
        h.fail(cause);
    }
}

/// Batches of at most [`TARGET_ROWS`] rows.
fn cut(batches: Vec<RecordBatch>) -> VecDeque<RecordBatch> {
    let mut out = VecDeque::with_capacity(batches.len());
    for batch in batches {
        let mut at = 0;
        while at < batch.num_rows() {
            let len = TARGET_ROWS.min(batch.num_rows() - at);
            out.push_back(batch.slice(at, len));
            at += len;
        }
    }
    out
}

/// Takes the first `rows` rows off.
fn first_rows(batches: &mut VecDeque<RecordBatch>, rows: usize) -> Vec<RecordBatch> {
    let mut taken = Vec::new();
    let mut missing = rows;
    while missing > 0
        && let Some(batch) = batches.pop_front()
    {
        let part = missing.min(batch.num_rows());
        if part < batch.num_rows() {
            batches.push_front(batch.slice(part, batch.num_rows() - part));
        }
        missing -= part;
        taken.push(batch.slice(0, part));
    }
    taken
}
