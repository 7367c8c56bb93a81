//! Retention of stored results: the store keeps those in the lineage of every existing run that was made with it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::ledger::{LedgerError, Manifest, OLDEST_SCHEMA, RunKind, RunState, keys_of, runs_below};
use crate::run::RunError;
use crate::store::{Key, Store, StoredResult};

/// Maximum depth of a run's folder below a folder of runs; a sweep puts its runs into a folder of its own.
const DEPTH_MAX: u32 = 3;

/// Results that must stay in a store.
#[derive(Debug, Default)]
pub struct Retention {
    keys: BTreeSet<Key>,
    /// Start of the oldest unfinished run. Its keys are not all known, so everything used since then stays.
    since: Option<SystemTime>,
    /// Runs that need their results.
    pub runs: Vec<PathBuf>,
    /// Those of the runs that are not finished.
    pub unfinished: Vec<PathBuf>,
    /// Runs that used the store and were removed since.
    pub gone: Vec<PathBuf>,
}

impl Retention {
    /// Collects the needs of the runs that used a store, but for those that are given up, and of those in and below other
    /// folders.
    ///
    /// # Errors
    /// If the needs of a run cannot be known: its folder may be on a disk that is not mounted, or its lineage damaged.
    pub fn of(store: &Store, given_up: &[PathBuf], others: &[PathBuf]) -> Result<Self, RunError> {
        let mut retention = Self::default();
        for run in store.runs()?.into_iter().filter(|run| !given_up.contains(&run.folder)) {
            // A missing folder means that the run was removed, unless its parent is missing too: then its disk may not be
            // mounted.
            if is_run(&run.folder) {
                retention.add(&run.folder, run.since)?;
            } else if run.folder.parent().is_some_and(Path::is_dir) {
                retention.gone.push(run.folder);
            } else {
                return Err(RunError::OutOfReach { run: run.folder });
            }
        }
        for folder in others {
            let runs = runs_below(folder, DEPTH_MAX)?;
            if runs.is_empty() {
                return Err(LedgerError::NoRun { path: folder.clone() }.into());
            }
            for run in &runs {
                retention.add(run, SystemTime::UNIX_EPOCH)?;
            }
        }
        Ok(retention)
    }

    /// Removes from the store's registry the runs that are still gone.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn forget_gone(&self, store: &Store) -> Result<(), RunError> {
        for run in &self.gone {
            store.forget_run(run, is_run)?;
        }
        Ok(())
    }

    /// Whether a result must stay.
    pub fn needs(&self, result: &StoredResult) -> bool {
        self.keys.contains(&result.key) || self.since.is_some_and(|since| result.used >= since)
    }

    /// Adds the needs of a run that began to use the store at `since`.
    fn add(&mut self, run: &Path, since: SystemTime) -> Result<(), RunError> {
        let manifest = Manifest::read(run)?;
        if manifest.kind == RunKind::Plan {
            return Ok(());
        }
        self.runs.push(run.to_owned());
        if manifest.state == RunState::Running {
            self.since = Some(self.since.map_or(since, |before| before.min(since)));
            self.unfinished.push(run.to_owned());
        } else if manifest.schema_version > OLDEST_SCHEMA {
            // Keys that the oldest readable version made are not asked for any more.
            self.keys.extend(keys_of(run)?);
        }
        Ok(())
    }
}

/// Whether there is a run in this folder.
fn is_run(folder: &Path) -> bool {
    folder.join("manifest.json").is_file()
}
