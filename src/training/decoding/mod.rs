//! Incremental decoding with a cache of keys and values, so that a new token costs one row.
//!
//! On a CPU, except under LLM.int8() and in f64, the bits of a row depend only on its sequence and adapter: not on how
//! the sequence was divided into pieces, nor on the other sequences in the pass.

mod cache;
mod rows;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use self::cache::Cache;
use self::rows::{Laid, Span};
use self::weights::DecoderWeights;
use crate::adapter::Adapter;
use crate::training::Error;
use crate::training::engine::heads;
use crate::training::engine::lora;
use crate::training::engine::parameters::{Parameters, Site};
use crate::training::engine::residual;
use crate::training::engine::trainer::Trainer;
use crate::training::kernels::ops;
use crate::training::objectives::cross_entropy;

/// New tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Slot of the sequence. The pieces of a call have different slots.
    pub slot: usize,
    /// Index of one of the decoder's adapters; `None` selects the base without adapter.
    pub adapter: Option<usize>,
    /// Tokens, at least one.
    pub ids: &'a [u32],
}

/// Logits of the token after each piece.
pub struct Logits {
    values: Vec<f32>,
    vocabulary: usize,
}

impl Logits {
    /// Returns the logits after one piece, by its index.
    pub fn of(&self, piece: usize) -> &[f32] {
        &self.values[piece * self.vocabulary..(piece + 1) * self.vocabulary]
    }
}

/// Sequences in progress over one base, each under one of several adapters.
pub struct Decoder<'a> {
    trainer: &'a Trainer,
    weights: DecoderWeights,
    adapters: Vec<Parameters>,
    cache: Cache,
    /// [token] -- Length of the sequence in each slot.
    lengths: Vec<usize>,
}

impl<'a> Decoder<'a> {
    /// Creates a decoder with `slots` empty sequences. On a CPU in f32 and bf16 it holds a second copy of the weights,
    /// in the order in which products of few rows read them.
    ///
    /// # Errors
    /// If an adapter has another layout than the trainer, or LibTorch fails.
    pub fn new(trainer: &'a Trainer, adapters: &[Arc<Adapter>], slots: usize) -> Result<Self, Error> {
        let _guard = trainer.enter();
        if let Some(job) = adapters.iter().position(|adapter| *adapter.layout != *trainer.layout()) {
            return Err(Error::Job { job, reason: "its adapter has another layout than the trainer".into() });
        }
        let mut placed = Vec::with_capacity(adapters.len());
        for adapter in adapters {
            placed.push(Parameters::new(&trainer.placement, &trainer.base, adapter)?);
        }
        Ok(Self {
            trainer,
            weights: DecoderWeights::new(&trainer.base)?,
            adapters: placed,
            cache: Cache::new(&trainer.base, slots)?,
            lengths: vec![0; slots],
        })
    }

    /// Returns whether the rows of a product influence each other by definition, so that the division of a sequence
    /// into pieces matters. This is the case under LLM.int8().
    pub fn couples_rows(&self) -> bool {
        rows::is_llm_int8(&self.trainer.base)
    }

    /// Returns the length in tokens of the sequence in `slot`.
    pub fn length(&self, slot: usize) -> usize {
        self.lengths[slot]
    }

    /// Truncates the sequence in `slot` to `length` tokens.
    ///
    /// # Panics
    /// If it is shorter.
    pub fn truncate(&mut self, slot: usize, length: usize) {
        assert!(length <= self.lengths[slot], "a sequence cannot be cut to more than it has read");
        self.lengths[slot] = length;
    }

    /// Replaces the sequence in slot `to` by a copy of that in `from`.
    ///
    /// # Errors
    /// If LibTorch fails.
    pub fn copy(&mut self, from: usize, to: usize) -> Result<(), Error> {
        let _guard = self.trainer.enter();
        self.cache.copy(from, to)?;
        self.lengths[to] = self.lengths[from];
        Ok(())
    }

