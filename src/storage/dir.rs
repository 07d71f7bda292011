//! The data directory: its format version and the lock that keeps a second server out.
//!
//! Boundary: names the parts of the directory; [`super::log`] and [`super::meta`] fill them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::log::io_error;
use crate::error::{Error, ErrorKind, Result};

/// Version of everything in the directory; another one is refused.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";

/// A data directory that this process holds. The lock ends with the value (and with the process).
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Locks the directory (created if it is not there) and checks its format.
    pub fn open(path: &Path) -> Result<DataDir> {
        std::fs::create_dir_all(path).map_err(|e| io_error("create", path, e))?;
        let lock = lock(path)?;
        let dir = DataDir { path: path.to_path_buf(), _lock: lock };
        match read_format(path)? {
            Some(FORMAT_VERSION) => {}
            Some(other) => return Err(incompatible(path, other)),
            None if dir.log().join("00000000000000000001.log").exists() => {
                return Err(Error::new(
                    ErrorKind::DataCorrupted,
                    format!("file \"{}\" is missing", path.join(FORMAT_FILE).display()),
                ));
            }
            None => write_format(path)?,
        }
        Ok(dir)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Where the write-ahead log is.
    pub fn log(&self) -> PathBuf {
        log_dir(&self.path)
    }
    /// Where the metadata store is.
    pub fn catalog(&self) -> PathBuf {
        self.path.join("catalog")
    }
}

/// Where the log of a data directory is.
pub(super) fn log_dir(path: &Path) -> PathBuf {
    path.join("log")
}

fn lock(path: &Path) -> Result<File> {
    let name = path.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(|e| io_error("open", &name, e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut file)),
        Err(TryLockError::Error(e)) => return Err(io_error("lock", &name, e)),
    }
    let write = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n{}\n", std::process::id(), host()).as_bytes())
    };
    write(&mut file).map_err(|e| io_error("write to", &name, e))?;
    Ok(file)
}

fn in_use(path: &Path, file: &mut File) -> Error {
    let mut holder = String::new();
    // The holder may be just writing it; the message then lacks the number.
    let _ = file.read_to_string(&mut holder);
    let mut lines = holder.lines();
    let pid = lines.next().filter(|p| !p.is_empty()).unwrap_or("unknown");
    let host = lines.next().unwrap_or("this host");
    Error::new(
        ErrorKind::LockFileExists,
        format!("data directory \"{}\" is in use by another server", path.display()),
    )
    .with_detail(format!("It is held by the process with PID {pid} on {host}."))
    .with_hint("Stop that server, or use another data directory.")
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".into(), |h| h.trim().to_string())
}

/// The directory's format version, if it has one.
pub(super) fn read_format(path: &Path) -> Result<Option<u32>> {
    let name = path.join(FORMAT_FILE);
    match std::fs::read_to_string(&name) {
        Ok(text) => match text.strip_prefix("freshet ").and_then(|v| v.trim().parse().ok()) {
            Some(version) => Ok(Some(version)),
            None => Err(super::frame::corrupted(&name, 0, "it is not a format version")),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error("read", &name, e)),
    }
}

fn write_format(path: &Path) -> Result<()> {
    let name = path.join(FORMAT_FILE);
    let temporary = path.join("format.tmp");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(format!("freshet {FORMAT_VERSION}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &name)?;
        File::open(path)?.sync_all()
    };
    write().map_err(|e| io_error("write", &name, e))
}

/// The refusal of a directory of another format.
pub(super) fn incompatible(path: &Path, version: u32) -> Error {
    Error::new(
        ErrorKind::InvalidParameter,
        format!("data directory \"{}\" is incompatible with this server", path.display()),
    )
    .with_detail(format!("It has format {version}; this server reads format {FORMAT_VERSION}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_refused_and_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        let e = DataDir::open(dir.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::LockFileExists);
        assert!(e.detail().unwrap().contains(&std::process::id().to_string()), "{e:?}");
        drop(held);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_of_another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("format"), "freshet 99\n").unwrap();
        assert_eq!(DataDir::open(dir.path()).unwrap_err().kind(), ErrorKind::InvalidParameter);
        std::fs::write(dir.path().join("format"), "nonsense").unwrap();
        assert_eq!(DataDir::open(dir.path()).unwrap_err().kind(), ErrorKind::DataCorrupted);
    }
}
