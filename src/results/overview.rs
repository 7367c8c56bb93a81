//! Overview of a run for display: its state, its results and its participants, read from its tables alone.

use std::collections::BTreeMap;
use std::path::Path;

use fedreplay_sim::Outcome;
use serde::Serialize;

use super::participants::{ClientFigures, GroupFigures, Participants};
use super::series::{Series, series};
use super::summary::main_loss;
use crate::ledger::{
    EvalSubject, EvaluationRow, LedgerError, Manifest, RunKind, RunState, RunTables, Split, TableView, is_being_written,
};
use crate::store::Digest;

/// State of a run's life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LifecycleState {
    /// A process is writing it.
    Running,
    /// It is not finished, and no process writes it: it was interrupted or killed, or it failed.
    Interrupted,
    Done,
}

impl LifecycleState {
    /// Returns the current state of the run with this manifest.
    pub fn of(run_folder: &Path, manifest: &Manifest) -> Self {
        match manifest.state {
            RunState::Done => Self::Done,
            RunState::Running if is_being_written(run_folder) => Self::Running,
            RunState::Running => Self::Interrupted,
        }
    }

    /// Returns the name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
        }
    }
}

/// Essentials of a run, as in a list of runs.
#[derive(Clone, Debug, Serialize)]
pub struct RunEssentials {
    pub state: LifecycleState,
    pub kind: RunKind,
    /// Number of complete rounds of all aggregators.
    pub rounds: u32,
    /// Planned number of rounds; a budget may end the run earlier.
    pub rounds_planned: u32,
    /// Digest of the finished run, or else of its complete rounds.
    pub digest: Option<String>,
    pub seed: u64,
    pub simulated_ns: u64,
    /// [nat/token] -- Loss of the server model before training.
    pub loss_before: Option<f64>,
    /// [nat/token] -- Loss after the last evaluated round: of the server model, or the mean over the clients' own models if
    /// there is no server model.
    pub loss_after: Option<f64>,
}

impl RunEssentials {
    /// Reads the essentials of the run in `run_folder`.
    ///
    /// # Errors
    /// If there is no run, or its tables cannot be read.
    pub fn read(run_folder: &Path) -> Result<Self, LedgerError> {
        let manifest = Manifest::read(run_folder)?;
        let tables = RunTables::read(run_folder)?;
        Self::new(run_folder, &manifest, &tables, &tables.evaluations()?)
    }

    fn new(
        run_folder: &Path,
        manifest: &Manifest,
        tables: &RunTables,
        evaluations: &[EvaluationRow],
    ) -> Result<Self, LedgerError> {
        let rounds = tables.rounds();
        // Round 0 is before any training.
        let (before, after): (Vec<_>, Vec<_>) = evaluations.iter().cloned().partition(|row| row.round == 0);
        let last_digest = rounds.names("digest")?.last().map(|&digest| digest.to_owned());
        Ok(Self {
            state: LifecycleState::of(run_folder, manifest),
            kind: manifest.kind,
            rounds: rounds.len() as u32,
            rounds_planned: manifest.rounds,
            digest: manifest.digest.as_ref().map(Digest::to_string).or(last_digest),
            seed: manifest.seed,
            simulated_ns: rounds.counts("closed_at_ns")?.into_iter().max().unwrap_or(0),
            loss_before: main_loss(&before, EvalSubject::Global),
            loss_after: main_loss(&after, EvalSubject::Global).or_else(|| main_loss(&after, EvalSubject::Local)),
        })
    }
}

/// Figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    #[serde(flatten)]
    pub essentials: RunEssentials,
    pub grade: String,
    /// Curves over the rounds.
    pub series: Vec<Series>,
    /// Number of tasks, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    pub bytes_down: u64,
    pub bytes_up: u64,
    /// [kWh] -- Energy spent by all devices.
    pub energy_kwh: f64,
    /// [nat/token] -- Losses of the last evaluated model on the held-out rows of each client.
    pub fairness: Option<Fairness>,
    pub devices: Vec<GroupFigures>,
    /// Clients that lost the most tasks by being too slow, most first.
    pub stragglers: Vec<ClientFigures>,
    pub clients: u64,
    pub clients_asked: u64,
    pub clients_counted: u64,
}

