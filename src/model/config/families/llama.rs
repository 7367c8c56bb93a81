//! Llama 1, 2 and 3, and the many models that are published in its form.

use super::{common, require_silu, require_uniform_layers};
use crate::model::config::fields::{Fields, short};
use crate::model::config::{Architecture, Config};

/// Reads a config.json of Llama.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::Llama, fields)?;
    require_silu(fields)?;
    config.qkv_bias = fields.flag("attention_bias")?;
    config.output_bias = config.qkv_bias;
    config.mlp_bias = fields.flag("mlp_bias")?;
    require_uniform_layers(fields, &config)?;
    require_swiglu_if_named(fields)?;
    Ok(config)
}

/// Checks `activation`, by which some files, such as Falcon3's, name the activation once more.
fn require_swiglu_if_named(fields: &Fields) -> Result<(), String> {
    match fields.given("activation") {
        None => Ok(()),
        Some(name) if name == "swiglu" || name == "silu" => Ok(()),
        Some(name) => Err(format!("activation is {}, only \"swiglu\" is supported", short(name))),
    }
}
