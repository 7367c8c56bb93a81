//! Something that a model is put to beside losses; what it is, only its maker knows.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{OrderError, WorkCounters};
use crate::adapter::Adapter;
use crate::store::{Digest, Store};
use crate::training::Trainer;

/// What an exam is taken with.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    pub trainer: &'a Trainer,
    /// For parts of the result, so that none is computed twice.
    pub store: &'a Store,
    /// Set from outside to end the exam.
    pub stop: &'a AtomicBool,
    /// Is told of questions, for displays of progress.
    pub work: &'a WorkCounters,
}

/// An examination of a model: a pure function of the adapter, the base and its numerics.
pub trait Exam: Debug + Send + Sync {
    /// Stands for everything that decides the result beside those.
    fn key(&self) -> Digest;

    /// The result as bytes, which the maker reads again.
    ///
    /// # Errors
    /// If the model cannot be computed, or the run was asked to stop.
    fn take(&self, desk: &Desk, adapter: &Arc<Adapter>) -> Result<Vec<u8>, OrderError>;
}
