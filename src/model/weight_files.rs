//! Which files of a Hugging Face folder hold the weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ModelError;
use crate::store::{parse_json, read_limited};

/// The file that maps tensors to weight files, where there are several.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The weight file where there is no index.
pub(super) const SINGLE_FILE: &str = "model.safetensors";

/// Weights in Python's pickle format, which are not read.
const PICKLES: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Returns the weight files: the single file, or those that the index names.
///
/// # Errors
/// If there are none, if some are missing, or if there are two sets of weights.
pub(super) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index = folder.join(INDEX_FILE);
    let single = folder.join(SINGLE_FILE);
    let has_single = single.exists();
    if !index.exists() {
        return if has_single { Ok(vec![single]) } else { Err(no_weights(folder)) };
    }
    let names = shard_names(&index)?;
    if has_single && names == [SINGLE_FILE] {
        return Ok(vec![single]);
    }
    let (present, absent): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| folder.join(name.as_str()).exists());
    match (has_single, absent.first()) {
        (false, None) => Ok(names.iter().map(|name| folder.join(name)).collect()),
        (false, Some(name)) => Err(ModelError::weights(&index, format!("it names {name}, which is not in the folder"))),
        // An index whose files are gone says nothing.
        (true, Some(_)) if present.is_empty() => Ok(vec![single]),
        (true, _) => Err(ModelError::weights(
            folder,
            format!("it has two sets of weights, {SINGLE_FILE} and the files that {INDEX_FILE} names; remove one"),
        )),
    }
}

/// Returns the error for a folder without weights in safetensors, with a way to make them.
fn no_weights(folder: &Path) -> ModelError {
    let Some(pickle) = PICKLES.into_iter().find(|name| folder.join(name).exists()) else {
        return ModelError::weights(folder, format!("it has neither {SINGLE_FILE} nor {INDEX_FILE}"));
    };
    let reason = format!(
        "{pickle} is a Python pickle, which is not read; write {SINGLE_FILE} with Transformers: \
         AutoModelForCausalLM.from_pretrained(FOLDER, dtype=\"auto\").save_pretrained(FOLDER)"
    );
    ModelError::weights(folder, reason)
}

/// Returns the names of the weight files in an index, sorted. Each is a plain file name.
pub(super) fn shard_names(index: &Path) -> Result<Vec<String>, ModelError> {
    let bytes = read_limited(index).map_err(ModelError::io(index))?;
    let parsed: Index = parse_json(&bytes).map_err(|error| ModelError::weights(index, error.to_string()))?;
    let mut names: Vec<String> = parsed.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    // The index comes from outside: a path in it must not lead out of the folder.
    match names.iter().find(|name| name.contains(['/', '\\'])) {
        Some(name) => Err(ModelError::weights(index, format!("{name:?} is not a plain file name"))),
        None => Ok(names),
    }
}
