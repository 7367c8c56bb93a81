//! How a model's folder wants its answers drawn.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::GenerationError;

/// What generation_config.json says of candidates; Transformers takes it where a caller says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct FolderSampling {
    /// [1] Smallest probability mass that the candidates keep.
    pub top_p: Option<f64>,
    /// [tokens] Number of likeliest tokens that stay candidates; 0 is all.
    pub top_k: Option<u32>,
}

impl FolderSampling {
    /// Reads a folder's; one without the file says nothing.
    ///
    /// # Errors
    /// If the file is there and is not JSON, or holds a value that cannot be meant.
    pub fn read(folder: &Path) -> Result<Self, GenerationError> {
        let json = json_in(folder, "generation_config.json")?.unwrap_or(Value::Null);
        Self::of(&json).map_err(|reason| {
            let path = folder.join("generation_config.json");
            GenerationError::Configuration { path, reason }
        })
    }

    fn of(json: &Value) -> Result<Self, String> {
        let fault = |name: &str, range: &str| format!("{name} is {}, expected {range}", json[name]);
        let top_p = match &json["top_p"] {
            Value::Null => None,
            value => {
                let mass = value.as_f64().filter(|&mass| mass > 0.0 && mass <= 1.0);
                Some(mass.ok_or_else(|| fault("top_p", "a number above 0 and at most 1"))?)
            }
        };
        let top_k = match &json["top_k"] {
            Value::Null => None,
            value => {
                let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
                Some(count.ok_or_else(|| fault("top_k", "a number of tokens"))?)
            }
        };
        Ok(Self { top_p, top_k })
    }
}

/// A file of a model's folder as JSON; none where it is not there.
///
/// # Errors
/// If it cannot be read or is not JSON.
pub(super) fn json_in(folder: &Path, name: &str) -> Result<Option<Value>, GenerationError> {
    let path = folder.join(name);
    let fail = |reason: String| GenerationError::Configuration { path: path.clone(), reason };
    match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error.to_string())),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| fail(error.to_string())),
    }
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
