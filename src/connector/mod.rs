//! Connectors: how rows come in from outside and go out.
//!
//! Three parts that do not know each other's work: [`source`] fetches bytes (or makes rows) and knows offsets,
//! [`mod@format`] turns bytes into Arrow batches and dead letters, and control – when to fetch, which epoch the rows
//! belong to, what to do when there are too many – is `coord::ingest`'s. [`sink`] is the way out.
//!
//! Boundary: readers are synchronous and deterministic. They have no threads, no clock (the caller says what time it
//! is) and keep no state that is not in the offsets they report: a reader opened at those offsets goes on with
//! exactly the rows that have not been delivered.

pub mod format;
pub mod options;
pub mod sink;
pub mod source;
