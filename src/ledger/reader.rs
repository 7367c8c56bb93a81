//! Reads the tables of a run, finished, running or killed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, UInt64Type};
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::chunk::ChunkBatches;
use super::{EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, OLDEST_SCHEMA, RoundRow, Table, TaskRow};

/// One file of a table, holding the rounds `first..=last`.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub first: u32,
    pub last: u32,
    pub path: PathBuf,
}

/// The files of a table in round order. A file whose rounds are all in a wider one is left out: a run that was killed
/// while its files were being joined has both.
pub(super) fn parts(folder: &Path) -> Result<Vec<Part>, LedgerError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(LedgerError::io(folder))? {
        let entry = entry.map_err(LedgerError::io(folder))?;
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            // A pipe would never end.
            return Err(LedgerError::malformed(&path, "it is not a plain file"));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(range) = name.strip_suffix(".parquet") else { continue };
        let part = range.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let (first, last) = part.ok_or_else(|| LedgerError::malformed(&path, "its name is not FIRST-LAST.parquet"))?;
        found.push(Part { first, last, path });
    }
    found.sort_by_key(|part| (part.first, std::cmp::Reverse(part.last)));
    let mut covered = None;
    found.retain(|part| {
        let inside = covered.is_some_and(|last| part.last <= last);
        covered = covered.max(Some(part.last));
        !inside
    });
    Ok(found)
}

/// [rows] Of a batch that is read.
pub(super) const READ_ROWS: usize = 1 << 16;

/// The record batches of one file.
pub(super) fn batches(path: &Path) -> Result<ParquetRecordBatchReader, LedgerError> {
    let file = File::open(path).map_err(LedgerError::io(path))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(READ_ROWS).build())
        .map_err(|source| LedgerError::Parquet { path: path.to_owned(), source })
}

/// How often a table is read again whose files are being joined by a run that ends.
const ATTEMPTS: usize = 5;

/// All rows of one table of the run in `run_folder`, whatever files they are in.
///
/// The run may be going on: then these are the rows of all finished rounds, and perhaps some of the next.
pub fn read_table(run_folder: &Path, table: &str) -> Result<RecordBatch, LedgerError> {
    let folder = run_folder.join("ledger").join(table);
    let is_gone =
        |error: &LedgerError| matches!(error, LedgerError::Io { source, .. } if source.kind() == ErrorKind::NotFound);
    for _ in 1..ATTEMPTS {
        match read_files(&folder) {
            Err(error) if folder.exists() && is_gone(&error) => {}
            read => return read,
        }
    }
    read_files(&folder)
}

fn read_files(folder: &Path) -> Result<RecordBatch, LedgerError> {
    let mut rows = Vec::new();
    let mut schema = None;
    for part in parts(folder)? {
        let reader = batches(&part.path)?;
        let reader_schema = reader.schema();
        check_types(&part.path, &reader_schema)?;
        for batch in reader {
            rows.push(batch.map_err(|error| LedgerError::malformed(&part.path, error.to_string()))?);
        }
        schema.get_or_insert(reader_schema);
    }
    let schema = schema.ok_or_else(|| LedgerError::malformed(folder, "it holds no Parquet file"))?;
    concat_batches(&schema, &rows).map_err(|error| LedgerError::malformed(folder, error.to_string()))
}

/// Refuses a file whose columns have types that no table has: another program wrote it.
fn check_types(path: &Path, schema: &Schema) -> Result<(), LedgerError> {
    use DataType::{Boolean, Float64, UInt32, UInt64, Utf8};
    let foreign =
        schema.fields().iter().find(|field| !matches!(field.data_type(), UInt32 | UInt64 | Float64 | Boolean | Utf8));
    match foreign {
        Some(field) => {
            let reason = format!("column {} is {}, which no table of a run has", field.name(), field.data_type());
            Err(LedgerError::malformed(path, reason))
        }
        None => Ok(()),
    }
}

/// A run's tables, cut into the chunks that its rounds added.
pub struct RoundChunks {
    events: RecordBatch,
    tasks: RecordBatch,
    evaluations: RecordBatch,
    generations: Option<RecordBatch>,
    lineage: Option<RecordBatch>,
    rounds: RecordBatch,
}

impl RoundChunks {
    /// Reads the tables of the run in `run_folder`, whose manifest names this version of their schemas.
    pub fn read(run_folder: &Path, schema_version: u32) -> Result<Self, LedgerError> {
        let is_new = schema_version > OLDEST_SCHEMA;
        let optional = |table| is_new.then(|| read_table(run_folder, table)).transpose();
        // A round's own row is written last, so the rows of every round that is seen here are there by now.
        let rounds = read_table(run_folder, RoundRow::NAME)?;
        Ok(Self {
            generations: optional(GenerationRow::NAME)?,
            lineage: optional(LineageRow::NAME)?,
            events: read_table(run_folder, EventRow::NAME)?,
            tasks: read_table(run_folder, TaskRow::NAME)?,
            evaluations: read_table(run_folder, EvaluationRow::NAME)?,
            rounds,
        })
    }

