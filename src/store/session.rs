//! Who uses a store at the moment, so that trimming it takes nothing away from under anybody.
//!
//! A process that opens a store holds a locked file in `sessions/` for as long as it lives. Whoever trims the store leaves
//! alone all that was used since the oldest of them began. Uses are dated by the entries' modification times, on the
//! store's own file system, so no two clocks are compared.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Folder of the sessions' files.
pub(super) const SESSIONS: &str = "sessions";

/// A use of a store, from opening it until it is dropped.
#[derive(Debug)]
pub(super) struct Session {
    path: PathBuf,
    _file: File,
}

impl Session {
    /// Begins a session.
    pub fn begin(root: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // Nobody may take the file for a dead one before it is locked.
        let _gate = Gate::shared(root);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(SESSIONS).join(format!("{}-{number}", std::process::id()));
        let file = File::create(&path)?;
        file.lock()?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// When the oldest session of a living process began; sessions of processes that were killed are removed.
pub(super) fn oldest(root: &Path) -> io::Result<Option<SystemTime>> {
    let _gate = Gate::exclusive(root)?;
    let mut oldest = None;
    for entry in fs::read_dir(root.join(SESSIONS))? {
        let path = entry?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            // It ended just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => fs::remove_file(&path)?,
            Err(TryLockError::WouldBlock) => {
                let began = file.metadata()?.modified()?;
                oldest = Some(oldest.map_or(began, |before: SystemTime| before.min(began)));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(oldest)
}

/// The gate of a store: all who read and write pass it together, whoever removes something passes it alone.
pub(super) struct Gate {
    _file: File,
}

impl Gate {
    /// Passes with others; without a gate where the file system has no locks, on which nothing can be removed either.
    pub fn shared(root: &Path) -> Option<Self> {
        let file = File::open(gate(root)).ok()?;
        file.lock_shared().ok()?;
        Some(Self { _file: file })
    }

    /// Passes alone.
    pub fn exclusive(root: &Path) -> io::Result<Self> {
        let file = File::open(gate(root))?;
        file.lock()?;
        Ok(Self { _file: file })
    }

    /// Makes the gate of a new store.
    pub fn make(root: &Path) -> io::Result<()> {
        // Appending leaves a gate that is there as it is.
        File::options().append(true).create(true).open(gate(root)).map(|_| ())
    }
}

fn gate(root: &Path) -> PathBuf {
    root.join("gate")
}
