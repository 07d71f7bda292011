//! Names, definitions and dependencies of everything a user can create.
//!
//! Boundary: plain data and its rules (unique names, dependencies, stable OIDs). Nothing here runs anything;
//! `coord` applies changes, `storage::meta` keeps them.

pub mod object;
pub mod system;

pub use object::{Catalog, CatalogTable, Column, Object, ObjectBody, ObjectId, SequenceSpec, SequenceValue};
