//! Norms of a layer, and the addition of a block's result to the residual stream.
//!
//! Which norms there are depends on the family: at the input of attention and MLP, at their results, or at both.

use tch::{TchError, Tensor};

use crate::model::Base;
use crate::training::kernels::ops;

type Result<T> = std::result::Result<T, TchError>;

/// Input of a norm and 1 / rms of each of its rows, which the backward pass reads.
pub struct SavedNorm {
    input: Tensor,
    inverse: Tensor,
}

/// Applies a norm, if there is one. Without it the input is the output.
pub fn normalize(base: &Base, input: Tensor, norm: Option<&Tensor>) -> Result<(Tensor, Option<SavedNorm>)> {
    let Some(weight) = norm else { return Ok((input, None)) };
    let (output, inverse) = ops::rms_norm(&input, weight, base.config.rms_norm_eps, base.precision.master_kind())?;
    Ok((output, Some(SavedNorm { input, inverse })))
}

/// Returns the gradient at the input of [`normalize`], plus `residual`.
pub fn normalize_backward(
    dy: &Tensor,
    norm: Option<&Tensor>,
    saved: Option<&SavedNorm>,
    residual: &Tensor,
) -> Result<Tensor> {
    match (norm, saved) {
        (Some(weight), Some(saved)) => ops::rms_norm_backward(dy, &saved.input, &saved.inverse, weight, residual),
        _ => dy.f_add(residual),
    }
}

/// Adds the result of attention or of the MLP to the residual stream, after its norm and factor. The sum may take the
/// result's memory.
pub fn add(
    base: &Base,
    result: Tensor,
    norm: Option<&Tensor>,
    residual: &Tensor,
) -> Result<(Tensor, Option<SavedNorm>)> {
    let (mut sum, saved) = normalize(base, result, norm)?;
    let scale = base.config.variant.residual_scale;
    if scale != 1.0 {
        sum = sum.f_mul_scalar_(scale)?;
    }
    Ok((sum.f_add_(residual)?, saved))
}

/// Returns the gradient at the result that [`add`] took, from that of the sum.
pub fn add_backward(base: &Base, d_sum: &Tensor, norm: Option<&Tensor>, saved: Option<&SavedNorm>) -> Result<Tensor> {
    let scale = base.config.variant.residual_scale;
    let scaled = if scale == 1.0 { d_sum.shallow_clone() } else { d_sum.f_mul_scalar(scale)? };
    match (norm, saved) {
        (Some(weight), Some(saved)) => {
            ops::rms_norm_backward(&scaled, &saved.input, &saved.inverse, weight, &scaled.f_zeros_like()?)
        }
        _ => Ok(scaled),
    }
}
