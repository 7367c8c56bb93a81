//! Sessions of processes that use a store, so that trimming removes nothing that another process relies on.
//!
//! A process that opens a store holds a locked file in `sessions/` for as long as it lives. Trimming keeps everything
//! that was used since the oldest session began. The time of a use is the modification time of the entry, on the
//! store's own file system, so no two clocks are compared.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Folder of the sessions' files.
pub(super) const SESSIONS: &str = "sessions";

/// Use of a store by this process, from opening it until it is dropped.
#[derive(Debug)]
pub(super) struct Session {
    path: PathBuf,
    _file: File,
}

impl Session {
    /// Begins a session.
    pub fn begin(root: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // Until it is locked, the file looks like that of a dead process; the gate keeps others from looking.
        let _gate = Gate::shared(root);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(SESSIONS).join(format!("{}-{number}", std::process::id()));
        let file = File::create(&path)?;
        file.lock()?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the files of dead processes, unless another process is using the store at this moment.
pub(super) fn sweep(root: &Path) {
    let Ok(gate) = File::open(gate(root)) else { return };
    if gate.try_lock().is_err() {
        return;
    }
    for entry in fs::read_dir(root.join(SESSIONS)).into_iter().flatten().flatten() {
        let Ok(file) = File::open(entry.path()) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the time at which the oldest session of a living process began, and removes the files of dead processes.
pub(super) fn oldest(root: &Path) -> io::Result<Option<SystemTime>> {
    let _gate = Gate::exclusive(root)?;
    let mut oldest = None;
    for entry in fs::read_dir(root.join(SESSIONS))? {
        let path = entry?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            // The session ended after the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // The operating system releases the lock of a process that dies, so a file without a lock is left over.
        match file.try_lock() {
            Ok(()) => fs::remove_file(&path)?,
            Err(TryLockError::WouldBlock) => {
                let began = file.metadata()?.modified()?;
                oldest = Some(oldest.map_or(began, |before: SystemTime| before.min(began)));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(oldest)
}

/// Lock on a store, shared by readers and writers and exclusive for removals. It is released when dropped.
pub(super) struct Gate {
    _file: File,
}

impl Gate {
    /// Acquires the lock together with other readers and writers.
    ///
    /// `None` if the file system has no locks. Nothing can be removed there either, so no lock is needed.
    pub fn shared(root: &Path) -> Option<Self> {
        let file = File::open(gate(root)).ok()?;
        file.lock_shared().ok()?;
        Some(Self { _file: file })
    }

    /// Acquires the lock alone.
    pub fn exclusive(root: &Path) -> io::Result<Self> {
        let file = File::open(gate(root))?;
        file.lock()?;
        Ok(Self { _file: file })
    }

    /// Creates the lock file of a new store.
    pub fn make(root: &Path) -> io::Result<()> {
        // Opening for append leaves an existing file as it is.
        File::options().append(true).create(true).open(gate(root)).map(|_| ())
    }
}

fn gate(root: &Path) -> PathBuf {
    root.join("gate")
}
