//! Exchange between workers: which worker owns a row, and the mailboxes that carry rows there.
//!
//! An edge is drained completely in each run before the run ends, so a mailbox needs no epochs. Sends never
//! block; a receiver parks until something has come, or goes away and comes back. Every worker ends its part of an edge with a marker.
//!
//! Boundary: moves batches; knows nothing of operators. The transport is a trait so that a simulation can
//! order deliveries as it likes and a cluster can cross processes.

use std::collections::HashMap;
use std::time::Instant;

use arrow::array::UInt32Array;
use parking_lot::{Condvar, Mutex};
use rand::SeedableRng;
use rand::seq::SliceRandom;

use crate::catalog::ObjectId;
use crate::error::Result;
use crate::zset::key::{hash_columns, shard_of};
use crate::zset::{TARGET_ROWS, ZBatch};

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
    /// Takes the batches that have come on an edge, waiting for some as long as `patience` says.
    fn receive(&self, edge: EdgeId, at: usize, patience: Patience) -> Received;
    /// Takes what has come so far on the edges of a dataflow, by node, without waiting. Nothing if the order of
    /// deliveries is not that of arrivals.
    fn arrived(&self, dataflow: ObjectId, at: usize) -> Vec<(usize, Vec<ZBatch>)>;
    /// Throws away what is on its way to this worker for a dataflow that is no more.
    fn forget(&self, dataflow: ObjectId, at: usize);
}

/// How long a receiver waits when nothing is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// Until something comes: the peers are at work on other threads.
    Endless,
    /// Until this moment.
    Until(Instant),
    /// Not at all.
    None,
}

/// What a receiver got.
#[derive(Debug)]
pub(super) enum Received {
    /// Batches; there may be more.
    Batches(Vec<ZBatch>),
    /// All peers have sent their markers and everything was taken.
    End,
    /// Nothing has come in the time given.
    Nothing,
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

    fn receive(&self, edge: EdgeId, at: usize, patience: Patience) -> Received {
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
                    return Received::Batches(self.order(batches, at));
                }
                if ended {
                    queues.remove(&edge);
                    return Received::End;
                }
            }
            match patience {
                Patience::Endless => mailbox.arrived.wait(&mut queues),
                Patience::Until(moment) => {
                    if mailbox.arrived.wait_until(&mut queues, moment).timed_out() {
                        return Received::Nothing;
                    }
                }
                Patience::None => return Received::Nothing,
            }
        }
    }

    fn arrived(&self, dataflow: ObjectId, at: usize) -> Vec<(usize, Vec<ZBatch>)> {
        if self.delivery != Delivery::AsArrived {
            return Vec::new();
        }
        let mut queues = self.boxes[at].queues.lock();
        let waiting = queues.iter_mut().filter(|((id, _), q)| *id == dataflow && !q.batches.is_empty());
        let take = |q: &mut Queue| std::mem::take(&mut q.batches).into_iter().map(|(_, b)| b).collect();
        waiting.map(|((_, node), q)| (*node, take(q))).collect()
    }

    fn forget(&self, dataflow: ObjectId, at: usize) {
        self.boxes[at].queues.lock().retain(|(id, _), _| *id != dataflow);
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
    counts: Vec<usize>,
}

impl Router {
    pub(super) fn new(workers: usize) -> Self {
        let mut owner = [0u16; SHARDS];
        for (shard, o) in owner.iter_mut().enumerate() {
            *o = u16::try_from(shard * workers / SHARDS).expect("there are at most 256 owners");
        }
        Router { workers, owner, hashes: Vec::new(), counts: vec![0; workers] }
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
        let Router { owner, hashes, counts, .. } = self;
        let owner_of = |hash: u64| usize::from(owner[usize::from(shard_of(hash))]);
        counts.fill(0);
        for hash in hashes.iter() {
            counts[owner_of(*hash)] += 1;
        }
        // Copying rows is the main cost of an exchange.
        if let Some(all) = counts.iter().position(|n| *n == batch.num_rows()) {
            part(all, batch);
            return Ok(());
        }
        let mut indices: Vec<Vec<u32>> = counts.iter().map(|n| Vec::with_capacity(*n)).collect();
        for (row, hash) in (0u32..).zip(hashes.iter()) {
            indices[owner_of(*hash)].push(row);
        }
        for (worker, rows) in indices.into_iter().enumerate().take(self.workers) {
            if !rows.is_empty() {
                part(worker, batch.take(&UInt32Array::from(rows))?);
            }
        }
        Ok(())
    }
}

