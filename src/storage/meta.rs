//! The metadata store: a small ordered map on disk for the catalog and the migration history, kept in sled.
//!
//! Boundary: the only module that names sled. Everything in it can be rebuilt from the log, because sled 0.34
//! has open reports of stores that no longer open: [`SledStore::open_or_set_aside`] then begins an empty one.
//! One tree, so that a commit is one atomic batch; every value carries its own CRC-32C (over key and value);
//! after sled's flush, which does not sync on Linux, the files are synced here.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::log::io_error;
use crate::error::{Error, ErrorKind, Result};

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaWrite {
    /// Sets the value of a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key.
    Delete(Vec<u8>),
}

/// An ordered map from bytes to bytes with atomic batches.
pub trait MetaStore: Send + Sync + std::fmt::Debug {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// All pairs whose key begins with `prefix`, in the order of the keys.
    fn scan_prefix(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Applies all changes or none of them.
    fn commit(&self, batch: &[MetaWrite]) -> Result<()>;
    /// Makes all commits durable.
    fn flush(&self) -> Result<()>;
}

/// [`MetaStore`] on sled.
#[derive(Debug)]
pub struct SledStore {
    db: sled::Db,
    dir: PathBuf,
}

impl SledStore {
    /// Opens the store. An error means that it must be rebuilt elsewhere.
    pub fn open(dir: &Path) -> Result<SledStore> {
        let config = sled::Config::new().path(dir).cache_capacity(16 << 20).flush_every_ms(None);
        // A damaged store may make sled panic instead of failing.
        let db = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| damaged(dir, "it could not be read"))?
            .map_err(|e| damaged(dir, &e.to_string()).with_source(e))?;
        let store = SledStore { db, dir: dir.to_path_buf() };
        store.verify()?;
        Ok(store)
    }

    /// Opens the store; if that fails for damage, moves it aside and begins an empty one.
    /// The flag says whether the content is lost and must be rebuilt.
    pub fn open_or_set_aside(dir: &Path) -> Result<(SledStore, bool)> {
        match SledStore::open(dir) {
            Ok(store) => Ok((store, false)),
            Err(e) if e.kind() == ErrorKind::DataCorrupted && dir.exists() => {
                tracing::warn!(error = %e, "metadata store set aside, to be rebuilt from the log");
                let aside = (1u32..)
                    .map(|n| dir.with_extension(format!("damaged-{n}")))
                    .find(|p| !p.exists())
                    .ok_or_else(|| Error::internal("no free name for the damaged metadata store"))?;
                std::fs::rename(dir, &aside).map_err(|e| io_error("rename", dir, e))?;
                Ok((SledStore::open(dir)?, true))
            }
            Err(e) => Err(e),
        }
    }

    /// Reads everything once, so that damage shows when the store is opened and not later.
    fn verify(&self) -> Result<()> {
        catch_unwind(AssertUnwindSafe(|| self.scan_prefix(b"").map(|_| ())))
            .unwrap_or_else(|_| Err(damaged(&self.dir, "it could not be read")))
    }
}

fn damaged(dir: &Path, what: &str) -> Error {
    Error::new(ErrorKind::DataCorrupted, format!("metadata store \"{}\" is damaged: {what}", dir.display()))
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(key), value).to_le_bytes()
}

fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(value.len() + 4);
    sealed.extend_from_slice(&checksum(key, value));
    sealed.extend_from_slice(value);
    sealed
}

impl SledStore {
    fn unseal(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        match sealed.split_at_checked(4) {
            Some((crc, value)) if crc == checksum(key, value) => Ok(value.to_vec()),
            _ => {
                Err(damaged(&self.dir, &format!("bad checksum of key \"{}\"", String::from_utf8_lossy(key))))
            }
        }
    }

    fn error(&self, e: sled::Error) -> Error {
        match e {
            sled::Error::Io(e) => io_error("use", &self.dir, e),
            other => damaged(&self.dir, &other.to_string()).with_source(other),
        }
    }
}

