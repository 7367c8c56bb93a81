//! Reader of the tables of a run, which may be finished, running or killed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::{BatchCoalescer, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::chunk::ChunkBatches;
use super::digest::{BLOCK_ROWS, ChunkHasher};
use super::schema::signed;
use super::{
    EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, OLDEST_SCHEMA, PopulationRow, RoundRow, Table,
    TaskRow,
};
use crate::store::{Digest, without_panic};

/// File of a table with the rounds `first..=last`.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub first: u32,
    pub last: u32,
    pub path: PathBuf,
}

/// Lists the files of a table in round order. A file whose rounds are all in a wider one is left out: a run that was killed
/// while its files were joined has both.
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
    // Sorted by first round, widest first, so that a file is covered if an earlier one reaches its last round.
    found.sort_by_key(|part| (part.first, std::cmp::Reverse(part.last)));
    let mut covered = None;
    found.retain(|part| {
        let inside = covered.is_some_and(|last| part.last <= last);
        covered = covered.max(Some(part.last));
        !inside
    });
    Ok(found)
}

/// [rows] -- Size of the batches that are read.
pub(super) const READ_ROWS: usize = 1 << 16;

/// Record batches of one file.
pub(super) struct FileBatches {
    inner: ParquetRecordBatchReader,
    is_over: bool,
}

impl FileBatches {
    pub fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }
}

impl Iterator for FileBatches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        // The reader panics on some damaged pages, and cannot be used after that.
        let next =
            without_panic(|| self.inner.next()).unwrap_or_else(|panic| Some(Err(ArrowError::ParquetError(panic))));
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Opens the record batches of one file.
pub(super) fn batches(path: &Path) -> Result<FileBatches, LedgerError> {
    let inner = opened(path, |builder| builder.with_batch_size(READ_ROWS).build())?;
    Ok(FileBatches { inner, is_over: false })
}

/// Opens a file and returns what `read` makes of it.
fn opened<T>(
    path: &Path,
    read: impl FnOnce(ParquetRecordBatchReaderBuilder<File>) -> Result<T, ParquetError>,
) -> Result<T, LedgerError> {
    let file = File::open(path).map_err(LedgerError::io(path))?;
    let read = without_panic(|| ParquetRecordBatchReaderBuilder::try_new(file).and_then(read));
    let read = read.unwrap_or_else(|panic| Err(ParquetError::General(panic)));
    read.map_err(|source| LedgerError::Parquet { path: path.to_owned(), source })
}

/// Number of attempts to open the files of a table while a run joins some of them.
const ATTEMPTS: usize = 5;

/// Reads all rows of one table of the run in `run_folder`, in whatever files they are.
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
    let folder = run_folder.join("ledger").join(table);
    for _ in 1..ATTEMPTS {
        match read_files(&folder) {
            // A file that was listed and is gone has been joined into another one meanwhile.
            Err(LedgerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && folder.exists() => {}
            read => return read,
        }
    }
    read_files(&folder)
}

/// Reads the files of a table and concatenates their rows.
fn read_files(folder: &Path) -> Result<RecordBatch, LedgerError> {
    let mut rows = Vec::new();
    let mut schema = None;
    // All are opened before the first is read: a run in progress replaces its newest file again and again, and an open file stays.
    let mut opened = Vec::new();
    for part in parts(folder)? {
        let reader = batches(&part.path)?;
        opened.push((part, reader));
    }
    for (part, reader) in opened {
        check_types(&part.path, &reader.schema())?;
        schema.get_or_insert(with_signed_times(RecordBatch::new_empty(reader.schema())).schema());
        for batch in reader {
            let batch = batch.map_err(|error| LedgerError::malformed(&part.path, error.to_string()))?;
            rows.push(with_signed_times(batch));
        }
    }
    let schema = schema.ok_or_else(|| LedgerError::malformed(folder, "it holds no Parquet file"))?;
    concat_batches(&schema, &rows).map_err(|error| LedgerError::malformed(folder, error.to_string()))
}

/// Returns the hash of table `population`, as [`chunk_hash`](super::digest::chunk_hash) computes it. At most a block of rows is
/// in memory: there may be millions of clients.
///
/// # Errors
/// If the table cannot be read.
pub fn population_hash(run_folder: &Path) -> Result<Digest, LedgerError> {
    let mut hasher = ChunkHasher::new(PopulationRow::NAME);
    for part in population_parts(run_folder)? {
        let malformed = |error: ArrowError| LedgerError::malformed(&part.path, error.to_string());
        let reader = batches(&part.path)?;
        check_types(&part.path, &reader.schema())?;
        // Hashes are taken over blocks, and a file may be read in other pieces.
        let mut blocks = BatchCoalescer::new(reader.schema(), BLOCK_ROWS);
        for batch in reader {
            blocks.push_batch(batch.map_err(malformed)?).map_err(malformed)?;
            push_completed(&mut blocks, &mut hasher);
        }
        blocks.finish_buffered_batch().map_err(malformed)?;
        push_completed(&mut blocks, &mut hasher);
    }
    Ok(hasher.finish())
}