    /// The rows of table `lineage`; none in a run of schema 3.
    pub fn lineage(&self) -> Option<&RecordBatch> {
        self.lineage.as_ref()
    }

    /// The rows of table `tasks`.
    pub fn tasks(&self) -> &RecordBatch {
        &self.tasks
    }

    /// The rows of table `rounds`.
    pub fn rounds(&self) -> &RecordBatch {
        &self.rounds
    }

    /// Without the rows of a round that is not finished, of which a run that goes on or was killed has some.
    pub(super) fn of_finished_rounds(self) -> Result<Self, String> {
        let cut = |rows: RecordBatch, column: &str| -> Result<RecordBatch, String> {
            let counts = (0..self.rounds.num_rows()).map(|row| count(&self.rounds, column, row));
            let finished = counts.sum::<Result<u64, String>>()?;
            Ok(rows.slice(0, rows.num_rows().min(usize::try_from(finished).unwrap_or(usize::MAX))))
        };
        Ok(Self {
            events: cut(self.events, "event_rows")?,
            tasks: cut(self.tasks, "task_rows")?,
            evaluations: cut(self.evaluations, "evaluation_rows")?,
            generations: self.generations.map(|rows| cut(rows, "generation_rows")).transpose()?,
            lineage: self.lineage.map(|rows| cut(rows, "lineage_rows")).transpose()?,
            rounds: self.rounds,
        })
    }

    /// The chunks in round order, or what does not add up.
    pub(super) fn chunks(&self) -> Result<Vec<ChunkBatches>, String> {
        let mut events = Cursor { table: EventRow::NAME, rows: &self.events, next: 0 };
        let mut tasks = Cursor { table: TaskRow::NAME, rows: &self.tasks, next: 0 };
        let mut evaluations = Cursor { table: EvaluationRow::NAME, rows: &self.evaluations, next: 0 };
        let mut generations =
            self.generations.as_ref().map(|rows| Cursor { table: GenerationRow::NAME, rows, next: 0 });
        let mut lineage = self.lineage.as_ref().map(|rows| Cursor { table: LineageRow::NAME, rows, next: 0 });
        let take = |cursor: &mut Option<Cursor>, column: &str, row: usize| match cursor {
            Some(cursor) => cursor.take(count(&self.rounds, column, row)?).map(Some),
            None => Ok(None),
        };
        let mut chunks = Vec::with_capacity(self.rounds.num_rows());
        for row in 0..self.rounds.num_rows() {
            chunks.push(ChunkBatches {
                events: events.take(count(&self.rounds, "event_rows", row)?)?,
                tasks: tasks.take(count(&self.rounds, "task_rows", row)?)?,
                evaluations: evaluations.take(count(&self.rounds, "evaluation_rows", row)?)?,
                generations: take(&mut generations, "generation_rows", row)?,
                lineage: take(&mut lineage, "lineage_rows", row)?,
                round: self.rounds.slice(row, 1),
            });
        }
        let cursors = [Some(&events), Some(&tasks), Some(&evaluations), generations.as_ref(), lineage.as_ref()];
        cursors.into_iter().flatten().try_for_each(Cursor::exhausted)?;
        Ok(chunks)
    }
}

struct Cursor<'a> {
    table: &'static str,
    rows: &'a RecordBatch,
    next: usize,
}

impl Cursor<'_> {
    fn take(&mut self, count: u64) -> Result<RecordBatch, String> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let left = self.rows.num_rows() - self.next;
        if count > left {
            return Err(format!("table {}: a round claims {count} rows where {left} are left", self.table));
        }
        self.next += count;
        Ok(self.rows.slice(self.next - count, count))
    }

    fn exhausted(&self) -> Result<(), String> {
        match self.rows.num_rows() - self.next {
            0 => Ok(()),
            left => Err(format!("table {}: {left} rows belong to no round", self.table)),
        }
    }
}

fn count(rounds: &RecordBatch, column: &str, row: usize) -> Result<u64, String> {
    let array = rounds.column_by_name(column).ok_or_else(|| format!("table rounds has no column {column}"))?;
    let array = array.as_primitive_opt::<UInt64Type>().ok_or_else(|| format!("table rounds: {column} is not u64"))?;
    Ok(array.value(row))
}
