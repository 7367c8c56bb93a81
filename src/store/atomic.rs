//! Atomic writing of files and folders: they appear complete or not at all.
//!
//! Until it is complete, a file or folder has a temporary name, `.NAME.PROCESS-NUMBER.partial`, and is locked by its writer. The
//! operating system releases the lock of a process that dies, and the next writer of the same name removes what is not locked. A
//! process that ends without its destructors removes its own by [`abandon`].

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file_name::{NAME_BYTES_MAX, beginning};

/// Number of attempts to lock the file that is at its path: more than a few mean that the file system cannot tell files apart.
const ATTEMPTS: u32 = 100;

/// End of temporary names.
const PARTIAL: &str = ".partial";

/// [byte] -- Part of a temporary name that is neither the final name nor [`PARTIAL`]: three characters between the parts, and the
/// decimal digits of the process and of the number.
const NUMBERS_BYTES_MAX: usize = 3 + 10 + 20;

/// All files and folders of this process that are not complete. A rename happens under the lock.
static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Temporary name of this process, which ends with its owner.
struct Temporary {
    path: PathBuf,
    /// Holds the lock that shows others that the writer lives.
    lock: File,
}

impl Temporary {
    /// Creates a file or folder under a temporary name with `make`, and locks it.
    fn create(folder: &Path, name: &str, make: fn(&Path) -> io::Result<File>) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = part_of(name);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".{name}.{}-{number}{PARTIAL}", std::process::id()));
            let mut open = open_names();
            let lock = match make(&path) {
                // Of a process with the same number, on another machine or before this one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                // A folder looked left over before it was open, and was removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts <= ATTEMPTS => continue,
                made => made?,
            };
            match lock.try_lock() {
                // Until it was locked it looked left over, and may have been removed. On a file system without locks, nobody
                // removes anything.
                Ok(()) | Err(TryLockError::Error(_)) if is_surely_at(&lock, &path) || attempts > ATTEMPTS => {
                    open.insert(path.clone());
                    return Ok(Self { path, lock });
                }
                _ => {}
            }
        }
    }

    /// Gives it its final name.
    fn rename(&self, path: &Path) -> io::Result<()> {
        let mut open = open_names();
        fs::rename(&self.path, path)?;
        open.remove(&self.path);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing of this name.
        if open_names().remove(&self.path) {
            remove(&self.path);
        }
    }
}

/// File under a temporary name, to be renamed to its final name when it is complete.
pub struct Pending(Temporary);

impl Pending {
    /// Creates a temporary file in `folder`, which is created if it does not exist, and removes what killed processes left of the
    /// same name.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        remove_leftovers(folder, &format!(".{}.", part_of(name)), PARTIAL);
        Self::stage(folder, name)
    }

    /// Creates a temporary file in a folder of temporary files that exists, and removes nothing.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn stage(folder: &Path, name: &str) -> io::Result<Self> {
        Ok(Self(Temporary::create(folder, name, |path| File::options().write(true).create_new(true).open(path))?))
    }

    /// Creates a temporary file for a path, as [`Self::create`] does.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn for_path(path: &Path) -> io::Result<Self> {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        Self::create(folder_of(path), &name)
    }

    /// Returns the open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0.lock
    }

    /// Returns the path of the temporary file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Syncs the file to disk and renames it to `path`, on the same file system.
    ///
    /// # Errors
    /// Any error of the file system. The temporary file is then removed.
    pub fn commit(self, path: &Path) -> io::Result<()> {
        // The content must be on disk before the name is: otherwise a power cut could leave the name without it.
        self.0.lock.sync_all()?;
        self.0.rename(path)?;
        // The rename is a change of the folder, which must be synced to survive a power cut too.
        File::open(folder_of(path))?.sync_all()
    }
}

/// Folder under a temporary name, which is renamed to its final name when it is complete, or removed with all that is in it when it
/// is dropped.
pub struct PendingFolder(Temporary);

impl PendingFolder {
    /// Creates a temporary folder in `folder`, which is created if it does not exist, and removes what killed processes left of the
    /// same name.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        remove_leftovers(folder, &format!(".{}.", part_of(name)), PARTIAL);
        Ok(Self(Temporary::create(folder, name, |path| {
            fs::create_dir(path)?;
            File::open(path)
        })?))
    }

    /// Returns the path under its temporary name.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Renames `inside`, which is in the folder, to `path` on the same file system. Once [`abandon`] has begun, it waits for the end
    /// of the process: what is being removed gets no final name.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn release(&self, inside: &Path, path: &Path) -> io::Result<()> {
        let _open = open_names();
        fs::rename(inside, path)
    }

    /// Renames the folder to `path`, on the same file system, where nothing or an empty folder must be.
    ///
    /// # Errors
    /// Any error of the file system. The temporary folder is then removed.
    pub fn commit(self, path: &Path) -> io::Result<()> {
        self.0.rename(path)
    }
}

/// Removes all files and folders of this process that are not complete. Nothing can be created or completed by it from then on:
/// threads that try wait until the process ends.
pub fn abandon() {
    let open = open_names();
    for path in open.iter() {
        remove(path);
    }
    std::mem::forget(open);
}

fn open_names() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes a file or folder. What cannot be removed stays.
fn remove(path: &Path) {
    if path.is_dir() {
        // Another thread may be writing into it, so that it is not empty at the first attempt.
        let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_dir_all(path));
    } else {
        let _ = fs::remove_file(path);
    }
}

