//! Training of LoRA adapters over one frozen base: steps, optimizers, cohort batching, devices and determinism.
//!
//! A [`Trainer`] holds the base and turns [`Job`]s into [`TrainingOutcome`]s. An outcome is a pure function of its job: its
//! bits depend on no random generator, no clock and no other job in the batch.

mod decoding;
mod engine;
mod error;
mod kernels;
mod objectives;
mod process;
mod self_test;
#[cfg(test)]
mod tests;

pub use decoding::{Decoder, Logits, Piece};
pub use engine::evaluate::SampleLoss;
pub use engine::job::{
    Accumulation, AdamVariant, AlgorithmTerms, CorrectionPlace, Hyper, Job, Moments, Objective, Optimizer, Status,
    Step, TrainingOutcome,
};
pub use engine::memory::MemoryPlan;
pub use engine::trainer::Trainer;
pub use error::Error;
pub use kernels::native::Switches;
pub use objectives::preference::{PairScore, PreferenceMetrics, score_pairs};
pub use process::available::{free_bytes, program_bytes};
pub use process::init::{init_process, is_portable_process, restart_portably};
pub use process::libraries::library_hashes;
pub use process::numerics::{BaseReport, Checkpointing, Fingerprint, Numerics, NumericsClass};
pub use self_test::{Grade, LargestWork, SelfTest, TestedShapes};
#[cfg(test)]
pub(crate) use tests::on_tiny_base;

/// Computes the product of two matrices as training does, for measurements: by the program's own kernel on a CPU in f32
/// and bf16, by LibTorch elsewhere.
///
/// # Panics
/// If the shapes do not match, or LibTorch fails.
pub fn product(a: &tch::Tensor, b: &tch::Tensor) -> tch::Tensor {
    kernels::ops::product(a, b).expect("the matrices fit")
}
