//! `fedreplay run`: runs a scenario.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::report;
use crate::cli::args::run::{CommonRunArguments, ScenarioFileArguments};
use crate::cli::errors::CommandError;
use crate::cli::output::summary;
use fedreplay::run::run;

#[derive(Args)]
pub struct RunArguments {
    #[command(flatten)]
    scenario: ScenarioFileArguments,
    /// Folder to write the run to [default: runs/NAME].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    run_args: CommonRunArguments,
}

/// Runs the scenario, writes its report and prints its summary.
pub fn main(arguments: &RunArguments) -> Result<ExitCode, CommandError> {
    let scenario = arguments.scenario.read()?;
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("runs").join(&scenario.scenario.name));
    let options = arguments.run_args.options_of_scenario(out)?;
    let mut progress = arguments.run_args.progress();
    let summary = run(&scenario, &options, &mut progress)?;
    // The display ends before results are printed, so that the bar is not drawn between them.
    drop(progress);
    report::of_run(&summary.run);
    summary::print(&summary, arguments.run_args.json);
    Ok(ExitCode::SUCCESS)
}