/// Commits files that belong together to their paths. The old ones but the first are removed before, so that a process that is
/// killed in between leaves some of the files, and never new ones next to old ones.
///
/// # Errors
/// Any error of the file system.
pub fn commit_together(files: impl IntoIterator<Item = (Pending, PathBuf)>) -> io::Result<()> {
    let files: Vec<_> = files.into_iter().collect();
    for (_, path) in files.iter().skip(1) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for (file, path) in files {
        file.commit(&path)?;
    }
    Ok(())
}

/// Returns the part of a final name that a temporary one contains.
fn part_of(name: &str) -> &str {
    beginning(name, NAME_BYTES_MAX - NUMBERS_BYTES_MAX - PARTIAL.len())
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
    let mut pending = Pending::for_path(path)?;
    fill(pending.file())?;
    Ok(pending.commit(path)?)
}

/// Writes `bytes` to a file as [`write_with`] does.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Removes what killed writers of a file or folder at `path` left next to it.
pub fn remove_leftovers_of(path: &Path) {
    if let Some(name) = path.file_name() {
        remove_leftovers(folder_of(path), &format!(".{}.", part_of(&name.to_string_lossy())), PARTIAL);
    }
}

/// Removes the files and folders `BEFORE` + number of a process + `AFTER` in a folder that no living process holds locked: their
/// writers were killed. What cannot be removed stays.
pub fn remove_leftovers(folder: &Path, before: &str, after: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        if process.is_some_and(is_process) && entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir()) {
            remove_if_left(&entry.path());
        }
    }
}

/// Removes all temporary files and folders in a folder that no living process holds locked.
pub fn remove_all_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_own = entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir());
        if is_own && is_partial(&entry.file_name().to_string_lossy()) {
            remove_if_left(&entry.path());
        }
    }
}

/// Returns whether the middle of a temporary name is that of a process: its number, and what tells its files apart. Version 0.1
/// wrote `7.ThreadId(2)`.
fn is_process(text: &str) -> bool {
    let after = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let thread = after.strip_prefix(".ThreadId(").and_then(|rest| rest.strip_suffix(')'));
    let number = thread.or(after.strip_prefix('-')).unwrap_or(after);
    after.len() < text.len() && number.chars().all(|digit| digit.is_ascii_digit())
}

/// Removes a file or folder that its writer does not hold locked.
pub fn remove_if_left(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    if file.try_lock().is_ok() && is_surely_at(&file, path) {
        remove(path);
    }
}

/// Returns whether an open file or folder is the one at the path. It is not if there is none.
///
/// # Errors
/// Any other error of the file system.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((open.dev(), open.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether an open file or folder is known to be the one at the path.
pub(super) fn is_surely_at(file: &File, path: &Path) -> bool {
    is_at(file, path).unwrap_or(false)
}

/// Returns whether a file name is the temporary name of an unfinished write.
pub fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn folders_that_are_made_at_once_do_not_take_each_other_for_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let pending = PendingFolder::create(folder.path(), "x").unwrap();
                        fs::write(pending.path().join("page"), "text").unwrap();
                    }
                });
            }
        });
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn nothing_gets_its_name_while_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let pending = PendingFolder::create(folder.path(), "x").unwrap();
        let (made, target) = (pending.path().join("made"), folder.path().join("x"));
        fs::create_dir(&made).unwrap();
        // As `abandon` holds it.
        let open = open_names();
        std::thread::scope(|scope| {
            let releasing = scope.spawn(|| pending.release(&made, &target));
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!target.exists());
            drop(open);
            releasing.join().unwrap().unwrap();
        });
        assert!(target.is_dir() && !made.exists());
    }

    #[test]
    fn files_and_folders_with_the_longest_names_are_written() {
        let folder = tempfile::tempdir().unwrap();
        // The last name has two bytes per character, the middle of which is where it is cut.
        for name in ["x".repeat(255), format!("x{}", "\u{e9}".repeat(127))] {
            let path = folder.path().join(&name);
            write(&path, b"page").unwrap();
            write(&path, b"next page").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"next page");
            fs::remove_file(&path).unwrap();
            let pending = PendingFolder::create(folder.path(), &name).unwrap();
            let left = pending.path().with_file_name(format!(".{}.4294967295.partial", part_of(&name)));
            fs::create_dir(&left).unwrap();
            pending.commit(&path).unwrap();
            drop(PendingFolder::create(folder.path(), &name).unwrap());
            assert_eq!(names(folder.path()), [name]);
            fs::remove_dir(&path).unwrap();
        }
    }

    #[test]
    fn leftovers_are_removed_by_the_next_writer_of_the_name_and_those_of_living_writers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let living = Pending::create(folder.path(), "x").unwrap();
        let left = [".x.4294967295.partial", ".x.7-3.partial", ".x.7.ThreadId(2).partial"];
        let others = [".x.word.partial", ".x..partial", ".y.7-3.partial", ".x.7-3"];
        for name in left.iter().chain(&others) {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let own = |pending: &Path| pending.file_name().unwrap().to_string_lossy().into_owned();
        let next = PendingFolder::create(folder.path(), "x").unwrap();
        let mut expected: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        expected.extend([own(living.path()), own(next.path())]);
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        next.commit(&folder.path().join("whole")).unwrap();
        drop(living);
        remove_all_leftovers(folder.path());
        assert_eq!(names(folder.path()), [".x.7-3", "whole"]);
    }
}
