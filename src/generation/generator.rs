//! Text generation by one base model with several adapters.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::GenerationError;
use super::continuation::{Continuation, Endings, Prompt, continue_all};
use super::fences::FencedBlock;
use super::next::next_logits;
use super::request::{Answer, Ended, LanguageModel, PromptText, Request, Sampling};
use crate::adapter::Adapter;
use crate::data::Tokenizer;
use crate::training::{Decoder, Trainer};

type Result<T> = std::result::Result<T, GenerationError>;

/// A callback on the logits after a prompt, with the prompt's index. `None` for a prompt that does not fit the context.
pub type Visit<'v> = dyn FnMut(usize, Option<&[f32]>) -> ControlFlow<()> + 'v;

/// The tokens by which letters continue a prompt that ends with `Answer:`. They differ in their last token alone, so that
/// after the others the likeliest last token is the likeliest letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterTokens {
    /// The first letter.
    first: String,
    /// The tokens between those of the prompt and the letters' own. Empty where a letter and its space are one token; the
    /// token of the space where it is a token of its own.
    pub lead: Vec<u32>,
    /// The last token of each letter.
    pub ids: Vec<u32>,
}

/// A base model with adapters, its tokenizer, and the seed of sampled tokens.
pub struct Generator<'a> {
    tokenizer: &'a Tokenizer,
    end_tokens: BTreeSet<u32>,
    seed: Seed,
    /// Number of sequences in a pass.
    slots: usize,
    context: usize,
    decoder: RefCell<Decoder<'a>>,
}

impl<'a> Generator<'a> {
    /// Creates a generator of `slots` answers at a time. [`Trainer::reads_alone`] tells whether their number affects
    /// bits.
    ///
    /// # Errors
    /// If an adapter does not fit the trainer, or LibTorch fails.
    pub fn new(
        trainer: &'a Trainer,
        tokenizer: &'a Tokenizer,
        end_tokens: BTreeSet<u32>,
        adapters: &[Arc<Adapter>],
        seed: Seed,
        slots: usize,
    ) -> Result<Self> {
        let decoder = RefCell::new(Decoder::new(trainer, adapters, slots)?);
        let context = trainer.config().max_positions;
        Ok(Self { tokenizer, end_tokens, seed, slots, context, decoder })
    }

    /// Returns the model with one of the adapters, or the base model alone.
    pub fn under(&self, adapter: Option<usize>) -> Adapted<'_, 'a> {
        Adapted { generator: self, adapter }
    }

    /// Answers requests, each with its adapter, in one batch. Calls `done` on each answer as it completes; `done` may
    /// break off. Returns the answers in the order of the requests.
    ///
    /// # Errors
    /// If a text cannot be encoded, the model fails, or `done` breaks off.
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
        let endings = Endings {
            tokens: &self.end_tokens,
            // A stop text may extend over several tokens, so the whole answer is decoded.
            stops: &|prompt, ids| {
                let text = self.decode_after(&prompt.ids, ids)?;
                Ok(first_stop(&text, prompt.sampling).is_some())
            },
            context: self.context,
        };
        let mut answers: Vec<Option<Answer>> = vec![None; requests.len()];
        let mut decoder = self.decoder.borrow_mut();
        continue_all(&mut decoder, self.slots, self.seed, &prompts, &endings, &mut |index, continuation| {
            let answer = self.answer_of(continuation, &prompts[index])?;
            let flow = done(index, &answer);
            answers[index] = Some(answer);
            Ok(flow)
        })?;
        Ok(answers.into_iter().map(|answer| answer.expect("every prompt is continued to its end")).collect())
    }

    /// Calls `visit` on the logits of the token after each prompt; `visit` may break off. The common beginning of the
    /// prompts is read once. Prompts that do not fit the context come first, without logits.
    ///
    /// # Errors
    /// If the model fails, or `visit` breaks off.
    pub fn next_logits(&self, adapter: Option<usize>, prompts: &[Vec<u32>], visit: &mut Visit) -> Result<()> {
        let (fitting, others): (Vec<usize>, Vec<usize>) = (0..prompts.len()).partition(|&place| {
            let length = prompts[place].len();
            length > 0 && length <= self.context
        });
        for place in others {
            if visit(place, None).is_break() {
                return Err(GenerationError::Interrupted);
            }
        }
        let ids: Vec<Vec<u32>> = fitting.iter().map(|&place| prompts[place].clone()).collect();
        let mut decoder = self.decoder.borrow_mut();
        next_logits(&mut decoder, self.slots, adapter, &ids, &mut |index, logits| visit(fitting[index], Some(logits)))
    }

    /// Returns the tokens by which one of `letters` follows `Answer:` after a space.
    ///
    /// # Errors
    /// If a letter is not a single token, or the letters follow different tokens.
    pub fn letters(&self, letters: &[&str]) -> Result<LetterTokens> {
        let prompt = self.encode_raw("Answer:")?;
        let mut context = None;
        let mut ids = Vec::with_capacity(letters.len());
        for &letter in letters {
            let refused = || GenerationError::Letter { letter: letter.into() };
            // Tokenizers encode a letter after a space differently from a letter alone.
            let mut before = self.encode_raw(&format!("Answer: {letter}"))?;
            let id = before.pop().expect("the text has a token");
            let token = self.tokenizer.decode(&[id]).map_err(GenerationError::Tokenizer)?;
            if token.trim() != letter || *context.get_or_insert_with(|| before.clone()) != before {
                return Err(refused());
            }
            ids.push(id);
        }
        let context = context.unwrap_or_default();
        let common = prompt.iter().zip(&context).take_while(|(a, b)| a == b).count();
        Ok(LetterTokens {
            first: letters.first().copied().unwrap_or_default().into(),
            lead: context[common..].to_vec(),
            ids,
        })
    }

    /// Encodes a prompt that ends with `Answer:`, up to where the letters differ.
    ///
    /// # Errors
    /// If the letter's tokens are others than after `Answer:` alone, or the tokenizer fails.
    pub fn encode_for_letters(&self, prompt: &str, letters: &LetterTokens) -> Result<Vec<u32>> {
        let mut ids = self.encode_raw(&format!("{prompt} {}", letters.first))?;
        let last = ids.pop();
        if last != letters.ids.first().copied() || !ids.ends_with(&letters.lead) {
            return Err(GenerationError::Letter { letter: letters.first.clone() });
        }
        Ok(ids)
    }

    /// Encodes a prompt.
    ///
    /// # Errors
    /// The tokenizer's message.
    pub fn encode(&self, prompt: &PromptText) -> Result<Vec<u32>> {
        match prompt {
            PromptText::Raw(text) => self.encode_raw(text),
            PromptText::Chat(text) => Ok(self.tokenizer.encode_chat(text).map_err(GenerationError::Tokenizer)?.ids),
            PromptText::Turns { turns, .. } => {
                let texts: Vec<&str> = turns.iter().map(String::as_str).collect();
                self.tokenizer.encode_turns(&texts).map_err(GenerationError::Tokenizer)
            }
        }
    }

    /// Encodes a text as [`PromptText::Raw`]. BOS is prepended unless the text begins with it.
    ///
    /// # Errors
    /// The tokenizer's message.
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>> {
        let encoded = self.tokenizer.encode_with_special_tokens(text).map_err(GenerationError::Tokenizer)?;
        let bos = self.tokenizer.bos().filter(|bos| encoded.ids.first() != Some(bos));
        Ok(bos.into_iter().chain(encoded.ids).collect())
    }

    fn decode_after(&self, prompt: &[u32], ids: &[u32]) -> Result<String> {
        self.tokenizer.decode_after(prompt, ids).map_err(GenerationError::Tokenizer)
    }

    /// Decodes a continuation, without its end token and stop text.
    fn answer_of(&self, continuation: Continuation, prompt: &Prompt) -> Result<Answer> {
        let Continuation { ids, ended } = continuation;
        // An end token is not text, even if the tokenizer does not mark it as special.
        let text_ids = match (ended, ids.split_last()) {
            (Ended::EndOfSequence, Some((last, before))) if self.end_tokens.contains(last) => before,
            _ => &ids,
        };
        let mut text = self.decode_after(&prompt.ids, text_ids)?;
        match ended {
            Ended::Stop => {
                let end = first_stop(&text, prompt.sampling).expect("a stop text ended it");
                text.truncate(end);
            }
            Ended::MaxTokens | Ended::ContextFull => text.truncate(without_cut_character(&text).len()),
            Ended::EndOfSequence => {}
        }
        Ok(Answer { text, tokens: ids.len() as u32, ended })
    }
}

