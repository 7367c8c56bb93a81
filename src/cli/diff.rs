//! `fedreplay diff`: compares two runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::say;
use super::progress::Progress;
use super::report_difference;
use crate::ledger::compare;
use crate::run::RunError;

#[derive(Args)]
pub struct Arguments {
    /// Folder of one run.
    left: PathBuf,
    /// Folder of the other.
    right: PathBuf,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let found = Progress::during("comparing tables", || compare(&arguments.left, &arguments.right))?;
    let code = match &found {
        Some(found) => report_difference(found)?,
        None => {
            say!("same");
            ExitCode::SUCCESS
        }
    };
    if arguments.json {
        let (runs, difference) = ([&arguments.left, &arguments.right], found.as_ref().map(|found| &found.0));
        say!("{}", json!({ "runs": runs, "same": difference.is_none(), "difference": difference }));
    }
    Ok(code)
}
