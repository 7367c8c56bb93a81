//! int8 with one scale per output row.

use tch::{Kind, TchError, Tensor};

/// A matrix `[out, in]` as codes from -127 to 127 and the absolute maximum of each row.
pub struct Int8 {
    /// Codes `[out, in]`, int8.
    pub codes: Tensor,
    /// Absolute maxima `[out, 1]`, f32. A weight is code x maximum / 127.
    pub most: Tensor,
}

impl Int8 {
    /// Rounds each row relative to its absolute maximum. The codes are those of bitsandbytes: round(127 W / maximum),
    /// to even.
    pub fn round(weight: &Tensor) -> Result<Self, TchError> {
        let weight = weight.f_to_kind(Kind::Float)?;
        let most = weight.f_abs()?.f_amax([1i64], true)?;
        // A row of zeros has maximum 0; the smallest normal number avoids 0 / 0 and gives codes of 0.
        let safe = most.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
        let codes = weight.f_mul_scalar(127.0)?.f_div(&safe)?.f_round()?.f_to_kind(Kind::Int8)?;
        Ok(Self { codes, most })
    }

    /// Returns the weights that the codes represent, rounded to `kind` once.
    pub fn expanded(&self, kind: Kind) -> Result<Tensor, TchError> {
        self.codes.f_to_kind(Kind::Float)?.f_mul(&self.most.f_div_scalar(127.0)?)?.f_to_kind(kind)
    }
}
