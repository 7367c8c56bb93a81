//! Costs of a run: energy and time of devices in each round, and the bytes that moved.

use std::collections::BTreeMap;

use fedreplay_sim::{RoundRecord, Tally, TaskRecord};
use serde::{Deserialize, Serialize};

use super::record::{RunRecord, span_ns};
use crate::ledger::{RoundRow, TaskRow};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Messages from the server, or an aggregator below it.
    #[serde(rename = "bytes_down")]
    pub down: u64,
    /// Messages to the server, or an aggregator below it.
    #[serde(rename = "bytes_up")]
    pub up: u64,
    /// The former on the wire, with the transport's headers; 0 in summaries of versions that did not model them.
    #[serde(rename = "wire_bytes_down", default)]
    pub wire_down: u64,
    /// The latter on the wire.
    #[serde(rename = "wire_bytes_up", default)]
    pub wire_up: u64,
}

impl Moved {
    /// Returns these messages without any headers.
    pub fn without_headers(down: u64, up: u64) -> Self {
        Self { down, up, wire_down: down, wire_up: up }
    }

    /// Applies `join` to both values of each number.
    fn joined(self, other: Self, join: fn(u64, u64) -> u64) -> Self {
        Self {
            down: join(self.down, other.down),
            up: join(self.up, other.up),
            wire_down: join(self.wire_down, other.wire_down),
            wire_up: join(self.wire_up, other.wire_up),
        }
    }

    fn add(&mut self, other: Self) {
        *self = self.joined(other, u64::saturating_add);
    }
}

macro_rules! moved_by {
    ($($record:ident),+) => {$(
        impl From<&$record> for Moved {
            fn from(record: &$record) -> Self {
                Self {
                    down: record.bytes_down,
                    up: record.bytes_up,
                    wire_down: record.wire_bytes_down,
                    wire_up: record.wire_bytes_up,
                }
            }
        }
    )+};
}

moved_by!(TaskRecord, RoundRecord, TaskRow, RoundRow);

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
            total.add(rounds.joined(tasks, u64::max));
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
        traffic.add_task(1, Moved::without_headers(10, 10));
        traffic.add_task(1, Moved::without_headers(10, 3));
        traffic.add_round(1, Moved::without_headers(10, 10));
        // An edge whose only task ended with the run.
        traffic.add_task(2, Moved::without_headers(5, 0));
        // The server's round has the transfers of both edges.
        traffic.add_round(0, Moved::without_headers(20, 10));
        assert_eq!(traffic.total(), Moved::without_headers(45, 23));
    }

    #[test]
    fn rounds_are_enough_if_tasks_were_not_recorded() {
        let mut traffic = Traffic::default();
        traffic.add_round(0, Moved::without_headers(7, 6));
        assert_eq!(traffic.total(), Moved::without_headers(7, 6));
    }
}
