//! SUBSCRIBE: who is told of which relation's changes, epoch by epoch.
//!
//! The [`Hub`] lives with the coordinator and hands each closed epoch's net change to the subscribers of the
//! relation; a subscriber is a bounded queue in front of a session. A client that does not read
//! loses its subscription with an error, never a row silently.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

use crate::catalog::ObjectId;
use crate::error::{Error, ErrorKind};
use crate::time::{Epoch, EventTime};
use crate::zset::ZBatch;

/// How often a subscriber that asked for progress hears of it while nothing changes (µs).
const PROGRESS_INTERVAL: i64 = 1_000_000;

/// What a subscriber receives.
#[derive(Debug, Clone)]
pub enum Notice {
    /// The net change of one closed epoch (possibly none, for progress).
    Epoch(Epoch, Arc<Vec<ZBatch>>),
    /// The subscription is over.
    End(Arc<Error>),
}

/// The sending half of a subscription.
#[derive(Debug)]
pub struct Subscriber {
    /// Number, unique in the server's life.
    pub id: u64,
    /// Whether it is told of epochs without a change.
    pub progress: bool,
    /// It needs nothing after this epoch.
    pub up_to: Option<Epoch>,
    /// Bytes that may wait for it.
    pub limit: usize,
    /// Bytes waiting; the receiver takes off what it has read.
    pub waiting: Arc<AtomicUsize>,
    /// Told when it was too slow.
    pub overflow: Arc<Notify>,
    /// The queue.
    pub queue: mpsc::UnboundedSender<Notice>,
}

struct Entry {
    object: ObjectId,
    since: Epoch,
    last_told: Epoch,
    /// It has been told of its end.
    ended: bool,
    subscriber: Subscriber,
}

/// All subscriptions.
#[derive(Default)]
pub struct Hub {
    entries: BTreeMap<u64, Entry>,
    per_object: BTreeMap<ObjectId, usize>,
}

impl Hub {
    /// Adds a subscriber: it has the relation as of `since` and is told of every later change.
    pub fn add(&mut self, object: ObjectId, subscriber: Subscriber, since: Epoch) {
        *self.per_object.entry(object).or_default() += 1;
        self.entries
            .insert(subscriber.id, Entry { object, since, last_told: since, ended: false, subscriber });
    }

    /// Removes a subscriber; answers its relation and whether it was the last one there.
    pub fn remove(&mut self, subscriber: u64) -> Option<(ObjectId, bool)> {
        let entry = self.entries.remove(&subscriber)?;
        let left = self.per_object.entry(entry.object).or_default();
        *left = left.saturating_sub(1);
        let is_last = *left == 0;
        if is_last {
            self.per_object.remove(&entry.object);
        }
        Some((entry.object, is_last))
    }

    /// Whether anybody listens to this relation.
    pub fn wants(&self, object: ObjectId) -> bool {
        self.per_object.contains_key(&object)
    }