/// [byte] -- Returns the position of the first stop text that counts.
fn first_stop(text: &str, sampling: &Sampling) -> Option<usize> {
    let blocks = if sampling.spares_code_blocks { FencedBlock::all(text) } else { vec![] };
    let mut first: Option<usize> = None;
    for stop in sampling.stop.iter().filter(|stop| !stop.is_empty()) {
        let is_in_block = |start: usize| blocks.iter().any(|block| block.whole.contains(&(start + stop.len() - 1)));
        let found = text.match_indices(stop.as_str()).map(|(start, _)| start).find(|&start| !is_in_block(start));
        first = [first, found].into_iter().flatten().min();
    }
    first
}

/// Returns the text without a last character that the length limit cut. A decoder writes U+FFFD once for all bytes of an
/// incomplete character, or once for each of its at most three bytes.
fn without_cut_character(text: &str) -> &str {
    let mut text = text;
    for _ in 0..3 {
        text = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(text);
    }
    text
}

/// A generator with one selected adapter.
pub struct Adapted<'g, 'a> {
    generator: &'g Generator<'a>,
    adapter: Option<usize>,
}

impl LanguageModel for Adapted<'_, '_> {
    type Error = GenerationError;

    fn generate(&self, requests: &[Request]) -> Result<Vec<Answer>> {
        let asked: Vec<_> = requests.iter().map(|request| (self.adapter, request)).collect();
        self.generator.answer(&asked, &mut |_, _| ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_texts_in_a_code_block_do_not_count_where_blocks_are_spared() {
        let stop = vec!["\ndef".to_owned(), "\n#".to_owned()];
        let sampling = |spares_code_blocks| Sampling {
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            max_tokens: 1,
            stop: stop.clone(),
            spares_code_blocks,
        };
        for (text, anywhere, outside) in [
            ("```python\ndef f(x):\n# x\n", Some(9), None),
            ("```python\ndef f(x):\n    return x\n```\nSo.", Some(9), None),
            ("```python\ndef f(x):\n```\ndef g", Some(9), Some(23)),
            ("    return x\ndef g", Some(12), Some(12)),
            ("    return x\n", None, None),
        ] {
            assert_eq!(first_stop(text, &sampling(false)), anywhere, "{text:?}");
            assert_eq!(first_stop(text, &sampling(true)), outside, "{text:?}");
        }
    }

    #[test]
    fn a_character_that_the_limit_cut_is_left_out() {
        assert_eq!(without_cut_character("a\u{fffd}"), "a");
        assert_eq!(without_cut_character("a\u{fffd}\u{fffd}\u{fffd}"), "a");
        assert_eq!(without_cut_character("a\u{fffd}b"), "a\u{fffd}b");
        assert_eq!(without_cut_character("é"), "é");
    }
}
