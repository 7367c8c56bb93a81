//! The keys of adapter_config.json that decide what an adapter computes, checked and with PEFT's defaults.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::keys;
use super::targets::{Expression, LayerRule, ModuleSet, PatternValues, TargetRules};
use crate::store::parse_json;

/// Modules that PEFT adapts in models of the families Llama, Mistral and Qwen2 if `target_modules` is null.
const DEFAULT_TARGETS: [&str; 2] = ["q_proj", "v_proj"];

/// Values of an adapter's configuration.
#[derive(Debug)]
pub struct PeftConfig {
    /// `r`, of modules that no pattern matches.
    pub rank: usize,
    /// `lora_alpha`, of modules that no pattern matches.
    pub alpha: f64,
    pub rank_stabilized: bool,
    pub dropout: f64,
    pub base_model: String,
    pub revision: Option<String>,
    pub targets: TargetRules,
    pub ranks: PatternValues<usize>,
    pub alphas: PatternValues<f64>,
    /// `rank_pattern` and `alpha_pattern` as they are written, as far as they are not empty.
    pub patterns: String,
}

impl PeftConfig {
    /// Parses the bytes of adapter_config.json.
    ///
    /// # Errors
    /// If they are not the configuration of LoRA, or a key has a value that is malformed or not supported, as a clause
    /// that names the key.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Patterns { rank_pattern, alpha_pattern } = parse_json(bytes).map_err(|e| e.to_string())?;
        let config: Map<String, Value> = parse_json(bytes).map_err(|e| e.to_string())?;
        match config.get("peft_type") {
            Some(Value::String(text)) if text == "LORA" => {}
            Some(other) => return Err(format!("peft_type is {other}, only \"LORA\" is supported")),
            None => return Err("peft_type is missing, only \"LORA\" is supported".into()),
        }
        keys::check(&config)?;
        let mut patterns = Vec::new();
        for name in ["rank_pattern", "alpha_pattern"] {
            if let Some(Value::Object(values)) = config.get(name)
                && !values.is_empty()
            {
                patterns.push(format!("{name} is {}", config[name]));
            }
        }
        Ok(Self {
            rank: value(&config, "r", 8, whole_above_zero)?,
            alpha: value(&config, "lora_alpha", 8.0, above_zero)?,
            rank_stabilized: value(&config, "use_rslora", false, flag)?,
            dropout: value(&config, "lora_dropout", 0.0, Value::as_f64)?,
            base_model: value(&config, "base_model_name_or_path", String::new(), text)?,
            revision: value(&config, "revision", None, |found| text(found).map(Some))?,
            targets: target_rules(&config)?,
            ranks: pattern_values("rank_pattern", rank_pattern, whole_above_zero)?,
            alphas: pattern_values("alpha_pattern", alpha_pattern, Value::as_f64)?,
            patterns: patterns.join(" and "),
        })
    }
}

/// The keys whose entries have an order, which [`Map`] does not keep.
#[derive(Deserialize)]
struct Patterns {
    #[serde(default)]
    rank_pattern: Option<Entries>,
    #[serde(default)]
    alpha_pattern: Option<Entries>,
}

/// Fields of a JSON object in their order.
#[derive(Default)]
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of patterns")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Returns the value of a key, or PEFT's default where it is missing or null.
fn value<T>(
    config: &Map<String, Value>,
    key: &str,
    default: T,
    convert: impl Fn(&Value) -> Option<T>,
) -> Result<T, String> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(found) => convert(found).ok_or_else(|| format!("{key} is {found}, which it cannot be")),
    }
}

fn whole_above_zero(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&number| number > 0).map(|number| number as usize)
}

fn above_zero(value: &Value) -> Option<f64> {
    value.as_f64().filter(|&number| number > 0.0)
}

fn flag(value: &Value) -> Option<bool> {
    value.as_bool()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Reads the keys that select modules.
fn target_rules(config: &Map<String, Value>) -> Result<TargetRules, String> {
    let targets = match config.get("target_modules") {
        None | Some(Value::Null) => ModuleSet::Names(DEFAULT_TARGETS.map(str::to_owned).to_vec()),
        Some(Value::String(text)) if text == "all-linear" => ModuleSet::AllLinear,
        Some(found) => selection("target_modules", found)?,
    };
    let excluded = match config.get("exclude_modules") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(found) => Some(selection("exclude_modules", found)?),
    };
    let layers = layers(config)?;
    if layers.is_some() && !matches!(targets, ModuleSet::Names(_)) {
        return Err("layers_to_transform is given, and target_modules is no list of names, which PEFT refuses".into());
    }
    Ok(TargetRules { targets, excluded, layers })
}

/// Reads a set of modules: a list of names, or one expression.
fn selection(key: &str, found: &Value) -> Result<ModuleSet, String> {
    match found {
        Value::String(text) => Ok(ModuleSet::Expression(Expression::new(text).map_err(|e| format!("{key}: {e}"))?)),
        other => Ok(ModuleSet::Names(texts(key, other)?)),
    }
}

/// Reads a list of texts.
fn texts(key: &str, found: &Value) -> Result<Vec<String>, String> {
    let read: Option<Vec<String>> = found.as_array().and_then(|items| items.iter().map(text).collect());
    read.ok_or_else(|| format!("{key} is {found}, expected a list of names or one text"))
}

/// Reads `layers_to_transform` and `layers_pattern`.
fn layers(config: &Map<String, Value>) -> Result<Option<LayerRule>, String> {
    let indices = match config.get("layers_to_transform") {
        None | Some(Value::Null) => Some(vec![]),
        Some(Value::Array(items)) => items.iter().map(Value::as_u64).collect(),
        Some(one) => one.as_u64().map(|number| vec![number]),
    };
    let Some(indices) = indices else {
        let found = &config["layers_to_transform"];
        return Err(format!("layers_to_transform is {found}, expected a number or a list of numbers"));
    };
    let lists = match config.get("layers_pattern") {
        None | Some(Value::Null) => vec![],
        Some(Value::String(text)) if text.is_empty() => vec![],
        Some(Value::String(text)) => vec![text.clone()],
        Some(found) => texts("layers_pattern", found)?,
    };
    if !lists.is_empty() && config.get("layers_to_transform").is_none_or(Value::is_null) {
        return Err(format!("layers_pattern is {lists:?} without layers_to_transform, which PEFT refuses"));
    }
    if indices.is_empty() {
        return Ok(None);
    }
    Ok(Some(LayerRule::new(indices, &lists).map_err(|error| format!("layers_pattern: {error}"))?))
}

/// Reads the values of `rank_pattern` or `alpha_pattern`.
fn pattern_values<T: Copy>(
    key: &str,
    entries: Option<Entries>,
    convert: impl Fn(&Value) -> Option<T>,
) -> Result<PatternValues<T>, String> {
    let mut values = Vec::new();
    for (pattern, found) in entries.unwrap_or_default().0 {
        let value = convert(&found).ok_or_else(|| format!("{key} has {found} for {pattern:?}, which it cannot be"))?;
        values.push((pattern, value));
    }
    PatternValues::new(values).map_err(|error| format!("{key}: {error}"))
}