/// The fewest rows that a batch is cut to: smaller pieces cost more per row than another worker brings.
const LEAST_PIECE: usize = TARGET_ROWS / 2;

/// The share of `batches` that worker `index` of `workers` reads first. Exchanges follow where rows must meet, so
/// any distribution is right; every worker must come to the same one. Batches go whole to the worker that has
/// the fewest rows so far (a view keeps whole batches as they are, and has to put slices together again); only one
/// that is larger than a fair share of everything is cut.
pub(super) fn share(batches: &[ZBatch], index: usize, workers: usize) -> Vec<ZBatch> {
    if workers == 1 {
        return batches.iter().filter(|b| !b.is_empty()).cloned().collect();
    }
    let total: usize = batches.iter().map(ZBatch::num_rows).sum();
    let fair = total.div_ceil(workers).max(TARGET_ROWS);
    let mut given = vec![0usize; workers];
    let mut own = Vec::new();
    for batch in batches {
        let rows = batch.num_rows();
        let pieces = if rows > fair { workers.min(rows / LEAST_PIECE) } else { 1 };
        for piece in 0..pieces {
            let (from, to) = (rows * piece / pieces, rows * (piece + 1) / pieces);
            let least = (0..workers).min_by_key(|w| given[*w]).unwrap_or(0);
            given[least] += to - from;
            if least == index && to > from {
                own.push(if pieces == 1 { batch.clone() } else { batch.slice(from, to - from) });
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn batch(start: i64, rows: i64) -> ZBatch {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, false)]);
        let a = Int64Array::from_iter_values(start..start + rows);
        ZBatch::inserts(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(a)]).unwrap())
    }

    fn values(batches: &[ZBatch]) -> Vec<i64> {
        let column = |b: &ZBatch| b.column(0).as_primitive::<Int64Type>().values().to_vec();
        let mut values: Vec<i64> = batches.iter().flat_map(column).collect();
        values.sort_unstable();
        values
    }

    #[test]
    fn batches_are_handed_out_whole_and_evenly() {
        let all: Vec<ZBatch> = (0..6).map(|i| batch(i * 8000, 8000)).collect();
        for workers in [1, 2, 3] {
            let shares: Vec<Vec<ZBatch>> = (0..workers).map(|w| share(&all, w, workers)).collect();
            for s in &shares {
                assert_eq!(s.len(), 6 / workers);
                assert!(
                    s.iter()
                        .all(|b| all.iter().any(|a| a.column(0).to_data().ptr_eq(&b.column(0).to_data())))
                );
            }
            assert_eq!(values(&shares.concat()), (0..48_000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_batch_larger_than_everything_else_is_cut_and_small_ones_are_not() {
        let all = vec![batch(0, 100), batch(100, 40_000), batch(40_100, 0), batch(40_100, 50)];
        let shares: Vec<Vec<ZBatch>> = (0..4).map(|w| share(&all, w, 4)).collect();
        assert_eq!(values(&shares.concat()), (0..40_150).collect::<Vec<_>>());
        assert!(shares.iter().all(|s| s.iter().map(ZBatch::num_rows).sum::<usize>() < 20_200));
        let one = vec![batch(0, 8192)];
        assert_eq!(share(&one, 0, 2).len() + share(&one, 1, 2).len(), 1);
    }
}
