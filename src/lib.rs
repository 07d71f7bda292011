//! Freshet: a streaming SQL database.
pub mod error;
pub mod time;
pub mod types;
pub mod catalog;
pub mod sql;
