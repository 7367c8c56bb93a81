//! Reading a config.json.

use std::path::Path;

use serde_json::{Map, Value};

use super::fields::Fields;
use super::{Architecture, Config, families};
use crate::model::{ConfigError, ModelError};
use crate::store::{parse_json, read_limited};

impl Config {
    /// Reads and checks `config.json` in `folder`.
    ///
    /// # Errors
    /// If the file is missing or malformed, names a family that is not supported, or holds a key that may change what the
    /// model computes and is not supported.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let bytes = read_limited(&path).map_err(ModelError::io(&path))?;
        Self::parse(&bytes).map_err(|error| ModelError::Config { path, reason: error.0 })
    }

    /// Parses the text of a config.json.
    ///
    /// # Errors
    /// As [`Self::read`]; the file is not named.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        Self::parsed(json).map_err(ConfigError)
    }

    fn parsed(json: &[u8]) -> Result<Self, String> {
        let given: Map<String, Value> = parse_json(json).map_err(|e| e.to_string())?;
        let architecture = architecture(&given)?;
        let fields = Fields::new(given, architecture);
        let config = families::read(architecture, &fields)?;
        fields.check_rest()?;
        config.check()?;
        Ok(config)
    }
}

/// Returns the family that a file names: by `model_type`, or by the class in files that have none.
fn architecture(given: &Map<String, Value>) -> Result<Architecture, String> {
    let class = given.get("architectures").and_then(|classes| classes.get(0));
    let Some(name) = given.get("model_type").filter(|name| !name.is_null()).or(class) else {
        return Err("model_type is missing".into());
    };
    name.as_str().and_then(Architecture::named).ok_or_else(|| {
        let supported = Architecture::ALL.map(|family| format!("{:?}", family.model_type())).join(", ");
        format!("model_type is {name}, supported are {supported}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::RopeScaling;

    fn parsed(edit: impl Fn(&mut Value)) -> Result<Config, ConfigError> {
        let mut json = Config::llama(100, 32, 64, 2, 4).to_json();
        edit(&mut json);
        Config::parse(json.to_string().as_bytes())
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut config = Config::llama(100, 32, 64, 2, 4);
        config.kv_heads = 2;
        config.tied = true;
        config.rope_scaling = Some(RopeScaling::Linear { factor: 2.0 });
        config.attention_dropout = 0.1;
        assert_eq!(Config::parse(config.to_json().to_string().as_bytes()), Ok(config.clone()));
        config.architecture = Architecture::Qwen2;
        config.qkv_bias = true;
        assert_eq!(Config::parse(config.to_json().to_string().as_bytes()), Ok(config.clone()));
        config.architecture = Architecture::Mistral;
        config.qkv_bias = false;
        config.sliding_window = Some(16);
        assert_eq!(Config::parse(config.to_json().to_string().as_bytes()), Ok(config));
    }

    #[test]
    fn both_spellings_of_rope_are_read() {
        let scaled = json!({"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let config = parsed(|json| json["rope_parameters"] = scaled.clone()).unwrap();
        assert_eq!(config.rope_theta, 5e5);
        assert!(matches!(config.rope_scaling, Some(RopeScaling::Llama3 { factor: 8.0, .. })));
        let config = parsed(|json| json["rope_scaling"] = json!({"type": "linear", "factor": 4.0})).unwrap();
        assert_eq!(config.rope_scaling, Some(RopeScaling::Linear { factor: 4.0 }));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let reason = |edit: &dyn Fn(&mut Value)| parsed(edit).unwrap_err().to_string();
        assert!(reason(&|json| json["model_type"] = "gpt2".into()).contains("\"gpt2\""));
        assert!(reason(&|json| json["hidden_act"] = "gelu".into()).contains("\"gelu\""));
        assert!(reason(&|json| json["rope_scaling"] = json!({"rope_type": "yarn"})).contains("\"yarn\""));
        assert!(reason(&|json| json["num_key_value_heads"] = 3.into()).contains("does not divide"));
        assert!(reason(&|json| json["num_hidden_layers"] = 0.into()).contains("num_hidden_layers"));
        assert!(reason(&|json| json["num_hidden_layers"] = 4_000_000_000u64.into()).contains("at most 10000"));
        assert!(reason(&|json| json["vocab_size"] = (1u64 << 60).into()).contains("at most 268435456"));
        assert_eq!(
            reason(&|json| json["vocab_size"] = "many".into()),
            "vocab_size is \"many\", a whole number is needed"
        );
    }
}
