//! Which results of a store runs still need: those in the lineage of every run that was played with it and is still there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::ledger::{LedgerError, Manifest, OLDEST_SCHEMA, RunKind, RunState, keys_of};
use crate::run::RunError;
use crate::store::{Key, Store, StoredResult};

/// How deep below a folder of runs their folders may stand: a sweep's stand in a folder of their own.
const DEPTH_MAX: u32 = 3;

/// What must stay in a store.
#[derive(Debug, Default)]
pub struct Kept {
    keys: BTreeSet<Key>,
    /// Of a run that is not finished nobody knows all keys: everything used since its beginning stays.
    since: Option<SystemTime>,
    /// Runs that need their results.
    pub runs: Vec<PathBuf>,
    /// Those of them that are not finished.
    pub unfinished: Vec<PathBuf>,
    /// Runs that used the store and were removed since.
    pub gone: Vec<PathBuf>,
}

impl Kept {
    /// What the runs of a store need, and those in and below some other folders.
    ///
    /// # Errors
    /// If the needs of a run cannot be known: its folder may be on a disk that is not mounted, or its lineage damaged.
    pub fn of(store: &Store, others: &[PathBuf]) -> Result<Self, RunError> {
        let mut kept = Self::default();
        for run in store.runs()? {
            if run.folder.join("manifest.json").is_file() {
                kept.add(&run.folder, run.since)?;
            } else if run.folder.parent().is_some_and(Path::is_dir) {
                kept.gone.push(run.folder);
            } else {
                return Err(RunError::Usage(format!(
                    "failed to tell what {} needs: neither it nor the folder around it is there; mount its disk, or give \
                     it up with --forget",
                    run.folder.display()
                )));
            }
        }
        for folder in others {
            let runs = runs_below(folder, DEPTH_MAX)?;
            if runs.is_empty() {
                return Err(LedgerError::NoRun { path: folder.clone() }.into());
            }
            runs.iter().try_for_each(|run| kept.add(run, SystemTime::UNIX_EPOCH))?;
        }
        Ok(kept)
    }

    /// Whether a result must stay.
    pub fn needs(&self, result: &StoredResult) -> bool {
        self.keys.contains(&result.key) || self.since.is_some_and(|since| result.used >= since)
    }

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
            // Keys of the version before are not asked for any more.
            self.keys.extend(keys_of(run)?);
        }
        Ok(())
    }
}

fn runs_below(folder: &Path, depth: u32) -> Result<Vec<PathBuf>, LedgerError> {
    if folder.join("manifest.json").is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let mut runs = Vec::new();
    if depth == 0 {
        return Ok(runs);
    }
    for entry in fs::read_dir(folder).map_err(LedgerError::io(folder))? {
        let entry = entry.map_err(LedgerError::io(folder))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            runs.extend(runs_below(&entry.path(), depth - 1)?);
        }
    }
    Ok(runs)
}
