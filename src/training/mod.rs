//! Training of LoRA adapters over one frozen base: steps, optimizers, cohort batching, devices and determinism.
//!
//! A [`Trainer`] holds the base and turns [`Job`]s into [`TrainingOutcome`]s. An outcome is a pure function of its job: its
//! bits depend on no random generator, no clock and no other job in the batch.

mod attention;
mod available;
mod by_libtorch;
mod decoding;
mod error;
mod evaluate;
mod job;
mod layer;
mod libraries;
mod llm_int8;
mod lora;
mod loss;
mod memory;
mod native;
mod numerics;
mod ops;
mod optimizer;
mod oracle;
mod pack;
mod parameters;
mod precision;
mod preference;
mod pretrain;
mod process;
mod runner;
mod self_test;
#[cfg(test)]
mod tests;
mod trainer;

pub use available::{free_bytes, program_bytes};
pub use decoding::{Decoder, Logits, Piece};
pub use error::Error;
pub use evaluate::SampleLoss;
pub use job::{
    Accumulation, AdamVariant, AlgorithmTerms, CorrectionPlace, Hyper, Job, Moments, Objective, Optimizer,
    PreferenceMetrics, Status, Step, TrainingOutcome,
};
pub use libraries::library_hashes;
pub use memory::MemoryPlan;
pub use native::Switches;
pub use numerics::{Checkpointing, Fingerprint, Numerics, NumericsClass};
pub use precision::BaseReport;
pub use preference::{PairScore, score_pairs};
pub use pretrain::{PretrainSpec, pretrain};
pub use process::{init_process, is_portable_process, restart_portably};
pub use self_test::{Grade, LargestWork, SelfTest, TestedShapes};
#[cfg(test)]
pub(crate) use tests::on_tiny_base;
pub use trainer::Trainer;

/// Computes the product of two matrices as training does, for measurements: by the program's own kernel on a CPU in f32
/// and bf16, by LibTorch elsewhere.
///
/// # Panics
/// If the shapes do not match, or LibTorch fails.
pub fn product(a: &tch::Tensor, b: &tch::Tensor) -> tch::Tensor {
    ops::product(a, b).expect("the matrices fit")
}
