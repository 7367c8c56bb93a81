//! Benchmarks by name, and how each is opened. A new benchmark is one line in [`open`] and its name in the catalog.

use super::EvaluationError;
use super::benchmark::{Benchmark, BenchmarkOptions};
use super::catalog::BenchmarkName;
use super::human_eval::HumanEval;
use super::mmlu::Mmlu;
use super::open_ended::OpenEndedBenchmark;

/// Reads a benchmark's questions. `None` for a benchmark that runs generated code where `options` do not allow it.
///
/// # Errors
/// If a file cannot be read, a question lacks a field, or the host cannot confine code.
pub fn open(
    benchmark: BenchmarkName,
    options: &BenchmarkOptions,
) -> Result<Option<Box<dyn Benchmark>>, EvaluationError> {
    Ok(match benchmark {
        BenchmarkName::Open(open) => Some(Box::new(OpenEndedBenchmark::read(open, options)?)),
        BenchmarkName::Mmlu => Some(Box::new(Mmlu::read(&options.data.join("mmlu"), options)?)),
        BenchmarkName::HumanEval if options.runs_code => Some(Box::new(HumanEval::read(options)?)),
        BenchmarkName::HumanEval => None,
    })
}
