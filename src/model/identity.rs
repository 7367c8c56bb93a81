//! The identity of a base model, a hash of the files that determine what it computes.

use std::fs::File;

use super::{Folder, ModelError};

/// Returns BLAKE3 over the names and bytes of config.json and the weight files, in the order of their names.
///
/// # Errors
/// If a file cannot be read.
pub fn content_hash(folder: &Folder) -> Result<blake3::Hash, ModelError> {
    let mut files = folder.files();
    files.sort();
    let mut hasher = blake3::Hasher::new_derive_key("fedreplay base model v1");
    for path in files {
        // The length of a name and the fixed size of a hash delimit the parts, so no two folders share an encoding.
        let mut one = blake3::Hasher::new();
        let file = File::open(&path).map_err(ModelError::io(&path))?;
        one.update_reader(file).map_err(ModelError::io(&path))?;
        let name = path.file_name().expect("a file in a folder has a name").to_string_lossy().into_owned();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update(one.finalize().as_bytes());
    }
    Ok(hasher.finalize())
}
