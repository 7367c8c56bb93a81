//! A run's folder: who may write to it, and what stands in it before the first round.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RunError;
use crate::ledger::{LedgerError, Manifest};
use crate::store::atomic;

/// A folder that this process alone writes to, until it is dropped.
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Makes a new folder, or takes an empty one.
    ///
    /// # Errors
    /// [`LedgerError::Occupied`] if anything is in it.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        let occupied = |what| LedgerError::Occupied { path: path.to_owned(), what };
        if holds_run(path) {
            return Err(occupied("a run").into());
        }
        if path.is_file() {
            return Err(occupied("a file").into());
        }
        let unwritable = |source| LedgerError::Unwritable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unwritable)?;
        if !is_unused(path).map_err(LedgerError::io(path))? {
            return Err(occupied("other files").into());
        }
        Self::lock(path)
    }

    /// Takes the folder of a run that was begun.
    pub fn reopen(path: &Path) -> Result<Self, RunError> {
        Self::lock(path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(path: &Path) -> Result<Self, RunError> {
        let name = path.join("lock");
        let unwritable = |source| LedgerError::Unwritable { path: path.to_owned(), source };
        let file = File::create(&name).map_err(unwritable)?;
        let first = file.try_lock();
        // Whoever only looks holds it for an instant.
        let locked = if matches!(first, Err(TryLockError::WouldBlock)) {
            std::thread::sleep(LOOKING);
            file.try_lock()
        } else {
            first
        };
        match locked {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: file }),
            Err(TryLockError::WouldBlock) => {
                Err(RunError::Usage(format!("failed to write to {}: another process is running there", path.display())))
            }
            Err(TryLockError::Error(source)) => Err(LedgerError::io(&name)(source).into()),
        }
    }
}

/// Longer than [`is_being_written`] holds a lock.
const LOOKING: Duration = Duration::from_millis(20);

/// Whether a process is writing to the run's folder now. One that was killed holds no lock any more.
pub fn is_being_written(path: &Path) -> bool {
    let Ok(file) = File::open(path.join("lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Whether a run was begun in a folder.
pub fn holds_run(path: &Path) -> bool {
    Manifest::path(path).exists()
}

/// Whether a folder holds nothing but what a run leaves that was killed before its manifest was written.
fn is_unused(path: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "lock" && name != "scenario.ron" && !atomic::is_partial(&name) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path.join("lock"));
    }
}
