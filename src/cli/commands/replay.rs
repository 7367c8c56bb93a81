//! `fedreplay replay`: executes a run again and compares the results.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::args::run::CommonRunArguments;
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{say, shown};
use crate::cli::report_difference;
use fedreplay::audit::{SpotCheck, SpotCheckReport, replay, sample};
use fedreplay::ledger::{LedgerError, Manifest};
use fedreplay::run::refuse_inside_run;
use fedreplay::store::atomic::{self, PendingFolder, folder_of};
use fedreplay::store::next_to;

#[derive(Args)]
pub struct ReplayArguments {
    /// Folder of the run.
    run: PathBuf,
    /// Folder for the repeated run, which is removed afterwards [default: next to the run].
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// Check only this round, numbered from 1 over all rounds. Results that it depends on are read from the store or
    /// from saved adapters if their hashes are those of the lineage, and computed again otherwise.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    round: Option<u32>,
    /// Check only the updates of this client, named or numbered from 0; in all rounds, or in that of --round.
    #[arg(long, value_name = "C")]
    client: Option<String>,
    #[command(flatten)]
    run_args: CommonRunArguments,
}

/// Repeats the run, or the chosen part of it, and prints the first difference.
pub fn main(arguments: &ReplayArguments) -> Result<ExitCode, CommandError> {
    if arguments.round.is_some() || arguments.client.is_some() {
        return check_sample(arguments);
    }
    let scratch = scratch(arguments)?;
    let run_args = &arguments.run_args;
    let mut progress = run_args.progress();
    let options = run_args.options_without_store(scratch.path().join("replay"));
    let found = replay(&arguments.run, options, &mut progress)?;
    drop(progress);
    if let Some(found) = found {
        let code = report_difference(&found);
        if run_args.json {
            say!("{}", json!({ "run": shown(&arguments.run), "same": false, "difference": found.0 }));
        }
        return code;
    }
    let manifest = Manifest::read(&arguments.run)?;
    let digest = manifest.digest.expect("a finished run has a digest");
    say!("same: {} rounds, digest {digest}", manifest.rounds);
    if run_args.json {
        say!("{}", json!({ "run": shown(&arguments.run), "digest": digest, "rounds": manifest.rounds, "same": true }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the chosen round or client only.
fn check_sample(arguments: &ReplayArguments) -> Result<ExitCode, CommandError> {
    let spot_check = SpotCheck { round: arguments.round, client: arguments.client.clone() };
    let options = arguments.run_args.options(PathBuf::new())?;
    let mut progress = ProgressDisplay::new("checking a sample");
    let report = sample(&arguments.run, &spot_check, &options, &mut progress)?;
    drop(progress);
    let code = match &report.difference {
        Some(difference) => report_difference(difference)?,
        None => {
            let SpotCheckReport { checked, trained, read, .. } = report;
            say!(
                "same: {checked} results, for which {trained} tasks were trained and {read} results were read and checked"
            );
            ExitCode::SUCCESS
        }
    };
    if arguments.run_args.json {
        let is_same = report.difference.is_none();
        say!(
            "{}",
            json!({ "run": shown(&arguments.run), "same": is_same, "sample": report, "difference": report.difference })
        );
    }
    Ok(code)
}

/// Creates the temporary folder of the repeated run, in that of `--scratch` or next to the run.
fn scratch(arguments: &ReplayArguments) -> Result<PendingFolder, CommandError> {
    // Read first, so that no folder is created next to a run that does not exist.
    Manifest::read(&arguments.run)?;
    let (folder, name) = match &arguments.scratch {
        Some(folder) => (folder.clone(), "fedreplay.replay".to_owned()),
        None => {
            // The folder may be given as `.`, which has no name.
            let run = std::path::absolute(&arguments.run).map_err(LedgerError::io(&arguments.run))?;
            let name = next_to(&run, ".replay").file_name().unwrap_or_default().to_string_lossy().into_owned();
            (folder_of(&run).to_owned(), name)
        }
    };
    refuse_inside_run(&folder)?;
    // As versions before 0.2 named it.
    atomic::remove_leftovers(&folder, &format!(".{name}."), "");
    Ok(PendingFolder::create(&folder, &name).map_err(LedgerError::io(&folder))?)
}
