//! The precision in which a frozen base is stored and computed, and the distance between tensors in two precisions.

use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

/// The precision in which the frozen base is stored and computed. Adapters, their gradients and optimizer states stay
/// in f32 (f64 in F64).
///
/// Quantized forms store only the linear weights of the layers in fewer bits; embedding, norms, biases and the output
/// head stay in the type of the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precision {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// Double precision: slow, for checks against other implementations.
    F64,
    /// Rounded to int8 with one scale per output row when loaded, then stored in the type of the arithmetic. Bit-equal
    /// to weight-only int8 that is expanded at each use, and as fast as unquantized weights.
    Int8(Arithmetic),
    /// The same values, stored as int8 and expanded at each use: a quarter of the memory of f32, half that of bf16.
    Int8Held(Arithmetic),
    /// 4-bit NormalFloat in blocks of 64, each scaled by its absolute maximum, expanded at each use (QLoRA, arXiv
    /// 2305.14314).
    Nf4 {
        /// The type to which weights are expanded.
        arithmetic: Arithmetic,
        /// Whether the maxima of the blocks are quantized too, to 8 bits in blocks of 256.
        double: bool,
    },
    /// LLM.int8() (arXiv 2208.07339): activations are rounded to int8 row by row, except for columns that hold an
    /// outlier. Slow; for comparison with systems that train with it. As in bitsandbytes, the backward pass is
    /// weight-only int8.
    LlmInt8(Arithmetic),
}

/// The type of activations, and of weights in matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Arithmetic {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
}

impl Precision {
    /// Returns the type of activations, and of weights in matrix products.
    pub fn kind(self) -> Kind {
        match self.arithmetic() {
            Some(Arithmetic::F32) => Kind::Float,
            Some(Arithmetic::Bf16) => Kind::BFloat16,
            None => Kind::Double,
        }
    }

    /// Returns the type of adapters, losses and reductions.
    pub fn master_kind(self) -> Kind {
        if self == Precision::F64 { Kind::Double } else { Kind::Float }
    }

    /// Returns the type of the arithmetic; `None` means f64.
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

    /// Returns whether weights take fewer distinct values than the type of the arithmetic allows.
    pub fn is_quantised(self) -> bool {
        !matches!(self, Precision::F32 | Precision::Bf16 | Precision::F64)
    }

    /// Returns the representative of all precisions with the same bits: int8 computes the same bits whether it is
    /// expanded when loaded or at each use.
    pub fn same_bits_as(self) -> Self {
        if let Precision::Int8Held(arithmetic) = self { Precision::Int8(arithmetic) } else { self }
    }
}

/// A distance relative to a reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RelativeError {
    /// The largest distance divided by the largest absolute value of the reference in the same tensor.
    pub max: f64,
    /// The sum of all distances divided by the sum of the reference's absolute values.
    pub mean: f64,
}

/// Accumulated distances of several tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorSum {
    max: f64,
    apart: f64,
    total: f64,
}

impl ErrorSum {
    /// Adds a tensor and its reference. The reference is rounded to bfloat16 first, so that errors are relative to the
    /// model in bfloat16.
    pub fn add(&mut self, reference: &Tensor, found: &Tensor) -> Result<(), TchError> {
        self.add_parts([Ok((reference.shallow_clone(), found.shallow_clone()))])
    }

    /// Adds a tensor and its reference as [`Self::add`], from pairs of parts, of which one is in memory at a time.
    pub fn add_parts<E: From<TchError>>(
        &mut self,
        parts: impl IntoIterator<Item = Result<(Tensor, Tensor), E>>,
    ) -> Result<(), E> {
        let mut largest = 0.0f64;
        let mut most_apart = 0.0f64;
        for part in parts {
            let (reference, found) = part?;
            let reference = reference.f_to_kind(Kind::BFloat16)?.f_to_device(found.device())?.f_to_kind(Kind::Float)?;
            let apart = found.f_to_kind(Kind::Float)?.f_sub(&reference)?.f_abs()?;
            let size = reference.f_abs()?;
            largest = largest.max(f64::try_from(size.f_max()?)?);
            most_apart = most_apart.max(f64::try_from(apart.f_max()?)?);
            self.apart += f64::try_from(apart.f_sum(Kind::Double)?)?;
            self.total += f64::try_from(size.f_sum(Kind::Double)?)?;
        }
        // A tensor of zeros has no relative error.
        if largest > 0.0 {
            self.max = self.max.max(most_apart / largest);
        }
        Ok(())
    }

    /// Returns the distances relative to the reference.
    pub fn relative(&self) -> RelativeError {
        let mean = if self.total > 0.0 { self.apart / self.total } else { 0.0 };
        RelativeError { max: self.max, mean }
    }
}
