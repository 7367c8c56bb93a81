//! A run as people look at it: how far it is, what it reached, who took part. Read from its tables alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::participants::{ClientFigures, GroupFigures, Participants};
use super::series::{Series, series};
use super::summary::main_loss;
use crate::ledger::{EvaluationRow, LedgerError, Manifest, RunKind, RunState, RunTables, is_being_written};
use crate::store::Digest;

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// A process is writing it.
    Running,
    /// It is not finished, and no process writes it: it was interrupted or killed, or it failed.
    Interrupted,
    Done,
}

impl Progress {
    /// How the run of this manifest stands now.
    pub fn of(run_folder: &Path, manifest: &Manifest) -> Self {
        match manifest.state {
            RunState::Done => Self::Done,
            RunState::Running if is_being_written(run_folder) => Self::Running,
            RunState::Running => Self::Interrupted,
        }
    }

    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
        }
    }
}

/// The essentials of a run, which a list of runs has too.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    pub state: Progress,
    pub kind: RunKind,
    /// Complete rounds of all aggregators, and how many there will be; fewer where a budget ends the run.
    pub rounds: u32,
    pub rounds_planned: u32,
    /// The digest of the finished run, or else of its complete rounds.
    pub digest: Option<String>,
    pub seed: u64,
    pub simulated_ns: u64,
    /// [nats/token] Loss of the server model, or the mean of clients on their own models where there is no server:
    /// before training and after the last round that was evaluated.
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
}

impl Standing {
    /// Reads how the run in `run_folder` stands.
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
        let (before, after): (Vec<_>, Vec<_>) = evaluations.iter().cloned().partition(|row| row.round == 0);
        let last_digest = rounds.names("digest")?.last().map(|&digest| digest.to_owned());
        Ok(Self {
            state: Progress::of(run_folder, manifest),
            kind: manifest.kind,
            rounds: rounds.len() as u32,
            rounds_planned: manifest.rounds,
            digest: manifest.digest.as_ref().map(Digest::to_string).or(last_digest),
            seed: manifest.seed,
            simulated_ns: rounds.counts("closed_at_ns")?.into_iter().max().unwrap_or(0),
            loss_before: main_loss(&before, "global"),
            loss_after: main_loss(&after, "global").or_else(|| main_loss(&after, "local")),
        })
    }
}

/// A run in figures.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    #[serde(flatten)]
    pub standing: Standing,
    pub grade: String,
    /// Curves over the rounds.
    pub series: Vec<Series>,
    /// Tasks by how they ended.
    pub outcomes: BTreeMap<String, u64>,
    pub bytes_down: u64,
    pub bytes_up: u64,
    /// [kWh] Spent by all devices.
    pub energy_kwh: f64,
    /// [nats/token] Loss of the last evaluated server model on the held-out rows of each client.
    pub fairness: Option<Fairness>,
    pub devices: Vec<GroupFigures>,
    /// Clients whose work was lost most often to slowness, most first.
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
        let (evaluations, tasks) = (tables.evaluations()?, tables.tasks()?);
        let standing = Standing::new(run_folder, &manifest, &tables, &evaluations)?;
        let participants = Participants::read(&tables.population()?, &tasks)?;
        let total = |column| Ok::<_, LedgerError>(tasks.counts(column)?.into_iter().map(u128::from).sum::<u128>());
        let mut outcomes = BTreeMap::new();
        for outcome in tasks.names("outcome")? {
            *outcomes.entry(outcome.to_owned()).or_default() += 1;
        }
        Ok(Self {
            standing,
            grade: manifest.grade,
            series: series(tables.rounds(), &tasks, &evaluations)?,
            outcomes,
            bytes_down: total("bytes_down")? as u64,
            bytes_up: total("bytes_up")? as u64,
            energy_kwh: total("energy_mj")? as f64 / 3.6e9,
            fairness: Fairness::of(&evaluations),
            clients: participants.clients.len() as u64,
            clients_asked: participants.clients.iter().filter(|client| client.asked > 0).count() as u64,
            clients_counted: participants.clients.iter().filter(|client| client.counted > 0).count() as u64,
            devices: participants.by_device(),
            stragglers: participants.stragglers(),
        })
    }
}

/// How losses spread over clients.
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
    fn of(evaluations: &[EvaluationRow]) -> Option<Self> {
        let is_own = |row: &&EvaluationRow| row.split == "held_out" && row.client.is_some();
        let subject = if evaluations.iter().any(|row| row.subject == "global") { "global" } else { "local" };
        let own: Vec<_> = evaluations.iter().filter(is_own).filter(|row| row.subject == subject).collect();
        let round = own.iter().map(|row| row.round).max()?;
        let losses = own.iter().filter(|row| row.round == round).filter_map(|row| row.loss).collect();
        Self::of_losses(round, losses)
    }

    fn of_losses(round: u32, mut losses: Vec<f64>) -> Option<Self> {
        losses.sort_by(f64::total_cmp);
        let (least, most) = (*losses.first()?, *losses.last()?);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
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
