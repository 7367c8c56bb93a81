//! A model whose answers are kept under their keys as they come: nothing is computed twice, and nothing finished is lost.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::request::{Answer, Model, Request};
use super::{GenerationError, Generator};
use crate::store::{Digest, Key, Store, StoreError, key_of};

/// Chooses among letters: the likeliest next token after each prompt.
pub trait Choices {
    /// The place of the likeliest of `letters`, of equally likely ones the first; none where a prompt does not fit the
    /// context.
    ///
    /// # Errors
    /// If the model cannot be computed, a letter is no token of its own, or the asking is interrupted.
    fn choose(&self, prompts: &[String], letters: &[&str]) -> Result<Vec<Option<usize>>, GenerationError>;
}

/// What decides a model's answers beside the requests.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// Hash of the base's files.
    pub base: Digest,
    /// Hash of the adapter's content; none is the base alone.
    pub adapter: Option<Digest>,
    /// Hash of all that decides ids.
    pub tokenizer: Digest,
    /// The arithmetic, as keys of training name it.
    pub numerics: String,
    pub end_tokens: Vec<u32>,
    pub seed: u64,
}

/// Hears of every answer and judgement, made now or found.
pub trait Witness: Sync {
    /// So many more will be asked for.
    fn expect(&self, answers: usize);
    /// One is at hand; `is_new` says that it was made now.
    fn answered(&self, is_new: bool);
}

/// One model under evaluation.
pub struct Examinee<'a, 'g> {
    pub generator: &'a Generator<'g>,
    /// Which of the generator's adapters.
    pub adapter: Option<usize>,
    pub identity: Digest,
    /// Whether an answer's bits depend on what is asked beside it: then the batch is part of its key.
    pub is_grouped: bool,
    pub store: &'a Store,
    pub stop: &'a AtomicBool,
    pub witness: &'a dyn Witness,
}

/// The part of a request that decides its answer: without draws, a stream decides nothing.
#[derive(Serialize)]
struct Asked<'a> {
    request: &'a Request,
    draws: bool,
}

impl Examinee<'_, '_> {
    fn key(&self, request: &Request, company: Option<Key>) -> Key {
        let draws = request.sampling.temperature > 0.0;
        let stream = if draws { request.stream } else { 0 };
        let request = Request { stream, ..request.clone() };
        key_of("fedreplay answer v1", &(self.identity, Asked { request: &request, draws }, company))
    }

    /// What an answer shares with those asked beside it, where that matters.
    fn company(&self, material: &impl Serialize) -> Option<Key> {
        self.is_grouped.then(|| key_of("fedreplay company v1", material))
    }

    fn stored<T: DeserializeOwned>(&self, key: Key) -> Option<T> {
        postcard::from_bytes(&self.store.get(key)?).ok()
    }

    fn keep(&self, key: Key, value: &impl Serialize) -> Result<(), StoreError> {
        self.store.put(key, &postcard::to_stdvec(value).expect("an answer has known lengths"))
    }

    /// Ends the asking where the process was told to stop.
    fn flow(&self) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// What is known of the answers without computing any.
    pub fn known(&self, requests: &[Request]) -> Vec<Option<Answer>> {
        self.found(&self.keys(requests))
    }

    fn keys(&self, requests: &[Request]) -> Vec<Key> {
        let company = self.company(&requests);
        requests.iter().map(|request| self.key(request, company)).collect()
    }

    fn found(&self, keys: &[Key]) -> Vec<Option<Answer>> {
        let mut answers: Vec<Option<Answer>> = keys.iter().map(|&key| self.stored(key)).collect();
        if self.is_grouped && answers.iter().any(Option::is_none) {
            // A part of a batch is another batch.
            answers.fill(None);
        }
        answers
    }

    fn note(&self, is_new: bool) {
        self.witness.answered(is_new);
    }
}

impl Model for Examinee<'_, '_> {
    type Error = GenerationError;

    fn generate(&self, requests: &[Request]) -> Result<Vec<Answer>, GenerationError> {
        self.witness.expect(requests.len());
        let keys = self.keys(requests);
        let mut answers = self.found(&keys);
        answers.iter().flatten().for_each(|_| self.note(false));
        let missing: Vec<usize> = (0..requests.len()).filter(|&place| answers[place].is_none()).collect();
        let asked: Vec<_> = missing.iter().map(|&place| (self.adapter, &requests[place])).collect();
        let mut failure = None;
        let computed = self.generator.answer(&asked, &mut |index, answer| {
            self.note(true);
            match self.keep(keys[missing[index]], answer) {
                Ok(()) => self.flow(),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
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

impl Choices for Examinee<'_, '_> {
    fn choose(&self, prompts: &[String], letters: &[&str]) -> Result<Vec<Option<usize>>, GenerationError> {
        self.witness.expect(prompts.len());
        let letter_ids = letters.iter().map(|letter| self.generator.letter(letter)).collect::<Result<Vec<_>, _>>()?;
        let company = self.company(&prompts);
        let key = |prompt: &String| key_of("fedreplay choice v1", &(self.identity, prompt, &letter_ids, company));
        let keys: Vec<Key> = prompts.iter().map(key).collect();
        let mut chosen: Vec<Option<Option<u32>>> = keys.iter().map(|&key| self.stored(key)).collect();
        if self.is_grouped && chosen.iter().any(Option::is_none) {
            chosen.fill(None);
        }
        chosen.iter().flatten().for_each(|_| self.note(false));
        let missing: Vec<usize> = (0..prompts.len()).filter(|&place| chosen[place].is_none()).collect();
        let encode = |&place: &usize| self.generator.encode(&prompts[place]);
        let ids = missing.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let mut failure = None;
        self.generator
            .next_logits(self.adapter, &ids, &mut |index, logits| {
                let place = missing[index];
                let choice = logits.map(|logits| likeliest(logits, &letter_ids));
                chosen[place] = Some(choice);
                self.note(true);
                match self.keep(keys[place], &choice) {
                    Ok(()) => self.flow(),
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
            .or_else(|error| failure.take().map_or(Err(error), |failure| Err(failure.into())))?;
        let known = |choice: Option<Option<u32>>| choice.expect("it was found or computed").map(|place| place as usize);
        Ok(chosen.into_iter().map(known).collect())
    }
}

/// The place of the token with the largest logit, the first of several.
fn likeliest(logits: &[f32], tokens: &[u32]) -> u32 {
    let mut best = 0;
    for (place, &token) in tokens.iter().enumerate() {
        if logits[token as usize] > logits[tokens[best] as usize] {
            best = place;
        }
    }
    best as u32
}
