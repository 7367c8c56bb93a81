//! Text generation: encodes requests, generates tokens in batches, and decodes them.
//!
//! On a CPU, generation is batch-invariant: an answer's bits depend on its request, the model and the seed alone.
//! Tensors belong to `training`; this module handles token ids, logits as numbers, and texts.

mod cached_model;
mod continuation;
mod ending;
mod error;
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
pub use error::GenerationError;
pub(crate) use fences::FencedBlock;
pub use folder_sampling::FolderSampling;
pub use generator::{Adapted, Generator, LetterTokens};
pub use prompting::Prompting;
pub use request::{Answer, Ended, LanguageModel, PromptText, Request, Sampling};
