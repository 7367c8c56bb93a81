//! Low-rank products of one job at one site of a layer, forward and backward.

use tch::{TchError, Tensor};

use super::parameters::{LoraGroup, PlacedChange};
use crate::training::kernels::ops;

type Result<T> = std::result::Result<T, TchError>;

/// Dropout masks of one job in one pass.
pub struct Masks {
    /// Key of the pass, derived from seed, task and micro-batch.
    pub key: blake3::Hash,
    /// Probability of dropping an element.
    pub probability: f64,
}

impl Masks {
    /// Returns the mask of a module's input: 0 for dropped elements, 1 / (1 - p) for others. It depends only on key,
    /// module, token and channel.
    fn mask(&self, module: usize, like: &Tensor) -> Result<Tensor> {
        // SplitMix64 in counter mode: word n is a function of the start and of n, and gives the draws of two elements.
        let mut hasher = blake3::Hasher::new_keyed(self.key.as_bytes());
        hasher.update(&(module as u64).to_le_bytes());
        let start = u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("eight bytes"));
        let threshold = (self.probability * f64::from(u32::MAX)) as u32;
        let kept = (1.0 / (1.0 - self.probability)) as f32;
        let length = like.numel() as u64;
        let mut values: Vec<f32> = Vec::with_capacity(length as usize + 1);
        for n in 0..length.div_ceil(2) {
            let word = mix(start.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            values.push(if (word as u32) < threshold { 0.0 } else { kept });
            values.push(if ((word >> 32) as u32) < threshold { 0.0 } else { kept });
        }
        values.truncate(length as usize);
        Tensor::f_from_slice(&values)?.f_view_as(like)?.f_to_device(like.device())?.f_to_kind(like.kind())
    }
}

/// Applies the finalizer of SplitMix64, a bijection of 64-bit words that passes the usual statistical tests in counter
/// mode.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Adds scale · B A input, or B R A input, and the change of the base times the input, to the columns of `output`, in place, and returns
/// scale · A input, `[rows, members * rank]`, for [`add_backward_`].
pub fn add_forward_(group: &LoraGroup, input: &Tensor, output: &Tensor, masks: Option<&Masks>) -> Result<Tensor> {
    let mut low = match masks {
        None => ops::product(input, &group.a.f_tr()?)?,
        Some(masks) => masked_low(group, input, masks)?,
    };
    let _ = low.f_mul_scalar_(group.scale)?;
    for (index, member) in group.members.iter().enumerate() {
        let mut part = low.f_narrow(1, index as i64 * group.rank, group.rank)?;
        if let Some(core) = &member.core {
            part = ops::product(&part, &core.matrix.f_tr()?)?;
        }
        let output = output.f_narrow(1, member.column, member.outputs)?;
        ops::add_product_(&output, &part, &member.b.f_tr()?)?;
        if let Some(change) = &member.change {
            change.add_forward_(input, &output)?;
        }
    }
    Ok(low)
}

/// Products with the change of a frozen weight, which has neither gradient nor dropout.
impl PlacedChange {
    /// Adds the change times `input` to `output`, in place.
    fn add_forward_(&self, input: &Tensor, output: &Tensor) -> Result<()> {
        match self {
            Self::Factors { columns, rows } => ops::add_product_(output, &ops::product(input, &rows.f_tr()?)?, columns),
            Self::Dense(change) => ops::add_product_(output, input, &change.f_tr()?),
        }
    }

    /// Adds the gradient of the input, from that of the output, to `d_input`, in place.
    fn add_backward_(&self, d_output: &Tensor, d_input: &Tensor) -> Result<()> {
        match self {
            Self::Factors { columns, rows } => {
                ops::add_product_(d_input, &ops::product(d_output, &columns.f_tr()?)?, rows)
            }
            Self::Dense(change) => ops::add_product_(d_input, d_output, change),
        }
    }
}

/// Adds the gradients of A and B to those of the group, or that of R alone if there is one, and the input's gradient to `d_input` if it is
/// given, in place.
pub fn add_backward_(
    group: &LoraGroup,
    input: &Tensor,
    low: &Tensor,
    d_output: &Tensor,
    d_input: Option<&Tensor>,
    masks: Option<&Masks>,
) -> Result<()> {
    // With low = s A x and y = B low: dB += dy^T low, d_low = dy B; then dA += (s d_low)^T x and dx += s d_low A.
    // With R, y = B R low: dR += (dy B)^T low and d_low = dy B R, and neither A nor B has a gradient.
    let mut d_low = low.f_empty_like()?;
    for (index, member) in group.members.iter().enumerate() {
        let start = index as i64 * group.rank;
        let d_out = d_output.f_narrow(1, member.column, member.outputs)?;
        let d_part = d_low.f_narrow(1, start, group.rank)?;
        let part = low.f_narrow(1, start, group.rank)?;
        if let Some(core) = &member.core {
            let d_between = ops::product(&d_out, &member.b)?;
            ops::product_into_(&d_part, &d_between, &core.matrix)?;
            ops::add_sum_over_rows_(&core.gradient, &d_between, &part)?;
        } else {
            ops::product_into_(&d_part, &d_out, &member.b)?;
            ops::add_sum_over_rows_(&member.b_gradient, &d_out, &part)?;
        }
        if let Some(sum) = &member.weight_gradient {
            ops::add_sum_over_rows_(sum, &d_out, input)?;
        }
        if let (Some(change), Some(d_input)) = (&member.change, d_input) {
            change.add_backward_(&d_out, d_input)?;
        }
    }
    let _ = d_low.f_mul_scalar_(group.scale)?;
    if let Some(masks) = masks {
        return masked_backward(group, input, &d_low, d_input, masks);
    }
    if !group.has_core {
        ops::add_sum_over_rows_(&group.a_gradient, &d_low, input)?;
    }
    match d_input {
        Some(d_input) => ops::add_product_(d_input, &d_low, &group.a),
        None => Ok(()),
    }
}

/// Computes A input under dropout. Each member has its own mask of the input, as each of PEFT's modules does.
fn masked_low(group: &LoraGroup, input: &Tensor, masks: &Masks) -> Result<Tensor> {
    let mut parts = Vec::with_capacity(group.members.len());
    for (index, member) in group.members.iter().enumerate() {
        let a = group.a.f_narrow(0, index as i64 * group.rank, group.rank)?;
        parts.push(ops::product(&input.f_mul(&masks.mask(member.module, input)?)?, &a.f_tr()?)?);
    }
    Tensor::f_cat(&parts, 1)
}

/// Does the second half of [`add_backward_`] under dropout. The masks are drawn again instead of being saved, since they are
/// as wide as the input.
fn masked_backward(
    group: &LoraGroup,
    input: &Tensor,
    d_low: &Tensor,
    d_input: Option<&Tensor>,
    masks: &Masks,
) -> Result<()> {
    for (index, member) in group.members.iter().enumerate() {
        let start = index as i64 * group.rank;
        let mask = masks.mask(member.module, input)?;
        let d_part = d_low.f_narrow(1, start, group.rank)?;
        if !group.has_core {
            let a_gradient = group.a_gradient.f_narrow(0, start, group.rank)?;
            ops::add_sum_over_rows_(&a_gradient, &d_part, &input.f_mul(&mask)?)?;
        }
        if let Some(d_input) = d_input {
            let through = ops::product(&d_part, &group.a.f_narrow(0, start, group.rank)?)?.f_mul(&mask)?;
            let _ = d_input.shallow_clone().f_add_(&through)?;
        }
    }
    Ok(())
}
