//! Forecast of the time and memory that a scenario needs on this machine, from its schedule and from one measured step.

use std::sync::Arc;
use std::time::Instant;

use fedreplay_sim::{Detail, Seed};
use serde::Serialize;

use super::RunError;
use super::forecast_load::Workload;
use super::forecast_memory::{FirstStepSize, MemoryForecast, memory};
use super::local_training::Tasks;
use super::round_writer::ScheduleSource;
use super::training_passes::{largest_work, samples_of, tokens_of};
use crate::adapter::Adapter;
use crate::data::Sample;
use crate::graph::GraphError;
use crate::inputs::translate::checkpointing;
use crate::inputs::{BenchmarkForecast, InputCache, Inputs, most_in_a_pass};
use crate::model::Device;
use crate::privacy::PrivacyPlan;
use crate::scenario::{Algorithm, Scenario, ScenarioSpec};
use crate::schedule::model_shape::parameters;
use crate::schedule::{Timeline, schedule};
use crate::store::Store;
use crate::training::{AlgorithmTerms, Job, LargestWork, Numerics, Objective, Trainer, free_bytes};

/// [s] -- If the first step takes longer than this, it is not measured a second time without the costs of the first.
const LONG: f64 = 2.0;

/// Time and memory that a run would need.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// [byte] -- Peak memory of the process, and of those of a rule in Python.
    pub memory_bytes: u64,
    /// Composition of the peak memory.
    pub memory: MemoryForecast,
    /// [byte] -- Free memory of the machine; `None` if it cannot be found out.
    pub free_bytes: Option<u64>,
    pub workers: usize,
    /// [token] -- Size of the measured step.
    pub step_tokens: u64,
    /// [s] -- Wall-clock time of the measured step, run at once on as many threads as workers can be busy.
    pub step_seconds: f64,
    /// [s] -- Time for reading the data and loading the base model, as just measured.
    pub loading_seconds: f64,
    /// [s] -- Time of the start-up test, if its result is not cached.
    pub self_test_seconds: f64,
    /// [s] -- Wall-clock time of all trainings, one after another.
    pub training_seconds: f64,
    /// [s] -- Wall-clock time of all evaluations, one after another.
    pub evaluation_seconds: f64,
    /// [s] -- Wall-clock time of all trainings on the workers, where each round waits for the one before.
    pub training_wall_seconds: f64,
    pub benchmarks: Vec<BenchmarkForecast>,
    /// [FLOP] -- Work of all benchmarks if every answer has its maximum length: two per token and weight of the base.
    pub benchmark_flops_max: f64,
    /// [s] -- Wall-clock time for reading all questions of benchmarks. The time for writing answers is not known in advance.
    pub benchmark_reading_seconds: f64,
}

impl Forecast {
    /// [s] -- Returns the wall-clock time of the run without the generation of benchmark answers.
    pub fn wall_seconds(&self) -> f64 {
        let shared = (self.evaluation_seconds + self.benchmark_reading_seconds) / self.workers as f64;
        self.loading_seconds + self.self_test_seconds + self.training_wall_seconds + shared
    }

    /// [token] -- Returns the maximum number of tokens that benchmarks generate in the run.
    pub fn written_tokens_max(&self) -> u64 {
        all_times(&self.benchmarks, |benchmark| benchmark.written_tokens_max)
    }
}

/// [token] -- Sums a token count over all evaluations of all benchmarks.
fn all_times(benchmarks: &[BenchmarkForecast], tokens: fn(&BenchmarkForecast) -> u64) -> u64 {
    benchmarks.iter().map(|benchmark| benchmark.times * tokens(benchmark)).sum()
}

