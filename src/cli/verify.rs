//! `fedreplay verify`: checks a run against its own hashes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::DIFFERENT;
use crate::ledger::{Manifest, verify};
use crate::run::RunError;

#[derive(Args)]
pub struct Arguments {
    /// Folder of the run.
    run: PathBuf,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let found = verify(&arguments.run)?;
    let manifest = Manifest::read(&arguments.run)?;
    for difference in &found {
        println!("different: {difference}");
    }
    if found.is_empty() {
        let digest = manifest.digest.map(|digest| digest.to_string()).unwrap_or_default();
        println!("whole: {} files, {} rounds, digest {digest}", manifest.files.len(), manifest.rounds);
    }
    if arguments.json {
        let differences: Vec<&str> = found.iter().map(|difference| difference.0.as_str()).collect();
        println!(
            "{}",
            json!({
                "run": arguments.run, "digest": manifest.digest, "rounds": manifest.rounds, "differences": differences
            })
        );
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}
