//! `fedreplay data`: inspects and splits datasets, and generates synthetic twins of those of FedLLM-Bench.

mod diversity;
mod inspect;
mod split;
mod twin;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use fedreplay::data::{BadRows, Columns, Federation, Reason, Row, SkippedRow, Walk};
use fedreplay::inputs::refuse_bad_rows;
use fedreplay::ledger::LedgerError;
use fedreplay::run::RunError;

#[derive(Args)]
pub struct DataArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a dataset's statistics: clients, samples, lengths, languages.
    Inspect(inspect::DataInspectArguments),
    /// Analyze how clients differ: languages, lengths, quality, openings, embeddings, preference; as tables and
    /// pictures.
    Diversity(diversity::DataDiversityArguments),
    /// Split each client's rows into a training and a test file.
    Split(split::DataSplitArguments),
    /// Write a synthetic twin of one of FedLLM-Bench's datasets.
    Twin(twin::DataTwinArguments),
}

pub fn main(arguments: &DataArguments) -> Result<ExitCode, CommandError> {
    match &arguments.command {
        Command::Inspect(arguments) => inspect::main(arguments),
        Command::Diversity(arguments) => diversity::main(arguments),
        Command::Split(arguments) => split::main(arguments),
        Command::Twin(arguments) => twin::main(arguments),
    }
}

/// Options for reading a dataset's file.
#[derive(Args)]
struct Reading {
    /// File of rows, or folder with one file per client: JSON, JSON Lines, CSV or Parquet.
    path: std::path::PathBuf,
    /// Columns of a public dataset by its name, such as alpaca, gsm8k or hh-rlhf.
    #[arg(long, value_name = "NAME", value_parser = columns)]
    columns: Option<Columns>,
    /// Skip and count rows that cannot be used, instead of refusing the file.
    #[arg(long)]
    skip_bad_rows: bool,
}

impl Reading {
    /// Reads the whole dataset into memory.
    fn federation(&self) -> Result<Federation, CommandError> {
        let federation = ProgressDisplay::during("reading rows", || {
            Federation::read_columns(&self.path, &self.columns(), BadRows::Skip)
        })?;
        self.check(&federation.skipped, &federation.empty_clients)?;
        Ok(federation)
    }

    /// Passes every usable row to `each` without keeping it in memory.
    fn walk(&self, each: &mut dyn FnMut(&str, usize, Row)) -> Result<Walk, CommandError> {
        let walk = ProgressDisplay::during("reading rows", || {
            Walk::columns(&self.path, &self.columns(), BadRows::Skip, each)
        })?;
        self.check(&walk.skipped, &walk.empty_clients)?;
        Ok(walk)
    }

    /// Checks that every row was usable, unless bad ones are skipped. The whole file was read before, so that the error
    /// counts all of them.
    fn check(&self, skipped: &[SkippedRow], empty_clients: &[String]) -> Result<(), CommandError> {
        if !self.skip_bad_rows {
            refuse_bad_rows(&self.path, skipped, empty_clients, lifted_by).map_err(RunError::from)?;
        }
        Ok(())
    }

    fn columns(&self) -> Columns {
        self.columns.clone().unwrap_or_default()
    }
}

/// Returns the options under which rows with this reason are no obstacle.
fn lifted_by(reason: Reason) -> &'static str {
    match reason {
        Reason::Column => "--columns, or --skip-bad-rows",
        _ => "--skip-bad-rows",
    }
}

/// Looks up the columns of a public dataset.
fn columns(name: &str) -> Result<Columns, String> {
    Columns::named(name).ok_or_else(|| {
        let known: Vec<_> = Columns::names().collect();
        format!("known are {}", known.join(", "))
    })
}

/// Returns a function that turns an I/O error at `path` into an error of the command.
fn io(path: &Path) -> impl FnOnce(std::io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| LedgerError::io(&path)(source).into()
}