/// Loads the data and the base model, measures one training step of a median client, and extrapolates by tokens to all
/// work of the schedule. If the schedule depends on results, the extrapolation uses `counted_flops`, the work that
/// counted in a plan with stand-in losses. `rule_bytes` is the memory of the rule that the scenario names, as
/// [`OwnRules::check`](crate::inputs::OwnRules::check) returns it.
///
/// # Errors
/// Those of a run before it begins; and if the base model alone needs more memory than the machine has left.
pub fn forecast(
    scenario: &Scenario,
    device: Device,
    workers: usize,
    counted_flops: f64,
    rule_bytes: u64,
) -> Result<Forecast, RunError> {
    let free = free_bytes(device);
    refuse_too_large(scenario, free)?;
    let began = Instant::now();
    let numerics =
        Numerics { checkpointing: checkpointing(scenario.scenario.execution, workers), ..Numerics::default() };
    let inputs = Inputs::load(scenario, &[device], &numerics, &Store::none(), &mut InputCache::after_plan())?;
    let loading_seconds = began.elapsed().as_secs_f64();
    let spec = &scenario.scenario;
    let tasks = Tasks { scenario, inputs: &inputs };
    let source = schedule_source(scenario, &inputs)?;
    let largest = largest_work(&tasks, &source, most_in_a_pass(spec.execution, device));
    let workload = match &source {
        ScheduleSource::Known(schedule) => Workload::of(scenario, &inputs, schedule),
        ScheduleSource::Live(_) => Workload::default(),
    };
    let client = median_client(&inputs);
    let busy = match &source {
        ScheduleSource::Known(_) => workers.min(workload.trainings_of_a_round().max(1) as usize),
        ScheduleSource::Live(_) => workers,
    };
    // Measured with as many steps at once as workers can be busy: they compete for the memory's bandwidth.
    let trial = try_step(&tasks, client, busy)?;
    let seconds_per_token = trial.seconds / trial.tokens as f64;
    let seconds_per_evaluated_token = match seconds_per_evaluated_token(&inputs, &largest)? {
        Some(seconds) => seconds,
        // A step is a forward pass and a backward pass of about twice its cost.
        None => seconds_per_token / 3.0,
    };
    let first_step_seconds = FirstStepSize::of(&tasks).map_or(0, |first| first.tokens) as f64 * seconds_per_token;
    let [training_seconds, training_wall_seconds] = match &source {
        ScheduleSource::Known(_) => {
            let tokens = [workload.tokens(), workload.tokens_in_a_row(workers)];
            tokens.map(|tokens| tokens as f64 * seconds_per_token)
        }
        ScheduleSource::Live(_) => {
            let step_seconds = trial.step_tokens as f64 * seconds_per_token;
            let seconds = by_operations(&inputs, scenario, client, step_seconds, counted_flops);
            [seconds, seconds / workers as f64]
        }
    }
    .map(|seconds| seconds + first_step_seconds);
    let [tested, evaluated_in_test] = largest.tested_tokens();
    let models = evaluated_models(spec, inputs.clients.len());
    let benchmarks =
        inputs.benchmarks.iter().map(|benchmark| benchmark.forecast(inputs.trainer(), spec.rounds, models));
    let benchmarks = benchmarks.collect::<Result<Vec<_>, _>>()?;
    let read_tokens = all_times(&benchmarks, |benchmark| benchmark.read_tokens);
    let written_tokens = all_times(&benchmarks, |benchmark| benchmark.written_tokens_max);
    let memory = memory(&tasks, &workload, &largest, workers, rule_bytes);
    Ok(Forecast {
        memory_bytes: memory.total(),
        memory,
        free_bytes: free,
        workers,
        step_tokens: trial.tokens,
        step_seconds: trial.seconds,
        loading_seconds,
        self_test_seconds: tested as f64 * seconds_per_token + evaluated_in_test as f64 * seconds_per_evaluated_token,
        training_seconds,
        training_wall_seconds,
        evaluation_seconds: evaluated_tokens(&inputs, spec) as f64 * seconds_per_evaluated_token,
        benchmarks,
        benchmark_flops_max: 2.0 * parameters(inputs.trainer().config()) as f64 * (read_tokens + written_tokens) as f64,
        benchmark_reading_seconds: read_tokens as f64 * seconds_per_evaluated_token,
    })
}

/// Simulates the schedule, unless it depends on results.
fn schedule_source(scenario: &Scenario, inputs: &Inputs) -> Result<ScheduleSource, RunError> {
    let rows: Vec<u64> = inputs.clients.iter().map(|client| client.train.samples.len() as u64).collect();
    let privacy = PrivacyPlan::new(&scenario.scenario, &rows)?;
    let timeline = Timeline::of(scenario, privacy.as_ref(), &inputs.facts, Detail::Tasks)?;
    Ok(match scenario.reads_results() {
        true => ScheduleSource::Live(Box::new(timeline)),
        false => ScheduleSource::Known(schedule(timeline)?),
    })
}

