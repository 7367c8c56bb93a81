//! Evaluation of rows under an adapter, without gradients.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::job::Step;
use super::layer::{Pass, PassJob};
use super::pack::{self, BatchPart, PackedBatch};
use super::parameters::Parameters;
use super::trainer::Trainer;
use crate::adapter::Adapter;
use crate::data::Sample;
use crate::model::{Base, ErrorSum, Precision, RelativeError};
use crate::store::Digest;
use crate::training::Error;
use crate::training::kernels::ops;
use crate::training::objectives::cross_entropy::{LossWeights, cross_entropy, logits};

/// [token] -- Greatest size of a pass. A row's bits do not depend on it.
pub const CHUNK_TOKENS: usize = 4096;

/// [token] -- Size of one part of an evaluation. It is small enough that workers finish at about the same time and that
/// progress is visible, and large enough that multiplying with a weight costs far more than reading it.
const PART_TOKENS: usize = 1024;

/// Loss of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleLoss {
    /// [nat] -- Sum of the negative log-likelihoods of the target tokens.
    pub nats: f64,
    /// Number of target tokens.
    pub tokens: u32,
    /// Number of target tokens that were the most likely ones.
    pub hits: u32,
}

impl Trainer {
    /// Computes the loss of each row under `adapter`. The bits of a row do not depend on the other rows.
    ///
    /// # Errors
    /// If a row does not fit the model, the adapter has another layout, or LibTorch fails.
    pub fn evaluate(&self, adapter: &Adapter, samples: &[Arc<Sample>]) -> Result<Vec<SampleLoss>, Error> {
        let _guard = self.enter();
        self.check_evaluation(adapter, samples)?;
        let parameters = Parameters::new(&self.placement, &self.base, adapter)?;
        let mut losses = Vec::with_capacity(samples.len());
        // LLM.int8() looks for outliers in all rows of a pass, so each sample gets its own pass there.
        let alone = matches!(self.base.precision, Precision::LlmInt8(_));
        for chunk in chunks(samples, if alone { 1 } else { CHUNK_TOKENS }) {
            losses.extend(self.evaluate_chunk(&parameters, chunk)?);
        }
        Ok(losses)
    }

    /// Divides an evaluation into parts of about constant size, which are consecutive ranges of `samples`.
    /// [`Self::evaluate`] gives a row the same bits in its part as among all rows.
    ///
    /// # Errors
    /// As [`Self::evaluate`], before anything is computed.
    pub fn evaluation_parts(&self, adapter: &Adapter, samples: &[Arc<Sample>]) -> Result<Vec<Range<usize>>, Error> {
        self.check_evaluation(adapter, samples)?;
        let mut parts = Vec::new();
        let mut first = 0;
        for chunk in chunks(samples, self.evaluation_part_tokens()) {
            parts.push(first..first + chunk.len());
            first += chunk.len();
        }
        Ok(parts)
    }

    /// [token] -- Returns the greatest size of a part of an evaluation with more than one row.
    pub fn evaluation_part_tokens(&self) -> usize {
        // If other rows of a pass may change bits, a part must be a pass of the undivided evaluation. LLM.int8()
        // evaluates each row alone, so parts of any size will do there too.
        let any_size = self.reads_alone() || matches!(self.base.precision, Precision::LlmInt8(_));
        if any_size { PART_TOKENS } else { CHUNK_TOKENS }
    }

    /// Evaluates rows in one pass.
    fn evaluate_chunk(&self, parameters: &Parameters, samples: &[Arc<Sample>]) -> Result<Vec<SampleLoss>, Error> {
        let packed = pack::pack(&self.base, &[BatchPart { samples, weight: 0.0 }])?;
        let x = self.last_rows(parameters, &packed)?;
        let losses = cross_entropy(&self.base, &packed.predictions.labels, &x, LossWeights::None)?;
        let mut found = Vec::with_capacity(samples.len());
        for range in &packed.predictions.samples[0] {
            found.push(SampleLoss {
                nats: losses.nats[range.clone()].iter().sum(),
                tokens: range.len() as u32,
                hits: losses.hits[range.clone()].iter().filter(|&&hit| hit).count() as u32,
            });
        }
        Ok(found)
    }

    /// Returns the last layer's output in the rows that predict.
    fn last_rows(&self, parameters: &Parameters, packed: &PackedBatch) -> Result<Tensor, Error> {
        let trainees = [PassJob { parameters, masks: None }];
        let pass = Pass { base: &self.base, packed, trainees: &trainees };
        let mut x = self.base.embed(&packed.ids)?;
        for layer in 0..self.base.blocks.len() {
            x = pass.forward(layer, x)?.0;
        }
        Ok(x)
    }

