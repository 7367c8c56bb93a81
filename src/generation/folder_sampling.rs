//! Sampling defaults of a model's folder.

use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::GenerationError;
use crate::store::{parse_json, read_limited};

/// Sampling defaults from generation_config.json. Transformers uses them unless a caller sets its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FolderSampling {
    /// [1] -- Probability mass of nucleus sampling.
    pub top_p: Option<f64>,
    /// [token] -- Number of most likely tokens that stay candidates. 0 keeps all.
    pub top_k: Option<u32>,
}

impl FolderSampling {
    /// Reads the defaults of a folder. Without the file, there are none.
    ///
    /// # Errors
    /// If the file exists and is not JSON, or has a value out of range.
    pub fn read(folder: &Path) -> Result<Self, GenerationError> {
        let json = json_in(folder, "generation_config.json")?.unwrap_or(Value::Null);
        Self::of(&json).map_err(|reason| {
            let path = folder.join("generation_config.json");
            GenerationError::Configuration { path, reason }
        })
    }

    fn of(json: &Value) -> Result<Self, String> {
        let top_p = match &json["top_p"] {
            Value::Null => None,
            value => match value.as_f64() {
                Some(mass) if mass > 0.0 && mass <= 1.0 => Some(mass),
                _ => return Err(format!("top_p is {value}, expected a number above 0 and at most 1")),
            },
        };
        let top_k = match &json["top_k"] {
            Value::Null => None,
            value => match value.as_u64().map(u32::try_from) {
                Some(Ok(count)) => Some(count),
                _ => return Err(format!("top_k is {value}, expected a number of tokens")),
            },
        };
        Ok(Self { top_p, top_k })
    }
}

/// Reads a file of a model's folder as JSON. `None` if it does not exist.
///
/// # Errors
/// If it cannot be read or is not JSON.
pub(super) fn json_in(folder: &Path, name: &str) -> Result<Option<Value>, GenerationError> {
    let path = folder.join(name);
    let reason = match read_limited(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => error.to_string(),
        Ok(bytes) => match parse_json(&bytes) {
            Ok(json) => return Ok(Some(json)),
            Err(error) => error.to_string(),
        },
    };
    Err(GenerationError::Configuration { path, reason })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_folder_may_say_nothing_and_nothing_that_cannot_be_meant() {
        let said = |json: Value| FolderSampling::of(&json);
        assert_eq!(said(json!({})), Ok(FolderSampling::default()));
        assert_eq!(said(json!({"top_p": 0.9, "top_k": 0})), Ok(FolderSampling { top_p: Some(0.9), top_k: Some(0) }));
        for wrong in [json!({"top_p": 0}), json!({"top_p": 1.5}), json!({"top_p": "x"}), json!({"top_k": -1})] {
            said(wrong).unwrap_err();
        }
        assert_eq!(FolderSampling::read(Path::new("nowhere")).unwrap(), FolderSampling::default());
    }
}
