//! Registry of the runs that use a store, whose results must not be trimmed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use super::{Digest, Store, StoreError, atomic};

/// Folder of the entries, each named by the hash of its content.
const RUNS: &str = "runs";

/// Run that uses a store.
#[derive(Clone, Debug)]
pub struct RegisteredRun {
    pub folder: PathBuf,
    /// Time at which it first used the store.
    pub since: SystemTime,
}

impl Store {
    /// Records that the run in this folder uses the store.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn register(&self, run: &Path) -> Result<(), StoreError> {
        let Some(root) = self.root() else { return Ok(()) };
        let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
        let path = entry(root, &run);
        // An existing entry keeps its date, since all that an unfinished run used after it must be kept.
        if path.is_file() {
            return Ok(());
        }
        atomic::write(&path, run.as_os_str().as_encoded_bytes()).map_err(StoreError::at(&path))
    }

    /// Removes a run from the registry, so that its results may be trimmed.
    ///
    /// # Errors
    /// If the run is not registered, or the store cannot be written to.
    pub fn forget_run(&self, run: &Path) -> Result<(), StoreError> {
        let Some(root) = self.root() else { return Ok(()) };
        let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
        let path = entry(root, &run);
        fs::remove_file(&path).map_err(StoreError::at(&path))
    }

    /// Returns the runs that use the store, in the order of their folders' names. A note that is none is named in a warning
    /// and passed over.
    ///
    /// # Errors
    /// If the folder of notes cannot be read.
    pub fn runs(&self) -> Result<Vec<RegisteredRun>, StoreError> {
        let (runs, odd) = self.notes()?;
        for note in odd {
            tracing::warn!("{note}");
        }
        Ok(runs)
    }

    /// Returns the runs that use the store, and a description of each file among their notes that is none.
    pub(super) fn notes(&self) -> Result<(Vec<RegisteredRun>, Vec<String>), StoreError> {
        let Some(root) = self.root() else { return Ok((vec![], vec![])) };
        let folder = root.join(RUNS);
        let mut runs = Vec::new();
        let mut odd = Vec::new();
        for found in fs::read_dir(&folder).map_err(StoreError::at(&folder))? {
            let path = found.map_err(StoreError::at(&folder))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if atomic::is_partial(&name) {
                continue;
            }
            match note(&path, &name) {
                // Its run was deregistered meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::at(&path)(error)),
                Ok(Some(run)) => runs.push(run),
                Ok(None) => {
                    odd.push(format!("{}: it is no note of a run; remove it if no run is missed", path.display()))
                }
            }
        }
        runs.sort_by(|a, b| a.folder.cmp(&b.folder));
        odd.sort();
        Ok((runs, odd))
    }
}

/// Reads the note of a run, whose name is the hash of its content. `None` if the file is none.
fn note(path: &Path, name: &str) -> io::Result<Option<RegisteredRun>> {
    let found = fs::symlink_metadata(path)?;
    // A pipe would never end.
    if !found.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(path)?;
    // An empty note has the hash of nothing, and names no run.
    if bytes.is_empty() || Digest::of(&bytes).to_string() != name {
        return Ok(None);
    }
    Ok(Some(RegisteredRun { folder: OsString::from_vec(bytes).into(), since: found.modified()? }))
}

fn entry(root: &Path, run: &Path) -> PathBuf {
    root.join(RUNS).join(Digest::of(run.as_os_str().as_encoded_bytes()).to_string())
}
