//! Tables of a run as the columns from which its figures are computed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Float64Array, Int64Array, StringArray, UInt32Array, UInt64Array};
use fedreplay_sim::{Outcome, Tally};

use super::losses::loss_unit;
use super::population::RunClients;
use crate::ledger::{EvaluationRow, LOSSES, LedgerError, Manifest, RoundEnd, RunTables, TableView};

/// Declares the columns to read from a table; others are ignored. Those of `newer` are of numbers, and all null in older versions.
macro_rules! columns {
    ($(#[$meta:meta])* $name:ident {
        $($column:ident: $array:ty,)+
    } $(names { $($named:ident: $value:ty,)+ })? $(newer { $($newer:ident,)+ })? $(newer counts { $($count:ident,)+ })?) => {
        $(#[$meta])*
        pub struct $name {
            $(pub $column: $array,)+
            $($(pub $named: Vec<$value>,)+)?
            $($(pub $newer: Vec<Option<f64>>,)+)?
            $($(pub $count: Vec<Option<u64>>,)+)?
        }

        impl $name {
            fn of(table: &TableView) -> Result<Self, LedgerError> {
                Ok(Self {
                    $($column: table.array(stringify!($column))?,)+
                    $($($named: table.values(stringify!($named))?,)+)?
                    $($($newer: table.newer_numbers(stringify!($newer))?,)+)?
                    $($($count: table.newer_counts(stringify!($count))?,)+)?
                })
            }
        }
    };
}

columns! {
    /// Tasks with their times and outcomes.
    Tasks {
        task: UInt64Array,
        client: UInt32Array,
        aggregator: UInt32Array,
        round: UInt32Array,
        dispatched_at_ns: Int64Array,
        download_done_at_ns: Int64Array,
        training_done_at_ns: Int64Array,
        upload_done_at_ns: Int64Array,
        ended_at_ns: Int64Array,
        reason: StringArray,
        staleness: UInt32Array,
        training_ns: Int64Array,
        energy_mj: UInt64Array,
        bytes_down: UInt64Array,
        bytes_up: UInt64Array,
        loss_mean: Float64Array,
        update_norm: Float64Array,
        weight: Float64Array,
    } names {
        outcome: Outcome,
        fate: Tally,
    } newer {
        rank_after,
    } newer counts {
        wire_bytes_down,
        wire_bytes_up,
        download_mj,
        training_mj,
        upload_mj,
        carbon_ug,
    }
}

columns! {
    /// Rounds of all aggregators, in the order in which they ended.
    Rounds {
        aggregator: UInt32Array,
        opened_at_ns: Int64Array,
        closed_at_ns: Int64Array,
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
        digest: StringArray,
    } names {
        status: RoundEnd,
    } newer {
        aggregation_error,
        kept_rank,
    } newer counts {
        wire_bytes_down,
        wire_bytes_up,
        carbon_ug,
    }
}

/// A run with the columns from which figures are computed. Rows of unfinished rounds are left out.
pub struct RunRecord {
    pub folder: PathBuf,
    pub manifest: Manifest,
    pub population: RunClients,
    pub rounds: Rounds,
    pub tasks: Tasks,
    /// Losses on the scenario's data.
    pub losses: Vec<EvaluationRow>,
    /// Metrics of benchmarks.
    pub benchmarks: Vec<EvaluationRow>,
    /// Whether clients trained on preference pairs.
    trains_on_pairs: bool,
    /// Rows of `tasks` that each round recorded; consecutive.
    pub round_tasks: Vec<Range<usize>>,
}

impl RunRecord {
    /// Reads a run or a plan, whether it is finished, running or was killed.
    ///
    /// # Errors
    /// If there is no run, or one of its tables is missing, damaged or of another version.
    pub fn read(folder: &Path) -> Result<Self, LedgerError> {
        let manifest = Manifest::read(folder)?;
        let tables = RunTables::read(folder)?;
        let rounds = Rounds::of(tables.rounds())?;
        // Losses and benchmark metrics are rows of one table.
        let (losses, benchmarks): (Vec<_>, Vec<_>) =
            tables.evaluations()?.into_iter().partition(|row| row.benchmark == LOSSES);
        let tasks = tables.tasks()?;
        let trains_on_pairs = tasks.numbers("preference_accuracy")?.iter().any(Option::is_some);
        let tasks = Tasks::of(&tasks)?;
        let named = named_clients(&tasks, &losses, &benchmarks);
        let record = Self {
            folder: folder.to_owned(),
            manifest,
            population: RunClients::read(tables.population()?, named)?,
            trains_on_pairs,
            tasks,
            losses,
            benchmarks,
            round_tasks: ranges(&rounds.task_rows),
            rounds,
        };
        record.check_references()?;
        Ok(record)
    }

    /// Returns the number of clients.
    pub fn clients(&self) -> usize {
        self.population.clients()
    }

    /// Returns the unit of losses: preference data is measured per pair, other data per token. A run without evaluations has
    /// only the losses of its tasks.
    pub fn loss_unit(&self) -> &'static str {
        if self.trains_on_pairs { "nats/pair" } else { loss_unit(&self.losses) }
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

    /// [byte] -- Returns the bytes that had moved at the start, and at the end of each round.
    pub fn moved_bytes(&self) -> Vec<f64> {
        let mut moved = vec![0.0];
        let mut sum = 0.0;
        for (down, up) in self.rounds.bytes_down.iter().flatten().zip(self.rounds.bytes_up.iter().flatten()) {
            sum += down as f64 + up as f64;
            moved.push(sum);
        }
        moved
    }

    /// [s] -- Returns the duration of a round in virtual time.
    pub fn round_seconds(&self, round: usize) -> f64 {
        span_ns(self.rounds.opened_at_ns.value(round), self.rounds.closed_at_ns.value(round)) as f64 / 1e9
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

/// Returns the clients to which tasks and evaluations refer, in ascending order.
fn named_clients(tasks: &Tasks, losses: &[EvaluationRow], benchmarks: &[EvaluationRow]) -> Vec<u32> {
    let evaluated = losses.iter().chain(benchmarks).filter_map(|row| row.client);
    let mut named: Vec<u32> = tasks.client.iter().flatten().chain(evaluated).collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// [ns] -- Returns the time between two instants; 0 if they are in the wrong order, which they are in damaged tables alone.
pub fn span_ns(from: i64, until: i64) -> u64 {
    u64::try_from(until.saturating_sub(from)).unwrap_or(0)
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
