//! Interface of benchmarks to the computation graph, which treats their results as opaque bytes.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{GraphError, WorkCounters};
use crate::adapter::Adapter;
use crate::store::{Digest, Store};
use crate::training::Trainer;

/// Resources for the evaluation of a model on a benchmark.
#[derive(Clone, Copy)]
pub struct EvalResources<'a> {
    pub trainer: &'a Trainer,
    /// Cache for parts of the result, so that none is computed twice.
    pub store: &'a Store,
    /// Set from outside to interrupt the evaluation.
    pub stop: &'a AtomicBool,
    /// Counts the questions, for progress displays.
    pub work: &'a WorkCounters,
}

/// Benchmark of a model: a pure function of the adapter, the base model and its numerics.
pub trait ScheduledEvaluation: Debug + Send + Sync {
    /// Returns the hash of everything else that decides the result.
    fn key(&self) -> Digest;

    /// Evaluates the model under this adapter. Returns the result as bytes, which only the implementation interprets.
    ///
    /// # Errors
    /// If the model cannot be computed, or the run was asked to stop.
    fn evaluate(&self, resources: &EvalResources, adapter: &Arc<Adapter>) -> Result<Vec<u8>, GraphError>;

    /// Returns whether bytes of a store have the form of a result.
    fn is_result(&self, bytes: &[u8]) -> bool;
}
