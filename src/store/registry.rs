//! The runs that were played with a store: their folders are what a trimmed store must still serve.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Digest, Store, StoreError, atomic};

/// Folder of the entries, each named by the hash of its content.
const RUNS: &str = "runs";

/// A run that was played with a store.
#[derive(Clone, Debug)]
pub struct RegisteredRun {
    pub folder: PathBuf,
    /// When it was first played with it.
    pub since: SystemTime,
}

impl Store {
    /// Notes that the run in this folder uses the store.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn register(&self, run: &Path) -> Result<(), StoreError> {
        let Some(root) = self.root() else { return Ok(()) };
        let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
        let path = entry(root, &run);
        // An entry that is there keeps its date: what the run has used since is kept while it is unfinished.
        if path.is_file() {
            return Ok(());
        }
        atomic::write(&path, run.as_os_str().as_encoded_bytes()).map_err(StoreError::at(&path))
    }

    /// Forgets a run: the store need not serve it any more.
    ///
    /// # Errors
    /// If there is no such run, or the store cannot be written to.
    pub fn forget_run(&self, run: &Path) -> Result<(), StoreError> {
        let Some(root) = self.root() else { return Ok(()) };
        let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
        let path = entry(root, &run);
        fs::remove_file(&path).map_err(StoreError::at(&path))
    }

    /// The runs that use the store, by the names of their folders.
    ///
    /// # Errors
    /// If an entry cannot be read or is damaged: nobody knows then what is still needed.
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
