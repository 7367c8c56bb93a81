//! SmolLM3: Llama of whose layers every fourth has no rotary embedding.

use super::{common, listed_windows, require_silu, set_windows, text};
use crate::model::config::fields::Fields;
use crate::model::config::{Architecture, Config};

/// Reads a config.json of SmolLM3.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::SmolLm3, fields)?;
    require_silu(fields)?;
    config.qkv_bias = fields.flag("attention_bias")?;
    config.output_bias = config.qkv_bias;
    config.mlp_bias = fields.flag("mlp_bias")?;
    // Published files have it, but the class does not read it.
    fields.ignore("max_window_layers");

    let rotated = rotated_layers(fields, config.layers)?;
    let window = fields.optional_size("sliding_window")?;
    let window = if fields.flag("use_sliding_window")? { window } else { None };
    let without_rotation = rotated.iter().map(|&is_rotated| window.is_some() && !is_rotated).collect();
    let windows = listed_windows(fields, config.layers)?.unwrap_or(without_rotation);
    set_windows(&mut config, windows, window)?;
    if rotated.contains(&false) {
        config.variant.rotated_layers = Some(rotated);
    }
    Ok(config)
}

/// Returns which layers are rotated: those with a 1 in `no_rope_layers`, which is named after the zeros, else all but
/// every `no_rope_layer_interval`-th.
fn rotated_layers(fields: &Fields, layers: usize) -> Result<Vec<bool>, String> {
    let interval = fields.size("no_rope_layer_interval")?;
    let Some(listed) = fields.value("no_rope_layers") else {
        if interval == 0 {
            return Err("no_rope_layer_interval is 0, at least 1 is needed".into());
        }
        return Ok((1..=layers).map(|place| !place.is_multiple_of(interval)).collect());
    };
    let switches: Option<Vec<u64>> =
        listed.as_array().and_then(|list| list.iter().map(|value| value.as_u64()).collect());
    match switches {
        Some(switches) if switches.len() == layers => Ok(switches.into_iter().map(|switch| switch != 0).collect()),
        _ => Err(format!("no_rope_layers is {}, a 0 or 1 per layer is needed", text(fields, "no_rope_layers"))),
    }
}
