//! Computation graph of a run, whose nodes appear as orders in tables and messages. Nothing in this module knows virtual
//! time.
//!
//! A [`Node`] is a pure function of its inputs, the results of other nodes. Its key is a hash of its code, its parameters
//! and the keys of its inputs, so a result found in the store under that key can be used instead of computing it. The
//! [`Executor`] computes only what a demanded node depends on. A [`Compute`] computes single nodes on one device. An
//! evaluation is one node whose parts are computed by several workers. [`WorkCounters`] report the progress.

mod attack;
mod compress;
mod compute;
mod divided;
mod evaluation;
mod executor;
mod node;
mod prune;
mod recipe;
mod scheduled_evaluation;
mod state;
#[cfg(test)]
mod tests;
mod value;
mod work;

pub use compute::Compute;
pub use executor::{Executor, Recorded};
pub use node::{Attack, Compress, Contribution, Control, Controls, FirstStep, Node, NodeId, Prune, TrainingOrder};
pub use scheduled_evaluation::{EvalResources, ScheduledEvaluation};
pub use state::Finished;
pub use value::{Evaluated, Ranking, RowsLoss, Trained, Value};
pub use work::{WorkAmount, WorkCounters, WorkCounts, WorkUnderWay};

use crate::algorithm::RuleError;
use crate::store::StoreError;

/// Reason why a node was not computed.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The training engine failed.
    #[error(transparent)]
    Training(#[from] crate::training::Error),
    /// A result could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A result that was in the store alone is not there any more.
    #[error("failed to read the stored result {key} back: it was damaged or removed while the run went on")]
    Lost { key: crate::store::Key },
    /// An update is unusable, and the scenario says that this ends the run.
    #[error("failed to go on after {order}: {reason} (training.unusable_update is EndRun)")]
    UnusableUpdate { order: String, reason: String },
    /// The first step of Fed-SB is greater than numbers can be.
    #[error(
        "failed to begin with the first step of Fed-SB: a value of R is not finite (federated_lora.init_step_size is {step_size:e})"
    )]
    FirstStep { step_size: f64 },
    /// The aggregation rule of one's own has no result.
    #[error(transparent)]
    Rule(RuleError),
    /// A benchmark of the scenario could not be evaluated.
    #[error(transparent)]
    Benchmark(Box<dyn std::error::Error + Send + Sync>),
    /// The run was asked to stop.
    #[error("interrupted")]
    Interrupted,
}
