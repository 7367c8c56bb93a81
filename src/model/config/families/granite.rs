//! Granite 3: Llama with factors of the embeddings, the attention's scores, the residual stream and the logits.

use super::{common, require_silu};
use crate::model::config::fields::Fields;
use crate::model::config::{Architecture, Config};

/// Reads a config.json of Granite.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::Granite, fields)?;
    require_silu(fields)?;
    config.qkv_bias = fields.flag("attention_bias")?;
    config.output_bias = config.qkv_bias;
    config.mlp_bias = fields.flag("mlp_bias")?;
    config.variant.embedding_scale = fields.number("embedding_multiplier")?;
    config.variant.residual_scale = fields.number("residual_multiplier")?;
    config.variant.attention_scale = Some(fields.number("attention_multiplier")?);
    let divisor = fields.number("logits_scaling")?;
    if divisor == 0.0 {
        return Err("logits_scaling is 0, another number is needed".into());
    }
    config.variant.logit_scale = 1.0 / divisor;
    Ok(config)
}
