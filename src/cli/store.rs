//! `fedreplay store`: shows, checks and trims the store of results.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::say;
use super::playing::store_folder;
use super::progress::Progress;
use super::{DIFFERENT, units};
use crate::audit::Kept;
use crate::run::RunError;
use crate::scenario::{Bytes, Duration};
use crate::store::{Store, StoredResult, Trim};

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what is in the store and which runs use it.
    Ls(List),
    /// Read everything in the store and name what is damaged.
    Verify(Common),
    /// Remove results that are old or too many, and that no run needs.
    ///
    /// A run that was played with the store needs the results in its lineage for as long as its folder is there; one that
    /// is not finished needs all that was used since it began. What a living process may be using stays too, so the store
    /// can be trimmed while runs go on.
    Gc(Collect),
}

#[derive(Args)]
struct Common {
    /// Folder of stored results [default: in the user's cache folder].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct List {
    /// Show every result too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Collect {
    /// Remove results that were not used for so long, such as 30d.
    #[arg(long, value_name = "TIME")]
    max_age: Option<Duration>,
    /// Remove the least recently used results until no more than this is left, such as 20GB.
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Bytes>,
    /// Keep what these runs need too, or the runs below this folder; may be repeated.
    #[arg(long, value_name = "FOLDER")]
    keep: Vec<PathBuf>,
    /// Give up a run that used the store; may be repeated.
    #[arg(long, value_name = "RUN")]
    forget: Vec<PathBuf>,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

impl Common {
    fn open(&self) -> Result<(PathBuf, Store), RunError> {
        let folder = self.store.clone().or_else(store_folder);
        let folder = folder.ok_or_else(|| RunError::Usage("failed to find the store: name it with --store".into()))?;
        let store = Store::open_existing(&folder).map_err(|error| RunError::Usage(error.to_string()))?;
        Ok((folder, store))
    }
}

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    match &arguments.command {
        Command::Ls(list) => self::list(list),
        Command::Verify(common) => verify(common),
        Command::Gc(collect) => self::collect(collect),
    }
}

fn list(arguments: &List) -> Result<ExitCode, RunError> {
    let (folder, store) = arguments.common.open()?;
    let (results, runs) = (store.results()?, store.runs()?);
    let bytes = size(&results);
    if arguments.all {
        for StoredResult { key, bytes, used, .. } in &results {
            say!("{key}  {:>9}  used {} ago", units::bytes(*bytes), ago(*used));
        }
    }
    say!("store       {}", folder.display());
    say!("results     {} in {}", results.len(), units::bytes(bytes));
    if let (Some(oldest), Some(newest)) = (results.first(), results.last()) {
        say!("last used   {} to {} ago", ago(newest.used), ago(oldest.used));
    }
    for run in &runs {
        say!("run         {}", run.folder.display());
    }
    if arguments.common.json {
        let runs: Vec<_> = runs.iter().map(|run| &run.folder).collect();
        say!("{}", json!({ "store": folder, "results": results.len(), "bytes": bytes, "runs": runs }));
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(arguments: &Common) -> Result<ExitCode, RunError> {
    let (folder, store) = arguments.open()?;
    let found = Progress::during("reading all results", || store.check())?;
    for damage in &found {
        say!("damaged: {damage}");
    }
    if found.is_empty() {
        say!("whole: {} results", store.results()?.len());
    }
    if arguments.json {
        say!("{}", json!({ "store": folder, "damaged": found }));
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

fn collect(arguments: &Collect) -> Result<ExitCode, RunError> {
    let (folder, store) = arguments.common.open()?;
    for run in &arguments.forget {
        store.forget_run(run).map_err(|error| RunError::Usage(error.to_string()))?;
    }
    // The store is open: whatever is used from now on, by runs that are not known here too, is spared.
    let kept = Kept::of(&store, &arguments.keep)?;
    let trim = Trim {
        unused_for: arguments.max_age.map(|age| std::time::Duration::from_nanos(age.0)),
        bytes_most: arguments.max_size.map(|size| size.0),
        is_rehearsal: arguments.dry_run,
    };
    let trimmed = store.trim(&trim, &|result| kept.needs(result))?;
    if !arguments.dry_run {
        kept.gone.iter().try_for_each(|run| store.forget_run(run))?;
    }
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    say!("{verb} {} results, {}", trimmed.results, units::bytes(trimmed.bytes));
    say!("spared      {} that a run needs or that are in use", trimmed.spared);
    for run in &kept.runs {
        let why = if kept.unfinished.contains(run) { " (not finished: all that was used since it began)" } else { "" };
        say!("kept for    {}{why}", run.display());
    }
    if arguments.common.json {
        say!("{}", json!({ "store": folder, "trimmed": trimmed, "kept": kept.runs, "unfinished": kept.unfinished }));
    }
    Ok(ExitCode::SUCCESS)
}

/// [B] Of all contents, each counted once.
fn size(results: &[StoredResult]) -> u64 {
    let contents: std::collections::BTreeMap<_, _> =
        results.iter().map(|result| (result.content, result.bytes)).collect();
    contents.values().sum()
}

/// How long ago that was, in its largest unit.
fn ago(at: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
