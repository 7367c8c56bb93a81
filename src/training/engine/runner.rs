//! A job in progress: its parameters, its position in the training data, and its results so far.

use std::ops::Range;
use std::sync::Arc;

use super::job::{Accumulation, Job, Objective, Status, TrainingOutcome};
use super::lora::Masks;
use super::optimizer::{self, State};
use super::pack::BatchPart;
use super::parameters::{LoraPlacement, Parameters};
use crate::data::Sample;
use crate::model::Base;
use crate::training::Error;
use crate::training::objectives::preference::{Pairs, PreferenceMetrics};

/// A job in progress.
pub struct Runner<'a> {
    job: &'a Job,
    parameters: Parameters,
    state: State,
    /// Log-probabilities under the reference, indexed by step, micro-batch and row; empty unless under DPO.
    references: Vec<Vec<Vec<f64>>>,
    /// Index of the current step.
    step: usize,
    /// Index of the next micro-batch in the current step.
    micro: usize,
    /// Loss of the current step so far.
    loss: f64,
    /// Preference metrics of the current step so far.
    preference: PreferenceMetrics,
    losses: Vec<f64>,
    preferences: Vec<PreferenceMetrics>,
    grad_norms: Vec<f64>,
    tokens: u64,
    target_tokens: u64,
    failed: bool,
}

