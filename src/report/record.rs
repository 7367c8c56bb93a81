//! What a report reads of a run: its manifest, its scenario, and the columns that figures are made of.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, Float64Array, StringArray, UInt32Array, UInt64Array};

use crate::ledger::{EvaluationRow, LOSSES, LedgerError, Manifest, RunTables, TableView};
use crate::scenario::{Loaded, Scenario, ScenarioError};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A table is missing, damaged, or not what this version reads.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The run's own scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// Declares the columns that are read of a table; others are left alone.
macro_rules! columns {
    ($(#[$meta:meta])* $name:ident { $($column:ident: $array:ty,)+ }) => {
        $(#[$meta])*
        pub struct $name { $(pub $column: $array,)+ }

        impl $name {
            fn of(table: &TableView) -> Result<Self, LedgerError> {
                Ok(Self { $($column: table.array(stringify!($column))?,)+ })
            }
        }
    };
}

columns! {
    /// Who takes part.
    Population {
        client_id: StringArray,
        train_rows: UInt64Array,
        device: StringArray,
        link: StringArray,
    }
}

columns! {
    /// What became of each dispatch.
    Tasks {
        task: UInt64Array,
        client: UInt32Array,
        aggregator: UInt32Array,
        round: UInt32Array,
        dispatched_at_ns: UInt64Array,
        download_done_at_ns: UInt64Array,
        training_done_at_ns: UInt64Array,
        upload_done_at_ns: UInt64Array,
        ended_at_ns: UInt64Array,
        outcome: StringArray,
        fate: StringArray,
        reason: StringArray,
        staleness: UInt32Array,
        training_ns: UInt64Array,
        energy_mj: UInt64Array,
        loss_mean: Float64Array,
        update_norm: Float64Array,
        weight: Float64Array,
    }
}

columns! {
    /// The rounds of all aggregators, in the order in which they ended.
    Rounds {
        aggregator: UInt32Array,
        opened_at_ns: UInt64Array,
        closed_at_ns: UInt64Array,
        status: StringArray,
        reason: StringArray,
        dispatched: UInt32Array,
        counted: UInt32Array,
        late: UInt32Array,
        dropped: UInt32Array,
        cancelled: UInt32Array,
        in_flight: UInt32Array,
        bytes_down: UInt64Array,
        bytes_up: UInt64Array,
        train_loss: Float64Array,
        update_norm: Float64Array,
        epsilon_spent: Float64Array,
        task_rows: UInt64Array,
    }
}

columns! {
    /// Answers of models to questions of benchmarks.
    Generations {
        round: UInt32Array,
        benchmark: StringArray,
        question: StringArray,
        category: StringArray,
        prompt: StringArray,
        answer: StringArray,
        judgement: StringArray,
        score: Float64Array,
    }
}

/// A run as reports need it. Rows of a round that is not finished are left out.
pub struct RunRecord {
    pub folder: PathBuf,
    pub manifest: Manifest,
    pub scenario: Scenario,
    pub population: Population,
    pub rounds: Rounds,
    pub tasks: Tasks,
    /// Losses on the scenario's data.
    pub losses: Vec<EvaluationRow>,
    /// Figures of benchmarks.
    pub benchmarks: Vec<EvaluationRow>,
    pub generations: Generations,
    /// The rows of `tasks` that each round recorded.
    pub round_tasks: Vec<Range<usize>>,
}

impl RunRecord {
    /// Reads a run or a plan, finished, running or killed.
    ///
    /// # Errors
    /// If there is no run, or one of its tables is missing, damaged or of another version.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let manifest = Manifest::read(folder)?;
        let scenario = Loaded::of_run(folder, &manifest.scenario_folder, &[])?.scenario;
        let tables = RunTables::read(folder)?;
        let rounds = Rounds::of(tables.rounds())?;
        let (losses, benchmarks) = tables.evaluations()?.into_iter().partition(|row| row.benchmark == LOSSES);
        let record = Self {
            folder: folder.to_owned(),
            manifest,
            scenario,
            population: Population::of(&tables.population()?)?,
            tasks: Tasks::of(&tables.tasks()?)?,
            losses,
            benchmarks,
            generations: Generations::of(&tables.generations()?)?,
            round_tasks: ranges(&rounds.task_rows),
            rounds,
        };
        record.check_references()?;
        Ok(record)
    }

    /// Clients of the federation.
    pub fn clients(&self) -> usize {
        self.population.client_id.len()
    }

    /// The unit of losses: those of preference data are a pair's, not a token's.
    pub fn loss_unit(&self) -> &'static str {
        let is_of_pairs = self.losses.iter().any(|row| row.preference_accuracy.is_some());
        if is_of_pairs { "nats/pair" } else { "nats/token" }
    }

    /// [s] Virtual time at which a round closed.
    pub fn closed_at_s(&self, round: usize) -> f64 {
        self.rounds.closed_at_ns.value(round) as f64 / 1e9
    }

    /// The round that recorded a task.
    pub fn round_of(&self, task: usize) -> Option<usize> {
        let round = self.round_tasks.partition_point(|range| range.end <= task);
        (round < self.round_tasks.len()).then_some(round)
    }

    /// Whether tiers or edges have rounds of their own.
    pub fn has_aggregators(&self) -> bool {
        self.rounds.aggregator.iter().flatten().any(|aggregator| aggregator > 0)
    }

    /// Figures look clients and rounds up by their numbers, so that these must be there.
    fn check_references(&self) -> Result<(), LedgerError> {
        let fault =
            |table: &str, reason: String| Err(LedgerError::malformed(self.folder.join("ledger").join(table), reason));
        let (known, rounds) = (self.clients(), self.rounds.counted.len());
        let is_strange = |client: &u32| *client as usize >= known;
        if let Some(stranger) = self.tasks.client.iter().flatten().find(is_strange) {
            return fault("tasks", format!("it names client {stranger}, and table population has {known} rows"));
        }
        for row in self.losses.iter().chain(&self.benchmarks) {
            if let Some(stranger) = row.client.filter(is_strange) {
                let reason = format!("it names client {stranger}, and table population has {known} rows");
                return fault("evaluations", reason);
            }
            if row.round as usize > rounds {
                let reason = format!("it names round {}, and table rounds has {rounds} rows", row.round);
                return fault("evaluations", reason);
            }
        }
        Ok(())
    }
}

fn ranges(counts: &UInt64Array) -> Vec<Range<usize>> {
    let mut next = 0;
    let range = |count: u64| {
        next += count as usize;
        next - count as usize..next
    };
    counts.iter().flatten().map(range).collect()
}
