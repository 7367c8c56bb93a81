//! Claims: what a process is about to pay for, so that no other living process that uses the store pays for it as well.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::atomic::is_surely_at;
use super::{Key, Store};

/// Folder of the claims' files.
pub(super) const CLAIMS: &str = "claims";

/// Number of attempts to lock the file that is at its path: more than a few mean that the file system cannot tell files apart.
const ATTEMPTS: u32 = 100;

/// The right to obtain the result under a key, until it is dropped. The operating system ends the claims of a process that
/// dies.
#[derive(Debug)]
pub struct Claim {
    /// Absent where nobody else can see a claim: without a store, or on a file system without locks.
    locked: Option<(PathBuf, File)>,
}

/// Answer to a wish for a claim.
#[derive(Debug)]
pub enum Claiming {
    Held(Claim),
    /// Somebody else obtains the result at the moment.
    Elsewhere(Elsewhere),
}

/// Claim of another process, or of another thread.
#[derive(Debug)]
pub struct Elsewhere(File);

impl Elsewhere {
    /// Returns what the holder has left for those who wait, if there is anything yet; see [`Claim::leave`].
    pub fn left(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // The file can be read through this handle after the holder removed it.
        match (&self.0).seek(io::SeekFrom::Start(0)).and_then(|_| (&self.0).read_to_end(&mut bytes)) {
            Ok(_) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

impl Claim {
    /// Leaves bytes for those who wait for this claim at the moment, and for nobody else: what came of it although there is no
    /// result to store.
    pub fn leave(&self, bytes: &[u8]) {
        if let Some((_, file)) = &self.locked {
            // Who does not get it obtains the result itself.
            let _ = (&mut &*file).write_all(bytes);
        }
    }
}

impl Store {
    /// Claims `key`. The holder of a claim looks for the result again, since another may have just stored it.
    ///
    /// # Examples
    ///
    /// ```
    /// use fedreplay::store::{Claiming, Store, key_of};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let (store, key) = (Store::open(folder.path())?, key_of("reply v1", &7));
    /// let held = store.claim(key);
    /// assert!(matches!(held, Claiming::Held(_)));
    /// assert!(matches!(Store::open(folder.path())?.claim(key), Claiming::Elsewhere(_)));
    /// drop(held);
    /// assert!(matches!(store.claim(key), Claiming::Held(_)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim(&self, key: Key) -> Claiming {
        let unseen = Claiming::Held(Claim { locked: None });
        let Some(root) = self.root() else { return unseen };
        let path = root.join(CLAIMS).join(key.to_string());
        for _ in 0..ATTEMPTS {
            let Ok(file) = File::options().read(true).append(true).create(true).open(&path) else { return unseen };
            match file.try_lock() {
                // The holder before may have removed the file after it was opened here.
                Ok(()) if is_surely_at(&file, &path) => {
                    // A holder that was killed may have left something in it.
                    let _ = file.set_len(0);
                    return Claiming::Held(Claim { locked: Some((path, file)) });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Claiming::Elsewhere(Elsewhere(file)),
                Err(TryLockError::Error(_)) => return unseen,
            }
        }
        unseen
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock is released after this, with the file.
        if let Some((path, _)) = &self.locked {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes what dead processes have left.
pub(super) fn sweep(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root.join(CLAIMS))? {
        let path = entry?.path();
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() && is_surely_at(&file, &path) {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key_of;

    #[test]
    fn claims_end_with_their_holder_and_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let files = || fs::read_dir(folder.path().join(CLAIMS)).unwrap().count();
        let held = [1, 2].map(|number| store.claim(key_of("claim", &number)));
        assert!(held.iter().all(|claim| matches!(claim, Claiming::Held(_))));
        assert_eq!(files(), 2);
        drop(held);
        assert_eq!(files(), 0);
        // A process that was killed leaves the file without its lock.
        fs::write(folder.path().join(CLAIMS).join("left"), "").unwrap();
        drop(Store::open(folder.path()).unwrap());
        assert_eq!(files(), 0);
        assert!(matches!(Store::none().claim(key_of("claim", &1)), Claiming::Held(_)));
    }

    #[test]
    fn of_many_threads_one_at_a_time_has_the_claim() {
        let folder = tempfile::tempdir().unwrap();
        let counted = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let store = Store::open(folder.path()).unwrap();
                    let mut turns = 0;
                    while turns < 50 {
                        let Claiming::Held(_claim) = store.claim(key_of("claim", &1)) else { continue };
                        assert_eq!(counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        counted.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        turns += 1;
                    }
                });
            }
        });
    }
}
