//! Freshet: a streaming SQL database.
pub mod error;
pub mod time;
pub mod types;
pub mod zset;
pub mod storage;
pub mod store;
pub mod expr;
pub mod catalog;
pub mod plan;
pub mod operator;
pub mod dataflow;
