//! Event time at the door: the watermark of a table or source, and which of its rows come too late.
//!
//! Rows of epoch e are judged against the watermark of epoch e-1 and W(e) takes effect when e closes, so the
//! verdict depends neither on the order of rows within an epoch nor on the number of workers. A late row is
//! decided once, here; no operator ever sees it.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use crate::catalog::object::WatermarkSpec;
use crate::error::{Error, Result};
use crate::time::{Epoch, Watermark};
use crate::zset::ZBatch;

/// What is remembered of one partition.
#[derive(Debug, Clone, Copy)]
struct Partition {
    greatest: i64,
    seen: Epoch,
}

/// The event-time state of one relation.
#[derive(Debug, Clone)]
pub struct WatermarkTracker {
    spec: WatermarkSpec,
    partitions: BTreeMap<String, Partition>,
    current: Watermark,
}

impl WatermarkTracker {
    /// A relation that has seen nothing yet.
    pub fn new(spec: WatermarkSpec) -> Self {
        WatermarkTracker { spec, partitions: BTreeMap::new(), current: Watermark::NONE }
    }

    /// The watermark as of the last closed epoch.
    pub fn current(&self) -> Watermark {
        self.current
    }

    /// What dataflows may rely on: no row below it will come, allowed lateness included.
    pub fn promise(&self) -> Watermark {
        if self.current == Watermark::NONE {
            return Watermark::NONE;
        }
        Watermark(self.current.0.saturating_sub(self.spec.allowed_lateness))
    }

    /// Splits the rows of an epoch into (in time, late) and notes the event times of those in time. Rows without
    /// event time are in time.
    pub fn split(&mut self, partition: &str, epoch: Epoch, rows: ZBatch) -> Result<(ZBatch, Option<ZBatch>)> {
        let column = rows.column(self.spec.column).clone();
        let micros = match column.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, _) => column,
            _ => compute::cast(&column, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
        };
        let times = micros
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| Error::internal("event time is not a timestamp"))?;
        let limit = self.promise().0;
        let late: BooleanArray =
            (0..times.len()).map(|i| Some(times.is_valid(i) && times.value(i) < limit)).collect();
        let greatest = compute::max(times);
        if let Some(greatest) = greatest {
            let p =
                self.partitions.entry(partition.to_string()).or_insert(Partition { greatest, seen: epoch });
            p.greatest = p.greatest.max(greatest);
            p.seen = epoch;
        }
        if late.true_count() == 0 {
            return Ok((rows, None));
        }
        let in_time = rows.filter(&compute::not(&late)?)?;
        Ok((in_time, Some(rows.filter(&late)?)))
    }

    /// The epoch closes: the watermark rises to the least of the partitions that are not idle. Returns the
    /// promise if it moved.
    pub fn close(&mut self, epoch: Epoch) -> Option<Watermark> {
        let idle_before =
            self.spec.idle_timeout.map(|t| u64::try_from(t).unwrap_or(0)).map(|t| epoch.0.saturating_sub(t));
        let active = |p: &&Partition| idle_before.is_none_or(|limit| p.seen.0 >= limit);
        // When all are idle, time stands still.
        let least = self.partitions.values().filter(active).map(|p| p.greatest).min()?;
        let next = least.saturating_sub(self.spec.delay);
        if next <= self.current.0 {
            return None;
        }
        self.current = Watermark(next);
        Some(self.promise())
    }

    /// Sets the watermark as it was recorded (recovery).
    pub fn restore(&mut self, recorded: Watermark) {
        self.current = self.current.max(recorded);
    }

    /// When a partition that holds the others back will count as idle.
    pub fn next_idle(&self) -> Option<Epoch> {
        let timeout = u64::try_from(self.spec.idle_timeout?).ok()?;
        if self.partitions.len() < 2 {
            return None;
        }
        let least = self.partitions.values().min_by_key(|p| p.greatest)?;
        let due = Epoch(least.seen.0.saturating_add(timeout).saturating_add(1));
        let next = least.greatest.saturating_sub(self.spec.delay);
        // Only worth waking for when the slowest partition is what the watermark stands at.
        (next <= self.current.0).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::object::LateRows;
    use arrow::array::{RecordBatch, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn tracker(idle: Option<i64>, lateness: i64) -> WatermarkTracker {
        WatermarkTracker::new(WatermarkSpec {
            column: 0,
            delay: 5,
            allowed_lateness: lateness,
            idle_timeout: idle,
            late_rows: LateRows::Drop,
        })
    }

    fn rows(times: &[Option<i64>]) -> ZBatch {
        let array = TimestampMicrosecondArray::from(times.to_vec());
        let schema = Schema::new(vec![Field::new("ts", array.data_type().clone(), true)]);
        ZBatch::inserts(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(array)]).unwrap())
    }

    #[test]
    fn rows_are_judged_by_the_watermark_of_the_epoch_before() {
        let mut t = tracker(None, 0);
        let (ok, late) = t.split("", Epoch(1), rows(&[Some(100), Some(1), None])).unwrap();
        assert_eq!((ok.num_rows(), late.is_none()), (3, true));
        assert_eq!(t.close(Epoch(1)), Some(Watermark(95)));
        let (ok, late) = t.split("", Epoch(2), rows(&[Some(94), Some(95), None])).unwrap();
        assert_eq!((ok.num_rows(), late.unwrap().num_rows()), (2, 1));
        assert_eq!(t.close(Epoch(2)), None);
    }

    #[test]
    fn allowed_lateness_holds_the_promise_back() {
        let mut t = tracker(None, 10);
        t.split("", Epoch(1), rows(&[Some(100)])).unwrap();
        assert_eq!(t.close(Epoch(1)), Some(Watermark(85)));
        assert_eq!(t.current(), Watermark(95));
        assert!(t.split("", Epoch(2), rows(&[Some(85)])).unwrap().1.is_none());
        assert!(t.split("", Epoch(2), rows(&[Some(84)])).unwrap().1.is_some());
    }

    #[test]
    fn the_slowest_partition_holds_time_back_until_it_is_idle() {
        let mut t = tracker(Some(1000), 0);
        t.split("a", Epoch(10), rows(&[Some(100)])).unwrap();
        t.split("b", Epoch(10), rows(&[Some(20)])).unwrap();
        assert_eq!(t.close(Epoch(10)), Some(Watermark(15)));
        t.split("a", Epoch(500), rows(&[Some(200)])).unwrap();
        assert_eq!(t.close(Epoch(500)), None);
        assert_eq!(t.next_idle(), Some(Epoch(1011)));
        t.split("a", Epoch(1200), rows(&[Some(210)])).unwrap();
        assert_eq!(t.close(Epoch(1200)), Some(Watermark(205)));
    }
}
