//! The store's files: `results/KEY` contains the hash of a content and the key again, and `contents/HASH` contains the bytes.
//!
//! A result that was put in the place of another one has the wrong key and is not used. Stores of version 0.1 have results
//! without a key, which are read as they are.
//!
//! Contents are named by their hashes. They are therefore verified whenever they are read, equal contents are stored
//! once, and any number of processes may share one store: two writers of one name write the same bytes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{fs, io};

use super::claim::{self, CLAIMS};
use super::session::{self, Gate, SESSIONS, Session};
use super::{Digest, Key, atomic};

/// Folder of files that are being written.
const PARTIAL: &str = "partial";

/// Error in accessing a store.
#[derive(Debug, thiserror::Error)]
#[error("failed to use the store at {path}: {source}")]
pub struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    /// Returns a conversion of file system errors at `path`, for `map_err`.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

/// Store of results in a folder, or a disabled store that never has anything.
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
    /// Marks the store as in use for processes that trim it.
    _session: Option<Arc<Session>>,
}

impl Store {
    /// Opens the store in the folder `root`, and creates it if it does not exist.
    ///
    /// # Errors
    /// If a folder or file of the store cannot be created.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for folder in ["results", "contents", "runs", SESSIONS, CLAIMS, PARTIAL] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(|source| StoreError { path, source })?;
        }
        Gate::make(root).map_err(StoreError::at(root))?;
        claim::sweep(root).map_err(StoreError::at(root))?;
        session::sweep(root);
        for folder in [PARTIAL, "runs"] {
            atomic::remove_all_leftovers(&root.join(folder));
        }
        let session = Session::begin(root).map_err(StoreError::at(root))?;
        Ok(Self { root: Some(root.to_owned()), _session: Some(Arc::new(session)) })
    }

    /// Opens a store that exists already.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn open_existing(root: &Path) -> Result<Self, StoreError> {
        let results = root.join("results");
        fs::read_dir(&results).map_err(StoreError::at(&results))?;
        Self::open(root)
    }

    pub(super) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Returns a disabled store, in which nothing is found and nothing is stored.
    pub fn none() -> Self {
        Self { root: None, _session: None }
    }

    /// Returns whether the store is enabled.
    pub fn is_there(&self) -> bool {
        self.root.is_some()
    }

    /// Returns the bytes under `key`, or `None` if there are none or they are damaged.
    pub fn get(&self, key: Key) -> Option<Vec<u8>> {
        let root = self.root.as_ref()?;
        // While the gate is held, no other process removes the content between finding its hash and reading it.
        let _gate = Gate::shared(root);
        let path = entry(root, "results", &key.to_string());
        let named = fs::read_to_string(&path).ok()?;
        touch(&path);
        let Some(hash) = content_named(&named, key) else {
            tracing::warn!(path = %path.display(), "a stored result belongs to another key and will be computed again");
            return None;
        };
        let path = entry(root, "contents", &hash.to_string());
        let bytes = fs::read(&path).ok()?;
        if Digest::of(&bytes) != hash {
            tracing::warn!(path = %path.display(), "a stored result is damaged and will be computed again");
            return None;
        }
        Some(bytes)
    }

    /// Returns whether there is an entry under `key`. [`Self::get`] may still find it damaged.
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

    /// Removes the entry under `key`, so that it is computed again.
    pub fn forget(&self, key: Key) {
        if let Some(root) = &self.root {
            let _ = fs::remove_file(entry(root, "results", &key.to_string()));
        }
    }

    /// Stores `bytes` under `key`. When it returns, they survive a crash.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn put(&self, key: Key, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(root) = &self.root else { return Ok(()) };
        let hash = Digest::of(bytes).to_string();
        // Between the two writes the content has no result and looks like garbage; the gate keeps it from being
        // removed.
        let _gate = Gate::shared(root);
        // Content first: a result must never name a content that is not there.
        write(root, &entry(root, "contents", &hash), bytes)?;
        write(root, &entry(root, "results", &key.to_string()), format!("{hash} {key}\n").as_bytes())
    }
}

/// Returns the hash of the content that the text of a result names, if the result is that of `key`.
pub(super) fn content_named(text: &str, key: Key) -> Option<Digest> {
    let mut words = text.split_whitespace();
    let content = Digest::from_hex(words.next()?)?;
    match (words.next(), words.next()) {
        (None, _) => Some(content),
        (Some(own), None) => (Digest::from_hex(own)? == key.0).then_some(content),
        (Some(_), Some(_)) => None,
    }
}

/// Writes a file that appears whole. Until then it is in the folder of partial files, which the next process to open the store
/// clears of what killed ones left.
fn write(root: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut pending = atomic::Pending::stage(&root.join(PARTIAL), "entry").map_err(StoreError::at(path))?;
    pending.file().write_all(bytes).map_err(StoreError::at(path))?;
    fs::create_dir_all(atomic::folder_of(path)).map_err(StoreError::at(path))?;
    pending.commit(path).map_err(StoreError::at(path))
}

/// Records the use of an entry in its modification time, if the file may be changed.
fn touch(path: &Path) {
    let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Returns the path of an entry. Its first two digits name a subfolder, so that no folder grows without bound.
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
    fn a_result_in_the_place_of_another_is_not_used() {
        let (folder, store) = opened();
        let keys = [key_of("test", &1), key_of("test", &2)];
        let paths = keys.map(|key| entry(folder.path(), "results", &key.to_string()));
        store.put(keys[0], b"one").expect("a writable folder");
        store.put(keys[1], b"two").expect("a writable folder");
        assert_eq!(store.check().expect("a readable store"), Vec::<String>::new());
        fs::copy(&paths[0], &paths[1]).expect("a writable folder");
        assert_eq!(store.get(keys[0]).as_deref(), Some(&b"one"[..]));
        assert_eq!(store.get(keys[1]), None);
        let found = store.check().expect("a readable store");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(&keys[1].to_string()), "{found:?}");
        // As version 0.1 wrote it.
        fs::write(&paths[1], Digest::of(b"two").to_string()).expect("a writable folder");
        assert_eq!(store.get(keys[1]).as_deref(), Some(&b"two"[..]));
        assert_eq!(store.check().expect("a readable store"), Vec::<String>::new());
    }

    #[test]
    fn what_killed_processes_left_is_removed_by_the_next_that_opens_the_store() {
        let (folder, store) = opened();
        drop(store);
        // No process has the largest number.
        let left =
            ["sessions/4294967295-0", "claims/left", "partial/.entry.4294967295-0.partial", "runs/.x.1-0.partial"];
        for name in left {
            fs::write(folder.path().join(name), "half").expect("a writable folder");
        }
        let store = Store::open(folder.path()).expect("a writable folder");
        assert!(left.iter().all(|name| !folder.path().join(name).exists()));
        drop(store);
    }

    #[test]
    fn no_store_keeps_nothing() {
        let store = Store::none();
        store.put(key_of("test", &1), b"value").expect("nothing to write");
        assert_eq!(store.get(key_of("test", &1)), None);
    }
}
