//! Losses of rows under an adapter, without training.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::layer::{Pass, Trainee};
use super::loss::{self, Weights};
use super::pack::{self, Packed, Share};
use super::parameters::Parameters;
use super::{Error, Trainer, ops};
use crate::adapter::Adapter;
use crate::data::Sample;
use crate::model::Precision;

/// Tokens that go through the model at a time. A row's bits do not depend on it.
pub const CHUNK_TOKENS: usize = 4096;

/// Tokens of one part of an evaluation. Small enough that two workers end at about the same time and that progress shows,
/// large enough that a product with a weight costs far more than reading the weight.
const PART_TOKENS: usize = 1024;

/// The loss of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleLoss {
    /// Sum of the negative log-likelihoods of its target tokens [nat].
    pub nats: f64,
    /// Number of target tokens.
    pub tokens: u32,
    /// Target tokens than which none was likelier.
    pub hits: u32,
}

impl Trainer {
    /// The loss of each row under `adapter`. The bits of a row depend on no other row.
    ///
    /// # Errors
    /// If a row does not fit the model, the adapter has another layout, or LibTorch fails.
    pub fn evaluate(&self, adapter: &Adapter, samples: &[Arc<Sample>]) -> Result<Vec<SampleLoss>, Error> {
        let _guard = self.enter();
        self.check_evaluation(adapter, samples)?;
        let parameters = Parameters::new(&self.placement, &self.base, adapter)?;
        let mut losses = Vec::with_capacity(samples.len());
        // LLM.int8() looks for outliers in all rows of a pass, so there each sample has a pass of its own.
        let alone = matches!(self.base.precision, Precision::LlmInt8(_));
        for chunk in chunks(samples, if alone { 1 } else { CHUNK_TOKENS }) {
            losses.extend(self.evaluate_chunk(&parameters, chunk)?);
        }
        Ok(losses)
    }

    /// The parts of constant size into which an evaluation of these rows may be cut: consecutive ranges of `samples`.
    /// [`Self::evaluate`] gives a row the same bits in its part as among all rows.
    ///
    /// # Errors
    /// As [`Self::evaluate`], before anything is computed.
    pub fn evaluation_parts(&self, adapter: &Adapter, samples: &[Arc<Sample>]) -> Result<Vec<Range<usize>>, Error> {
        self.check_evaluation(adapter, samples)?;
        // LLM.int8() evaluates each row alone. Elsewhere, where other rows of a pass may change bits, a part is the pass
        // that an undivided evaluation would make.
        let any_size = self.reads_alone() || matches!(self.base.precision, Precision::LlmInt8(_));
        let mut parts = Vec::new();
        let mut first = 0;
        for chunk in chunks(samples, if any_size { PART_TOKENS } else { CHUNK_TOKENS }) {
            parts.push(first..first + chunk.len());
            first += chunk.len();
        }
        Ok(parts)
    }

    fn evaluate_chunk(&self, parameters: &Parameters, samples: &[Arc<Sample>]) -> Result<Vec<SampleLoss>, Error> {
        let packed = pack::pack(&self.base, &[Share { samples, weight: 0.0 }])?;
        let x = self.last_rows(parameters, &packed)?;
        let losses = loss::cross_entropy(&self.base, &packed, &x, Weights::None)?;
        let of_row = |range: &std::ops::Range<usize>| SampleLoss {
            nats: losses.nats[range.clone()].iter().sum(),
            tokens: range.len() as u32,
            hits: losses.hits[range.clone()].iter().filter(|&&hit| hit).count() as u32,
        };
        Ok(packed.predictions.samples[0].iter().map(of_row).collect())
    }

    /// The last layer's output in the rows that predict.
    fn last_rows(&self, parameters: &Parameters, packed: &Packed) -> Result<Tensor, Error> {
        let trainees = [Trainee { parameters, masks: None }];
        let pass = Pass { base: &self.base, packed, trainees: &trainees };
        let mut x = self.base.embedding.f_index_select(0, &packed.ids)?;
        for layer in 0..self.base.blocks.len() {
            x = pass.forward(layer, x)?.0;
        }
        Ok(x)
    }

