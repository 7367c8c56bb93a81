//! Qwen2 and Qwen2.5: Llama with biases on q, k and v, and a sliding window in the upper layers if it is switched on.

use super::{common, listed_windows, require_silu, set_windows};
use crate::model::config::fields::Fields;
use crate::model::config::{Architecture, Config};

/// Reads a config.json of Qwen2.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::Qwen2, fields)?;
    require_silu(fields)?;
    // The class has these biases without naming them.
    config.qkv_bias = true;
    read_windows(fields, &mut config)?;
    Ok(config)
}

/// Reads which layers have a window: those listed, else the layers from `max_window_layers` on.
pub fn read_windows(fields: &Fields, config: &mut Config) -> Result<(), String> {
    let window = fields.optional_size("sliding_window")?;
    let window = if fields.flag("use_sliding_window")? { window } else { None };
    let first = fields.size("max_window_layers")?;
    let by_place = (0..config.layers).map(|layer| window.is_some() && layer >= first).collect();
    let windows = listed_windows(fields, config.layers)?.unwrap_or(by_place);
    set_windows(config, windows, window)
}