impl<'a> Runner<'a> {
    /// Prepares a job for its first step. `references` are the log-probabilities of its rows under the reference, indexed
    /// by step, micro-batch and row; they are read only under DPO.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn new(
        base: &Base,
        placement: &Arc<LoraPlacement>,
        job: &'a Job,
        references: Vec<Vec<Vec<f64>>>,
    ) -> Result<Self, Error> {
        let parameters = Parameters::new(placement, base, &job.adapter)?;
        let state = State::new(base, job, &parameters)?;
        Ok(Self {
            job,
            parameters,
            state,
            references,
            step: 0,
            micro: 0,
            loss: 0.0,
            preference: PreferenceMetrics::default(),
            losses: Vec::new(),
            preferences: Vec::new(),
            grad_norms: Vec::new(),
            tokens: 0,
            target_tokens: 0,
            failed: false,
        })
    }

    /// Returns whether there is a micro-batch left to train on.
    pub fn is_active(&self) -> bool {
        !self.failed && self.step < self.job.steps.len()
    }

    /// Returns the current adapter.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Makes passes sum the gradients of the frozen weights, as [`Parameters::sum_weight_gradients`].
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn sum_weight_gradients(&mut self) -> Result<(), Error> {
        Ok(self.parameters.sum_weight_gradients()?)
    }

    /// Returns the next micro-batch, with the weight of each target token (under DPO, of each pair) in the step's loss.
    pub fn share(&self) -> BatchPart<'a> {
        let step = &self.job.steps[self.step];
        let samples = &step[self.micro];
        let weight = match self.job.hyper.accumulation {
            Accumulation::PerMicroBatch => 1.0 / (self.units(samples) as f64 * step.len() as f64),
            Accumulation::OverNominal(micro_batches) => 1.0 / (self.units(samples) as f64 * f64::from(micro_batches)),
            Accumulation::PerToken => 1.0 / step.iter().map(|samples| self.units(samples)).sum::<u64>() as f64,
        };
        BatchPart { samples, weight }
    }

    /// Returns the number of terms in a micro-batch's loss: target tokens, or pairs under DPO.
    fn units(&self, samples: &[Arc<Sample>]) -> u64 {
        match self.job.objective {
            Objective::Sft => targets(samples),
            Objective::Dpo { .. } => samples.len() as u64 / 2,
        }
    }

    /// Returns whether the weights of the predictions' losses are known before the losses are.
    pub fn weights_are_known(&self) -> bool {
        self.job.objective == Objective::Sft
    }

    /// Writes the weights of this job's predictions, that is, the derivatives of the step's loss with respect to their
    /// losses.
    pub fn weigh(&self, samples: &[Range<usize>], nats: &[f64], weights: &mut [f64]) {
        let share = self.share().weight;
        match self.pairs(samples, nats) {
            None => {
                for range in samples {
                    weights[range.clone()].fill(share);
                }
            }
            Some(pairs) => {
                // A pair's loss falls with the likelihood of the chosen answer and rises with that of the rejected one.
                for (slope, two) in pairs.slopes().zip(samples.chunks_exact(2)) {
                    weights[two[0].clone()].fill(slope * share);
                    weights[two[1].clone()].fill(-slope * share);
                }
            }
        }
    }

    /// Returns the dropout masks of the next micro-batch. `None` if there is no dropout.
    pub fn masks(&self) -> Option<Masks> {
        let probability = self.job.hyper.dropout;
        if probability <= 0.0 {
            return None;
        }
        // The masks depend only on the identity of the micro-batch, so a job draws the same ones in any batch.
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay LoRA dropout v1");
        for part in [self.job.seed.0, self.job.stream, self.step as u64, self.micro as u64] {
            hasher.update(&part.to_le_bytes());
        }
        Some(Masks { key: hasher.finalize(), probability })
    }

    /// Adds the losses of a micro-batch, and takes the step if it was the last one.
    pub fn account(&mut self, samples: &[Range<usize>], nats: &[f64]) -> Result<(), Error> {
        self.add_losses(samples, nats);
        if self.has_whole_gradient() {
            self.update()?;
        }
        Ok(())
    }

    /// Adds the losses of a micro-batch, which is then done.
    pub fn add_losses(&mut self, samples: &[Range<usize>], nats: &[f64]) {
        let share = self.share();
        match self.pairs(samples, nats) {
            None => self.loss += samples.iter().flat_map(|range| &nats[range.clone()]).sum::<f64>() * share.weight,
            Some(pairs) => {
                self.loss += pairs.loss() * share.weight;
                pairs.add_to(&mut self.preference, share.weight);
            }
        }
        self.tokens += share.samples.iter().map(|sample| sample.ids.len() as u64).sum::<u64>();
        self.target_tokens += targets(share.samples);
        self.micro += 1;
    }

    /// Returns whether all micro-batches of the current step are done, so that the update is next.
    pub fn has_whole_gradient(&self) -> bool {
        self.micro == self.job.steps[self.step].len()
    }

    /// Returns the pairs of the next micro-batch. `None` unless under DPO.
    fn pairs(&self, samples: &[Range<usize>], nats: &[f64]) -> Option<Pairs> {
        let Objective::Dpo { beta, .. } = self.job.objective else { return None };
        let policy = samples.iter().map(|range| -nats[range.clone()].iter().sum::<f64>());
        Some(Pairs::new(beta, policy.collect(), &self.references[self.step][self.micro]))
    }

    /// Records the results of the current step and updates the parameters, or fails the job if the step is not finite.
    pub fn update(&mut self) -> Result<(), Error> {
        // The method's terms belong to the gradient, so they are added before it is measured and clipped.
        self.state.correct(&mut self.parameters)?;
        let norm = optimizer::norm(&self.parameters.gradient)?;
        self.losses.push(self.loss);
        self.grad_norms.push(norm);
        if !self.weights_are_known() {
            self.preferences.push(std::mem::take(&mut self.preference));
        }
        if !(self.loss.is_finite() && norm.is_finite()) {
            self.failed = true;
            return Ok(());
        }
        self.state.step(&mut self.parameters, norm)?;
        self.parameters.clear_gradient()?;
        self.loss = 0.0;
        self.micro = 0;
        self.step += 1;
        Ok(())
    }

    /// Returns the outcome of the job.
    pub fn finish(self) -> Result<TrainingOutcome, Error> {
        let adapter = self.parameters.to_adapter()?;
        let status = if self.failed || !adapter.is_finite() {
            Status::NonFinite { step: self.step.min(self.job.steps.len().saturating_sub(1)) }
        } else if adapter.values == self.job.adapter.values {
            Status::Unchanged
        } else {
            Status::Ok
        };
        let keeps = self.job.terms.keeps_moments;
        let moments = keeps.then(|| self.state.moments(&self.parameters)).transpose()?;
        Ok(TrainingOutcome {
            moments,
            update_norm: adapter.difference(&self.job.adapter).norm(),
            adapter,
            losses: self.losses,
            preferences: self.preferences,
            grad_norms: self.grad_norms,
            tokens: self.tokens,
            target_tokens: self.target_tokens,
            status,
        })
    }
}

/// Returns the number of target tokens in a micro-batch.
pub fn targets(samples: &[Arc<Sample>]) -> u64 {
    samples.iter().flat_map(|sample| &sample.targets).map(|range| u64::from(range.end - range.start)).sum()
}
