//! One file per model family: the keys of its config.json, and what they mean.

mod gemma2;
mod gemma3;
mod granite;
mod internlm3;
mod llama;
mod mistral;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use super::fields::{Fields, short};
use super::rope::RopeFields;
use super::{Architecture, Config, DecoderVariant, rope};

/// Reads a config.json of a family.
///
/// # Errors
/// A description of the first key that is malformed or not supported.
pub fn read(architecture: Architecture, fields: &Fields) -> Result<Config, String> {
    match architecture {
        Architecture::Llama => llama::read(fields),
        Architecture::Mistral => mistral::read(fields),
        Architecture::Qwen2 => qwen2::read(fields),
        Architecture::Qwen3 => qwen3::read(fields),
        Architecture::SmolLm3 => smollm3::read(fields),
        Architecture::Granite => granite::read(fields),
        Architecture::Olmo2 => olmo2::read(fields),
        Architecture::InternLm3 => internlm3::read(fields),
        Architecture::Phi3 => phi3::read(fields),
        Architecture::Gemma2 => gemma2::read(fields),
        Architecture::Gemma3 => gemma3::read(fields),
    }
}

/// Reads the keys that all families have, as a decoder without biases and window.
fn common(architecture: Architecture, fields: &Fields) -> Result<Config, String> {
    let rope = rope::read(fields)?;
    if rope.rotated_part != 1.0 {
        return Err(format!("partial_rotary_factor is {}, only 1 is supported", rope.rotated_part));
    }
    common_with(architecture, fields, rope)
}

/// Reads the keys that all families have, with a rotary embedding that was read before.
fn common_with(architecture: Architecture, fields: &Fields, rope: RopeFields) -> Result<Config, String> {
    let hidden_size = fields.size("hidden_size")?;
    let heads = fields.size("num_attention_heads")?;
    // Without `head_dim` the heads divide the residual stream among them.
    let head_dim = match fields.optional_size("head_dim")? {
        Some(width) => width,
        None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => return Err(format!("hidden_size {hidden_size} is no multiple of num_attention_heads {heads}")),
    };
    let attention_dropout = fields.optional_number("attention_dropout")?.unwrap_or(0.0);
    if !(0.0..1.0).contains(&attention_dropout) {
        return Err(format!("attention_dropout is {attention_dropout}, allowed is 0 up to below 1"));
    }
    Ok(Config {
        architecture,
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        intermediate_size: fields.size("intermediate_size")?,
        layers: fields.size("num_hidden_layers")?,
        heads,
        kv_heads: fields.optional_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        rms_norm_eps: fields.number("rms_norm_eps")?,
        rope_theta: rope.theta,
        rope_scaling: rope.scaling,
        max_positions: fields.size("max_position_embeddings")?,
        sliding_window: None,
        attention_dropout,
        tied: fields.flag("tie_word_embeddings")?,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        variant: DecoderVariant::default(),
    })
}

/// Checks that the activation of the MLP is SiLU, which is also called Swish.
fn require_silu(fields: &Fields) -> Result<(), String> {
    match fields.value("hidden_act").and_then(|value| value.as_str()) {
        Some("silu" | "swish") => Ok(()),
        _ => Err(format!("hidden_act is {}, only \"silu\" is supported", text(fields, "hidden_act"))),
    }
}

/// Returns a key's value for a message.
fn text(fields: &Fields, key: &str) -> String {
    fields.value(key).map_or_else(|| "null".into(), short)
}

/// Returns which layers the file says have a sliding window. `None` if `layer_types` is left out.
fn listed_windows(fields: &Fields, layers: usize) -> Result<Option<Vec<bool>>, String> {
    let Some(value) = fields.value("layer_types") else { return Ok(None) };
    let listed = value.as_array().filter(|kinds| kinds.len() == layers);
    let Some(listed) = listed else {
        return Err(format!("layer_types is {}, one type per layer is needed", short(value)));
    };
    let mut windows = Vec::with_capacity(layers);
    for kind in listed {
        windows.push(match kind.as_str() {
            Some("sliding_attention") => true,
            Some("full_attention") => false,
            _ => {
                return Err(format!(
                    "layer_types has {kind}, supported are \"full_attention\" and \"sliding_attention\""
                ));
            }
        });
    }
    Ok(Some(windows))
}

/// Sets the layers with a sliding window, in the simplest form.
fn set_windows(config: &mut Config, windows: Vec<bool>, window: Option<usize>) -> Result<(), String> {
    if !windows.contains(&true) {
        return Ok(());
    }
    let Some(window) = window else {
        return Err("layer_types has \"sliding_attention\", but no sliding window is set".into());
    };
    config.sliding_window = Some(window);
    if windows.contains(&false) {
        config.variant.windowed_layers = Some(windows);
    }
    Ok(())
}

/// Checks that `layer_types`, which the class does not read, agrees with what it computes.
fn require_uniform_layers(fields: &Fields, config: &Config) -> Result<(), String> {
    let Some(windows) = listed_windows(fields, config.layers)? else { return Ok(()) };
    if windows.iter().all(|&is_windowed| is_windowed == config.sliding_window.is_some()) {
        return Ok(());
    }
    let model = config.architecture.model_type();
    Err(format!("layer_types is {}, a {model} has the same attention in all layers", text(fields, "layer_types")))
}
