//! Adapters in a run's folder: PEFT's files, or one file of the program's own for an adapter that PEFT would load as another: one whose
//! base has changed, or one with matrices R between its factors.

use std::fs;
use std::path::Path;

use super::peft::{self, Notes};
use super::{Adapter, AdapterError};

/// File of an adapter with a change of its base.
pub(super) const WITH_CHANGE: &str = "adapter_and_base_change.safetensors";

/// File of an adapter with matrices R.
pub(super) const WITH_CORE: &str = "adapter_with_core.safetensors";

/// Returns the files of an adapter in a run's folder, by name and in the order in which they are written. The last one tells that
/// the others are complete.
pub fn saved_files(adapter: &Adapter, notes: &Notes) -> Vec<(&'static str, Vec<u8>)> {
    match &adapter.base_change {
        Some(_) => vec![(WITH_CHANGE, adapter.to_bytes())],
        None if adapter.layout.has_core => vec![(WITH_CORE, adapter.to_bytes())],
        None => peft::files_of(adapter, notes).to_vec(),
    }
}

/// Writes the files of an adapter into a folder, which is created. Each file appears under its name only when it is complete.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn save(folder: &Path, adapter: &Adapter, notes: &Notes) -> Result<(), AdapterError> {
    fs::create_dir_all(folder).map_err(|source| AdapterError::Io { path: folder.into(), source })?;
    for (name, bytes) in saved_files(adapter, notes) {
        peft::write_whole(folder, name, &bytes)?;
    }
    Ok(())
}

/// Whether a folder holds a complete adapter.
pub fn is_saved(folder: &Path) -> bool {
    [peft::CONFIG, WITH_CHANGE, WITH_CORE].iter().any(|name| folder.join(name).is_file())
}

/// Reads an adapter that a run saved. Its values may be NaN or infinite, if it has diverged.
///
/// # Errors
/// If a file is missing or damaged.
pub fn read_saved(folder: &Path) -> Result<Adapter, AdapterError> {
    let own = [WITH_CHANGE, WITH_CORE].map(|name| folder.join(name)).into_iter().find(|path| path.is_file());
    let Some(path) = own else {
        return Ok(peft::read_recorded(folder)?.adapter);
    };
    peft::check_length(&path)?;
    let bytes = fs::read(&path).map_err(|source| AdapterError::Io { path: path.clone(), source })?;
    let content = |error: AdapterError| AdapterError::content(path.display().to_string(), error.to_string());
    Adapter::from_recorded_bytes(&bytes).map_err(content)
}
