//! The identity of a base model: the bytes of the files that decide what it computes.

use std::fs::File;

use super::{Folder, ModelError};

/// BLAKE3 over the names and bytes of config.json and the weight files, in the order of their names.
///
/// # Errors
/// If a file cannot be read.
pub fn content_hash(folder: &Folder) -> Result<blake3::Hash, ModelError> {
    let mut files = folder.files();
    files.sort();
    let mut hasher = blake3::Hasher::new_derive_key("fedreplay base model v1");
    for path in files {
        let mut one = blake3::Hasher::new();
        let file = File::open(&path).map_err(|source| ModelError::Io { path: path.clone(), source })?;
        one.update_reader(file).map_err(|source| ModelError::Io { path: path.clone(), source })?;
        let name = path.file_name().expect("a file in a folder has a name").to_string_lossy().into_owned();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update(one.finalize().as_bytes());
    }
    Ok(hasher.finalize())
}
