//! The orders of a round by what they are for.

use std::ops::Range;

use super::scheduled_benchmarks::PlannedExam;
use crate::graph::{Executor, OrderId};

/// The orders of one round.
pub struct PlannedRound {
    /// Their numbers: those that no round before has. What precedes all training is in the first round.
    pub orders: Range<usize>,
    /// Training of each counted task, in aggregation order.
    pub updates: Vec<OrderId>,
    /// The model that the round replaced.
    pub base: OrderId,
    /// The aggregator's model after the round.
    pub model: OrderId,
    /// Its number.
    pub version: u32,
    /// Whether the round made that model.
    pub is_new: bool,
    pub evaluations: Option<Evaluations>,
    /// Benchmarks of the model, or of the clients' own models where nothing is aggregated.
    pub exams: Vec<PlannedExam>,
    /// Where nothing is aggregated: the evaluations of the clients' own models.
    pub alone: Vec<LocalBaseline>,
    /// Whether nothing is aggregated, so that all counted tasks count alike in the round's loss.
    pub counts_alike: bool,
    /// [1] Privacy spent up to this round; none without differential privacy.
    pub epsilon_spent: Option<f64>,
}

/// The evaluations of one server model.
pub struct Evaluations {
    pub model: OrderId,
    pub test: Option<OrderId>,
    pub held_out: OrderId,
}

/// A client trained alone.
pub struct LocalBaseline {
    pub client: u32,
    pub model: OrderId,
    /// Losses on the test rows (if any), then on the client's held-out rows.
    pub evaluation: OrderId,
}

impl PlannedRound {
    /// Asks for everything that the ledger takes of the round, once for each time.
    pub fn demand(&self, executor: &Executor) {
        self.updates.iter().chain([&self.base, &self.model]).for_each(|&order| executor.demand(order));
        self.evaluations.iter().for_each(|evaluations| evaluations.demand(executor));
        self.exams.iter().for_each(|exam| exam.demand(executor));
        self.alone.iter().for_each(|own| own.demand(executor));
    }
}

impl Evaluations {
    /// Asks for the model and its losses.
    pub fn demand(&self, executor: &Executor) {
        [Some(self.model), self.test, Some(self.held_out)]
            .into_iter()
            .flatten()
            .for_each(|order| executor.demand(order));
    }
}

impl LocalBaseline {
    /// Asks for the model and its losses.
    pub fn demand(&self, executor: &Executor) {
        [self.model, self.evaluation].into_iter().for_each(|order| executor.demand(order));
    }
}
