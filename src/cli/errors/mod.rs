//! Errors of commands: those of the library, and those of the command line itself. [`exit`] has the exit codes, and [`hint`]
//! adds to an error what can be typed next.

pub mod exit;
pub mod hint;

use std::path::PathBuf;

use fedreplay::adapter::AdapterError;
use fedreplay::benchmarks::EvaluationError;
use fedreplay::calibration::MeasuringError;
use fedreplay::data::{ChatTemplateError, DatasetError};
use fedreplay::diversity::DiversityError;
use fedreplay::graph::GraphError;
use fedreplay::inputs::InputError;
use fedreplay::ledger::LedgerError;
use fedreplay::model::gguf::GgufError;
use fedreplay::model::hub::HubError;
use fedreplay::profile::{FitError, ProfileError};
use fedreplay::report::ReportError;
use fedreplay::run::RunError;
use fedreplay::scenario::{ImportError, ScenarioError};
use fedreplay::store::StoreError;

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The arguments ask for something that cannot be done.
    #[error("{0}")]
    Usage(String),
    /// The store that the arguments name cannot be used.
    #[error(transparent)]
    Store(StoreError),
    /// A training script cannot be turned into a scenario.
    #[error("failed to import {}: {source}", script.display())]
    Import { script: PathBuf, source: ImportError },
    /// The machine was not measured.
    #[error(transparent)]
    Calibration(#[from] MeasuringError),
    /// A device profile, or steps for one, cannot be read or written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Steps determine no device profile.
    #[error("failed to fit the measured steps: {0}")]
    Fit(#[from] FitError),
    /// The library failed.
    #[error(transparent)]
    Library(#[from] RunError),
}

/// Implements `From` for errors of the library that [`RunError`] contains.
macro_rules! from_library {
    ($($error:ident),+) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                Self::Library(error.into())
            }
        })+
    };
}

from_library!(
    AdapterError,
    ChatTemplateError,
    DatasetError,
    DiversityError,
    EvaluationError,
    GgufError,
    GraphError,
    HubError,
    InputError,
    LedgerError,
    ScenarioError,
    StoreError
);

impl From<ReportError> for CommandError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Ledger(error) => error.into(),
            ReportError::Scenario(error) => error.into(),
        }
    }
}
