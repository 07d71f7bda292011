//! Protocol tests against a scripted backend: a real driver (tokio-postgres) and raw bytes.

mod driver;
mod mock;
mod raw;
