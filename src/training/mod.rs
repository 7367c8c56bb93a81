//! Training of LoRA adapters over one frozen base: steps, optimisers, cohort batching, devices and determinism.
//!
//! A training is a pure function of its [`Job`]: no generator, clock or batch-mate enters its bits.

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
pub use evaluate::{CHUNK_TOKENS as EVALUATED_TOKENS, SampleLoss};
pub use job::{
    Accumulation, AdamVariant, CorrectionPlace, Hyper, Job, Moments, Objective, Optimizer, Outcome, Preference, Status,
    Step, Terms,
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

/// The product of two matrices as training computes it: the program's own kernel on a CPU in f32 and bf16, LibTorch's
/// elsewhere. For measurements.
///
/// # Panics
/// If the matrices do not fit, or LibTorch fails.
pub fn product(a: &tch::Tensor, b: &tch::Tensor) -> tch::Tensor {
    ops::product(a, b).expect("the matrices fit")
}
