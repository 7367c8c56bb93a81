//! Cache of the hashes of large files that do not change, in the user's folder of caches.
//!
//! LibTorch's libraries have half a gigabyte, a gigabyte and more with CUDA, and an installed copy has its own times. Without a cache
//! each start of the program would read them. An entry is one small file under the hash of the facts by which it is found; a cache that
//! cannot be read or written is no error, and a damaged entry counts for nothing.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::store::{Digest, atomic, read_text_limited};

/// Folder of hashes of files that were read before. Without a folder, every file is read.
pub struct HashCache {
    folder: Option<PathBuf>,
}

impl HashCache {
    /// Returns the user's cache: `fedreplay/hashes` in `XDG_CACHE_HOME` or else in `~/.cache`. `variable` reads the environment.
    pub fn of_user(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let caches = match absolute(variable("XDG_CACHE_HOME")) {
            Some(caches) => Some(caches),
            None => absolute(variable("HOME")).map(|home| home.join(".cache")),
        };
        Self { folder: caches.map(|caches| caches.join("fedreplay/hashes")) }
    }

    /// Returns the BLAKE3 hash of a file's content, from the cache if the file is as it was. `None` if it cannot be read.
    pub fn hash(&self, path: &Path) -> Option<Digest> {
        let facts = facts(path)?;
        if let Some(known) = self.stored(&facts) {
            return Some(known);
        }
        let hash = Digest::of_file(path).ok()?;
        // A file that was replaced meanwhile is read again at the next start.
        if self::facts(path).as_ref() == Some(&facts) {
            self.store(&facts, hash);
        }
        Some(hash)
    }

    fn entry(&self, facts: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(Digest::of(facts.as_bytes()).to_string()))
    }

    fn stored(&self, facts: &str) -> Option<Digest> {
        let text = read_text_limited(&self.entry(facts)?).ok()?;
        let hash = Digest::from_hex(text.lines().next()?)?;
        (text == written(facts, hash)).then_some(hash)
    }

    fn store(&self, facts: &str, hash: Digest) {
        let Some(entry) = self.entry(facts) else { return };
        if let Err(error) = atomic::write(&entry, written(facts, hash).as_bytes()) {
            tracing::debug!("{}: the hash of a library is not kept: {error}", entry.display());
        }
    }
}

/// Returns a variable's path. By the XDG specification relative ones do not count.
fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Returns the text of an entry: the hash, and a hash of this and the facts, by which damage shows.
fn written(facts: &str, hash: Digest) -> String {
    format!("{hash}\n{}\n", Digest::of(format!("{facts} {hash}").as_bytes()))
}

/// Returns what changes if a file is replaced or written to: path, file system, inode, size, and the times of the last change of its
/// content and of its inode. The latter cannot be set by a program.
fn facts(path: &Path) -> Option<String> {
    let data = fs::metadata(path).ok()?;
    Some(format!(
        "{path:?} {} {} {} {}.{:09} {}.{:09}",
        data.dev(),
        data.ino(),
        data.len(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_in(folder: &Path) -> HashCache {
        let value = folder.as_os_str().to_owned();
        HashCache::of_user(move |name| (name == "XDG_CACHE_HOME").then(|| value.clone()))
    }

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let Ok(found) = fs::read_dir(folder.join("fedreplay/hashes")) else { return vec![] };
        found.map(|entry| entry.expect("a readable folder").path()).collect()
    }

    /// Replaces the hash of an entry by that of `other`, as no damage would, which shows whether it is read.
    fn forge(folder: &Path, file: &Path, other: &[u8]) {
        let facts = facts(file).expect("a file");
        fs::write(&entries(folder)[0], written(&facts, Digest::of(other))).expect("a writable folder");
    }

    #[test]
    fn a_file_is_read_once_and_again_when_it_has_changed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = cache_in(folder.path());
        let file = folder.path().join("library.so");
        fs::write(&file, b"one").expect("a writable folder");
        assert_eq!(cache.hash(&file), Some(Digest::of(b"one")));
        assert_eq!(entries(folder.path()).len(), 1);
        forge(folder.path(), &file, b"from the cache");
        assert_eq!(cache.hash(&file), Some(Digest::of(b"from the cache")), "it is not read a second time");

        let modified = fs::metadata(&file).and_then(|data| data.modified()).expect("a file with a time");
        fs::write(&file, b"two").expect("a writable folder");
        let file_again = fs::File::options().write(true).open(&file).expect("a writable file");
        file_again.set_modified(modified).expect("a time can be set");
        assert_eq!(cache.hash(&file), Some(Digest::of(b"two")), "of the same size, with the old time set again");
        assert_eq!(cache.hash(&folder.path().join("missing.so")), None);
    }

    #[test]
    fn a_damaged_entry_is_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = cache_in(folder.path());
        let file = folder.path().join("library.so");
        fs::write(&file, b"one").expect("a writable folder");
        cache.hash(&file).expect("a readable file");
        let whole = fs::read(&entries(folder.path())[0]).expect("an entry");
        for at in 0..whole.len() {
            for damaged in [&whole[..at], &[&whole[..at], &[whole[at] ^ 1], &whole[at + 1..]].concat()] {
                fs::write(&entries(folder.path())[0], damaged).expect("a writable folder");
                assert_eq!(cache.hash(&file), Some(Digest::of(b"one")), "damaged at byte {at}");
                assert_eq!(fs::read(&entries(folder.path())[0]).expect("an entry"), whole, "written again");
            }
        }
    }

    #[test]
    fn without_a_folder_that_can_be_written_to_files_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("library.so");
        fs::write(&file, b"one").expect("a writable folder");
        // A file stands where the folder would be made; permissions do not stop root.
        for cache in [HashCache::of_user(|_| None), cache_in(&file), HashCache::of_user(|_| Some("relative".into()))] {
            assert_eq!(cache.hash(&file), Some(Digest::of(b"one")));
        }
        assert!(!Path::new("relative").exists());
    }

    #[test]
    fn the_folder_is_that_of_the_xdg_specification() {
        let of = |cache: &str, home: &str| {
            let read = |name: &str| Some(OsString::from(if name == "HOME" { home } else { cache }));
            HashCache::of_user(read).folder
        };
        assert_eq!(of("/c", "/h"), Some("/c/fedreplay/hashes".into()));
        assert_eq!(of("", "/h"), Some("/h/.cache/fedreplay/hashes".into()));
        assert_eq!(of("", ""), None);
    }
}
