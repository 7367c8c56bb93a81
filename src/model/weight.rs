//! The weight of a frozen linear module, or of several that share an input, as it is held.

use tch::{Kind, TchError, Tensor};

use super::Precision;
use super::quantised::{Int8, Nf4};

/// A frozen weight `[out, in]`. Modules that share an input lie below each other, so that one product serves them.
pub struct Weight {
    held: Held,
    kind: Kind,
}

/// How a weight is held.
pub enum Held {
    /// As it is multiplied.
    Plain(Tensor),
    /// Expanded at each use.
    Int8(Int8),
    /// Expanded at each use; one part a module, for blocks do not cross modules.
    Nf4(Vec<Nf4>),
    /// Multiplied in int8, but for outliers.
    LlmInt8(Int8),
}

impl Weight {
    /// Holds the weights of `parts` as `precision` says, on `device`.
    pub fn new(parts: &[Tensor], precision: Precision, device: tch::Device) -> Result<Self, TchError> {
        let kind = precision.kind();
        let stacked = |parts: &[Tensor]| match parts {
            [one] => Ok(one.shallow_clone()),
            _ => Tensor::f_cat(parts, 0),
        };
        let int8 = |parts: &[Tensor]| Int8::round(&stacked(parts)?.f_to_device(device)?);
        let held = match precision {
            Precision::F32 | Precision::Bf16 | Precision::F64 => {
                Held::Plain(stacked(parts)?.f_to_kind(kind)?.f_to_device(device)?)
            }
            Precision::Int8(_) => Held::Plain(int8(parts)?.expanded(kind)?),
            Precision::Int8Held(_) => Held::Int8(int8(parts)?),
            Precision::Nf4 { double, .. } => {
                let round = |part: &Tensor| Nf4::round(&part.f_to_device(device)?, double);
                Held::Nf4(parts.iter().map(round).collect::<Result<_, _>>()?)
            }
            // bitsandbytes rounds from half precision.
            Precision::LlmInt8(_) => {
                Held::LlmInt8(Int8::round(&stacked(parts)?.f_to_device(device)?.f_to_kind(Kind::Half)?)?)
            }
        };
        Ok(Self { held, kind })
    }

    /// The weight as it is multiplied, `[out, in]`. Where it is held in fewer bits, a new tensor, to be dropped after use.
    pub fn expanded(&self) -> Result<Tensor, TchError> {
        match &self.held {
            Held::Plain(weight) => Ok(weight.shallow_clone()),
            Held::Int8(int8) | Held::LlmInt8(int8) => int8.expanded(self.kind),
            Held::Nf4(parts) => {
                let parts = parts.iter().map(|part| part.expanded(self.kind)).collect::<Result<Vec<_>, _>>()?;
                if let [one] = parts.as_slice() { Ok(one.shallow_clone()) } else { Tensor::f_cat(&parts, 0) }
            }
        }
    }

    /// How it is held, and the type that it is expanded to.
    pub fn held(&self) -> (&Held, Kind) {
        (&self.held, self.kind)
    }

    /// The codes, where activations are to be multiplied with them directly.
    pub fn for_int8_products(&self) -> Option<&Int8> {
        if let Held::LlmInt8(int8) = &self.held { Some(int8) } else { None }
    }

    /// What it takes on the device [byte].
    pub fn bytes(&self) -> u64 {
        match &self.held {
            Held::Plain(weight) => (weight.numel() * weight.kind().elt_size_in_bytes()) as u64,
            Held::Int8(int8) | Held::LlmInt8(int8) => (int8.codes.numel() + 4 * int8.most.numel()) as u64,
            Held::Nf4(parts) => parts.iter().map(Nf4::bytes).sum(),
        }
    }

    /// What [`Self::expanded`] makes anew at each use [byte].
    pub fn expanded_bytes(&self) -> u64 {
        let elements = match &self.held {
            Held::Plain(_) => 0,
            Held::Int8(int8) | Held::LlmInt8(int8) => int8.codes.numel(),
            Held::Nf4(parts) => parts.iter().map(Nf4::elements).sum(),
        };
        (elements * self.kind.elt_size_in_bytes()) as u64
    }
}
