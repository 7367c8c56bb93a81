//! Costs of the tasks of each round: energy and time of devices.

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
