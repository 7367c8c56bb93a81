//! Where the inputs of a scenario lie, and what they hash to.

use std::path::PathBuf;

use super::error::InputError;
use crate::ledger::Input;
use crate::model::hub;
use crate::scenario::Loaded;
use crate::store::Digest;

/// The record of an input, as the manifest lists it.
pub(super) fn input(path: PathBuf, hash: blake3::Hash) -> Input {
    // An absolute path lets `replay` find the input from anywhere.
    let path = std::path::absolute(&path).unwrap_or(path);
    Input { path, hash: Digest(*hash.as_bytes()) }
}

/// The folder of the base model, fetched first if it is the hub's; none where there is but a shape.
pub(super) fn model_folder(loaded: &Loaded) -> Result<Option<PathBuf>, InputError> {
    let model = &loaded.scenario.model;
    match (&model.folder, &model.hub) {
        (Some(folder), _) => Ok(Some(loaded.resolve(folder))),
        (None, Some((repository, revision))) => Ok(Some(hub::fetch(repository, Some(revision))?)),
        (None, None) => Ok(None),
    }
}

/// A scenario that has times and no training.
pub(super) fn only_planned(what: &str) -> InputError {
    InputError::Usage(format!("failed to train: {what}, so the scenario has times only; `fedreplay plan` plays those"))
}
