//! Registry of the runs that use a store, whose results must not be trimmed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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

    /// Returns the runs that use the store, in the order of their folders' names.
    ///
    /// # Errors
    /// If an entry cannot be read or is damaged, since it is then unknown which results are needed.
    pub fn runs(&self) -> Result<Vec<RegisteredRun>, StoreError> {
        let Some(root) = self.root() else { return Ok(vec![]) };
        let folder = root.join(RUNS);
        let mut runs = Vec::new();
        for found in fs::read_dir(&folder).map_err(StoreError::at(&folder))? {
            let path = found.map_err(StoreError::at(&folder))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if atomic::is_partial(&name) {
                continue;
            }
            // The name of an entry is the hash of its content, which shows damage.
            let bytes = fs::read(&path).map_err(StoreError::at(&path))?;
            let text = String::from_utf8(bytes).unwrap_or_default();
            if Digest::of(text.as_bytes()).to_string() != name {
                let damaged = std::io::Error::other("this note of a run is damaged: remove it if no run is missed");
                return Err(StoreError::at(&path)(damaged));
            }
            let since = fs::metadata(&path).and_then(|data| data.modified()).map_err(StoreError::at(&path))?;
            runs.push(RegisteredRun { folder: text.into(), since });
        }
        runs.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(runs)
    }
}

fn entry(root: &Path, run: &Path) -> PathBuf {
    root.join(RUNS).join(Digest::of(run.as_os_str().as_encoded_bytes()).to_string())
}
