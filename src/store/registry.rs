//! Registry of the runs that use a store, whose results must not be trimmed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use super::session::Gate;
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
        let path = entry(root, run);
        // A trim that found the folder without a run must not remove the note that is written here.
        let _gate = Gate::shared(root);
        // An existing entry keeps its date, since all that an unfinished run used after it must be kept.
        if path.is_file() {
            return Ok(());
        }
        atomic::write(&path, name_of(run).as_os_str().as_encoded_bytes()).map_err(StoreError::at(&path))
    }

    /// Returns the folder under which a run is registered, if it is.
    pub fn registered(&self, run: &Path) -> Option<PathBuf> {
        let root = self.root()?;
        entries(root, run).iter().any(|path| path.is_file()).then(|| name_of(run))
    }

    /// Removes a run from the registry, so that its results may be trimmed, unless `is_used` says that it uses the store now.
    /// Nothing happens if another process has removed it.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub fn forget_run(&self, run: &Path, is_used: impl FnOnce(&Path) -> bool) -> Result<(), StoreError> {
        let Some(root) = self.root() else { return Ok(()) };
        let _gate = Gate::exclusive(root).map_err(StoreError::at(root))?;
        if is_used(run) {
            return Ok(());
        }
        for path in entries(root, run) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(StoreError::at(&path))?,
            }
        }
        Ok(())
    }

    /// Returns the runs that use the store, in the order of their folders' names. A file that is no note is named in a warning
    /// and passed over.
    ///
    /// # Errors
    /// If the folder of notes cannot be read, or a note is damaged, since it is then unknown which results are needed.
    pub fn runs(&self) -> Result<Vec<RegisteredRun>, StoreError> {
        let Notes { runs, odd, damaged } = self.notes()?;
        for path in odd {
            tracing::warn!("{}: {ODD}", path.display());
        }
        match damaged.first() {
            Some(path) => Err(StoreError::at(path)(io::Error::other(DAMAGED))),
            None => Ok(runs),
        }
    }

    /// Returns a description of each file among the notes that is none, or is damaged.
    pub(super) fn unusable_notes(&self) -> Result<Vec<String>, StoreError> {
        let Notes { odd, damaged, .. } = self.notes()?;
        let mut found = Vec::new();
        for (paths, reason) in [(odd, ODD), (damaged, DAMAGED)] {
            found.extend(paths.iter().map(|path| format!("{}: {reason}", path.display())));
        }
        Ok(found)
    }

    /// Reads all files among the notes.
    fn notes(&self) -> Result<Notes, StoreError> {
        let mut notes = Notes::default();
        let Some(root) = self.root() else { return Ok(notes) };
        let folder = root.join(RUNS);
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
                Ok(Note::Run(run)) => notes.runs.push(run),
                Ok(Note::Odd) => notes.odd.push(path),
                Ok(Note::Damaged) => notes.damaged.push(path),
            }
        }
        notes.runs.sort_by(|a, b| a.folder.cmp(&b.folder));
        notes.odd.sort();
        notes.damaged.sort();
        Ok(notes)
    }
}

const ODD: &str = "it is no note of a run; remove it if no run is missed";
const DAMAGED: &str = "this note of a run is damaged: remove it if no run is missed";

/// All files among the notes of runs.
#[derive(Default)]
struct Notes {
    runs: Vec<RegisteredRun>,
    odd: Vec<PathBuf>,
    damaged: Vec<PathBuf>,
}

/// One file among the notes of runs.
enum Note {
    Run(RegisteredRun),
    /// It never named a run.
    Odd,
    /// Its name is a hash, and its content has another.
    Damaged,
}

/// Reads a note, whose name is the hash of its content.
fn note(path: &Path, name: &str) -> io::Result<Note> {
    let found = fs::symlink_metadata(path)?;
    // A pipe would never end.
    if !found.is_file() {
        return Ok(Note::Odd);
    }
    let bytes = fs::read(path)?;
    if bytes.is_empty() || Digest::from_hex(name).is_none() {
        return Ok(Note::Odd);
    }
    if Digest::of(&bytes).to_string() != name {
        return Ok(Note::Damaged);
    }
    Ok(Note::Run(RegisteredRun { folder: OsString::from_vec(bytes).into(), since: found.modified()? }))
}

/// Returns the one name that the registry has for a folder: absolute, and without a slash at its end.
fn name_of(run: &Path) -> PathBuf {
    std::path::absolute(run).unwrap_or_else(|_| run.to_owned()).components().collect()
}

fn entry(root: &Path, run: &Path) -> PathBuf {
    note_at(root, &name_of(run))
}

/// Returns the places that a run's note may have. Earlier versions kept a slash at the end of its folder.
fn entries(root: &Path, run: &Path) -> [PathBuf; 2] {
    let mut with_slash = name_of(run).into_os_string();
    with_slash.push("/");
    [entry(root, run), note_at(root, Path::new(&with_slash))]
}

/// Returns the place of a note with this content.
fn note_at(root: &Path, content: &Path) -> PathBuf {
    root.join(RUNS).join(Digest::of(content.as_os_str().as_encoded_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_forgotten_once_by_whoever_is_first_and_not_while_it_uses_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let run = folder.path().join("run/");
        store.register(&run).unwrap();
        assert_eq!(store.registered(&folder.path().join("run")), Some(folder.path().join("run")));
        store.forget_run(&run, |_| true).unwrap();
        assert_eq!(store.runs().unwrap().len(), 1);
        for _ in 0..2 {
            store.forget_run(&run, |_| false).unwrap();
            assert!(store.runs().unwrap().is_empty());
        }
        assert_eq!(store.registered(&run), None);
        // Version 0.1 noted the folder as it was given.
        let bytes = run.as_os_str().as_encoded_bytes();
        fs::write(folder.path().join(RUNS).join(Digest::of(bytes).to_string()), bytes).unwrap();
        assert_eq!(store.registered(&run), Some(folder.path().join("run")));
        store.forget_run(&run, |_| false).unwrap();
        assert!(store.runs().unwrap().is_empty());
    }
}
