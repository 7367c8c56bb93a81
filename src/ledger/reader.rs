//! Reader of the tables of a run, which may be finished, running or killed.

use std::path::Path;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::UInt64Type;
use arrow::record_batch::RecordBatch;

use super::batches::{Part, TableBatches, parts, row_count};
use super::chunk::ChunkBatches;
use super::digest::ChunkHasher;
use super::schema::SCHEMA_WITH_AGGREGATION;
use super::{
    AggregationRow, EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, OLDEST_SCHEMA, PopulationRow,
    RepeatRow, RoundRow, Table, TaskRow,
};
use crate::store::Digest;

/// Reads all rows of one table of the run in `run_folder`, in whatever files they are. [`TableBatches`] reads a table that is
/// longer than memory.
///
/// If the run is in progress, these are the rows of all finished rounds, and possibly some of the next.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use arrow::array::AsArray;
/// use arrow::datatypes::UInt32Type;
/// use fedreplay::ledger::read_table;
///
/// let rounds = read_table(Path::new("fixtures/schema-3/run"), "rounds")?;
/// assert_eq!(rounds.num_rows(), 2);
/// let counted = rounds.column_by_name("counted").expect("each round counts its updates");
/// assert!(counted.as_primitive::<UInt32Type>().values().iter().all(|&count| count > 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_table(run_folder: &Path, table: &str) -> Result<RecordBatch, LedgerError> {
    let batches = TableBatches::open(run_folder, table)?;
    let schema = batches.schema();
    let rows = batches.collect::<Result<Vec<_>, _>>()?;
    let folder = || run_folder.join("ledger").join(table);
    concat_batches(&schema, &rows).map_err(|error| LedgerError::malformed(folder(), error.to_string()))
}

/// Returns the hashes of the tables with which a ledger starts, as [`chunk_hash`](super::digest::chunk_hash) computes them: the population, and
/// the repeats of a plan that has any. At most a block of rows is in memory: there may be millions of clients.
///
/// # Errors
/// If a table cannot be read.
pub fn start_hashes(run_folder: &Path) -> Result<Vec<Digest>, LedgerError> {
    let mut hashes = vec![table_hash(run_folder, PopulationRow::NAME)?];
    if run_folder.join("ledger").join(RepeatRow::NAME).exists() {
        hashes.push(table_hash(run_folder, RepeatRow::NAME)?);
    }
    Ok(hashes)
}

fn table_hash(run_folder: &Path, table: &str) -> Result<Digest, LedgerError> {
    let mut hasher = ChunkHasher::new(table);
    for block in TableBatches::open(run_folder, table)?.in_blocks() {
        hasher.push(&block?, &[]);
    }
    Ok(hasher.finish())
}

/// Returns the number of clients of a run, from the ends of its files.
///
/// # Errors
/// If the table cannot be read.
pub fn client_count(run_folder: &Path) -> Result<usize, LedgerError> {
    let mut count = 0;
    for part in population_parts(run_folder)? {
        count += row_count(&part.path)?;
    }
    Ok(count)
}

/// Returns the files of table `population`, of which there is at least one. It is written whole before the first round, so they
/// are never joined.
fn population_parts(run_folder: &Path) -> Result<Vec<Part>, LedgerError> {
    let folder = run_folder.join("ledger").join(PopulationRow::NAME);
    let found = parts(&folder)?;
    if found.is_empty() {
        return Err(LedgerError::malformed(folder, "it holds no Parquet file"));
    }
    Ok(found)
}

/// Tables of a run, which can be divided into the chunks that its rounds added.
pub struct RoundChunks {
    events: RecordBatch,
    tasks: RecordBatch,
    evaluations: RecordBatch,
    generations: Option<RecordBatch>,
    lineage: Option<RecordBatch>,
    aggregation: Option<RecordBatch>,
    rounds: RecordBatch,
}

impl RoundChunks {
    /// Reads the tables of the run in `run_folder`, whose manifest names this version of their schemas.
    pub fn read(run_folder: &Path, schema_version: u32) -> Result<Self, LedgerError> {
        // A round's own row is written last, so all rows of the rounds that are read here exist by now. The other tables
        // must be read after this one.
        let rounds = read_table(run_folder, RoundRow::NAME)?;
        let mut generations = None;
        let mut lineage = None;
        if schema_version > OLDEST_SCHEMA {
            generations = Some(read_table(run_folder, GenerationRow::NAME)?);
            lineage = Some(read_table(run_folder, LineageRow::NAME)?);
        }
        let mut aggregation = None;
        if schema_version >= SCHEMA_WITH_AGGREGATION {
            aggregation = Some(read_table(run_folder, AggregationRow::NAME)?);
        }
        Ok(Self {
            generations,
            lineage,
            aggregation,
            events: read_table(run_folder, EventRow::NAME)?,
            tasks: read_table(run_folder, TaskRow::NAME)?,
            evaluations: read_table(run_folder, EvaluationRow::NAME)?,
            rounds,
        })
    }

    /// Returns the rows of table `lineage`; `None` in a run of schema 3.
    pub fn lineage(&self) -> Option<&RecordBatch> {
        self.lineage.as_ref()
    }

