//! State in memory: the versioned rows of relations and the state of operators.
//!
//! Boundary: knows epochs and Z-sets; no names of SQL, no plans, no disk. Writers are the workers of a step,
//! each in its own partition; readers are anyone who holds an epoch.

pub mod arrangement;
mod building;
mod chunk;
mod index;
mod partition;
pub mod relation;
mod rows;
pub mod snapshot;

pub use relation::{Relation, RelationSnapshot};
pub use snapshot::{EpochPin, Epochs};
