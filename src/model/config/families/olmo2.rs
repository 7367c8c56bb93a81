//! OLMo 2: norms at the results of attention and MLP instead of their inputs, and over all queries and all keys.

use super::{common, require_silu};
use crate::model::config::fields::Fields;
use crate::model::config::{Architecture, Config, NormPlacement, QueryKeyNorm};

/// Reads a config.json of OLMo 2.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let mut config = common(Architecture::Olmo2, fields)?;
    require_silu(fields)?;
    config.qkv_bias = fields.flag("attention_bias")?;
    config.output_bias = config.qkv_bias;
    config.variant.norms = NormPlacement::After;
    config.variant.query_key_norm = QueryKeyNorm::Whole;
    Ok(config)
}
