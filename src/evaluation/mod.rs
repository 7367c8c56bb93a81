//! Evaluation of trained models: benchmarks, text generation, LLM judges and scores.
//!
//! [`open()`] loads a benchmark as a [`Paper`]; [`Paper::sit`] runs it on an [`Examinee`], a model with cached answers,
//! and returns a [`Sheet`] of metrics and answers. Only [`generation`] depends on LibTorch: benchmarks and judges see a
//! [`Model`] that continues texts.

pub mod benchmark;
pub mod code;
mod error;
mod examinee;
pub mod generation;
pub mod judge;
pub mod mmlu;
mod open;
mod registry;
mod request;
mod sheet;

pub use error::EvaluationError;
pub use examinee::{Choices, Examinee, Identity, Witness};
pub use generation::GenerationError;
pub use registry::{Cost, Paper, Sitting, Terms, named, open};
pub use request::{Answer, Ended, Model, Request, Sampling};
pub(crate) use sheet::unfit;
pub use sheet::{Answered, Figure, Sheet};
