//! Rows of a table as record batches, in whatever files they are. At most one file is open, and one batch in memory: a table may
//! have millions of rows, and a run in progress hundreds of files.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::IntoIter;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::LedgerError;
use super::digest::BLOCK_ROWS;
use super::schema::signed;
use crate::store::without_panic;

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
    fn new(inner: ParquetRecordBatchReader) -> Self {
        Self { inner, is_over: false }
    }

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
    opened(path, |builder| builder.with_batch_size(READ_ROWS).build()).map(FileBatches::new)
}

/// Returns the number of rows of a file, from its end.
pub(super) fn row_count(path: &Path) -> Result<usize, LedgerError> {
    opened(path, |builder| Ok(rows_of(&builder)))
}

fn rows_of(builder: &ParquetRecordBatchReaderBuilder<File>) -> usize {
    usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0)
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

/// Number of attempts to find the next file of a table while a run joins some of them.
const ATTEMPTS: usize = 5;

/// Record batches of one table of a run, in the order of its rows.
///
/// If the run is in progress, these are the rows of all finished rounds, and possibly some of the next.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::ledger::TableBatches;
///
/// let mut rows = 0;
/// for batch in TableBatches::open(Path::new("fixtures/schema-3/run"), "events")? {
///     rows += batch?.num_rows();
/// }
/// assert_eq!(rows, 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableBatches {
    folder: PathBuf,
    /// Columns of the first file; `None` before it is opened.
    schema: Option<SchemaRef>,
    /// Files that come after the open one.
    next: IntoIter<Part>,
    open: Option<(PathBuf, FileBatches)>,
    /// Number of rows that were returned.
    returned: usize,
    is_over: bool,
}

impl TableBatches {
    /// Opens a table of the run in `run_folder`.
    ///
    /// # Errors
    /// If the table has no file, or its first one cannot be read.
    pub fn open(run_folder: &Path, table: &str) -> Result<Self, LedgerError> {
        let folder = run_folder.join("ledger").join(table);
        let next = parts(&folder)?.into_iter();
        let mut table = Self { folder, schema: None, next, open: None, returned: 0, is_over: false };
        if !table.advance()? {
            return Err(LedgerError::malformed(&table.folder, "it holds no Parquet file"));
        }
        Ok(table)
    }

