//! The audit of query trees.
