//! A model whose answers are cached in the store as they complete, so that an interrupted evaluation can resume.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::generator::LetterTokens;
use super::request::{Answer, LanguageModel, Request};
use super::sampler::likeliest;
use super::{GenerationError, Generator};
use crate::store::{Digest, Key, Store, StoreError, key_of};

/// A model that answers multiple-choice questions by the most likely next token.
pub trait Choices {
    /// Returns, for each prompt, the index of the most likely of `letters` as the next token; the first one on a tie.
    /// `None` for a prompt that does not fit the context.
    ///
    /// # Errors
    /// If the model fails, the letters differ in more than their last token, or the evaluation is interrupted.
    fn choose(&self, prompts: &[String], letters: &[&str]) -> Result<Vec<Option<usize>>, GenerationError>;
}

/// Everything apart from the requests that determines a model's answers.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// Hash of the base model's files.
    pub base: Digest,
    /// Hash of the adapter's content. `None` is the base model alone.
    pub adapter: Option<Digest>,
    /// Hash of everything that determines token ids.
    pub tokenizer: Digest,
    /// Description of the arithmetic, as in the keys of training.
    pub numerics: String,
    pub end_tokens: Vec<u32>,
    pub seed: u64,
}

/// An observer of an evaluation's progress, which is notified of every answer and judgment, computed or cached.
pub trait EvalProgress: Sync {
    /// Announces `answers` more answers or judgments.
    fn expect(&self, answers: usize);
    /// Reports one answer or judgment; `is_new` is false for a cached one.
    fn answered(&self, is_new: bool);
}

/// A model under evaluation, with a cache of its answers in the store.
pub struct CachedModel<'a, 'g> {
    pub generator: &'a Generator<'g>,
    /// Index of the generator's adapter. `None` selects the base model alone.
    pub adapter: Option<usize>,
    pub identity: Digest,
    /// Whether an answer's bits depend on the other requests of its batch. If so, the batch is part of the answer's
    /// key.
    pub is_grouped: bool,
    pub store: &'a Store,
    pub stop: &'a AtomicBool,
    pub progress: &'a dyn EvalProgress,
}

/// The part of a request that determines its answer. Without random draws, the stream has no effect.
#[derive(Serialize)]
struct Asked<'a> {
    request: &'a Request,
    draws: bool,
}

impl CachedModel<'_, '_> {
    fn key(&self, request: &Request, batch: Option<Key>) -> Key {
        let draws = request.sampling.temperature > 0.0;
        // Greedy requests that differ in their streams alone share one stored answer.
        let stream = if draws { request.stream } else { 0 };
        let request = Request { stream, ..request.clone() };
        key_of("fedreplay answer v2", &(self.identity, Asked { request: &request, draws }, batch))
    }

    /// Returns the key of a whole batch if answers depend on it, else `None`.
    fn batch_key(&self, material: &impl Serialize) -> Option<Key> {
        self.is_grouped.then(|| key_of("fedreplay company v1", material))
    }

    fn stored<T: DeserializeOwned>(&self, key: Key) -> Option<T> {
        postcard::from_bytes(&self.store.get(key)?).ok()
    }

    fn keep(&self, key: Key, value: &impl Serialize) -> Result<(), StoreError> {
        self.store.put(key, &postcard::to_stdvec(value).expect("an answer has known lengths"))
    }

