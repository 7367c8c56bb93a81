//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file under a temporary name, until it is complete and renamed into its place.
pub struct Pending {
    file: File,
    temporary: PathBuf,
}

impl Pending {
    /// Opens a file that will stand in `folder`, which is made if it is not there.
    ///
    /// The temporary name carries the process number, so that two processes never share one.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(folder: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let thread = std::thread::current().id();
        let temporary = folder.join(format!(".{name}.{}.{thread:?}.partial", std::process::id()));
        Ok(Self { file: File::create(&temporary)?, temporary })
    }

    /// The open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Syncs the file to disk and renames it to `path`, in the folder that it was created for.
    ///
    /// # Errors
    /// Whatever the file system says; the temporary file is then removed.
    pub fn commit(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, path)?;
        // The rename itself must survive a power cut, and it is an entry of the folder.
        File::open(folder_of(path))?.sync_all()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a commit there is nothing under this name.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The folder that a file stands in; a bare name stands in the current one.
fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().expect("a file stands in a folder");
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Writes a file under a temporary name beside its place, syncs it to disk, and renames it into place.
///
/// # Errors
/// Whatever `fill` or the file system says; the temporary file is removed, the old file (if any) is untouched.
pub fn write_with<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let folder = folder_of(path);
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let mut pending = Pending::create(folder, &name)?;
    fill(pending.file())?;
    Ok(pending.commit(path)?)
}

/// [`write_with`] for bytes at hand.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Whether a file name is one of an unfinished write.
pub fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}
