//! Paths and hashes of a scenario's inputs.

use std::path::PathBuf;

use super::error::InputError;
use crate::ledger::Input;
use crate::model::hub;
use crate::scenario::Scenario;
use crate::store::Digest;

/// Returns an input with its absolute path, as the manifest lists it.
pub(super) fn input(path: PathBuf, hash: blake3::Hash) -> Input {
    // An absolute path lets `replay` find the input from anywhere.
    let path = std::path::absolute(&path).unwrap_or(path);
    Input { path, hash: Digest::from(hash) }
}

/// Returns the folder of the base model, which is fetched first if it is on the hub; `None` if only its shape is given.
pub(super) fn model_folder(scenario: &Scenario) -> Result<Option<PathBuf>, InputError> {
    let model = &scenario.scenario.model;
    match (&model.folder, &model.hub) {
        (Some(folder), _) => Ok(Some(scenario.resolve(folder))),
        (None, Some((repository, revision))) => Ok(Some(hub::fetch(repository, Some(revision))?)),
        (None, None) => Ok(None),
    }
}

/// Returns the error of a scenario that can be planned and not trained.
pub(super) fn only_planned(what: &str) -> InputError {
    InputError::Usage(format!("failed to train: {what}, so the scenario has times only; `fedreplay plan` plays those"))
}
