//! Overview of a run for display: its state, its results and its participants, read from its tables alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::costs::Moved;
use super::fairness::Fairness;
use super::losses::{ClientMeans, Learning};
use super::main_figures::MainFigures;
use super::participants::{self, ClientFigures, GroupFigures};
use super::record::{RunRecord, span_ns};
use super::series::{Series, series};
use crate::ledger::{LedgerError, Manifest, RunKind, RunState, RunTables, is_being_written};
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
        let rounds = tables.rounds();
        let end = RoundsEnd {
            rounds: rounds.len() as u32,
            closed_at_ns: rounds.counts("closed_at_ns")?.into_iter().max().unwrap_or(0),
            digest: rounds.names("digest")?.last().map(|&digest| digest.to_owned()),
        };
        Ok(Self::new(run_folder, &manifest, end, &Learning::of(&tables.evaluations()?)))
    }

    fn new(run_folder: &Path, manifest: &Manifest, end: RoundsEnd, learning: &Learning) -> Self {
        Self {
            state: LifecycleState::of(run_folder, manifest),
            kind: manifest.kind,
            rounds: end.rounds,
            rounds_planned: manifest.rounds,
            digest: manifest.digest.as_ref().map(Digest::to_string).or(end.digest),
            seed: manifest.seed,
            simulated_ns: end.closed_at_ns,
            loss_before: learning.loss_before(),
            loss_after: learning.loss_after(),
        }
    }
}

/// Number of complete rounds, and the state after the last of them.
struct RoundsEnd {
    rounds: u32,
    closed_at_ns: u64,
    digest: Option<String>,
}

impl RoundsEnd {
    fn of(run: &RunRecord) -> Self {
        let rounds = &run.rounds;
        Self {
            rounds: rounds.counted.len() as u32,
            closed_at_ns: span_ns(0, rounds.closed_at_ns.iter().flatten().max().unwrap_or(0)),
            digest: rounds.digest.iter().flatten().last().map(str::to_owned),
        }
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
    #[serde(flatten)]
    pub moved: Moved,
    /// [kWh] -- Energy spent by all devices; `None` if they have no power figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_kwh: Option<f64>,
    /// [g] -- CO2 of that energy; `None` if the scenario counts none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon_g: Option<f64>,
    /// [nat/token] -- Losses of the last evaluated model on the held-out rows of each client.
    pub fairness: Option<Fairness>,
    /// Losses on clients' own rows; `None` where no client has a model of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_means: Option<ClientMeans>,
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
        let run = RunRecord::read(run_folder)?;
        let learning = Learning::of(&run.losses);
        let figures = MainFigures::of(&run, &learning);
        let clients = participants::by_client(&run);
        let counts = figures.clients.unwrap_or_default();
        let mut outcomes = BTreeMap::new();
        for outcome in &run.tasks.outcome {
            *outcomes.entry(outcome.name()).or_default() += 1;
        }
        Ok(Self {
            essentials: RunEssentials::new(&run.folder, &run.manifest, RoundsEnd::of(&run), &learning),
            series: series(&run),
            outcomes,
            moved: figures.moved,
            energy_kwh: figures.energy_kwh.filter(|&kwh| kwh > 0.0),
            carbon_g: figures.carbon_g,
            fairness: figures.fairness,
            client_means: ClientMeans::of(&run.losses),
            devices: participants::by_device(&run),
            stragglers: participants::stragglers(&run, &clients),
            clients: run.clients() as u64,
            clients_asked: counts.asked,
            clients_counted: counts.counted,
            grade: run.manifest.grade,
        })
    }
}
