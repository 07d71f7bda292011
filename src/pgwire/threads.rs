//! The threads that sessions live on: each has a runtime of its own, and a session stays where it was put.
//!
//! A runtime that moves tasks between threads wakes a second thread for most messages, only to find that there is
//! nothing left to do; for requests of a few microseconds that costs more than the request. New sessions go to
//! the thread that has the fewest.
//!
//! Boundary: threads and where tasks go; knows nothing of the protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::Result;

/// Statements are parsed and bound on these threads.
const STACK_BYTES: usize = 8 << 20;
/// More threads than this are of no use to the protocol.
const MOST: usize = 64;

struct Thread {
    /// With one worker: it has nobody to wake, and what takes long can still be left to a further thread.
    runtime: Option<Runtime>,
    sessions: Arc<AtomicUsize>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Not waited for: this may be dropped where nobody may wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The session threads. They end when this is dropped, and what still runs there with them.
pub(super) struct Threads(Vec<Thread>);

impl Threads {
    /// Starts a thread per core.
    pub fn start() -> Result<Threads> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let threads = (0..count).map(Self::start_one).collect::<Result<Vec<_>>>()?;
        Ok(Threads(threads))
    }

    fn start_one(number: usize) -> Result<Thread> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("session-{number}"))
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        Ok(Thread { runtime: Some(runtime), sessions: Arc::default() })
    }

    /// The thread with the fewest sessions, with one more.
    pub fn place(&self) -> (&Handle, Place) {
        let least = self
            .0
            .iter()
            .min_by_key(|t| t.sessions.load(Ordering::Relaxed))
            .expect("there is at least one thread");
        least.sessions.fetch_add(1, Ordering::Relaxed);
        let runtime = least.runtime.as_ref().expect("a runtime is taken out only when it is dropped");
        (runtime.handle(), Place(least.sessions.clone()))
    }
}

/// A session's place on its thread, given back when it is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_spread_evenly_and_give_their_place_back() {
        let threads = Threads((0..3).map(|n| Threads::start_one(n).unwrap()).collect());
        let places: Vec<Place> = (0..9).map(|_| threads.place().1).collect();
        let counts = || threads.0.iter().map(|t| t.sessions.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!(counts(), vec![3, 3, 3]);
        drop(places);
        assert_eq!(counts(), vec![0, 0, 0]);
    }

    #[tokio::test]
    async fn a_session_whose_statement_takes_long_does_not_hold_up_the_others() {
        let threads = Threads(vec![Threads::start_one(0).unwrap()]);
        let handle = threads.place().0;
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let long = handle.spawn(async move {
            tokio::task::block_in_place(|| {
                begun.send(()).unwrap();
                wait.recv().unwrap();
            });
        });
        has_begun.await.unwrap();
        handle.spawn(async {}).await.unwrap();
        go_on.send(()).unwrap();
        long.await.unwrap();
    }

    #[tokio::test]
    async fn tasks_run_on_the_thread_and_end_with_it() {
        let threads = Threads(vec![Threads::start_one(7).unwrap()]);
        let (handle, place) = threads.place();
        let name = handle.spawn(async { std::thread::current().name().map(str::to_string) }).await.unwrap();
        assert_eq!(name.as_deref(), Some("session-7"));
        let endless = handle.spawn(std::future::pending::<()>());
        drop(place);
        drop(threads);
        assert!(endless.await.unwrap_err().is_cancelled());
    }
}
