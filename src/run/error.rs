//! Errors of a run, and the exit codes of the program.

use crate::adapter::AdapterError;
use crate::benchmarks::EvaluationError;
use crate::data::{ChatTemplateError, DatasetError};
use crate::diversity::DiversityError;
use crate::graph::GraphError;
use crate::inputs::InputError;
use crate::ledger::LedgerError;
use crate::model::gguf::GgufError;
use crate::model::hub::HubError;
use crate::privacy::PrivacyError;
use crate::scenario::ScenarioError;
use crate::schedule::ScheduleError;
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
    /// A GGUF file could not be imported.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The adapter to start from cannot be used.
    #[error(transparent)]
    StartAdapter(AdapterError),
    /// The scenario has no schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The data, the models or the machine that the scenario needs cannot be used.
    #[error(transparent)]
    Input(Box<InputError>),
    /// The scenario's privacy cannot be provided.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// The scenario asks for portable numerics, and the process was started without them. Call
    /// [`crate::training::restart_portably`] to restart it with them.
    #[error("failed to compute portably: LibTorch's libraries were not started on paths that all processors share")]
    NotStartedPortably,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Another part of the request is wrong.
    #[error("{0}")]
    Usage(String),
}

// Boxed by hand: an input error is the largest of all, and every result of a run would have its size.
impl From<InputError> for RunError {
    fn from(error: InputError) -> Self {
        Self::Input(Box::new(error))
    }
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
            | Self::Gguf(GgufError::File { .. } | GgufError::TargetExists(_))
            | Self::Schedule(_)
            | Self::Privacy(_)
            | Self::Usage(_) => 2,
            Self::Input(error) => error.exit_code(),
            Self::Ledger(error) => error.exit_code(),
            Self::Diversity(DiversityError::Model(_) | DiversityError::Text { .. }) => 2,
            Self::Hub(error) if error.is_of_the_asker() => 2,
            Self::Evaluation(error) => error.exit_code(),
            Self::Graph(GraphError::Interrupted) => 130,
            _ => 1,
        }
    }
}
