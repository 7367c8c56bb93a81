//! `fedreplay ls`: list of the runs in a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::errors::CommandError;
use crate::cli::output::table::Align::{Left, Right};
use crate::cli::output::table::TextTable;
use crate::cli::output::{note, say, shown};
use fedreplay::ledger::{LedgerError, RunKind, runs_below};
use fedreplay::report::units;
use fedreplay::results::RunEssentials;

/// Levels of subfolders that are searched; a sweep's cells are one level below the sweep's folder.
const DEPTH: u32 = 4;

/// [character] -- Printed part of a digest, enough to tell runs apart.
const DIGEST: usize = 12;

#[derive(Args)]
pub struct LsArguments {
    /// Folder that contains runs, at any depth up to four.
    #[arg(default_value = "runs")]
    folder: PathBuf,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the runs in the order of their paths.
pub fn main(arguments: &LsArguments) -> Result<ExitCode, CommandError> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(CommandError::Usage(format!("failed to list {}: it is not a folder", folder.display())));
    }
    let mut runs = runs_below(folder, DEPTH)?;
    runs.sort();
    // A damaged run must not hide the others, so errors are listed too.
    let read: Vec<_> = runs.into_iter().map(|run| (RunEssentials::read(&run), run)).collect();
    print(folder, &read);
    if arguments.json {
        let runs: Vec<Value> = read.iter().map(|(essentials, run)| as_json(essentials, run)).collect();
        say!("{}", json!({ "folder": shown(folder), "runs": runs }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the table, and warnings of runs that cannot be read.
fn print(folder: &Path, read: &[(Result<RunEssentials, LedgerError>, PathBuf)]) {
    if read.is_empty() {
        say!("no runs in {}", folder.display());
        return;
    }
    let columns = [("run", Left), ("state", Left), ("rounds", Right), ("seed", Right), ("loss before", Right)];
    let more = [("after", Right), ("simulated", Right), ("digest", Left)];
    let mut table = TextTable::new(&[&columns[..], &more].concat());
    for (essentials, run) in read {
        let name = run.display().to_string();
        match essentials {
            Ok(essentials) => table.row(cells(name, essentials)),
            Err(_) => table.row([name, "unreadable".into()].into_iter().chain(std::iter::repeat_n(String::new(), 6))),
        }
    }
    table.print("");
    for (essentials, _) in read {
        if let Err(error) = essentials {
            note!("warning: {error}");
        }
    }
}

/// Returns a run's row of the table.
fn cells(name: String, essentials: &RunEssentials) -> [String; 8] {
    let kind = if essentials.kind == RunKind::Plan { " plan" } else { "" };
    let digest = essentials.digest.as_deref().unwrap_or("-");
    [
        name,
        format!("{}{kind}", essentials.state.name()),
        format!("{}/{}", essentials.rounds, essentials.rounds_planned),
        essentials.seed.to_string(),
        units::loss(essentials.loss_before),
        units::loss(essentials.loss_after),
        units::clock(essentials.simulated_ns),
        digest.chars().take(DIGEST).collect(),
    ]
}

/// Returns a run as JSON.
fn as_json(essentials: &Result<RunEssentials, LedgerError>, run: &Path) -> Value {
    let mut line = match essentials {
        Ok(essentials) => json!(essentials),
        Err(error) => json!({ "state": "unreadable", "error": error.to_string() }),
    };
    line["run"] = json!(shown(run));
    line
}
