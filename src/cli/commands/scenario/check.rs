//! `fedreplay scenario check`: the resolved scenario, and an estimate of its cost.

use std::process::ExitCode;

use clap::Args;
use fedreplay_sim::Outcome;
use serde_json::json;

use crate::cli::args::run::{RuleArguments, ScenarioFileArguments};
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::signals::STOP;
use crate::cli::output::{note, say};
use fedreplay::inputs::{BenchmarkForecast, check_initial_adapter};
use fedreplay::model::Device;
use fedreplay::report::units;
use fedreplay::run::{Forecast, MemoryForecast, PlanDetail, PlanSettings, PlanSummary, RunError, forecast, plan};
use fedreplay::scenario::Scenario;

#[derive(Args)]
pub struct ScenarioCheckArguments {
    #[command(flatten)]
    scenario: ScenarioFileArguments,
    /// Number of tasks to be trained at the same time [default: the number of cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Do not load the base model for a trial step; wall-clock time and memory are then not estimated.
    #[arg(long)]
    no_trial: bool,
    #[command(flatten)]
    rules: RuleArguments,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the resolved scenario and the estimate.
pub fn main(arguments: &ScenarioCheckArguments) -> Result<ExitCode, CommandError> {
    let scenario = arguments.scenario.read()?;
    for doubt in scenario.doubts() {
        note!("warning: {doubt}");
    }
    let mut progress = ProgressDisplay::new("simulating the schedule");
    let settings = PlanSettings { out: None, detail: PlanDetail::Rounds, repeats: None, stop: &STOP };
    let summary = plan(&scenario, &settings, &mut progress)?;
    // The display ends before results are printed, so that the bar is not drawn between them.
    drop(progress);
    for doubt in scenario.doubts_about_clients(summary.clients as usize) {
        note!("warning: {doubt}");
    }
    let rule_bytes = arguments.rules.of_scenario().check(&scenario).map_err(RunError::from)?;
    let forecast = trial(arguments, &scenario, &summary, rule_bytes)?;
    say!("{}", scenario.resolved_text());
    for (name, value) in lines(&scenario, &summary, forecast.as_ref()) {
        say!("{name:<16}{value}");
    }
    if arguments.json {
        let line = json!({ "scenario": scenario.scenario, "plan": summary, "forecast": forecast });
        say!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a trial step to estimate time and memory. `None` if there is no model or data to train with, or the user
/// declined it.
fn trial(
    arguments: &ScenarioCheckArguments,
    scenario: &Scenario,
    summary: &PlanSummary,
    rule_bytes: u64,
) -> Result<Option<Forecast>, CommandError> {
    let spec = &scenario.scenario;
    let has_model = spec.model.folder.is_some() || spec.model.hub.is_some();
    if arguments.no_trial || !has_model || spec.data.synthetic.is_some() {
        // The trial would have read it with the base model.
        check_initial_adapter(scenario).map_err(RunError::from)?;
        return Ok(None);
    }
    let workers = match arguments.workers {
        Some(workers) => workers as usize,
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let forecast = ProgressDisplay::during("loading the base model and trying a step", || {
        forecast(scenario, Device::Cpu, workers, summary.counted_flops, rule_bytes)
    })?;
    Ok(Some(forecast))
}

/// Returns the estimate as names with values.
fn lines(scenario: &Scenario, summary: &PlanSummary, forecast: Option<&Forecast>) -> Vec<(&'static str, String)> {
    let counted = summary.outcomes.get(Outcome::Counted.name()).copied().unwrap_or(0);
    let spec = &scenario.scenario;
    let mut lines = vec![
        ("rounds", format!("{} of {} clients", summary.rounds, summary.clients)),
        ("tasks", format!("{} dispatched, {counted} counted and trained", summary.tasks)),
        ("simulated time", format!("{} (from simulating its schedule)", units::clock(summary.simulated_ns))),
        ("moved", units::moved(&summary.moved)),
        (
            "operations",
            format!(
                "{:.3e} FLOP on simulated devices, {:.3e} of them of tasks that count (cost model of LoRA training)",
                summary.compute_flops, summary.counted_flops
            ),
        ),
    ];
    for (class, [least, greatest]) in &summary.measured_training_ns {
        let times = format!("{} to {}", units::span(*least), units::span(*greatest));
        lines.push(("task time", format!("{times} of training on `{class}`, by its profile")));
    }
    for (role, left_out) in &summary.left_out {
        lines.extend(left_out.sentences(role).into_iter().map(|sentence| ("left out", sentence)));
    }
    if let Some(reference) = spec.training.objective.reference_model(spec.model.lora.initial.is_some()) {
        lines.push(("reference", reference.into()));
    }
    if summary.stand_in_loss.is_some() {
        lines.push(("note", "selection depends on losses, which a plan does not have, so a run will differ".into()));
    }
    if spec.lora_method().averages.changes_base() {
        let note = "bytes down are the most that the change of the base can take: what it takes follows from training";
        lines.push(("note", note.into()));
    }
    if let Some(first_step) = spec.first_step() {
        let samples = first_step.samples;
        let note =
            format!("the initial adapter is made before virtual time begins, from {samples} rows of all clients");
        lines.push(("note", note));
    }
    if spec.pruning().is_some() {
        let note =
            "bytes, operations and memory of tasks are those of ranks before pruning, which follows from training";
        lines.push(("note", note.into()));
    }
    let Some(forecast) = forecast else {
        let names: Vec<&str> = spec.evaluation.benchmarks.iter().map(|one| one.name.as_str()).collect();
        if !names.is_empty() {
            lines.push((
                "benchmarks",
                format!("{}: not estimated, since the base model was not loaded", names.join(", ")),
            ));
        }
        lines.push(("wall clock", "not estimated: no step was tried".into()));
        return lines;
    };
    lines.extend(benchmarks(forecast));
    lines.extend(resources(forecast, spec.evaluation.trains_apart()));
    lines
}

/// Returns the estimated memory and wall-clock time, with their parts.
fn resources(forecast: &Forecast, trains_apart: bool) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let left = forecast.free_bytes.map(|free| format!(" of {} available", units::bytes(free))).unwrap_or_default();
    let memory = units::bytes(forecast.memory_bytes);
    lines.push(("memory", format!("{memory}{left} at the peak, on {} workers", forecast.workers)));
    lines.push(("", parts(&forecast.memory)));
    // How long answers get is not known before a model writes them.
    let unwritten = if forecast.written_tokens_max() > 0 { ", without what benchmarks have written" } else { "" };
    let wall = seconds(forecast.wall_seconds());
    lines.push(("wall clock", format!("about {wall} on {} workers{unwritten}", forecast.workers)));
    let alone = if trains_apart { ", that for the evaluation alone included" } else { "" };
    lines.push((
        "",
        format!(
            "{} of loading, {} of the start-up test, {} of training{alone} and {} of evaluation on one worker: a step of {} \
             tokens took {:.3} s just now",
            seconds(forecast.loading_seconds),
            seconds(forecast.self_test_seconds),
            seconds(forecast.training_seconds),
            seconds(forecast.evaluation_seconds),
            forecast.step_tokens,
            forecast.step_seconds
        ),
    ));
    lines
}

/// Formats the parts of the memory.
fn parts(memory: &MemoryForecast) -> String {
    let MemoryForecast { program, weights, adapters, activations, updates, rules } = *memory;
    let of_rules = if rules > 0 { format!(", {} of the rule's processes", units::bytes(rules)) } else { String::new() };
    format!(
        "{} of the program and the data, {} of the base, {} of adapters and their states, {} of activations and logits, {} of \
         updates and models{of_rules}",
        units::bytes(program),
        units::bytes(weights),
        units::bytes(adapters),
        units::bytes(activations),
        units::bytes(updates)
    )
}

/// Returns the cost of the scheduled benchmarks.
fn benchmarks(forecast: &Forecast) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for BenchmarkForecast { name, times, questions, read_tokens, written_tokens_max } in &forecast.benchmarks {
        let cost = format!(
            "{name} {times} times: {questions} questions, {read_tokens} tokens to read, at most {written_tokens_max} to write"
        );
        lines.push(("benchmarks", cost));
    }
    if !lines.is_empty() {
        let reading = seconds(forecast.benchmark_reading_seconds);
        let writing = match forecast.written_tokens_max() {
            0 => "nothing is written".to_owned(),
            tokens => format!("how long writing at most {tokens} tokens takes is not known before a model answers"),
        };
        let flops = forecast.benchmark_flops_max;
        lines.push(("", format!("at most {flops:.3e} FLOP in all; {reading} of reading on one thread; {writing}")));
    }
    lines
}

/// Formats a duration of wall-clock time in seconds.
fn seconds(value: f64) -> String {
    if value < 600.0 { format!("{value:.1} s") } else { units::clock((value * 1e9) as u64) }
}
