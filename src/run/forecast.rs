//! What a scenario will cost on this machine, from its schedule and from one step that is tried.

use std::sync::Arc;
use std::time::Instant;

use fedreplay_sim::{Detail, Seed};
use serde::Serialize;

use super::RunError;
use super::forecast_load::{Pass, Workload};
use super::local_training::Tasks;
use super::round_writer::Course;
use super::training_passes::{largest_work, samples_of, targets_of, tokens_of};
use crate::adapter::Adapter;
use crate::data::Rows;
use crate::graph::OrderError;
use crate::inputs::translate::checkpointing;
use crate::inputs::{ExamForecast, Inputs, Shared, most_in_a_pass};
use crate::model::Device;
use crate::privacy::Protection;
use crate::scenario::{Algorithm, Loaded, Scenario};
use crate::schedule::model_shape::parameters;
use crate::schedule::{Timeline, schedule};
use crate::store::Store;
use crate::training::{Job, LargestWork, Numerics, Objective, Terms, Trainer, free_bytes, program_bytes};

/// [s] A first step that took longer than this is not tried again without the costs of the first time.
const LONG: f64 = 2.0;

/// What the memory of a run at its peak consists of [B].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryForecast {
    /// Code and data of the program, the rows as tokens included, as they were measured.
    pub program: u64,
    /// The frozen base.
    pub weights: u64,
    /// Of each worker, an adapter with its gradient and optimizer states, and what its threads keep.
    pub adapters: u64,
    /// Activations, gradients and logits of all workers at the worst time.
    pub activations: u64,
    /// Updates that wait to be aggregated, and models.
    pub updates: u64,
}

impl MemoryForecast {
    /// All of it together.
    pub fn total(&self) -> u64 {
        self.program + self.weights + self.adapters + self.activations + self.updates
    }
}

/// What a run would take.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// [B] What the process holds at its peak.
    pub memory_bytes: u64,
    /// What that consists of.
    pub memory: MemoryForecast,
    /// [B] What the machine has left; none where nothing tells.
    pub free_bytes: Option<u64>,
    pub workers: usize,
    /// [tokens, s] Size and wall-clock time of the step that was tried, as many times at once as workers can be busy.
    pub step_tokens: u64,
    pub step_seconds: f64,
    /// [s] Reading the data and loading the base model, as it took just now.
    pub loading_seconds: f64,
    /// [s] The start-up test, where none was made before.
    pub self_test_seconds: f64,
    /// [s] Wall-clock time of all trainings, and of all evaluations, one after another.
    pub training_seconds: f64,
    pub evaluation_seconds: f64,
    /// [s] Wall-clock time of all trainings on the workers, where a round waits for the one before.
    pub training_wall_seconds: f64,
    pub benchmarks: Vec<ExamForecast>,
    /// [FLOP] Of all benchmarks, if every answer is as long as it may be: two for each token and weight of the base.
    pub benchmark_flops_max: f64,
    /// [s] Wall-clock time of reading all questions of benchmarks; how long writing takes is not known beforehand.
    pub benchmark_reading_seconds: f64,
}

impl Forecast {
    /// [s] Wall-clock time of the run without what benchmarks have written.
    pub fn wall_seconds(&self) -> f64 {
        let shared = (self.evaluation_seconds + self.benchmark_reading_seconds) / self.workers as f64;
        self.loading_seconds + self.self_test_seconds + self.training_wall_seconds + shared
    }

    /// [tokens] Most that benchmarks have written, all times together.
    pub fn written_tokens_max(&self) -> u64 {
        all_times(&self.benchmarks, |exam| exam.written_tokens_max)
    }
}

/// [tokens] What benchmarks ask for, all times together.
fn all_times(benchmarks: &[ExamForecast], tokens: fn(&ExamForecast) -> u64) -> u64 {
    benchmarks.iter().map(|exam| exam.times * tokens(exam)).sum()
}