fn push_completed(blocks: &mut BatchCoalescer, hasher: &mut ChunkHasher) {
    while let Some(block) = blocks.next_completed_batch() {
        hasher.push(&with_signed_times(block), &[]);
    }
}

/// Returns the number of clients of a run, from the ends of its files.
///
/// # Errors
/// If the table cannot be read.
pub fn client_count(run_folder: &Path) -> Result<usize, LedgerError> {
    let mut count = 0;
    for part in population_parts(run_folder)? {
        let rows = opened(&part.path, |file| Ok(file.metadata().file_metadata().num_rows()))?;
        count += usize::try_from(rows).unwrap_or(0);
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

/// Returns rows of any version with the types of this one. Up to version 3, times were unsigned.
fn with_signed_times(rows: RecordBatch) -> RecordBatch {
    let is_unsigned = |field: &Field| field.name().ends_with("_ns") && *field.data_type() == DataType::UInt64;
    if !rows.schema_ref().fields().iter().any(|field| is_unsigned(field)) {
        return rows;
    }
    let mut fields = Vec::with_capacity(rows.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(rows.num_columns());
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if is_unsigned(field) {
            fields.push(Arc::new(field.as_ref().clone().with_data_type(DataType::Int64)));
            columns.push(Arc::new(signed(column.as_primitive())));
        } else {
            fields.push(field.clone());
            columns.push(column.clone());
        }
    }
    let schema = Schema::new_with_metadata(fields, rows.schema_ref().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).expect("columns have the types of their fields")
}

/// Refuses a file with column types that no table has: another program wrote it.
fn check_types(path: &Path, schema: &Schema) -> Result<(), LedgerError> {
    use DataType::{Boolean, Float64, Int64, UInt32, UInt64, Utf8};
    let is_known = |of: &DataType| matches!(of, UInt32 | UInt64 | Int64 | Float64 | Boolean | Utf8);
    let foreign = schema.fields().iter().find(|field| !is_known(field.data_type()));
    match foreign {
        Some(field) => {
            let reason = format!("column {} is {}, which no table of a run has", field.name(), field.data_type());
            Err(LedgerError::malformed(path, reason))
        }
        None => Ok(()),
    }
}

/// Tables of a run, which can be divided into the chunks that its rounds added.
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
        // A round's own row is written last, so all rows of the rounds that are read here exist by now. The other tables
        // must be read after this one.
        let rounds = read_table(run_folder, RoundRow::NAME)?;
        let mut generations = None;
        let mut lineage = None;
        if schema_version > OLDEST_SCHEMA {
            generations = Some(read_table(run_folder, GenerationRow::NAME)?);
            lineage = Some(read_table(run_folder, LineageRow::NAME)?);
        }
        Ok(Self {
            generations,
            lineage,
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
        let mut chunks = Vec::with_capacity(self.rounds.num_rows());
        for row in 0..self.rounds.num_rows() {
            chunks.push(ChunkBatches {
                events: events.take(count(&self.rounds, "event_rows", row)?)?,
                tasks: tasks.take(count(&self.rounds, "task_rows", row)?)?,
                evaluations: evaluations.take(count(&self.rounds, "evaluation_rows", row)?)?,
                generations: take_optional(&mut generations, &self.rounds, "generation_rows", row)?,
                lineage: take_optional(&mut lineage, &self.rounds, "lineage_rows", row)?,
                round: self.rounds.slice(row, 1),
            });
        }
        let cursors = [Some(&events), Some(&tasks), Some(&evaluations), generations.as_ref(), lineage.as_ref()];
        for cursor in cursors.into_iter().flatten() {
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

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn unsigned_times_of_older_versions_are_read_as_signed_ones() {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schema-3/run");
        for (table, column) in [("tasks", "dispatched_at_ns"), ("tasks", "upload_done_at_ns"), ("events", "at_ns")] {
            let written = parts(&run.join("ledger").join(table)).expect("a folder").swap_remove(0);
            let written = batches(&written.path).expect("a file").next().expect("rows").expect("rows");
            let unsigned = written[column].as_primitive::<UInt64Type>();
            let read = read_table(&run, table).expect("a table");
            let signed = read[column].as_primitive::<Int64Type>().slice(0, unsigned.len());
            assert!(unsigned.len() > unsigned.null_count(), "{column}");
            assert!(unsigned.iter().eq(signed.iter().map(|time| time.map(|time| time as u64))), "{column}");
        }
    }
}
