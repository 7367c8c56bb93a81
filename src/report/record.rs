//! Data that a report reads of a run: its manifest, its scenario, and the columns from which figures are made.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, Float64Array, StringArray, UInt32Array, UInt64Array};
use fedreplay_sim::{Outcome, Tally};

use crate::ledger::{EvaluationRow, LOSSES, LedgerError, Manifest, RoundEnd, RunTables, TableView};
use crate::scenario::{Scenario, ScenarioError, ScenarioSpec};

/// Error of reading a run for a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A table is missing, damaged, or of a version that cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The run's own scenario cannot be read.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
}

/// Declares the columns to read from a table; others are ignored.
macro_rules! columns {
    ($(#[$meta:meta])* $name:ident {
        $($column:ident: $array:ty,)+
    } $(names { $($named:ident: $value:ty,)+ })?) => {
        $(#[$meta])*
        pub struct $name { $(pub $column: $array,)+ $($(pub $named: Vec<$value>,)+)? }

        impl $name {
            fn of(table: &TableView) -> Result<Self, LedgerError> {
                Ok(Self {
                    $($column: table.array(stringify!($column))?,)+
                    $($($named: table.values(stringify!($named))?,)+)?
                })
            }
        }
    };
}

columns! {
    /// Clients of the federation.
    Population {
        client_id: StringArray,
        train_rows: UInt64Array,
        device: StringArray,
        link: StringArray,
    }
}

columns! {
    /// Tasks with their times and outcomes.
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
        reason: StringArray,
        staleness: UInt32Array,
        training_ns: UInt64Array,
        energy_mj: UInt64Array,
        loss_mean: Float64Array,
        update_norm: Float64Array,
        weight: Float64Array,
    } names {
        outcome: Outcome,
        fate: Tally,
    }
}

columns! {
    /// Rounds of all aggregators, in the order in which they ended.
    Rounds {
        aggregator: UInt32Array,
        opened_at_ns: UInt64Array,
        closed_at_ns: UInt64Array,
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
    } names {
        status: RoundEnd,
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

/// A run with the columns that reports need. Rows of unfinished rounds are left out.
pub struct RunRecord {
    pub folder: PathBuf,
    pub manifest: Manifest,
    pub scenario: ScenarioSpec,
    pub population: Population,
    pub rounds: Rounds,
    pub tasks: Tasks,
    /// Losses on the scenario's data.
    pub losses: Vec<EvaluationRow>,
    /// Metrics of benchmarks.
    pub benchmarks: Vec<EvaluationRow>,
    pub generations: Generations,
    /// Rows of `tasks` that each round recorded; consecutive.
    pub round_tasks: Vec<Range<usize>>,
}

impl RunRecord {
    /// Reads a run or a plan, whether it is finished, running or was killed.
    ///
    /// # Errors
    /// If there is no run, or one of its tables is missing, damaged or of another version.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let manifest = Manifest::read(folder)?;
        let scenario = Scenario::of_run(folder, &manifest.scenario_folder, &[])?.scenario;
        let tables = RunTables::read(folder)?;
        let rounds = Rounds::of(tables.rounds())?;
        // Losses and benchmark metrics are rows of one table.
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

    /// Returns the number of clients.
    pub fn clients(&self) -> usize {
        self.population.client_id.len()
    }

    /// Returns the unit of losses: preference data is measured per pair, other data per token.
    pub fn loss_unit(&self) -> &'static str {
        let is_of_pairs = self.losses.iter().any(|row| row.preference_accuracy.is_some());
        if is_of_pairs { "nats/pair" } else { "nats/token" }
    }

    /// Returns the virtual time in seconds at which a round closed.
    pub fn closed_at_s(&self, round: usize) -> f64 {
        self.rounds.closed_at_ns.value(round) as f64 / 1e9
    }

    /// Returns the round that recorded a task.
    pub fn round_of(&self, task: usize) -> Option<usize> {
        // The ranges are consecutive and ascending, so binary search finds the first that ends after the task.
        let round = self.round_tasks.partition_point(|range| range.end <= task);
        (round < self.round_tasks.len()).then_some(round)
    }

    /// Returns whether tiers or edge aggregators have rounds of their own.
    pub fn has_aggregators(&self) -> bool {
        self.rounds.aggregator.iter().flatten().any(|aggregator| aggregator > 0)
    }

    /// Checks that every client and round that a row refers to exists: figures use these numbers as indices.
    fn check_references(&self) -> Result<(), LedgerError> {
        let rounds = self.rounds.counted.len();
        for client in self.tasks.client.iter().flatten() {
            self.check_client("tasks", client)?;
        }
        for row in self.losses.iter().chain(&self.benchmarks) {
            if let Some(client) = row.client {
                self.check_client("evaluations", client)?;
            }
            if row.round as usize > rounds {
                let reason = format!("it names round {}, and table rounds has {rounds} rows", row.round);
                return Err(self.malformed("evaluations", reason));
            }
        }
        Ok(())
    }

    /// Checks that a client to which `table` refers exists.
    fn check_client(&self, table: &str, client: u32) -> Result<(), LedgerError> {
        let known = self.clients();
        if (client as usize) < known {
            return Ok(());
        }
        Err(self.malformed(table, format!("it names client {client}, and table population has {known} rows")))
    }

    /// Returns the error that a table refers to something that does not exist.
    fn malformed(&self, table: &str, reason: String) -> LedgerError {
        LedgerError::malformed(self.folder.join("ledger").join(table), reason)
    }
}

/// Returns the consecutive ranges with these numbers of rows.
fn ranges(counts: &UInt64Array) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut next = 0;
    for count in counts.iter().flatten() {
        let end = next + count as usize;
        ranges.push(next..end);
        next = end;
    }
    ranges
}