impl Overview {
    /// Reads the run in `run_folder`, finished or not.
    ///
    /// # Errors
    /// If there is no run, or its tables cannot be read.
    pub fn read(run_folder: &Path) -> Result<Self, LedgerError> {
        let manifest = Manifest::read(run_folder)?;
        let tables = RunTables::read(run_folder)?;
        let evaluations = tables.evaluations()?;
        let tasks = tables.tasks()?;
        let essentials = RunEssentials::new(run_folder, &manifest, &tables, &evaluations)?;
        let participants = Participants::read(&tables.population()?, &tasks)?;
        let mut outcomes = BTreeMap::new();
        for outcome in tasks.values::<Outcome>("outcome")? {
            *outcomes.entry(outcome.name()).or_default() += 1;
        }
        Ok(Self {
            essentials,
            grade: manifest.grade,
            series: series(tables.rounds(), &tasks, &evaluations)?,
            outcomes,
            bytes_down: total(&tasks, "bytes_down")? as u64,
            bytes_up: total(&tasks, "bytes_up")? as u64,
            energy_kwh: total(&tasks, "energy_mj")? as f64 / 3.6e9,
            fairness: Fairness::of(&evaluations),
            clients: participants.clients.len() as u64,
            clients_asked: participants.clients.iter().filter(|client| client.asked > 0).count() as u64,
            clients_counted: participants.clients.iter().filter(|client| client.counted > 0).count() as u64,
            devices: participants.by_device(),
            stragglers: participants.stragglers(),
        })
    }
}

/// Sums a column of counts. The sum of 64-bit counts may need more bits.
fn total(table: &TableView, column: &str) -> Result<u128, LedgerError> {
    Ok(table.counts(column)?.into_iter().map(u128::from).sum())
}

/// Distribution of losses over clients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fairness {
    pub round: u32,
    pub clients: u64,
    pub least: f64,
    pub median: f64,
    pub mean: f64,
    /// Mean over the tenth of the clients with the greatest losses, at least one.
    pub worst_decile: f64,
    pub most: f64,
}

impl Fairness {
    /// Computes the distribution after the last evaluated round; `None` without losses.
    fn of(evaluations: &[EvaluationRow]) -> Option<Self> {
        // With a server model, the rows of local baselines are left out: they belong to other models.
        let subject = if evaluations.iter().any(|row| row.subject == EvalSubject::Global) {
            EvalSubject::Global
        } else {
            EvalSubject::Local
        };
        let mut own = Vec::new();
        for row in evaluations {
            if row.split == Split::HeldOut && row.client.is_some() && row.subject == subject {
                own.push(row);
            }
        }
        let round = own.iter().map(|row| row.round).max()?;
        let losses = own.iter().filter(|row| row.round == round).filter_map(|row| row.loss).collect();
        Self::of_losses(round, losses)
    }

    /// Computes the distribution of these losses, one per client.
    fn of_losses(round: u32, mut losses: Vec<f64>) -> Option<Self> {
        // Sorted, so that the worst decile is the end of the list and the median its middle.
        losses.sort_by(f64::total_cmp);
        let least = *losses.first()?;
        let most = *losses.last()?;
        Some(Self {
            round,
            clients: losses.len() as u64,
            least,
            median: (losses[(losses.len() - 1) / 2] + losses[losses.len() / 2]) / 2.0,
            mean: mean(&losses),
            worst_decile: mean(&losses[losses.len() - losses.len().div_ceil(10)..]),
            most,
        })
    }
}

/// Computes the mean of values.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_tenth_is_at_least_one_client() {
        let of = |losses: &[f64]| Fairness::of_losses(3, losses.to_vec());
        assert_eq!(of(&[]), None);
        let one = of(&[2.0]).expect("a client");
        assert_eq!((one.least, one.median, one.worst_decile, one.most), (2.0, 2.0, 2.0, 2.0));
        let many: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        let many = of(&many).expect("clients");
        assert_eq!((many.least, many.median, many.mean, many.worst_decile), (1.0, 10.5, 10.5, 19.5));
    }
}
