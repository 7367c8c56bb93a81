//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file under a temporary name beside its place, syncs it to disk, and renames it into place.
///
/// The temporary name carries the process number, so that two processes never share one.
///
/// # Errors
/// Whatever `fill` or the file system says; the temporary file is removed, the old file (if any) is untouched.
pub fn write_with<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let folder = path.parent().expect("a file stands in a folder");
    fs::create_dir_all(folder)?;
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let thread = std::thread::current().id();
    let temporary = folder.join(format!(".{name}.{}.{thread:?}.partial", std::process::id()));
    let result = create(&temporary, fill).and_then(|()| Ok(fs::rename(&temporary, path)?));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
        return result;
    }
    // The rename itself must survive a power cut, and it is an entry of the folder.
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn create<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let mut file = File::create(path)?;
    fill(&mut file)?;
    file.sync_all()?;
    Ok(())
}

/// [`write_with`] for bytes at hand.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Whether a file name is one of an unfinished write.
pub fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}
