//! Costs of a run: energy and time of devices in each round, and the bytes that moved.

use std::collections::BTreeMap;

use fedreplay_sim::Tally;

use super::record::{RunRecord, span_ns};

/// Costs of the tasks that a round recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoundCosts {
    /// [J] -- Energy of all tasks.
    pub joules: f64,
    /// [J] -- Energy of tasks whose updates counted.
    pub counted_joules: f64,
    /// [J] -- Energy of tasks whose work was lost.
    pub lost_joules: f64,
    /// [s] -- Virtual time that devices trained.
    pub training_s: f64,
    /// [s] -- Virtual time that devices were on tasks, from dispatch to end.
    pub busy_s: f64,
}

impl RoundCosts {
    /// Computes the costs of each round.
    pub fn of(run: &RunRecord) -> Vec<Self> {
        let tasks = &run.tasks;
        let mut costs = Vec::with_capacity(run.round_tasks.len());
        for range in &run.round_tasks {
            let mut of_round = Self::default();
            for task in range.clone() {
                let joules = tasks.energy_mj.value(task) as f64 / 1e3;
                of_round.joules += joules;
                match tasks.fate[task] {
                    Tally::Counted => of_round.counted_joules += joules,
                    _ => of_round.lost_joules += joules,
                }
                of_round.training_s += tasks.training_ns.value(task) as f64 / 1e9;
                let busy_ns = span_ns(tasks.dispatched_at_ns.value(task), tasks.ended_at_ns.value(task));
                of_round.busy_s += busy_ns as f64 / 1e9;
            }
            costs.push(of_round);
        }
        costs
    }
}

/// [byte] -- Numbers of bytes in the two directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the server, or an aggregator below it.
    pub down: u64,
    /// To the server, or an aggregator below it.
    pub up: u64,
}

impl Moved {
    fn add(&mut self, other: Self) {
        self.down = self.down.saturating_add(other.down);
        self.up = self.up.saturating_add(other.up);
    }
}

/// Sum of the bytes that a run moved, over all its rounds and tasks.
///
/// Neither table has all of them. A round's bytes are those of the tasks that its aggregator had seen end, so that tasks that
/// the end of the run called off are in no round. The transfers between the server and its edges belong to no task; they are
/// in the rounds of the server, which has no tasks of its own then. So the greater of both sums is right for each aggregator,
/// also if tasks were not recorded.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    of_rounds: BTreeMap<u32, Moved>,
    of_tasks: BTreeMap<u32, Moved>,
}

impl Traffic {
    /// Adds a round of an aggregator.
    pub fn add_round(&mut self, aggregator: u32, moved: Moved) {
        self.of_rounds.entry(aggregator).or_default().add(moved);
    }

    /// Adds a task of an aggregator.
    pub fn add_task(&mut self, aggregator: u32, moved: Moved) {
        self.of_tasks.entry(aggregator).or_default().add(moved);
    }

    /// Returns the bytes of the whole run.
    pub fn total(&self) -> Moved {
        let mut total = Moved::default();
        for (aggregator, rounds) in &self.of_rounds {
            let tasks = self.of_tasks.get(aggregator).copied().unwrap_or_default();
            total.add(Moved { down: rounds.down.max(tasks.down), up: rounds.up.max(tasks.up) });
        }
        // An aggregator whose first round did not end before the run did.
        for (aggregator, tasks) in &self.of_tasks {
            if !self.of_rounds.contains_key(aggregator) {
                total.add(*tasks);
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_the_runs_end_called_off_and_transfers_of_edges_are_counted_once() {
        let mut traffic = Traffic::default();
        // An edge with two tasks, of which one ended with its round and one with the run.
        traffic.add_task(1, Moved { down: 10, up: 10 });
        traffic.add_task(1, Moved { down: 10, up: 3 });
        traffic.add_round(1, Moved { down: 10, up: 10 });
        // An edge whose only task ended with the run.
        traffic.add_task(2, Moved { down: 5, up: 0 });
        // The server's round has the transfers of both edges.
        traffic.add_round(0, Moved { down: 20, up: 10 });
        assert_eq!(traffic.total(), Moved { down: 45, up: 23 });
    }

    #[test]
    fn rounds_are_enough_if_tasks_were_not_recorded() {
        let mut traffic = Traffic::default();
        traffic.add_round(0, Moved { down: 7, up: 6 });
        assert_eq!(traffic.total(), Moved { down: 7, up: 6 });
    }
}
