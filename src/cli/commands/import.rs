//! `fedreplay import`: turns a shell script of OpenFedLLM or FedLLM-Bench into a scenario.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::{note, say};
use fedreplay::ledger::LedgerError;
use fedreplay::scenario::import_script;
use fedreplay::store::read_text_limited;

#[derive(Args)]
pub struct ImportArguments {
    /// Script to read; it is never executed.
    script: PathBuf,
    /// Call to import, from 1, if the script calls a trainer several times.
    #[arg(long, value_name = "N")]
    call: Option<usize>,
    /// Print one line of JSON instead, which contains the scenario's text.
    #[arg(long)]
    json: bool,
}

/// Prints the scenario on stdout, and options without an equivalent on stderr.
pub fn main(arguments: &ImportArguments) -> Result<ExitCode, CommandError> {
    let script = &arguments.script;
    let text = read_text_limited(script).map_err(LedgerError::io(script))?;
    let stem = script.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    // The scenario's name becomes the default folder of its runs, so it must be a plain file name.
    let name: String = stem.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let imported = import_script(&name, &text, arguments.call, Path::new("."))
        .map_err(|source| CommandError::Import { script: script.clone(), source })?;
    match arguments.json {
        true => say!("{}", json!({ "scenario": imported.scenario, "left_out": imported.left_out })),
        false => say!("{}", imported.scenario.trim_end()),
    }
    for left_out in &imported.left_out {
        note!("not carried over: {left_out}");
    }
    Ok(ExitCode::SUCCESS)
}
