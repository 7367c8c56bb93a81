//! Forecast of the memory that a run takes at its peak: of its process, and of those of a rule in Python.

use serde::Serialize;

use super::forecast_load::{Pass, Workload};
use super::local_training::Tasks;
use super::training_passes::{targets_of, tokens_of};
use crate::adapter::Factors;
use crate::compression::Compression;
use crate::scenario::{Algorithm, OptimizerState, ScenarioSpec};
use crate::schedule::base_change_bytes;
use crate::training::{Hyper, LargestWork, Trainer, program_bytes};

/// Composition of the peak memory of a run. All fields are in [byte].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryForecast {
    /// Code and data of the program, including the tokenized rows, as measured.
    pub program: u64,
    /// Frozen base model.
    pub weights: u64,
    /// Adapters with gradients and optimizer state, and the buffers of the threads, of all workers.
    pub adapters: u64,
    /// Activations, gradients and logits of all workers at the worst time.
    pub activations: u64,
    /// Updates that wait for aggregation, models, and what clients keep between their tasks.
    pub updates: u64,
    /// Processes of a rule in Python.
    pub rules: u64,
}

impl MemoryForecast {
    /// [byte] -- Returns the sum of all parts.
    pub fn total(&self) -> u64 {
        self.program + self.weights + self.adapters + self.activations + self.updates + self.rules
    }
}

/// [adapters in f32] -- Models in memory besides the updates of a round: the server's, the one before it, and the mean
/// update in f64, which takes twice the space.
const MODELS: u64 = 4;

/// [clients] -- Assumed number of updates in a round, if the schedule depends on results and there are as many clients.
const UNKNOWN_UPDATES: usize = 16;

/// Estimates the peak memory of the run. Called after the measured step, so that the memory of the program itself is known.
/// `rule_bytes` is the memory of a process of the rule in Python between calls.
pub(super) fn memory(
    tasks: &Tasks,
    workload: &Workload,
    largest: &LargestWork,
    workers: usize,
    rule_bytes: u64,
) -> MemoryForecast {
    let trainer = tasks.inputs.trainer();
    let hyper = tasks.hyper(1);
    let is_dropping = hyper.dropout > 0.0;
    let jobs = largest.jobs.max(1);
    let per_pass = jobs as u64;
    let micro_batch = Pass { tokens: tokens_of(&largest.micro_batch), targets: targets_of(&largest.micro_batch) };
    // The start-up test makes one pass at a time, with a small job in addition to the largest ones.
    let shared = largest.tokens_in_company();
    let small = shared - per_pass * micro_batch.tokens;
    let tested = trainer.pass_bytes(jobs + 1, shared, per_pass * micro_batch.targets + small, is_dropping);
    // Training: the worst moment of a known schedule, else the largest pass on every worker.
    let trained = match workload.tokens() {
        0 => {
            let (tokens, targets) = micro_batch.times(per_pass);
            workers as u64 * trainer.pass_bytes(jobs, tokens, targets, is_dropping)
        }
        _ => workload.most_together(workers, |pass| {
            let (tokens, targets) = pass.times(per_pass);
            trainer.pass_bytes(jobs, tokens, targets, is_dropping)
        }),
    };
    let first_step = FirstStepSize::of(tasks).map_or(0, |first| first.bytes(trainer));
    let evaluated_tokens = tokens_of(&largest.evaluated);
    let evaluated = trainer.memory(1, evaluated_tokens, targets_of(&largest.evaluated)).evaluating();
    let plan = trainer.memory(jobs, micro_batch.tokens, micro_batch.targets);
    let rows = largest.micro_batch.iter().chain(&largest.evaluated);
    let longest = rows.map(|row| row.ids.len() as u64).max().unwrap_or(0);
    let spec = &tasks.scenario.scenario;
    let copies = copies_of_method(&hyper, spec, tasks.method(1).client.correction.is_some());
    // The values are a quarter of what a training adapter takes.
    let quarter = plan.adapters / per_pass / 16;
    let adapters =
        plan.adapters + plan.plain + (per_pass * copies.held + copies.passing) * quarter + trainer.room_bytes(longest);
    let counts = Counts {
        updates: match workload.trainings_of_a_round() {
            0 => tasks.inputs.clients.len().min(UNKNOWN_UPDATES) as u64,
            several => several,
        },
        clients: tasks.inputs.clients.len() as u64,
        with_state: match workload.trainings_in_rounds() {
            0 => tasks.inputs.clients.len() as u64,
            several => several.min(tasks.inputs.clients.len() as u64),
        },
    };
    let state = adapters_of_a_state(spec, tasks.method(1).client.correction.is_some());
    let held = MODELS + counts.with_state * state + adapters_of_a_round(spec, &counts);
    // A change of the base is in the models on the host, and on the device once for each job, in the type of the arithmetic.
    let change = base_change_bytes(spec, &trainer.layout(), tasks.inputs.clients.len(), spec.rounds);
    let adapter_bytes = 4 * trainer.layout().parameters() as u64;
    MemoryForecast {
        program: program_bytes().unwrap_or(0),
        weights: plan.weights,
        adapters: workers as u64 * (adapters + per_pass * change),
        activations: tested.max(trained).max(workers as u64 * evaluated).max(first_step),
        updates: adapter_bytes * held + MODELS * change,
        rules: match spec.algorithm {
            Algorithm::Python { .. } => rule_processes(rule_bytes, adapter_bytes, counts.updates),
            _ => 0,
        },
    }
}

