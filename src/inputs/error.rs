//! Errors of a run's inputs, and their exit codes.

use super::unusable_rows::UnusableRows;
use crate::adapter::AdapterError;
use crate::benchmarks::EvaluationError;
use crate::data::{ChatTemplateError, DatasetError};
use crate::ledger::LedgerError;
use crate::model::hub::HubError;
use crate::schedule::ScheduleError;
use crate::store::StoreError;

/// Reason why the inputs of a run cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Rows of a data file cannot be used, and the scenario does not say that they may be left out.
    #[error(transparent)]
    UnusableRows(#[from] UnusableRows),
    #[error(transparent)]
    ChatTemplate(#[from] ChatTemplateError),
    /// The base model could not be loaded as the scenario asks.
    #[error(transparent)]
    Model(crate::training::Error),
    /// A model of the hub could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The adapter to start from cannot be used.
    #[error(transparent)]
    StartAdapter(AdapterError),
    /// The start-up test failed.
    #[error(transparent)]
    SelfTest(crate::training::Error),
    /// The machine gave different bits for the same training.
    #[error(
        "failed to trust this machine: the same training gave different bits twice on {device}; nothing that it computes \
         could be repeated, so look for faulty memory or for variables that change how MKL, oneDNN or CUDA compute"
    )]
    NotRepeatable { device: String },
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Another part of the request is wrong.
    #[error("{0}")]
    Usage(String),
}

impl InputError {
    /// Returns the exit code: 1 for failures, 2 for wrong usage, scenarios or data.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Dataset(_)
            | Self::UnusableRows(_)
            | Self::ChatTemplate(_)
            | Self::Model(_)
            | Self::StartAdapter(_)
            | Self::Schedule(_)
            | Self::Usage(_) => 2,
            Self::Ledger(error) => error.exit_code(),
            Self::Hub(error) if error.is_of_the_asker() => 2,
            Self::Evaluation(error) => error.exit_code(),
            _ => 1,
        }
    }
}
