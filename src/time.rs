//! Clocks and the kinds of time: epochs (progress), event time (data), wall time (outside).
//!
//! Boundary: the only module that reads the wall clock. Epoch, event time and watermark are different types
//! so that they cannot be mixed; all of them count microseconds since the Unix epoch.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// One tick of the server's single logical clock: strictly increasing, microseconds since the Unix epoch.
/// Every change belongs to one epoch; an epoch is closed once, for all relations at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before every epoch.
    pub const ZERO: Epoch = Epoch(0);
    /// After every epoch; the end of a row that still lives.
    pub const MAX: Epoch = Epoch(u64::MAX);

    /// The epoch that follows this one when the clock shows `now`: the clock, or one more than this
    /// if the clock has not advanced (or went back).
    pub fn next(self, now: EventTime) -> Epoch {
        Epoch(u64::try_from(now.0).unwrap_or(0).max(self.0 + 1))
    }

    /// The epoch as `now()` of views sees it.
    pub fn as_time(self) -> EventTime {
        EventTime(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment in the data's or the clock's time, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventTime(pub i64);

/// The promise that rows with event time below it are late from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Watermark(pub i64);

impl Watermark {
    /// Nothing is promised yet.
    pub const NONE: Watermark = Watermark(i64::MIN);
    /// No more rows will come.
    pub const FINAL: Watermark = Watermark(i64::MAX);

    /// Whether a row of this event time comes too late.
    pub fn is_late(self, time: EventTime) -> bool {
        time.0 < self.0
    }
}

impl Default for Watermark {
    fn default() -> Self {
        Watermark::NONE
    }
}

/// Where wall time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Microseconds since the Unix epoch.
    fn now(&self) -> EventTime;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> EventTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        EventTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is moved: for tests.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: EventTime) -> Self {
        ManualClock(Arc::new(AtomicI64::new(start.0)))
    }
    /// Moves the clock to `to`.
    pub fn set(&self, to: EventTime) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> EventTime {
        EventTime(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_increase_even_when_the_clock_goes_back() {
        let e = Epoch(100);
        assert_eq!(e.next(EventTime(50)), Epoch(101));
        assert_eq!(e.next(EventTime(500)), Epoch(500));
    }

    #[test]
    fn a_row_at_the_watermark_is_not_late() {
        assert!(!Watermark(10).is_late(EventTime(10)));
        assert!(Watermark(10).is_late(EventTime(9)));
        assert!(!Watermark::NONE.is_late(EventTime(i64::MIN)));
    }
}
