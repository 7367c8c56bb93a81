//! Trains adapters on one frozen base: one job alone, or several in one pass.

use std::path::Path;
use std::sync::Arc;

use super::job::{Accumulation, Job, Outcome, Status};
use super::layer::{Kept, Pass, Trainee};
use super::lora::Masks;
use super::native::Frozen;
use super::numerics::{Fingerprint, Numerics, NumericsClass};
use super::optimizer::{self, State};
use super::pack::{self, Packed, Share};
use super::parameters::{Parameters, Placement};
use super::{Error, loss, native};
use crate::adapter::Layout;
use crate::model::{Base, Device, LoraSpec, Precision};

/// One frozen base and the LoRA placed on it. Threads share it; each call works on its own adapters.
pub struct Trainer {
    pub(super) base: Frozen<Base>,
    pub(super) placement: Arc<Placement>,
    layout: Arc<Layout>,
    fingerprint: Fingerprint,
    pub(super) checkpointing: bool,
}

impl Trainer {
    /// Loads a base from a Hugging Face folder and places LoRA on it.
    ///
    /// # Errors
    /// If the folder, the device or the LoRA cannot be used.
    pub fn load(
        folder: &Path,
        precision: Precision,
        device: Device,
        lora: &LoraSpec,
        numerics: &Numerics,
    ) -> Result<Self, Error> {
        native::switches();
        tch::set_num_threads(numerics.threads.max(1) as i32);
        let _guard = tch::no_grad_guard();
        let base = Base::load(folder, precision, device)?;
        let layout = lora.layout(&base.config)?;
        let placement = Arc::new(Placement::new(layout.clone(), &base.config));
        let fingerprint = Fingerprint::read(device, precision, numerics);
        Ok(Self { base: Frozen::new(base), placement, layout, fingerprint, checkpointing: numerics.checkpointing })
    }

    /// The layout of the adapters that this trainer trains.
    pub fn layout(&self) -> Arc<Layout> {
        self.layout.clone()
    }

    /// BLAKE3 of the base's files.
    pub fn base_hash(&self) -> blake3::Hash {
        self.base.hash
    }

    /// The shape of the base.
    pub fn config(&self) -> &crate::model::Config {
        &self.base.config
    }

    /// The full record of machine and settings, for the manifest.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The part of it that may change bits, for keys.
    pub fn numerics_class(&self) -> &NumericsClass {
        &self.fingerprint.class
    }

    /// Trains every job, all of them together: one product with the base serves all. The bits of a job do not depend on
    /// the others.
    ///
    /// # Errors
    /// If a row does not fit the model, a job's adapter has another layout, or LibTorch fails.
    pub fn train(&self, jobs: &[Job]) -> Result<Vec<Outcome>, Error> {
        let _guard = tch::no_grad_guard();
        jobs.iter().enumerate().try_for_each(|(index, job)| self.check(index, job))?;
        let mut runners = jobs.iter().map(|job| Runner::new(self, job)).collect::<Result<Vec<_>, Error>>()?;
        loop {
            let mut active: Vec<&mut Runner> = runners.iter_mut().filter(|runner| runner.is_active()).collect();
            if active.is_empty() {
                break;
            }
            self.micro_batch(&mut active)?;
        }
        runners.into_iter().map(Runner::finish).collect()
    }

    /// One micro-batch of every active job, and an update of those whose step is complete.
    fn micro_batch(&self, active: &mut [&mut Runner]) -> Result<(), Error> {
        let shares: Vec<Share> = active.iter().map(|runner| runner.share()).collect();
        let packed = pack::pack(&self.base, &shares)?;
        let nats = self.forward_backward(&packed, active)?;
        for (index, runner) in active.iter_mut().enumerate() {
            runner.account(&packed.predictions.samples[index], &nats)?;
        }
        Ok(())
    }

    /// Adds the gradients of one pass to the runners' and returns the loss of each prediction.
    fn forward_backward(&self, packed: &Packed, active: &[&mut Runner]) -> Result<Vec<f64>, Error> {
        let trainees: Vec<Trainee> =
            active.iter().map(|r| Trainee { parameters: &r.parameters, masks: r.masks() }).collect();
        let pass = Pass { base: &self.base, packed, trainees: &trainees };
        let lowest = self.placement.lowest_layer();
        let mut x = self.base.embedding.f_index_select(0, &packed.ids)?;
        let mut kept: Vec<Option<Remembered>> = Vec::with_capacity(self.base.blocks.len());
        for layer in 0..self.base.blocks.len() {
            let input = x.shallow_clone();
            let (y, all) = pass.forward(layer, x)?;
            x = y;
            kept.push((layer >= lowest).then_some(if self.checkpointing {
                Remembered::Input(input)
            } else {
                Remembered::All(Box::new(all))
            }));
        }
        let losses = loss::cross_entropy(&self.base, packed, &x, true)?;
        let mut gradient = losses.gradient;
        for layer in (lowest..self.base.blocks.len()).rev() {
            let all = match kept[layer].take().expect("every layer from the lowest on was kept") {
                Remembered::All(all) => *all,
                Remembered::Input(input) => pass.forward(layer, input)?.1,
            };
            let dy = gradient.take().expect("only the lowest layer returns none");
            gradient = pass.backward(layer, all, dy, layer == lowest)?;
        }
        Ok(losses.nats)
    }

