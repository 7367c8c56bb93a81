//! `fedreplay tail`: follows a run until it ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::round_line::RoundLine;
use crate::cli::output::signals::STOP;
use crate::cli::output::{say, shown};
use fedreplay::graph::GraphError;
use fedreplay::ledger::{LedgerError, Manifest, RunTables};
use fedreplay::results::{LifecycleState, RunEssentials, main_curve};

/// Interval at which the run is checked for new rounds.
const POLL: Duration = Duration::from_millis(300);

#[derive(Args)]
pub struct TailArguments {
    /// Folder of the run.
    run: PathBuf,
    /// Of the rounds that are already there, print only the last N.
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Prints one line per round. Exits with 0 when the run is done, and with 1 when no process continues it.
pub fn main(arguments: &TailArguments) -> Result<ExitCode, CommandError> {
    let run = &arguments.run;
    let mut seen = 0;
    let mut first = arguments.lines;
    let essentials = loop {
        // The state is read before the rounds: rounds written in between are then printed before the loop ends.
        let state = LifecycleState::of(run, &Manifest::read(run)?);
        match print_new(run, seen, first) {
            Ok(rounds) => {
                seen = rounds;
                first = None;
            }
            // A resumed run rewrites its tables, which may be inconsistent for a moment. A lasting error is reported
            // once no process writes any more.
            Err(_) if state == LifecycleState::Running => {}
            Err(error) => return Err(error.into()),
        }
        if state != LifecycleState::Running {
            break RunEssentials::read(run)?;
        }
        if STOP.load(Ordering::Relaxed) {
            return Err(GraphError::Interrupted.into());
        }
        std::thread::sleep(POLL);
    };
    let digest = essentials.digest.as_deref().unwrap_or("-");
    match essentials.state {
        LifecycleState::Done => say!("done: {} rounds, digest {digest}", essentials.rounds),
        _ => say!(
            "interrupted after {} of {} rounds: no process is writing it; `fedreplay resume {}` continues it",
            essentials.rounds,
            essentials.rounds_planned,
            run.display()
        ),
    }
    if arguments.json {
        let mut line = json!(essentials);
        line["run"] = json!(shown(run));
        say!("{line}");
    }
    Ok(if essentials.state == LifecycleState::Done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the rounds after the first `seen`, at most the last `most` of them, and returns the number of all rounds.
fn print_new(run: &Path, seen: usize, most: Option<usize>) -> Result<usize, LedgerError> {
    let tables = RunTables::read(run)?;
    let rounds = tables.rounds().len();
    if rounds == seen {
        return Ok(seen);
    }
    // Fewer rounds than before: the run was resumed and writes its rounds again.
    let seen = if rounds < seen { 0 } else { seen };
    let from = most.map_or(seen, |most| seen.max(rounds.saturating_sub(most)));
    let losses = main_curve(&tables)?;
    for line in RoundLine::of_tables(&tables, losses.as_ref(), Manifest::read(run)?.rounds, from)? {
        say!("{line}");
    }
    Ok(rounds)
}
