//! Gemma 2: norms around attention and MLP, scaled embeddings, bounded scores and logits, and a sliding window in every
//! other layer.

use super::{common, listed_windows, set_windows, text};
use crate::model::config::fields::Fields;
use crate::model::config::{Activation, Architecture, Config, NormPlacement};

/// Reads a config.json of Gemma 2.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::Gemma2, fields)?;
    read_shared(fields, &mut config)?;
    let alternating = (0..config.layers).map(|layer| layer.is_multiple_of(2)).collect();
    let windows = listed_windows(fields, config.layers)?.unwrap_or(alternating);
    let window = fields.optional_size("sliding_window")?;
    set_windows(&mut config, windows, window)?;
    // Names of the activation and the window in files of early releases.
    fields.ignore("hidden_act");
    fields.ignore("sliding_window_size");
    Ok(config)
}

/// Reads what Gemma 2 and 3 have in common.
pub fn read_shared(fields: &Fields, config: &mut Config) -> Result<(), String> {
    match fields.value("hidden_activation").and_then(|value| value.as_str()) {
        Some("gelu_pytorch_tanh") => {}
        _ => {
            let found = text(fields, "hidden_activation");
            return Err(format!("hidden_activation is {found}, only \"gelu_pytorch_tanh\" is supported"));
        }
    }
    fields.require_off("use_bidirectional_attention")?;
    config.qkv_bias = fields.flag("attention_bias")?;
    config.output_bias = config.qkv_bias;
    let variant = &mut config.variant;
    variant.norms = NormPlacement::Around;
    variant.norms_from_one = true;
    variant.activation = Activation::GeluTanh;
    variant.embedding_scale = (config.hidden_size as f64).sqrt();
    variant.attention_scale = Some(1.0 / fields.number("query_pre_attn_scalar")?.sqrt());
    variant.attention_cap = fields.optional_number("attn_logit_softcapping")?;
    variant.logit_cap = fields.optional_number("final_logit_softcapping")?;
    Ok(())
}
