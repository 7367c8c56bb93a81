//! Why an answer could not be computed.

use std::path::PathBuf;

/// Errors of generation. A prompt that does not fit the model's context is none: it is an answer that says so.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// The model could not be computed.
    #[error(transparent)]
    Training(#[from] crate::training::Error),
    /// A text has no tokens, or tokens no text.
    #[error("failed to tokenise a prompt or an answer: {0}")]
    Tokeniser(String),
    /// generation_config.json or config.json is not what Transformers writes.
    #[error("failed to read {path}: {reason}")]
    Configuration { path: PathBuf, reason: String },
    /// A letter of a multiple choice has no token of its own.
    #[error("failed to ask for a letter: the tokenizer has no token of its own for {letter:?} after \"Answer:\"")]
    Letter { letter: String },
    /// An answer could not be kept.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The evaluation was asked to stop; answers that were finished are kept.
    #[error("interrupted; the same command goes on where it was")]
    Interrupted,
}
