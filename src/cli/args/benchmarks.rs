//! Selection of the benchmarks of `fedreplay eval`: those that are named, or all that have files.

use std::path::Path;

use super::eval::EvalArguments;
use crate::cli::errors::CommandError;
use fedreplay::benchmarks::{BenchmarkName, BenchmarkOptions, UnknownBenchmark, open};
use fedreplay::evaluate::OpenedBenchmark;
use fedreplay::ledger::LOSSES;

/// Benchmarks to run.
pub struct SelectedBenchmarks {
    /// Whether to compute losses on the run's rows.
    pub losses: bool,
    pub opened: Vec<OpenedBenchmark>,
}

impl SelectedBenchmarks {
    /// Reads the questions of the selected benchmarks. `all` skips benchmarks without files, with a warning; a
    /// benchmark that is named must have its files.
    ///
    /// # Errors
    /// An unknown name, a damaged file, a named benchmark without its files, or nothing to do.
    pub fn new(arguments: &EvalArguments, is_run: bool) -> Result<Self, CommandError> {
        let all = arguments.bench.iter().any(|name| name == "all");
        let losses = arguments.bench.iter().any(|name| name == LOSSES);
        if losses && !is_run {
            let subject = arguments.subject.display();
            return Err(CommandError::Usage(format!(
                "failed to take losses of {subject}: it is no run, so there are no rows; name benchmarks with --bench"
            )));
        }
        let names = arguments.bench.iter().filter(|name| *name != "all" && *name != LOSSES);
        let wanted = names.map(|name| name.parse());
        let wanted: Result<Vec<BenchmarkName>, UnknownBenchmark> = wanted.collect();
        let wanted = wanted.map_err(|error| CommandError::Usage(error.to_string()))?;
        let options = options(arguments, all || !wanted.is_empty())?;
        let mut opened = Vec::new();
        // In the catalog's order, not in that of the command line, so that tables of different calls are alike.
        for benchmark in BenchmarkName::ALL {
            let is_named = wanted.contains(&benchmark);
            if is_named || all {
                opened.extend(open_named(benchmark, &options, is_named)?);
            }
        }
        if all && opened.is_empty() {
            let folder = options.data.display();
            return Err(CommandError::Usage(format!(
                "failed to find questions: {folder} holds no benchmark's files; docs/evaluation.md says how they lie there"
            )));
        }
        Ok(Self { losses: losses || (all && is_run), opened })
    }
}

/// Opens one benchmark. `None`, with a warning, if it is not named and cannot be run.
fn open_named(
    benchmark: BenchmarkName,
    options: &BenchmarkOptions,
    is_named: bool,
) -> Result<Option<OpenedBenchmark>, CommandError> {
    let needs = "it runs code that the model writes, which needs --allow-code-execution";
    match open(benchmark, options) {
        Ok(Some(opened)) => Ok(Some(OpenedBenchmark { name: benchmark.name(), benchmark: opened })),
        Ok(None) if is_named => Err(CommandError::Usage(format!("failed to take {benchmark}: {needs}"))),
        Ok(None) => {
            tracing::warn!("{benchmark} is left out: {needs}");
            Ok(None)
        }
        Err(error) if !is_named && error.is_missing_file() => {
            tracing::warn!("{benchmark} is left out: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the options of all benchmarks.
fn options(arguments: &EvalArguments, has_benchmarks: bool) -> Result<BenchmarkOptions<'_>, CommandError> {
    let data = match &arguments.data {
        Some(data) if data.is_dir() => data.as_path(),
        Some(data) => {
            let data = data.display();
            return Err(CommandError::Usage(format!(
                "failed to find questions: --data names {data}, which is no folder"
            )));
        }
        None if !has_benchmarks => Path::new("."),
        None => {
            return Err(CommandError::Usage("failed to find questions: --data names the folder of their files".into()));
        }
    };
    Ok(BenchmarkOptions {
        data,
        limit: arguments.limit.map(|limit| limit as usize),
        shots: arguments.shots as usize,
        samples: arguments.samples as usize,
        runs_code: arguments.allow_code_execution,
    })
}
