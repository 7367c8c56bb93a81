//! The measurement: each shape once, by ascending size, for its peak memory; then rounds over all shapes for the times.
//!
//! A repeat of a shape is one training per worker, on random tokens: a micro-batch that is not timed, which brings memory and caches into the
//! state of a training, and then the timed ones, each with an update of the adapter. Rounds go over the whole grid, so that a slow
//! phase of the machine falls on all shapes and not on one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fedreplay_sim::{Purpose, Seed, Stream};

use super::grid::Grid;
use super::machine::{OtherPrograms, ProcessorTime};
use super::settings::{CalibrationOptions, CalibrationWatch, MeasuringError, PassShape};
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

/// Ratio of the slowest and the fastest repeat of a shape from which on they disagree.
const SPREAD_MAX: f64 = 1.1;

/// Times that repeats which disagree are measured again.
const AGAIN_MAX: u32 = 3;

/// Most timed micro-batches of a repeat.
const PASSES_MAX: usize = 10_000;

/// Pause between two looks at whether all workers are ready.
const LOOK: Duration = Duration::from_micros(200);

/// Shape with what was measured of it.
pub(super) struct Cell {
    pub shape: PassShape,
    /// Timed micro-batches of a repeat.
    passes: usize,
    /// [s] -- Time of the micro-batch at the first try, by which progress is counted.
    first_seconds: f64,
    pub peak_memory: Option<u64>,
    pub repeats: Vec<Repeat>,
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

impl Cell {
    /// [s] -- Returns the least and the greatest time of a micro-batch.
    fn range(&self) -> (f64, f64) {
        let mut least = f64::INFINITY;
        let mut greatest: f64 = 0.0;
        for repeat in &self.repeats {
            least = least.min(repeat.micro_batch);
            greatest = greatest.max(repeat.micro_batch);
        }
        (least, greatest)
    }

    /// [processors] -- Returns what other programs took meanwhile.
    fn others(&self) -> f64 {
        OtherPrograms::processors(self.repeats.iter().map(|repeat| repeat.others))
    }

    /// Returns whether the repeats agree and other programs left the machine alone.
    fn is_settled(&self, allowed: f64) -> bool {
        let (least, greatest) = self.range();
        greatest <= SPREAD_MAX * least && self.others() <= allowed
    }

    /// [s] -- Returns the expected time of a repeat.
    fn seconds(&self) -> f64 {
        (1 + self.passes) as f64 * self.first_seconds
    }
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

    /// Measures all shapes of a grid: first those at its points, then those that are held out.
    pub fn measure(&self, grid: &Grid, watch: &mut dyn CalibrationWatch) -> Result<Vec<Cell>, MeasuringError> {
        let mut shapes = grid.points();
        shapes.extend(&grid.held_out);
        let mut cells = self.first_pass(&shapes, watch)?;
        watch.begin("measuring in rounds over all shapes");
        let all: Vec<usize> = (0..cells.len()).collect();
        self.rounds(&mut cells, &all, watch)?;
        if !self.options.even_if_busy {
            self.settle(&mut cells, watch)?;
        }
        Ok(cells)
    }

    /// Trains on each shape once, by ascending size, so that the greatest memory of a shape is its own and not what a larger one left.
    fn first_pass(&self, shapes: &[PassShape], watch: &mut dyn CalibrationWatch) -> Result<Vec<Cell>, MeasuringError> {
        watch.begin("trying each shape");
        let mut order: Vec<usize> = (0..shapes.len()).collect();
        order.sort_by_key(|&place| (shapes[place].tokens(), shapes[place]));
        let of: u64 = shapes.iter().map(|shape| shape.tokens()).sum();
        let mut done = 0;
        let mut tried: Vec<Option<Cell>> = shapes.iter().map(|_| None).collect();
        for place in order {
            tried[place] = Some(self.first_try(shapes[place])?);
            done += shapes[place].tokens();
            watch.done(done as f64 / of as f64);
        }
        Ok(tried.into_iter().map(|cell| cell.expect("each was tried")).collect())
    }

