//! Errors of a run, and the exit codes of the program.

use crate::adapter::AdapterError;
use crate::dataset::{ChatTemplateError, DatasetError};
use crate::diversity::DiversityError;
use crate::evaluation::EvaluationError;
use crate::ledger::{LedgerError, is_out_of_space};
use crate::lineage::OrderError;
use crate::model::hub::HubError;
use crate::scenario::ScenarioError;
use crate::store::StoreError;

/// Reason why a run, or another command on runs, failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The differences between a dataset's clients could not be analyzed.
    #[error(transparent)]
    Diversity(#[from] DiversityError),
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
    /// The federation that the scenario describes cannot be simulated.
    #[error("failed to accept the federation: {0}")]
    Federation(#[from] fedreplay_sim::Invalid),
    /// Virtual time overflowed, at the named event.
    #[error("failed to advance virtual time: {0}")]
    Simulation(#[from] fedreplay_sim::SimError),
    /// The machine gave different bits for the same training.
    #[error(
        "failed to trust this machine: the same training gave different bits twice on {device}; nothing that it computes \
         could be repeated, so look for faulty memory or for variables that change how MKL, oneDNN or CUDA compute"
    )]
    NotRepeatable { device: String },
    /// The scenario asks for portable numerics, and the process was started without them. Restarting it with
    /// [`crate::training::restart_portably`] solves this.
    #[error("failed to compute portably: LibTorch's libraries were not started on paths that all processors share")]
    NotStartedPortably,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Another part of the request is wrong.
    #[error("{0}")]
    Usage(String),
}

impl RunError {
    /// Returns the exit code: 1 for failures, 2 for wrong usage, scenarios or data, 130 for interruptions.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Scenario(_)
            | Self::Dataset(_)
            | Self::ChatTemplate(_)
            | Self::Model(_)
            | Self::StartAdapter(_)
            | Self::Federation(_)
            | Self::Simulation(_)
            | Self::Usage(_) => 2,
            // A full disk is not wrong usage.
            Self::Ledger(LedgerError::Unwritable { source, .. }) if is_out_of_space(source) => 1,
            Self::Ledger(LedgerError::Occupied { .. } | LedgerError::NoRun { .. } | LedgerError::Unwritable { .. }) => {
                2
            }
            Self::Diversity(DiversityError::Model(_) | DiversityError::Text { .. }) => 2,
            Self::Hub(error) if error.is_of_the_asker() => 2,
            Self::Evaluation(error) => error.exit_code(),
            Self::Order(OrderError::Interrupted) => 130,
            _ => 1,
        }
    }
}
