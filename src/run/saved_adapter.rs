//! Facts about a run's adapters for readers of PEFT's folders: the base model's name, and the dropout of training.

use std::collections::BTreeMap;

use crate::adapter::peft::Notes;
use crate::ledger::Input;
use crate::model::Precision;
use crate::scenario::ScenarioSpec;
use crate::schedule::model_shape;

/// Returns the notes of an exported adapter. The base model is the one of the hub with its revision, or the absolute path of
/// its folder, so that PEFT finds it.
pub fn adapter_notes(scenario: &ScenarioSpec, inputs: &BTreeMap<String, Input>) -> Notes {
    notes(scenario, inputs.get("base_model").map(|input| input.path.display().to_string()))
}

/// Returns the notes of an adapter in a run's folder. Its files are part of the run's record, which names no place of this
/// machine, so a base model in a folder has the folder's name alone.
pub(super) fn saved_notes(scenario: &ScenarioSpec) -> Notes {
    let name = scenario.model.folder.as_ref().and_then(|folder| folder.file_name());
    notes(scenario, name.map(|name| name.to_string_lossy().into_owned()))
}

/// Returns the notes with the name of a base model in a folder; one of the hub has its own.
fn notes(scenario: &ScenarioSpec, folder: Option<String>) -> Notes {
    let dropout = scenario.model.lora.dropout.get();
    if let (None, Some((repository, revision))) = (&scenario.model.folder, &scenario.model.hub) {
        return Notes { base_model: repository.clone(), revision: Some(revision.clone()), dropout };
    }
    Notes { base_model: folder.unwrap_or_default(), revision: None, dropout }
}

/// Returns the number format of a run's base model, if it is quantized.
pub fn quantized_precision(scenario: &ScenarioSpec) -> Option<Precision> {
    Some(model_shape::precision(&scenario.model)).filter(|precision| precision.is_quantised())
}
