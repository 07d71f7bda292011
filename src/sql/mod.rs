//! SQL: from the user's text to statements, and from queries to bound plans.
//!
//! Boundary: the only module that names sqlparser.

pub mod bind;
pub mod functions;
pub mod point;
pub mod types;
