//! Table of the keys of PEFT's LoraConfig, and the check that no key changes what an adapter computes unnoticed.

use serde_json::{Map, Value};

/// Treatment of a key of adapter_config.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// The reader acts on the key.
    Read,
    /// No value changes what a finished adapter computes.
    Ignored,
    /// Refused unless it is null, false or empty, which all switch the feature off.
    Off,
    /// Refused unless it is null or false: PEFT takes an empty object for a configuration with defaults.
    Absent,
}

/// Every key of LoraConfig in PEFT 0.21.2, as a test compares. Keys of later versions are treated as [`KeyRule::Off`].
pub const KEYS: [(&str, KeyRule); 42] = [
    ("alora_invocation_tokens", KeyRule::Off),
    ("alpha_pattern", KeyRule::Read),
    ("arrow_config", KeyRule::Absent),
    ("auto_mapping", KeyRule::Ignored),
    ("base_model_name_or_path", KeyRule::Read),
    ("bias", KeyRule::Read),
    ("corda_config", KeyRule::Ignored),
    ("ensure_weight_tying", KeyRule::Ignored),
    ("eva_config", KeyRule::Ignored),
    ("exclude_modules", KeyRule::Read),
    // PEFT switches it off for linear modules.
    ("fan_in_fan_out", KeyRule::Ignored),
    ("inference_mode", KeyRule::Ignored),
    ("init_lora_weights", KeyRule::Read),
    ("kasa_config", KeyRule::Absent),
    ("layer_replication", KeyRule::Off),
    ("layers_pattern", KeyRule::Read),
    ("layers_to_transform", KeyRule::Read),
    ("loftq_config", KeyRule::Ignored),
    ("lora_alpha", KeyRule::Read),
    ("lora_bias", KeyRule::Off),
    ("lora_dropout", KeyRule::Read),
    ("lora_ga_config", KeyRule::Ignored),
    ("megatron_config", KeyRule::Off),
    ("megatron_core", KeyRule::Ignored),
    ("modules_to_save", KeyRule::Off),
    ("monteclora_config", KeyRule::Absent),
    ("peft_type", KeyRule::Read),
    ("peft_version", KeyRule::Ignored),
    ("qalora_group_size", KeyRule::Ignored),
    ("r", KeyRule::Read),
    ("rank_pattern", KeyRule::Read),
    ("revision", KeyRule::Read),
    // PEFT ignores it in a file.
    ("runtime_config", KeyRule::Ignored),
    ("target_modules", KeyRule::Read),
    ("target_parameters", KeyRule::Off),
    ("task_type", KeyRule::Ignored),
    ("trainable_token_indices", KeyRule::Off),
    ("use_bdlora", KeyRule::Absent),
    ("use_dora", KeyRule::Off),
    ("use_qalora", KeyRule::Off),
    ("use_rslora", KeyRule::Read),
    ("velora_config", KeyRule::Off),
];

/// Values of `init_lora_weights` that leave the base model as it is, besides null, true and false.
const PLAIN_INITIALIZATIONS: [&str; 4] = ["gaussian", "orthogonal", "eva", "mica"];

/// Checks that every key that is not read is known to change nothing, or is switched off.
///
/// # Errors
/// The first key, by name, whose value is not supported, as a clause that names both.
pub fn check(config: &Map<String, Value>) -> Result<(), String> {
    let mut names: Vec<&String> = config.keys().collect();
    names.sort();
    for name in names {
        let value = &config[name];
        let known = KEYS.iter().find(|(key, _)| key == name);
        let is_off = match known.map_or(KeyRule::Off, |(_, rule)| *rule) {
            KeyRule::Read | KeyRule::Ignored => true,
            KeyRule::Off => is_empty(value),
            KeyRule::Absent => matches!(value, Value::Null | Value::Bool(false)),
        };
        if !is_off {
            let what = if known.is_some() { "which is not supported" } else { "a key that is not known" };
            return Err(format!("{name} is {value}, {what}; only adapters without it can be used"));
        }
    }
    check_bias(config.get("bias"))?;
    check_initialization(config.get("init_lora_weights"))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn check_bias(bias: Option<&Value>) -> Result<(), String> {
    match bias {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(text)) if text == "none" => Ok(()),
        Some(other) => Err(format!("bias is {other}, which is not supported; only \"none\" is")),
    }
}

/// Refuses the initializations that belong to a changed base: PEFT changes the base again whenever it loads such an
/// adapter, by a decomposition that does not always give the same numbers.
fn check_initialization(initialization: Option<&Value>) -> Result<(), String> {
    match initialization {
        None | Some(Value::Null | Value::Bool(_)) => Ok(()),
        Some(Value::String(text)) if PLAIN_INITIALIZATIONS.contains(&text.to_ascii_lowercase().as_str()) => Ok(()),
        Some(other) => Err(format!(
            "init_lora_weights is {other}, which is not supported: such an adapter belongs to a changed base model; PEFT's \
             save_pretrained makes a plain adapter of it with path_initial_model_for_weight_conversion"
        )),
    }
}
