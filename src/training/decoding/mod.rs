//! Reading on: sequences under way, whose keys and values are kept, so that a new token costs one row.
//!
//! A row's bits depend on its sequence and adapter alone on a CPU, but under LLM.int8() and in f64: not on how the sequence
//! was cut into pieces, nor on what is read beside it.

mod cache;
mod rows;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use self::cache::Cache;
use self::rows::{Laid, Span};
use self::weights::Weights;
use super::parameters::{Parameters, Site};
use super::{Error, Trainer, lora, ops};
use crate::adapter::Adapter;

/// New tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Where the sequence is kept; at most one piece of a call names a slot.
    pub slot: usize,
    /// Which of the decoder's adapters reads; none is the base alone.
    pub adapter: Option<usize>,
    /// The tokens, at least one.
    pub ids: &'a [u32],
}

/// The logits of the token after each piece.
pub struct Logits {
    values: Vec<f32>,
    vocabulary: usize,
}

impl Logits {
    /// Those after one piece, in the order of the pieces.
    pub fn of(&self, piece: usize) -> &[f32] {
        &self.values[piece * self.vocabulary..(piece + 1) * self.vocabulary]
    }
}

/// Sequences under way over one base, each under one of several adapters.
pub struct Decoder<'a> {
    trainer: &'a Trainer,
    weights: Weights,
    adapters: Vec<Parameters>,
    cache: Cache,
    /// [tokens] What each slot has read.
    lengths: Vec<usize>,
}

impl<'a> Decoder<'a> {
    /// A decoder of `slots` empty sequences. On a CPU in f32 and bf16 it holds the weights a second time, in the order in which
    /// products of few rows read them.
    ///
    /// # Errors
    /// If an adapter has another layout than the trainer, or LibTorch fails.
    pub fn new(trainer: &'a Trainer, adapters: &[Arc<Adapter>], slots: usize) -> Result<Self, Error> {
        let _guard = trainer.enter();
        if let Some(job) = adapters.iter().position(|adapter| *adapter.layout != *trainer.layout()) {
            return Err(Error::Job { job, reason: "its adapter has another layout than the trainer".into() });
        }
        let place = |adapter: &Arc<Adapter>| Parameters::new(&trainer.placement, &trainer.base, adapter);
        Ok(Self {
            trainer,
            weights: Weights::new(&trainer.base)?,
            adapters: adapters.iter().map(place).collect::<Result<_, TchError>>()?,
            cache: Cache::new(&trainer.base, slots)?,
            lengths: vec![0; slots],
        })
    }

    /// Whether the rows of a product decide each other's bits by definition, so that how a sequence is cut into pieces shows:
    /// under LLM.int8().
    pub fn couples_rows(&self) -> bool {
        rows::is_llm_int8(&self.trainer.base)
    }

    /// [tokens] What the sequence in `slot` has read.
    pub fn length(&self, slot: usize) -> usize {
        self.lengths[slot]
    }

