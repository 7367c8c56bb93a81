//! `fedreplay data split`: splits each client's rows into a training and a test file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fedreplay_sim::Seed;
use serde_json::json;

use super::{Reading, io};
use crate::cli::errors::CommandError;
use crate::cli::output::{say, shown};
use fedreplay::data::write_split;
use fedreplay::run::refuse_inside_run;

#[derive(Args)]
pub struct DataSplitArguments {
    #[command(flatten)]
    reading: Reading,
    /// Share of each client's rows that goes to the test file, at least 0 and below 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    held_out: f64,
    /// Seed of the draw; `data.held_out` of a scenario with this seed draws the same rows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for train.json and test.json.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Parses a share.
fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if (0.0..1.0).contains(&value) { Ok(value) } else { Err("it must be at least 0 and below 1".to_owned()) }
}

/// Writes both files and prints their sizes.
pub fn main(arguments: &DataSplitArguments) -> Result<ExitCode, CommandError> {
    refuse_inside_run(&arguments.out)?;
    let data = arguments.reading.federation()?;
    let out = &arguments.out;
    let mut written = serde_json::Map::new();
    for file in write_split(&data, arguments.held_out, Seed(arguments.seed), out).map_err(io(out))? {
        let path = out.join(file.name);
        say!("{:<28}{} clients, {} rows", path.display(), file.clients, file.rows);
        written.insert(file.name.to_owned(), json!({ "clients": file.clients, "rows": file.rows }));
    }
    if arguments.json {
        say!("{}", json!({ "out": shown(out), "files": written }));
    }
    Ok(ExitCode::SUCCESS)
}
