//! Figures of the running server: epochs, freshness, failures; read by system relations and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::catalog::ObjectId;
use crate::error::Error;
use crate::time::Epoch;

/// What is known of one dataflow besides its operators.
#[derive(Debug, Clone, Default)]
pub struct ViewFigures {
    /// Epoch at which it was first complete.
    pub hydrated_at: Option<Epoch>,
    /// How long filling it took.
    pub hydration: Option<Duration>,
    /// Why it stopped, if it did.
    pub failure: Option<(String, String)>,
}

/// Counters and last values; cheap to write from the coordinator's thread.
#[derive(Debug, Default)]
pub struct Figures {
    epochs: AtomicU64,
    rows: AtomicU64,
    last_step_micros: AtomicU64,
    longest_step_micros: AtomicU64,
    views: Mutex<BTreeMap<ObjectId, ViewFigures>>,
    poisoned: AtomicBool,
}

impl Figures {
    pub(crate) fn epoch_closed(&self, _epoch: Epoch, took: Duration, rows: usize) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.epochs.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.last_step_micros.store(micros, Ordering::Relaxed);
        self.longest_step_micros.fetch_max(micros, Ordering::Relaxed);
    }

    pub(crate) fn hydrated(&self, id: ObjectId, epoch: Epoch, took: Duration) {
        let mut views = self.views.lock();
        let v = views.entry(id).or_default();
        v.hydrated_at = Some(epoch);
        v.hydration = Some(took);
    }

    pub(crate) fn failed(&self, id: ObjectId, cause: &Error) {
        let failure = (cause.kind().sqlstate().to_string(), cause.message().to_string());
        self.views.lock().entry(id).or_default().failure = Some(failure);
    }

    pub(crate) fn dropped(&self, id: ObjectId) {
        self.views.lock().remove(&id);
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Whether the log is sound and writes are accepted.
    pub fn is_accepting(&self) -> bool {
        !self.poisoned.load(Ordering::Relaxed)
    }

    /// Epochs closed since the start.
    pub fn epochs(&self) -> u64 {
        self.epochs.load(Ordering::Relaxed)
    }
    /// Changes taken in since the start.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
    /// Time the last epoch took from sealing to publishing, in µs.
    pub fn last_step_micros(&self) -> u64 {
        self.last_step_micros.load(Ordering::Relaxed)
    }
    /// The longest such time, in µs.
    pub fn longest_step_micros(&self) -> u64 {
        self.longest_step_micros.load(Ordering::Relaxed)
    }
    /// Figures of a view.
    pub fn view(&self, id: ObjectId) -> ViewFigures {
        self.views.lock().get(&id).cloned().unwrap_or_default()
    }
}
