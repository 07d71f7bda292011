//! Advisory locks: names that sessions hold against each other, for tools that must not run twice at a time
//! (migrations).
//!
//! Boundary: who holds what; the functions that ask for it are the catalog evaluator's, and how long to wait is the
//! session's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::system::{AdvisoryKey, AdvisoryRequest};

/// How long a waiter sleeps before it asks whether it is still wanted.
const NAP: Duration = Duration::from_millis(20);

/// A session's share of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    pid: i32,
    shared: bool,
    /// Until the end of the transaction, and not of the session.
    transaction: bool,
    times: usize,
}

/// All advisory locks of a server.
#[derive(Debug, Default)]
pub struct Locks {
    held: Mutex<HashMap<AdvisoryKey, Vec<Hold>>>,
    released: Condvar,
    /// How many keys are held: nearly always none, and then no transaction's end asks for more.
    count: AtomicUsize,
}

impl Locks {
    /// Takes or gives back a lock. Waits for it if the request says so, for `timeout` at most, asking `go_on` now and
    /// then. Whether the lock was there to be taken or given back.
    pub fn serve(
        &self,
        pid: i32,
        request: AdvisoryRequest,
        timeout: Option<Duration>,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<bool> {
        let AdvisoryRequest::Lock { key, shared, transaction, wait } = request else {
            return Ok(match request {
                AdvisoryRequest::Unlock { key, shared } => self.unlock(pid, key, shared),
                _ => {
                    self.release(pid, false);
                    true
                }
            });
        };
        let started = Instant::now();
        let mut held = self.held.lock();
        loop {
            let holds = held.entry(key).or_default();
            if !holds.iter().any(|h| h.pid != pid && !(shared && h.shared)) {
                let same = |h: &&mut Hold| (h.pid, h.shared, h.transaction) == (pid, shared, transaction);
                match holds.iter_mut().find(same) {
                    Some(hold) => hold.times += 1,
                    None => holds.push(Hold { pid, shared, transaction, times: 1 }),
                }
                self.count.store(held.len(), Ordering::Release);
                return Ok(true);
            }
            if !wait {
                return Ok(false);
            }
            self.released.wait_for(&mut held, NAP);
            go_on()?;
            if timeout.is_some_and(|t| started.elapsed() >= t) {
                return Err(Error::new(
                    ErrorKind::LockNotAvailable,
                    "canceling statement due to lock timeout",
                ));
            }
        }
    }

    fn unlock(&self, pid: i32, key: AdvisoryKey, shared: bool) -> bool {
        let mut held = self.held.lock();
        let Some(holds) = held.get_mut(&key) else { return false };
        let mine = |h: &Hold| h.pid == pid && h.shared == shared && !h.transaction;
        let Some(at) = holds.iter().position(mine) else { return false };
        holds[at].times -= 1;
        if holds[at].times == 0 {
            holds.swap_remove(at);
        }
        self.tidy(held);
        true
    }

    /// Gives back a session's locks: those of its transaction, or all others.
    pub fn release(&self, pid: i32, transaction: bool) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut held = self.held.lock();
        for holds in held.values_mut() {
            holds.retain(|h| h.pid != pid || h.transaction != transaction);
        }
        self.tidy(held);
    }

    fn tidy(&self, mut held: parking_lot::MutexGuard<'_, HashMap<AdvisoryKey, Vec<Hold>>>) {
        held.retain(|_, holds| !holds.is_empty());
        self.count.store(held.len(), Ordering::Release);
        self.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: AdvisoryKey = AdvisoryKey::One(7);

    fn take(locks: &Locks, pid: i32, shared: bool, transaction: bool) -> bool {
        let request = AdvisoryRequest::Lock { key: KEY, shared, transaction, wait: false };
        locks.serve(pid, request, None, || Ok(())).unwrap()
    }

    fn give(locks: &Locks, pid: i32, shared: bool) -> bool {
        locks.serve(pid, AdvisoryRequest::Unlock { key: KEY, shared }, None, || Ok(())).unwrap()
    }

    #[test]
    fn a_lock_is_its_holder_s_as_often_as_it_was_taken() {
        let locks = Locks::default();
        assert!(take(&locks, 1, false, false));
        assert!(take(&locks, 1, false, false));
        assert!(!take(&locks, 2, false, false));
        assert!(!take(&locks, 2, true, false));
        assert!(give(&locks, 1, false));
        assert!(!take(&locks, 2, false, false));
        assert!(give(&locks, 1, false));
        assert!(!give(&locks, 1, false));
        assert!(take(&locks, 2, true, false));
        assert!(take(&locks, 3, true, false));
        assert!(!take(&locks, 1, false, false));
    }

    #[test]
    fn the_end_of_a_transaction_gives_back_only_its_own() {
        let locks = Locks::default();
        assert!(take(&locks, 1, false, true));
        assert!(!give(&locks, 1, false), "locks of a transaction are not given back by hand");
        locks.release(1, true);
        assert!(take(&locks, 2, false, false));
        locks.release(2, true);
        assert!(!take(&locks, 1, false, false));
        locks.release(2, false);
        assert!(take(&locks, 1, false, false));
    }

    #[test]
    fn a_waiter_gets_the_lock_or_its_time_out() {
        let locks = std::sync::Arc::new(Locks::default());
        assert!(take(&locks, 1, false, false));
        let wanted = AdvisoryRequest::Lock { key: KEY, shared: false, transaction: false, wait: true };
        let e = locks.serve(2, wanted, Some(Duration::from_millis(50)), || Ok(())).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::LockNotAvailable);
        let others = locks.clone();
        let waiter = std::thread::spawn(move || others.serve(2, wanted, None, || Ok(())).unwrap());
        std::thread::sleep(Duration::from_millis(30));
        locks.release(1, false);
        assert!(waiter.join().unwrap());
        assert!(!take(&locks, 1, false, false));
    }
}
