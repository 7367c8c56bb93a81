//! InternLM3: Llama with the biases under other names.

use super::{common, require_silu};
use crate::model::config::fields::Fields;
use crate::model::config::{Architecture, Config};

/// Reads a config.json of InternLM3. Transformers computes it as Llama, and refuses biases in some modules only.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::InternLm3, fields)?;
    require_silu(fields)?;
    let attention = fields.flag("qkv_bias")? || fields.flag("attention_bias")?;
    let mlp = fields.flag("bias")? || fields.flag("mlp_bias")?;
    if attention != mlp {
        return Err(format!("qkv_bias is {attention} and bias is {mlp}, only equal ones are supported"));
    }
    config.qkv_bias = attention;
    config.output_bias = attention;
    config.mlp_bias = mlp;
    Ok(config)
}
