//! The content store: `results/KEY` names a content hash, `contents/HASH` holds the bytes.
//!
//! Contents are named by their own hash, so they are checked whenever they are read, equal ones are stored once, and
//! any number of processes may share one store: whoever renames last writes the same bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::session::{Gate, SESSIONS, Session};
use super::{Digest, Key, atomic};

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
#[error("failed to use the store at {path}: {source}; choose another with --store, or none with --store none")]
pub struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

/// A folder of results, or none at all.
///
/// # Examples
///
/// ```
/// use fedreplay::store::{Store, key_of};
///
/// let folder = tempfile::tempdir()?;
/// let store = Store::open(folder.path())?;
/// let key = key_of("sum v1", &[3, 4]);
/// assert_eq!(store.get(key), None);
/// store.put(key, b"7")?;
/// assert_eq!(store.get(key).as_deref(), Some(&b"7"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    root: Option<PathBuf>,
    /// Tells whoever trims the store that it is in use.
    _session: Option<Arc<Session>>,
}

impl Store {
    /// A store in `root`, made if it is not there.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for folder in ["results", "contents", "runs", SESSIONS] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(|source| StoreError { path, source })?;
        }
        Gate::make(root).map_err(StoreError::at(root))?;
        let session = Session::begin(root).map_err(StoreError::at(root))?;
        Ok(Self { root: Some(root.to_owned()), _session: Some(Arc::new(session)) })
    }

    /// A store that must be there already.
    ///
    /// # Errors
    /// If there is none.
    pub fn open_existing(root: &Path) -> Result<Self, StoreError> {
        let results = root.join("results");
        fs::read_dir(&results).map_err(StoreError::at(&results))?;
        Self::open(root)
    }

    pub(super) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// No store: nothing is found and nothing is kept.
    pub fn none() -> Self {
        Self { root: None, _session: None }
    }

    /// Whether anything can be kept.
    pub fn is_there(&self) -> bool {
        self.root.is_some()
    }

    /// The bytes under `key`, if they are there and whole. A damaged entry is one that is not there.
    pub fn get(&self, key: Key) -> Option<Vec<u8>> {
        let root = self.root.as_ref()?;
        let _gate = Gate::shared(root);
        let path = entry(root, "results", &key.to_string());
        let named = fs::read_to_string(&path).ok()?;
        touch(&path);
        let hash = Digest::from_hex(named.trim())?;
        let path = entry(root, "contents", &hash.to_string());
        let bytes = fs::read(&path).ok()?;
        if Digest::of(&bytes) != hash {
            tracing::warn!(path = %path.display(), "a stored result is damaged and will be computed again");
            return None;
        }
        Some(bytes)
    }

    /// Whether there is an entry under `key`; [`Self::get`] may still find it damaged.
    pub fn contains(&self, key: Key) -> bool {
        let Some(root) = &self.root else { return false };
        let _gate = Gate::shared(root);
        let path = entry(root, "results", &key.to_string());
        let is_there = path.is_file();
        if is_there {
            touch(&path);
        }
        is_there
    }

    /// Drops the entry under `key`, so that it is computed again.
    pub fn forget(&self, key: Key) {
        if let Some(root) = &self.root {
            let _ = fs::remove_file(entry(root, "results", &key.to_string()));
        }
    }

    /// Keeps `bytes` under `key`; on return they survive a crash.
    pub fn put(&self, key: Key, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(root) = &self.root else { return Ok(()) };
        let hash = Digest::of(bytes).to_string();
        // A content without a result yet is taken for one that lost its result, unless it is new.
        let _gate = Gate::shared(root);
        let write = |path: PathBuf, bytes: &[u8]| {
            atomic::write(&path, bytes).map_err(|source| StoreError { path: path.clone(), source })
        };
        write(entry(root, "contents", &hash), bytes)?;
        write(entry(root, "results", &key.to_string()), hash.as_bytes())
    }
}

/// Dates the last use of an entry. On a store that belongs to somebody else it stays as it was.
fn touch(path: &Path) {
    let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Two digits of the name make the folder, so that no folder grows without bound.
pub(super) fn entry(root: &Path, kind: &str, name: &str) -> PathBuf {
    root.join(kind).join(&name[..2]).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key_of;

    fn opened() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path()).expect("a writable folder");
        (folder, store)
    }

    #[test]
    fn what_is_put_is_got() {
        let (_folder, store) = opened();
        let key = key_of("test", &1);
        assert_eq!(store.get(key), None);
        store.put(key, b"value").expect("a writable folder");
        assert_eq!(store.get(key).as_deref(), Some(&b"value"[..]));
        assert_eq!(store.get(key_of("test", &2)), None);
    }

    #[test]
    fn a_flipped_byte_is_never_returned() {
        let (folder, store) = opened();
        let key = key_of("test", &1);
        store.put(key, b"value").expect("a writable folder");
        let content = entry(folder.path(), "contents", &Digest::of(b"value").to_string());
        fs::write(&content, b"valuf").expect("a writable file");
        assert_eq!(store.get(key), None);
    }

    #[test]
    fn no_store_keeps_nothing() {
        let store = Store::none();
        store.put(key_of("test", &1), b"value").expect("nothing to write");
        assert_eq!(store.get(key_of("test", &1)), None);
    }
}
