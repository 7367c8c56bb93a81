//! Losses of rows under an adapter, without training.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::layer::{Pass, Trainee};
use super::pack::{self, Share};
use super::parameters::Parameters;
use super::{Error, Trainer, loss};
use crate::adapter::Adapter;
use crate::dataset::Sample;

/// Tokens that go through the model at a time. A row's bits do not depend on it.
const CHUNK_TOKENS: usize = 4096;

/// The loss of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleLoss {
    /// Sum of the negative log-likelihoods of its target tokens [nat].
    pub nats: f64,
    /// Number of target tokens.
    pub tokens: u32,
}

impl Trainer {
    /// The loss of each row under `adapter`. The bits of a row depend on no other row.
    ///
    /// # Errors
    /// If a row does not fit the model, the adapter has another layout, or LibTorch fails.
    pub fn evaluate(&self, adapter: &Adapter, samples: &[Arc<Sample>]) -> Result<Vec<SampleLoss>, Error> {
        let _guard = tch::no_grad_guard();
        if *adapter.layout != *self.layout() {
            let reason = "the adapter to evaluate has another layout than the trainer".into();
            return Err(Error::Job { job: 0, reason });
        }
        for (row, sample) in samples.iter().enumerate() {
            pack::check_sample(&self.base, sample).map_err(|reason| Error::Row { job: 0, step: 0, row, reason })?;
        }
        let parameters = Parameters::new(&self.placement, &self.base, adapter)?;
        let mut losses = Vec::with_capacity(samples.len());
        for chunk in chunks(samples) {
            losses.extend(self.evaluate_chunk(&parameters, chunk)?);
        }
        Ok(losses)
    }

    fn evaluate_chunk(&self, parameters: &Parameters, samples: &[Arc<Sample>]) -> Result<Vec<SampleLoss>, Error> {
        let packed = pack::pack(&self.base, &[Share { samples, weight: 0.0 }])?;
        let trainees = [Trainee { parameters, masks: None }];
        let pass = Pass { base: &self.base, packed: &packed, trainees: &trainees };
        let mut x = self.base.embedding.f_index_select(0, &packed.ids)?;
        for layer in 0..self.base.blocks.len() {
            x = pass.forward(layer, x)?.0;
        }
        let nats = loss::cross_entropy(&self.base, &packed, &x, false)?.nats;
        let of_row = |range: &std::ops::Range<usize>| SampleLoss {
            nats: nats[range.clone()].iter().sum(),
            tokens: range.len() as u32,
        };
        Ok(packed.predictions.samples[0].iter().map(of_row).collect())
    }
}

/// Consecutive rows of at most [`CHUNK_TOKENS`] tokens, at least one row each.
fn chunks(samples: &[Arc<Sample>]) -> Vec<&[Arc<Sample>]> {
    let mut chunks = Vec::new();
    let (mut first, mut tokens) = (0, 0);
    for (index, sample) in samples.iter().enumerate() {
        if index > first && tokens + sample.ids.len() > CHUNK_TOKENS {
            chunks.push(&samples[first..index]);
            (first, tokens) = (index, 0);
        }
        tokens += sample.ids.len();
    }
    if first < samples.len() {
        chunks.push(&samples[first..]);
    }
    chunks
}