    /// Number of subscriptions.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody subscribes to anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// (subscriber, relation, bytes waiting) of each subscription.
    pub fn list(&self) -> impl Iterator<Item = (u64, ObjectId, usize)> + '_ {
        self.entries
            .values()
            .map(|e| (e.subscriber.id, e.object, e.subscriber.waiting.load(Ordering::Relaxed)))
    }

    /// Tells everyone concerned of a closed epoch.
    pub fn publish(&mut self, epoch: Epoch, changes: Vec<(ObjectId, Vec<ZBatch>)>) {
        if self.entries.is_empty() {
            return;
        }
        let changes: BTreeMap<ObjectId, Arc<Vec<ZBatch>>> =
            changes.into_iter().map(|(id, batches)| (id, Arc::new(batches))).collect();
        let nothing = Arc::new(Vec::new());
        for entry in self.entries.values_mut() {
            if epoch <= entry.since || entry.ended {
                continue;
            }
            let change = changes.get(&entry.object).filter(|c| c.iter().any(|b| !b.is_empty()));
            let ends = entry.subscriber.up_to.is_some_and(|t| epoch >= t);
            let batches = match change {
                Some(batches) => batches,
                None if entry.subscriber.progress || ends => &nothing,
                None => continue,
            };
            let bytes: usize = batches.iter().map(ZBatch::memory_size).sum::<usize>() + 64;
            let waiting = entry.subscriber.waiting.fetch_add(bytes, Ordering::AcqRel) + bytes;
            entry.last_told = epoch;
            let notice = if waiting > entry.subscriber.limit {
                entry.ended = true;
                entry.subscriber.overflow.notify_one();
                Notice::End(Arc::new(
                    Error::new(ErrorKind::ConfigurationLimit, "the subscriber reads too slowly")
                        .with_detail(format!("{waiting} bytes were waiting for it."))
                        .with_hint("Read faster, subscribe to less, or raise subscribe_buffer."),
                ))
            } else {
                Notice::Epoch(epoch, batches.clone())
            };
            // A closed queue belongs to a session that is about to say so itself.
            drop(entry.subscriber.queue.send(notice));
        }
    }

    /// The relation is gone: its subscriptions end.
    pub fn relation_dropped(&mut self, object: ObjectId) {
        for entry in self.entries.values_mut().filter(|e| e.object == object && !e.ended) {
            entry.ended = true;
            let end = Error::new(ErrorKind::UndefinedTable, "the relation subscribed to has been dropped");
            drop(entry.subscriber.queue.send(Notice::End(Arc::new(end))));
        }
    }

    /// When an epoch must be closed though nothing has changed: for progress, or to end an `UP TO`.
    pub fn next_tick(&self) -> Option<EventTime> {
        self.entries
            .values()
            .filter(|e| !e.ended)
            .filter_map(|e| {
                let up_to = e.subscriber.up_to.filter(|t| *t > e.last_told).map(Epoch::as_time);
                let progress = e
                    .subscriber
                    .progress
                    .then(|| EventTime(e.last_told.as_time().0.saturating_add(PROGRESS_INTERVAL)));
                [up_to, progress].into_iter().flatten().min()
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(id: u64, limit: usize, progress: bool) -> (Subscriber, mpsc::UnboundedReceiver<Notice>) {
        let (queue, rx) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        (Subscriber { id, progress, up_to: None, limit, waiting, overflow: Arc::default(), queue }, rx)
    }

    fn change() -> Vec<ZBatch> {
        let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
            "a",
            arrow::datatypes::DataType::Int32,
            true,
        )]);
        let a = arrow::array::Int32Array::from(vec![1]);
        let rows = arrow::array::RecordBatch::try_new(Arc::new(schema), vec![Arc::new(a)]).unwrap();
        vec![ZBatch::inserts(rows)]
    }

    #[test]
    fn a_subscriber_hears_only_of_its_relation_and_only_after_its_snapshot() {
        let mut hub = Hub::default();
        let (s, mut rx) = subscriber(1, usize::MAX, false);
        hub.add(ObjectId(7), s, Epoch(10));
        hub.publish(Epoch(10), vec![(ObjectId(7), change())]);
        hub.publish(Epoch(11), vec![(ObjectId(8), change())]);
        assert!(rx.try_recv().is_err());
        hub.publish(Epoch(12), vec![(ObjectId(7), change())]);
        assert!(matches!(rx.try_recv(), Ok(Notice::Epoch(Epoch(12), _))));
        assert_eq!(hub.remove(1), Some((ObjectId(7), true)));
    }

    #[test]
    fn a_slow_subscriber_is_told_and_never_skips_a_change() {
        let mut hub = Hub::default();
        let (s, mut rx) = subscriber(1, 1, false);
        hub.add(ObjectId(7), s, Epoch(10));
        hub.publish(Epoch(11), vec![(ObjectId(7), change())]);
        match rx.try_recv() {
            Ok(Notice::End(e)) => assert_eq!(e.kind(), ErrorKind::ConfigurationLimit),
            other => panic!("{other:?}"),
        }
        hub.publish(Epoch(12), vec![(ObjectId(7), change())]);
        assert!(rx.try_recv().is_err(), "it is told once");
    }

    #[test]
    fn progress_ticks_only_for_those_who_asked() {
        let mut hub = Hub::default();
        let (s, _rx1) = subscriber(1, usize::MAX, false);
        hub.add(ObjectId(7), s, Epoch(10));
        assert_eq!(hub.next_tick(), None);
        let (s, mut rx) = subscriber(2, usize::MAX, true);
        hub.add(ObjectId(7), s, Epoch(10));
        assert_eq!(hub.next_tick(), Some(EventTime(1_000_010)));
        hub.publish(Epoch(1_000_010), Vec::new());
        assert!(matches!(rx.try_recv(), Ok(Notice::Epoch(_, b)) if b.is_empty()));
    }
}
