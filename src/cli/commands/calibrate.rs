//! `fedreplay calibrate`: measures training steps on this machine, or takes those measured elsewhere, and writes a device profile.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::args::run::device;
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::say;
use crate::cli::output::signals::STOP;
use fedreplay::calibration::{CalibrationOptions, measure};
use fedreplay::model::Device;
use fedreplay::profile::{DeviceProfile, Measurements, ProfileError, RelativeErrors};
use fedreplay::report::units;
use fedreplay::run::refuse_inside_run;
use fedreplay::scenario::Scenario;
use fedreplay::store::atomic::Pending;

/// Greatest number of threads and of workers.
const MOST: i64 = 1024;

#[derive(Args)]
pub struct CalibrateArguments {
    /// Scenario file (RON), whose model, adapter, precision and optimizer are measured.
    #[arg(required_unless_present = "from")]
    scenario: Option<PathBuf>,
    /// Fit steps that were measured elsewhere, in a Parquet file, instead of measuring. docs/calibrate.md has its columns.
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    from: Option<PathBuf>,
    /// File to write the profile to.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    measuring: MeasuringArguments,
}

/// Settings of a measurement.
#[derive(Args)]
#[group(id = "measuring", multiple = true, conflicts_with = "from")]
struct MeasuringArguments {
    /// Change one field of the scenario, such as `model.lora.rank=16`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Rows of a micro-batch [default: 1 and powers of two up to training.batch_size].
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    rows: Vec<u32>,
    /// Tokens of a row, at least two values [default: four up to data.max_seq_length].
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    lengths: Vec<u32>,
    /// Ranks of the adapter [default: the least and the greatest of the scenario].
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    ranks: Vec<u32>,
    /// Shapes between the others that the fit does not see, by which it is judged.
    #[arg(long, value_name = "N", default_value_t = 4)]
    held_out: u32,
    /// Times that each shape is measured.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Least time in seconds over which a short micro-batch is repeated for one measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    least_seconds: f64,
    /// Threads of each training.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MOST))]
    threads: u32,
    /// Trainings that run at the same time; memory is measured with one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MOST))]
    workers: u32,
    /// Device to train on: cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    device: Device,
    /// Write the measured steps to a Parquet file too.
    #[arg(long, value_name = "FILE")]
    steps: Option<PathBuf>,
    /// Measure although other programs are busy or repeats disagree; the profile says so.
    #[arg(long)]
    busy: bool,
}

/// Measures or reads steps, writes the profile and prints what it is worth.
pub fn main(arguments: &CalibrateArguments) -> Result<ExitCode, CommandError> {
    check_writable(&arguments.out)?;
    let profile = match (&arguments.from, &arguments.scenario) {
        (Some(file), _) => DeviceProfile::from_steps(file)?,
        (None, Some(scenario)) => measured(scenario, &arguments.measuring)?,
        (None, None) => unreachable!("clap requires one of them"),
    };
    profile.write(&arguments.out)?;
    for (name, value) in lines(&profile) {
        say!("{name:<14}{value}");
    }
    say!("{:<14}{}", "profile", arguments.out.display());
    Ok(ExitCode::SUCCESS)
}

/// Measures this machine and fits a profile.
fn measured(scenario: &Path, arguments: &MeasuringArguments) -> Result<DeviceProfile, CommandError> {
    let scenario = Scenario::read(scenario, &arguments.sets)?;
    if !(arguments.least_seconds.is_finite() && arguments.least_seconds >= 0.0) {
        return Err(CommandError::Usage("failed to accept --least-seconds: it must be at least 0".into()));
    }
    if let Some(file) = &arguments.steps {
        check_writable(file)?;
    }
    let options = CalibrationOptions {
        rows: arguments.rows.clone(),
        lengths: arguments.lengths.clone(),
        ranks: arguments.ranks.clone(),
        held_out: arguments.held_out,
        repeats: arguments.repeats,
        least_seconds: arguments.least_seconds,
        workers: arguments.workers,
        threads: arguments.threads,
        device: arguments.device,
        even_if_busy: arguments.busy,
        stop: &STOP,
    };
    let mut progress = ProgressDisplay::new("looking at the machine, loading the base model");
    let measurements: Measurements = measure(&scenario, &options, &mut progress)?;
    // The display ends before results are printed, so that the bar is not drawn between them.
    drop(progress);
    if let Some(file) = &arguments.steps {
        measurements.write(file)?;
    }
    Ok(DeviceProfile::fit(&measurements)?)
}

/// Checks that a file can be written, before minutes of work depend on it.
fn check_writable(file: &Path) -> Result<(), CommandError> {
    refuse_inside_run(file)?;
    if file.file_name().is_none() || file.is_dir() {
        return Err(CommandError::Usage(format!("failed to write to {}: it is a folder", file.display())));
    }
    Pending::for_path(file).map_err(|source| ProfileError::Io { file: file.to_owned(), source })?;
    Ok(())
}

/// Returns the figures of a profile as names with values.
fn lines(profile: &DeviceProfile) -> Vec<(&'static str, String)> {
    let machine = &profile.machine;
    let repeats = profile.cells.iter().map(|cell| cell.repeats).max().unwrap_or(0);
    let mut lines = vec![
        ("device", format!("{}, {} threads, {} at the same time", machine.device, machine.threads, machine.workers)),
        (
            "shapes",
            format!(
                "{} of {:?} rows, {:?} tokens and rank {:?}, up to {repeats} times each",
                profile.cells.len(),
                profile.rows,
                profile.lengths,
                profile.ranks
            ),
        ),
        ("rate", rates(profile)),
        ("spread", spread(profile)),
    ];
    if machine.busy {
        lines.push(("busy", "measured with --busy: other programs may have taken a part of the machine".into()));
    }
    if let Some(errors) = profile.held_out_time_errors {
        let shapes = profile.held_out.len();
        let memory = profile.held_out_memory_errors.map(|errors| format!("; memory {}", percentages(errors)));
        lines
            .push(("held out", format!("{shapes} shapes: time {}{}", percentages(errors), memory.unwrap_or_default())));
    }
    lines
}

/// Formats errors in percent.
fn percentages(errors: RelativeErrors) -> String {
    format!("off by {:.1} % in the median, {:.1} % at most", 100.0 * errors.median, 100.0 * errors.worst)
}

/// Describes the tokens per second of the slowest and the fastest shape.
fn rates(profile: &DeviceProfile) -> String {
    let mut rates = Vec::new();
    for (index, cell) in profile.cells.iter().enumerate() {
        // Cells are in the order of ranks, then rows, then lengths.
        let length = profile.lengths[index % profile.lengths.len()];
        let rows = profile.rows[index / profile.lengths.len() % profile.rows.len()];
        rates.push((f64::from(rows) * f64::from(length) / cell.seconds, rows, length));
    }
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ends = [rates.first(), rates.last()].map(|rate| rate.expect("a profile has cells"));
    let [slowest, fastest] =
        ends.map(|(rate, rows, length)| format!("{} tokens/s at {rows} x {length}", units::rate(*rate)));
    format!("{slowest} to {fastest}")
}

/// Describes how far the repeats of a shape are apart.
fn spread(profile: &DeviceProfile) -> String {
    let widths = profile.cells.iter().map(|cell| cell.greatest_seconds / cell.least_seconds - 1.0);
    format!("repeats of a shape are at most {:.1} % apart", 100.0 * widths.fold(0.0, f64::max))
}
