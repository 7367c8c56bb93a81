//! `fedreplay scenario new`: a commented scenario to start from.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::output::say;
use crate::inputs::PlanInputs;
use crate::ledger::LedgerError;
use crate::run::RunError;
use crate::scenario::Loaded;
use crate::store::atomic;

/// The scenario, with `NAME`, `MODEL` and `DATA` to be filled in.
const TEMPLATE: &str = include_str!("new.ron");

/// Model and data of the project's checkout.
const OWN: [&str; 2] = ["fixtures/tiny-base", "fixtures/skills/train.json"];

#[derive(Args)]
pub struct Arguments {
    /// File to write; its name becomes the scenario's.
    file: PathBuf,
    /// Hugging Face folder of the base model [default: the tiny one of the checkout around the file].
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Data in one of FedLLM-Bench's forms [default: those of the checkout around the file].
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Writes the file only if it can be played as it is.
pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let file = &arguments.file;
    if file.symlink_metadata().is_ok() {
        return Err(RunError::Usage(format!("failed to write {}: it is there already", file.display())));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::path::absolute(folder).map_err(LedgerError::io(folder))?;
    let place = |given: &Option<PathBuf>, own: &str, option: &str| match given {
        // As seen from the file's folder, whatever the current one is.
        Some(path) => std::path::absolute(path).map_err(|source| LedgerError::io(path)(source).into()),
        None => own_file(&folder, own).ok_or_else(|| {
            RunError::Usage(format!("failed to find {own} around {}: name one with {option}", file.display()))
        }),
    };
    let model = place(&arguments.model, OWN[0], "--model")?;
    let data = place(&arguments.data, OWN[1], "--data")?;
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let text = [("NAME", stem), ("MODEL", text_of(&model)), ("DATA", text_of(&data))]
        .into_iter()
        .fold(TEMPLATE.to_owned(), |text, (mark, value)| text.replace(&format!("\"{mark}\""), &quote(&value)));
    atomic::write(file, text.as_bytes()).map_err(LedgerError::io(file))?;
    let checked =
        Loaded::read(file, &[]).map_err(RunError::from).and_then(|loaded| Ok(PlanInputs::load(&loaded).map(drop)?));
    if let Err(error) = checked {
        let _ = std::fs::remove_file(file);
        return Err(error);
    }
    say!("wrote {}; `fedreplay run {}` plays it", file.display(), file.display());
    if arguments.json {
        say!("{}", json!({ "scenario": file }));
    }
    Ok(ExitCode::SUCCESS)
}

/// A file of the checkout that a folder is in, relative to the folder.
fn own_file(folder: &Path, own: &str) -> Option<PathBuf> {
    let up = folder.ancestors().position(|ancestor| ancestor.join(own).exists())?;
    let mut path: PathBuf = std::iter::repeat_n("..", up).collect();
    path.push(own);
    Some(path)
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Text between quotes, as RON and JSON write it.
fn quote(text: &str) -> String {
    json!(text).to_string()
}