    /// Refuses what a job cannot be trained with, before anything is computed.
    fn check(&self, index: usize, job: &Job) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Job { job: index, reason });
        if *job.adapter.layout != *self.layout {
            return refuse("its adapter has another layout than the trainer".into());
        }
        if !(job.hyper.learning_rate.is_finite() && job.hyper.learning_rate >= 0.0) {
            return refuse(format!("learning rate is {}, allowed is 0 and above", job.hyper.learning_rate));
        }
        if !(0.0..1.0).contains(&job.hyper.dropout) {
            return refuse(format!("dropout is {}, allowed is 0 up to below 1", job.hyper.dropout));
        }
        for (number, step) in job.steps.iter().enumerate() {
            for micro_batch in step {
                for (row, sample) in micro_batch.iter().enumerate() {
                    pack::check_sample(&self.base, sample).map_err(|reason| Error::Row {
                        job: index,
                        step: number,
                        row,
                        reason,
                    })?;
                }
                let learnt = targets(micro_batch);
                if learnt == 0 {
                    return refuse(format!("a micro-batch of step {number} has no target token"));
                }
            }
            if step.is_empty() {
                return refuse(format!("step {number} has no micro-batch"));
            }
        }
        Ok(())
    }
}

/// What is kept of a layer for its backward pass.
enum Remembered {
    All(Box<Kept>),
    Input(tch::Tensor),
}

fn targets(samples: &[Arc<crate::dataset::Sample>]) -> u64 {
    samples.iter().flat_map(|sample| &sample.targets).map(|range| u64::from(range.end - range.start)).sum()
}

/// One job under way.
struct Runner<'a> {
    job: &'a Job,
    parameters: Parameters,
    state: State,
    step: usize,
    micro: usize,
    loss: f64,
    losses: Vec<f64>,
    grad_norms: Vec<f64>,
    tokens: u64,
    target_tokens: u64,
    failed: bool,
}

impl<'a> Runner<'a> {
    fn new(trainer: &Trainer, job: &'a Job) -> Result<Self, Error> {
        let parameters = Parameters::new(&trainer.placement, &trainer.base, &job.adapter)?;
        let state = State::new(&job.hyper, &parameters)?;
        Ok(Self {
            job,
            parameters,
            state,
            step: 0,
            micro: 0,
            loss: 0.0,
            losses: Vec::new(),
            grad_norms: Vec::new(),
            tokens: 0,
            target_tokens: 0,
            failed: false,
        })
    }

    fn is_active(&self) -> bool {
        !self.failed && self.step < self.job.steps.len()
    }

    /// The next micro-batch, with the weight of each target token in the step's loss.
    fn share(&self) -> Share<'a> {
        let step = &self.job.steps[self.step];
        let samples = &step[self.micro];
        let weight = match self.job.hyper.accumulation {
            Accumulation::PerMicroBatch => 1.0 / (targets(samples) as f64 * step.len() as f64),
            Accumulation::PerToken => 1.0 / step.iter().map(|samples| targets(samples)).sum::<u64>() as f64,
        };
        Share { samples, weight }
    }

    fn masks(&self) -> Option<Masks> {
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
    fn account(&mut self, samples: &[std::ops::Range<usize>], nats: &[f64]) -> Result<(), Error> {
        let share = self.share();
        self.loss += samples.iter().flat_map(|range| &nats[range.clone()]).sum::<f64>() * share.weight;
        self.tokens += share.samples.iter().map(|sample| sample.ids.len() as u64).sum::<u64>();
        self.target_tokens += targets(share.samples);
        self.micro += 1;
        if self.micro == self.job.steps[self.step].len() {
            self.update()?;
        }
        Ok(())
    }

    fn update(&mut self) -> Result<(), Error> {
        self.state.correct(&mut self.parameters)?;
        let norm = optimizer::norm(&self.parameters.gradient)?;
        self.losses.push(self.loss);
        self.grad_norms.push(norm);
        if !(self.loss.is_finite() && norm.is_finite()) {
            self.failed = true;
            return Ok(());
        }
        self.state.step(&mut self.parameters, norm)?;
        self.parameters.clear_gradient()?;
        (self.loss, self.micro, self.step) = (0.0, 0, self.step + 1);
        Ok(())
    }

    fn finish(self) -> Result<Outcome, Error> {
        let adapter = self.parameters.to_adapter()?;
        let status = if self.failed || !adapter.is_finite() {
            Status::NonFinite { step: self.step.min(self.job.steps.len().saturating_sub(1)) }
        } else if adapter.values == self.job.adapter.values {
            Status::Unchanged
        } else {
            Status::Ok
        };
        Ok(Outcome {
            update_norm: adapter.difference(&self.job.adapter).norm(),
            adapter,
            losses: self.losses,
            grad_norms: self.grad_norms,
            tokens: self.tokens,
            target_tokens: self.target_tokens,
            status,
        })
    }
}
