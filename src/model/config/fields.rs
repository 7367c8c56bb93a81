//! The keys of a config.json with the defaults of their class, and a record of which were read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Architecture;

/// The keys that Transformers knows.
#[derive(Deserialize)]
struct Table {
    /// Keys of every class that do not change what a model computes.
    without_effect: BTreeSet<String>,
    /// Keys of each class with their defaults, by `model_type`.
    classes: BTreeMap<String, Map<String, Value>>,
    /// Keys of other classes that a class does not read, by `model_type`.
    ignored: BTreeMap<String, BTreeSet<String>>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| serde_json::from_str(include_str!("defaults.json")).expect("the table was made by a program"));

/// Keys that Transformers does not read but that are found in published files, and that do not change what a model
/// computes: names, storage, tokens, and settings of other programs.
const KNOWN_ELSEWHERE: [&str; 27] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_from_model_config",
    "attn_implementation",
    "auto_map",
    "bos_token",
    "cache_implementation",
    "eos_token",
    "finetuning_task",
    "gradient_checkpointing",
    "is_llama_config",
    "max_sequence_length",
    "model_max_length",
    "name_or_path",
    "num_labels",
    "pad_token",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_flash_attn",
];

/// The contents of a config.json.
pub struct Fields {
    given: Map<String, Value>,
    defaults: &'static Map<String, Value>,
    /// Keys of other classes that change nothing in this one.
    ignored: &'static BTreeSet<String>,
    read: RefCell<BTreeSet<String>>,
}

impl Fields {
    /// Pairs the keys of a config.json with the defaults of its class.
    pub fn new(given: Map<String, Value>, architecture: Architecture) -> Self {
        let model_type = architecture.model_type();
        let defaults = TABLE.classes.get(model_type).expect("the table has every class");
        let ignored = TABLE.ignored.get(model_type).expect("the table has every class");
        Self { given, defaults, ignored, read: RefCell::default() }
    }

    /// Returns a key that the file has, unless it is null.
    pub fn given(&self, key: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(key.into());
        self.given.get(key).filter(|value| !value.is_null())
    }

    /// Returns a key's value. A key that is left out has its class's default; a null counts as `None`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.read.borrow_mut().insert(key.into());
        let value = self.given.get(key).or_else(|| self.defaults.get(key));
        value.filter(|value| !value.is_null())
    }

    /// Returns a size: an integer of at least 0.
    pub fn size(&self, key: &str) -> Result<usize, String> {
        self.optional_size(key)?.ok_or_else(|| format!("{key} is null, a number is needed"))
    }

    /// Returns a size that may be null.
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, String> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) => Ok(Some(size as usize)),
            None => Err(format!("{key} is {value}, a whole number is needed")),
        }
    }

    /// Returns a number.
    pub fn number(&self, key: &str) -> Result<f64, String> {
        self.optional_number(key)?.ok_or_else(|| format!("{key} is null, a number is needed"))
    }

    /// Returns a number that may be null.
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| format!("{key} is {value}, a number is needed"))
    }

    /// Returns a switch; null is off.
    pub fn flag(&self, key: &str) -> Result<bool, String> {
        let Some(value) = self.value(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| format!("{key} is {value}, true or false is needed"))
    }

    /// Checks that a key whose effect is not supported is off: null, false or 0.
    pub fn require_off(&self, key: &str) -> Result<(), String> {
        match self.value(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(value) if value.as_f64() == Some(0.0) => Ok(()),
            Some(value) => Err(format!("{key} is {value}, only {} is supported", off_like(value))),
        }
    }

    /// Notes that the family's class does not read a key, although other classes do.
    pub fn ignore(&self, key: &str) {
        self.read.borrow_mut().insert(key.into());
    }

    /// Checks that every key that was not read is without effect.
    ///
    /// # Errors
    /// The first other key, in alphabetical order, with its value.
    pub fn check_rest(&self) -> Result<(), String> {
        let read = self.read.borrow();
        if let Some(settings) = self.given.get("quantization_config").filter(|value| !value.is_null()) {
            let method = settings["quant_method"].as_str().unwrap_or("unnamed");
            return Err(format!(
                "quantization_config is set (quant_method {method:?}), only unquantized weights are supported; the \
                 scenario's model.precision rounds them"
            ));
        }
        let mut rest: Vec<(&String, &Value)> = self.given.iter().filter(|(key, _)| !read.contains(*key)).collect();
        rest.sort_by_key(|(key, _)| *key);
        for (key, value) in rest {
            let is_known = TABLE.without_effect.contains(key)
                || self.ignored.contains(key)
                || KNOWN_ELSEWHERE.contains(&key.as_str());
            if !is_known && !is_unset(value) {
                return Err(format!(
                    "{key} is {}, which is not known and may change what the model computes",
                    short(value)
                ));
            }
        }
        Ok(())
    }

    /// Returns the keys of the class that were not read and are not without effect.
    #[cfg(test)]
    pub fn overlooked(&self) -> Vec<String> {
        let read = self.read.borrow();
        let is_overlooked = |key: &&String| !read.contains(*key) && !TABLE.without_effect.contains(*key);
        self.defaults.keys().filter(is_overlooked).cloned().collect()
    }
}

/// Returns whether a class reads a key, or a key decides nothing.
pub fn is_of_class(architecture: Architecture, key: &str) -> bool {
    let read_by_all = ["head_dim", "partial_rotary_factor", "rope_scaling", "torch_dtype"];
    TABLE.classes[architecture.model_type()].contains_key(key)
        || TABLE.without_effect.contains(key)
        || read_by_all.contains(&key)
}

/// Returns whether a value sets nothing.
pub fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

/// Returns how a value of this type is switched off, for messages.
fn off_like(value: &Value) -> &'static str {
    if value.is_number() { "0" } else { "null or false" }
}

/// [character] -- Length at which a value is cut in messages.
const SHORT: usize = 60;

/// Returns the text of a value, cut if it is long.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHORT {
        return text;
    }
    text.chars().take(SHORT).chain("...".chars()).collect()
}
