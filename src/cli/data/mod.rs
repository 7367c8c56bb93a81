//! `fedreplay data`: looks at datasets, splits them, and makes synthetic twins of FedLLM-Bench's.

mod diversity;
mod inspect;
mod split;
mod twin;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::progress::Progress;
use crate::data::{BadRows, Columns, Federation, Row, Walk};
use crate::ledger::LedgerError;
use crate::run::RunError;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a dataset's statistics: clients, samples, lengths, languages.
    Inspect(inspect::Arguments),
    /// Analyse how clients differ: languages, lengths, quality, openings, embeddings, preference; tables and pictures.
    Diversity(diversity::Arguments),
    /// Split each client's rows into a training and a test file.
    Split(split::Arguments),
    /// Write a synthetic twin of one of FedLLM-Bench's datasets.
    Twin(twin::Arguments),
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    match &arguments.command {
        Command::Inspect(arguments) => inspect::main(arguments),
        Command::Diversity(arguments) => diversity::main(arguments),
        Command::Split(arguments) => split::main(arguments),
        Command::Twin(arguments) => twin::main(arguments),
    }
}

/// How a dataset's file is read.
#[derive(Args)]
struct Reading {
    /// A dataset: FedLLM-Bench's JSON or JSON lines, or with --columns JSON, JSON lines or Parquet.
    path: std::path::PathBuf,
    /// Columns of a public dataset by its name, such as alpaca, gsm8k or hh-rlhf.
    #[arg(long, value_name = "NAME", value_parser = columns)]
    columns: Option<Columns>,
    /// Leave rows out that cannot be used, and count them, instead of refusing the file.
    #[arg(long)]
    skip_bad_rows: bool,
}

impl Reading {
    fn federation(&self) -> Result<Federation, RunError> {
        let read = || Federation::read_columns(&self.path, &self.columns(), self.bad_rows());
        Ok(Progress::during("reading rows", read)?)
    }

    /// Hands every row to `each`, and keeps none.
    fn walk(&self, each: &mut dyn FnMut(&str, usize, Row)) -> Result<Walk, RunError> {
        let walk = || Walk::columns(&self.path, &self.columns(), self.bad_rows(), each);
        Ok(Progress::during("reading rows", walk)?)
    }

    fn columns(&self) -> Columns {
        self.columns.clone().unwrap_or_default()
    }

    fn bad_rows(&self) -> BadRows {
        if self.skip_bad_rows { BadRows::Skip } else { BadRows::Refuse }
    }
}

fn columns(name: &str) -> Result<Columns, String> {
    let known = || Columns::names().collect::<Vec<_>>().join(", ");
    Columns::named(name).ok_or_else(|| format!("known are {}", known()))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.to_owned();
    move |source| LedgerError::io(&path)(source).into()
}