    /// Returns the rows of table `tasks`.
    pub fn tasks(&self) -> &RecordBatch {
        &self.tasks
    }

    /// Returns the rows of table `rounds`.
    pub fn rounds(&self) -> &RecordBatch {
        &self.rounds
    }

    /// Removes the rows of an unfinished round, which a run that is in progress or was killed may have.
    pub(super) fn of_finished_rounds(self) -> Result<Self, String> {
        let rounds = self.rounds;
        Ok(Self {
            events: finished(self.events, &rounds, "event_rows")?,
            tasks: finished(self.tasks, &rounds, "task_rows")?,
            evaluations: finished(self.evaluations, &rounds, "evaluation_rows")?,
            generations: self.generations.map(|rows| finished(rows, &rounds, "generation_rows")).transpose()?,
            lineage: self.lineage.map(|rows| finished(rows, &rounds, "lineage_rows")).transpose()?,
            aggregation: self.aggregation.map(|rows| finished(rows, &rounds, "aggregation_rows")).transpose()?,
            rounds,
        })
    }

    /// Divides the tables into chunks in round order.
    ///
    /// # Errors
    /// A description of the first table whose rows do not match the counts of the rounds.
    pub(super) fn chunks(&self) -> Result<Vec<ChunkBatches>, String> {
        let mut events = Cursor { table: EventRow::NAME, rows: &self.events, next: 0 };
        let mut tasks = Cursor { table: TaskRow::NAME, rows: &self.tasks, next: 0 };
        let mut evaluations = Cursor { table: EvaluationRow::NAME, rows: &self.evaluations, next: 0 };
        let mut generations =
            self.generations.as_ref().map(|rows| Cursor { table: GenerationRow::NAME, rows, next: 0 });
        let mut lineage = self.lineage.as_ref().map(|rows| Cursor { table: LineageRow::NAME, rows, next: 0 });
        let mut aggregation =
            self.aggregation.as_ref().map(|rows| Cursor { table: AggregationRow::NAME, rows, next: 0 });
        let mut chunks = Vec::with_capacity(self.rounds.num_rows());
        for row in 0..self.rounds.num_rows() {
            chunks.push(ChunkBatches {
                events: events.take(count(&self.rounds, "event_rows", row)?)?,
                tasks: tasks.take(count(&self.rounds, "task_rows", row)?)?,
                evaluations: evaluations.take(count(&self.rounds, "evaluation_rows", row)?)?,
                generations: take_optional(&mut generations, &self.rounds, "generation_rows", row)?,
                lineage: take_optional(&mut lineage, &self.rounds, "lineage_rows", row)?,
                aggregation: take_optional(&mut aggregation, &self.rounds, "aggregation_rows", row)?,
                round: self.rounds.slice(row, 1),
            });
        }
        let optional = [generations.as_ref(), lineage.as_ref(), aggregation.as_ref()];
        let cursors = [Some(&events), Some(&tasks), Some(&evaluations)].into_iter().chain(optional);
        for cursor in cursors.flatten() {
            cursor.exhausted()?;
        }
        Ok(chunks)
    }
}

/// Returns the rows of a table that belong to finished rounds, which count them in `column`.
fn finished(rows: RecordBatch, rounds: &RecordBatch, column: &str) -> Result<RecordBatch, String> {
    let counts = (0..rounds.num_rows()).map(|row| count(rounds, column, row));
    let finished = counts.sum::<Result<u64, String>>()?;
    Ok(rows.slice(0, rows.num_rows().min(usize::try_from(finished).unwrap_or(usize::MAX))))
}

/// Takes the rows of a round from a table that older versions do not have.
fn take_optional(
    cursor: &mut Option<Cursor>,
    rounds: &RecordBatch,
    column: &str,
    row: usize,
) -> Result<Option<RecordBatch>, String> {
    match cursor {
        Some(cursor) => cursor.take(count(rounds, column, row)?).map(Some),
        None => Ok(None),
    }
}

/// Position in a table that is divided into chunks.
struct Cursor<'a> {
    table: &'static str,
    rows: &'a RecordBatch,
    next: usize,
}

impl Cursor<'_> {
    /// Takes the next rows.
    fn take(&mut self, count: u64) -> Result<RecordBatch, String> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let left = self.rows.num_rows() - self.next;
        if count > left {
            return Err(format!("table {}: a round claims {count} rows where {left} are left", self.table));
        }
        self.next += count;
        Ok(self.rows.slice(self.next - count, count))
    }

    /// Checks that no rows are left.
    fn exhausted(&self) -> Result<(), String> {
        match self.rows.num_rows() - self.next {
            0 => Ok(()),
            left => Err(format!("table {}: {left} rows belong to no round", self.table)),
        }
    }
}

/// Returns the count in a row and column of table `rounds`.
fn count(rounds: &RecordBatch, column: &str, row: usize) -> Result<u64, String> {
    let array = rounds.column_by_name(column).ok_or_else(|| format!("table rounds has no column {column}"))?;
    let array = array.as_primitive_opt::<UInt64Type>().ok_or_else(|| format!("table rounds: {column} is not u64"))?;
    Ok(array.value(row))
}
