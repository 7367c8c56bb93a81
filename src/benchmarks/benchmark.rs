//! The interface of a benchmark: the options and context that it receives, its estimated cost, and how it is run.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::open_ended::{Decoding, JudgeWording, RatingRule, Unparsable};
use super::{BenchmarkResult, EvaluationError};
use crate::generation::{Answer, CachedModel, Prompting, Request};
use crate::judge::{CostEstimate, Judge};
use crate::store::Digest;

/// Options that select the part of a benchmark to run.
#[derive(Clone, Copy, Debug)]
pub struct BenchmarkOptions<'a> {
    /// Folder of the benchmarks' files.
    pub data: &'a Path,
    /// Maximum number of questions per benchmark, spread evenly over it. `None` selects all.
    pub limit: Option<usize>,
    /// Number of solved examples before each question of MMLU.
    pub shots: usize,
    /// Number of programs to generate for each problem of HumanEval.
    pub samples: usize,
    /// Whether code that the model writes may be run, in a sandbox.
    pub runs_code: bool,
}

/// The context of one evaluation: a model, its prompts and decoding, and the judge.
pub struct EvalContext<'a, 'g> {
    pub model: &'a CachedModel<'a, 'g>,
    /// Template that turns a dialog into a prompt.
    pub prompting: Prompting<'a>,
    pub decoding: Decoding,
    /// [token] -- Maximum length of an answer, if it is shorter than the benchmark's.
    pub answer_tokens_max: Option<u32>,
    /// The judge. `None` leaves answers that need one without a score.
    pub judge: Option<&'a Judge<'a>>,
    pub wording: &'a JudgeWording,
    pub rating_rule: RatingRule,
    /// Whether means treat unparsable judgments as the published scripts do, benchmark by benchmark. Otherwise they are
    /// left out everywhere.
    pub is_as_published: bool,
    pub stop: &'a AtomicBool,
}

impl EvalContext<'_, '_> {
    /// Returns how a judgment without a rating enters the mean.
    pub fn unparsable(&self, benchmark: super::catalog::OpenEnded) -> Unparsable {
        if self.is_as_published { Unparsable::published(benchmark) } else { Unparsable::Dropped }
    }

    /// Returns `requests` with their maximum lengths reduced to [`Self::answer_tokens_max`].
    pub(super) fn capped(&self, mut requests: Vec<Request>) -> Vec<Request> {
        let longest = self.answer_tokens_max.unwrap_or(u32::MAX);
        for request in &mut requests {
            request.sampling.max_tokens = request.sampling.max_tokens.min(longest);
        }
        requests
    }
}

/// The work that running a benchmark will take, as far as it is known in advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub questions: u64,
    /// [token] -- Tokens that the model reads, for prompts that do not depend on answers.
    pub prompt_tokens: u64,
    /// [token] -- Maximum number of tokens that the model generates. Cached answers count 0.
    pub answer_tokens_max: u64,
    /// Upper bound of the judge's work.
    pub judge: CostEstimate,
}

impl Cost {
    /// Adds the tokens that `model` reads and generates for `requests`. Returns the cached answers, and `None` for the
    /// others.
    pub(super) fn add(
        &mut self,
        requests: &[Request],
        model: &CachedModel,
    ) -> Result<Vec<Option<Answer>>, EvaluationError> {
        let known = model.known(requests);
        for (request, answer) in requests.iter().zip(&known) {
            self.prompt_tokens += model.generator.encode(&request.prompt)?.len() as u64;
            self.answer_tokens_max += if answer.is_some() { 0 } else { u64::from(request.sampling.max_tokens) };
        }
        Ok(known)
    }

    /// Returns the sum of two costs.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            questions: self.questions + other.questions,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            answer_tokens_max: self.answer_tokens_max + other.answer_tokens_max,
            judge: self.judge.plus(other.judge),
        }
    }
}

/// A benchmark with its questions loaded.
pub trait Benchmark: Send + Sync {
    /// Returns the hash of all questions, and of everything shown with them.
    fn content(&self) -> Digest;

    /// Estimates the work of running it.
    ///
    /// # Errors
    /// If a question has no tokens, or a chat template refuses it.
    fn cost(&self, context: &EvalContext) -> Result<Cost, EvaluationError>;

    /// Runs it: the model answers, and the judge rates where the benchmark has one.
    ///
    /// # Errors
    /// If the model fails or the evaluation is interrupted. Completed answers stay in the store.
    fn evaluate(&self, context: &EvalContext) -> Result<BenchmarkResult, EvaluationError>;
}
