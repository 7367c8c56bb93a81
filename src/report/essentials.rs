//! Main figures of a run, which are summarized first and by which runs are compared.

use arrow::array::Array;
use fedreplay_sim::Tally;

use super::learning::{Learning, LossCurves};
use super::record::RunRecord;
use super::statistics::{mean, sorted, worst_decile};
use crate::ledger::RoundEnd;

/// Main figures of a run.
#[derive(Clone, Debug, Default)]
pub struct Essentials {
    pub rounds: usize,
    pub failed_rounds: usize,
    /// [s] -- Virtual time at the close of the last round.
    pub simulated_s: f64,
    pub dispatched: u64,
    pub counted: u64,
    pub late: u64,
    pub dropped: u64,
    pub cancelled: u64,
    pub bytes_down: u64,
    pub bytes_up: u64,
    /// [kWh] -- Energy that devices spent on tasks; `None` if no task was recorded.
    pub energy_kwh: Option<f64>,
    /// [client] -- Clients with at least one counted update; `None` if no task was recorded.
    pub clients_counted: Option<usize>,
    /// [update] -- Counted updates that got weight 0 because they were unusable.
    pub unusable: usize,
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    /// Mean loss of the baseline in which clients train alone, on the same rows.
    pub loss_alone: Option<f64>,
    /// Mean over clients of the loss on their own held-out rows after the last round.
    pub client_loss_mean: Option<f64>,
    /// Mean of that loss over the worst tenth of clients.
    pub client_loss_worst_decile: Option<f64>,
    pub accuracy_before: Option<f64>,
    pub accuracy_after: Option<f64>,
    pub epsilon: Option<f64>,
}

impl Essentials {
    /// Computes the figures of a run.
    pub fn of(run: &RunRecord, learning: &Learning) -> Self {
        let rounds = &run.rounds;
        let tasks = &run.tasks;
        let last = learning.points.last();
        // Round 0 is the evaluation before any training.
        let first = learning.points.first().filter(|point| point.round == 0);
        let by_client = sorted(last.iter().flat_map(|point| point.clients.iter().map(|&(_, loss)| loss)));
        let has_tasks = !tasks.task.is_empty();
        Self {
            rounds: rounds.counted.len(),
            failed_rounds: rounds.status.iter().filter(|&&status| status == RoundEnd::Failed).count(),
            simulated_s: rounds.closed_at_ns.iter().flatten().max().unwrap_or(0) as f64 / 1e9,
            dispatched: total(&rounds.dispatched),
            counted: total(&rounds.counted),
            late: total(&rounds.late),
            dropped: total(&rounds.dropped),
            cancelled: total(&rounds.cancelled),
            bytes_down: rounds.bytes_down.iter().flatten().fold(0, u64::saturating_add),
            bytes_up: rounds.bytes_up.iter().flatten().fold(0, u64::saturating_add),
            energy_kwh: has_tasks.then(|| tasks.energy_mj.iter().flatten().map(|mj| mj as f64).sum::<f64>() / 3.6e9),
            clients_counted: has_tasks.then(|| clients_counted(run)),
            // A reason is recorded only for counted updates with weight 0.
            unusable: tasks.reason.len() - tasks.reason.null_count(),
            loss_before: first.and_then(|point| point.model.main(learning.has_test)),
            loss_after: last.filter(|point| point.round > 0).and_then(|point| point.model.main(learning.has_test)),
            loss_alone: learning.alone.as_ref().and_then(|alone: &LossCurves| alone.main(learning.has_test)),
            client_loss_mean: mean(&by_client),
            client_loss_worst_decile: worst_decile(&by_client),
            accuracy_before: first.and_then(|point| point.accuracy),
            accuracy_after: last.filter(|point| point.round > 0).and_then(|point| point.accuracy),
            epsilon: rounds.epsilon_spent.iter().flatten().last(),
        }
    }
}

/// Returns the sum of a column.
fn total(column: &arrow::array::UInt32Array) -> u64 {
    column.iter().flatten().map(u64::from).sum()
}

/// Returns the number of clients with at least one counted update.
fn clients_counted(run: &RunRecord) -> usize {
    let mut counted = vec![false; run.clients()];
    for task in 0..run.tasks.task.len() {
        if run.tasks.fate[task] == Tally::Counted {
            counted[run.tasks.client.value(task) as usize] = true;
        }
    }
    counted.into_iter().filter(|&counted| counted).count()
}
