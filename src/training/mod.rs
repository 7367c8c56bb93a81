//! Training of LoRA adapters over one frozen base: steps, optimizers, cohort batching, devices and determinism.
//!
//! A [`Trainer`] holds the base and turns [`Job`]s into [`TrainingOutcome`]s. An outcome is a pure function of its job: its
//! bits depend on no random generator, no clock and no other job in the batch.

mod decoding;
mod engine;
mod kernels;
mod objectives;
mod process;
mod self_test;
#[cfg(test)]
mod tests;

pub use decoding::{Decoder, Logits, Piece};
pub use engine::evaluate::SampleLoss;
pub use engine::job::{
    Accumulation, AdamVariant, AlgorithmTerms, CorrectionPlace, FirstSteps, Hyper, Job, Moments, Objective, Optimizer,
    Shrinkage, Status, Step, TrainingOutcome,
};
pub use engine::memory::MemoryPlan;
pub use engine::timing::PassTime;
pub use engine::trainer::Trainer;
pub use kernels::native::limits::{EndingAllocator, be_first_to_end, name_faults, name_limits};
pub use kernels::native::{Switches, end_process};
pub use objectives::preference::{PairScore, PreferenceMetrics, score_pairs};
pub use process::available::{free_bytes, peak_bytes, program_bytes, reset_peak_bytes};
pub use process::init::{execute_again_before_libraries, init_process, is_portable_process, restart_portably};
pub use process::libraries::library_hashes;
pub use process::numerics::{BaseReport, Checkpointing, Fingerprint, Numerics, NumericsClass};
pub use self_test::{Grade, LargestWork, SelfTest, TestedShapes};
#[cfg(test)]
pub(crate) use tests::on_tiny_base;

use crate::model::{ModelError, memory_in};

/// Computes the product of two matrices as training does, for measurements: by the program's own kernel on a CPU in f32
/// and bf16, by LibTorch elsewhere.
///
/// # Panics
/// If the shapes do not match, or LibTorch fails.
pub fn product(a: &tch::Tensor, b: &tch::Tensor) -> tch::Tensor {
    kernels::ops::product(a, b).expect("the matrices fit")
}

/// Error of training. A loss that is not finite is no error but an outcome ([`Status`]).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base model or the requested LoRA cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A row does not fit the model.
    #[error("failed to train job {job}, step {step}: row {row}: {reason}")]
    Row {
        /// Index of the job in the cohort.
        job: usize,
        /// Step of the job.
        step: usize,
        /// Row within its micro-batch.
        row: usize,
        /// Problem, with the allowed range.
        reason: String,
    },
    /// A job cannot be trained.
    #[error("failed to train job {job}: {reason}")]
    Job {
        /// Index of the job in the cohort.
        job: usize,
        /// Problem.
        reason: String,
    },
    /// The device ran out of memory.
    #[error("failed to train: out of memory on {device}: {needed}")]
    OutOfMemory {
        /// Device.
        device: String,
        /// LibTorch's message.
        needed: String,
    },
    /// LibTorch refused an operation.
    #[error("failed to train: LibTorch: {0}")]
    Torch(tch::TchError),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        match memory_in(&error) {
            Some(needed) => Error::OutOfMemory { device: "the device".into(), needed },
            None => Error::Torch(error),
        }
    }
}
