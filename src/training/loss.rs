//! Cross-entropy of the rows that predict a target token, and its gradient at the last layer's output.
//!
//! Logits exist only for those rows, and only a chunk of them at a time.

use tch::{TchError, Tensor};

use super::ops;
use super::pack::Packed;
use crate::model::Base;

type Result<T> = std::result::Result<T, TchError>;

/// Logits that exist at a time [byte].
const CHUNK_BYTES: usize = 64 << 20;

/// The losses of a pass.
pub struct Losses {
    /// Negative log-likelihood of each prediction [nat], padding included.
    pub nats: Vec<f64>,
    /// The gradient of the weighted sum at the last layer's output, if it was asked for.
    pub gradient: Option<Tensor>,
}

/// Computes the losses of `x` `[rows, hidden]`, the last layer's output.
pub fn cross_entropy(base: &Base, packed: &Packed, x: &Tensor, with_gradient: bool) -> Result<Losses> {
    let master = base.precision.master_kind();
    let predictions = &packed.predictions;
    let chosen = x.f_index_select(0, &predictions.rows)?;
    let (h, inverse) = ops::rms_norm(&chosen, &base.norm, base.config.rms_norm_eps, master)?;
    let dh = with_gradient.then(|| h.f_empty_like()).transpose()?;
    let mut nats = Vec::with_capacity(h.size()[0] as usize);
    let rows = h.size()[0];
    let step = chunk_rows(base);
    for start in (0..rows).step_by(step as usize) {
        let length = step.min(rows - start);
        let chunk = |tensor: &Tensor| tensor.f_narrow(0, start, length);
        let mut logits = chunk(&h)?.f_mm(&base.head.f_tr()?)?;
        let weights = with_gradient.then(|| chunk(&predictions.weights)).transpose()?;
        nats.extend(ops::cross_entropy(&mut logits, &chunk(&predictions.labels)?, weights.as_ref(), master)?);
        if let Some(dh) = &dh {
            chunk(dh)?.f_copy_(&logits.f_mm(&base.head)?)?;
        }
    }
    let gradient = dh.map(|dh| {
        let d_chosen = ops::rms_norm_backward(&dh, &chosen, &inverse, &base.norm, &dh.f_zeros_like()?)?;
        let real = d_chosen.f_index_select(0, &predictions.real_places)?;
        x.f_zeros_like()?.f_index_copy_(0, &predictions.real_rows, &real)
    });
    Ok(Losses { nats, gradient: gradient.transpose()? })
}

/// Rows of a chunk: a multiple of 16, so that a row's bits do not depend on where chunks end.
fn chunk_rows(base: &Base) -> i64 {
    let row_bytes = base.config.vocab_size * base.precision.master_kind().elt_size_in_bytes();
    ((CHUNK_BYTES / row_bytes) / 16 * 16).max(16) as i64
}
