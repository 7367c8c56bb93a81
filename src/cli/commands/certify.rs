//! `fedreplay certify`: signs a statement about a run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{say, shown};
use fedreplay::audit::{certify, default_statement};
use fedreplay::run::{SigningKey, refuse_inside_run};

#[derive(Args)]
pub struct CertifyArguments {
    /// Folder of the run.
    run: PathBuf,
    /// File of the private key: Ed25519 in PEM form without a passphrase, as `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File to write the statement to [default: next to the run, RUN.intoto.json].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Verifies the run, and writes the signed statement.
pub fn main(arguments: &CertifyArguments) -> Result<ExitCode, CommandError> {
    let key = SigningKey::read(&arguments.key)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => default_statement(&arguments.run)?,
    };
    refuse_inside_run(&out)?;
    if out.canonicalize().is_ok_and(|out| arguments.key.canonicalize().is_ok_and(|key| out == key)) {
        return Err(CommandError::Usage("failed to certify: --out is the file of the key".into()));
    }
    let certificate = ProgressDisplay::during("hashing files and rows", || certify(&arguments.run, &key, &out))?;
    let fingerprint = key.public().fingerprint();
    say!("digest    {}", certificate.digest);
    say!("key       {fingerprint}");
    say!("statement {}", shown(&out));
    if arguments.json {
        say!("{}", json!({ "digest": certificate.digest, "key": fingerprint, "statement": shown(&out) }));
    }
    Ok(ExitCode::SUCCESS)
}
