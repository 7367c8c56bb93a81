//! How a frozen base is held and computed.

use serde::{Deserialize, Serialize};
use tch::Kind;

/// How the frozen base is held and computed. Adapters, their gradients and optimiser states stay in f32 (f64 in F64).
///
/// Quantised forms hold the linear weights of the layers alone in fewer bits; embedding, norms, biases and the output head
/// stay in the type of the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precision {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// Double precision: slow, for checks against other implementations.
    F64,
    /// Rounded to int8 with one scale an output row at load, then held in the type of the arithmetic. Bit-equal to
    /// weight-only int8 that is expanded at each use, and as fast as no rounding at all.
    Int8(Arithmetic),
    /// The same numbers, held as int8 and expanded at each use: a quarter of the memory of f32, a half of bf16's.
    Int8Held(Arithmetic),
    /// 4-bit NormalFloat in blocks of 64 under their absolute maximum, expanded at each use (QLoRA, arXiv 2305.14314).
    Nf4 {
        /// The type that it is expanded to.
        arithmetic: Arithmetic,
        /// Whether the blocks' maxima are quantised too, to 8 bits in blocks of 256.
        double: bool,
    },
    /// LLM.int8() (arXiv 2208.07339): activations rounded to int8 row by row, but for columns that hold an outlier. Slow: it
    /// serves comparison with systems that train on it. The backward pass is weight-only int8, as bitsandbytes' is.
    LlmInt8(Arithmetic),
}

/// The type of activations, and of weights as they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Arithmetic {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
}

impl Precision {
    /// The type of activations and of weights as they are multiplied.
    pub fn kind(self) -> Kind {
        match self.arithmetic() {
            Some(Arithmetic::F32) => Kind::Float,
            Some(Arithmetic::Bf16) => Kind::BFloat16,
            None => Kind::Double,
        }
    }

    /// The type of adapters, losses and reductions.
    pub fn master_kind(self) -> Kind {
        if self == Precision::F64 { Kind::Double } else { Kind::Float }
    }

    /// The type of the arithmetic; none is f64.
    fn arithmetic(self) -> Option<Arithmetic> {
        match self {
            Precision::F32 => Some(Arithmetic::F32),
            Precision::Bf16 => Some(Arithmetic::Bf16),
            Precision::F64 => None,
            Precision::Int8(arithmetic)
            | Precision::Int8Held(arithmetic)
            | Precision::LlmInt8(arithmetic)
            | Precision::Nf4 { arithmetic, .. } => Some(arithmetic),
        }
    }

    /// Whether weights have fewer values than the arithmetic's type.
    pub fn is_quantised(self) -> bool {
        !matches!(self, Precision::F32 | Precision::Bf16 | Precision::F64)
    }

    /// What stands for it where bits are compared: int8 has the same bits whether it is held or rounded at load.
    pub fn same_bits_as(self) -> Self {
        if let Precision::Int8Held(arithmetic) = self { Precision::Int8(arithmetic) } else { self }
    }
}
