//! Hashes of contents in the cache, by which they are named: SHA-256 for large files, git's hash for small ones.
//!
//! Reading all weights of a model takes seconds to minutes, so the size and time of a content that was found whole are noted
//! next to the cache's own folders, or in a folder of the user's if the cache is read-only. A content that has both is not read
//! again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::store::read_text_limited;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Folder of the notes in that of a repository.
const NOTES: &str = "fedreplay-checked";

/// [byte] -- Size of the read buffer.
const BUFFER_BYTES: usize = 1 << 20;

/// Returns whether a text is a hash by which contents are named: 64 hexadecimal digits of SHA-256, or 40 of git.
pub(super) fn is_hash(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Computes the hash of a file's content, of the kind that `id` is.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn hash_like(id: &str, path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if id.len() == 64 {
        return digest(&mut file, Sha256::new());
    }
    // Git hashes a header before the content.
    let length = file.metadata()?.len();
    digest(&mut file, Sha1::new().chain_update(format!("blob {length}\0")))
}

fn digest<D: Digest>(file: &mut File, mut hasher: D) -> io::Result<String> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let bytes = hasher.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Notes on contents of one repository that were found whole.
pub(super) struct Notes {
    /// Folders of notes, each of which may be missing. The first that can be written to gets new ones.
    folders: Vec<PathBuf>,
}

impl Notes {
    /// Creates the notes of the cached repository in the folder `repository`. They are there, or in `own` if the cache cannot be
    /// written to, as one that is shared.
    pub fn new(repository: &Path, own: Option<&Path>) -> Self {
        let mut folders = vec![repository.join(NOTES)];
        if let Some(own) = own {
            // Several caches may hold the repository.
            let place = blake3::hash(repository.as_os_str().as_bytes()).to_hex();
            folders.push(own.join(&place[..16]));
        }
        Self { folders }
    }

    /// Returns whether a content exists and has the hash `id`.
    pub fn is_whole(&self, path: &Path, id: &str) -> bool {
        let Some(state) = state(path) else { return false };
        for folder in &self.folders {
            if read_text_limited(&folder.join(id)).is_ok_and(|noted| noted == state) {
                return true;
            }
        }
        tracing::debug!(path = %path.display(), "hashing");
        let is_whole = hash_like(id, path).is_ok_and(|found| found == id);
        if is_whole {
            self.add(path, id);
        }
        is_whole
    }

    /// Notes that a content was found whole. If no folder can be written to, the content is read again each time.
    pub fn add(&self, path: &Path, id: &str) {
        let Some(state) = state(path) else { return };
        for folder in &self.folders {
            if crate::store::atomic::write(&folder.join(id), state.as_bytes()).is_ok() {
                return;
            }
        }
    }
}

/// Returns what of a file changes when its content is written.
fn state(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    Some(format!("{} {} {} {}\n", found.len(), found.ino(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_of_git() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "hello\n").unwrap();
        // `sha256sum` and `git hash-object` of the same file.
        for id in [
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "ce013625030ba8dba906f756967f9e9ca394464a",
        ] {
            assert_eq!(hash_like(id, &path).unwrap(), id);
            assert!(is_hash(id) && Notes::new(folder.path(), None).is_whole(&path, id));
        }
        assert!(!is_hash("../x") && !is_hash(&"0".repeat(41)) && !is_hash(&"A".repeat(40)));
    }

    const HELLO: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    /// Writes other bytes into a file that looks the same from outside, so that only who reads it sees it.
    fn falsify(path: &Path) {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        fs::write(path, "hellO\n").unwrap();
        File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_note_holds_until_the_file_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let notes = Notes::new(folder.path(), None);
        assert!(!notes.is_whole(&path, HELLO));
        fs::write(&path, "hello\n").unwrap();
        assert!(notes.is_whole(&path, HELLO));
        falsify(&path);
        assert!(notes.is_whole(&path, HELLO), "it was read again");
        fs::write(&path, "hellO\n").unwrap();
        assert!(!notes.is_whole(&path, HELLO));
    }

    #[test]
    fn a_content_of_a_cache_that_cannot_be_written_to_is_read_once() {
        let cache = tempfile::tempdir().unwrap();
        let own = tempfile::tempdir().unwrap();
        let path = cache.path().join("file");
        // A file where the folder would be, since permissions do not stop the superuser.
        fs::write(cache.path().join(NOTES), "").unwrap();
        fs::write(&path, "hello\n").unwrap();
        let notes = || Notes::new(cache.path(), Some(own.path()));
        assert!(notes().is_whole(&path, HELLO));
        falsify(&path);
        assert!(notes().is_whole(&path, HELLO), "it was read again");
        let other = Notes::new(own.path(), Some(own.path()));
        assert!(!other.is_whole(&path, HELLO), "the note is of another cache");
    }
}
