//! How far numbers of one precision are from those of another.

use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

/// Distance from a reference, as parts of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RelativeError {
    /// The largest distance, over the largest absolute value of its tensor's reference.
    pub max: f64,
    /// The sum of all distances, over the sum of the reference's absolute values.
    pub mean: f64,
}

/// Distances added up over tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorSum {
    max: f64,
    apart: f64,
    total: f64,
}

impl ErrorSum {
    /// Adds a tensor and its reference, which is rounded to bfloat16 first: that is what errors are counted against.
    pub fn add(&mut self, reference: &Tensor, found: &Tensor) -> Result<(), TchError> {
        let reference = reference.f_to_kind(Kind::BFloat16)?.f_to_device(found.device())?.f_to_kind(Kind::Float)?;
        let apart = found.f_to_kind(Kind::Float)?.f_sub(&reference)?.f_abs()?;
        let size = reference.f_abs()?;
        let number = |tensor: Tensor| f64::try_from(tensor);
        let largest = number(size.f_max()?)?;
        if largest > 0.0 {
            self.max = self.max.max(number(apart.f_max()?)? / largest);
        }
        self.apart += number(apart.f_sum(Kind::Double)?)?;
        self.total += number(size.f_sum(Kind::Double)?)?;
        Ok(())
    }

    /// The distances as parts of the reference.
    pub fn relative(&self) -> RelativeError {
        RelativeError { max: self.max, mean: if self.total > 0.0 { self.apart / self.total } else { 0.0 } }
    }
}