    /// Computes the logits `[ids, vocab]` of each next token, in f32 (f64 if the base is).
    ///
    /// # Errors
    /// If the ids do not fit the model, the adapter has another layout, or LibTorch fails.
    pub fn logits(&self, adapter: &Adapter, ids: &[u32]) -> Result<Tensor, Error> {
        let _guard = self.enter();
        let logits = logits(&self.base, &self.last_states(adapter, ids)?)?;
        Ok(logits.f_to_kind(self.base.precision.master_kind())?)
    }

    /// Computes the rows `[ids, hidden]` that the output head is applied to.
    fn last_states(&self, adapter: &Adapter, ids: &[u32]) -> Result<Tensor, Error> {
        let sample = predicting_everywhere(ids);
        self.check_evaluation(adapter, std::slice::from_ref(&sample))?;
        let parameters = Parameters::new(&self.placement, &self.base, adapter)?;
        let packed = pack::pack(&self.base, &[BatchPart { samples: &[sample], weight: 0.0 }])?;
        let x = self.last_rows(&parameters, &packed)?;
        // The predictions are padded; the first rows are those of the ids.
        Ok(normalized(&self.base, &x)?.f_narrow(0, 0, ids.len() as i64)?)
    }

    /// Computes an embedding of each text: the mean over its tokens of the base model's last normalized hidden states.
    ///
    /// # Errors
    /// If a text is empty or does not fit the model, or LibTorch fails.
    pub fn mean_states(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f64>>, Error> {
        let _guard = self.enter();
        let adapter = Adapter::zeros(self.layout());
        // As in `logits`, every position predicts, so that no row is left out after the last layer's attention.
        let samples: Vec<_> = texts.iter().map(|ids| predicting_everywhere(ids)).collect();
        self.check_evaluation(&adapter, &samples)?;
        let parameters = Parameters::new(&self.placement, &self.base, &adapter)?;
        let mut means = Vec::with_capacity(samples.len());
        for chunk in chunks(&samples, CHUNK_TOKENS) {
            let packed = pack::pack(&self.base, &[BatchPart { samples: chunk, weight: 0.0 }])?;
            let x = self.last_rows(&parameters, &packed)?;
            let h = normalized(&self.base, &x)?;
            let h = h.f_to_kind(tch::Kind::Double)?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
            let width = self.base.config.hidden_size;
            let states = Vec::<f64>::try_from(h.f_flatten(0, -1)?)?;
            means.extend(packed.predictions.samples[0].iter().map(|rows| mean_row(&states, rows, width)));
        }
        Ok(means)
    }

    /// Checks adapter and rows before anything is computed.
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

/// Log-probabilities under the reference model of DPO: the base alone, or with a reference adapter.
impl Trainer {
    /// Adds an adapter that objectives name as their reference by its hash, which is returned.
    pub fn add_reference_adapter(&self, adapter: &Arc<Adapter>) -> Digest {
        self.references.add_adapter(adapter)
    }

    /// Returns whether a reference's log-probability of a row is cached.
    pub fn knows_reference(&self, reference: Option<Digest>, sample: &Sample) -> bool {
        self.references.get(reference, sample).is_some()
    }

    /// Adds a log-probability in nat to the cache, as [`Self::reference`] returned it for this row and reference under
    /// this base.
    pub fn set_reference(&self, reference: Option<Digest>, sample: &Sample, log_probability: f64) {
        self.references.set(reference, sample, log_probability);
    }

    /// Returns the log-probability in nat of a row's targets under the base with a reference adapter, or without any,
    /// computing it if it is not cached.
    ///
    /// # Errors
    /// If the row does not fit the model, or LibTorch fails.
    ///
    /// # Panics
    /// If the trainer was not given the reference adapter.
    pub fn reference(&self, reference: Option<Digest>, sample: &Arc<Sample>) -> Result<f64, Error> {
        if let Some(known) = self.references.get(reference, sample) {
            return Ok(known);
        }
        let adapter = match reference {
            Some(hash) => self.references.adapter(hash),
            None => Arc::new(Adapter::zeros(self.layout())),
        };
        let losses = self.evaluate(&adapter, std::slice::from_ref(sample))?;
        self.set_reference(reference, sample, -losses[0].nats);
        Ok(-losses[0].nats)
    }

    /// Returns the log-probabilities of all rows of a job, indexed by step, micro-batch and row.
    pub(super) fn references_of(&self, reference: Option<Digest>, steps: &[Step]) -> Result<Vec<Vec<Vec<f64>>>, Error> {
        let mut references = Vec::with_capacity(steps.len());
        for step in steps {
            let mut of_step = Vec::with_capacity(step.len());
            for rows in step {
                of_step.push(rows.iter().map(|sample| self.reference(reference, sample)).collect::<Result<_, _>>()?);
            }
            references.push(of_step);
        }
        Ok(references)
    }
}

/// Distance from the same base in bfloat16.
impl Trainer {
    /// Measures the distance of the logits of `ids` from those of the same base in bfloat16, and records it in the
    /// fingerprint.
    ///
    /// The layers are loaded again from the base's `folder`, on the host, two at a time, and a few rows of logits are in
    /// memory at a time.
    ///
    /// # Errors
    /// If the folder cannot be loaded, the ids do not fit the model, or LibTorch fails.
    pub fn measure_logit_error(&mut self, folder: &Path, ids: &[u32]) -> Result<RelativeError, Error> {
        let guard = self.enter();
        let zeros = Adapter::zeros(self.layout());
        let own = self.last_states(&zeros, ids)?;
        let (bf16, states) = self.bf16_states(folder, &zeros, ids)?;
        let mut sum = ErrorSum::default();
        let rows_max = (COMPARED_LOGITS / self.base.config.vocab_size).max(1);
        sum.add_parts((0..ids.len()).step_by(rows_max).map(|start| {
            let rows = rows_max.min(ids.len() - start);
            let part = |states: &Tensor| states.f_narrow(0, start as i64, rows as i64);
            Ok::<_, Error>((logits(&bf16, &part(&states)?)?, logits(&self.base, &part(&own)?)?))
        }))?;
        drop(guard);
        self.fingerprint.base.logit_error = Some(sum.relative());
        Ok(sum.relative())
    }

    /// Computes the rows `[ids, hidden]` that the output head is applied to, by the base of `folder` in bfloat16, and returns
    /// them with that base, which has no layers. The adapter `zeros` changes nothing, so that its part for the lowest layer
    /// serves for every layer.
    fn bf16_states(&self, folder: &Path, zeros: &Adapter, ids: &[u32]) -> Result<(Base, Tensor), Error> {
        let (mut base, layers) = self.base.bf16_without_layers(folder)?;
        let sample = predicting_everywhere(ids);
        let packed = pack::pack(&base, &[BatchPart { samples: &[sample], weight: 0.0 }])?;
        let parameters = Parameters::new(&self.placement, &base, zeros)?;
        let trainees = [PassJob { parameters: &parameters, masks: None }];
        let mut x = base.embed(&packed.ids)?;
        // A pass treats the last block of its base as the model's last layer, so the next layer must be loaded as well.
        base.blocks.push(layers.load(0)?);
        for next in 1..=base.config.layers {
            if next < base.config.layers {
                base.blocks.push(layers.load(next)?);
            }
            x = Pass { base: &base, packed: &packed, trainees: &trainees }.forward(0, x)?.0;
            base.blocks.remove(0);
        }
        let states = normalized(&base, &x)?.f_narrow(0, 0, ids.len() as i64)?;
        Ok((base, states))
    }
}

/// Number of logits that are compared at a time with those in bfloat16, in whole rows.
const COMPARED_LOGITS: usize = 1 << 20;

/// Returns the rows that the output head is applied to.
fn normalized(base: &Base, x: &Tensor) -> Result<Tensor, TchError> {
    Ok(ops::rms_norm(x, &base.norm, base.config.rms_norm_eps, base.precision.master_kind())?.0)
}

/// Returns a sample in which each of `ids` predicts the next token. A placeholder token is appended for the last one to
/// predict.
fn predicting_everywhere(ids: &[u32]) -> Arc<Sample> {
    let mut padded = ids.to_vec();
    padded.push(0);
    let every = std::iter::once(1..padded.len() as u32).collect();
    Arc::new(Sample { ids: padded, targets: every })
}

/// Returns the mean of some rows of a row-major matrix with this width.
fn mean_row(values: &[f64], rows: &std::ops::Range<usize>, width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    for row in values[rows.start * width..rows.end * width].chunks(width) {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += value;
        }
    }
    for sum in &mut mean {
        *sum /= rows.len() as f64;
    }
    mean
}

/// Divides rows into consecutive chunks of at most `most` tokens; a chunk has at least one row, however long.
fn chunks(samples: &[Arc<Sample>], most: usize) -> Vec<&[Arc<Sample>]> {
    let mut chunks = Vec::new();
    let mut first = 0;
    let mut tokens = 0;
    for (index, sample) in samples.iter().enumerate() {
        if index > first && tokens + sample.ids.len() > most {
            chunks.push(&samples[first..index]);
            first = index;
            tokens = 0;
        }
        tokens += sample.ids.len();
    }
    if first < samples.len() {
        chunks.push(&samples[first..]);
    }
    chunks
}