/// Loads data and base model, trains one step of a median task, and extends it by tokens to all tasks of the schedule and to
/// what the scenario adds. Where the schedule is not known before results are, `counted_flops` of a stand-in are taken.
///
/// # Errors
/// As those of a run before it begins; and if the base model alone is more than the machine has left.
pub fn forecast(loaded: &Loaded, device: Device, workers: usize, counted_flops: f64) -> Result<Forecast, RunError> {
    let free = free_bytes(device);
    refuse_too_large(loaded, free)?;
    let began = Instant::now();
    let numerics = Numerics { checkpointing: checkpointing(loaded.scenario.execution, workers), ..Numerics::default() };
    let inputs = Inputs::load(loaded, &[device], &numerics, &Store::none(), &mut Shared::default())?;
    let loading_seconds = began.elapsed().as_secs_f64();
    let scenario = &loaded.scenario;
    let tasks = Tasks { loaded, inputs: &inputs };
    let course = course(loaded, &inputs)?;
    let largest = largest_work(&tasks, &course, most_in_a_pass(scenario.execution, device));
    let workload = match &course {
        Course::Known(schedule) => Workload::of(loaded, &inputs, schedule),
        Course::Live(_) => Workload::default(),
    };
    let client = median_client(&inputs);
    let busy = match &course {
        Course::Known(_) => workers.min(workload.trainings_of_a_round().max(1) as usize),
        Course::Live(_) => workers,
    };
    let (step_tokens, step_seconds) = try_step(&tasks, client, busy)?;
    let seconds_per_token = step_seconds / step_tokens as f64;
    let seconds_per_evaluated_token = match seconds_per_evaluated_token(&inputs, &largest)? {
        Some(seconds) => seconds,
        // A step reads forwards and, at about twice the cost, backwards.
        None => seconds_per_token / 3.0,
    };
    let [training_seconds, training_wall_seconds] = match &course {
        Course::Known(_) => {
            let tokens = [workload.tokens(), workload.tokens_in_a_row(workers)];
            tokens.map(|tokens| tokens as f64 * seconds_per_token)
        }
        Course::Live(_) => {
            let seconds = by_operations(&inputs, loaded, client, step_seconds, counted_flops);
            [seconds, seconds / workers as f64]
        }
    };
    let [tested, evaluated_in_test] = largest.tested_tokens();
    // Where nothing is aggregated, every client's own model takes them.
    let models = if scenario.algorithm == Algorithm::Local { inputs.clients.len() as u64 } else { 1 };
    let benchmarks = inputs.exams.iter().map(|exam| exam.forecast(inputs.trainer(), scenario.rounds, models));
    let benchmarks = benchmarks.collect::<Result<Vec<_>, _>>()?;
    let read_tokens = all_times(&benchmarks, |exam| exam.read_tokens);
    let written_tokens = all_times(&benchmarks, |exam| exam.written_tokens_max);
    let memory = memory(&tasks, &workload, &largest, workers);
    Ok(Forecast {
        memory_bytes: memory.total(),
        memory,
        free_bytes: free,
        workers,
        step_tokens,
        step_seconds,
        loading_seconds,
        self_test_seconds: tested as f64 * seconds_per_token + evaluated_in_test as f64 * seconds_per_evaluated_token,
        training_seconds,
        training_wall_seconds,
        evaluation_seconds: evaluated_tokens(&inputs, scenario) as f64 * seconds_per_evaluated_token,
        benchmarks,
        benchmark_flops_max: 2.0 * parameters(inputs.trainer().config()) as f64 * (read_tokens + written_tokens) as f64,
        benchmark_reading_seconds: read_tokens as f64 * seconds_per_evaluated_token,
    })
}

