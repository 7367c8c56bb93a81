//! Which benchmarks there are by name, and how each is opened.

use super::EvaluationError;
use super::benchmark::{Paper, Terms};
use super::catalog::Benchmark;
use super::human_eval::HumanEval;
use super::mmlu::Mmlu;
use super::open_ended::Open;

/// Reads a benchmark's questions; none where it would run code that the model writes, and must not.
///
/// # Errors
/// If a file cannot be read, a question lacks a field, or the host does not confine code.
pub fn open(benchmark: Benchmark, terms: &Terms) -> Result<Option<Box<dyn Paper>>, EvaluationError> {
    Ok(match benchmark {
        Benchmark::Open(open) => Some(Box::new(Open::read(open, terms)?)),
        Benchmark::Mmlu => Some(Box::new(Mmlu::read(&terms.data.join("mmlu"), terms)?)),
        Benchmark::HumanEval if terms.runs_code => Some(Box::new(HumanEval::read(terms)?)),
        Benchmark::HumanEval => None,
    })
}

/// The benchmark of this name.
///
/// # Errors
/// What was asked for, the nearest name, and all names.
pub fn named(name: &str) -> Result<Benchmark, String> {
    name.parse().map_err(|error| {
        let distance = |known: &Benchmark| strsim::damerau_levenshtein(name, known.name());
        let nearest = Benchmark::ALL.into_iter().min_by_key(distance).expect("there is a benchmark");
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
