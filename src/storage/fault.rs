//! A file system in memory that fails on purpose: for tests of everything above [`super::fs::Fs`].
//!
//! Boundary: keeps synced and unsynced bytes and directory entries apart. [`FaultFs::crash`] loses, tears (at
//! 512-byte borders) or keeps what was not synced, by the caller's seed; single calls can be made to fail.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fs::{Fs, FsFile};

const SECTOR: usize = 512;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO, nothing done.
    Eio,
    /// ENOSPC after half of the bytes.
    NoSpace,
}

#[derive(Debug, Default, Clone)]
struct FileState {
    synced: Vec<u8>,
    current: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<FileState>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    writes: u64,
    fail_write: Option<(u64, Fault)>,
    fail_syncs: u32,
    /// Bytes that still fit, if the disk is bounded.
    space: Option<usize>,
    generation: u64,
}

/// A file system in memory with faults. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FaultFs(Arc<Mutex<State>>);

impl FaultFs {
    /// An empty file system without faults.
    pub fn new() -> Self {
        FaultFs::default()
    }

    /// The `n`-th append from now on (1: the next) fails in this way, once.
    pub fn fail_append(&self, n: u64, fault: Fault) {
        let mut s = self.0.lock();
        s.fail_write = Some((s.writes + n, fault));
    }

    /// The next `n` file syncs fail.
    pub fn fail_syncs(&self, n: u32) {
        self.0.lock().fail_syncs = n;
    }

    /// Only this many more bytes fit; `None`: no bound.
    pub fn set_space(&self, bytes: Option<usize>) {
        self.0.lock().space = bytes;
    }

    /// Power loss: unsynced directory entries are lost or kept, unsynced sectors of files too. Files that are
    /// open refuse everything from now on.
    pub fn crash(&self, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut s = self.0.lock();
        s.generation += 1;
        if rng.random_bool(0.5) {
            s.names = s.synced_names.clone();
        } else {
            s.synced_names = s.names.clone();
        }
        s.fail_write = None;
        s.fail_syncs = 0;
        for f in &mut s.files {
            f.current = torn(&f.synced, &f.current, &mut rng);
            f.synced = f.current.clone();
        }
    }

    /// Changes the bytes of a file, as a failing disk would.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut s = self.0.lock();
        if let Some(&id) = s.names.get(path) {
            change(&mut s.files[id].current);
            s.files[id].synced = s.files[id].current.clone();
        }
    }

    fn id(s: &State, path: &Path) -> io::Result<usize> {
        s.names.get(path).copied().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }
}

/// What may be left of `current` when only `synced` was promised.
fn torn(synced: &[u8], current: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    if synced == current || rng.random_bool(0.2) {
        return current.to_vec();
    }
    let (low, high) = (synced.len().min(current.len()), synced.len().max(current.len()));
    let len = rng.random_range(low..=high);
    (0..len)
        .step_by(SECTOR)
        .flat_map(|start| {
            let end = (start + SECTOR).min(len);
            let from = if rng.random_bool(0.5) { synced } else { current };
            // A sector that was never written reads as zeros.
            (start..end).map(|i| from.get(i).or(synced.get(i)).copied().unwrap_or(0)).collect::<Vec<_>>()
        })
        .collect()
}

impl Fs for FaultFs {
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut s = self.0.lock();
        s.files.push(FileState::default());
        let id = s.files.len() - 1;
        s.names.insert(path.to_path_buf(), id);
        Ok(Box::new(FaultFile { fs: self.clone(), id, generation: s.generation }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let s = self.0.lock();
        let id = Self::id(&s, path)?;
        Ok(Box::new(FaultFile { fs: self.clone(), id, generation: s.generation }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let s = self.0.lock();
        Ok(s.files[Self::id(&s, path)?].current.clone())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let s = self.0.lock();
        Ok(s.names
            .keys()
            .filter(|p| p.parent() == Some(dir))
            .filter_map(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
            .collect())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut s = self.0.lock();
        let id = Self::id(&s, from)?;
        s.names.remove(from);
        s.names.insert(to.to_path_buf(), id);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut s = self.0.lock();
        let id = Self::id(&s, path)?;
        s.names.remove(path);
        let freed = s.files[id].current.len();
        if let Some(space) = &mut s.space {
            *space += freed;
        }
        Ok(())
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut s = self.0.lock();
        let State { names, synced_names, .. } = &mut *s;
        synced_names.retain(|p, _| p.parent() != Some(dir));
        synced_names
            .extend(names.iter().filter(|(p, _)| p.parent() == Some(dir)).map(|(p, i)| (p.clone(), *i)));
        Ok(())
    }
}

#[derive(Debug)]
struct FaultFile {
    fs: FaultFs,
    id: usize,
    generation: u64,
}

impl FaultFile {
    fn check(&self, s: &State) -> io::Result<()> {
        if s.generation == self.generation {
            Ok(())
        } else {
            Err(io::Error::other("the machine has crashed"))
        }
    }
}

impl FsFile for FaultFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut s = self.fs.0.lock();
        self.check(&s)?;
        s.writes += 1;
        if let Some((n, fault)) = s.fail_write
            && s.writes == n
        {
            s.fail_write = None;
            return Err(match fault {
                Fault::Eio => io::Error::from_raw_os_error(libc::EIO),
                Fault::NoSpace => {
                    s.files[self.id].current.extend_from_slice(&bytes[..bytes.len() / 2]);
                    io::Error::from_raw_os_error(libc::ENOSPC)
                }
            });
        }
        let fits = s.space.unwrap_or(usize::MAX).min(bytes.len());
        s.files[self.id].current.extend_from_slice(&bytes[..fits]);
        if let Some(space) = &mut s.space {
            *space -= fits;
        }
        if fits < bytes.len() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        let mut s = self.fs.0.lock();
        self.check(&s)?;
        if s.fail_syncs > 0 {
            s.fail_syncs -= 1;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let f = &mut s.files[self.id];
        f.synced = f.current.clone();
        Ok(())
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut s = self.fs.0.lock();
        self.check(&s)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let freed = s.files[self.id].current.len().saturating_sub(len);
        s.files[self.id].current.truncate(len);
        if let Some(space) = &mut s.space {
            *space += freed;
        }
        Ok(())
    }
}