impl MetaStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.db.get(key).map_err(|e| self.error(e))? {
            None => Ok(None),
            Some(sealed) => self.unseal(key, &sealed).map(Some),
        }
    }

    fn scan_prefix(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.db
            .scan_prefix(prefix)
            .map(|pair| {
                let (key, sealed) = pair.map_err(|e| self.error(e))?;
                let value = self.unseal(&key, &sealed)?;
                Ok((key.to_vec(), value))
            })
            .collect()
    }

    fn commit(&self, batch: &[MetaWrite]) -> Result<()> {
        let mut sled_batch = sled::Batch::default();
        for write in batch {
            match write {
                MetaWrite::Put(key, value) => sled_batch.insert(key.as_slice(), seal(key, value)),
                MetaWrite::Delete(key) => sled_batch.remove(key.as_slice()),
            }
        }
        self.db.apply_batch(sled_batch).map_err(|e| self.error(e))
    }

    fn flush(&self) -> Result<()> {
        self.db.flush().map_err(|e| self.error(e))?;
        let sync = |path: &Path| -> Result<()> {
            File::open(path).and_then(|f| f.sync_all()).map_err(|e| io_error("sync", path, e))
        };
        for name in ["db", "conf"] {
            sync(&self.dir.join(name))?;
        }
        sync(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(k: &str, v: &str) -> MetaWrite {
        MetaWrite::Put(k.into(), v.into())
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog");
        let store = SledStore::open(&path).unwrap();
        store.commit(&[put("a/1", "x"), put("a/2", "y"), put("b/1", "z")]).unwrap();
        store.commit(&[MetaWrite::Delete("a/1".into()), put("a/2", "yy")]).unwrap();
        store.flush().unwrap();
        drop(store);
        let (store, fresh) = SledStore::open_or_set_aside(&path).unwrap();
        assert!(!fresh);
        assert_eq!(store.scan_prefix(b"a/").unwrap(), vec![(b"a/2".to_vec(), b"yy".to_vec())]);
        assert_eq!(store.get(b"b/1").unwrap(), Some(b"z".to_vec()));
        assert_eq!(store.get(b"a/1").unwrap(), None);
    }

    #[test]
    fn a_damaged_store_is_set_aside_and_an_empty_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog");
        let store = SledStore::open(&path).unwrap();
        store.commit(&[put("a", "x")]).unwrap();
        store.flush().unwrap();
        // A value without its checksum, as a torn page would show it.
        store.db.insert("b", b"zz").unwrap();
        store.db.flush().unwrap();
        drop(store);
        let (store, fresh) = SledStore::open_or_set_aside(&path).unwrap();
        assert!(fresh);
        assert_eq!(store.scan_prefix(b"").unwrap(), vec![]);
        assert!(dir.path().join("catalog.damaged-1").exists());
    }

    #[test]
    fn garbage_in_the_store_file_never_panics_and_leaves_a_usable_store() {
        for (at, len) in [(0, 4096), (20, 8), (100, 20)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("catalog");
            let store = SledStore::open(&path).unwrap();
            store.commit(&[put("a", "x")]).unwrap();
            store.flush().unwrap();
            drop(store);
            let mut bytes = std::fs::read(path.join("db")).unwrap();
            let end = (at + len).min(bytes.len());
            bytes[at..end].fill(0xAA);
            std::fs::write(path.join("db"), bytes).unwrap();
            let (store, fresh) = SledStore::open_or_set_aside(&path).unwrap();
            store.commit(&[put("b", "y")]).unwrap();
            store.flush().unwrap();
            assert_eq!(store.get(b"b").unwrap(), Some(b"y".to_vec()));
            let a = store.get(b"a").unwrap();
            assert!(a.is_none() || (!fresh && a == Some(b"x".to_vec())));
        }
    }
}
