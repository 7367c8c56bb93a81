//! `fedreplay resume`: continues a run, or simulates a plan again.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{plan, report};
use crate::cli::args::run::CommonRunArguments;
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::signals::STOP;
use crate::cli::output::summary;
use fedreplay::ledger::{Manifest, RunKind};
use fedreplay::run::{resume, resume_plan};

#[derive(Args)]
pub struct ResumeArguments {
    /// Folder of the run.
    run: PathBuf,
    /// Change a field that does not affect results, such as `execution.checkpointing=Always`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    run_args: CommonRunArguments,
}

/// Continues the run and prints its summary.
pub fn main(arguments: &ResumeArguments) -> Result<ExitCode, CommandError> {
    if Manifest::read(&arguments.run)?.kind == RunKind::Plan {
        let mut progress = ProgressDisplay::new(plan::SIMULATING);
        let summary = resume_plan(&arguments.run, &arguments.sets, &STOP, &mut progress)?;
        drop(progress);
        plan::print(&summary, arguments.run_args.json);
        return Ok(ExitCode::SUCCESS);
    }
    let options = arguments.run_args.options(arguments.run.clone())?;
    let mut progress = arguments.run_args.progress();
    let summary = resume(&options, &arguments.sets, &mut progress)?;
    drop(progress);
    report::of_run(&summary.run);
    summary::print(&summary, arguments.run_args.json);
    Ok(ExitCode::SUCCESS)
}
