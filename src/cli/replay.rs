//! `fedreplay replay`: executes a run again and compares.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::playing::Playing;
use super::report_difference;
use crate::ledger::{LedgerError, Manifest};
use crate::run::{RunError, replay};

#[derive(Args)]
pub struct Arguments {
    /// Folder of the run.
    run: PathBuf,
    /// Folder to play the run again in; it is removed afterwards [default: beside the run].
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    playing: Playing,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let scratch = Scratch::make(arguments)?;
    let playing = &arguments.playing;
    let mut progress = playing.progress();
    let settings = playing.settings_without_store(scratch.0.join("replay"));
    let found = replay(&arguments.run, settings, &mut progress)?;
    progress.end();
    if let Some(found) = found {
        return report_difference(found);
    }
    let manifest = Manifest::read(&arguments.run)?;
    let digest = manifest.digest.expect("a finished run has a digest");
    println!("same: {} rounds, digest {digest}", manifest.rounds);
    if playing.json {
        println!("{}", json!({ "run": arguments.run, "digest": digest, "rounds": manifest.rounds, "same": true }));
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn make(arguments: &Arguments) -> Result<Self, RunError> {
        // Read first: a run that is not there must not leave a folder beside it.
        Manifest::read(&arguments.run)?;
        let name = arguments.run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let beside = || arguments.run.with_file_name(format!(".{name}.replay.{}", std::process::id()));
        let path = arguments.scratch.clone().unwrap_or_else(beside);
        std::fs::create_dir_all(&path).map_err(LedgerError::io(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.join("replay"));
        // Only if nothing else is in it: the user may have named a folder of their own.
        let _ = std::fs::remove_dir(&self.0);
    }
}
