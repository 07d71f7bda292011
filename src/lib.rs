//! Freshet: a streaming SQL database.
pub mod error;
pub mod time;
pub mod config;
pub mod types;
pub mod zset;
pub mod connector;
