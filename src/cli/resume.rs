//! `fedreplay resume`: continues a run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::playing::Playing;
use super::summary;
use crate::run::{RunError, resume};

#[derive(Args)]
pub struct Arguments {
    /// Folder of the run.
    run: PathBuf,
    #[command(flatten)]
    playing: Playing,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let settings = arguments.playing.settings(arguments.run.clone())?;
    let mut progress = arguments.playing.progress();
    let summary = resume(&settings, &mut progress)?;
    progress.end();
    summary::print(&summary, arguments.playing.json);
    Ok(ExitCode::SUCCESS)
}
