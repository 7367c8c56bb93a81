//! How the base model is held and computed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Model;

/// Number formats of the base model's linear weights; embedding, norms and output head are in that of the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Precision {
    #[default]
    F32,
    Bf16,
    /// int8 with a scale an output row, rounded at load and then held in the arithmetic's format.
    Int8,
    /// The same numbers held as int8 and expanded at each use: less memory, the same results.
    Int8Held,
    /// 4-bit NormalFloat in blocks of 64 (QLoRA, Dettmers et al. 2023).
    Nf4,
    /// The same with double quantisation of the blocks' maxima.
    Nf4Double,
    /// LLM.int8() with outlier columns from 6.0 on (Dettmers et al. 2022), on which FedLLM-Bench trains; slow.
    LlmInt8,
}

/// Number formats of activations, and of weights as they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Arithmetic {
    F32,
    Bf16,
}

impl Model {
    /// The arithmetic that is asked for, or follows from the precision.
    pub fn arithmetic(&self) -> Arithmetic {
        let usual = if self.precision == Precision::F32 { Arithmetic::F32 } else { Arithmetic::Bf16 };
        self.arithmetic.unwrap_or(usual)
    }

    /// [bit] What an activation takes, or a weight that is not quantised.
    pub fn arithmetic_bits(&self) -> u64 {
        match self.arithmetic() {
            Arithmetic::F32 => 32,
            Arithmetic::Bf16 => 16,
        }
    }

    /// [bit] What 64 linear weights take with the scales of their block; scales of whole rows are left out.
    pub fn linear_block_bits(&self) -> u64 {
        match self.precision {
            Precision::F32 | Precision::Bf16 | Precision::Int8 => 64 * self.arithmetic_bits(),
            Precision::Int8Held | Precision::LlmInt8 => 64 * 8,
            Precision::Nf4 => 64 * 4 + 32,
            // 8 bits a maximum, and an eighth of a bit for the maxima of 256 blocks, rounded up.
            Precision::Nf4Double => 64 * 4 + 9,
        }
    }
}
