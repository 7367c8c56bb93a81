//! `fedreplay replay`: executes a run again and compares.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::output::say;
use super::playing::Playing;
use super::progress::Progress;
use super::report_difference;
use crate::audit::{Sample, Sampled, replay, sample};
use crate::ledger::{LedgerError, Manifest};
use crate::run::RunError;

#[derive(Args)]
pub struct Arguments {
    /// Folder of the run.
    run: PathBuf,
    /// Folder to play the run again in; what is written there is removed afterwards [default: beside the run].
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// Check this round alone, by its place among all rounds from 1. What it depends on is read from the store or from the
    /// saved adapters where its hash is that of the lineage, and computed again where it is not there.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    round: Option<u32>,
    /// Check the updates of this client alone, named or numbered from 0; in all rounds, or in the one of --round.
    #[arg(long, value_name = "C")]
    client: Option<String>,
    #[command(flatten)]
    playing: Playing,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    if arguments.round.is_some() || arguments.client.is_some() {
        return check_sample(arguments);
    }
    let scratch = Scratch::make(arguments)?;
    let playing = &arguments.playing;
    let mut progress = playing.progress();
    let settings = playing.settings_without_store(scratch.0.join("replay"));
    let found = replay(&arguments.run, settings, &mut progress)?;
    drop(progress);
    if let Some(found) = found {
        let code = report_difference(&found);
        if playing.json {
            say!("{}", json!({ "run": arguments.run, "same": false, "difference": found.0 }));
        }
        return code;
    }
    let manifest = Manifest::read(&arguments.run)?;
    let digest = manifest.digest.expect("a finished run has a digest");
    say!("same: {} rounds, digest {digest}", manifest.rounds);
    if playing.json {
        say!("{}", json!({ "run": arguments.run, "digest": digest, "rounds": manifest.rounds, "same": true }));
    }
    Ok(ExitCode::SUCCESS)
}

fn check_sample(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let chosen = Sample { round: arguments.round, client: arguments.client.clone() };
    let settings = arguments.playing.settings(PathBuf::new())?;
    let mut progress = Progress::new("checking a sample");
    let sampled = sample(&arguments.run, &chosen, &settings, &mut progress)?;
    drop(progress);
    let code = match &sampled.difference {
        Some(difference) => report_difference(difference)?,
        None => {
            let Sampled { checked, trained, read, .. } = sampled;
            say!(
                "same: {checked} results, for which {trained} tasks were trained and {read} results were read and checked"
            );
            ExitCode::SUCCESS
        }
    };
    if arguments.playing.json {
        let is_same = sampled.difference.is_none();
        say!(
            "{}",
            json!({ "run": arguments.run, "same": is_same, "sample": sampled, "difference": sampled.difference })
        );
    }
    Ok(code)
}

/// A folder that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn make(arguments: &Arguments) -> Result<Self, RunError> {
        // Read first: a run that is not there must not leave a folder beside it.
        Manifest::read(&arguments.run)?;
        let name = arguments.run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let beside = || arguments.run.with_file_name(format!(".{name}.replay.{}", std::process::id()));
        let given = arguments.scratch.as_ref();
        let path = given.map_or_else(beside, |folder| folder.join(format!("replay.{}", std::process::id())));
        if let Some(folder) = given {
            std::fs::create_dir_all(folder).map_err(LedgerError::io(folder))?;
        }
        // Fails if it exists: what is removed afterwards must be of this process's making.
        std::fs::create_dir(&path).map_err(LedgerError::io(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
