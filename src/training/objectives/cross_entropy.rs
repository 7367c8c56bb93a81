//! Cross-entropy of the rows that predict a target token, and its gradient at the last layer's output.
//!
//! Logits `[rows, vocabulary]` are the largest tensors of a pass, so they are computed for those rows only, one chunk of rows
//! at a time, and their gradient takes their memory.

use tch::{TchError, Tensor};

use crate::model::Base;
use crate::training::kernels::ops;

type Result<T> = std::result::Result<T, TchError>;

/// [byte] -- Size of the logits of one chunk.
const CHUNK_BYTES: usize = 64 << 20;

/// Source of the weights of the predictions' losses in the gradient.
pub enum LossWeights<'a> {
    /// No gradient is computed.
    None,
    /// These weights, `[predictions]`.
    Known(&'a Tensor),
    /// A function of the losses of all predictions, as in DPO.
    FromLosses(&'a dyn Fn(&[f64]) -> Vec<f64>),
}

/// Losses of a pass.
pub struct PassLosses {
    /// [nat] -- Negative log-likelihood of each prediction, padding included.
    pub nats: Vec<f64>,
    /// Whether no token is likelier than the target; empty where a gradient is computed.
    pub hits: Vec<bool>,
    /// Gradient of the weighted sum of losses at the last layer's output; `None` under [`LossWeights::None`].
    pub gradient: Option<Tensor>,
}

/// Computes the losses of `x` `[predictions, hidden]`: the last layer's output in the rows that predict.
pub fn cross_entropy(base: &Base, labels: &Tensor, x: &Tensor, weights: LossWeights) -> Result<PassLosses> {
    let (h, inverse) = ops::rms_norm(x, &base.norm, base.config.rms_norm_eps, base.precision.master_kind())?;
    let head = Head { base, labels, h: &h };
    let mut hits = Vec::new();
    let (nats, dh) = match weights {
        LossWeights::None => (head.losses(Some(&mut hits))?, None),
        LossWeights::Known(weights) => {
            let (nats, dh) = head.gradient(weights)?;
            (nats, Some(dh))
        }
        LossWeights::FromLosses(weigh) => {
            // The weights depend on all losses, so the logits are computed twice: for the losses and for the gradient.
            let nats = head.losses(None)?;
            let weights = Tensor::f_from_slice(&weigh(&nats))?.f_to_kind(base.precision.master_kind())?;
            let (_, dh) = head.gradient(&weights.f_to_device(x.device())?)?;
            (nats, Some(dh))
        }
    };
    let gradient =
        dh.map(|dh| ops::rms_norm_backward(&dh, x, &inverse, &base.norm, &dh.f_zeros_like()?)).transpose()?;
    Ok(PassLosses { nats, hits, gradient })
}

/// Computes the logits `[rows, vocabulary]` of normalized rows.
pub fn logits(base: &Base, h: &Tensor) -> Result<Tensor> {
    let logits = ops::product(h, &base.head.f_tr()?)?;
    scale_and_bound_(base, &logits)?;
    Ok(logits)
}

/// Applies the factor and the bound that the family puts on the products of the output head, in place.
pub fn scale_and_bound_(base: &Base, products: &Tensor) -> Result<()> {
    let variant = &base.config.variant;
    if variant.logit_scale != 1.0 {
        let _ = products.shallow_clone().f_mul_scalar_(variant.logit_scale)?;
    }
    match variant.logit_cap {
        Some(cap) => ops::soft_cap_(products, cap),
        None => Ok(()),
    }
}

/// Output head with the normalized rows that it is applied to.
struct Head<'a> {
    base: &'a Base,
    labels: &'a Tensor,
    h: &'a Tensor,
}

impl Head<'_> {
    /// Computes the losses, and with `hits` whether each label is the likeliest token.
    fn losses(&self, mut hits: Option<&mut Vec<bool>>) -> Result<Vec<f64>> {
        let mut nats = Vec::new();
        for chunk in self.chunks() {
            let mut logits = self.logits(chunk)?;
            let labels = chunk.of(self.labels)?;
            if let Some(hits) = &mut hits {
                let own = logits.f_gather(1, &labels.f_unsqueeze(1)?, false)?;
                let is_top = own.f_ge_tensor(&logits.f_amax([1i64], true)?)?;
                hits.extend(Vec::<bool>::try_from(is_top.f_flatten(0, -1)?)?);
            }
            nats.extend(ops::cross_entropy(&mut logits, &labels, None, self.base.precision.master_kind())?);
        }
        Ok(nats)
    }

    /// Computes the losses and the gradient of their weighted sum at `h`.
    fn gradient(&self, weights: &Tensor) -> Result<(Vec<f64>, Tensor)> {
        let master = self.base.precision.master_kind();
        let variant = &self.base.config.variant;
        let mut nats = Vec::new();
        let dh = self.h.f_empty_like()?;
        for chunk in self.chunks() {
            let mut logits = self.logits(chunk)?;
            // A bound's slope is computed from the bounded logits.
            let bounded = match variant.logit_cap {
                Some(cap) => Some((cap, ops::copied(&logits)?)),
                None => None,
            };
            // The logits become their own gradient, weight * (softmax - one-hot), which the head's weights take back to h.
            nats.extend(ops::cross_entropy(&mut logits, &chunk.of(self.labels)?, Some(&chunk.of(weights)?), master)?);
            if let Some((cap, bounded)) = bounded {
                ops::soft_cap_backward_(&logits, &bounded, cap)?;
            }
            if variant.logit_scale != 1.0 {
                let _ = logits.f_mul_scalar_(variant.logit_scale)?;
            }
            ops::product_into_(&chunk.of(&dh)?, &logits, &self.base.head)?;
        }
        Ok((nats, dh))
    }

    /// Computes the logits `[rows, vocabulary]` of a chunk.
    fn logits(&self, chunk: Chunk) -> Result<Tensor> {
        logits(self.base, &chunk.of(self.h)?)
    }

    /// Returns the chunks of all rows in order.
    fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let rows = self.h.size()[0];
        let step = chunk_rows(self.base);
        (0..rows).step_by(step as usize).map(move |start| Chunk { start, length: step.min(rows - start) })
    }
}

/// Consecutive rows whose logits are computed at a time.
#[derive(Clone, Copy)]
struct Chunk {
    start: i64,
    length: i64,
}

impl Chunk {
    /// Returns these rows of a table or vector, as a view.
    fn of(self, tensor: &Tensor) -> Result<Tensor> {
        tensor.f_narrow(0, self.start, self.length)
    }
}

/// Returns the number of rows per chunk: logits of about [`CHUNK_BYTES`], in multiples of 16, to which rows are padded.
pub fn chunk_rows(base: &Base) -> i64 {
    let row_bytes = base.config.vocab_size * base.precision.master_kind().elt_size_in_bytes();
    ((CHUNK_BYTES / row_bytes) / 16 * 16).max(16) as i64
}
