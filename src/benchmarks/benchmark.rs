//! What every benchmark provides, and what it is given: its questions, its cost, and the model that it is put to.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::open_ended::{Decoding, JudgeWording, RatingRange, Unparsable};
use super::{EvaluationError, Sheet};
use crate::generation::{Answer, Examinee, Prompting, Request};
use crate::judge::{Estimate, Judge};
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
    /// [tokens] Longest answer, where it is shorter than the benchmark's.
    pub answer_tokens_max: Option<u32>,
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
    pub fn unparsable(&self, benchmark: super::catalog::OpenEnded) -> Unparsable {
        if self.is_as_published { Unparsable::published(benchmark) } else { Unparsable::Dropped }
    }

    /// The requests with no longer answers than are wanted.
    pub(super) fn capped(&self, mut requests: Vec<Request>) -> Vec<Request> {
        let longest = self.answer_tokens_max.unwrap_or(u32::MAX);
        requests.iter_mut().for_each(|request| request.sampling.max_tokens = request.sampling.max_tokens.min(longest));
        requests
    }
}

/// What taking a benchmark will ask for, as far as it is known beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub questions: u64,
    /// [tokens] Tokens that the model reads, of questions that do not depend on answers.
    pub prompt_tokens: u64,
    /// [tokens] Most that it writes; answers that are in the store count nothing.
    pub answer_tokens_max: u64,
    /// The most that the judge is asked.
    pub judge: Estimate,
}

impl Cost {
    /// Adds what the model reads and writes for requests; returns their answers as far as they are known.
    pub(super) fn add(
        &mut self,
        requests: &[Request],
        examinee: &Examinee,
    ) -> Result<Vec<Option<Answer>>, EvaluationError> {
        let known = examinee.known(requests);
        for (request, answer) in requests.iter().zip(&known) {
            self.prompt_tokens += examinee.generator.encode(&request.prompt)?.len() as u64;
            self.answer_tokens_max += if answer.is_some() { 0 } else { u64::from(request.sampling.max_tokens) };
        }
        Ok(known)
    }

    /// Both together.
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
