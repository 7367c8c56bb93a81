//! Where models are examined: everything that decides an answer beside the adapter, the questions and the seed of each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fedreplay_sim::Seed;

use super::open_ended::{Candidates, Decoding, JudgeWording, RatingRange};
use super::{EvaluationError, Sitting};
use crate::adapter::Adapter;
use crate::data::{Prompts, Tokeniser};
use crate::generation::{Examinee, FolderSampling, Generator, Identity, Prompting, Witness};
use crate::judge::Judge;
use crate::store::{Digest, Store, key_of};
use crate::training::Trainer;

/// [sequences] Answers generated at a time, and prompts read at a time.
const SLOTS: usize = 16;

/// How benchmarks are taken and judged.
#[derive(Default)]
pub struct Rules<'a> {
    pub judge: Option<Judge<'a>>,
    pub wording: JudgeWording,
    /// Whether all is done as in FedLLM-Bench's scripts.
    pub is_as_published: bool,
    /// [tokens] Longest answer, where it is shorter than the benchmark's.
    pub answer_tokens_max: Option<u32>,
}

/// A base with its tokenizer, and how it is asked.
pub struct Room<'a> {
    pub trainer: &'a Trainer,
    pub tokeniser: &'a Tokeniser,
    pub end_tokens: &'a BTreeSet<u32>,
    pub prompts: &'a Prompts,
    /// What the model's folder says of drawing.
    pub sampling: FolderSampling,
    /// Of sampled answers.
    pub seed: u64,
    pub store: &'a Store,
    pub stop: &'a AtomicBool,
    pub rules: &'a Rules<'a>,
}

impl<'a> Room<'a> {
    /// What generates answers, under any of the adapters.
    ///
    /// # Errors
    /// If an adapter does not fit the base.
    pub fn generator(&self, adapters: &[Arc<Adapter>]) -> Result<Generator<'a>, EvaluationError> {
        let ends = self.end_tokens.clone();
        Ok(Generator::new(self.trainer, self.tokeniser, ends, adapters, Seed(self.seed), SLOTS)?)
    }

    /// The model under the adapter at `place` of the generator's; `hash` is of that adapter's content.
    pub fn examinee<'e, 'g>(
        &'e self,
        generator: &'e Generator<'g>,
        place: Option<usize>,
        hash: Option<Digest>,
        witness: &'e dyn Witness,
    ) -> Examinee<'e, 'g> {
        let is_grouped = !self.trainer.reads_alone();
        let identity = self.identity(hash);
        Examinee { generator, adapter: place, identity, is_grouped, store: self.store, stop: self.stop, witness }
    }

    /// The model before a benchmark; `end` is the text of the token that ends an answer.
    pub fn sitting<'s, 'g>(&'s self, examinee: &'s Examinee<'s, 'g>, end: &'s str) -> Sitting<'s, 'g> {
        let is_as_published = self.rules.is_as_published;
        let candidates = if is_as_published { Candidates::AsRun } else { Candidates::AsWritten };
        let prompting = match self.prompts {
            Prompts::Template(template) => Prompting::Template { template, end },
            Prompts::Chat(template) => Prompting::Chat(template),
        };
        Sitting {
            examinee,
            prompting,
            decoding: Decoding { candidates, folder: self.sampling },
            answer_tokens_max: self.rules.answer_tokens_max,
            judge: self.rules.judge.as_ref(),
            wording: &self.rules.wording,
            range: if is_as_published { RatingRange::Any } else { RatingRange::OneToTen },
            is_as_published,
            stop: self.stop,
        }
    }

    /// The text of the token that ends an answer.
    pub fn end(&self) -> String {
        self.tokeniser.token(self.tokeniser.eos()).unwrap_or_default()
    }

    fn identity(&self, adapter: Option<Digest>) -> Digest {
        let at_a_time = if self.trainer.reads_alone() { 0 } else { SLOTS };
        let identity = Identity {
            base: Digest(*self.trainer.base_hash().as_bytes()),
            adapter,
            tokenizer: Digest(*self.tokeniser.content_hash().as_bytes()),
            numerics: format!("{:?}, {at_a_time} at a time", self.trainer.numerics_class()),
            end_tokens: self.end_tokens.iter().copied().collect(),
            seed: self.seed,
        };
        key_of("fedreplay examinee v1", &identity).0
    }
}
