//! `fedreplay diff`: compares two runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::args::run::store_folder;
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{say, shown};
use crate::cli::report_difference;
use fedreplay::audit::{FirstDifference, diff};
use fedreplay::store::Store;

#[derive(Args)]
pub struct DiffArguments {
    /// Folder of one run.
    left: PathBuf,
    /// Folder of the other run.
    right: PathBuf,
    /// Folder of stored results, in which differing tensors are looked up [default: in the user's cache folder].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Compares the runs and prints the first difference.
pub fn main(arguments: &DiffArguments) -> Result<ExitCode, CommandError> {
    // A missing store is no error: only the first differing tensor cannot be named without it.
    let folder = arguments.store.clone().or_else(store_folder);
    let store = folder.and_then(|folder| Store::open_existing(&folder).ok()).unwrap_or_else(Store::none);
    let found = ProgressDisplay::during("comparing rows", || diff(&arguments.left, &arguments.right, &store))?;
    let code = match &found {
        Some(found) => report(found)?,
        None => {
            say!("same");
            ExitCode::SUCCESS
        }
    };
    if arguments.json {
        let runs = [&arguments.left, &arguments.right].map(shown);
        let difference = found.as_ref().map(|found| &found.difference);
        say!("{}", json!({ "runs": runs, "same": found.is_none(), "difference": difference, "parting": found }));
    }
    Ok(code)
}

/// Prints the first difference at each level, and its causes.
fn report(found: &FirstDifference) -> Result<ExitCode, CommandError> {
    let code = report_difference(&found.difference)?;
    let first = [("first event", &found.event), ("first key", &found.key), ("first tensor", &found.tensor)];
    for (name, what) in first {
        if let Some(what) = what {
            say!("{name:<14}{what}");
        }
    }
    for cause in &found.why {
        say!("{:<14}{cause}", "because of");
    }
    Ok(code)
}
