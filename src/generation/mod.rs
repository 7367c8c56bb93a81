//! Generation: requests become tokens, tokens are read and chosen in batches, and become text again.
//!
//! On a CPU an answer's bits depend on its request, the model and the seed alone. Tensors are `training`'s; what lives
//! here knows ids, logits as numbers, and texts.

mod cached_model;
mod continuation;
mod ending;
mod error;
mod folder_sampling;
mod generator;
mod next;
mod prompting;
mod request;
mod sampler;
#[cfg(test)]
mod tests;

pub use cached_model::{Choices, Examinee, Identity, Witness};
pub use ending::end_tokens;
pub use error::GenerationError;
pub use folder_sampling::FolderSampling;
pub use generator::{Adapted, Generator};
pub use prompting::Prompting;
pub use request::{Answer, Ended, Model, Request, Sampling};
