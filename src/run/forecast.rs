//! What a scenario will cost on this machine, from its schedule and from one step that is tried.

use std::sync::Arc;
use std::time::Instant;

use fedreplay_sim::Seed;
use serde::Serialize;

use super::RunError;
use super::exams::ExamForecast;
use super::inputs::Inputs;
use super::outline::parameters;
use super::shared::Shared;
use super::task::Tasks;
use crate::adapter::Adapter;
use crate::lineage::{OrderError, Rows};
use crate::model::Device;
use crate::scenario::{Algorithm, Loaded, Scenario};
use crate::store::Store;
use crate::training::{Job, Numerics, Objective, Terms, Trainer, free_bytes};

/// [rows] Rows that are evaluated to see how long that takes.
const TRIED_ROWS: usize = 8;

/// [s] A first step that took longer than this is not tried again without the costs of the first time.
const LONG: f64 = 2.0;

/// What a run would take.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// [B] Base, and for each worker an adapter with its states and one micro-batch of the longest rows.
    pub memory_bytes: u64,
    /// [B] What the machine has left; none where nothing tells.
    pub free_bytes: Option<u64>,
    pub workers: usize,
    /// [tokens, s] Size and wall-clock time of the step that was tried.
    pub step_tokens: u64,
    pub step_seconds: f64,
    /// [s] Wall-clock time of all trainings, and of all evaluations, one after another.
    pub training_seconds: f64,
    pub evaluation_seconds: f64,
    pub benchmarks: Vec<ExamForecast>,
    /// [FLOP] Of all benchmarks, if every answer is as long as it may be: two for each token and weight of the base.
    pub benchmark_flops_max: f64,
    /// [s] Wall-clock time of reading all questions of benchmarks; how long writing takes is not known beforehand.
    pub benchmark_reading_seconds: f64,
}

impl Forecast {
    /// [s] Wall-clock time of the run, if the workers are never idle, without what benchmarks have written.
    pub fn wall_seconds(&self) -> f64 {
        (self.training_seconds + self.evaluation_seconds + self.benchmark_reading_seconds) / self.workers as f64
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

/// Loads data and base model, trains one step of a median task, and extends it to `counted_flops` of tasks that count
/// and to what the scenario adds.
///
/// # Errors
/// As those of a run before it begins; and if the base model alone is more than the machine has left.
pub fn forecast(loaded: &Loaded, device: Device, workers: usize, counted_flops: f64) -> Result<Forecast, RunError> {
    let free = free_bytes(device);
    refuse_too_large(loaded, free)?;
    let inputs = Inputs::load(loaded, &[device], &Numerics::default(), &Store::none(), &mut Shared::default())?;
    let scenario = &loaded.scenario;
    let client = median_client(&inputs);
    let (step_tokens, step_seconds) = try_step(&inputs, loaded, client)?;
    let work = |client: usize| &inputs.facts.costs.works()[inputs.facts.facts[client].work as usize];
    let steps = scenario.steps(inputs.clients[client].train.count() as u64, inputs.clients.len());
    let seconds_per_flop = step_seconds * f64::from(steps) / work(client).flops as f64;
    let alone_flops = match scenario.evaluation.local_baseline {
        true => (0..inputs.clients.len()).map(|client| work(client).flops as f64).sum::<f64>(),
        false => 0.0,
    };
    let trained_flops = counted_flops + alone_flops * f64::from(scenario.rounds);
    // Where nothing is aggregated, every client's own model takes them.
    let models = if scenario.algorithm == Algorithm::Local { inputs.clients.len() as u64 } else { 1 };
    let benchmarks = inputs.exams.iter().map(|exam| exam.forecast(inputs.trainer(), scenario.rounds, models));
    let benchmarks = benchmarks.collect::<Result<Vec<_>, _>>()?;
    let read_tokens = all_times(&benchmarks, |exam| exam.read_tokens);
    let written_tokens = all_times(&benchmarks, |exam| exam.written_tokens_max);
    let seconds_per_token = match seconds_per_evaluated_token(&inputs)? {
        Some(seconds) => seconds,
        // A step reads forwards and, at about twice the cost, backwards.
        None => step_seconds / step_tokens as f64 / 3.0,
    };
    Ok(Forecast {
        memory_bytes: memory(&inputs, scenario, workers),
        free_bytes: free,
        workers,
        step_tokens,
        step_seconds,
        training_seconds: trained_flops * seconds_per_flop,
        evaluation_seconds: evaluated_tokens(&inputs, scenario) as f64 * seconds_per_token,
        benchmarks,
        benchmark_flops_max: 2.0 * parameters(inputs.trainer().config()) as f64 * (read_tokens + written_tokens) as f64,
        benchmark_reading_seconds: read_tokens as f64 * seconds_per_token,
    })
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

/// Trains the first step of a client's first task and returns its tokens and seconds.
fn try_step(inputs: &Inputs, loaded: &Loaded, client: usize) -> Result<(u64, f64), RunError> {
    let training = Tasks { loaded, inputs }.alone(client as u32, 0, 1);
    let rows = |rows: &Vec<usize>| rows.iter().flat_map(|&row| training.rows.row(row).iter().cloned()).collect();
    let step: Vec<Vec<_>> = training.steps[0].iter().map(rows).collect();
    let tokens = step.iter().flatten().map(|sample| sample.ids.len() as u64).sum();
    if training.objective != Objective::Sft {
        for sample in step.iter().flatten() {
            inputs.trainer().reference(sample).map_err(OrderError::Training)?;
        }
    }
    let job = Job {
        adapter: fresh_adapter(inputs.trainer()),
        steps: vec![step],
        hyper: training.hyper.clone(),
        objective: training.objective,
        terms: Terms::default(),
        seed: training.seed,
        stream: training.stream,
    };
    let timed = || -> Result<f64, RunError> {
        let began = Instant::now();
        inputs.trainer().train(std::slice::from_ref(&job)).map_err(OrderError::Training)?;
        Ok(began.elapsed().as_secs_f64())
    };
    let first = timed()?;
    Ok((tokens, if first > LONG { first } else { timed()? }))
}

fn fresh_adapter(trainer: &Trainer) -> Arc<Adapter> {
    Arc::new(Adapter::initial(trainer.layout(), Seed(0)))
}

fn memory(inputs: &Inputs, scenario: &Scenario, workers: usize) -> u64 {
    let longest = inputs.clients.iter().map(|client| client.train.longest()).max().unwrap_or(0);
    let tokens = longest * u64::from(scenario.training.batch_size);
    let plan = inputs.trainer().memory(1, tokens, tokens);
    plan.weights + plan.expanded + workers as u64 * (plan.adapters + plan.kept)
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

/// What it takes to read a row forwards; none where there is no row to try it on.
fn seconds_per_evaluated_token(inputs: &Inputs) -> Result<Option<f64>, RunError> {
    let held_out = inputs.clients.iter().flat_map(|client| &client.held_out.samples);
    let samples: Vec<_> =
        inputs.test.iter().flat_map(|rows| &rows.samples).chain(held_out).take(TRIED_ROWS).cloned().collect();
    let tokens: usize = samples.iter().map(|sample| sample.ids.len()).sum();
    if tokens == 0 {
        return Ok(None);
    }
    let began = Instant::now();
    inputs.trainer().evaluate(&fresh_adapter(inputs.trainer()), &samples).map_err(OrderError::Training)?;
    Ok(Some(began.elapsed().as_secs_f64() / tokens as f64))
}
