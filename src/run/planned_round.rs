//! Nodes of a round, by purpose.

use std::ops::Range;

use super::scheduled_benchmarks::PlannedBenchmark;
use crate::graph::{Executor, NodeId};
use crate::ledger::EvalSubject;

/// Nodes of the computation graph for one round.
pub struct PlannedRound {
    /// Numbers of the nodes that are new in this round. The first round includes everything before it.
    pub nodes: Range<usize>,
    /// Training of each counted task, in aggregation order.
    pub updates: Vec<NodeId>,
    /// Ranks of the client before and after each counted task, in the same order; empty where clients prune none.
    pub ranks: Vec<[NodeId; 2]>,
    /// Model that the round replaced.
    pub base: NodeId,
    /// Model of the aggregator after the round.
    pub model: NodeId,
    /// Version number of `model`.
    pub version: u32,
    /// Whether `model` was made in this round.
    pub is_new: bool,
    pub evaluations: Option<Evaluations>,
    /// Benchmarks of the model, or of the clients' own models.
    pub benchmarks: Vec<PlannedBenchmark>,
    /// Evaluations of the clients' own models.
    pub alone: Vec<OwnModel>,
    /// Whether the server's model is evaluated and saved: not where clients' own models take its place.
    pub has_server_model: bool,
    /// Whether nothing is aggregated, so that all counted tasks weigh the same in the round's loss.
    pub counts_alike: bool,
    /// [1] -- Epsilon spent up to and including this round; `None` without differential privacy.
    pub epsilon_spent: Option<f64>,
}

/// Evaluations of one server model.
pub struct Evaluations {
    pub model: NodeId,
    pub test: Option<NodeId>,
    pub held_out: NodeId,
}

/// Model of one client's own, and its evaluation.
pub struct OwnModel {
    pub client: u32,
    /// Whether the client trained alone, or keeps factors of the server's model.
    pub subject: EvalSubject,
    /// Version of the server's model that it has; 0 where the client trained alone.
    pub version: u32,
    pub model: NodeId,
    /// Losses on the test rows (if any), then on the client's held-out rows.
    pub evaluation: NodeId,
}

impl PlannedRound {
    /// Demands every value that the ledger records of the round, once per use.
    pub fn demand(&self, executor: &Executor) {
        // The ledger takes the same values again, so demands and takes must stay in balance: see `run::ledger_rows::round`.
        for &update in &self.updates {
            executor.demand(update);
        }
        for &rank in self.ranks.as_flattened() {
            executor.demand(rank);
        }
        executor.demand(self.base);
        executor.demand(self.model);
        if let Some(evaluations) = &self.evaluations {
            evaluations.demand(executor);
        }
        for benchmark in &self.benchmarks {
            benchmark.demand(executor);
        }
        for own in &self.alone {
            own.demand(executor);
        }
    }
}

impl Evaluations {
    /// Demands the model and its losses.
    pub fn demand(&self, executor: &Executor) {
        executor.demand(self.model);
        if let Some(test) = self.test {
            executor.demand(test);
        }
        executor.demand(self.held_out);
    }
}

impl OwnModel {
    /// Demands the model and its losses.
    pub fn demand(&self, executor: &Executor) {
        executor.demand(self.model);
        executor.demand(self.evaluation);
    }
}
