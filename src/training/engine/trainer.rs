//! Training of adapters on one frozen base, one job alone or several in one pass.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::Tensor;

use super::job::{Job, Objective, TrainingOutcome};
use super::layer::{Pass, PassJob, SavedActivations};
use super::pack::{self, BatchPart, PackedBatch};
use super::parameters::LoraPlacement;
use super::runner::{self, Runner};
use crate::adapter::Layout;
use crate::data::Sample;
use crate::model::{Base, Device, LoraSpec, Precision};
use crate::training::Error;
use crate::training::kernels::native::{self, Frozen};
use crate::training::objectives::cross_entropy::{LossWeights, PassLosses, cross_entropy};
use crate::training::objectives::preference::References;
use crate::training::process::numerics::{Fingerprint, Numerics, NumericsClass};

thread_local! {
    /// Threads inside an operation, if a self-test requests another number than the trainer's.
    static OVERRIDE: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// One frozen base model with the layout of its LoRA adapters. Threads share it; each call works on its own adapters.
pub struct Trainer {
    /// Trainers of other adapters may share it.
    pub(in crate::training) base: Arc<Frozen<Base>>,
    pub(in crate::training) placement: Arc<LoraPlacement>,
    pub(super) references: References,
    layout: Arc<Layout>,
    pub(super) fingerprint: Fingerprint,
    pub(in crate::training) numerics: Numerics,
}

impl Trainer {
    /// Loads a base from a Hugging Face folder and lays out LoRA adapters for it.
    ///
    /// # Errors
    /// If the folder, the device or the LoRA settings cannot be used.
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

    /// Creates a trainer for a base and a layout that fits it.
    pub(super) fn new(base: Base, layout: Arc<Layout>, numerics: &Numerics) -> Self {
        let placement = Arc::new(LoraPlacement::new(layout.clone(), &base.config));
        let fingerprint = Fingerprint::read(&base, numerics);
        let base = Arc::new(Frozen::new(base));
        let references = References::default();
        Self { base, placement, references, layout, fingerprint, numerics: numerics.clone() }
    }

    /// Creates a trainer of other adapters on the same base, which both share. It has no reference adapters.
    ///
    /// # Errors
    /// If the LoRA settings cannot be used.
    pub fn with_lora(&self, lora: &LoraSpec) -> Result<Self, Error> {
        let layout = lora.layout(&self.base.config)?;
        Ok(Self {
            base: self.base.clone(),
            placement: Arc::new(LoraPlacement::new(layout.clone(), &self.base.config)),
            references: References::default(),
            layout,
            fingerprint: self.fingerprint.clone(),
            numerics: self.numerics.clone(),
        })
    }

    /// Returns the layout of the adapters that this trainer trains.
    pub fn layout(&self) -> Arc<Layout> {
        self.layout.clone()
    }

    /// Returns the BLAKE3 hash of the base's files.
    pub fn base_hash(&self) -> blake3::Hash {
        self.base.hash
    }

    /// Returns the configuration of the base.
    pub fn config(&self) -> &crate::model::Config {
        &self.base.config
    }

    /// Returns whether the program's own kernels are used instead of LibTorch's operations.
    pub fn uses_own_kernels(&self) -> bool {
        self.numerics.use_own_kernels(self.base.device)
    }

    /// Returns whether generation is batch-invariant: on a CPU, in f32, bf16 and formats that are expanded to them.
    pub fn reads_alone(&self) -> bool {
        let is_served = self.uses_own_kernels() && native::kernels::serve(&self.base.norm);
        is_served && !matches!(self.base.precision, Precision::LlmInt8(_))
    }

    /// Returns the full record of machine and settings, for the manifest.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Returns the part of the fingerprint that may change bits, for keys.
    pub fn numerics_class(&self) -> &NumericsClass {
        &self.fingerprint.class
    }

    /// Trains all jobs together, so that they share the products with the base's weights. The bits of a job do not
    /// depend on the others.
    ///
    /// # Errors
    /// If a row does not fit the model, a job's adapter has another layout, or LibTorch fails.
    pub fn train(&self, jobs: &[Job]) -> Result<Vec<TrainingOutcome>, Error> {
        self.train_counting(jobs, &AtomicU64::new(0))
    }

    /// Trains like [`Self::train`] and adds the tokens of each finished micro-batch to `trained_tokens`, for displays
    /// of progress.
    ///
    /// # Errors
    /// As [`Self::train`].
    pub fn train_counting(&self, jobs: &[Job], trained_tokens: &AtomicU64) -> Result<Vec<TrainingOutcome>, Error> {
        self.run(jobs, trained_tokens)?.into_iter().map(Runner::finish).collect()
    }

    /// Prepares the calling thread: autograd is off, operations use the requested number of threads, and the program's
    /// own kernels are used unless they are disabled. All these settings belong to the thread, not to the process.
    pub(in crate::training) fn enter(&self) -> Entered {
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
    pub(in crate::training) fn run<'a>(
        &self,
        jobs: &'a [Job],
        trained_tokens: &AtomicU64,
    ) -> Result<Vec<Runner<'a>>, Error> {
        let _guard = self.enter();
        for (index, job) in jobs.iter().enumerate() {
            self.check(index, job)?;
        }
        let mut runners = jobs.iter().map(|job| self.runner(job)).collect::<Result<Vec<_>, Error>>()?;
        loop {
            // Jobs advance in lockstep, one micro-batch per pass; those that are finished drop out.
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

    /// Prepares a job for its first step.
    pub(super) fn runner<'a>(&self, job: &'a Job) -> Result<Runner<'a>, Error> {
        let references = match job.objective {
            Objective::Sft => Vec::new(),
            Objective::Dpo { reference, .. } => self.references_of(reference, &job.steps)?,
        };
        Runner::new(&self.base, &self.placement, job, references)
    }

    /// Trains one micro-batch of every active job, and updates those whose step is complete.
    fn micro_batch(&self, active: &mut [&mut Runner]) -> Result<(), Error> {
        let shares: Vec<BatchPart> = active.iter().map(|runner| runner.share()).collect();
        let packed = pack::pack(&self.base, &shares)?;
        let nats = self.forward_backward(&packed, active).map_err(|error| self.with_prediction(error, &packed))?;
        for (index, runner) in active.iter_mut().enumerate() {
            runner.account(&packed.predictions.samples[index], &nats)?;
        }
        Ok(())
    }

    /// Adds the predicted memory of the pass to an out-of-memory error.
    fn with_prediction(&self, error: Error, packed: &PackedBatch) -> Error {
        let Error::OutOfMemory { needed, .. } = error else { return error };
        let tokens = packed.ids.size()[0] as u64;
        let plan = self.memory(packed.spans.len(), tokens, packed.predictions.rows.size()[0] as u64);
        let kept = if self.checkpoints(packed) { plan.kept_checkpointed() } else { plan.kept };
        let [kept, weights, adapters] = [kept, plan.weights, plan.adapters].map(|bytes| bytes.div_ceil(1 << 20));
        let needed = format!(
            "{needed}; this pass of {} clients with {tokens} tokens was predicted to keep {kept} MiB beside {weights} MiB of \
             weights and {adapters} MiB of adapters and optimiser states",
            packed.spans.len()
        );
        Error::OutOfMemory { device: self.base.device.to_string(), needed }
    }

    /// Adds the gradients of one pass to those of the runners, in place, and returns the loss of each prediction.
    pub(super) fn forward_backward(&self, packed: &PackedBatch, active: &[&mut Runner]) -> Result<Vec<f64>, Error> {
        let mut trainees = Vec::with_capacity(active.len());
        for runner in active {
            trainees.push(PassJob { parameters: runner.parameters(), masks: runner.masks() });
        }
        let pass = Pass { base: &self.base, packed, trainees: &trainees };
        let lowest = self.placement.lowest_layer();
        let checkpointing = self.checkpoints(packed);
        let mut x = self.base.embed(&packed.ids)?;
        let mut kept: Vec<Option<Remembered>> = Vec::with_capacity(self.base.blocks.len());
        for layer in 0..self.base.blocks.len() {
            let input = x.shallow_clone();
            let (y, all) = pass.forward(layer, x)?;
            x = y;
            // No gradient is needed below the lowest adapter, so nothing is saved there.
            kept.push((layer >= lowest).then_some(if checkpointing {
                Remembered::Input(input)
            } else {
                Remembered::All(Box::new(all))
            }));
        }
        let losses = self.losses(packed, &x, active)?;
        // From the top down: `dy` is the gradient of a layer's output, and becomes that of its input. The saved
        // activations of a layer are freed as soon as it is differentiated.
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

    /// Computes the losses at the last layer's output `x`, with their gradient.
    fn losses(&self, packed: &PackedBatch, x: &Tensor, active: &[&mut Runner]) -> Result<PassLosses, Error> {
        let labels = &packed.predictions.labels;
        if active.iter().all(|runner| runner.weights_are_known()) {
            return Ok(cross_entropy(&self.base, labels, x, LossWeights::Known(&packed.predictions.weights))?);
        }
        // Under DPO the weights of a pair's tokens depend on the losses of both of its rows.
        let losses = cross_entropy(
            &self.base,
            labels,
            x,
            LossWeights::FromLosses(&|nats: &[f64]| weights_of(packed, active, nats)),
        )?;
        Ok(losses)
    }

    /// Checks a job before anything is computed.
    pub(super) fn check(&self, index: usize, job: &Job) -> Result<(), Error> {
        self.check_settings(job).map_err(|reason| Error::Job { job: index, reason })?;
        for (number, step) in job.steps.iter().enumerate() {
            for micro_batch in step {
                self.check_micro_batch(index, job, number, micro_batch)?;
            }
            if step.is_empty() {
                return Err(Error::Job { job: index, reason: format!("step {number} has no micro-batch") });
            }
        }
        Ok(())
    }

    /// Checks adapter and hyperparameters of a job; the error is a reason.
    fn check_settings(&self, job: &Job) -> Result<(), String> {
        if *job.adapter.layout != *self.layout {
            return Err("its adapter has another layout than the trainer".into());
        }
        if !(job.hyper.learning_rate.is_finite() && job.hyper.learning_rate >= 0.0) {
            return Err(format!("learning rate is {}, allowed is 0 and above", job.hyper.learning_rate));
        }
        if !(0.0..1.0).contains(&job.hyper.dropout) {
            return Err(format!("dropout is {}, allowed is 0 up to below 1", job.hyper.dropout));
        }
        Ok(())
    }

    /// Checks the rows of one micro-batch of step `number`.
    fn check_micro_batch(
        &self,
        index: usize,
        job: &Job,
        number: usize,
        micro_batch: &[Arc<Sample>],
    ) -> Result<(), Error> {
        let rows = micro_batch.len();
        if matches!(job.objective, Objective::Dpo { .. }) && !rows.is_multiple_of(2) {
            let reason = format!("a micro-batch of step {number} has {rows} rows, DPO needs pairs");
            return Err(Error::Job { job: index, reason });
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
            let reason = format!("a micro-batch of step {number} has no target token");
            return Err(Error::Job { job: index, reason });
        }
        Ok(())
    }
}

/// Returns the weights of all predictions of a pass, which follow from their losses; padding has weight 0.
fn weights_of(packed: &PackedBatch, active: &[&mut Runner], nats: &[f64]) -> Vec<f64> {
    let mut weights = vec![0.0; nats.len()];
    for (runner, samples) in active.iter().zip(&packed.predictions.samples) {
        runner.weigh(samples, nats, &mut weights);
    }
    weights
}

/// Settings of a thread while it works for a trainer. Dropping it restores the previous settings.
pub(in crate::training) struct Entered {
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

/// Data of a layer that is saved for its backward pass: all activations, or only the input if the layer is run again.
enum Remembered {
    All(Box<SavedActivations>),
    Input(Tensor),
}
