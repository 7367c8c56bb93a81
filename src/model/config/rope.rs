//! The rotary embedding in a config.json: its base and its scaling, in the places of Transformers 4 and 5.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{Fields, short};

/// The scaling of RoPE for positions beyond those of pretraining.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// Positions are divided by `factor`.
    Linear {
        /// Above 0.
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones are unchanged, with a ramp in between.
    Llama3 {
        /// Above 0.
        factor: f64,
        /// Wavelengths above `original_positions / low_freq_factor` are scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original_positions / high_freq_factor` are unchanged.
        high_freq_factor: f64,
        /// Number of positions in pretraining.
        original_positions: f64,
    },
}

/// Base and scaling of a rotary embedding.
pub struct RopeFields {
    /// Base of the frequencies.
    pub theta: f64,
    /// Scaling, if any.
    pub scaling: Option<RopeScaling>,
    /// Part of a head that is rotated, from its first element on.
    pub rotated_part: f64,
}

/// Keys of the parameters that are read, or that other types of RoPE read.
const PARAMETERS: [&str; 8] = [
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "type",
];

/// Reads the rotary embedding as Transformers 5 does: `rope_scaling` replaces `rope_parameters` as a whole, and
/// `rope_theta` at the top level counts where the chosen one has none.
pub fn read(fields: &Fields) -> Result<RopeFields, String> {
    let scaling = parameters(fields.given("rope_scaling"), "rope_scaling")?;
    let parameters = parameters(fields.given("rope_parameters"), "rope_parameters")?;
    let chosen = if scaling.is_empty() { parameters } else { scaling };
    of_parameters(fields, &chosen, "rope_theta")
}

/// Returns the parameters in a field, none if it is left out.
pub fn parameters(value: Option<&Value>, name: &str) -> Result<Map<String, Value>, String> {
    match value {
        None => Ok(Map::new()),
        Some(Value::Object(parameters)) => Ok(parameters.clone()),
        Some(other) => Err(format!("{name} is {}, an object is needed", short(other))),
    }
}

/// Reads one set of parameters, whose base is otherwise the key `theta` of the top level.
pub fn of_parameters(fields: &Fields, parameters: &Map<String, Value>, theta: &str) -> Result<RopeFields, String> {
    let set = parameters.iter().filter(|(_, value)| !value.is_null());
    if let Some((key, value)) = set.clone().find(|(key, _)| !PARAMETERS.contains(&key.as_str())) {
        return Err(format!("the rotary embedding's {key} is {}, which is not supported", short(value)));
    }
    let get = |key: &str| parameters.get(key).filter(|value| !value.is_null());
    let top_theta = fields.number(theta)?;
    let theta = match get("rope_theta") {
        Some(value) => value.as_f64().ok_or_else(|| format!("rope_theta is {value}, a number is needed"))?,
        None => top_theta,
    };
    let top_part = fields.optional_number("partial_rotary_factor")?;
    let rotated_part = get("partial_rotary_factor").and_then(Value::as_f64).or(top_part).unwrap_or(1.0);
    let kind = get("rope_type").or(get("type")).map_or(Some("default"), Value::as_str);
    let top_original = fields.optional_number("original_max_position_embeddings")?;
    let scaling = match kind {
        // Dynamic scaling changes nothing up to `max_position_embeddings`, and longer sequences are refused.
        Some("default" | "dynamic") => None,
        Some("linear") => Some(RopeScaling::Linear { factor: positive(parameters, "linear", "factor")? }),
        Some("llama3") => Some(RopeScaling::Llama3 {
            factor: positive(parameters, "llama3", "factor")?,
            low_freq_factor: positive(parameters, "llama3", "low_freq_factor")?,
            high_freq_factor: positive(parameters, "llama3", "high_freq_factor")?,
            // The key at the top level wins over the one inside.
            original_positions: match (top_original, get("original_max_position_embeddings")) {
                (Some(original), _) => original,
                (None, Some(_)) => positive(parameters, "llama3", "original_max_position_embeddings")?,
                (None, None) => fields.size("max_position_embeddings")? as f64,
            },
        }),
        _ => {
            let kind = get("rope_type").or(get("type")).expect("a missing type is \"default\"");
            return Err(format!(
                "rope type is {kind}, supported are \"default\", \"linear\", \"dynamic\" and \"llama3\""
            ));
        }
    };
    Ok(RopeFields { theta, scaling, rotated_part })
}

/// Returns a parameter of RoPE scaling, which must be a number above 0.
fn positive(parameters: &Map<String, Value>, kind: &str, name: &str) -> Result<f64, String> {
    match parameters.get(name).and_then(Value::as_f64) {
        Some(number) if number > 0.0 => Ok(number),
        _ => Err(format!("rope type {kind:?} needs a positive {name}")),
    }
}
