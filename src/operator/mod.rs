//! The operators of a dataflow: each turns changes of its inputs into the change of its result.
//!
//! Boundary: deterministic and synchronous; no threads, no clock, no I/O, no names of relations. Within an
//! epoch an operator absorbs any number of batches on its ports; at the end `close_epoch` is called once. What
//! it has emitted by then must equal the change of its definition (read on whole inputs), whatever the order
//! and cut of the batches.

pub mod distinct;
pub mod join;
pub mod map;
pub mod over;
pub mod reduce;
mod rows;
pub mod temporal;
#[cfg(test)]
mod testing;
pub mod top_k;
pub mod top_one;

use crate::error::Result;
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::ZBatch;

/// Whether an operator has more to say within this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All output of what was absorbed has been emitted.
    Done,
    /// Call [`Operator::resume`] again (after the output so far has been passed on) before anything else.
    More,
}

/// What an operator emits: rows of its result, and errors of rows it could not compute.
#[derive(Debug, Default)]
pub struct Output {
    /// Changes of the result.
    pub rows: Vec<ZBatch>,
    /// Changes of the error relation, in the schema of [`crate::expr::eval_error::schema`].
    pub errors: Vec<ZBatch>,
}

impl Output {
    /// Emits a batch, unless it is empty.
    pub fn push(&mut self, batch: ZBatch) {
        if !batch.is_empty() {
            self.rows.push(batch);
        }
    }
    /// Emits evaluation errors, unless there are none.
    pub fn push_errors(&mut self, batch: ZBatch) {
        if !batch.is_empty() {
            self.errors.push(batch);
        }
    }
}

/// The facts of time that an epoch brings to an operator.
#[derive(Debug, Clone, Copy)]
pub struct TimeFacts<'a> {
    /// The epoch that is closing.
    pub epoch: Epoch,
    /// `now()` of this epoch.
    pub now: EventTime,
    /// Watermark of each input port as of this epoch; it takes effect when the epoch closes.
    pub watermarks: &'a [Watermark],
}

/// An incremental operator.
pub trait Operator: Send {
    /// Name for EXPLAIN and system relations, lower case.
    fn name(&self) -> &'static str;

    /// Takes a batch of changes of input `port`. Operators without state emit here; a batch may be large, output
    /// batches should be of about [`crate::zset::TARGET_ROWS`] rows, and an operator that would emit very many
    /// returns [`Progress::More`].
    fn absorb(&mut self, port: usize, changes: ZBatch, out: &mut Output) -> Result<Progress>;

    /// Goes on after [`Progress::More`].
    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// All changes of the epoch have been absorbed: operators with state emit their net change, and let go of
    /// state that the watermarks close. Called also in epochs without changes when a watermark that the operator waits for has moved
    /// or a timer is due.
    fn close_epoch(&mut self, time: &TimeFacts<'_>, out: &mut Output) -> Result<Progress>;

    /// Watermark of the output, from those of the inputs.
    fn watermark(&self, inputs: &[Watermark]) -> Watermark {
        inputs.iter().copied().min().unwrap_or(Watermark::NONE)
    }

    /// Whether `close_epoch` must be called when only the watermark has moved.
    fn waits_for_watermark(&self) -> bool {
        false
    }

    /// The next moment of `now()` at which the operator has something to emit by itself.
    fn next_timer(&self) -> Option<EventTime> {
        None
    }

    /// Bytes of state held.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Rows or keys of state held.
    fn state_rows(&self) -> usize {
        0
    }
}
