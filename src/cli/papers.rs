//! Which benchmarks `fedreplay eval` takes: those that are named, or all that there are files for.

use std::path::Path;

use super::eval_args::Arguments;
use crate::benchmarks::{Benchmark, Terms, named, open};
use crate::evaluate::Opened;
use crate::ledger::LOSSES;
use crate::run::RunError;

/// What is to be examined.
pub struct Papers {
    /// Whether losses are taken on the run's rows.
    pub losses: bool,
    pub opened: Vec<Opened>,
}

impl Papers {
    /// Reads the questions of what is asked for. `all` leaves out what has no files and says so; what is named must be
    /// there, and what is there must be whole.
    ///
    /// # Errors
    /// A name that is none, a file that is damaged, a named benchmark without its file, or nothing to do.
    pub fn new(arguments: &Arguments, is_run: bool) -> Result<Self, RunError> {
        let all = arguments.bench.iter().any(|name| name == "all");
        let losses = arguments.bench.iter().any(|name| name == LOSSES);
        if losses && !is_run {
            let subject = arguments.subject.display();
            return Err(RunError::Usage(format!(
                "failed to take losses of {subject}: it is no run, so there are no rows; name benchmarks with --bench"
            )));
        }
        let names = arguments.bench.iter().filter(|name| *name != "all" && *name != LOSSES);
        let wanted = names.map(|name| named(name).map_err(RunError::Usage)).collect::<Result<Vec<_>, _>>()?;
        let terms = terms(arguments, all || !wanted.is_empty())?;
        let mut opened = Vec::new();
        for benchmark in Benchmark::ALL {
            let is_named = wanted.contains(&benchmark);
            if is_named || all {
                opened.extend(paper(benchmark, &terms, is_named)?);
            }
        }
        if all && opened.is_empty() {
            let folder = terms.data.display();
            return Err(RunError::Usage(format!(
                "failed to find questions: {folder} holds no benchmark's files; docs/evaluation.md says how they lie there"
            )));
        }
        Ok(Self { losses: losses || (all && is_run), opened })
    }
}

/// One benchmark; none where it is not named and cannot be had.
fn paper(benchmark: Benchmark, terms: &Terms, is_named: bool) -> Result<Option<Opened>, RunError> {
    let needs = "it runs code that the model writes, which needs --allow-code-execution";
    match open(benchmark, terms) {
        Ok(Some(paper)) => Ok(Some(Opened { name: benchmark.name(), paper })),
        Ok(None) if is_named => Err(RunError::Usage(format!("failed to take {benchmark}: {needs}"))),
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

fn terms(arguments: &Arguments, has_benchmarks: bool) -> Result<Terms<'_>, RunError> {
    let data = match &arguments.data {
        Some(data) if data.is_dir() => data.as_path(),
        Some(data) => {
            let data = data.display();
            return Err(RunError::Usage(format!("failed to find questions: --data names {data}, which is no folder")));
        }
        None if !has_benchmarks => Path::new("."),
        None => return Err(RunError::Usage("failed to find questions: --data names the folder of their files".into())),
    };
    let limit = arguments.limit.map(|limit| limit as usize);
    let (shots, samples) = (arguments.shots as usize, arguments.samples as usize);
    Ok(Terms { data, limit, shots, samples, runs_code: arguments.allow_code_execution })
}
