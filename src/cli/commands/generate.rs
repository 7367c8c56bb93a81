//! `fedreplay generate`: shell completions, man pages and references, generated from the program itself.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::{self, say, shown};
use fedreplay::ledger::{LedgerError, reference};
use fedreplay::run::refuse_inside_run;
use fedreplay::scenario::{Reference, combinations};
use fedreplay::store::atomic::PendingFolder;

#[derive(Args)]
pub struct GenerateArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print completions for a shell; the shell's manual says where to put them.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the man page, or write one for each command.
    Man {
        /// Folder to write the pages of all commands to.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// End stdout with one line of JSON; with --out only.
        #[arg(long, requires = "out")]
        json: bool,
    },
    /// Print the reference of all fields of a scenario as Markdown: docs/scenario.md.
    ScenarioReference,
    /// Print the reference of all tables as Markdown: docs/ledger.md.
    LedgerReference,
    /// Print which federated methods go with which other settings, as Markdown: docs/methods/combinations.md.
    MethodCombinations,
}

/// Prints or writes the requested text.
pub fn main(arguments: &GenerateArguments) -> Result<ExitCode, CommandError> {
    match &arguments.what {
        What::Completions { shell } => {
            // Generated in memory first, since the generator panics if it cannot write to a closed stdout.
            let mut bytes = Vec::new();
            clap_complete::generate(*shell, &mut crate::cli::Arguments::command(), "fedreplay", &mut bytes);
            print(&bytes);
        }
        What::Man { out: None, .. } => {
            let mut bytes = Vec::new();
            let page = clap_mangen::Man::new(crate::cli::Arguments::command()).render(&mut bytes);
            page.expect("memory takes all that is written");
            print(&bytes);
        }
        What::Man { out: Some(folder), json } => {
            refuse_inside_run(folder)?;
            let written = write_pages(folder).map_err(LedgerError::io(folder))?;
            say!("{}: man pages", folder.display());
            if *json {
                say!("{}", json!({ "out": shown(written) }));
            }
        }
        What::ScenarioReference => print(Reference::new().markdown().as_bytes()),
        What::LedgerReference => print(reference().as_bytes()),
        What::MethodCombinations => print(combinations().as_bytes()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the man pages of all commands.
fn write_pages(folder: &PathBuf) -> io::Result<&PathBuf> {
    let pending = PendingFolder::create(folder, "man")?;
    clap_mangen::generate_to(crate::cli::Arguments::command(), pending.path())?;
    for page in std::fs::read_dir(pending.path())? {
        let page = page?;
        std::fs::rename(page.path(), folder.join(page.file_name()))?;
    }
    Ok(folder)
}

/// Prints bytes that are text.
fn print(bytes: &[u8]) {
    output::text(format_args!("{}", String::from_utf8_lossy(bytes)));
}
