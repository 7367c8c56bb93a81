//! Phi-3 and Phi-4: q, k and v in one linear module, gate and up in another, and heads that are rotated in part.

use super::{common_with, require_silu};
use crate::model::config::fields::Fields;
use crate::model::config::{Architecture, Config, rope};

/// Reads a config.json of Phi-3 or Phi-4.
pub fn read(fields: &Fields) -> Result<Config, String> {
    let rope = rope::read(fields)?;
    if rope.scaling.is_some() {
        return Err("rope_scaling is set, a phi3 supports only \"default\"".into());
    }
    let part = rope.rotated_part;
    let mut config = common_with(Architecture::Phi3, fields, rope)?;
    require_silu(fields)?;
    fields.require_off("embd_pdrop")?;
    fields.require_off("resid_pdrop")?;
    config.sliding_window = fields.optional_size("sliding_window")?;
    config.variant.fused = true;
    if part != 1.0 {
        config.variant.rotated = Some((config.head_dim as f64 * part) as usize);
    }
    Ok(config)
}
