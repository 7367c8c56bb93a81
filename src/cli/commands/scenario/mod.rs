//! `fedreplay scenario`: checks, explains and creates scenarios.

mod check;
mod explain;
mod new;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::errors::CommandError;

#[derive(Args)]
pub struct ScenarioArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a scenario with all defaults written out, and an estimate of its cost, before anything runs.
    Check(check::ScenarioCheckArguments),
    /// Explain a field: meaning, unit, default and range.
    Explain(explain::ScenarioExplainArguments),
    /// Write a commented scenario to start from, which runs as it is.
    New(new::ScenarioNewArguments),
}

pub fn main(arguments: &ScenarioArguments) -> Result<ExitCode, CommandError> {
    match &arguments.command {
        Command::Check(arguments) => check::main(arguments),
        Command::Explain(arguments) => explain::main(arguments),
        Command::New(arguments) => new::main(arguments),
    }
}
