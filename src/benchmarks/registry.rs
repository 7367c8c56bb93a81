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

/// Returns the benchmark called `name`.
///
/// # Errors
/// A message with the unknown name, all known names, and the most similar one.
pub fn named(name: &str) -> Result<BenchmarkName, String> {
    name.parse().map_err(|error| {
        let known = BenchmarkName::ALL.into_iter();
        let nearest = known.min_by_key(|known| strsim::damerau_levenshtein(name, known.name()));
        let nearest = nearest.expect("there is a benchmark");
        format!("{error}; did you mean `{nearest}`?")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_benchmark_is_answered_with_the_nearest() {
        assert_eq!(named("mmlu"), Ok(BenchmarkName::Mmlu));
        let message = named("mt_bench").unwrap_err();
        assert!(message.contains("`mt_bench`") && message.ends_with("did you mean `mt-bench`?"), "{message}");
    }
}
