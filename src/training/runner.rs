//! One job under way: its parameters, its place in its steps, and what it has reported so far.

use std::ops::Range;
use std::sync::Arc;

use super::job::{Accumulation, Job, Objective, Outcome, Preference, Status};
use super::lora::Masks;
use super::optimizer::{self, State};
use super::pack::Share;
use super::parameters::Parameters;
use super::preference::Pairs;
use super::{Error, Trainer};
use crate::data::Sample;

/// One job under way.
pub struct Runner<'a> {
    job: &'a Job,
    parameters: Parameters,
    state: State,
    /// Under DPO, the reference's log-probabilities of each row: step, micro-batch, row.
    references: Vec<Vec<Vec<f64>>>,
    step: usize,
    micro: usize,
    loss: f64,
    preference: Preference,
    losses: Vec<f64>,
    preferences: Vec<Preference>,
    grad_norms: Vec<f64>,
    tokens: u64,
    target_tokens: u64,
    failed: bool,
}

impl<'a> Runner<'a> {
    /// A job before its first step.
    pub fn new(trainer: &Trainer, job: &'a Job) -> Result<Self, Error> {
        let parameters = Parameters::new(&trainer.placement, &trainer.base, &job.adapter)?;
        let state = State::new(&trainer.base, job, &parameters)?;
        let references = match job.objective {
            Objective::Sft => Vec::new(),
            Objective::Dpo { .. } => trainer.references_of(&job.steps)?,
        };
        Ok(Self {
            job,
            parameters,
            state,
            references,
            step: 0,
            micro: 0,
            loss: 0.0,
            preference: Preference::default(),
            losses: Vec::new(),
            preferences: Vec::new(),
            grad_norms: Vec::new(),
            tokens: 0,
            target_tokens: 0,
            failed: false,
        })
    }

    /// Whether there is a micro-batch left to train on.
    pub fn is_active(&self) -> bool {
        !self.failed && self.step < self.job.steps.len()
    }

    /// The adapter as it is now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The next micro-batch, with the weight of each target token in the step's loss (of each pair under DPO).
    pub fn share(&self) -> Share<'a> {
        let step = &self.job.steps[self.step];
        let samples = &step[self.micro];
        let units = |samples: &[Arc<Sample>]| match self.job.objective {
            Objective::Sft => targets(samples),
            Objective::Dpo { .. } => samples.len() as u64 / 2,
        };
        let weight = match self.job.hyper.accumulation {
            Accumulation::PerMicroBatch => 1.0 / (units(samples) as f64 * step.len() as f64),
            Accumulation::OverNominal(micro_batches) => 1.0 / (units(samples) as f64 * f64::from(micro_batches)),
            Accumulation::PerToken => 1.0 / step.iter().map(|samples| units(samples)).sum::<u64>() as f64,
        };
        Share { samples, weight }
    }

    /// Whether the weight of each prediction's loss is known before the losses are.
    pub fn weights_are_known(&self) -> bool {
        self.job.objective == Objective::Sft
    }

    /// Writes the weights of this job's predictions: what the step's loss changes by with each one's loss.
    pub fn weigh(&self, samples: &[Range<usize>], nats: &[f64], weights: &mut [f64]) {
        let share = self.share().weight;
        match self.pairs(samples, nats) {
            None => samples.iter().for_each(|range| weights[range.clone()].fill(share)),
            Some(pairs) => {
                for (slope, two) in pairs.slopes().zip(samples.chunks_exact(2)) {
                    weights[two[0].clone()].fill(slope * share);
                    weights[two[1].clone()].fill(-slope * share);
                }
            }
        }
    }

    /// The dropout masks of the next micro-batch.
    pub fn masks(&self) -> Option<Masks> {
        let probability = self.job.hyper.dropout;
        (probability > 0.0).then(|| {
            let mut hasher = blake3::Hasher::new_derive_key("fedreplay LoRA dropout v1");
            for part in [self.job.seed.0, self.job.stream, self.step as u64, self.micro as u64] {
                hasher.update(&part.to_le_bytes());
            }
            Masks { key: hasher.finalize(), probability }
        })
    }

    /// Adds a micro-batch's losses, and takes the step if it was the last one.
    pub fn account(&mut self, samples: &[Range<usize>], nats: &[f64]) -> Result<(), Error> {
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
        if self.micro == self.job.steps[self.step].len() {
            self.update()?;
        }
        Ok(())
    }

    /// Under DPO, the pairs of the next micro-batch.
    fn pairs(&self, samples: &[Range<usize>], nats: &[f64]) -> Option<Pairs> {
        let Objective::Dpo { beta } = self.job.objective else { return None };
        let policy = samples.iter().map(|range| -nats[range.clone()].iter().sum::<f64>());
        Some(Pairs::new(beta, policy.collect(), &self.references[self.step][self.micro]))
    }

    fn update(&mut self) -> Result<(), Error> {
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
        (self.loss, self.micro, self.step) = (0.0, 0, self.step + 1);
        Ok(())
    }

    /// What came of the job.
    pub fn finish(self) -> Result<Outcome, Error> {
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
        Ok(Outcome {
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

/// Target tokens of a micro-batch.
pub fn targets(samples: &[Arc<Sample>]) -> u64 {
    samples.iter().flat_map(|sample| &sample.targets).map(|range| u64::from(range.end - range.start)).sum()
}