    /// The logits `[ids, vocab]` of each next token, in f32 (f64 where the base is).
    ///
    /// # Errors
    /// If the ids do not fit the model, the adapter has another layout, or LibTorch fails.
    pub fn logits(&self, adapter: &Adapter, ids: &[u32]) -> Result<Tensor, Error> {
        let _guard = self.enter();
        let sample = predicting_everywhere(ids);
        self.check_evaluation(adapter, std::slice::from_ref(&sample))?;
        let parameters = Parameters::new(&self.placement, &self.base, adapter)?;
        let packed = pack::pack(&self.base, &[Share { samples: &[sample], weight: 0.0 }])?;
        let x = self.last_rows(&parameters, &packed)?;
        let master = self.base.precision.master_kind();
        let (h, _) = ops::rms_norm(&x, &self.base.norm, self.base.config.rms_norm_eps, master)?;
        let logits = ops::product(&h, &self.base.head.f_tr()?)?.f_narrow(0, 0, ids.len() as i64)?;
        Ok(logits.f_to_kind(master)?)
    }

    /// For each text, the mean over its tokens of the base model's last normalised states: a vector that stands for it.
    ///
    /// # Errors
    /// If a text is empty or does not fit the model, or LibTorch fails.
    pub fn mean_states(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f64>>, Error> {
        let _guard = self.enter();
        let adapter = Adapter::zeros(self.layout());
        // As in `logits`: every position predicts.
        let sample = |ids: &Vec<u32>| {
            let targets = std::iter::once(1..ids.len() as u32 + 1).collect();
            Arc::new(Sample { ids: ids.iter().copied().chain([0]).collect(), targets })
        };
        let samples: Vec<_> = texts.iter().map(sample).collect();
        self.check_evaluation(&adapter, &samples)?;
        let parameters = Parameters::new(&self.placement, &self.base, &adapter)?;
        let mut means = Vec::with_capacity(samples.len());
        for chunk in chunks(&samples, CHUNK_TOKENS) {
            let packed = pack::pack(&self.base, &[Share { samples: chunk, weight: 0.0 }])?;
            let x = self.last_rows(&parameters, &packed)?;
            let master = self.base.precision.master_kind();
            let (h, _) = ops::rms_norm(&x, &self.base.norm, self.base.config.rms_norm_eps, master)?;
            let h = h.f_to_kind(tch::Kind::Double)?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
            let width = self.base.config.hidden_size;
            let states = Vec::<f64>::try_from(h.f_flatten(0, -1)?)?;
            means.extend(packed.predictions.samples[0].iter().map(|rows| mean_row(&states, rows, width)));
        }
        Ok(means)
    }

    /// Refuses what cannot be evaluated, before anything is computed.
    fn check_evaluation(&self, adapter: &Adapter, samples: &[Arc<Sample>]) -> Result<(), Error> {
        if *adapter.layout != *self.layout() {
            let reason = "the adapter to evaluate has another layout than the trainer".into();
            return Err(Error::Job { job: 0, reason });
        }
        for (row, sample) in samples.iter().enumerate() {
            pack::check_sample(&self.base, sample).map_err(|reason| Error::Row { job: 0, step: 0, row, reason })?;
        }
        Ok(())
    }
}

/// A sample in which every one of `ids` predicts: what follows the last is asked for by a token that stands for it.
pub(super) fn predicting_everywhere(ids: &[u32]) -> Arc<Sample> {
    let mut padded = ids.to_vec();
    padded.push(0);
    let every = std::iter::once(1..padded.len() as u32).collect();
    Arc::new(Sample { ids: padded, targets: every })
}

/// The mean of these rows of a matrix of this width, row-major.
fn mean_row(values: &[f64], rows: &std::ops::Range<usize>, width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    for row in values[rows.start * width..rows.end * width].chunks(width) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    mean.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
    mean
}

/// Consecutive rows of at most `most` tokens together, at least one row each.
fn chunks(samples: &[Arc<Sample>], most: usize) -> Vec<&[Arc<Sample>]> {
    let mut chunks = Vec::new();
    let (mut first, mut tokens) = (0, 0);
    for (index, sample) in samples.iter().enumerate() {
        if index > first && tokens + sample.ids.len() > most {
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
