//! Sinks: where the changes of a relation go.
//!
//! Boundary: a sink receives the consolidated changes of whole closed epochs, in their order. When it is called and
//! what happens if it fails is `coord`'s business.

pub mod blackhole;

use std::collections::BTreeMap;

use super::options::{Options, nearest};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;
use crate::zset::ZBatch;

/// The connectors that sinks can use.
pub const CONNECTORS: &[&str] = &["blackhole"];

/// Receives changes.
pub trait Sink: Send {
    /// Takes changes of the epoch; may be called several times for one epoch.
    fn write(&mut self, epoch: Epoch, changes: &ZBatch) -> Result<()>;
    /// The epoch is complete: what was written of it is published.
    fn commit(&mut self, epoch: Epoch) -> Result<()>;
}

/// Checks connector and options at CREATE SINK and opens the sink.
pub fn open(connector: &str, options: &BTreeMap<String, String>) -> Result<Box<dyn Sink>> {
    match connector {
        "blackhole" => {
            Options::new("connector \"blackhole\"", options).refuse_unknown(&["connector"])?;
            Ok(Box::new(blackhole::Blackhole::default()))
        }
        other => {
            let e = Error::new(ErrorKind::InvalidParameter, format!("unknown connector \"{other}\""));
            Err(match nearest(other, CONNECTORS) {
                Some(n) => e.with_hint(format!("Perhaps you meant \"{n}\".")),
                None => e.with_hint(format!("Connectors of sinks are: {}.", CONNECTORS.join(", "))),
            })
        }
    }
}
