//! The sink that keeps nothing and counts everything: for measurements.
//!
//! Boundary: counters only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Sink;
use crate::error::Result;
use crate::time::Epoch;
use crate::zset::ZBatch;

/// How much a blackhole has swallowed; shared with whoever watches it.
#[derive(Debug, Default)]
pub struct BlackholeCounts {
    rows: AtomicU64,
    epochs: AtomicU64,
}

impl BlackholeCounts {
    /// Changed rows received.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
    /// Epochs completed.
    pub fn epochs(&self) -> u64 {
        self.epochs.load(Ordering::Relaxed)
    }
}

/// Counts rows and forgets them.
#[derive(Debug, Default)]
pub struct Blackhole {
    counts: Arc<BlackholeCounts>,
}

impl Blackhole {
    /// The counters, to be read while the sink is in use.
    pub fn counts(&self) -> Arc<BlackholeCounts> {
        self.counts.clone()
    }
}

impl Sink for Blackhole {
    fn write(&mut self, _epoch: Epoch, changes: &ZBatch) -> Result<()> {
        self.counts.rows.fetch_add(changes.rows().num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }
    fn commit(&mut self, _epoch: Epoch) -> Result<()> {
        self.counts.epochs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use arrow::array::{Int32Array, RecordBatch};

    #[test]
    fn rows_and_epochs_are_counted() {
        let mut sink = Blackhole::default();
        let counts = sink.counts();
        let rows = RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(vec![1, 2, 3])) as _)])
            .expect("batch");
        sink.write(Epoch(1), &ZBatch::inserts(rows)).expect("write");
        sink.commit(Epoch(1)).expect("commit");
        assert_eq!((counts.rows(), counts.epochs()), (3, 1));
    }
}