/// Size of the first step on the whole weights, from which an initial adapter is made.
pub(super) struct FirstStepSize {
    /// [token] -- Tokens of all batches.
    pub tokens: u64,
    /// The largest batch.
    batch: Pass,
}

impl FirstStepSize {
    /// Returns the size of the first step; `None` under methods without one.
    pub fn of(tasks: &Tasks) -> Option<Self> {
        let mut size = Self { tokens: 0, batch: Pass::default() };
        for batch in tasks.first_step()?.batches {
            let samples: Vec<_> = batch.iter().flat_map(|(rows, row)| rows.row(*row).iter().cloned()).collect();
            let pass = Pass { tokens: tokens_of(&samples), targets: targets_of(&samples) };
            size.tokens += pass.tokens;
            size.batch = size.batch.max(pass);
        }
        Some(size)
    }

    /// [byte] -- Returns the memory of the passes and of the gradients of all adapted weights, which are copied once.
    fn bytes(&self, trainer: &Trainer) -> u64 {
        let layout = trainer.layout();
        let weights = layout.modules.iter().map(|module| (module.in_features * module.out_features) as u64);
        trainer.pass_bytes(1, self.batch.tokens, self.batch.targets, false) + 8 * weights.sum::<u64>()
    }
}

/// Copies of an adapter that a method needs besides those of a plain training. All fields are in [quarters of an adapter].
#[derive(Debug, PartialEq, Eq)]
struct MethodCopies {
    /// Those of each job for as long as it trains.
    held: u64,
    /// Those of a step, which one job of a worker takes at a time.
    passing: u64,
}

/// Returns the copies that the terms of a method need, in `training/engine/optimizer.rs`.
fn copies_of_method(hyper: &Hyper, spec: &ScenarioSpec, is_corrected: bool) -> MethodCopies {
    let mut copies = MethodCopies { held: 0, passing: 0 };
    if hyper.proximal.is_some() || spec.own_adapter_pull().is_some() {
        // The center; the difference from it, and its multiple.
        copies.held += 4;
        copies.passing = copies.passing.max(8);
    }
    if is_corrected {
        copies.held += 4;
        copies.passing = copies.passing.max(4);
    }
    if hyper.trains != Factors::Both || hyper.first_steps.is_some() {
        // The values at the start, and a mask of bytes; the values that keep the frozen ones.
        copies.held += 5;
        copies.passing = copies.passing.max(4);
    }
    if hyper.first_steps.is_some() {
        // The mask of the steps that follow. The values from which they begin are copied while the others are still there.
        copies.held += 1;
    }
    if hyper.shrinkage.is_some() {
        // Values in f64 three times: on the device, on the host, and without padding.
        copies.passing = copies.passing.max(24);
    }
    copies
}

/// Numbers that decide what is in memory between trainings.
struct Counts {
    /// [updates] -- Most updates of a round.
    updates: u64,
    clients: u64,
    /// [clients] -- Clients that keep something.
    with_state: u64,
}

/// [adapters in f32] -- Returns what a round holds besides the server's models: its updates with what stands next to them, and the models
/// that are evaluated.
fn adapters_of_a_round(spec: &ScenarioSpec, counts: &Counts) -> u64 {
    let has_own_models = spec.has_personal_models();
    let is_pruned = spec.pruning().is_some();
    // Next to an update: what the server receives in its place, and the model of its own that the client began with.
    let received = u64::from(Compression::new(spec).is_some()) + u64::from(is_pruned);
    let starts = u64::from(has_own_models || is_pruned);
    let decoded = u64::from(spec.server.downlink_codec.is_some());
    let evaluated = if has_own_models { counts.clients } else { 0 };
    // What a rule of one's own reads and returns is in f64. For Python it is in a request and in a reply, too, and a second reply is compared
    // with a copy of the first.
    let of_rule = match spec.algorithm {
        Algorithm::Python { .. } => 4 * counts.updates + 8,
        Algorithm::Custom { .. } => 2 * counts.updates + 2,
        _ => 0,
    };
    counts.updates * (1 + received + starts) + decoded + evaluated + of_rule
}

/// [adapters in f32] -- Returns the size of what a client keeps between its tasks: what it has not sent, its control variate, its
/// own factors, and the moments of its optimizer.
fn adapters_of_a_state(spec: &ScenarioSpec, is_corrected: bool) -> u64 {
    let remembers = Compression::new(spec).is_some_and(|compression| compression.error_feedback);
    let moments = match spec.training.optimizer_state {
        OptimizerState::Kept => spec.training.optimizer.get().moments(),
        OptimizerState::Reset => 0,
    };
    u64::from(remembers) + u64::from(is_corrected) + u64::from(spec.has_personal_models()) + moments
}

/// [byte] -- Memory that a call's fork of a process takes by writing to what it shares with the process: reference counts, the
/// interpreter and small arrays. Measured: 4 to 9 MB.
const FORK_BYTES: u64 = 8 << 20;

/// [byte] -- Returns the memory of the processes of a rule in Python while a second one computes a call again, each of which has
/// `rule_bytes` between calls. `adapter_bytes` is an adapter in f32. A rule's own arrays and its state are not known before a call.
fn rule_processes(rule_bytes: u64, adapter_bytes: u64, updates: u64) -> u64 {
    // The request has the server's model and the updates in f64. The reply is there as arrays, as bytes of each, and as bytes of all.
    let request = 2 * adapter_bytes * (1 + updates);
    let reply = 3 * 2 * adapter_bytes;
    2 * rule_bytes + FORK_BYTES + request + reply
}
