//! `fedreplay resume`: continues a run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::playing::Playing;
use super::{report, summary};
use crate::run::{RunError, resume};

#[derive(Args)]
pub struct Arguments {
    /// Folder of the run.
    run: PathBuf,
    /// Change a field that changes no result, such as `execution.checkpointing=Always`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    playing: Playing,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let settings = arguments.playing.settings(arguments.run.clone())?;
    let mut progress = arguments.playing.progress();
    let summary = resume(&settings, &arguments.sets, &mut progress)?;
    drop(progress);
    report::of_run(&summary.run);
    summary::print(&summary, arguments.playing.json);
    Ok(ExitCode::SUCCESS)
}
