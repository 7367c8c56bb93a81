//! Trainings of random tokens that take the time of one shape, on one worker or on several at the same time.
//!
//! A repeat of a shape is one training per worker: a micro-batch that is not timed, which brings memory and caches into the state of a
//! training, and then the timed ones, each with an update of the adapter.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fedreplay_sim::{Purpose, Seed, Stream};

use super::grid::Grid;
use super::machine::{OtherPrograms, ProcessorTime};
use super::settings::{CalibrationOptions, MeasuringError, PassShape};
use crate::adapter::{Adapter, Factors};
use crate::data::Sample;
use crate::inputs::translate;
use crate::model::{Device, LoraSpec};
use crate::scenario::{Kernels, Scenario};
use crate::schedule::model_shape;
use crate::training::{
    AlgorithmTerms, Checkpointing, Hyper, Job, Numerics, Objective, PassTime, Status, Step, Trainer, peak_bytes,
    reset_peak_bytes,
};

/// Pause between two looks at whether all workers are ready.
const LOOK: Duration = Duration::from_micros(200);

/// First step on a shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstTry {
    /// [s] -- Time of the micro-batch.
    pub seconds: f64,
    /// [byte] -- Greatest resident memory of the process; `None` on a GPU, with several workers, and where the system does not report it.
    pub peak_memory: Option<u64>,
}

/// One measurement of a shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeat {
    /// [s] -- Mean time of a micro-batch, over micro-batches and workers.
    pub micro_batch: f64,
    /// [s] -- Mean time of an update.
    pub update: f64,
    pub others: OtherPrograms,
}

/// Trainers of one base at all ranks of a grid, and the work that they are given.
pub(super) struct Bench<'a> {
    options: &'a CalibrationOptions<'a>,
    trainers: BTreeMap<u32, Trainer>,
    hyper: Hyper,
    seed: Seed,
}

impl<'a> Bench<'a> {
    /// Loads the base model in `folder` with the arithmetic of the scenario.
    pub fn load(
        scenario: &Scenario,
        folder: &Path,
        grid: &Grid,
        options: &'a CalibrationOptions,
    ) -> Result<Self, MeasuringError> {
        let spec = &scenario.scenario;
        let numerics = Numerics {
            threads: options.threads as usize,
            checkpointing: if spec.training.recomputation { Checkpointing::Always } else { Checkpointing::Never },
            portable: false,
            by_libtorch: spec.execution.kernels == Kernels::LibTorch,
        };
        let precision = model_shape::precision(&spec.model);
        let lora = model_shape::lora_spec(spec);
        let first = Trainer::load(folder, precision, options.device, &lora, &numerics)?;
        let mut trainers = BTreeMap::new();
        for rank in grid.ranks.iter().copied().chain(grid.held_out.iter().map(|shape| shape.rank)) {
            let lora = LoraSpec { rank: rank as usize, ..lora.clone() };
            trainers.insert(rank, first.with_lora(&lora)?);
        }
        // A profile is that of a plain training: methods differ in their terms, which cost little, and it is used with all of them.
        let hyper = Hyper {
            proximal: None,
            trains: Factors::Both,
            first_steps: None,
            shrinkage: None,
            ..translate::hyper(spec, 1)
        };
        Ok(Self { options, trainers, hyper, seed: Seed(spec.seed) })
    }

    /// Returns a trainer, for what all of them have in common.
    pub fn trainer(&self) -> &Trainer {
        self.trainers.values().next().expect("a grid has a rank")
    }

    /// Takes a step on a short row and one on the shape.
    pub fn first_try(&self, shape: PassShape) -> Result<FirstTry, MeasuringError> {
        let has_memory = self.options.workers == 1 && self.options.device == Device::Cpu && reset_peak_bytes().is_ok();
        // After the first step the optimizer has its state, so that the second one is as large as all that follow.
        let short = PassShape { rows: 1, length: 2, rank: shape.rank };
        let steps = vec![vec![self.micro_batch(short, 0)], vec![self.micro_batch(shape, 0)]];
        let mut seconds = 0.0;
        self.train_while(shape, steps, 0, &mut |time| {
            seconds = time.micro_batch;
            true
        })?;
        let peak_memory = if has_memory { peak_bytes() } else { None };
        Ok(FirstTry { seconds, peak_memory })
    }

