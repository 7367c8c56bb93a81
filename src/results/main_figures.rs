//! Main figures of a run, which are summarized first and by which runs are compared.

use arrow::array::{Array, UInt32Array};
use fedreplay_sim::Tally;

use super::costs::{Moved, Traffic};
use super::fairness::Fairness;
use super::losses::Learning;
use super::participants::FateCounts;
use super::record::{RunRecord, span_ns};
use crate::ledger::RoundEnd;

/// Main figures of a run.
#[derive(Clone, Debug, Default)]
pub struct MainFigures {
    pub rounds: usize,
    pub failed_rounds: usize,
    /// [ns] -- Virtual time at the close of the last round.
    pub simulated_ns: u64,
    /// [task] -- Tasks that were dispatched, whether they have ended or not.
    pub dispatched: u64,
    /// Tasks that ended: all that are recorded, or else those that the rounds count.
    pub tasks: FateCounts,
    pub moved: Moved,
    /// [kWh] -- Energy that devices spent on tasks; `None` if no task was recorded.
    pub energy_kwh: Option<f64>,
    /// [g] -- CO2 of that energy; `None` if the scenario counts none.
    pub carbon_g: Option<f64>,
    /// [client] -- Clients with at least one task, and with one that counted; `None` if no task was recorded.
    pub clients: Option<ClientCounts>,
    /// [update] -- Counted updates that got weight 0 because they were unusable.
    pub unusable: usize,
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    /// Loss of the baseline in which clients train alone, on the same rows with the same weights.
    pub loss_alone: Option<f64>,
    /// Losses of clients on their own held-out rows after the last round.
    pub fairness: Option<Fairness>,
    pub accuracy_before: Option<f64>,
    pub accuracy_after: Option<f64>,
    pub epsilon: Option<f64>,
}

/// [client] -- Numbers of clients by their part in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounts {
    pub asked: u64,
    pub counted: u64,
}

impl MainFigures {
    /// Computes the figures of a run.
    pub fn of(run: &RunRecord, learning: &Learning) -> Self {
        let rounds = &run.rounds;
        let tasks = &run.tasks;
        let has_tasks = !tasks.task.is_empty();
        Self {
            rounds: rounds.counted.len(),
            failed_rounds: rounds.status.iter().filter(|&&status| status == RoundEnd::Failed).count(),
            simulated_ns: span_ns(0, rounds.closed_at_ns.iter().flatten().max().unwrap_or(0)),
            dispatched: total(&rounds.dispatched).max(tasks.task.len() as u64),
            tasks: fates(run),
            moved: moved(run),
            energy_kwh: has_tasks
                .then(|| tasks.energy_mj.iter().flatten().map(u128::from).sum::<u128>() as f64 / 3.6e9),
            carbon_g: carbon(run),
            clients: has_tasks.then(|| client_counts(run)),
            // A reason is recorded only for counted updates with weight 0.
            unusable: tasks.reason.len() - tasks.reason.null_count(),
            loss_before: learning.loss_before(),
            loss_after: learning.loss_after(),
            loss_alone: learning.loss_alone(),
            fairness: learning.points.last().and_then(Fairness::of),
            accuracy_before: learning.before().and_then(|point| Some(point.ranking?.accuracy)),
            accuracy_after: learning.after().and_then(|point| Some(point.ranking?.accuracy)),
            epsilon: rounds.epsilon_spent.iter().flatten().last(),
        }
    }
}

/// Counts the tasks by their fate.
fn fates(run: &RunRecord) -> FateCounts {
    let mut fates = FateCounts::default();
    // Tasks that the end of the run called off are in no round's counts, so that the tasks themselves are counted.
    for &fate in &run.tasks.fate {
        fates.add(fate);
    }
    if run.tasks.fate.is_empty() {
        fates.add_many(Tally::Counted, total(&run.rounds.counted));
        fates.add_many(Tally::Late, total(&run.rounds.late));
        fates.add_many(Tally::Dropped, total(&run.rounds.dropped));
        fates.add_many(Tally::Cancelled, total(&run.rounds.cancelled));
    }
    fates
}

/// [g] -- Adds up the carbon of all tasks, or of the rounds if tasks were not recorded.
fn carbon(run: &RunRecord) -> Option<f64> {
    let recorded = if run.tasks.task.is_empty() { &run.rounds.carbon_ug } else { &run.tasks.carbon_ug };
    let sum = recorded.iter().map(|ug| ug.map(u128::from)).sum::<Option<u128>>()?;
    (!recorded.is_empty()).then_some(sum as f64 / 1e6)
}

/// Returns the sum of a column.
fn total(column: &UInt32Array) -> u64 {
    column.iter().flatten().map(u64::from).sum()
}

/// Returns messages with what they were on the wire; `None` in older versions, which modeled no headers.
fn with_headers([down, up]: [u64; 2], [wire_down, wire_up]: [Option<u64>; 2]) -> Moved {
    Moved { down, up, wire_down: wire_down.unwrap_or(down), wire_up: wire_up.unwrap_or(up) }
}

/// Adds up the bytes that moved.
fn moved(run: &RunRecord) -> Moved {
    let mut traffic = Traffic::default();
    let rounds = &run.rounds;
    for round in 0..rounds.aggregator.len() {
        let messages = [rounds.bytes_down.value(round), rounds.bytes_up.value(round)];
        let moved =
            with_headers(messages, [&rounds.wire_bytes_down, &rounds.wire_bytes_up].map(|column| column[round]));
        traffic.add_round(rounds.aggregator.value(round), moved);
    }
    let tasks = &run.tasks;
    for task in 0..tasks.aggregator.len() {
        let messages = [tasks.bytes_down.value(task), tasks.bytes_up.value(task)];
        let moved = with_headers(messages, [&tasks.wire_bytes_down, &tasks.wire_bytes_up].map(|column| column[task]));
        traffic.add_task(tasks.aggregator.value(task), moved);
    }
    traffic.total()
}

/// Counts the clients that were asked, and those with at least one counted update.
fn client_counts(run: &RunRecord) -> ClientCounts {
    let mut asked = vec![false; run.clients()];
    let mut counted = vec![false; run.clients()];
    for (client, &fate) in run.tasks.client.iter().flatten().zip(&run.tasks.fate) {
        asked[client as usize] = true;
        counted[client as usize] |= fate == Tally::Counted;
    }
    ClientCounts {
        asked: asked.into_iter().filter(|&asked| asked).count() as u64,
        counted: counted.into_iter().filter(|&counted| counted).count() as u64,
    }
}
