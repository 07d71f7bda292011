//! Freshet: a streaming SQL database.
pub mod error;
pub mod config;
pub mod time;
pub mod types;
pub mod zset;
pub mod expr;
pub mod catalog;
pub mod plan;
pub mod operator;
pub mod connector;
