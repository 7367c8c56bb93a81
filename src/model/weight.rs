//! The stored weight of a frozen linear module, or of several modules with a common input.

use tch::{Kind, TchError, Tensor};

use super::Precision;
use super::quantized::{Int8, Nf4};

/// A frozen weight `[out, in]`. The weights of modules with a common input are stacked, so that one matrix product
/// serves them all.
pub struct Weight {
    held: Held,
    kind: Kind,
}

/// The form in which a weight is stored.
pub enum Held {
    /// Stored in the type of the arithmetic.
    Plain(Tensor),
    /// int8, expanded at each use.
    Int8(Int8),
    /// NF4, expanded at each use; one part per module, because blocks must not cross modules.
    Nf4(Vec<Nf4>),
    /// int8, multiplied in int8 except for outliers.
    LlmInt8(Int8),
}

impl Weight {
    /// Converts the weights of `parts` to `precision` and moves them to `device`.
    pub fn new(parts: &[Tensor], precision: Precision, device: tch::Device) -> Result<Self, TchError> {
        let kind = precision.kind();
        let held = match precision {
            Precision::F32 | Precision::Bf16 | Precision::F64 => {
                Held::Plain(stacked(parts)?.f_to_kind(kind)?.f_to_device(device)?)
            }
            Precision::Int8(_) => {
                let int8 = Int8::round(&stacked(parts)?.f_to_device(device)?)?;
                Held::Plain(int8.expanded(kind)?)
            }
            Precision::Int8Held(_) => Held::Int8(Int8::round(&stacked(parts)?.f_to_device(device)?)?),
            Precision::Nf4 { double, .. } => {
                let mut rounded = Vec::with_capacity(parts.len());
                for part in parts {
                    rounded.push(Nf4::round(&part.f_to_device(device)?, double)?);
                }
                Held::Nf4(rounded)
            }
            Precision::LlmInt8(_) => {
                // bitsandbytes rounds to int8 from half precision.
                let half = stacked(parts)?.f_to_device(device)?.f_to_kind(Kind::Half)?;
                Held::LlmInt8(Int8::round(&half)?)
            }
        };
        Ok(Self { held, kind })
    }

    /// Returns the weight in the type of the arithmetic, `[out, in]`. For a weight stored in fewer bits this is a new
    /// tensor, which should be dropped after use.
    pub fn expanded(&self) -> Result<Tensor, TchError> {
        match &self.held {
            Held::Plain(weight) => Ok(weight.shallow_clone()),
            Held::Int8(int8) | Held::LlmInt8(int8) => int8.expanded(self.kind),
            Held::Nf4(parts) => {
                let parts = parts.iter().map(|part| part.expanded(self.kind)).collect::<Result<Vec<_>, _>>()?;
                stacked(&parts)
            }
        }
    }

    /// Returns the stored form, and the type to which it is expanded.
    pub fn held(&self) -> (&Held, Kind) {
        (&self.held, self.kind)
    }

    /// Returns the int8 codes, if activations are to be multiplied with them directly.
    pub fn for_int8_products(&self) -> Option<&Int8> {
        if let Held::LlmInt8(int8) = &self.held { Some(int8) } else { None }
    }

    /// Returns the memory that the weight takes on the device, in bytes.
    pub fn bytes(&self) -> u64 {
        match &self.held {
            Held::Plain(weight) => (weight.numel() * weight.kind().elt_size_in_bytes()) as u64,
            // One byte per code and an f32 maximum per row.
            Held::Int8(int8) | Held::LlmInt8(int8) => (int8.codes.numel() + 4 * int8.most.numel()) as u64,
            Held::Nf4(parts) => parts.iter().map(Nf4::bytes).sum(),
        }
    }

    /// Returns the memory that [`Self::expanded`] allocates at each use, in bytes.
    pub fn expanded_bytes(&self) -> u64 {
        let elements = match &self.held {
            Held::Plain(_) => 0,
            Held::Int8(int8) | Held::LlmInt8(int8) => int8.codes.numel(),
            Held::Nf4(parts) => parts.iter().map(Nf4::elements).sum(),
        };
        (elements * self.kind.elt_size_in_bytes()) as u64
    }
}

/// Stacks matrices `[out, in]` along their rows; a single one is not copied.
fn stacked(parts: &[Tensor]) -> Result<Tensor, TchError> {
    match parts {
        [one] => Ok(one.shallow_clone()),
        _ => Tensor::f_cat(parts, 0),
    }
}
