//! Answers at one epoch: SELECT over snapshots through DataFusion, and point lookups without it.
//!
//! Boundary: reads relations that others resolve, at an epoch that others pin. It changes nothing, and decides
//! nothing about names, sessions or timeouts.

pub mod guard;
pub mod lookup;
pub mod query;
pub mod table;
