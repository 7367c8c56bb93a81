//! Observer of a run's progress, and the reports that it receives.

use std::sync::Arc;

use crate::graph::WorkCounters;
use crate::ledger::RoundRow;

/// Observer of a run's progress.
pub trait Observer {
    /// Called before results are computed; `counters` report the progress at any time.
    fn working(&mut self, counters: Arc<WorkCounters>);
    /// Called when the schedule is known, with the number of rounds and of tasks to train. If client selection reads
    /// results, the number of tasks is not known in advance and is `None`.
    fn scheduled(&mut self, rounds: usize, tasks: Option<usize>);
    /// Called when a round is in the ledger.
    fn round(&mut self, report: &RoundReport);
}

/// An observer that ignores everything.
impl Observer for () {
    fn working(&mut self, _: Arc<WorkCounters>) {}
    fn scheduled(&mut self, _: usize, _: Option<usize>) {}
    fn round(&mut self, _: &RoundReport) {}
}

/// Report of a round to an observer.
#[derive(Clone, Debug)]
pub struct RoundReport {
    pub row: RoundRow,
    pub rounds: u32,
    /// [token] -- Tokens trained in the round, prompts included.
    pub tokens: u64,
    /// [nat/token] -- Loss after this round, if it was evaluated: of the server model, or of the clients' own models if there is
    /// none, on the test rows or else on all held-out rows.
    pub loss: Option<f64>,
}

/// Observer of a plan's progress.
pub trait PlanWatch {
    /// Called at intervals: `rounds` of the scenario's `of` rounds have ended, after this many tasks and events.
    fn progress(&mut self, rounds: u32, of: u32, tasks: u64, events: u64);

    /// Called at intervals: `done` of the plan's repeats, `of` in all, have been simulated.
    fn repeated(&mut self, done: u32, of: u32);
}

/// Observer that ignores all progress.
impl PlanWatch for () {
    fn progress(&mut self, _: u32, _: u32, _: u64, _: u64) {}

    fn repeated(&mut self, _: u32, _: u32) {}
}