    /// Stores a finished value and returns whether to continue. An error of the store is saved in `failure` and ends
    /// the generation: callbacks of the generator cannot return it.
    fn keep_and_go_on(&self, key: Key, value: &impl Serialize, failure: &mut Option<StoreError>) -> ControlFlow<()> {
        match self.keep(key, value) {
            Ok(()) => self.flow(),
            Err(error) => {
                *failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Returns `Break` once the process was told to stop.
    fn flow(&self) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Returns the answers that are in the store, without computing any.
    pub fn known(&self, requests: &[Request]) -> Vec<Option<Answer>> {
        self.found(&self.keys(requests))
    }

    fn keys(&self, requests: &[Request]) -> Vec<Key> {
        let batch = self.batch_key(&requests);
        requests.iter().map(|request| self.key(request, batch)).collect()
    }

    fn choice_keys(&self, prompts: &[String], letters: &LetterTokens) -> Vec<Key> {
        let batch = self.batch_key(&prompts);
        let mut keys = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            // The first version of the key has letters that were looked for directly after the prompt's last token.
            keys.push(if letters.lead.is_empty() {
                key_of("fedreplay choice v1", &(self.identity, prompt, &letters.ids, batch))
            } else {
                key_of("fedreplay choice v2", &(self.identity, prompt, &letters.lead, &letters.ids, batch))
            });
        }
        keys
    }

    /// Returns the stored values of `keys`.
    fn found<T: DeserializeOwned + Clone>(&self, keys: &[Key]) -> Vec<Option<T>> {
        let mut values: Vec<Option<T>> = keys.iter().map(|&key| self.stored(key)).collect();
        // Where answers depend on their batch, a part of a batch would be another batch: all are computed again.
        if self.is_grouped && values.iter().any(Option::is_none) {
            values.fill(None);
        }
        values
    }

    fn note(&self, is_new: bool) {
        self.progress.answered(is_new);
    }
}

/// Returns the indices of the values that still have to be computed.
fn places_of_missing<T>(values: &[Option<T>]) -> Vec<usize> {
    (0..values.len()).filter(|&place| values[place].is_none()).collect()
}

impl LanguageModel for CachedModel<'_, '_> {
    type Error = GenerationError;

    fn generate(&self, requests: &[Request]) -> Result<Vec<Answer>, GenerationError> {
        self.progress.expect(requests.len());
        let keys = self.keys(requests);
        let mut answers: Vec<Option<Answer>> = self.found(&keys);
        for _ in answers.iter().flatten() {
            self.note(false);
        }
        let missing = places_of_missing(&answers);
        let asked: Vec<_> = missing.iter().map(|&place| (self.adapter, &requests[place])).collect();
        // Each answer is stored the moment it completes: an interruption loses only those still in the batch.
        let mut failure = None;
        let computed = self.generator.answer(&asked, &mut |index, answer| {
            self.note(true);
            self.keep_and_go_on(keys[missing[index]], answer, &mut failure)
        });
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        for (place, answer) in missing.into_iter().zip(computed?) {
            answers[place] = Some(answer);
        }
        Ok(answers.into_iter().map(|answer| answer.expect("it was found or computed")).collect())
    }
}

impl Choices for CachedModel<'_, '_> {
    fn choose(&self, prompts: &[String], letters: &[&str]) -> Result<Vec<Option<usize>>, GenerationError> {
        self.progress.expect(prompts.len());
        let letters = self.generator.letters(letters)?;
        let keys = self.choice_keys(prompts, &letters);
        // The outer option says whether the choice is known, the inner one whether the prompt fitted the context.
        let mut chosen: Vec<Option<Option<u32>>> = self.found(&keys);
        for _ in chosen.iter().flatten() {
            self.note(false);
        }
        let missing = places_of_missing(&chosen);
        let mut ids = Vec::with_capacity(missing.len());
        for &place in &missing {
            ids.push(self.generator.encode_for_letters(&prompts[place], &letters)?);
        }
        let mut failure = None;
        let computed = self.generator.next_logits(self.adapter, &ids, &mut |index, logits| {
            let place = missing[index];
            let choice = logits.map(|logits| likeliest(letters.ids.iter().map(|&token| logits[token as usize])));
            chosen[place] = Some(choice);
            self.note(true);
            self.keep_and_go_on(keys[place], &choice, &mut failure)
        });
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        computed?;
        let mut places = Vec::with_capacity(chosen.len());
        for choice in chosen {
            places.push(choice.expect("it was found or computed").map(|place| place as usize));
        }
        Ok(places)
    }
}
