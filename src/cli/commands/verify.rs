//! `fedreplay verify`: checks a run against its own hashes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::errors::exit::DIFFERENT;
use crate::cli::errors::hint::RESUME;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{say, shown};
use fedreplay::ledger::{Manifest, UNFINISHED};
use fedreplay::run::{Claims, verify_run};
use fedreplay::store::Digest;

#[derive(Args)]
pub struct VerifyArguments {
    /// Folder of the run.
    run: PathBuf,
    /// Compare with this certificate too: that of the run, or of a run that it repeats, up to the rounds that it has.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Compare with this digest too, which was kept elsewhere: anyone who can write to the folder can make it another run.
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    digest: Option<Digest>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Parses a digest.
fn digest(text: &str) -> Result<Digest, String> {
    Digest::from_hex(text).ok_or_else(|| "a digest has 64 hexadecimal digits".to_owned())
}

/// Checks the run and prints every difference.
pub fn main(arguments: &VerifyArguments) -> Result<ExitCode, CommandError> {
    let claims = Claims { certificate: arguments.certificate.as_deref(), digest: arguments.digest };
    let found = ProgressDisplay::during("hashing files and rows", || verify_run(&arguments.run, &claims))?;
    // If the manifest cannot be read, `found` says so.
    let manifest = Manifest::read(&arguments.run).ok();
    for difference in &found {
        match difference.0.as_str() {
            UNFINISHED => say!("different: {difference}; {RESUME}"),
            _ => say!("different: {difference}"),
        }
    }
    if let (true, Some(manifest)) = (found.is_empty(), &manifest) {
        let digest = manifest.digest.map(|digest| digest.to_string()).unwrap_or_default();
        say!("whole: {} files, {} rounds, digest {digest}", manifest.files.len(), manifest.rounds);
    }
    if arguments.json {
        let differences: Vec<&str> = found.iter().map(|difference| difference.0.as_str()).collect();
        let digest = manifest.as_ref().map(|run| run.digest);
        let rounds = manifest.as_ref().map(|run| run.rounds);
        say!(
            "{}",
            json!({ "run": shown(&arguments.run), "digest": digest, "rounds": rounds, "differences": differences })
        );
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}