    /// Returns the columns of the batches.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone().expect("an open table has a first file")
    }

    /// Opens the next file. Returns whether there is one.
    fn advance(&mut self) -> Result<bool, LedgerError> {
        let mut opened = self.open_next(0);
        for _ in 1..ATTEMPTS {
            match opened {
                // A file that was listed and is gone has been joined with others into a wider one, which has the same rows in
                // the same order.
                Err(LedgerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && self.folder.exists() => {
                }
                opened => return opened,
            }
            self.next = parts(&self.folder)?.into_iter();
            opened = self.open_next(self.returned);
        }
        opened
    }

    /// Opens the first of the next files that has more than `skipped` rows, behind these.
    fn open_next(&mut self, mut skipped: usize) -> Result<bool, LedgerError> {
        for part in self.next.by_ref() {
            let rows = if skipped > 0 { row_count(&part.path)? } else { usize::MAX };
            if rows <= skipped {
                skipped -= rows;
                continue;
            }
            let read = opened(&part.path, |file| file.with_batch_size(READ_ROWS).with_offset(skipped).build())?;
            self.begin(part.path, FileBatches::new(read))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Checks the columns of a file and makes it the open one.
    fn begin(&mut self, path: PathBuf, batches: FileBatches) -> Result<(), LedgerError> {
        check_types(&path, &batches.schema())?;
        let schema = with_signed_times(RecordBatch::new_empty(batches.schema())).schema();
        match &self.schema {
            None => self.schema = Some(schema),
            Some(first) if has_same_columns(first, &schema) => {}
            Some(_) => return Err(LedgerError::malformed(path, "its columns are not those of the first file")),
        }
        self.open = Some((path, batches));
        Ok(())
    }

    fn read_next(&mut self) -> Result<Option<RecordBatch>, LedgerError> {
        loop {
            if let Some((path, batches)) = &mut self.open
                && let Some(batch) = batches.next()
            {
                let batch = batch.map_err(|error| LedgerError::malformed(&*path, error.to_string()))?;
                self.returned += batch.num_rows();
                return Ok(Some(with_signed_times(batch)));
            }
            self.open = None;
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn malformed(&self, error: &ArrowError) -> LedgerError {
        LedgerError::malformed(&self.folder, error.to_string())
    }

    /// Returns the same rows in blocks of [`BLOCK_ROWS`] rows, but for the last, however they lie in files.
    pub(super) fn in_blocks(self) -> Blocks {
        let open = BatchCoalescer::new(self.schema(), BLOCK_ROWS);
        Blocks { batches: self, open }
    }
}

impl Iterator for TableBatches {
    type Item = Result<RecordBatch, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.read_next().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Rows of a table in blocks of equal length.
pub(super) struct Blocks {
    batches: TableBatches,
    open: BatchCoalescer,
}

impl Blocks {
    fn read_next(&mut self) -> Result<Option<RecordBatch>, LedgerError> {
        while !self.open.has_completed_batch() {
            match self.batches.next() {
                Some(batch) => self.open.push_batch(batch?).map_err(|error| self.batches.malformed(&error))?,
                None => {
                    self.open.finish_buffered_batch().map_err(|error| self.batches.malformed(&error))?;
                    break;
                }
            }
        }
        Ok(self.open.next_completed_batch())
    }
}

impl Iterator for Blocks {
    type Item = Result<RecordBatch, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next().transpose()
    }
}

/// Whether two schemas have columns of the same names and types.
fn has_same_columns(one: &Schema, other: &Schema) -> bool {
    let columns = |schema: &Schema| -> Vec<(String, DataType)> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    columns(one) == columns(other)
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

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};

    use super::super::chunk::{part_name, write_batch};
    use super::super::{RoundEnd, RoundRow, Table};
    use super::*;

    /// Writes the file of table `rounds` with these rounds.
    fn write(run: &Path, first: u32, last: u32) {
        let mut rows = Vec::new();
        for round in first..=last {
            rows.push(RoundRow { round, status: RoundEnd::Failed, ..RoundRow::default() });
        }
        let path = run.join("ledger/rounds").join(part_name(first, last));
        write_batch(&path, &RoundRow::batch(&rows)).expect("a writable folder");
    }

    fn remove(run: &Path, first: u32, last: u32) {
        fs::remove_file(run.join("ledger/rounds").join(part_name(first, last))).expect("a file");
    }

    fn rounds(batch: &RecordBatch) -> Vec<u32> {
        batch["round"].as_primitive::<UInt32Type>().values().to_vec()
    }

    /// Returns the batches of the files 1-2, 3-3 and 4-4, where `meanwhile` happens after the first.
    fn read(meanwhile: impl Fn(&Path)) -> Vec<Vec<u32>> {
        let run = tempfile::tempdir().expect("a temporary folder");
        for (first, last) in [(1, 2), (3, 3), (4, 4)] {
            write(run.path(), first, last);
        }
        let mut table = TableBatches::open(run.path(), RoundRow::NAME).expect("files");
        let mut read = vec![rounds(&table.next().expect("a batch").expect("rows"))];
        meanwhile(run.path());
        for batch in table {
            read.push(rounds(&batch.expect("rows")));
        }
        read
    }

    #[test]
    fn every_row_is_read_once_while_files_are_joined() {
        assert_eq!(read(|_| {}), [vec![1, 2], vec![3], vec![4]]);
        let is_joined = |run: &Path| {
            write(run, 1, 5);
            for (first, last) in [(1, 2), (3, 3), (4, 4)] {
                remove(run, first, last);
            }
        };
        assert_eq!(read(is_joined), [vec![1, 2], vec![3, 4, 5]]);
        let newest_is_wider = |run: &Path| {
            remove(run, 4, 4);
            write(run, 3, 6);
            remove(run, 3, 3);
        };
        assert_eq!(read(newest_is_wider), [vec![1, 2], vec![3, 4, 5, 6]]);
    }

    #[test]
    fn blocks_do_not_depend_on_files() {
        let run = tempfile::tempdir().expect("a temporary folder");
        let last = BLOCK_ROWS as u32 + 10;
        for (first, last) in [(1, 7), (8, 40_000), (40_001, last)] {
            write(run.path(), first, last);
        }
        let table = TableBatches::open(run.path(), RoundRow::NAME).expect("files");
        let blocks: Vec<RecordBatch> = table.in_blocks().map(|block| block.expect("rows")).collect();
        assert_eq!(blocks.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [BLOCK_ROWS, 10]);
        assert!(blocks.iter().flat_map(rounds).eq(1..=last));
    }

    #[test]
    fn a_file_with_other_columns_is_refused_by_name() {
        let run = tempfile::tempdir().expect("a temporary folder");
        write(run.path(), 1, 1);
        let other =
            RecordBatch::try_from_iter([("round", Arc::new(arrow::array::UInt32Array::from(vec![2])) as ArrayRef)]);
        let path = run.path().join("ledger/rounds").join(part_name(2, 2));
        write_batch(&path, &other.expect("a column")).expect("a writable folder");
        let read: Result<Vec<_>, _> = TableBatches::open(run.path(), RoundRow::NAME).expect("files").collect();
        let message = read.expect_err("other columns").to_string();
        assert!(message.ends_with("00002-00002.parquet: its columns are not those of the first file"), "{message}");
    }

    #[test]
    fn unsigned_times_of_older_versions_are_read_as_signed_ones() {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/schema-3/run");
        for (table, column) in [("tasks", "dispatched_at_ns"), ("tasks", "upload_done_at_ns"), ("events", "at_ns")] {
            let written = parts(&run.join("ledger").join(table)).expect("a folder").swap_remove(0);
            let written = batches(&written.path).expect("a file").next().expect("rows").expect("rows");
            let unsigned = written[column].as_primitive::<UInt64Type>();
            let read = TableBatches::open(&run, table).expect("a table").next().expect("rows").expect("rows");
            let signed = read[column].as_primitive::<Int64Type>().slice(0, unsigned.len());
            assert!(unsigned.len() > unsigned.null_count(), "{column}");
            assert!(unsigned.iter().eq(signed.iter().map(|time| time.map(|time| time as u64))), "{column}");
        }
    }
}