/// [s] -- Estimates the time of all trainings one after another, from the operations of those that count and the measured
/// step of one client.
fn by_operations(inputs: &Inputs, scenario: &Scenario, client: usize, step_seconds: f64, counted_flops: f64) -> f64 {
    let spec = &scenario.scenario;
    let steps = spec.steps(inputs.clients[client].train.count() as u64, inputs.clients.len());
    let training_flops = |client: usize| task_flops(inputs, client) as f64 / f64::from(spec.trainings_per_task());
    let alone = match spec.evaluation.local_baseline {
        true => (0..inputs.clients.len()).map(training_flops).sum::<f64>(),
        false => 0.0,
    };
    let mut flops = counted_flops + alone * f64::from(spec.rounds);
    if let Some(tuning) = spec.evaluation.fine_tuning_steps {
        for client in 0..inputs.clients.len() {
            let steps = spec.steps(inputs.clients[client].train.count() as u64, inputs.clients.len());
            flops += training_flops(client) / f64::from(steps) * f64::from(tuning.get());
        }
    }
    // Seconds of the client's whole task, scaled by the ratio of operations.
    flops * step_seconds * f64::from(steps) / training_flops(client)
}

/// [FLOP] -- Returns the work of one task of a client by the cost model.
fn task_flops(inputs: &Inputs, client: usize) -> u64 {
    inputs.facts.costs.works()[inputs.facts.facts[client].work as usize].flops
}

/// Refuses a base model that does not fit into the free memory, before it is loaded.
fn refuse_too_large(scenario: &Scenario, free: Option<u64>) -> Result<(), RunError> {
    let Some((folder, free)) = scenario.scenario.model.folder.as_ref().zip(free) else { return Ok(()) };
    let folder = scenario.resolve(folder);
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let weights = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "safetensors"));
    let bytes: u64 = weights.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    if bytes <= free {
        return Ok(());
    }
    Err(RunError::TooLarge { folder, bytes, free })
}

/// Returns the median client by the work of a task.
fn median_client(inputs: &Inputs) -> usize {
    let mut clients: Vec<usize> = (0..inputs.clients.len()).collect();
    clients.sort_by_key(|&client| task_flops(inputs, client));
    clients[clients.len() / 2]
}

/// [token] -- Limit on the measured part of a step: a step of any number of rows is tried in seconds.
const TRIED_TOKENS_MAX: u64 = 1 << 14;

/// Measured part of a training step.
struct Trial {
    /// [token] -- Tokens of the measured part.
    tokens: u64,
    /// [s] -- Wall-clock time of the measured part.
    seconds: f64,
    /// [token] -- Tokens of the whole step.
    step_tokens: u64,
}

/// Trains the first step of a client's first task, or as much of it as [`TRIED_TOKENS_MAX`] allows, on `busy` threads at once,
/// which share the memory's bandwidth as the run's workers do.
fn try_step(tasks: &Tasks, client: usize, busy: usize) -> Result<Trial, RunError> {
    let trainer = tasks.inputs.trainer();
    let training = tasks.alone(client as u32, 0, 1);
    let whole: Vec<Vec<_>> = training.steps[0].iter().map(|rows| samples_of(&training.rows, rows)).collect();
    let step = first_part(&whole);
    let tokens = step.iter().map(|samples| tokens_of(samples)).sum();
    if training.objective != Objective::Sft {
        for sample in step.iter().flatten() {
            trainer.reference(training.objective.reference(), sample).map_err(GraphError::Training)?;
        }
    }
    let job = Job {
        adapter: fresh_adapter(trainer),
        steps: vec![step],
        hyper: training.hyper.clone(),
        objective: training.objective,
        terms: AlgorithmTerms::default(),
        seed: training.seed,
        stream: training.stream,
    };
    let first = timed(trainer, &job, busy)?;
    let seconds = if first > LONG { first } else { timed(trainer, &job, busy)? };
    Ok(Trial { tokens, seconds, step_tokens: whole.iter().map(|samples| tokens_of(samples)).sum() })
}

