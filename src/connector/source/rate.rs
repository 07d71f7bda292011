//! Pacing of generated rows by the clock that the caller holds.
//!
//! Boundary: arithmetic; nobody sleeps here.

use std::time::Duration;

use crate::time::EventTime;

/// No more than so many rows per second, counted from the first question.
#[derive(Debug, Clone)]
pub struct RateLimit {
    per_second: Option<f64>,
    started: Option<(EventTime, u64)>,
}

impl RateLimit {
    /// A limit; `None` is unlimited.
    pub fn new(per_second: Option<f64>) -> Self {
        RateLimit { per_second, started: None }
    }

    /// How many rows may follow the `position` rows made so far, or how long to wait for the next one.
    pub fn allowed(&mut self, position: u64, now: EventTime) -> Result<u64, Duration> {
        let Some(rate) = self.per_second else { return Ok(u64::MAX) };
        let (started, from) = *self.started.get_or_insert((now, position));
        let elapsed = now.0.saturating_sub(started.0).max(0) as f64 / 1e6;
        // The first row is due at once, the second after 1/rate seconds.
        let due = from as f64 + (elapsed * rate).floor() + 1.0;
        let made = position as f64;
        if due > made {
            return Ok((due - made) as u64);
        }
        let wait = (made - from as f64) / rate - elapsed;
        // At high rates rows come in small bunches, so that the reader is not woken for each of them.
        Err(Duration::from_secs_f64(wait.clamp(0.005, 3600.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_due_in_proportion_to_the_time() {
        let mut r = RateLimit::new(Some(10.0));
        assert_eq!(r.allowed(100, EventTime(0)), Ok(1));
        assert_eq!(r.allowed(101, EventTime(0)), Err(Duration::from_millis(100)));
        assert_eq!(r.allowed(101, EventTime(1_000_000)), Ok(10));
        assert_eq!(r.allowed(111, EventTime(1_050_000)), Err(Duration::from_millis(50)));
        assert!(RateLimit::new(None).allowed(5, EventTime(0)).expect("unlimited") > 1 << 40);
    }
}
