//! Mistral 7B, Nemo and others of its form: Llama with a sliding window in all layers.

use super::{common, require_silu, require_uniform_layers};
use crate::model::config::fields::Fields;
use crate::model::config::{Architecture, Config};

/// Reads a config.json of Mistral.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::Mistral, fields)?;
    require_silu(fields)?;
    config.sliding_window = fields.optional_size("sliding_window")?;
    require_uniform_layers(fields, &config)?;
    Ok(config)
}
