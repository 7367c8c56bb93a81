//! Benchmarks of a trained model: what is asked, what is answered, what an answer is worth.
//!
//! Generation is the one part that knows LibTorch; benchmarks and judges see a [`Model`] that continues texts.

mod error;
mod examinee;
pub mod generation;
pub mod mmlu;
mod registry;
mod request;
mod sheet;

pub use error::EvaluationError;
pub use examinee::{Choices, Examinee, Identity, Witness};
pub use generation::GenerationError;
pub use registry::{BENCHMARKS, Benchmark, Cost, Paper, Terms};
pub use request::{Answer, Ended, Model, Request, Sampling};
pub use sheet::{Answered, Figure, Sheet};