/// The schedule, where it is known before results are.
fn course(loaded: &Loaded, inputs: &Inputs) -> Result<Course, RunError> {
    let rows: Vec<u64> = inputs.clients.iter().map(|client| client.train.samples.len() as u64).collect();
    let privacy = Protection::new(&loaded.scenario, &rows)?;
    let timeline = Timeline::of(loaded, privacy.as_ref(), &inputs.facts, Detail::Tasks)?;
    Ok(match loaded.reads_results() {
        true => Course::Live(Box::new(timeline)),
        false => Course::Known(schedule(timeline)?),
    })
}

/// [s] All trainings one after another, from the operations of those that count and of a client's task.
fn by_operations(inputs: &Inputs, loaded: &Loaded, client: usize, step_seconds: f64, counted_flops: f64) -> f64 {
    let scenario = &loaded.scenario;
    let work = |client: usize| inputs.facts.costs.works()[inputs.facts.facts[client].work as usize].flops as f64;
    let steps = scenario.steps(inputs.clients[client].train.count() as u64, inputs.clients.len());
    let alone = match scenario.evaluation.local_baseline {
        true => (0..inputs.clients.len()).map(work).sum::<f64>(),
        false => 0.0,
    };
    let flops = counted_flops + alone * f64::from(scenario.rounds);
    flops * step_seconds * f64::from(steps) / work(client)
}

/// Refuses a base that would drive the machine out of memory before anything could be said.
fn refuse_too_large(loaded: &Loaded, free: Option<u64>) -> Result<(), RunError> {
    let Some((folder, free)) = loaded.scenario.model.folder.as_ref().zip(free) else { return Ok(()) };
    let folder = loaded.resolve(folder);
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let weights = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "safetensors"));
    let bytes: u64 = weights.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    if bytes <= free {
        return Ok(());
    }
    let folder = folder.display();
    Err(RunError::Usage(format!(
        "failed to try a step: the weights in {folder} are {bytes} bytes, and {free} are left"
    )))
}

/// A client in the middle of all by the work of a task.
fn median_client(inputs: &Inputs) -> usize {
    let mut clients: Vec<usize> = (0..inputs.clients.len()).collect();
    clients.sort_by_key(|&client| inputs.facts.costs.works()[inputs.facts.facts[client].work as usize].flops);
    clients[clients.len() / 2]
}

/// Trains the first step of a client's first task on so many threads at once, which share the processor's memory as the
/// run's workers do, and returns its tokens and seconds.
fn try_step(tasks: &Tasks, client: usize, busy: usize) -> Result<(u64, f64), RunError> {
    let trainer = tasks.inputs.trainer();
    let training = tasks.alone(client as u32, 0, 1);
    let step: Vec<Vec<_>> = training.steps[0].iter().map(|rows| samples_of(&training.rows, rows)).collect();
    let tokens = step.iter().map(|samples| tokens_of(samples)).sum();
    if training.objective != Objective::Sft {
        for sample in step.iter().flatten() {
            trainer.reference(sample).map_err(OrderError::Training)?;
        }
    }
    let job = Job {
        adapter: fresh_adapter(trainer),
        steps: vec![step],
        hyper: training.hyper.clone(),
        objective: training.objective,
        terms: Terms::default(),
        seed: training.seed,
        stream: training.stream,
    };
    let first = timed(trainer, &job, busy)?;
    let seconds = if first > LONG { first } else { timed(trainer, &job, busy)? };
    Ok((tokens, seconds))
}

/// [s] A job on so many threads at once.
fn timed(trainer: &Trainer, job: &Job, busy: usize) -> Result<f64, RunError> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let train = || trainer.train(std::slice::from_ref(job)).map(drop);
        let threads: Vec<_> = (0..busy).map(|_| scope.spawn(train)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a training does not panic"))
    })
    .map_err(OrderError::Training)?;
    Ok(began.elapsed().as_secs_f64())
}

fn fresh_adapter(trainer: &Trainer) -> Arc<Adapter> {
    Arc::new(Adapter::initial(trainer.layout(), Seed(0)))
}

