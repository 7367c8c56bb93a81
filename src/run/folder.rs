//! A run's folder: who may write to it, and what stands in it before the first round.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
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
        // Not even a lock is put among the files of somebody else.
        refuse_occupied(path)?;
        fs::create_dir_all(path).map_err(|source| LedgerError::Unwritable { path: path.to_owned(), source })?;
        let folder = Self::lock(path)?;
        // Another process may have played a whole run since the first look.
        refuse_occupied(path)?;
        // A process that was killed before its manifest stood may have left a half-written one.
        folder.clear()?;
        Ok(folder)
    }

    /// Takes the folder of a run that was begun, and clears away what a killed process had half written beside its tables.
    pub fn reopen(path: &Path) -> Result<Self, RunError> {
        let folder = Self::lock(path)?;
        folder.clear()?;
        Ok(folder)
    }

    /// Takes the folder of a run that was begun, with its manifest.
    ///
    /// # Errors
    /// As [`Self::reopen`], and if there is none: nothing is touched then.
    pub fn begun(path: &Path) -> Result<(Self, Manifest), RunError> {
        Manifest::read(path)?;
        // Read under the lock: another process may have been finishing the run until now.
        let folder = Self::reopen(path)?;
        Ok((folder, Manifest::read(path)?))
    }

    /// Removes the tables, to be written anew.
    pub fn remove_tables(&self) -> Result<(), LedgerError> {
        for name in ["ledger", "adapters", "timing"] {
            let path = self.path.join(name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(LedgerError::io(&path))?;
            }
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), LedgerError> {
        for entry in fs::read_dir(&self.path).map_err(LedgerError::io(&self.path))? {
            let entry = entry.map_err(LedgerError::io(&self.path))?;
            if atomic::is_partial(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).map_err(LedgerError::io(entry.path()))?;
            }
        }
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what stands in the folder before the first round: the scenario's text, and a manifest that lists it.
    pub fn begin(&self, manifest: &mut Manifest, scenario: &str) -> Result<(), LedgerError> {
        let path = self.path.join("scenario.ron");
        let is_other = fs::read(&path).is_ok_and(|text| text != scenario.as_bytes());
        if is_other && holds_run(&self.path) {
            // A kill between the two writes must not leave a manifest that another text belongs to.
            manifest.write(&self.path)?;
        }
        atomic::write(&path, scenario.as_bytes()).map_err(LedgerError::io(&path))?;
        manifest.list_scenario(&self.path)?;
        manifest.write(&self.path)
    }

    fn lock(path: &Path) -> Result<Self, RunError> {
        let name = path.join("lock");
        let mut tries = 0;
        loop {
            tries += 1;
            let file =
                File::create(&name).map_err(|source| LedgerError::Unwritable { path: path.to_owned(), source })?;
            match file.try_lock() {
                // Whoever held the lock before may have removed its file: a lock on that one would keep nobody out.
                Ok(()) if !stands_under(&file, &name).map_err(LedgerError::io(&name))? => {}
                Ok(()) => return Ok(Self { path: path.to_owned(), _lock: file }),
                // Whoever only looks holds it for an instant.
                Err(TryLockError::WouldBlock) if tries == 1 => std::thread::sleep(LOOKING),
                Err(TryLockError::WouldBlock) => {
                    let folder = path.display();
                    return Err(RunError::Usage(format!(
                        "failed to write to {folder}: another process is running there"
                    )));
                }
                Err(TryLockError::Error(source)) => return Err(LedgerError::io(&name)(source).into()),
            }
        }
    }
}

/// Longer than [`crate::ledger::is_being_written`] holds a lock.
const LOOKING: Duration = Duration::from_millis(20);

/// Whether an open file is the one of this name.
fn stands_under(file: &File, name: &Path) -> std::io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(name) {
        Ok(named) => Ok((own.dev(), own.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses a folder with anything in it that a new run could destroy.
fn refuse_occupied(path: &Path) -> Result<(), RunError> {
    let occupied = |what| Err(LedgerError::Occupied { path: path.to_owned(), what }.into());
    if holds_run(path) {
        return occupied("a run");
    }
    if path.is_file() {
        return occupied("a file");
    }
    match is_unused(path) {
        Ok(true) => Ok(()),
        Ok(false) => occupied("other files"),
        // It is to be made, or cannot be: making it says why.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(LedgerError::io(path)(error).into()),
    }
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