    /// Forgets what `slot` has read from `length` on.
    ///
    /// # Panics
    /// If it has read less.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        assert!(length <= self.lengths[slot], "a sequence cannot be cut to more than it has read");
        self.lengths[slot] = length;
    }

    /// Lets the sequence in slot `to` go on from what the one in `from` has read.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn copy(&mut self, from: usize, to: usize) -> Result<(), Error> {
        let _guard = self.trainer.enter();
        self.cache.copy(from, to)?;
        self.lengths[to] = self.lengths[from];
        Ok(())
    }

    /// Reads all pieces in one pass and gives the logits of the token after each.
    ///
    /// # Errors
    /// If a piece does not fit the model, or LibTorch fails.
    ///
    /// # Panics
    /// If a piece is empty, or names a slot or adapter that is not there, or two name one slot.
    pub fn read(&mut self, pieces: &[Piece]) -> Result<Logits, Error> {
        let _guard = self.trainer.enter();
        pieces.iter().enumerate().try_for_each(|(index, piece)| self.check(index, piece))?;
        let longest = pieces.iter().map(|piece| self.lengths[piece.slot] + piece.ids.len()).max().unwrap_or(0);
        self.cache.reserve(longest, self.trainer.config().max_positions)?;
        let laid = rows::lay(&self.trainer.base, pieces, &self.lengths)?;
        let x = self.last_rows(&laid)?;
        let base = &self.trainer.base;
        let (h, _) = ops::rms_norm(&x, &base.norm, base.config.rms_norm_eps, base.precision.master_kind())?;
        let logits = self.weights.head(base, &h)?.f_index_select(0, &laid.places)?;
        let values =
            Vec::<f32>::try_from(logits.f_to_kind(Kind::Float)?.f_to_device(tch::Device::Cpu)?.f_flatten(0, -1)?)?;
        pieces.iter().for_each(|piece| self.lengths[piece.slot] += piece.ids.len());
        Ok(Logits { values, vocabulary: base.config.vocab_size })
    }

    fn check(&self, row: usize, piece: &Piece) -> Result<(), Error> {
        let config = self.trainer.config();
        assert!(!piece.ids.is_empty(), "a piece has at least one token");
        assert!(piece.adapter.is_none_or(|adapter| adapter < self.adapters.len()), "a piece names no known adapter");
        let length = self.lengths[piece.slot] + piece.ids.len();
        let refuse = |reason: String| Err(Error::Row { job: 0, step: 0, row, reason });
        if length > config.max_positions {
            return refuse(format!("it would have {length} tokens, the model takes at most {}", config.max_positions));
        }
        match piece.ids.iter().find(|&&id| id as usize >= config.vocab_size) {
            Some(id) => refuse(format!("token id {id} is beyond the embedding of {} tokens", config.vocab_size)),
            None => Ok(()),
        }
    }

    /// The last layer's output in the last row of each piece.
    fn last_rows(&self, laid: &Laid) -> Result<Tensor, TchError> {
        let base = &self.trainer.base;
        let mut x = base.embedding.f_index_select(0, &laid.ids)?;
        for layer in 0..base.blocks.len() {
            x = self.layer(layer, laid, x)?;
        }
        Ok(x)
    }

    /// One decoder layer; the last one goes on with the last row of each piece alone after its attention.
    fn layer(&self, layer: usize, laid: &Laid, x: Tensor) -> Result<Tensor, TchError> {
        let base = &self.trainer.base;
        let (block, config, master) = (&base.blocks[layer], &base.config, base.precision.master_kind());
        let (h, _) = ops::rms_norm(&x, &block.input_norm, config.rms_norm_eps, master)?;
        let qkv = self.linear(layer, Site::Attention, &laid.spans, &h)?;
        ops::rotate(&qkv, config.heads + config.kv_heads, &laid.cos, &laid.sin, false)?;
        let mut attended = self.cache.attend(layer, &laid.pieces, &qkv)?;
        let (mut x, mut spans) = (x, &laid.spans);
        if layer + 1 == base.blocks.len() {
            (attended, x) = (attended.f_index_select(0, &laid.last)?, x.f_index_select(0, &laid.last)?);
            spans = &laid.last_spans;
        }
        let x2 = self.linear(layer, Site::Output, spans, &attended)?.f_add_(&x)?;
        let (h2, _) = ops::rms_norm(&x2, &block.inner_norm, config.rms_norm_eps, master)?;
        let product = ops::swiglu(&self.linear(layer, Site::Mlp, spans, &h2)?)?;
        self.linear(layer, Site::Down, spans, &product)?.f_add_(&x2)
    }

    /// A linear module of the base with the adapters' low-rank products, each on the rows of its own spans.
    fn linear(&self, layer: usize, site: Site, spans: &[Span], input: &Tensor) -> Result<Tensor, TchError> {
        let output = self.weights.linear(&self.trainer.base, layer, site, spans, input)?;
        for span in spans {
            let group = span.adapter.and_then(|adapter| self.adapters[adapter].group(layer, site));
            if let Some(group) = group {
                let _ = lora::forward(group, &span.of(input)?, &span.of(&output)?, None)?;
            }
        }
        Ok(output)
    }
}
