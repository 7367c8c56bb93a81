//! Which benchmarks there are. A new one is one entry here, and a folder of its own.

use std::path::Path;

use super::mmlu::{self, Mmlu};
use super::{EvaluationError, Examinee, Sheet};

/// How benchmarks are taken.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Folder of the benchmarks' files.
    pub data: &'a Path,
    /// [questions] Most of a benchmark, spread evenly over it; none is all.
    pub limit: Option<usize>,
    /// [examples] Solved examples before each question of MMLU.
    pub shots: usize,
}

/// What taking a benchmark once will ask for, as far as it is known beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub questions: u64,
    /// [tokens] Tokens that the model reads, of questions that do not depend on answers.
    pub prompt_tokens: u64,
    /// [tokens] Most that it writes.
    pub answer_tokens_max: u64,
}

/// A benchmark whose questions are at hand.
pub trait Paper {
    /// What it will ask for.
    ///
    /// # Errors
    /// If a question has no tokens.
    fn cost(&self, examinee: &Examinee) -> Result<Cost, EvaluationError>;

    /// Puts it to a model.
    ///
    /// # Errors
    /// If the model cannot be computed, or the asking is interrupted: what was answered is kept.
    fn sit(&self, examinee: &Examinee) -> Result<Sheet, EvaluationError>;
}

/// A benchmark by its name.
pub struct Benchmark {
    /// On the command line, in scenarios and in tables.
    pub name: &'static str,
    /// One line for help.
    pub about: &'static str,
    /// Reads its questions.
    pub open: fn(&Terms) -> Result<Box<dyn Paper>, EvaluationError>,
}

/// All of them.
pub const BENCHMARKS: &[Benchmark] = &[Benchmark {
    name: "mmlu",
    about: "57 subjects, multiple choice, by the likeliest letter",
    open: |terms| Ok(Box::new(Mmlu::open(&terms.data.join("mmlu"), terms)?)),
}];

impl Benchmark {
    /// The benchmark of this name.
    ///
    /// # Errors
    /// What was asked for, the nearest name, and all names.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        if let Some(found) = BENCHMARKS.iter().find(|known| known.name == name) {
            return Ok(found);
        }
        let names: Vec<&str> = BENCHMARKS.iter().map(|known| known.name).collect();
        let nearest = names.iter().min_by_key(|known| strsim::damerau_levenshtein(name, known));
        let nearest = nearest.expect("there is a benchmark");
        Err(format!("failed to find the benchmark `{name}`: did you mean `{nearest}`? There are {}", names.join(", ")))
    }
}

impl Mmlu {
    fn open(folder: &Path, terms: &Terms) -> Result<Self, EvaluationError> {
        let subjects = mmlu::read(folder, terms.shots)?;
        Ok(Self { subjects: terms.limit.map_or(subjects.clone(), |limit| mmlu::limited(subjects, limit)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_benchmark_is_answered_with_the_nearest() {
        assert_eq!(Benchmark::named("mmlu").map(|found| found.name), Ok("mmlu"));
        let message = Benchmark::named("mmul").err().expect("there is no such benchmark");
        assert!(message.contains("`mmul`: did you mean `mmlu`?"), "{message}");
    }
}
