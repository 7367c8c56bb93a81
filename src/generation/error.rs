//! Errors of text generation.

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
