//! Text generation: encodes requests, generates tokens in batches, and decodes them.
//!
//! On a CPU, generation is batch-invariant: an answer's bits depend on its request, the model and the seed alone.
//! Tensors belong to `training`; this module handles token ids, logits as numbers, and texts.

mod cached_model;
mod continuation;
mod ending;
mod fences;
mod folder_sampling;
mod generator;
mod next;
mod prompting;
mod request;
mod sampler;
#[cfg(test)]
mod tests;

pub use cached_model::{CachedModel, Choices, EvalProgress, Identity};
pub use ending::end_tokens;
pub(crate) use fences::FencedBlock;
pub use folder_sampling::FolderSampling;
pub use generator::{Adapted, Generator, LetterTokens};
pub use prompting::Prompting;
pub use request::{Answer, Ended, LanguageModel, PromptText, Request, Sampling};

use std::path::PathBuf;

/// An error of text generation. A prompt that does not fit the model's context is not an error: its answer says so.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// The model failed.
    #[error(transparent)]
    Training(#[from] crate::training::Error),
    /// A text could not be encoded, or tokens could not be decoded.
    #[error("failed to tokenize a prompt or an answer: {0}")]
    Tokenizer(#[from] crate::data::TokenizerError),
    /// generation_config.json or config.json does not follow the format of Transformers.
    #[error("failed to read {path}: {reason}")]
    Configuration { path: PathBuf, reason: String },
    /// The letters of a multiple-choice question are not told apart by one token.
    #[error("failed to ask for a letter: the tokenizer has no token of its own for {letter:?} after \"Answer:\"")]
    Letter { letter: String },
    /// An answer could not be stored.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The evaluation was asked to stop. Completed answers stay in the store.
    #[error("interrupted")]
    Interrupted,
}
