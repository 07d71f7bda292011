//! Versioned relations and the state of operators.
//!
//! Boundary: knows Arrow, Z-sets and time; nothing of queries, catalog or files.

pub mod arrangement;
