//! Why a training could not be carried out.

use crate::model::ModelError;

/// Errors of training. A non-finite loss is not among them: it is an outcome ([`super::Status`]).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base model or the LoRA asked for cannot be used.
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
        /// What is wrong, with the allowed range.
        reason: String,
    },
    /// A job asks for what is not possible.
    #[error("failed to train job {job}: {reason}")]
    Job {
        /// Index of the job in the cohort.
        job: usize,
        /// What is wrong.
        reason: String,
    },
    /// The device's memory did not suffice.
    #[error(
        "failed to train: out of memory on {device}: {needed}; go on with `fedreplay resume` and fewer --workers, a smaller \
         --set execution.cohort_batch=N or --set execution.checkpointing=Always, or begin again with fewer rows a batch"
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// What LibTorch asked for.
        needed: String,
    },
    /// LibTorch refused an operation.
    #[error("failed to train: LibTorch: {0}")]
    Torch(tch::TchError),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        match text.lines().find(|line| line.contains("out of memory") || line.contains("can't allocate memory")) {
            Some(line) => {
                let needed = line.trim().trim_start_matches("Internal torch error: ").into();
                Error::OutOfMemory { device: "the device".into(), needed }
            }
            None => Error::Torch(error),
        }
    }
}
