//! Set-up of benchmark evaluations: everything that decides an answer except the adapter and the question.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fedreplay_sim::Seed;

use super::open_ended::{Candidates, Decoding, JudgeWording, RatingRule};
use super::{EvalContext, EvaluationError};
use crate::adapter::Adapter;
use crate::data::{Prompts, Tokenizer};
use crate::generation::{CachedModel, EvalProgress, FolderSampling, Generator, Identity, Prompting};
use crate::judge::Judge;
use crate::store::{Digest, Store, key_of};
use crate::training::Trainer;

/// [sequence] -- Number of answers generated at once, and of prompts read at once.
const SLOTS: usize = 16;

/// Options of answering and judging.
#[derive(Default)]
pub struct EvalOptions<'a> {
    pub judge: Option<Judge<'a>>,
    pub wording: JudgeWording,
    /// Whether everything follows FedLLM-Bench's scripts.
    pub is_as_published: bool,
    /// [token] -- Maximum length of an answer, if it is shorter than the benchmark's.
    pub answer_tokens_max: Option<u32>,
}

/// Base model with its tokenizer, prompt template and decoding settings.
pub struct EvalSetup<'a> {
    pub trainer: &'a Trainer,
    pub tokenizer: &'a Tokenizer,
    pub end_tokens: &'a BTreeSet<u32>,
    pub prompts: &'a Prompts,
    /// System prompt of all open-ended questions: the one that training has for all rows.
    pub system_prompt: Option<&'a str>,
    /// Sampling settings of the model's folder.
    pub sampling: FolderSampling,
    /// Seed of sampled answers.
    pub seed: u64,
    pub store: &'a Store,
    pub stop: &'a AtomicBool,
    pub rules: &'a EvalOptions<'a>,
}

impl<'a> EvalSetup<'a> {
    /// Creates a generator of answers with any of the adapters.
    ///
    /// # Errors
    /// If an adapter does not fit the base.
    pub fn generator(&self, adapters: &[Arc<Adapter>]) -> Result<Generator<'a>, EvaluationError> {
        let ends = self.end_tokens.clone();
        Ok(Generator::new(self.trainer, self.tokenizer, ends, adapters, Seed(self.seed), SLOTS)?)
    }

    /// Returns the model with the adapter at index `place` of the generator. `hash` is the hash of that adapter's
    /// content.
    pub fn cached_model<'e, 'g>(
        &'e self,
        generator: &'e Generator<'g>,
        place: Option<usize>,
        hash: Option<Digest>,
        progress: &'e dyn EvalProgress,
    ) -> CachedModel<'e, 'g> {
        let is_grouped = !self.trainer.reads_alone();
        let identity = self.identity(hash);
        CachedModel { generator, adapter: place, identity, is_grouped, store: self.store, stop: self.stop, progress }
    }

    /// Returns the context of an evaluation of this model; `end` is the text of the token that ends an answer.
    pub fn context<'s, 'g>(&'s self, model: &'s CachedModel<'s, 'g>, end: &'s str) -> EvalContext<'s, 'g> {
        let is_as_published = self.rules.is_as_published;
        let candidates = if is_as_published { Candidates::AsRun } else { Candidates::AsWritten };
        let system = self.system_prompt;
        let prompting = match self.prompts {
            Prompts::Template(template) => Prompting::Template { template, system, end },
            Prompts::Chat(template) => Prompting::Chat { template, system },
        };
        EvalContext {
            model,
            prompting,
            decoding: Decoding { candidates, folder: self.sampling },
            answer_tokens_max: self.rules.answer_tokens_max,
            judge: self.rules.judge.as_ref(),
            wording: &self.rules.wording,
            rating_rule: if is_as_published { RatingRule::AsPublished } else { RatingRule::OneToTen },
            is_as_published,
            stop: self.stop,
        }
    }

    /// Returns the text of the token that ends an answer.
    pub fn end(&self) -> String {
        self.tokenizer.token(self.tokenizer.eos()).unwrap_or_default()
    }

    /// Returns the hash of everything that decides an answer except the question: the key of cached answers.
    fn identity(&self, adapter: Option<Digest>) -> Digest {
        // If generation is not batch-invariant, the number of sequences that share a pass may change an answer.
        let at_a_time = if self.trainer.reads_alone() { 0 } else { SLOTS };
        let identity = Identity {
            base: Digest::from(self.trainer.base_hash()),
            adapter,
            tokenizer: Digest::from(self.tokenizer.content_hash()),
            numerics: format!("{:?}, {at_a_time} at a time", self.trainer.numerics_class()),
            end_tokens: self.end_tokens.iter().copied().collect(),
            seed: self.seed,
        };
        key_of("fedreplay examinee v1", &identity).0
    }
}
