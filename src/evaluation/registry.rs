//! How each benchmark is opened and put to a model. A new one is a line here, beside its name in the catalog.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::benchmark::{Benchmark, Decoding, JudgeWording, Prompting, RatingRange, Unparsable};
use super::code::HumanEval;
use super::judge::{Judge, Usage};
use super::mmlu::Mmlu;
use super::open::Open;
use super::{EvaluationError, Examinee, Sheet};
use crate::store::Digest;

/// Which part of a benchmark is taken, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Folder of the benchmarks' files.
    pub data: &'a Path,
    /// [questions] Most of a benchmark, spread evenly over it; none is all.
    pub limit: Option<usize>,
    /// [examples] Solved examples before each question of MMLU.
    pub shots: usize,
    /// [samples] Programs that are asked for each problem of HumanEval.
    pub samples: usize,
    /// Whether code that the model writes may be run, in a sandbox.
    pub runs_code: bool,
}

/// A model before a benchmark, and who judges.
pub struct Sitting<'a, 'g> {
    pub examinee: &'a Examinee<'a, 'g>,
    /// How a dialogue is put to the model.
    pub prompting: Prompting<'a>,
    pub decoding: Decoding,
    /// None leaves answers that need one without a score.
    pub judge: Option<&'a Judge<'a>>,
    pub wording: &'a JudgeWording,
    /// Which numbers of a judgement are ratings.
    pub range: RatingRange,
    /// Whether means follow the published scripts where those differ from each other; else what is unparsable is left out.
    pub is_as_published: bool,
    pub stop: &'a AtomicBool,
}

impl Sitting<'_, '_> {
    /// What becomes of a judgement without a rating.
    pub fn unparsable(&self, benchmark: super::benchmark::OpenEnded) -> Unparsable {
        if self.is_as_published { Unparsable::published(benchmark) } else { Unparsable::Dropped }
    }
}

/// What taking a benchmark once will ask for, as far as it is known beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub questions: u64,
    /// [tokens] Tokens that the model reads, of questions that do not depend on answers.
    pub prompt_tokens: u64,
    /// [tokens] Most that it writes.
    pub answer_tokens_max: u64,
    /// What the judge is asked, estimated with answers of no length: each token of an answer adds one to its prompts.
    pub judge: Usage,
}

/// A benchmark whose questions are at hand.
pub trait Paper: Send + Sync {
    /// The hash of all questions, and of what is shown with them.
    fn content(&self) -> Digest;

    /// What it will ask for.
    ///
    /// # Errors
    /// If a question has no tokens, or a chat template refuses it.
    fn cost(&self, sitting: &Sitting) -> Result<Cost, EvaluationError>;

    /// Puts it to a model, and its answers to the judge.
    ///
    /// # Errors
    /// If the model cannot be computed, or the asking is interrupted: what was answered is kept.
    fn sit(&self, sitting: &Sitting) -> Result<Sheet, EvaluationError>;
}

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
