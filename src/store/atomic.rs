//! Atomic writing of files: a file appears complete or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// File under a temporary name, to be renamed to its final name when it is complete.
pub struct Pending {
    file: File,
    temporary: PathBuf,
}

impl Pending {
    /// Creates a temporary file in `folder`, which is created if it does not exist.
    ///
    /// The temporary name contains the numbers of process and thread, so that no two writers share one.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let thread = std::thread::current().id();
        let temporary = folder.join(format!(".{name}.{}.{thread:?}.partial", std::process::id()));
        Ok(Self { file: File::create(&temporary)?, temporary })
    }

    /// Returns the open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Syncs the file to disk and renames it to `path`, in the folder that it was created for.
    ///
    /// # Errors
    /// Any error of the file system. The temporary file is then removed.
    pub fn commit(self, path: &Path) -> io::Result<()> {
        // The content must be on disk before the name is: otherwise a power cut could leave the name without it.
        self.file.sync_all()?;
        fs::rename(&self.temporary, path)?;
        // The rename is a change of the folder, which must be synced to survive a power cut too.
        File::open(folder_of(path))?.sync_all()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a commit there is no file of this name, and the error is expected.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Returns the folder of a file; for a bare name it is the current folder.
pub fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().expect("a file stands in a folder");
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Writes a file under a temporary name in the same folder, syncs it to disk, and renames it to `path`.
///
/// # Errors
/// Any error of `fill` or the file system. The temporary file is removed, and an old file at `path` is left as it is.
pub fn write_with<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let folder = folder_of(path);
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let mut pending = Pending::create(folder, &name)?;
    fill(pending.file())?;
    Ok(pending.commit(path)?)
}

/// Writes `bytes` to a file as [`write_with`] does.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Removes the files and folders `BEFORE` + process number + `AFTER` in a folder whose processes have ended: they were killed.
/// What cannot be removed stays.
pub fn remove_leftovers(folder: &Path, before: &str, after: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        let Some(process) = process.and_then(|number| number.parse::<u32>().ok()) else { continue };
        if Path::new("/proc").join(process.to_string()).exists() {
            continue;
        }
        let _ = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        };
    }
}

/// Returns whether a file name is the temporary name of an unfinished write.
pub fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_processes_that_live_stay() {
        let folder = tempfile::tempdir().unwrap();
        let own = format!(".x.{}.partial", std::process::id());
        // No process has the largest number.
        for name in [own.as_str(), ".x.4294967295.partial", ".x.word.partial", ".y.4294967295.partial"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        remove_leftovers(folder.path(), ".x.", ".partial");
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let mut expected = [own.as_str(), ".x.word.partial", ".y.4294967295.partial"];
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
