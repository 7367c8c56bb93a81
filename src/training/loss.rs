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

/// Where the weights of the predictions' losses come from.
pub enum Weights<'a> {
    /// No gradient is wanted.
    None,
    /// They stand in the packed rows.
    Known,
    /// They follow from the losses of all predictions, as under DPO.
    FromLosses(&'a dyn Fn(&[f64]) -> Vec<f64>),
}

/// The losses of a pass.
pub struct Losses {
    /// Negative log-likelihood of each prediction [nat], padding included.
    pub nats: Vec<f64>,
    /// Whether no token is likelier than the one to predict; known where no gradient is wanted.
    pub hits: Vec<bool>,
    /// The gradient of the weighted sum at the last layer's output, if it was asked for.
    pub gradient: Option<Tensor>,
}

/// Computes the losses of `x` `[predictions, hidden]`: the last layer's output in the rows that predict.
pub fn cross_entropy(base: &Base, packed: &Packed, x: &Tensor, weights: Weights) -> Result<Losses> {
    let (h, inverse) = ops::rms_norm(x, &base.norm, base.config.rms_norm_eps, base.precision.master_kind())?;
    let head = Head { base, labels: &packed.predictions.labels, h: &h };
    let mut hits = Vec::new();
    let (nats, dh) = match weights {
        Weights::None => (head.losses(Some(&mut hits))?, None),
        Weights::Known => {
            let (nats, dh) = head.gradient(&packed.predictions.weights)?;
            (nats, Some(dh))
        }
        Weights::FromLosses(weigh) => {
            let nats = head.losses(None)?;
            let weights = Tensor::f_from_slice(&weigh(&nats))?.f_to_kind(packed.predictions.weights.kind())?;
            let (_, dh) = head.gradient(&weights.f_to_device(x.device())?)?;
            (nats, Some(dh))
        }
    };
    let gradient =
        dh.map(|dh| ops::rms_norm_backward(&dh, x, &inverse, &base.norm, &dh.f_zeros_like()?)).transpose()?;
    Ok(Losses { nats, hits, gradient })
}

/// The output head on normalised rows.
struct Head<'a> {
    base: &'a Base,
    labels: &'a Tensor,
    h: &'a Tensor,
}

impl Head<'_> {
    /// The losses, and where they are asked for whether each label is the likeliest.
    fn losses(&self, mut hits: Option<&mut Vec<bool>>) -> Result<Vec<f64>> {
        let mut nats = Vec::new();
        self.for_chunks(|chunk, mut logits| {
            let labels = chunk(self.labels)?;
            if let Some(hits) = &mut hits {
                let own = logits.f_gather(1, &labels.f_unsqueeze(1)?, false)?;
                let is_top = own.f_ge_tensor(&logits.f_amax([1i64], true)?)?;
                hits.extend(Vec::<bool>::try_from(is_top.f_flatten(0, -1)?)?);
            }
            nats.extend(ops::cross_entropy(&mut logits, &labels, None, self.base.precision.master_kind())?);
            Ok(())
        })?;
        Ok(nats)
    }

    /// The losses, and the gradient of their weighted sum at `h`.
    fn gradient(&self, weights: &Tensor) -> Result<(Vec<f64>, Tensor)> {
        let mut nats = Vec::new();
        let dh = self.h.f_empty_like()?;
        self.for_chunks(|chunk, mut logits| {
            let (labels, weights) = (chunk(self.labels)?, chunk(weights)?);
            let master = self.base.precision.master_kind();
            nats.extend(ops::cross_entropy(&mut logits, &labels, Some(&weights), master)?);
            ops::product_into(&chunk(&dh)?, &logits, &self.base.head)
        })?;
        Ok((nats, dh))
    }

    /// Calls `body` with the logits of each chunk, and with what cuts that chunk out of another tensor.
    fn for_chunks(&self, mut body: impl FnMut(&dyn Fn(&Tensor) -> Result<Tensor>, Tensor) -> Result<()>) -> Result<()> {
        let (rows, step) = (self.h.size()[0], chunk_rows(self.base));
        for start in (0..rows).step_by(step as usize) {
            let length = step.min(rows - start);
            let chunk = |tensor: &Tensor| tensor.f_narrow(0, start, length);
            body(&chunk, ops::product(&chunk(self.h)?, &self.base.head.f_tr()?)?)?;
        }
        Ok(())
    }
}

/// Rows of a chunk: a multiple of 16, so that a row's bits do not depend on where chunks end.
pub(super) fn chunk_rows(base: &Base) -> i64 {
    let row_bytes = base.config.vocab_size * base.precision.master_kind().elt_size_in_bytes();
    ((CHUNK_BYTES / row_bytes) / 16 * 16).max(16) as i64
}
