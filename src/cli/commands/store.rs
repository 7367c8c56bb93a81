//! `fedreplay store`: shows, checks and trims the store of results.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::args::run::store_folder;
use crate::cli::errors::CommandError;
use crate::cli::errors::exit::DIFFERENT;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::{say, shown};
use fedreplay::audit::Retention;
use fedreplay::report::units;
use fedreplay::scenario::{Bytes, Duration};
use fedreplay::store::{Store, StoredResult, Trim};

#[derive(Args)]
pub struct StoreArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what is in the store and which runs use it.
    Ls(List),
    /// Read all stored results and report those that are damaged.
    Verify(Common),
    /// Remove results that are old or exceed a size, and that no run needs.
    ///
    /// A run that used the store needs the results in its lineage as long as its folder exists; an unfinished run needs
    /// all results that were used since it began. Results that a running process may use are kept too, so the store can
    /// be trimmed while runs are in progress.
    Gc(Collect),
}

/// Options of all subcommands.
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
    /// List every result.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Collect {
    /// Remove results that were not used for this long, such as 30d.
    #[arg(long, value_name = "TIME")]
    max_age: Option<Duration>,
    /// Remove the least recently used results until the store is no larger than this, such as 20GB.
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Bytes>,
    /// Also keep the results that this run, or the runs below this folder, need; may be repeated.
    #[arg(long, value_name = "FOLDER")]
    keep: Vec<PathBuf>,
    /// No longer keep results for this run; may be repeated.
    #[arg(long, value_name = "RUN")]
    forget: Vec<PathBuf>,
    /// Print what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

impl Common {
    /// Opens the existing store and returns it with its folder.
    fn open(&self) -> Result<(PathBuf, Store), CommandError> {
        let folder = self.store.clone().or_else(store_folder);
        let folder =
            folder.ok_or_else(|| CommandError::Usage("failed to find the store: name it with --store".into()))?;
        let store = Store::open_existing(&folder).map_err(CommandError::Store)?;
        Ok((folder, store))
    }
}

pub fn main(arguments: &StoreArguments) -> Result<ExitCode, CommandError> {
    match &arguments.command {
        Command::Ls(list) => self::list(list),
        Command::Verify(common) => verify(common),
        Command::Gc(collect) => self::collect(collect),
    }
}

/// Prints the contents of the store.
fn list(arguments: &List) -> Result<ExitCode, CommandError> {
    let (folder, store) = arguments.common.open()?;
    let results = store.results()?;
    let runs = store.runs()?;
    // The results are sorted by the time of their last use.
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
        let runs: Vec<_> = runs.iter().map(|run| shown(&run.folder)).collect();
        say!("{}", json!({ "store": shown(&folder), "results": results.len(), "bytes": bytes, "runs": runs }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks all results against their hashes.
fn verify(arguments: &Common) -> Result<ExitCode, CommandError> {
    let (folder, store) = arguments.open()?;
    let found = ProgressDisplay::during("reading all results", || store.check())?;
    for damage in &found {
        say!("damaged: {damage}");
    }
    if found.is_empty() {
        say!("whole: {} results", store.results()?.len());
    }
    if arguments.json {
        say!("{}", json!({ "store": shown(&folder), "damaged": found }));
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

/// Removes results, and prints which were removed and which stay.
fn collect(arguments: &Collect) -> Result<ExitCode, CommandError> {
    let (folder, store) = arguments.common.open()?;
    let given_up = arguments.forget.iter().map(|run| given_up(&store, &folder, run));
    let given_up: Vec<_> = given_up.collect::<Result<_, _>>()?;
    // Opened before the runs are read: results that any process uses from now on are spared, even for runs unknown
    // here.
    let retention = Retention::of(&store, &given_up, &arguments.keep)?;
    let trim = Trim {
        unused_for: arguments.max_age.map(|age| std::time::Duration::from_nanos(age.0)),
        bytes_most: arguments.max_size.map(|size| size.0),
        is_rehearsal: arguments.dry_run,
    };
    let trimmed = store.trim(&trim, &|result| retention.needs(result))?;
    if !arguments.dry_run {
        retention.forget_gone(&store)?;
        for run in &given_up {
            store.forget_run(run, |_| false)?;
        }
    }
    let verb = if arguments.dry_run { "would remove" } else { "removed" };
    say!("{verb} {} results, {}", trimmed.results, units::bytes(trimmed.bytes));
    say!("spared      {} that a run needs or that are in use", trimmed.spared);
    for run in &retention.runs {
        let why =
            if retention.unfinished.contains(run) { " (not finished: all that was used since it began)" } else { "" };
        say!("kept for    {}{why}", run.display());
    }
    if arguments.common.json {
        let kept: Vec<_> = retention.runs.iter().map(shown).collect();
        let unfinished: Vec<_> = retention.unfinished.iter().map(shown).collect();
        say!("{}", json!({ "store": shown(&folder), "trimmed": trimmed, "kept": kept, "unfinished": unfinished }));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the folder under which the store knows a run that is to be given up.
fn given_up(store: &Store, folder: &Path, run: &Path) -> Result<PathBuf, CommandError> {
    store.registered(run).ok_or_else(|| {
        let (run, store) = (run.display(), folder.display());
        CommandError::Usage(format!(
            "failed to give up {run}: the store at {store} knows no run there; `fedreplay store ls` lists those that it knows"
        ))
    })
}

/// Returns the size of the results in bytes. Results with equal contents share a file, which is counted once.
fn size(results: &[StoredResult]) -> u64 {
    let contents: std::collections::BTreeMap<_, _> =
        results.iter().map(|result| (result.content, result.bytes)).collect();
    contents.values().sum()
}

/// Formats the time since `at` in its largest unit.
fn ago(at: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