/// Models that are in memory beside the updates of a round: the server's, the one before it, and the mean update in f64.
const MODELS: u64 = 4;

/// [clients] Updates of a round where the schedule is not known before results are, and there are as many clients.
const UNKNOWN_UPDATES: usize = 16;

/// What the run holds at its peak. Called after the trial, so that what the program itself takes shows.
fn memory(tasks: &Tasks, workload: &Workload, largest: &LargestWork, workers: usize) -> MemoryForecast {
    let trainer = tasks.inputs.trainer();
    let hyper = tasks.hyper(1);
    let is_dropping = hyper.dropout > 0.0;
    let jobs = largest.jobs.max(1);
    let of_pass = |pass: Pass| {
        let together = jobs as u64;
        trainer.pass_bytes(jobs, together * pass.tokens, together * pass.targets, is_dropping)
    };
    let micro_batch = Pass { tokens: tokens_of(&largest.micro_batch), targets: targets_of(&largest.micro_batch) };
    // The start-up test has one pass at a time, with a small job beside the largest.
    let in_company = largest.tokens_in_company();
    let small = in_company - jobs as u64 * micro_batch.tokens;
    let tested = trainer.pass_bytes(jobs + 1, in_company, jobs as u64 * micro_batch.targets + small, is_dropping);
    let trained = match workload.tokens() {
        0 => workers as u64 * of_pass(micro_batch),
        _ => workload.most_together(workers, of_pass),
    };
    let evaluated_tokens = tokens_of(&largest.evaluated);
    let evaluated = trainer.memory(1, evaluated_tokens, targets_of(&largest.evaluated)).evaluating();
    let plan = trainer.memory(jobs, micro_batch.tokens, micro_batch.targets);
    let rows = largest.micro_batch.iter().chain(&largest.evaluated);
    let longest = rows.map(|row| row.ids.len() as u64).max().unwrap_or(0);
    let copies = u64::from(hyper.proximal.is_some()) + u64::from(tasks.method(1).client.correction.is_some());
    let adapter = plan.adapters + plan.plain + copies * plan.adapters / 4 + trainer.room_bytes(longest);
    let updates = match workload.trainings_of_a_round() {
        0 => tasks.inputs.clients.len().min(UNKNOWN_UPDATES) as u64,
        several => several,
    };
    MemoryForecast {
        program: program_bytes().unwrap_or(0),
        weights: plan.weights,
        adapters: workers as u64 * adapter,
        activations: tested.max(trained).max(workers as u64 * evaluated),
        updates: 4 * trainer.layout().parameters() as u64 * (updates + MODELS),
    }
}

/// [tokens] Read by all evaluations of a run.
fn evaluated_tokens(inputs: &Inputs, scenario: &Scenario) -> u64 {
    let tokens = |rows: &Arc<Rows>| rows.tokens();
    let test = inputs.test.as_ref().map_or(0, tokens);
    let held_out: u64 = inputs.clients.iter().map(|client| tokens(&client.held_out)).sum();
    let evaluations = 1 + u64::from(scenario.rounds.div_ceil(scenario.evaluation.every));
    let alone = match scenario.evaluation.local_baseline {
        true => inputs.clients.len() as u64 * test + held_out,
        false => 0,
    };
    evaluations * (test + held_out) + alone
}

/// What it takes to read a token forwards, in a pass as full as an evaluation's; none where there is no row to try it on.
fn seconds_per_evaluated_token(inputs: &Inputs, largest: &LargestWork) -> Result<Option<f64>, RunError> {
    let tokens = tokens_of(&largest.evaluated);
    if tokens == 0 {
        return Ok(None);
    }
    let began = Instant::now();
    let adapter = fresh_adapter(inputs.trainer());
    inputs.trainer().evaluate(&adapter, &largest.evaluated).map_err(OrderError::Training)?;
    Ok(Some(began.elapsed().as_secs_f64() / tokens as f64))
}
