//! Measurement of the distance between tensors and a reference in another precision.

use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

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
        let reference = reference.f_to_kind(Kind::BFloat16)?.f_to_device(found.device())?.f_to_kind(Kind::Float)?;
        let apart = found.f_to_kind(Kind::Float)?.f_sub(&reference)?.f_abs()?;
        let size = reference.f_abs()?;
        // A tensor of zeros has no relative error.
        let largest = f64::try_from(size.f_max()?)?;
        if largest > 0.0 {
            self.max = self.max.max(f64::try_from(apart.f_max()?)? / largest);
        }
        self.apart += f64::try_from(apart.f_sum(Kind::Double)?)?;
        self.total += f64::try_from(size.f_sum(Kind::Double)?)?;
        Ok(())
    }

    /// Returns the distances relative to the reference.
    pub fn relative(&self) -> RelativeError {
        let mean = if self.total > 0.0 { self.apart / self.total } else { 0.0 };
        RelativeError { max: self.max, mean }
    }
}
