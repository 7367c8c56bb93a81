//! Continuous batching: prompts, as token ids, are continued in slots. A slot whose sequence ends takes the next prompt
//! at once.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

use fedreplay_sim::{Purpose, Seed, Stream};

use super::request::{Ended, Sampling};
use super::{GenerationError, sampler};
use crate::training::{Decoder, Piece};

/// [token] -- Maximum part of a prompt that is read in one pass, so that a long one neither fills memory nor delays the
/// other slots.
const PROMPT_PIECE: usize = 512;

/// A prompt to be continued.
pub struct Prompt<'a> {
    pub ids: Vec<u32>,
    pub adapter: Option<usize>,
    pub sampling: &'a Sampling,
    /// Identifier of the random stream.
    pub stream: u64,
}

/// The continuation of a prompt.
pub struct Continuation {
    /// The generated tokens, including the one that ended it.
    pub ids: Vec<u32>,
    pub ended: Ended,
}

/// A function that returns whether the tokens generated after a prompt contain one of its stop texts.
pub type Stops<'a> = dyn Fn(&Prompt, &[u32]) -> Result<bool, GenerationError> + 'a;

/// Conditions that end a sequence, apart from its maximum length.
pub struct Endings<'a> {
    pub tokens: &'a BTreeSet<u32>,
    pub stops: &'a Stops<'a>,
    /// [token] -- Size of the model's context.
    pub context: usize,
}

/// A sequence in a slot.
struct Underway {
    /// Index of its prompt.
    prompt: usize,
    /// Tokens that the model has not read yet.
    unread: VecDeque<u32>,
    ids: Vec<u32>,
    draws: Stream,
}

/// Continues every prompt. Calls `done` on each continuation as it ends, in the order of their ends; `done` may break
/// off.
///
/// # Errors
/// If the model fails, or [`GenerationError::Interrupted`] if `done` breaks off.
pub fn continue_all(
    decoder: &mut Decoder,
    slots: usize,
    seed: Seed,
    prompts: &[Prompt],
    endings: &Endings,
    done: &mut dyn FnMut(usize, Continuation) -> Result<ControlFlow<()>, GenerationError>,
) -> Result<(), GenerationError> {
    let mut waiting = 0..prompts.len();
    let mut sequences: Vec<Option<Underway>> = (0..slots).map(|_| None).collect();
    loop {
        // Fills the free slots. A prompt that needs no generation is reported at once and takes no slot.
        for (slot, sequence) in sequences.iter_mut().enumerate() {
            while sequence.is_none() {
                let Some(next) = waiting.next() else { break };
                match at_once(&prompts[next], endings) {
                    Some(ended) => tell(done(next, Continuation { ids: vec![], ended })?)?,
                    None => {
                        // The slot's cache still holds the sequence that ended in it.
                        decoder.truncate(slot, 0);
                        *sequence = Some(Underway::new(next, &prompts[next], seed));
                    }
                }
            }
        }
        let active: Vec<usize> = (0..slots).filter(|&slot| sequences[slot].is_some()).collect();
        if active.is_empty() {
            return Ok(());
        }
        for (sequence, ended) in step(decoder, &active, &mut sequences, prompts, endings)? {
            tell(done(sequence.prompt, Continuation { ids: sequence.ids, ended })?)?;
        }
    }
}

/// Turns a break of the caller into [`GenerationError::Interrupted`].
fn tell(flow: ControlFlow<()>) -> Result<(), GenerationError> {
    if flow.is_break() { Err(GenerationError::Interrupted) } else { Ok(()) }
}

/// Returns why nothing has to be generated for a prompt, if so.
fn at_once(prompt: &Prompt, endings: &Endings) -> Option<Ended> {
    if prompt.ids.is_empty() || prompt.ids.len() > endings.context {
        return Some(Ended::ContextFull);
    }
    (prompt.sampling.max_tokens == 0).then_some(Ended::MaxTokens)
}

/// Runs one pass over all active sequences. Removes and returns those that ended.
fn step(
    decoder: &mut Decoder,
    active: &[usize],
    sequences: &mut [Option<Underway>],
    prompts: &[Prompt],
    endings: &Endings,
) -> Result<Vec<(Underway, Ended)>, GenerationError> {
    // Sequences are in different phases: some read a piece of their prompt, others the token they generated last.
    let mut read = Vec::with_capacity(active.len());
    for &slot in active {
        let sequence = sequences[slot].as_mut().expect("the slot is active");
        let most = sequence.unread.len().min(PROMPT_PIECE);
        read.push(sequence.unread.drain(..most).collect::<Vec<u32>>());
    }
    let mut pieces = Vec::with_capacity(active.len());
    for (&slot, ids) in active.iter().zip(&read) {
        let sequence = sequences[slot].as_ref().expect("the slot is active");
        pieces.push(Piece { slot, adapter: prompts[sequence.prompt].adapter, ids });
    }
    let logits = decoder.read(&pieces)?;
    let mut over = Vec::new();
    for (place, &slot) in active.iter().enumerate() {
        let sequence = sequences[slot].as_mut().expect("the slot is active");
        // The logits inside a prompt are of no use.
        if !sequence.unread.is_empty() {
            continue;
        }
        let prompt = &prompts[sequence.prompt];
        let id = sampler::choose(logits.of(place), prompt.sampling, || sequence.draws.unit());
        sequence.ids.push(id);
        sequence.unread.push_back(id);
        if let Some(ended) = ended(sequence, prompt, decoder.length(slot), endings)? {
            over.push((sequences[slot].take().expect("the slot is active"), ended));
        }
    }
    Ok(over)
}

/// Returns why a sequence ends with its last token, if it does. The model has read `length` tokens of it.
fn ended(
    sequence: &Underway,
    prompt: &Prompt,
    length: usize,
    endings: &Endings,
) -> Result<Option<Ended>, GenerationError> {
    if sequence.ids.last().is_some_and(|id| endings.tokens.contains(id)) {
        return Ok(Some(Ended::EndOfSequence));
    }
    let sampling = prompt.sampling;
    if !sampling.stop.is_empty() && (endings.stops)(prompt, &sequence.ids)? {
        return Ok(Some(Ended::Stop));
    }
    if sequence.ids.len() as u64 >= u64::from(sampling.max_tokens) {
        return Ok(Some(Ended::MaxTokens));
    }
    Ok((length >= endings.context).then_some(Ended::ContextFull))
}

impl Underway {
    fn new(index: usize, prompt: &Prompt, seed: Seed) -> Self {
        Self {
            prompt: index,
            unread: prompt.ids.iter().copied().collect(),
            ids: Vec::new(),
            // Each token takes one draw, so that the n-th draw belongs to the n-th token.
            draws: Stream::new(seed, Purpose::Generation, prompt.stream),
        }
    }
}
