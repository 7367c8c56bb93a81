//! What a run tells whoever watches it.

use std::sync::Arc;

use crate::graph::WorkCounters;
use crate::ledger::RoundRow;

/// Watches a run.
pub trait Observer {
    /// Results will be computed now; `counters` say at any time how far that is.
    fn working(&mut self, counters: Arc<WorkCounters>);
    /// The schedule is known: so many rounds and so many tasks to train. Where selection reads results, the number of
    /// tasks shows only as they are trained, and none is given.
    fn scheduled(&mut self, rounds: usize, tasks: Option<usize>);
    /// A round is in the ledger.
    fn round(&mut self, report: &RoundReport);
}

/// What an observer hears of a round.
#[derive(Clone, Debug)]
pub struct RoundReport {
    pub row: RoundRow,
    pub rounds: u32,
    /// [tokens] Trained in the round, prompts included.
    pub tokens: u64,
    /// [nats/token] Loss of the server model on the test rows, or else on all held-out rows.
    pub loss: Option<f64>,
}