    /// Takes a step on a short row, which brings the optimizer's state into memory, and one on the shape.
    fn first_try(&self, shape: PassShape) -> Result<Cell, MeasuringError> {
        let has_memory = self.options.workers == 1 && self.options.device == Device::Cpu && reset_peak_bytes().is_ok();
        // After the first step the optimizer has its state, so that the second one is as large as all that follow.
        let short = PassShape { rows: 1, length: 2, rank: shape.rank };
        let steps = vec![vec![self.micro_batch(short, 0)], vec![self.micro_batch(shape, 0)]];
        let mut seconds = 0.0;
        self.train(shape, steps, &mut |time| seconds = time.micro_batch)?;
        let peak_memory = if has_memory { peak_bytes() } else { None };
        let passes = (self.options.least_seconds / seconds).ceil().clamp(1.0, PASSES_MAX as f64) as usize;
        Ok(Cell { shape, passes, first_seconds: seconds, peak_memory, repeats: vec![] })
    }

    /// Measures the shapes at `places` in rounds.
    fn rounds(
        &self,
        cells: &mut [Cell],
        places: &[usize],
        watch: &mut dyn CalibrationWatch,
    ) -> Result<(), MeasuringError> {
        let of_round: f64 = places.iter().map(|&place| cells[place].seconds()).sum();
        let of = f64::from(self.options.repeats) * of_round;
        let mut done = 0.0;
        for _ in 0..self.options.repeats {
            for &place in places {
                let repeat = self.repeat(cells[place].shape, cells[place].passes)?;
                cells[place].repeats.push(repeat);
                done += cells[place].seconds();
                watch.done(done / of);
            }
        }
        Ok(())
    }

    /// Measures shapes again whose repeats disagree, or during which other programs were busy.
    fn settle(&self, cells: &mut [Cell], watch: &mut dyn CalibrationWatch) -> Result<(), MeasuringError> {
        let allowed = ProcessorTime::now().map_or(f64::INFINITY, |time| time.allowed());
        for _ in 0..AGAIN_MAX {
            let unsettled: Vec<usize> = (0..cells.len()).filter(|&place| !cells[place].is_settled(allowed)).collect();
            if unsettled.is_empty() {
                return Ok(());
            }
            watch.begin(&format!("measuring {} shapes again, whose repeats disagree", unsettled.len()));
            // All repeats go, and not only the slowest: to keep the fastest would say that the machine is faster than it is.
            for &place in &unsettled {
                cells[place].repeats.clear();
            }
            self.rounds(cells, &unsettled, watch)?;
        }
        let Some(cell) = cells.iter().find(|cell| !cell.is_settled(allowed)) else { return Ok(()) };
        let (least, greatest) = cell.range();
        let others = cell.others();
        Err(MeasuringError::Unsteady { shape: cell.shape, least, greatest, others, times: AGAIN_MAX })
    }

    /// Measures a shape: all workers train on it at the same time, and each goes on until the last one has its times.
    fn repeat(&self, shape: PassShape, passes: usize) -> Result<Repeat, MeasuringError> {
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

    /// Trains on steps and passes the times of each micro-batch to `see`.
    fn train(&self, shape: PassShape, steps: Vec<Step>, see: &mut dyn FnMut(PassTime)) -> Result<(), MeasuringError> {
        self.train_while(shape, steps, 0, &mut |time| {
            see(time);
            true
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

/// Looks at an idle machine for a second.
///
/// # Errors
/// If other programs are busy.
pub(super) fn check_idle(options: &CalibrationOptions) -> Result<(), MeasuringError> {
    let Some(before) = ProcessorTime::now() else { return Ok(()) };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        if options.stop.load(Ordering::Relaxed) {
            return Err(MeasuringError::Interrupted);
        }
        thread::sleep(Duration::from_millis(50));
    }
    let Some(now) = ProcessorTime::now() else { return Ok(()) };
    let others = OtherPrograms::processors(std::iter::once(now.others_since(&before)));
    if others <= now.allowed() || options.even_if_busy {
        return Ok(());
    }
    Err(MeasuringError::Busy { others, processors: now.processors(), allowed: now.allowed() })
}
