//! Freshet: a streaming SQL database.
//!
//! It takes changes in (tables, sources), keeps materialized views exactly up to date by incremental dataflow over
//! Arrow batches, and hands changes and answers out over the PostgreSQL protocol.
//!
//! # What is promised
//!
//! - A **relation** is a multiset of rows that changes over time. A **change** is (row, weight): +1 inserts, -1
//!   deletes. A batch of changes is a Z-set: [`zset::ZBatch`].
//! - An **epoch** ([`time::Epoch`]) is the one logical clock of the server. Every change belongs to one epoch, and
//!   every epoch is closed once, for all relations at the same moment.
//! - At every closed epoch every view equals its query evaluated from scratch over its inputs at that epoch. SELECT
//!   reads all its relations at one closed epoch; a SUBSCRIBE message is made of whole closed epochs.
//! - A write is acknowledged when it is durable and its epoch is closed: whoever asks afterwards sees it.
//! - A **watermark** ([`time::Watermark`]) W of a source says: rows with event time below W are late. Rows of epoch e
//!   are judged by the watermark of epoch e-1.
//! - A failing expression or an undecodable record becomes a row of an error relation, is retracted when its cause
//!   is retracted, and stops nothing.
//!
//! # The way of a row
//!
//! 1. psql sends text; [`pgwire`] hands it to a [`coord::session::Session`]; [`sql::parse`] gives statements.
//! 2. `CREATE SOURCE`: [`coord::ddl`] makes the object, the coordinator commits it, and a
//!    [`connector::source::SourceReader`] starts on a thread of its own ([`coord::ingest`]).
//! 3. `CREATE MATERIALIZED VIEW`: [`sql::bind`] gives a logical plan; [`plan::lower`] turns it into an incremental
//!    [`plan::Plan`] or refuses with a reason; [`dataflow`] builds operators and [`coord::hydrate`] fills them.
//! 4. The reader fetches bytes; a [`connector::format`] decodes them into Arrow batches and dead letters.
//! 5. [`coord::epoch`] gathers what has arrived, seals the epoch, and logs it ([`storage::log`]).
//! 6. [`dataflow`] steps the nodes reachable from what changed; exchange edges send rows to the worker that owns
//!    their key.
//! 7. Each [`operator::Operator`] updates its state and emits the net change of its result.
//! 8. [`store::relation`] takes the change of the view; the epoch is published ([`store::snapshot`]).
//! 9. [`coord::subscribe`] tells subscribers; a point query finds its row through the key index ([`read::lookup`]).
//! 10. After a crash [`coord::recover`] brings back what the log holds.
//!
//! # Layers
//!
//! A module imports only from modules above it in this list; modules of one row do not import each other
//! (`tests/tidy.rs` checks it).
pub mod catalog;
pub mod cli;
pub mod config;
pub mod connector;
pub mod coord;
pub mod dataflow;
pub mod error;
pub mod expr;
pub mod http;
pub mod operator;
pub mod pgwire;
pub mod plan;
pub mod read;
pub mod server;
pub mod sql;
pub mod storage;
pub mod store;
pub mod time;
pub mod types;
pub mod zset;
