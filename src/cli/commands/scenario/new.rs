//! `fedreplay scenario new`: a commented scenario to start from.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::{say, shown};
use fedreplay::inputs::PlanInputs;
use fedreplay::ledger::LedgerError;
use fedreplay::run::refuse_inside_run;
use fedreplay::scenario::Scenario;
use fedreplay::store::atomic::Pending;

/// Template of the scenario, with the placeholders `NAME`, `MODEL` and `DATA`.
const TEMPLATE: &str = include_str!("new.ron");

/// Model and data in a checkout of the project.
const OWN: [&str; 2] = ["fixtures/tiny-base", "fixtures/skills/train.json"];

#[derive(Args)]
pub struct ScenarioNewArguments {
    /// File to write; its name becomes the scenario's.
    file: PathBuf,
    /// Hugging Face folder of the base model [default: the tiny one of the checkout that contains the file].
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Data in one of FedLLM-Bench's formats [default: the file of the checkout that contains the file].
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Writes the file if it can be run as it is.
pub fn main(arguments: &ScenarioNewArguments) -> Result<ExitCode, CommandError> {
    let file = &arguments.file;
    if file.symlink_metadata().is_ok() {
        return Err(CommandError::Usage(format!("failed to write {}: it is there already", file.display())));
    }
    refuse_inside_run(file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::path::absolute(folder).map_err(LedgerError::io(folder))?;
    let model = match &arguments.model {
        Some(path) => absolute(path, &folder)?,
        None => from_checkout(file, &folder, OWN[0], "--model")?,
    };
    let data = match &arguments.data {
        Some(path) => absolute(path, &folder)?,
        None => from_checkout(file, &folder, OWN[1], "--data")?,
    };
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut text = TEMPLATE.to_owned();
    for (placeholder, value) in [("NAME", stem), ("MODEL", text_of(&model)), ("DATA", text_of(&data))] {
        text = text.replace(&format!("\"{placeholder}\""), &quote(&value));
    }
    // With its inputs, which are discarded.
    PlanInputs::load(&Scenario::of_text(file, &text, &[])?)?;
    let mut pending = Pending::for_path(file).map_err(LedgerError::io(file))?;
    pending.file().write_all(text.as_bytes()).map_err(LedgerError::io(file))?;
    pending.commit(file).map_err(LedgerError::io(file))?;
    say!("wrote {}; `fedreplay run {}` runs it", file.display(), file.display());
    if arguments.json {
        say!("{}", json!({ "scenario": shown(file) }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a path from the command line absolute: paths in a scenario are relative to its own folder, not to the current
/// one. A scenario is text, so a path that is no UTF-8 can only be named from within the scenario's `folder`.
fn absolute(path: &Path, folder: &Path) -> Result<PathBuf, CommandError> {
    let absolute = std::path::absolute(path).map_err(LedgerError::io(path))?;
    if absolute.to_str().is_some() {
        return Ok(absolute);
    }
    match absolute.strip_prefix(folder) {
        Ok(within) if within.to_str().is_some() => Ok(within.to_owned()),
        _ => Err(CommandError::Usage(format!(
            "failed to name {} in a scenario: the path is no UTF-8; put the scenario next to it",
            path.display()
        ))),
    }
}

/// Returns the default for `option`: the file `own` of the checkout that contains the scenario `file` in `folder`.
fn from_checkout(file: &Path, folder: &Path, own: &str, option: &str) -> Result<PathBuf, CommandError> {
    own_file(folder, own).ok_or_else(|| {
        CommandError::Usage(format!("failed to find {own} around {}: name one with {option}", file.display()))
    })
}

/// Returns the path of a file of the checkout around `folder`, relative to `folder`.
fn own_file(folder: &Path, own: &str) -> Option<PathBuf> {
    let up = folder.ancestors().position(|ancestor| ancestor.join(own).exists())?;
    let mut path: PathBuf = std::iter::repeat_n("..", up).collect();
    path.push(own);
    Some(path)
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Quotes text, with escapes that are valid in RON and in JSON.
fn quote(text: &str) -> String {
    json!(text).to_string()
}
