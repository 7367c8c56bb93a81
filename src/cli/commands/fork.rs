//! `fedreplay fork`: continues a run from one of its rounds with other values.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::report;
use crate::cli::args::run::CommonRunArguments;
use crate::cli::errors::CommandError;
use crate::cli::output::summary;
use fedreplay::run::{ForkPoint, fork};
use fedreplay::store::next_to;

#[derive(Args)]
pub struct ForkArguments {
    /// Folder of the run.
    run: PathBuf,
    /// First round of the server under the new values, from 2.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    at_round: u32,
    /// Set a field to another value from that round on, such as `training.lr=0.001`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE", required = true)]
    sets: Vec<String>,
    /// Folder to write the fork to [default: next to the run, RUN-from-N].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    run_args: CommonRunArguments,
}

/// Runs the fork and prints its summary.
pub fn main(arguments: &ForkArguments) -> Result<ExitCode, CommandError> {
    let out =
        arguments.out.clone().unwrap_or_else(|| next_to(&arguments.run, &format!("-from-{}", arguments.at_round)));
    let options = arguments.run_args.options(out)?;
    let mut progress = arguments.run_args.progress();
    let fork_point = ForkPoint { at_round: arguments.at_round, sets: arguments.sets.clone() };
    let summary = fork(&arguments.run, &fork_point, &options, &mut progress)?;
    report::of_run(&summary.run);
    summary::print(&summary, arguments.run_args.json);
    Ok(ExitCode::SUCCESS)
}
