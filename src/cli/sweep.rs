//! `fedreplay sweep`: plays a scenario in many settings and compares them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::{note, say};
use super::playing::Playing;
use super::progress::Progress;
use super::units;
use crate::ledger::LedgerError;
use crate::run::{CellRun, Estimate, Observer, RunError, SweepObserver, sweep};
use crate::scenario::{Cell, Sweep};
use crate::store::atomic;

#[derive(Args)]
pub struct Arguments {
    /// Sweep file (RON).
    sweep: PathBuf,
    /// Change one field of every cell's scenario; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Folder to write the runs to [default: runs/NAME].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    playing: Playing,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let mut read = Sweep::read(&arguments.sweep)?;
    read.set.extend(arguments.sets.iter().cloned());
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("runs").join(&read.name));
    let mut watcher = Watcher(arguments.playing.progress());
    let runs = sweep(&read, &out, |run| arguments.playing.settings(run), &mut watcher)?;
    drop(watcher);
    let file = out.join("sweep.json");
    let text = serde_json::to_string_pretty(&runs).expect("figures can be written as JSON") + "\n";
    atomic::write(&file, text.as_bytes()).map_err(LedgerError::io(&file))?;
    print(&runs);
    if arguments.playing.json {
        say!("{}", json!({ "sweep": out, "runs": runs }));
    }
    Ok(ExitCode::SUCCESS)
}

struct Watcher(Progress);

impl SweepObserver for Watcher {
    fn cell(&mut self, index: usize, cells: usize, cell: &Cell) -> &mut dyn Observer {
        let seed = cell.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        note!("[CELL {}/{cells}] {}{seed}", index + 1, cell.setting);
        &mut self.0
    }
}

/// One line a setting: means over its seeds, and how it differs from the first setting, seed by seed.
fn print(runs: &[CellRun]) {
    // Cells that differ in their seed only follow each other.
    let settings: Vec<&[CellRun]> = runs.chunk_by(|a, b| a.setting == b.setting).collect();
    let width = settings.iter().map(|cells| cells[0].setting.chars().count()).max().unwrap_or(0).max(7);
    say!("{:<width$}  seeds  loss before  loss after       against the first     simulated   up a run", "setting");
    for (index, cells) in settings.iter().enumerate() {
        let mean = |figure: fn(&CellRun) -> Option<f64>| Estimate::of(cells.iter().filter_map(figure));
        let before = mean(|cell| cell.summary.loss_before);
        let after = mean(|cell| cell.summary.loss_after);
        let took = mean(|cell| Some(cell.summary.simulated_ns as f64));
        let up = mean(|cell| Some(cell.summary.bytes_up as f64));
        let pairs = settings[0].iter().zip(*cells);
        let pairs = pairs.filter_map(|(first, cell)| Some(cell.summary.loss_after? - first.summary.loss_after?));
        let against = if index == 0 { String::new() } else { difference(Estimate::of(pairs)) };
        say!(
            "{:<width$}  {:>5}  {:>11}  {:<15}  {against:<19}  {:>10}  {:>9}",
            cells[0].setting,
            cells.len(),
            units::loss(before.map(|before| before.mean)),
            after.map_or_else(|| "-".into(), with_deviation),
            took.map_or_else(String::new, |took| units::clock(took.mean as u64)),
            up.map_or_else(String::new, |up| units::bytes(up.mean as u64)),
        );
    }
    if runs.len() > settings.len() {
        say!(
            "loss after: mean ± standard deviation over seeds; against the first: mean of the differences seed by seed,"
        );
        say!("with its 95 % confidence interval (Student's t)");
    }
}

fn with_deviation(estimate: Estimate) -> String {
    let deviation = estimate.deviation.map(|deviation| format!(" ± {deviation:.4}")).unwrap_or_default();
    format!("{:.4}{deviation}", estimate.mean)
}

fn difference(estimate: Option<Estimate>) -> String {
    let Some(estimate) = estimate else { return "-".into() };
    let half = estimate.half_interval.map(|half| format!(" ± {half:.4}")).unwrap_or_default();
    format!("{:+.4}{half}", estimate.mean)
}
