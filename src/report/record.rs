//! What a report reads of a run: its manifest, its scenario, and the columns that figures are made of.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, Float64Array, StringArray, UInt32Array, UInt64Array};
use arrow::record_batch::RecordBatch;

use crate::ledger::{
    EvaluationRow, LedgerError, Manifest, PopulationRow, RoundRow, RunState, Table, TaskRow, read_table,
};
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
    ($(#[$meta:meta])* $name:ident of $row:ty { $($column:ident: $array:ty,)+ }) => {
        $(#[$meta])*
        pub struct $name { $(pub $column: $array,)+ }

        impl $name {
            fn of(run: &Path, rows: &RecordBatch) -> Result<Self, LedgerError> {
                let folder = run.join("ledger").join(<$row as Table>::NAME);
                let schema = <$row as Table>::schema();
                Ok(Self { $($column: column(&folder, &schema, rows, stringify!($column))?,)+ })
            }
        }
    };
}

columns! {
    /// Who takes part.
    Population of PopulationRow {
        client_id: StringArray,
        train_rows: UInt64Array,
        device: StringArray,
        link: StringArray,
    }
}

columns! {
    /// What became of each dispatch.
    Tasks of TaskRow {
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
    Rounds of RoundRow {
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
        evaluation_rows: UInt64Array,
    }
}

columns! {
    /// What was measured of models.
    Evaluations of EvaluationRow {
        round: UInt32Array,
        subject: StringArray,
        client: UInt32Array,
        split: StringArray,
        rows: UInt64Array,
        target_tokens: UInt64Array,
        loss: Float64Array,
        reward_margin: Float64Array,
        preference_accuracy: Float64Array,
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
    pub evaluations: Evaluations,
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
        let running = manifest.state == RunState::Running;
        let population = Population::of(folder, &table::<PopulationRow>(folder, running)?)?;
        let rounds = Rounds::of(folder, &table::<RoundRow>(folder, running)?)?;
        let claimed = |counts: &UInt64Array| counts.iter().flatten().fold(0u64, u64::saturating_add);
        let tasks =
            finished(folder, table::<TaskRow>(folder, running)?, claimed(&rounds.task_rows), running, TaskRow::NAME)?;
        let evaluations = table::<EvaluationRow>(folder, running)?;
        let evaluations =
            finished(folder, evaluations, claimed(&rounds.evaluation_rows), running, EvaluationRow::NAME)?;
        let tasks = Tasks::of(folder, &tasks)?;
        let evaluations = Evaluations::of(folder, &evaluations)?;
        let round_tasks = ranges(&rounds.task_rows);
        let record =
            Self { folder: folder.to_owned(), manifest, scenario, population, rounds, tasks, evaluations, round_tasks };
        record.check_references()?;
        Ok(record)
    }

    /// Clients of the federation.
    pub fn clients(&self) -> usize {
        self.population.client_id.len()
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
        let known = self.clients();
        for (table, clients) in [(TaskRow::NAME, &self.tasks.client), (EvaluationRow::NAME, &self.evaluations.client)] {
            if let Some(stranger) = clients.iter().flatten().find(|&client| client as usize >= known) {
                let reason = format!("it names client {stranger}, and table population has {known} rows");
                return Err(LedgerError::malformed(self.folder.join("ledger").join(table), reason));
            }
        }
        let rounds = self.rounds.counted.len();
        match self.evaluations.round.iter().flatten().find(|&round| round as usize > rounds) {
            Some(round) => {
                let reason = format!("it names round {round}, and table rounds has {rounds} rows");
                Err(LedgerError::malformed(self.folder.join("ledger").join(EvaluationRow::NAME), reason))
            }
            None => Ok(()),
        }
    }
}

/// A table's rows; none where a run has not come so far.
fn table<T: Table>(folder: &Path, running: bool) -> Result<RecordBatch, LedgerError> {
    let path = folder.join("ledger").join(T::NAME);
    let is_parquet = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".parquet");
    let holds_rows = || path.read_dir().is_ok_and(|found| found.flatten().any(|entry| is_parquet(entry.file_name())));
    if running && !holds_rows() {
        return Ok(RecordBatch::new_empty(T::schema()));
    }
    read_table(folder, T::NAME)
}

/// The rows that finished rounds claim. A run that is under way may have more of them.
fn finished(
    folder: &Path,
    rows: RecordBatch,
    claimed: u64,
    running: bool,
    table: &str,
) -> Result<RecordBatch, LedgerError> {
    let found = rows.num_rows() as u64;
    if claimed > found || (claimed < found && !running) {
        let reason = format!("it has {found} rows, and table rounds counts {claimed}; `fedreplay verify` says more");
        return Err(LedgerError::malformed(folder.join("ledger").join(table), reason));
    }
    Ok(rows.slice(0, claimed as usize))
}

fn ranges(counts: &UInt64Array) -> Vec<Range<usize>> {
    let mut next = 0;
    let range = |count: u64| {
        next += count as usize;
        next - count as usize..next
    };
    counts.iter().flatten().map(range).collect()
}

fn column<A: Array + Clone + 'static>(
    folder: &Path,
    schema: &arrow::datatypes::Schema,
    rows: &RecordBatch,
    name: &str,
) -> Result<A, LedgerError> {
    let found = rows.column_by_name(name).ok_or_else(|| {
        LedgerError::malformed(folder, format!("it has no column {name}: another version of fedreplay wrote it"))
    })?;
    let array = found.as_any().downcast_ref::<A>().ok_or_else(|| {
        LedgerError::malformed(folder, format!("column {name} is {}, which it never is", found.data_type()))
    })?;
    let may_be_null = schema.field_with_name(name).is_ok_and(|field| field.is_nullable());
    if array.null_count() > 0 && !may_be_null {
        return Err(LedgerError::malformed(folder, format!("column {name} has nulls, which it never has")));
    }
    Ok(array.clone())
}
