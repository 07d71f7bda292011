//! Exchange between workers: which worker owns a row, and the mailboxes that carry rows there.
//!
//! An edge is drained completely in each run before the run ends, so a mailbox needs no epochs. Sends never
//! block; a receiver parks until something has come. Every worker ends its part of an edge with a marker.
//!
//! Boundary: moves batches; knows nothing of operators. The transport is a trait so that a simulation can
//! order deliveries as it likes and a cluster can cross processes.

use std::collections::HashMap;

use arrow::array::UInt32Array;
use parking_lot::{Condvar, Mutex};
use rand::SeedableRng;
use rand::seq::SliceRandom;

use crate::catalog::ObjectId;
use crate::error::Result;
use crate::zset::ZBatch;
use crate::zset::key::{hash_columns, shard_of};

/// An exchange node of a dataflow.
pub(super) type EdgeId = (ObjectId, usize);

/// Number of virtual shards: the unit that is assigned to workers.
const SHARDS: usize = 256;

/// In which order exchanged batches are taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As they arrive.
    AsArrived,
    /// All of an edge together, shuffled by this seed: the same order in each run of a test.
    Shuffled(u64),
}

/// Carries batches between the workers of one engine.
pub(super) trait Transport: Send + Sync {
    /// Hands a batch over, or with `None` the marker that no more will come from `from` on this edge.
    fn send(&self, edge: EdgeId, from: usize, to: usize, batch: Option<ZBatch>);
    /// Waits for batches on an edge; `None` once all peers have sent their markers and everything was taken.
    fn receive(&self, edge: EdgeId, at: usize) -> Option<Vec<ZBatch>>;
}

#[derive(Default)]
struct Queue {
    batches: Vec<(usize, ZBatch)>,
    ended: usize,
}

#[derive(Default)]
struct Mailbox {
    queues: Mutex<HashMap<EdgeId, Queue>>,
    arrived: Condvar,
}

/// Mailboxes between threads of one process.
pub(super) struct Mailboxes {
    boxes: Vec<Mailbox>,
    delivery: Delivery,
}

impl Mailboxes {
    pub(super) fn new(workers: usize, delivery: Delivery) -> Self {
        Mailboxes { boxes: (0..workers).map(|_| Mailbox::default()).collect(), delivery }
    }
}

impl Transport for Mailboxes {
    fn send(&self, edge: EdgeId, from: usize, to: usize, batch: Option<ZBatch>) {
        let mailbox = &self.boxes[to];
        let mut queues = mailbox.queues.lock();
        let queue = queues.entry(edge).or_default();
        match batch {
            Some(batch) => queue.batches.push((from, batch)),
            None => queue.ended += 1,
        }
        mailbox.arrived.notify_one();
    }

    fn receive(&self, edge: EdgeId, at: usize) -> Option<Vec<ZBatch>> {
        let mailbox = &self.boxes[at];
        let peers = self.boxes.len() - 1;
        let mut queues = mailbox.queues.lock();
        loop {
            if let Some(queue) = queues.get_mut(&edge) {
                let ended = queue.ended == peers;
                let ready = ended || (self.delivery == Delivery::AsArrived && !queue.batches.is_empty());
                if ready && !queue.batches.is_empty() {
                    let batches = std::mem::take(&mut queue.batches);
                    drop(queues);
                    return Some(self.order(batches, at));
                }
                if ended {
                    queues.remove(&edge);
                    return None;
                }
            }
            mailbox.arrived.wait(&mut queues);
        }
    }
}

impl Mailboxes {
    fn order(&self, mut batches: Vec<(usize, ZBatch)>, at: usize) -> Vec<ZBatch> {
        if let Delivery::Shuffled(seed) = self.delivery {
            // By sender first: threads may have raced.
            batches.sort_by_key(|(from, _)| *from);
            batches.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed ^ at as u64));
        }
        batches.into_iter().map(|(_, b)| b).collect()
    }
}

/// Assigns rows to workers.
pub(super) struct Router {
    workers: usize,
    owner: [u16; SHARDS],
    hashes: Vec<u64>,
}

impl Router {
    pub(super) fn new(workers: usize) -> Self {
        let mut owner = [0u16; SHARDS];
        for (shard, o) in owner.iter_mut().enumerate() {
            *o = u16::try_from(shard * workers / SHARDS).expect("there are at most 256 owners");
        }
        Router { workers, owner, hashes: Vec::new() }
    }

    /// Splits a batch by the owner of its keys; `part(worker, rows)` is called for each worker that gets any.
    pub(super) fn route(
        &mut self,
        batch: ZBatch,
        keys: &[usize],
        mut part: impl FnMut(usize, ZBatch),
    ) -> Result<()> {
        if keys.is_empty() {
            part(0, batch);
            return Ok(());
        }
        let columns: Vec<_> = keys.iter().map(|k| batch.column(*k).clone()).collect();
        self.hashes.clear();
        hash_columns(&columns, &mut self.hashes);
        let owner_of = |hash: u64| usize::from(self.owner[usize::from(shard_of(hash))]);
        let mut counts = vec![0usize; self.workers];
        for hash in &self.hashes {
            counts[owner_of(*hash)] += 1;
        }
        // Copying rows is the main cost of an exchange.
        if let Some(all) = counts.iter().position(|n| *n == batch.num_rows()) {
            part(all, batch);
            return Ok(());
        }
        let mut indices: Vec<Vec<u32>> = counts.iter().map(|n| Vec::with_capacity(*n)).collect();
        for (row, hash) in (0u32..).zip(&self.hashes) {
            indices[owner_of(*hash)].push(row);
        }
        for (worker, rows) in indices.into_iter().enumerate() {
            if !rows.is_empty() {
                part(worker, batch.take(&UInt32Array::from(rows))?);
            }
        }
        Ok(())
    }
}

/// The share of `batches` that worker `index` of `workers` reads first. Exchanges follow, so any distribution
/// is right; small batches stay whole.
pub(super) fn share(batches: &[ZBatch], index: usize, workers: usize) -> Vec<ZBatch> {
    const SMALL: usize = 512;
    let mut own = Vec::new();
    for (i, batch) in batches.iter().enumerate() {
        let rows = batch.num_rows();
        if workers == 1 {
            own.push(batch.clone());
        } else if rows <= SMALL {
            if i % workers == index {
                own.push(batch.clone());
            }
        } else {
            let (from, to) = (rows * index / workers, rows * (index + 1) / workers);
            own.push(batch.slice(from, to - from));
        }
    }
    own.retain(|b| !b.is_empty());
    own
}
