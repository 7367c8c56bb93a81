//! Trains adapters on one frozen base: one job alone, or several in one pass.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::Tensor;

use super::Error;
use super::job::{Job, Objective, Outcome};
use super::layer::{Kept, Pass, Trainee};
use super::loss::{self, Losses, Weights};
use super::native::{self, Frozen};
use super::numerics::{Fingerprint, Numerics, NumericsClass};
use super::pack::{self, Packed, Share};
use super::parameters::Placement;
use super::preference::References;
use super::runner::{self, Runner};
use crate::adapter::Layout;
use crate::model::{Base, Device, LoraSpec, Precision};

thread_local! {
    /// Threads inside an operation, where a self-test asks for another number than the trainer's.
    static OVERRIDE: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// One frozen base and the LoRA placed on it. Threads share it; each call works on its own adapters.
pub struct Trainer {
    pub(super) base: Frozen<Base>,
    pub(super) placement: Arc<Placement>,
    pub(super) references: References,
    layout: Arc<Layout>,
    pub(super) fingerprint: Fingerprint,
    pub(super) numerics: Numerics,
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
        prepare(numerics);
        let _guard = tch::no_grad_guard();
        let base = Base::load(folder, precision, device)?;
        let numerics = Numerics { checkpointing: numerics.checkpointing.settled(device), ..numerics.clone() };
        let layout = lora.layout(&base.config)?;
        Ok(Self::new(base, layout, &numerics))
    }

    /// A base with adapters of `layout`, which fits it.
    pub(super) fn new(base: Base, layout: Arc<Layout>, numerics: &Numerics) -> Self {
        let placement = Arc::new(Placement::new(layout.clone(), &base.config));
        let fingerprint = Fingerprint::read(&base, numerics);
        let references = References::default();
        Self { base: Frozen::new(base), placement, references, layout, fingerprint, numerics: numerics.clone() }
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

    /// Whether the program's own kernels compute, rather than LibTorch's operations.
    pub fn uses_own_kernels(&self) -> bool {
        self.numerics.use_own_kernels(self.base.device)
    }

    /// Whether a sequence that is read on has the same bits in any company: on a CPU, in f32, bf16 and what is expanded to
    /// them.
    pub fn reads_alone(&self) -> bool {
        let is_served = self.uses_own_kernels() && native::kernels::serve(&self.base.norm);
        is_served && !matches!(self.base.precision, Precision::LlmInt8(_))
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
        self.train_counting(jobs, &AtomicU64::new(0))
    }

    /// [`Self::train`], which adds the tokens of each finished micro-batch to `trained_tokens` for displays of progress.
    ///
    /// # Errors
    /// As [`Self::train`].
    pub fn train_counting(&self, jobs: &[Job], trained_tokens: &AtomicU64) -> Result<Vec<Outcome>, Error> {
        self.run(jobs, trained_tokens)?.into_iter().map(Runner::finish).collect()
    }

    /// Prepares the calling thread: no tape is kept, operations use the threads that were asked for, and the program's own
    /// kernels compute unless they are not wanted. All these settings are of the thread, not of the process.
    pub(super) fn enter(&self) -> Entered {
        tch::set_num_threads(OVERRIDE.get().unwrap_or(self.numerics.threads).max(1) as i32);
        let left_before = native::kernels::leave_to_libtorch(self.numerics.by_libtorch);
        Entered { _no_grad: tch::no_grad_guard(), left_before }
    }

    /// Runs `work` on the calling thread with another number of threads inside an operation.
    pub fn with_threads<T>(&self, threads: usize, work: impl FnOnce() -> T) -> T {
        let before = OVERRIDE.replace(Some(threads));
        let result = work();
        OVERRIDE.set(before);
        result
    }

    /// Trains every job to its end. The tokens of each finished micro-batch are added to `trained_tokens`.
    pub(super) fn run<'a>(&self, jobs: &'a [Job], trained_tokens: &AtomicU64) -> Result<Vec<Runner<'a>>, Error> {
        let _guard = self.enter();
        jobs.iter().enumerate().try_for_each(|(index, job)| self.check(index, job))?;
        let mut runners = jobs.iter().map(|job| Runner::new(self, job)).collect::<Result<Vec<_>, Error>>()?;
        loop {
            let mut active: Vec<&mut Runner> = runners.iter_mut().filter(|runner| runner.is_active()).collect();
            if active.is_empty() {
                break;
            }
            let samples = active.iter().flat_map(|runner| runner.share().samples);
            let tokens = samples.map(|sample| sample.ids.len() as u64).sum();
            self.micro_batch(&mut active)?;
            trained_tokens.fetch_add(tokens, Ordering::Relaxed);
        }
        Ok(runners)
    }

    /// One micro-batch of every active job, and an update of those whose step is complete.
    fn micro_batch(&self, active: &mut [&mut Runner]) -> Result<(), Error> {
        let shares: Vec<Share> = active.iter().map(|runner| runner.share()).collect();
        let nats_of = |packed: &Packed| self.forward_backward(packed, active);
        let packed = pack::pack(&self.base, &shares)?;
        let nats = nats_of(&packed).map_err(|error| self.with_prediction(error, &packed))?;
        for (index, runner) in active.iter_mut().enumerate() {
            runner.account(&packed.predictions.samples[index], &nats)?;
        }
        Ok(())
    }

    /// Says of a lack of memory what the pass was predicted to need.
    fn with_prediction(&self, error: Error, packed: &Packed) -> Error {
        let Error::OutOfMemory { needed, .. } = error else { return error };
        let tokens = packed.ids.size()[0] as u64;
        let plan = self.memory(packed.spans.len(), tokens, packed.predictions.rows.size()[0] as u64);
        let kept = if self.checkpoints(packed) { plan.kept_checkpointed() } else { plan.kept };
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let needed = format!(
            "{needed}; this pass of {} clients with {tokens} tokens was predicted to keep {} MiB beside {} MiB of weights \
             and {} MiB of adapters and optimiser states",
            packed.spans.len(),
            mib(kept),
            mib(plan.weights),
            mib(plan.adapters)
        );
        Error::OutOfMemory { device: self.base.device.to_string(), needed }
    }

    /// Adds the gradients of one pass to the runners' and returns the loss of each prediction.
    fn forward_backward(&self, packed: &Packed, active: &[&mut Runner]) -> Result<Vec<f64>, Error> {
        let trainees: Vec<Trainee> =
            active.iter().map(|r| Trainee { parameters: r.parameters(), masks: r.masks() }).collect();
        let pass = Pass { base: &self.base, packed, trainees: &trainees };
        let lowest = self.placement.lowest_layer();
        let checkpointing = self.checkpoints(packed);
        let mut x = self.base.embedding.f_index_select(0, &packed.ids)?;
        let mut kept: Vec<Option<Remembered>> = Vec::with_capacity(self.base.blocks.len());
        for layer in 0..self.base.blocks.len() {
            let input = x.shallow_clone();
            let (y, all) = pass.forward(layer, x)?;
            x = y;
            // What lies below the lowest adapter is not differentiated.
            kept.push((layer >= lowest).then_some(if checkpointing {
                Remembered::Input(input)
            } else {
                Remembered::All(Box::new(all))
            }));
        }
        let losses = self.losses(packed, &x, active)?;
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

    /// The losses at the last layer's output `x`, with their gradient.
    fn losses(&self, packed: &Packed, x: &Tensor, active: &[&mut Runner]) -> Result<Losses, Error> {
        let weigh = |nats: &[f64]| {
            let mut weights = vec![0.0; nats.len()];
            let samples = &packed.predictions.samples;
            active.iter().zip(samples).for_each(|(runner, samples)| runner.weigh(samples, nats, &mut weights));
            weights
        };
        let known = active.iter().all(|runner| runner.weights_are_known());
        let weights = if known { Weights::Known } else { Weights::FromLosses(&weigh) };
        Ok(loss::cross_entropy(&self.base, packed, x, weights)?)
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
                if matches!(job.objective, Objective::Dpo { .. }) && micro_batch.len() % 2 != 0 {
                    let rows = micro_batch.len();
                    return refuse(format!("a micro-batch of step {number} has {rows} rows, DPO needs pairs"));
                }
                for (row, sample) in micro_batch.iter().enumerate() {
                    pack::check_sample(&self.base, sample).map_err(|reason| Error::Row {
                        job: index,
                        step: number,
                        row,
                        reason,
                    })?;
                }
                if runner::targets(micro_batch) == 0 {
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

/// The settings of a thread while it works for a trainer. When it is dropped, what was set before is set again.
pub(super) struct Entered {
    _no_grad: tch::NoGradGuard,
    left_before: bool,
}

impl Drop for Entered {
    fn drop(&mut self) {
        native::kernels::leave_to_libtorch(self.left_before);
    }
}

/// Sets LibTorch's switches, and the threads of the calling thread's operations.
fn prepare(numerics: &Numerics) {
    native::switches();
    tch::set_num_threads(numerics.threads.max(1) as i32);
}

/// What is kept of a layer for its backward pass.
enum Remembered {
    All(Box<Kept>),
    Input(Tensor),
}
