//! From a scenario to measurements: what is refused, the idle machine, and the table of what was measured.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::bench::Bench;
use super::grid::Grid;
use super::machine::{OtherPrograms, ProcessorTime};
use super::measure::{Cell, Measurement};
use super::settings::{CalibrationOptions, CalibrationWatch, MeasuringError};
use crate::inputs::{InputError, model_folder};
use crate::model::{Config, Device};
use crate::profile::{Machine, MeasuredStep, Measurements};
use crate::scenario::{ObjectiveSpec, Scenario, ScenarioSpec};
use crate::schedule::model_shape;
use crate::training::Trainer;

/// Measures training steps of a scenario's model on this machine. The data of the scenario are not read.
///
/// # Errors
/// If the scenario's training or a shape cannot be measured, the base model cannot be loaded, or the machine is busy.
pub fn measure(
    scenario: &Scenario,
    options: &CalibrationOptions,
    watch: &mut dyn CalibrationWatch,
) -> Result<Measurements, MeasuringError> {
    let spec = &scenario.scenario;
    check_scenario(spec)?;
    let grid = Grid::new(spec, options)?;
    let folder = model_folder(scenario)?.ok_or(InputError::TimesOnly { missing: "model.folder" })?;
    let config = Config::read(&folder).map_err(|error| InputError::Model(error.into()))?;
    let longest = *grid.lengths.last().expect("a grid has lengths");
    if longest as usize > config.max_positions {
        let reason = format!("{longest} tokens are more than the {} positions of the base model", config.max_positions);
        return Err(MeasuringError::Setting { field: "lengths", reason });
    }
    let bench = Bench::load(scenario, &folder, &grid, options)?;
    check_idle(options)?;
    let cells = Measurement::begin(&bench, &grid, options, watch)?.finish()?;
    Ok(Measurements {
        workload: model_shape::workload(spec, &config, &bench.trainer().layout()),
        machine: machine(bench.trainer(), options),
        steps: cells.iter().flat_map(|cell| steps_of(cell, &grid)).collect(),
    })
}

/// Refuses trainings that take other steps than those that are measured.
fn check_scenario(spec: &ScenarioSpec) -> Result<(), MeasuringError> {
    if matches!(spec.training.objective, ObjectiveSpec::Dpo { .. }) {
        let reason = "steps under Dpo are not measured, only those under Sft".to_owned();
        return Err(MeasuringError::Setting { field: "training.objective", reason });
    }
    if spec.trains_core() {
        let reason = "the steps of FedSb, which train a matrix between the factors, are not measured".to_owned();
        return Err(MeasuringError::Setting { field: "federated_lora", reason });
    }
    Ok(())
}

/// Looks at an idle machine for a second.
///
/// # Errors
/// If other programs are busy.
fn check_idle(options: &CalibrationOptions) -> Result<(), MeasuringError> {
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

/// Describes the machine.
fn machine(trainer: &Trainer, options: &CalibrationOptions) -> Machine {
    let fingerprint = trainer.fingerprint();
    let device = match options.device {
        Device::Cpu => fingerprint.processor.clone(),
        Device::Cuda(_) => fingerprint.class.device.trim_start_matches("cuda ").to_owned(),
    };
    Machine {
        device,
        threads: options.threads,
        workers: options.workers,
        versions: format!("fedreplay {}, LibTorch {}", env!("CARGO_PKG_VERSION"), fingerprint.class.torch),
        measured_on: today(),
        busy: options.even_if_busy,
    }
}

/// Returns the date in UTC.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let date = chrono::DateTime::from_timestamp(seconds as i64, 0).unwrap_or_default();
    date.date_naive().to_string()
}

/// Returns the repeats of a shape as steps.
fn steps_of(cell: &Cell, grid: &Grid) -> Vec<MeasuredStep> {
    let held_out = grid.held_out.contains(&cell.shape);
    let mut steps = Vec::with_capacity(cell.repeats.len());
    for repeat in &cell.repeats {
        steps.push(MeasuredStep {
            rows: cell.shape.rows,
            length: cell.shape.length,
            rank: cell.shape.rank,
            micro_batch_seconds: repeat.micro_batch,
            optimizer_seconds: Some(repeat.update),
            peak_memory_bytes: cell.peak_memory,
            held_out,
        });
    }
    steps
}
