//! The elementwise parts of a decoder layer with their derivatives, in LibTorch's operations.
//!
//! Each works row by row: the bits of a row depend on no other row.

use tch::{Kind, TchError, Tensor};

type Result<T> = std::result::Result<T, TchError>;

/// RMSNorm: returns the output and 1 / rms of each row `[rows, 1]`, which the backward pass needs.
///
/// As in Transformers, the normalised row is rounded to the activations' type before the weight is applied.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, master: Kind) -> Result<(Tensor, Tensor)> {
    let wide = x.f_to_kind(master)?;
    let inverse = wide.f_square()?.f_mean_dim([-1i64].as_slice(), true, None::<Kind>)?.f_add_scalar(eps)?.f_rsqrt()?;
    let y = wide.f_mul(&inverse)?.f_to_kind(x.kind())?.f_mul(weight)?;
    Ok((y, inverse))
}

/// The derivative of [`rms_norm`] with respect to its input.
pub fn rms_norm_backward(dy: &Tensor, x: &Tensor, inverse: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let master = inverse.kind();
    let scaled = dy.f_mul(weight)?.f_to_kind(master)?;
    let unit = x.f_to_kind(master)?.f_mul(inverse)?;
    let along = scaled.f_mul(&unit)?.f_mean_dim([-1i64].as_slice(), true, None::<Kind>)?;
    scaled.f_sub(&unit.f_mul(&along)?)?.f_mul(inverse)?.f_to_kind(x.kind())
}

/// silu(gate) * up of `[rows, 2 inner]`, gate in the first half.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let inner = gate_up.size()[1] / 2;
    gate_up.f_narrow(1, 0, inner)?.f_silu()?.f_mul(&gate_up.f_narrow(1, inner, inner)?)
}

/// The derivative of [`swiglu`], in the layout of its input.
pub fn swiglu_backward(da: &Tensor, gate_up: &Tensor) -> Result<Tensor> {
    let inner = gate_up.size()[1] / 2;
    let (gate, up) = (gate_up.f_narrow(1, 0, inner)?, gate_up.f_narrow(1, inner, inner)?);
    let d_gate = gate.f_silu_backward(&da.f_mul(&up)?)?;
    Tensor::f_cat(&[d_gate, da.f_mul(&gate.f_silu()?)?], 1)
}

/// Turns pairs of each head in place: `heads` is `[rows, n, head_dim]`, the tables `[rows, head_dim / 2]`.
///
/// The pairs are those of Transformers: element i with element i + head_dim / 2. `backwards` turns the other way, which
/// is the derivative.
pub fn rotate(heads: &Tensor, cos: &Tensor, sin: &Tensor, backwards: bool) -> Result<()> {
    let half = heads.size()[2] / 2;
    let (cos, sin) = (cos.f_unsqueeze(1)?, sin.f_unsqueeze(1)?);
    let sin = if backwards { sin.f_neg()? } else { sin };
    let (mut first, mut second) = (heads.f_narrow(2, 0, half)?, heads.f_narrow(2, half, half)?);
    let turned_first = first.f_mul(&cos)?.f_sub(&second.f_mul(&sin)?)?;
    let turned_second = second.f_mul(&cos)?.f_add(&first.f_mul(&sin)?)?;
    first.f_copy_(&turned_first)?;
    second.f_copy_(&turned_second)?;
    Ok(())
}
