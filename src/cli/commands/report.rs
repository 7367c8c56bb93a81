//! `fedreplay report`: one HTML page of a run, or of several side by side.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{say, shown};
use fedreplay::ledger::{LedgerError, Manifest};
use fedreplay::report::html;
use fedreplay::store::atomic;

#[derive(Args)]
pub struct ReportArguments {
    /// Folders of runs or plans, finished or not; later ones are compared with the first.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// File to write [default: report.html in the run's folder; for several runs, comparison.html].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Name of the report in a run's folder, the only file there that is not hashed.
const FILE_NAME: &str = "report.html";

/// Writes the page and prints its size.
pub fn main(arguments: &ReportArguments) -> Result<ExitCode, CommandError> {
    let out = match (&arguments.out, arguments.runs.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.join(FILE_NAME),
        (None, _) => PathBuf::from("comparison.html"),
    };
    refuse_hashed(&out)?;
    let bytes = ProgressDisplay::during("reading runs and drawing figures", || write(&arguments.runs, &out))?;
    say!("wrote {} ({})", out.display(), fedreplay::report::units::bytes(bytes as u64));
    if arguments.json {
        let runs: Vec<_> = arguments.runs.iter().map(shown).collect();
        say!("{}", json!({ "runs": runs, "report": shown(&out), "bytes": bytes }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the report of a run that just ended into its folder. The run is complete without it, so a failure is only a
/// warning.
pub fn of_run(run: &Path) {
    if let Err(error) = write(&[run], &run.join(FILE_NAME)) {
        tracing::warn!(%error, "the run is finished, but its report could not be written; `fedreplay report` tries again");
    }
}

/// Writes the report and returns its size in bytes.
fn write(runs: &[impl AsRef<Path>], out: &Path) -> Result<usize, CommandError> {
    let page = html(runs)?;
    atomic::write(out, page.as_bytes()).map_err(LedgerError::io(out))?;
    Ok(page.len())
}

/// Refuses to write into a run's folder under any name but that of its report, since all other files there are hashed.
fn refuse_hashed(out: &Path) -> Result<(), CommandError> {
    if out.file_name().is_none() {
        return Err(CommandError::Usage(format!("failed to write {}: --out names no file", out.display())));
    }
    match Manifest::folder_around(out) {
        Some(run) if std::path::absolute(out).ok() != Some(run.join(FILE_NAME)) => Err(CommandError::Usage(format!(
            "failed to write {}: a run answers for every file in its folder but {FILE_NAME}; choose another --out",
            out.display()
        ))),
        _ => Ok(()),
    }
}
