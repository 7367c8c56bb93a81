//! Benchmarks by name, and how each is opened. A new benchmark is one line in [`open`] and its name in the catalog.

use super::EvaluationError;
use super::benchmark::{Paper, Terms};
use super::catalog::Benchmark;
use super::human_eval::HumanEval;
use super::mmlu::Mmlu;
use super::open_ended::Open;

/// Reads a benchmark's questions. `None` for a benchmark that runs generated code where `terms` do not allow it.
///
/// # Errors
/// If a file cannot be read, a question lacks a field, or the host cannot confine code.
pub fn open(benchmark: Benchmark, terms: &Terms) -> Result<Option<Box<dyn Paper>>, EvaluationError> {
    Ok(match benchmark {
        Benchmark::Open(open) => Some(Box::new(Open::read(open, terms)?)),
        Benchmark::Mmlu => Some(Box::new(Mmlu::read(&terms.data.join("mmlu"), terms)?)),
        Benchmark::HumanEval if terms.runs_code => Some(Box::new(HumanEval::read(terms)?)),
        Benchmark::HumanEval => None,
    })
}

/// Returns the benchmark called `name`.
///
/// # Errors
/// A message with the unknown name, all known names, and the most similar one.
pub fn named(name: &str) -> Result<Benchmark, String> {
    name.parse().map_err(|error| {
        let known = Benchmark::ALL.into_iter();
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
        assert_eq!(named("mmlu"), Ok(Benchmark::Mmlu));
        let message = named("mt_bench").unwrap_err();
        assert!(message.contains("`mt_bench`") && message.ends_with("did you mean `mt-bench`?"), "{message}");
    }
}
