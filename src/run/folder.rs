//! Folder of a run: its lock, and the files that are written before the first round.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RunError;
use super::error::VERSION;
use crate::ledger::{Input, LedgerError, Manifest, RunKind, RunState, SCHEMA_VERSION};
use crate::scenario::Scenario;
use crate::store::{Digest, atomic, binary_hash, read_limited};

/// Returns the manifest of a run that begins, without what depends on the machine and on the kind of run.
pub fn begun_manifest(scenario: &Scenario, inputs: &BTreeMap<String, Input>) -> Manifest {
    let spec = &scenario.scenario;
    Manifest {
        schema_version: SCHEMA_VERSION,
        fedreplay_version: VERSION.into(),
        kind: RunKind::Run,
        state: RunState::Running,
        name: spec.name.clone(),
        seed: spec.seed,
        scenario_hash: scenario.identity().0,
        scenario_folder: std::path::absolute(&scenario.folder).unwrap_or_else(|_| scenario.folder.clone()),
        inputs: inputs.clone(),
        left_out: BTreeMap::new(),
        repeats: None,
        binary_hash: binary_hash(),
        numerics: serde_json::Value::Null,
        numerics_class: String::new(),
        genesis: Digest([0; 32]),
        grade: String::new(),
        rounds: spec.rounds,
        digest: None,
        files: BTreeMap::new(),
        seal: None,
    }
}

/// Folder that only this process may write to, until the value is dropped.
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Creates a new folder, or takes an empty one.
    ///
    /// # Errors
    /// [`LedgerError::Occupied`] if anything is in it, and [`RunError::OutputInRun`] if it is in the folder of a run.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        Self::tidy(path);
        // Checked before locking: a lock file must not be created among files that belong to something else.
        refuse_occupied(path)?;
        if let Some(run) = Manifest::folder_around(path) {
            return Err(RunError::OutputInRun { out: path.to_owned(), run });
        }
        fs::create_dir_all(path).map_err(|source| LedgerError::Unwritable { path: path.to_owned(), source })?;
        let folder = Self::lock(path)?;
        // Checked again under the lock: another process may have made a whole run since the first check.
        refuse_occupied(path)?;
        // A process that was killed before it had written its manifest may have left a partial one.
        folder.clear()?;
        Ok(folder)
    }

    /// Takes the folder of a run that was begun, and removes partial files that a killed process left in it.
    pub fn reopen(path: &Path) -> Result<Self, RunError> {
        let folder = Self::lock(path)?;
        folder.clear()?;
        Ok(folder)
    }

    /// Takes the folder of a run that was begun, with its manifest.
    ///
    /// # Errors
    /// As [`Self::reopen`], and if there is no manifest; nothing is changed in that case.
    pub fn begun(path: &Path) -> Result<(Self, Manifest), RunError> {
        Manifest::read(path)?;
        // Read under the lock: another process may have been finishing the run until now.
        let folder = Self::reopen(path)?;
        Ok((folder, Manifest::read(path)?))
    }

    /// Removes the tables, which are then written again.
    pub fn remove_tables(&self) -> Result<(), LedgerError> {
        for name in ["ledger", "adapters", "timing"] {
            let path = self.path.join(name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(LedgerError::io(&path))?;
            }
        }
        Ok(())
    }

    /// Removes what a process that was killed at the very end of a run left next to it: its lock, and a half-written report.
    fn tidy(path: &Path) {
        if !holds_run(path) {
            return;
        }
        atomic::remove_all_leftovers(path);
        let lock = path.join("lock");
        if lock.is_file() {
            atomic::remove_if_left(&lock);
        }
    }

    /// Removes partial files.
    fn clear(&self) -> Result<(), LedgerError> {
        for entry in fs::read_dir(&self.path).map_err(LedgerError::io(&self.path))? {
            let entry = entry.map_err(LedgerError::io(&self.path))?;
            if atomic::is_partial(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).map_err(LedgerError::io(entry.path()))?;
            }
        }
        Ok(())
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the files that precede the first round: the scenario's text, and a manifest that lists it.
    pub fn begin(&self, manifest: &mut Manifest, scenario: &str) -> Result<(), LedgerError> {
        let path = self.path.join("scenario.ron");
        let is_other = read_limited(&path).is_ok_and(|text| text != scenario.as_bytes());
        if is_other && holds_run(&self.path) {
            // Invalidates the old manifest first: a kill between the two writes below must not leave a manifest that lists
            // another text.
            manifest.write(&self.path)?;
        }
        atomic::write(&path, scenario.as_bytes()).map_err(LedgerError::io(&path))?;
        manifest.list_scenario(&self.path)?;
        manifest.write(&self.path)
    }

    /// Creates the lock file and locks it.
    fn lock(path: &Path) -> Result<Self, RunError> {
        let name = path.join("lock");
        let mut tries = 0;
        loop {
            tries += 1;
            let file =
                File::create(&name).map_err(|source| LedgerError::Unwritable { path: path.to_owned(), source })?;
            match file.try_lock() {
                // The previous holder may have removed the file between our open and our lock. A lock on a removed file
                // excludes nobody, so the file is opened again.
                Ok(()) if !atomic::is_at(&file, &name).map_err(LedgerError::io(&name))? => {}
                Ok(()) => return Ok(Self { path: path.to_owned(), _lock: file }),
                // `is_being_written` holds the lock only for an instant, so one retry tells it from a running process.
                Err(TryLockError::WouldBlock) if tries == 1 => std::thread::sleep(LOOKING),
                Err(TryLockError::WouldBlock) => {
                    return Err(RunError::InUse { folder: path.to_owned() });
                }
                Err(TryLockError::Error(source)) => return Err(LedgerError::io(&name)(source).into()),
            }
        }
    }
}

/// Time that is longer than [`crate::ledger::is_being_written`] holds a lock.
const LOOKING: Duration = Duration::from_millis(20);

/// Refuses a folder with anything in it that a new run could destroy.
fn refuse_occupied(path: &Path) -> Result<(), RunError> {
    let what = if holds_run(path) {
        "a run"
    } else if path.is_file() {
        "a file"
    } else {
        match is_unused(path) {
            Ok(true) => return Ok(()),
            Ok(false) => "other files",
            // The folder does not exist yet. If it cannot be created, the attempt gives the better error.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            Err(error) => return Err(LedgerError::io(path)(error).into()),
        }
    };
    Err(LedgerError::Occupied { path: path.to_owned(), what }.into())
}

/// Whether a run was begun in a folder.
pub fn holds_run(path: &Path) -> bool {
    Manifest::path(path).exists()
}

/// Whether a folder is empty except for files that a run leaves if it is killed before its manifest is written.
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
