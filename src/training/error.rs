//! Errors of training.

use crate::model::ModelError;

/// Error of training. A loss that is not finite is no error but an outcome ([`super::Status`]).
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
        let text = error.to_string();
        // LibTorch reports all failures as text; these are the messages of its allocators on CUDA and on the CPU.
        match text.lines().find(|line| line.contains("out of memory") || line.contains("can't allocate memory")) {
            Some(line) => {
                let needed = line.trim().trim_start_matches("Internal torch error: ").into();
                Error::OutOfMemory { device: "the device".into(), needed }
            }
            None => Error::Torch(error),
        }
    }
}
