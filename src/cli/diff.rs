//! `fedreplay diff`: compares two runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::report_difference;
use crate::ledger::compare;
use crate::run::RunError;

#[derive(Args)]
pub struct Arguments {
    /// Folder of one run.
    left: PathBuf,
    /// Folder of the other.
    right: PathBuf,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    match compare(&arguments.left, &arguments.right)? {
        Some(found) => report_difference(found),
        None => {
            println!("same");
            Ok(ExitCode::SUCCESS)
        }
    }
}
