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
use fedreplay::audit::default_statement;
use fedreplay::ledger::{Manifest, UNFINISHED};
use fedreplay::run::{Claims, Signed, VerifyingKey, verify_run};
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
    /// Compare with the signed statement of a run too, which `certify` wrote; it counts if it is signed with this public key, an
    /// Ed25519 key in PEM form.
    #[arg(long, value_name = "FILE")]
    signed_by: Option<PathBuf>,
    /// File of the signed statement [default: next to the run, RUN.intoto.json].
    #[arg(long, value_name = "FILE", requires = "signed_by")]
    statement: Option<PathBuf>,
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
    let key = arguments.signed_by.as_deref().map(VerifyingKey::read).transpose()?;
    let statement = match (&key, &arguments.statement) {
        (Some(_), None) => default_statement(&arguments.run)?,
        (_, named) => named.clone().unwrap_or_default(),
    };
    let claims = Claims {
        certificate: arguments.certificate.as_deref(),
        digest: arguments.digest,
        signed: key.as_ref().map(|by| Signed { statement: &statement, by }),
    };
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
        if let Some(key) = &key {
            say!("signed with the key {}", key.fingerprint());
        }
    }
    if arguments.json {
        let differences: Vec<&str> = found.iter().map(|difference| difference.0.as_str()).collect();
        let digest = manifest.as_ref().map(|run| run.digest);
        let rounds = manifest.as_ref().map(|run| run.rounds);
        let signer = key.as_ref().map(VerifyingKey::fingerprint);
        say!(
            "{}",
            json!({ "run": shown(&arguments.run), "digest": digest, "rounds": rounds, "differences": differences, "key": signer })
        );
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}
