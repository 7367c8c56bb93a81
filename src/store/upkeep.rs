//! Listing, checking and trimming of a store, while other processes may be using it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::session::{Gate, oldest};
use super::{Digest, Key, Store, StoreError, atomic};

/// Result in a store.
#[derive(Clone, Copy, Debug)]
pub struct StoredResult {
    pub key: Key,
    /// Hash of its content.
    pub content: Digest,
    /// [byte] -- Size of the content, which other results may share.
    pub bytes: u64,
    /// Time at which it was last looked up, read or written.
    pub used: SystemTime,
}

/// Limits of a trim.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trim {
    /// Removes results that were not used for longer than this.
    pub unused_for: Option<Duration>,
    /// [byte] -- Removes the least recently used results until the contents take no more than this.
    pub bytes_most: Option<u64>,
    /// Whether to only count what would be removed.
    pub is_rehearsal: bool,
}

/// Outcome of a trim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Trimmed {
    pub results: u64,
    pub bytes: u64,
    /// Results beyond the limits that were kept because a run needs them or a process is using them.
    pub spared: u64,
}

impl Store {
    /// Returns all results whose contents exist, the least recently used first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn results(&self) -> Result<Vec<StoredResult>, StoreError> {
        let Some(root) = self.root() else { return Ok(vec![]) };
        let mut results = Vec::new();
        for path in entries(root, "results")? {
            results.extend(stored_result(root, &path));
        }
        results.sort_by_key(|result| (result.used, result.key));
        Ok(results)
    }

    /// Reads all files and returns messages about damaged ones: contents that do not match their names, and results
    /// whose contents are missing. Neither are ever used; both are computed again.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        let Some(root) = self.root() else { return Ok(vec![]) };
        let mut found = Vec::new();
        for path in entries(root, "contents")? {
            let Ok(bytes) = fs::read(&path) else { continue };
            if named(&path) != Some(Digest::of(&bytes)) {
                found.push(format!("{}: its hash is {}", within(root, &path), Digest::of(&bytes)));
            }
        }
        for path in entries(root, "results")? {
            let Ok(text) = fs::read_to_string(&path) else {
                found.push(format!("{}: it is not text", within(root, &path)));
                continue;
            };
            match named(&path).map(|key| super::content::content_named(&text, Key(key))) {
                Some(Some(content)) => {
                    let path_of_content = super::content::entry(root, "contents", &content.to_string());
                    // A result that has disappeared since was trimmed together with its content.
                    if !path_of_content.is_file() && path.is_file() {
                        found.push(format!("{}: its content {content} is missing", within(root, &path)));
                    }
                }
                _ => found.push(format!("{}: it names no content of this key", within(root, &path))),
            }
        }
        found.extend(self.unusable_notes()?);
        Ok(found)
    }

    /// Removes results beyond the limits of `trim`, then contents that no result names, and unfinished writes.
    ///
    /// Results for which `is_needed` returns `true` are kept, and so is everything that was used since the oldest
    /// living process opened the store.
    ///
    /// # Errors
    /// If the store cannot be read or written to. The results removed until then were removed completely.
    pub fn trim(&self, trim: &Trim, is_needed: &dyn Fn(&StoredResult) -> bool) -> Result<Trimmed, StoreError> {
        let Some(root) = self.root() else { return Ok(Trimmed::default()) };
        // This process has a session too, so everything that it has used since it opened the store is newer and stays.
        let began = oldest(root).map_err(StoreError::at(root))?.unwrap_or(SystemTime::UNIX_EPOCH);
        let results = self.results()?;
        let mut names = names(&results);
        // Several results may share one content, whose bytes are freed with the last of them.
        let mut left: u64 = names.values().map(|(_, bytes)| bytes).sum();
        let mut trimmed = Trimmed::default();
        for result in &results {
            let age = began.duration_since(result.used).unwrap_or_default();
            let is_old = trim.unused_for.is_some_and(|longest| age > longest);
            if !is_old && trim.bytes_most.is_none_or(|most| left <= most) {
                continue;
            }
            if result.used >= began || is_needed(result) {
                trimmed.spared += 1;
                continue;
            }
            let path = super::content::entry(root, "results", &result.key.to_string());
            if !trim.is_rehearsal && !remove_unused(root, &path, result.used)? {
                trimmed.spared += 1;
                continue;
            }
            trimmed.results += 1;
            let (count, bytes) = names.get_mut(&result.content).expect("every result was counted");
            *count -= 1;
            if *count == 0 {
                left -= *bytes;
                trimmed.bytes += *bytes;
            }
        }
        if !trim.is_rehearsal {
            self.sweep(root, began)?;
        }
        Ok(trimmed)
    }

    /// Removes contents that no result names and unfinished writes, if they are older than `began`.
    fn sweep(&self, root: &Path, began: SystemTime) -> Result<(), StoreError> {
        // Newer ones may belong to a process that is about to write the result or to finish the file.
        let names = names(&self.results()?);
        for path in entries(root, "contents")? {
            let is_named = named(&path).is_some_and(|content| names.contains_key(&content));
            if let Some(written) = used(&path).filter(|&written| !is_named && written < began) {
                remove_unused(root, &path, written)?;
            }
        }
        for kind in ["results", "contents"] {
            for path in files(root, kind)?.into_iter().filter(|path| is_partial(path)) {
                if let Some(written) = used(&path).filter(|&written| written < began) {
                    remove_unused(root, &path, written)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads the result at `path`; `None` if it or its content has disappeared or is damaged.
fn stored_result(root: &Path, path: &Path) -> Option<StoredResult> {
    let key = Key(named(path)?);
    let content = super::content::content_named(&fs::read_to_string(path).ok()?, key)?;
    let bytes = fs::metadata(super::content::entry(root, "contents", &content.to_string())).ok()?.len();
    Some(StoredResult { key, content, bytes, used: used(path)? })
}

/// Returns a path relative to the store's root, for messages.
fn within(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("it was found there").display().to_string()
}

/// Returns for each content the number of results that name it, and its size.
fn names(results: &[StoredResult]) -> BTreeMap<Digest, (u64, u64)> {
    let mut names = BTreeMap::new();
    for result in results {
        names.entry(result.content).or_insert((0, result.bytes)).0 += 1;
    }
    names
}

/// Removes a file that was not used since `known`, and returns whether it was removed.
fn remove_unused(root: &Path, path: &Path, known: SystemTime) -> Result<bool, StoreError> {
    // With the exclusive lock, no other process is between finding an entry and reading it. The time of last use is
    // read again under the lock, since it may have changed after the listing.
    let _gate = Gate::exclusive(root).map_err(StoreError::at(root))?;
    if used(path) != Some(known) {
        return Ok(false);
    }
    fs::remove_file(path).map_err(StoreError::at(path))?;
    Ok(true)
}

fn used(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn named(path: &Path) -> Option<Digest> {
    Digest::from_hex(&path.file_name()?.to_string_lossy())
}

fn is_partial(path: &Path) -> bool {
    path.file_name().is_some_and(|name| atomic::is_partial(&name.to_string_lossy()))
}

/// Returns the finished files of a kind, in the order of their paths.
fn entries(root: &Path, kind: &str) -> Result<Vec<PathBuf>, StoreError> {
    Ok(files(root, kind)?.into_iter().filter(|path| !is_partial(path)).collect())
}

/// Returns all files of a kind, in the order of their paths.
fn files(root: &Path, kind: &str) -> Result<Vec<PathBuf>, StoreError> {
    let folder = root.join(kind);
    let mut found = Vec::new();
    for below in fs::read_dir(&folder).map_err(StoreError::at(&folder))? {
        let below = below.map_err(StoreError::at(&folder))?.path();
        // Files next to the subfolders are not the store's.
        let Ok(files) = fs::read_dir(&below) else { continue };
        for file in files {
            found.push(file.map_err(StoreError::at(&below))?.path());
        }
    }
    found.sort();
    Ok(found)
}
