//! Number formats of the base model: in memory and in arithmetic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ModelSpec;

/// Number format of the base model's linear weights. Embedding, norms and output head have the format of the
/// arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Precision")]
pub enum PrecisionSpec {
    #[default]
    F32,
    Bf16,
    /// int8 with one scale per output row; rounded at load, then stored in the arithmetic's format.
    Int8,
    /// The same numbers stored as int8 and dequantized at each use: less memory, the same results.
    Int8Held,
    /// 4-bit NormalFloat in blocks of 64 (QLoRA, Dettmers et al. 2023).
    Nf4,
    /// The same with double quantization of the blocks' absolute maxima.
    Nf4Double,
    /// LLM.int8() with outlier columns from 6.0 on (Dettmers et al. 2022), as used by FedLLM-Bench; slow.
    LlmInt8,
}

/// Number format of activations, and of weights when they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "Arithmetic")]
pub enum ArithmeticSpec {
    F32,
    Bf16,
}

impl ModelSpec {
    /// Returns the arithmetic of the scenario, or the one that follows from the precision.
    pub fn arithmetic(&self) -> ArithmeticSpec {
        let usual = if self.precision == PrecisionSpec::F32 { ArithmeticSpec::F32 } else { ArithmeticSpec::Bf16 };
        self.arithmetic.unwrap_or(usual)
    }

    /// [bit] -- Returns the size of an activation, or of a weight that is not quantized.
    pub fn arithmetic_bits(&self) -> u64 {
        match self.arithmetic() {
            ArithmeticSpec::F32 => 32,
            ArithmeticSpec::Bf16 => 16,
        }
    }

    /// [bit] -- Returns the size of 64 linear weights with the scales of their block, without scales of whole rows.
    pub fn linear_block_bits(&self) -> u64 {
        match self.precision {
            PrecisionSpec::F32 | PrecisionSpec::Bf16 | PrecisionSpec::Int8 => 64 * self.arithmetic_bits(),
            PrecisionSpec::Int8Held | PrecisionSpec::LlmInt8 => 64 * 8,
            // 32 bits for the block's absolute maximum.
            PrecisionSpec::Nf4 => 64 * 4 + 32,
            // 8 bits for the block's maximum, and 32/256 bits for its part of the second scale, rounded up.
            PrecisionSpec::Nf4Double => 64 * 4 + 9,
        }
    }
}
