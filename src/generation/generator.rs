//! Texts continued by one base under several adapters.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::GenerationError;
use super::continuation::{Continuation, Endings, Prompt, continue_all};
use super::next::next_logits;
use super::request::{Answer, Ended, Model, Request, Sampling};
use crate::adapter::Adapter;
use crate::data::Tokeniser;
use crate::training::{Decoder, Trainer};

type Result<T> = std::result::Result<T, GenerationError>;

/// Hears of the logits after a prompt; none of a prompt that does not fit.
pub type Visit<'v> = dyn FnMut(usize, Option<&[f32]>) -> ControlFlow<()> + 'v;

/// A base with adapters, its tokenizer, and the seed of sampled tokens.
pub struct Generator<'a> {
    tokeniser: &'a Tokeniser,
    end_tokens: BTreeSet<u32>,
    seed: Seed,
    /// [sequences] Sequences in a pass.
    slots: usize,
    context: usize,
    decoder: RefCell<Decoder<'a>>,
}

impl<'a> Generator<'a> {
    /// A generator of `slots` answers at a time. Whether their number changes bits is [`Trainer::reads_alone`].
    ///
    /// # Errors
    /// If an adapter does not fit the trainer, or LibTorch fails.
    pub fn new(
        trainer: &'a Trainer,
        tokeniser: &'a Tokeniser,
        end_tokens: BTreeSet<u32>,
        adapters: &[Arc<Adapter>],
        seed: Seed,
        slots: usize,
    ) -> Result<Self> {
        let decoder = RefCell::new(Decoder::new(trainer, adapters, slots)?);
        let context = trainer.config().max_positions;
        Ok(Self { tokeniser, end_tokens, seed, slots, context, decoder })
    }

    /// The model under one of the adapters, or the base alone.
    pub fn under(&self, adapter: Option<usize>) -> Adapted<'_, 'a> {
        Adapted { generator: self, adapter }
    }

    /// Answers requests, each under its adapter, in one batch. `done` hears of each answer as it ends, and may break off.
    ///
    /// # Errors
    /// If a text has no tokens, the model cannot be computed, or `done` breaks off.
    pub fn answer(
        &self,
        requests: &[(Option<usize>, &Request)],
        done: &mut dyn FnMut(usize, &Answer) -> ControlFlow<()>,
    ) -> Result<Vec<Answer>> {
        let mut prompts = Vec::with_capacity(requests.len());
        for &(adapter, request) in requests {
            let ids = self.encode(&request.prompt)?;
            prompts.push(Prompt { ids, adapter, sampling: &request.sampling, stream: request.stream });
        }
        let stops = |ids: &[u32], sampling: &Sampling| Ok(first_stop(&self.decode(ids)?, &sampling.stop).is_some());
        let endings = Endings { tokens: &self.end_tokens, stops: &stops, context: self.context };
        let mut answers: Vec<Option<Answer>> = vec![None; requests.len()];
        let mut decoder = self.decoder.borrow_mut();
        continue_all(&mut decoder, self.slots, self.seed, &prompts, &endings, &mut |index, continuation| {
            let answer = self.answered(continuation, prompts[index].sampling)?;
            let flow = done(index, &answer);
            answers[index] = Some(answer);
            Ok(flow)
        })?;
        Ok(answers.into_iter().map(|answer| answer.expect("every prompt is continued to its end")).collect())
    }

    /// Hands the logits of the token after each prompt to `visit`, which may break off; what all prompts begin with is read
    /// once. A prompt that does not fit the context is handed no logits, before the others.
    ///
    /// # Errors
    /// If the model cannot be computed, or `visit` breaks off.
    pub fn next_logits(&self, adapter: Option<usize>, prompts: &[Vec<u32>], visit: &mut Visit) -> Result<()> {
        let fits = |ids: &Vec<u32>| !ids.is_empty() && ids.len() <= self.context;
        let (fitting, others): (Vec<usize>, Vec<usize>) = (0..prompts.len()).partition(|&place| fits(&prompts[place]));
        if others.into_iter().any(|place| visit(place, None).is_break()) {
            return Err(GenerationError::Interrupted);
        }
        let ids: Vec<Vec<u32>> = fitting.iter().map(|&place| prompts[place].clone()).collect();
        let mut decoder = self.decoder.borrow_mut();
        let mut of_fitting = |index: usize, logits: &[f32]| visit(fitting[index], Some(logits));
        next_logits(&mut decoder, self.slots, adapter, &ids, &mut of_fitting)
    }

    /// The token that a letter is, where it follows `Answer:`.
    ///
    /// # Errors
    /// If it is not a token of its own.
    pub fn letter(&self, letter: &str) -> Result<u32> {
        let ids = self.encode(&format!("Answer: {letter}"))?;
        let id = *ids.last().expect("the text has a token");
        let token = self.decode(&[id])?;
        if token.trim() == letter { Ok(id) } else { Err(GenerationError::Letter { letter: letter.into() }) }
    }

    /// A prompt as ids: special tokens written out in it are taken for what they are, as templates of several turns need,
    /// and it begins with BOS where the tokenizer uses one.
    ///
    /// # Errors
    /// The tokenizer's own message.
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>> {
        let encoded = self.tokeniser.encode_with_special_tokens(prompt).map_err(GenerationError::Tokeniser)?;
        let bos = self.tokeniser.bos().filter(|bos| encoded.ids.first() != Some(bos));
        Ok(bos.into_iter().chain(encoded.ids).collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokeniser.decode(ids).map_err(GenerationError::Tokeniser)
    }

    fn answered(&self, continuation: Continuation, sampling: &Sampling) -> Result<Answer> {
        let Continuation { ids, ended } = continuation;
        let is_end = |id: &u32| self.end_tokens.contains(id);
        // An end token is no text, even where the tokenizer does not call it special.
        let spoken = match (ended, ids.split_last()) {
            (Ended::EndOfSequence, Some((last, before))) if is_end(last) => before,
            _ => &ids,
        };
        let mut text = self.decode(spoken)?;
        if ended == Ended::Stop {
            let end = first_stop(&text, &sampling.stop).expect("a stop text ended it");
            text.truncate(end);
        }
        Ok(Answer { text, tokens: ids.len() as u32, ended })
    }
}

/// Where the first stop text begins [byte].
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min()
}

/// A generator under one adapter.
pub struct Adapted<'g, 'a> {
    generator: &'g Generator<'a>,
    adapter: Option<usize>,
}

impl Model for Adapted<'_, '_> {
    type Error = GenerationError;

    fn generate(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        let asked: Vec<_> = requests.iter().map(|request| (self.adapter, request)).collect();
        self.generator.answer(&asked, &mut |_, _| ControlFlow::Continue(()))
    }
}