    /// Measures a shape: all workers train on it at the same time, and each goes on until the last one has its times.
    pub fn repeat(&self, shape: PassShape, passes: usize) -> Result<Repeat, MeasuringError> {
        let workers = self.options.workers as usize;
        let meeting = Meeting::default();
        let outcomes = thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|worker| {
                    let meeting = &meeting;
                    scope.spawn(move || self.one_worker(shape, passes, worker, meeting))
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().expect("a training does not panic"));
            joined.collect::<Vec<_>>()
        });
        let mut sum = Repeat { micro_batch: 0.0, update: 0.0, others: OtherPrograms::default() };
        for outcome in outcomes {
            let repeat = outcome?;
            sum.micro_batch += repeat.micro_batch / workers as f64;
            sum.update += repeat.update / workers as f64;
            // The longest interval has seen the most of what other programs did.
            if repeat.others.elapsed > sum.others.elapsed {
                sum.others = repeat.others;
            }
        }
        Ok(sum)
    }

    /// Measures a shape as one of several workers.
    fn one_worker(
        &self,
        shape: PassShape,
        passes: usize,
        worker: usize,
        meeting: &Meeting,
    ) -> Result<Repeat, MeasuringError> {
        let workers = self.options.workers as usize;
        let micro_batch = self.micro_batch(shape, worker);
        // One to begin with, and as many again as are timed, in case that other workers take twice the time.
        let steps = vec![vec![micro_batch]; 1 + 2 * passes];
        let mut times = Vec::with_capacity(passes);
        let mut before = None;
        let mut others = OtherPrograms::default();
        let mut is_first = true;
        let mut goes_on = |time: PassTime| {
            // The first one brings memory and caches into the state of a training, and is timed by nobody.
            if std::mem::take(&mut is_first) {
                meeting.wait_for(workers);
                before = ProcessorTime::now();
                return true;
            }
            if times.len() < passes {
                times.push(time);
                if times.len() == passes {
                    if let (Some(before), Some(now)) = (before, ProcessorTime::now()) {
                        others = now.others_since(&before);
                    }
                    meeting.finished.fetch_add(1, Ordering::SeqCst);
                }
            }
            // A worker that has all times goes on, so that the others are not measured on an emptier machine.
            meeting.finished.load(Ordering::SeqCst) < workers
        };
        let trained = self.train_while(shape, steps, worker, &mut goes_on);
        // The others would wait forever for a worker that failed before it was ready.
        if trained.is_err() {
            meeting.is_off.store(true, Ordering::SeqCst);
        }
        trained?;
        let count = times.len().max(1) as f64;
        Ok(Repeat {
            micro_batch: times.iter().map(|time| time.micro_batch).sum::<f64>() / count,
            update: times.iter().filter_map(|time| time.update).sum::<f64>() / count,
            others,
        })
    }

    /// Trains on steps for as long as `goes_on` says so and nobody asks to stop.
    fn train_while(
        &self,
        shape: PassShape,
        steps: Vec<Step>,
        worker: usize,
        goes_on: &mut dyn FnMut(PassTime) -> bool,
    ) -> Result<(), MeasuringError> {
        let trainer = &self.trainers[&shape.rank];
        let job = Job {
            adapter: Arc::new(Adapter::initial(trainer.layout(), self.seed)),
            steps,
            objective: Objective::Sft,
            terms: AlgorithmTerms::default(),
            hyper: self.hyper.clone(),
            seed: self.seed,
            stream: worker as u64,
        };
        let stop = self.options.stop;
        let outcome = trainer.train_timed(&job, &mut |time| !stop.load(Ordering::Relaxed) && goes_on(time))?;
        if stop.load(Ordering::Relaxed) {
            return Err(MeasuringError::Interrupted);
        }
        match outcome.status {
            Status::NonFinite { .. } => Err(MeasuringError::NonFinite { shape }),
            _ => Ok(()),
        }
    }

    /// Returns a micro-batch of random tokens, all of which but the first of each row are learned.
    fn micro_batch(&self, shape: PassShape, worker: usize) -> Vec<Arc<Sample>> {
        let vocabulary = self.trainer().config().vocab_size as u64;
        let mut stream = Stream::new(self.seed, Purpose::SyntheticData, worker as u64);
        let mut rows = Vec::with_capacity(shape.rows as usize);
        for _ in 0..shape.rows {
            let ids = (0..shape.length).map(|_| stream.below(vocabulary) as u32).collect();
            rows.push(Arc::new(Sample { ids, targets: std::iter::once(1..shape.length).collect() }));
        }
        rows
    }
}

/// Point at which workers wait for each other, which does not wait for one that failed.
#[derive(Default)]
struct Meeting {
    ready: AtomicUsize,
    /// Workers that have all of their times.
    finished: AtomicUsize,
    /// Whether a worker failed.
    is_off: AtomicBool,
}

impl Meeting {
    /// Waits until this many workers are here.
    fn wait_for(&self, workers: usize) {
        self.ready.fetch_add(1, Ordering::SeqCst);
        while self.ready.load(Ordering::SeqCst) < workers && !self.is_off.load(Ordering::SeqCst) {
            thread::sleep(LOOK);
        }
    }
}
