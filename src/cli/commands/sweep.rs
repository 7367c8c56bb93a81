//! `fedreplay sweep`: runs scenarios in many settings and compares them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::run::{BEGINNING, CommonRunArguments};
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::sweep_table;
use crate::cli::output::{note, say, shown};
use fedreplay::ledger::LedgerError;
use fedreplay::run::{CellRun, Observer, SweepObserver, refuse_inside_run, sweep, write_twins};
use fedreplay::scenario::{Sweep, SweepCell};
use fedreplay::store::{atomic, parse_json, read_limited};

#[derive(Args)]
pub struct SweepArguments {
    /// Sweep file (RON).
    sweep: PathBuf,
    /// Change one field of every cell's scenario; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Run only the cells of this scenario or variant; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Run only these of the sweep's seeds, separated by commas.
    #[arg(long, value_name = "SEEDS", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Folder to write the runs to [default: runs/NAME].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    run_args: CommonRunArguments,
}

/// Runs the chosen cells, writes `sweep.json` and prints the table.
pub fn main(arguments: &SweepArguments) -> Result<ExitCode, CommandError> {
    let mut read = Sweep::read(&arguments.sweep)?;
    read.set.extend(arguments.sets.iter().cloned());
    let cells = read.chosen(&arguments.only, &arguments.seeds).map_err(|what| {
        CommandError::Usage(format!("failed to choose cells of {}: {what}", arguments.sweep.display()))
    })?;
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("runs").join(&read.name));
    refuse_inside_run(&out)?;
    for twin in &read.twins {
        refuse_inside_run(&twin.folder)?;
    }
    // Cells may read synthetic twins, so these are generated before any cell is run.
    write_twins(&read.twins)?;
    let mut watcher = Watcher(arguments.run_args.progress());
    let runs = sweep(&cells, &out, |run| arguments.run_args.options_of_scenario(run), &mut watcher)?;
    drop(watcher);
    let file = out.join("sweep.json");
    let text = serde_json::to_string_pretty(&indexed(&file, &runs)).expect("figures can be written as JSON") + "\n";
    atomic::write(&file, text.as_bytes()).map_err(LedgerError::io(&file))?;
    sweep_table::print(&read, &runs);
    if arguments.run_args.json {
        say!("{}", json!({ "sweep": shown(&out), "runs": runs }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the entries of `sweep.json` with these runs added, by folder. What earlier calls wrote for other cells stays as long
/// as their folders are there, so that a call for some cells does not forget the others.
fn indexed(file: &Path, runs: &[CellRun]) -> Vec<Value> {
    let earlier = read_limited(file).ok().and_then(|bytes| parse_json(&bytes).ok()).unwrap_or_default();
    let mut by_folder: BTreeMap<PathBuf, Value> = BTreeMap::new();
    for entry in Vec::<Value>::into_iter(earlier).chain(runs.iter().map(|run| json!(run))) {
        let Some(folder) = entry["summary"]["run"].as_str().map(PathBuf::from) else { continue };
        if folder.exists() {
            by_folder.insert(folder, entry);
        }
    }
    by_folder.into_values().collect()
}

/// Observer that announces each cell and shows its progress.
struct Watcher(ProgressDisplay);

impl SweepObserver for Watcher {
    fn checking(&mut self, cells: usize) {
        self.0.begin(&format!("checking the inputs of {cells} cells"));
    }

    fn cell(&mut self, index: usize, cells: usize, cell: &SweepCell) -> &mut dyn Observer {
        let base = if cell.base.is_empty() { String::new() } else { format!("{}, ", cell.base) };
        let seed = cell.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        note!("[CELL {}/{cells}] {base}{}{seed}", index + 1, cell.setting);
        self.0.begin(BEGINNING);
        &mut self.0
    }
}
