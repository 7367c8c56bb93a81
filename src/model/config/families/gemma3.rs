//! Gemma 3, text only: Gemma 2 with norms over each query and key head, without bounds, and with another rotary embedding
//! in the layers with a sliding window, which are five of six.

use serde_json::Value;

use super::gemma2::read_shared;
use super::{common_with, listed_windows, set_windows};
use crate::model::config::fields::{Fields, short};
use crate::model::config::rope::{self, RopeFields};
use crate::model::config::{Architecture, Config, QueryKeyNorm};

/// Reads a config.json of Gemma 3.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let (global, local) = ropes(fields)?;
    let mut config = common_with(Architecture::Gemma3, fields, global)?;
    read_shared(fields, &mut config)?;
    config.variant.query_key_norm = QueryKeyNorm::Head;
    config.variant.local_rope_theta = Some(local.theta);
    let pattern = pattern(fields)?;
    let by_place = (1..=config.layers).map(|place| !place.is_multiple_of(pattern)).collect();
    let windows = listed_windows(fields, config.layers)?.unwrap_or(by_place);
    let window = fields.optional_size("sliding_window")?;
    set_windows(&mut config, windows, window)?;
    Ok(config)
}

/// Returns how many layers the pattern of windows has; its last layer has none.
fn pattern(fields: &Fields) -> Result<usize, String> {
    // Written by Transformers, but read without the underscore.
    fields.ignore("_sliding_window_pattern");
    match fields.optional_size("sliding_window_pattern")? {
        Some(0) => Err("sliding_window_pattern is 0, at least 1 is needed".into()),
        pattern => Ok(pattern.unwrap_or(6)),
    }
}

/// Reads the rotary embeddings of layers without and with a window. `rope_scaling` is that of layers without.
fn ropes(fields: &Fields) -> Result<(RopeFields, RopeFields), String> {
    let by_kind = rope::parameters(fields.given("rope_parameters"), "rope_parameters")?;
    let kinds = ["full_attention", "sliding_attention"];
    if let Some((key, value)) = by_kind.iter().find(|(key, _)| !kinds.contains(&key.as_str())) {
        return Err(format!("rope_parameters has {key} {}, which a gemma3_text does not read", short(value)));
    }
    let of_kind = |kind: &str| rope::parameters(by_kind.get(kind).filter(|value| !value.is_null()), kind);
    let mut full = of_kind("full_attention")?;
    full.extend(rope::parameters(fields.given("rope_scaling"), "rope_scaling")?);
    let global = rope::of_parameters(fields, &full, "rope_theta")?;
    let sliding = of_kind("sliding_attention")?;
    let local = rope::of_parameters(fields, &sliding, "rope_local_base_freq")?;
    if local.scaling.is_some() {
        let kind = Value::Object(sliding);
        return Err(format!(
            "rope_parameters of sliding_attention are {}, only \"default\" is supported",
            short(&kind)
        ));
    }
    Ok((global, local))
}