    /// Appends all pieces to their sequences in one pass, and returns the logits of the token after each.
    ///
    /// # Errors
    /// If a piece does not fit the model, or LibTorch fails.
    ///
    /// # Panics
    /// If a piece is empty, its slot or adapter does not exist, or two pieces have the same slot.
    pub fn read(&mut self, pieces: &[Piece]) -> Result<Logits, Error> {
        let _guard = self.trainer.enter();
        for (index, piece) in pieces.iter().enumerate() {
            self.check(index, piece)?;
        }
        let longest = pieces.iter().map(|piece| self.lengths[piece.slot] + piece.ids.len()).max().unwrap_or(0);
        self.cache.reserve(longest, self.trainer.config().max_positions)?;
        let laid = rows::lay(&self.trainer.base, pieces, &self.lengths)?;
        let x = self.last_rows(&laid)?;
        let base = &self.trainer.base;
        let (h, _) = ops::rms_norm(&x, &base.norm, base.config.rms_norm_eps, base.precision.master_kind())?;
        let logits = self.weights.head(base, &h)?;
        cross_entropy::scale_and_bound_(base, &logits)?;
        let logits = logits.f_index_select(0, &laid.places)?;
        let values =
            Vec::<f32>::try_from(logits.f_to_kind(Kind::Float)?.f_to_device(tch::Device::Cpu)?.f_flatten(0, -1)?)?;
        // Only now, so that a failed pass leaves the sequences as they were: the cache beyond their lengths is not
        // read.
        for piece in pieces {
            self.lengths[piece.slot] += piece.ids.len();
        }
        Ok(Logits { values, vocabulary: base.config.vocab_size })
    }

    /// Checks that a piece fits the model.
    fn check(&self, row: usize, piece: &Piece) -> Result<(), Error> {
        let config = self.trainer.config();
        assert!(!piece.ids.is_empty(), "a piece has at least one token");
        assert!(piece.adapter.is_none_or(|adapter| adapter < self.adapters.len()), "a piece names no known adapter");
        let length = self.lengths[piece.slot] + piece.ids.len();
        let unknown = piece.ids.iter().find(|&&id| id as usize >= config.vocab_size);
        let reason = if length > config.max_positions {
            format!("it would have {length} tokens, the model takes at most {}", config.max_positions)
        } else if let Some(id) = unknown {
            format!("token id {id} is beyond the embedding of {} tokens", config.vocab_size)
        } else {
            return Ok(());
        };
        Err(Error::Row { job: 0, step: 0, row, reason })
    }

    /// Computes the last layer's output in the last row of each piece.
    fn last_rows(&self, laid: &Laid) -> Result<Tensor, TchError> {
        let base = &self.trainer.base;
        let mut x = base.embed(&laid.ids)?;
        for layer in 0..base.blocks.len() {
            x = self.layer(layer, laid, x)?;
        }
        Ok(x)
    }

    /// Applies one decoder layer. After its attention, the last layer continues with only the last row of each piece.
    fn layer(&self, layer: usize, laid: &Laid, mut x: Tensor) -> Result<Tensor, TchError> {
        let base = &self.trainer.base;
        let block = &base.blocks[layer];
        let h = residual::normalize(base, x.shallow_clone(), block.input_norm.as_ref())?.0;
        let qkv = self.linear(layer, Site::Attention, &laid.spans, &h)?;
        heads::normalize_(base, block, &qkv)?;
        heads::rotate_(&base.config, block, &qkv, &laid.rotary, false)?;
        let mut attended = self.cache.attend(layer, &laid.pieces, &qkv)?;
        // Only the last row of a piece predicts; the keys and values of the others are in the cache by now.
        let mut spans = &laid.spans;
        if layer + 1 == base.blocks.len() {
            attended = attended.f_index_select(0, &laid.last)?;
            x = x.f_index_select(0, &laid.last)?;
            spans = &laid.last_spans;
        }
        let branch = self.linear(layer, Site::Output, spans, &attended)?;
        let x2 = residual::add(base, branch, block.attention_norm.as_ref(), &x)?.0;
        let h2 = residual::normalize(base, x2.shallow_clone(), block.inner_norm.as_ref())?.0;
        let gate_up = self.linear(layer, Site::Mlp, spans, &h2)?;
        let product = ops::gated(base.config.variant.activation, &gate_up)?;
        let branch = self.linear(layer, Site::Down, spans, &product)?;
        Ok(residual::add(base, branch, block.mlp_norm.as_ref(), &x2)?.0)
    }

    /// Applies the linear modules of the base at a site, and adds the low-rank products of each span's adapter.
    fn linear(&self, layer: usize, site: Site, spans: &[Span], input: &Tensor) -> Result<Tensor, TchError> {
        let output = self.weights.linear(&self.trainer.base, layer, site, spans, input)?;
        for span in spans {
            let group = span.adapter.and_then(|adapter| self.adapters[adapter].group(layer, site));
            if let Some(group) = group {
                let _ = lora::add_forward_(group, &span.of(input)?, &span.of(&output)?, None)?;
            }
        }
        Ok(output)
    }
}
