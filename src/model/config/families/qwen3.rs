//! Qwen3: Qwen2 with norms over each query and key head, and no biases unless `attention_bias` is set.

use super::qwen2::read_windows;
use super::{common, require_silu};
use crate::model::config::fields::Fields;
use crate::model::config::{Architecture, Config, QueryKeyNorm};

/// Reads a config.json of Qwen3.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::Qwen3, fields)?;
    require_silu(fields)?;
    config.qkv_bias = fields.flag("attention_bias")?;
    config.output_bias = config.qkv_bias;
    config.variant.query_key_norm = QueryKeyNorm::Head;
    read_windows(fields, &mut config)?;
    Ok(config)
}