/// Returns the first micro-batches of a step, the last of them cut, that have at most [`TRIED_TOKENS_MAX`] tokens together, but
/// at least two rows, of which a preference may consist.
fn first_part(step: &[Vec<Arc<Sample>>]) -> Vec<Vec<Arc<Sample>>> {
    let mut part = Vec::new();
    let mut left = TRIED_TOKENS_MAX;
    for micro_batch in step {
        let mut rows = Vec::new();
        // Rows are taken in pairs: those of a preference follow each other.
        for pair in micro_batch.chunks(2) {
            let tokens = tokens_of(pair);
            if tokens > left && !(part.is_empty() && rows.is_empty()) {
                break;
            }
            left = left.saturating_sub(tokens);
            rows.extend_from_slice(pair);
        }
        let is_cut = rows.len() < micro_batch.len();
        if !rows.is_empty() {
            part.push(rows);
        }
        if is_cut {
            break;
        }
    }
    part
}

/// [s] -- Measures a job that runs on `busy` threads at once.
fn timed(trainer: &Trainer, job: &Job, busy: usize) -> Result<f64, RunError> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let mut threads = Vec::with_capacity(busy);
        for _ in 0..busy {
            threads.push(scope.spawn(|| trainer.train(std::slice::from_ref(job)).map(drop)));
        }
        threads.into_iter().try_for_each(|thread| thread.join().expect("a training does not panic"))
    })
    .map_err(GraphError::Training)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Returns an untrained adapter.
fn fresh_adapter(trainer: &Trainer) -> Arc<Adapter> {
    Arc::new(Adapter::initial(trainer.layout(), Seed(0)))
}

/// Returns the number of models that are evaluated at a time: the server's, or each client's own.
fn evaluated_models(scenario: &ScenarioSpec, clients: usize) -> u64 {
    let has_own = scenario.algorithm == Algorithm::Local || scenario.has_personal_models();
    if has_own { clients as u64 + u64::from(scenario.has_personal_models() && scenario.has_server_model()) } else { 1 }
}

/// [token] -- Returns the number of tokens that all evaluations of a run read.
fn evaluated_tokens(inputs: &Inputs, scenario: &ScenarioSpec) -> u64 {
    let test = inputs.test.as_ref().map_or(0, |rows| rows.tokens());
    let held_out: u64 = inputs.clients.iter().map(|client| client.held_out.tokens()).sum();
    // One evaluation before training, then one every `every` rounds and one after the last.
    let later = u64::from(scenario.rounds.div_ceil(scenario.evaluation.every));
    let clients = inputs.clients.len() as u64;
    let models = evaluated_models(scenario, inputs.clients.len());
    let evaluation = &scenario.evaluation;
    let apart = u64::from(evaluation.local_baseline) + u64::from(evaluation.fine_tuning_steps.is_some());
    (1 + later) * held_out + (1 + later * models) * test + apart * (clients * test + held_out)
}

/// [s] -- Measures the time per token of a forward pass that is as full as an evaluation's; `None` without evaluated rows.
fn seconds_per_evaluated_token(inputs: &Inputs, largest: &LargestWork) -> Result<Option<f64>, RunError> {
    let tokens = tokens_of(&largest.evaluated);
    if tokens == 0 {
        return Ok(None);
    }
    let began = Instant::now();
    let adapter = fresh_adapter(inputs.trainer());
    inputs.trainer().evaluate(&adapter, &largest.evaluated).map_err(GraphError::Training)?;
    Ok(Some(began.elapsed().as_secs_f64() / tokens as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize) -> Arc<Sample> {
        Arc::new(Sample { ids: vec![0; length], targets: vec![] })
    }

    /// Returns the numbers of rows in the micro-batches that are tried.
    fn tried(step: &[Vec<Arc<Sample>>]) -> Vec<usize> {
        first_part(step).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_step_is_tried_as_a_whole_up_to_a_limit() {
        assert_eq!(tried(&[vec![row(512); 16], vec![row(512); 16]]), [16, 16]);
        assert_eq!(tried(&[vec![row(512); 16], vec![row(512); 17]]), [16, 16]);
        assert_eq!(tried(&[vec![row(512); 16], vec![row(512); 16], vec![row(512); 16]]), [16, 16]);
        assert_eq!(tried(&[vec![row(64); 65_536]]), [256]);
        assert_eq!(tried(&[vec![row(1 << 20); 5]]), [2]);
        assert_eq!(tried(&[vec![row(5)]]), [1]);
    }
}
