//! `fedreplay export`: converts a run to the format of another program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::args::run::open_store;
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{note, say, shown};
use fedreplay::export::{self, MergedBase};
use fedreplay::ledger::{LedgerError, Manifest};
use fedreplay::store::atomic::{PendingFolder, folder_of, remove_leftovers_of};
use fedreplay::store::next_to;

#[derive(Args)]
pub struct ExportArguments {
    /// Folder of the run, finished or not.
    run: PathBuf,
    /// Format to write.
    #[arg(long, value_enum, value_name = "FORM")]
    to: Form,
    /// File or folder to write [default: next to the run, under its name].
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// With peft: the round of the adapter [default: the last].
    #[arg(long, value_name = "N")]
    round: Option<u32>,
    /// With peft: the client, in runs whose clients have models of their own.
    #[arg(long, value_name = "N")]
    client: Option<u32>,
    /// With peft: the base model with the adapter merged into it, in f32.
    #[arg(long)]
    merged: bool,
    /// With --merged: the base model of a run that quantized it.
    #[arg(long, value_enum, value_name = "BASE", default_value_t = Base::Original)]
    base: Base,
    /// With csv: an apostrophe before every text that begins with =, +, -, @, a tab or a return: spreadsheets compute formulas.
    #[arg(long)]
    spreadsheet: bool,
    /// With peft: folder of stored results, or `none`, for rounds that were not saved [default: the user's cache
    /// folder].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Base models that an adapter is merged into.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Base {
    /// The model as its files have it.
    Original,
    /// The model with its weights rounded as the run rounded them, for the losses of the run.
    Dequantized,
}

/// Formats of exports.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Virtual time as a trace for ui.perfetto.dev or chrome://tracing.
    Perfetto,
    /// Curves for TensorBoard, against rounds and against simulated time.
    Tensorboard,
    /// All tables, and the meanings of their columns.
    Csv,
    /// The adapter of a round as a Hugging Face folder, or with --merged the whole model.
    Peft,
    /// Curves for Weights & Biases, as a folder that `wandb sync` uploads.
    #[value(alias = "wandb-offline-jsonl")]
    Wandb,
}

impl Form {
    /// Returns the suffix of the default path, which follows the run's name.
    fn ending(self, merged: bool) -> &'static str {
        match self {
            Self::Perfetto => ".perfetto.json",
            Self::Tensorboard => ".tensorboard",
            Self::Csv => ".csv",
            Self::Peft if merged => ".merged",
            Self::Peft => ".peft",
            Self::Wandb => ".wandb",
        }
    }
}

/// Exports the run and prints what was written.
pub fn main(arguments: &ExportArguments) -> Result<ExitCode, CommandError> {
    let run = &arguments.run;
    // Read first: a path without a run is reported before any other error.
    Manifest::read(run)?;
    if arguments.to != Form::Peft && (arguments.round.is_some() || arguments.client.is_some() || arguments.merged) {
        let message = "failed to export: --round, --client and --merged are of --to peft";
        return Err(CommandError::Usage(message.into()));
    }
    if arguments.to != Form::Csv && arguments.spreadsheet {
        return Err(CommandError::Usage("failed to export: --spreadsheet belongs to --to csv".into()));
    }
    if arguments.base == Base::Dequantized && !arguments.merged {
        return Err(CommandError::Usage("failed to export: --base is of --merged".into()));
    }
    let out = arguments.out.clone().unwrap_or_else(|| next_to(run, arguments.to.ending(arguments.merged)));
    // Next to the run by default: files must not be added to its own folder, whose contents are hashed.
    // Of one that was killed between giving the export its name and removing the rest, which finds the name taken.
    remove_leftovers_of(&out);
    export::refuse_occupied(&out)?;
    let what = ProgressDisplay::during("exporting", || {
        // Made in a folder of its own, so that a kill leaves no half of it under its name.
        let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = folder_of(&out);
        let pending = PendingFolder::create(folder, &name).map_err(LedgerError::io(folder))?;
        let made = pending.path().join("export");
        let what = written(arguments, &made)?;
        appear(&pending, &made, &out)?;
        Ok::<_, CommandError>(what)
    })?;
    say!("{}: {what}", out.display());
    if arguments.json {
        say!("{}", json!({ "run": shown(run), "out": shown(&out), "what": what }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives a complete export its name.
fn appear(pending: &PendingFolder, made: &Path, out: &Path) -> Result<(), CommandError> {
    // Another process may have made the same since the first look. A file would be replaced by the rename.
    export::refuse_occupied(out)?;
    Ok(pending.release(made, out).map_err(LedgerError::io(out))?)
}

/// Writes the export and returns a description of it.
fn written(arguments: &ExportArguments, out: &Path) -> Result<String, CommandError> {
    let run = &arguments.run;
    Ok(match arguments.to {
        Form::Perfetto => format!("{} trace events", export::perfetto(run, out)?),
        Form::Tensorboard => format!("{} scalars against each axis", export::tensorboard(run, out)?),
        Form::Csv => format!("{} rows", export::csv(run, out, arguments.spreadsheet)?),
        Form::Wandb => format!("{} steps", export::wandb(run, out)?),
        Form::Peft => adapter(arguments, out)?,
    })
}

/// Writes an adapter, or the model that it is merged into, and returns a description.
fn adapter(arguments: &ExportArguments, out: &Path) -> Result<String, CommandError> {
    let store = open_store(arguments.store.as_deref())?;
    let chosen = export::find_adapter(&arguments.run, arguments.round, arguments.client, &store)?;
    let source = if chosen.from_store { "in the store" } else { "saved by the run" };
    let what = format!("the adapter of round {}, {source}", chosen.round);
    let precision = export::trained_on(&arguments.run)?;
    if arguments.merged {
        let into = match arguments.base {
            Base::Original => MergedBase::Original,
            Base::Dequantized => MergedBase::Dequantized,
        };
        export::merged(&arguments.run, &chosen, into, out)?;
        if let Some(precision) = precision.filter(|_| into == MergedBase::Original) {
            note!("warning: {}", export::merged_into(into, &precision));
        }
        return Ok(format!("the base model with {what}"));
    }
    export::peft_folder(&arguments.run, &chosen, out)?;
    if let Some(precision) = precision {
        note!("warning: the adapter was trained on a base model in {precision}; on another base its losses differ");
    }
    Ok(what)
}
