//! Verifies a data directory without changing it: for `freshet check`.
//!
//! Boundary: reads the log and the base snapshot whole. The metadata store is not opened (opening it would
//! write, and it can be rebuilt).

use std::fmt;
use std::path::Path;

use super::dir::{FORMAT_VERSION, incompatible, log_dir, read_format};
use super::fs::Fs;
use super::log::read_directory;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// What was found in a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// Each file of the log that recovery would read, with the number of records (or table parts) in it.
    pub files: Vec<(String, usize)>,
    /// The last epoch that recovery would restore.
    pub last_epoch: Epoch,
    /// Bytes of an unfinished write at the end, which the next start cuts off.
    pub torn_bytes: u64,
    /// Files that the next start removes.
    pub obsolete: Vec<String>,
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, records) in &self.files {
            writeln!(f, "{name}: {records} records, no damage")?;
        }
        if self.torn_bytes > 0 {
            writeln!(f, "unfinished write of {} bytes at the end: will be cut off", self.torn_bytes)?;
        }
        for name in &self.obsolete {
            writeln!(f, "{name}: no longer needed, will be removed")?;
        }
        write!(f, "last epoch: {}", self.last_epoch)
    }
}

/// Reads everything that recovery would read. The first damage is the error, naming file and offset.
pub fn check(path: &Path, fs: &dyn Fs) -> Result<CheckReport> {
    match read_format(path)? {
        Some(FORMAT_VERSION) => {}
        Some(other) => return Err(incompatible(path, other)),
        None => {
            return Err(Error::new(
                ErrorKind::InvalidParameter,
                format!("\"{}\" is not a data directory", path.display()),
            ));
        }
    }
    check_log(&log_dir(path), fs)
}

/// Checks a log directory alone.
pub fn check_log(dir: &Path, fs: &dyn Fs) -> Result<CheckReport> {
    let contents = read_directory(dir, fs)?;
    let base = contents.recovery.base.as_ref().map_or(Epoch::ZERO, |b| b.epoch);
    Ok(CheckReport {
        last_epoch: contents.recovery.records.last().map_or(base, |r| r.epoch),
        files: contents.files,
        torn_bytes: contents.recovery.torn_bytes,
        obsolete: contents.obsolete,
    })
}
