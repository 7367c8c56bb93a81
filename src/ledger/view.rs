//! Tables of a run with access by column name, limited to the rows of complete rounds.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::chunk::count_column;
use super::{
    ColumnValue, EvaluationRow, EventRow, GenerationRow, LOSSES, LedgerError, LineageRow, Manifest, PopulationRow,
    RoundRow, RunState, Split, Table, TableBatches, TaskRow,
};

/// Table of a run, or a part of its rows, in memory.
#[derive(Clone, Debug)]
pub struct TableView {
    folder: PathBuf,
    /// Schema of this version; tables of older versions have fewer columns.
    schema: SchemaRef,
    rows: RecordBatch,
}

impl TableView {
    /// Reads one table of the run in `run_folder`. A table without files is empty.
    ///
    /// # Errors
    /// If a file cannot be read, or another program wrote it.
    pub fn read<T: Table>(run_folder: &Path) -> Result<Self, LedgerError> {
        TableParts::open::<T>(run_folder)?.whole()
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the rows as an Arrow batch.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Returns a column of numbers. Integers above 2^53 are rounded.
    ///
    /// # Errors
    /// If the column is missing or is text.
    pub fn numbers(&self, column: &str) -> Result<Vec<Option<f64>>, LedgerError> {
        let array = self.column(column)?;
        Ok(match array.data_type() {
            DataType::Float64 => array.as_primitive::<Float64Type>().iter().collect(),
            _ => self.counts_or_none(column)?.into_iter().map(|count| count.map(|count| count as f64)).collect(),
        })
    }

    /// Returns a column of integers.
    ///
    /// # Errors
    /// If the column is missing or has another type.
    pub fn counts_or_none(&self, column: &str) -> Result<Vec<Option<u64>>, LedgerError> {
        let array = self.column(column)?;
        match array.data_type() {
            DataType::UInt64 => Ok(array.as_primitive::<UInt64Type>().iter().collect()),
            DataType::UInt32 => Ok(array.as_primitive::<UInt32Type>().iter().map(|v| v.map(u64::from)).collect()),
            DataType::Int64 => self.times(column, array.as_primitive()),
            other => Err(self.fault(format!("column {column} is {other}, not of whole numbers"))),
        }
    }

    /// Returns a column of times, which are not negative.
    fn times(&self, column: &str, array: &PrimitiveArray<Int64Type>) -> Result<Vec<Option<u64>>, LedgerError> {
        let mut times = Vec::with_capacity(array.len());
        for time in array {
            let time = time.map(u64::try_from).transpose();
            times.push(time.map_err(|_| self.fault(format!("column {column} holds a negative time")))?);
        }
        Ok(times)
    }

    /// Returns a column of integers without nulls.
    ///
    /// # Errors
    /// As [`Self::counts_or_none`]; and if a value is null.
    pub fn counts(&self, column: &str) -> Result<Vec<u64>, LedgerError> {
        let counts = self.counts_or_none(column)?.into_iter().collect::<Option<Vec<_>>>();
        counts.ok_or_else(|| self.fault(format!("column {column} holds a null")))
    }

    /// Returns a column of texts.
    ///
    /// # Errors
    /// If the column is missing or has another type.
    pub fn texts(&self, column: &str) -> Result<Vec<Option<&str>>, LedgerError> {
        let array = self.column(column)?.as_string_opt::<i32>();
        let array = array.ok_or_else(|| self.fault(format!("column {column} is not of text")))?;
        Ok(array.iter().collect())
    }

    /// Returns a column of texts, with empty texts for nulls.
    ///
    /// # Errors
    /// As [`Self::texts`].
    pub fn names(&self, column: &str) -> Result<Vec<&str>, LedgerError> {
        Ok(self.texts(column)?.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Returns a column of flags.
    ///
    /// # Errors
    /// If the column is missing, has another type or holds a null.
    pub fn flags(&self, column: &str) -> Result<Vec<bool>, LedgerError> {
        let array = self.column(column)?.as_boolean_opt();
        let flags = array.and_then(|array| array.iter().collect::<Option<Vec<bool>>>());
        flags.ok_or_else(|| self.fault(format!("column {column} is not of flags")))
    }

    /// Returns a column that holds one of a fixed set of names.
    ///
    /// # Errors
    /// As [`Self::texts`]; and if a text is none of these names.
    pub fn values<V: ColumnValue>(&self, column: &str) -> Result<Vec<V>, LedgerError> {
        let mut values = Vec::with_capacity(self.len());
        for (row, name) in self.names(column)?.into_iter().enumerate() {
            values.push(V::of_name(name).ok_or_else(|| self.unknown::<V>(column, row, name))?);
        }
        Ok(values)
    }

    /// Returns the error that a column of names holds another text.
    fn unknown<V: ColumnValue>(&self, column: &str, row: usize, name: &str) -> LedgerError {
        let names: Vec<&str> = V::ALL.iter().map(|value| value.name()).collect();
        self.fault(format!("column {column} holds `{name}` in row {row}, which is none of {}", names.join(", ")))
    }

    /// Returns a column as an Arrow array, with the type and nullability of this version's schema.
    ///
    /// # Errors
    /// If the column is missing, has another type, or has nulls that the schema excludes.
    pub fn array<A: Array + Clone + 'static>(&self, column: &str) -> Result<A, LedgerError> {
        let found = self.column(column)?;
        let array = found.as_any().downcast_ref::<A>();
        let array =
            array.ok_or_else(|| self.fault(format!("column {column} is {}, which it never is", found.data_type())))?;
        // Callers read values without a check for nulls where the schema excludes them.
        let may_be_null = self.schema.field_with_name(column).is_ok_and(|field| field.is_nullable());
        match array.null_count() > 0 && !may_be_null {
            true => Err(self.fault(format!("column {column} has nulls, which it never has"))),
            false => Ok(array.clone()),
        }
    }

    fn column(&self, column: &str) -> Result<&dyn Array, LedgerError> {
        match self.rows.column_by_name(column) {
            Some(array) => Ok(array),
            None => Err(self.fault(format!("it has no column {column}: another version of fedreplay wrote it"))),
        }
    }

    /// Returns a column of numbers that older versions do not have; `None` in every row there.
    ///
    /// # Errors
    /// If the column is text.
    pub fn newer_numbers(&self, column: &str) -> Result<Vec<Option<f64>>, LedgerError> {
        if self.has(column) { self.numbers(column) } else { Ok(vec![None; self.len()]) }
    }

    /// Returns a column of whole numbers; nulls if the table is of an older version without it.
    ///
    /// # Errors
    /// If the column is not of whole numbers, or holds a negative one.
    pub fn newer_counts(&self, column: &str) -> Result<Vec<Option<u64>>, LedgerError> {
        if self.has(column) { self.counts_or_none(column) } else { Ok(vec![None; self.len()]) }
    }

    /// Whether the table has a column; older versions have fewer.
    fn has(&self, column: &str) -> bool {
        self.rows.column_by_name(column).is_some()
    }

    /// Returns an error about this table.
    pub fn fault(&self, reason: String) -> LedgerError {
        LedgerError::malformed(&self.folder, reason)
    }
}

/// Rows of a table in parts, of which one is in memory. In a table that rounds fill, these are the rows that complete rounds
/// count: a run in progress may have more, and no run may have fewer.
pub struct TableParts {
    folder: PathBuf,
    /// Schema of this version.
    schema: SchemaRef,
    /// `None` if the table has no file.
    batches: Option<TableBatches>,
    claimed: Option<Claimed>,
    /// Number of rows that were read.
    read: u64,
    is_over: bool,
}

/// [rows] -- Rows that complete rounds count.
struct Claimed {
    rows: u64,
    /// Whether the table may have more.
    is_running: bool,
}

impl TableParts {
    /// Opens one table of the run in `run_folder`. A table without files is empty.
    fn open<T: Table>(run_folder: &Path) -> Result<Self, LedgerError> {
        let folder = run_folder.join("ledger").join(T::NAME);
        let mut opened = TableBatches::open(run_folder, T::NAME);
        if opened.as_ref().is_err_and(|error| is_gone(error, &folder) && holds_parquet(&folder)) {
            // The run has written its first file, or joined some, while the folder was listed.
            opened = TableBatches::open(run_folder, T::NAME);
        }
        let batches = match opened {
            Ok(batches) => Some(batches),
            Err(error) if is_gone(&error, &folder) && !holds_parquet(&folder) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { folder, schema: T::schema(), batches, claimed: None, read: 0, is_over: false })
    }

    /// Returns the table without rows.
    pub fn empty(&self) -> TableView {
        let schema = self.batches.as_ref().map_or_else(|| self.schema.clone(), TableBatches::schema);
        self.view(RecordBatch::new_empty(schema))
    }

    fn view(&self, rows: RecordBatch) -> TableView {
        TableView { folder: self.folder.clone(), schema: self.schema.clone(), rows }
    }

    /// Reads all rows.
    fn whole(mut self) -> Result<TableView, LedgerError> {
        let mut whole = self.empty();
        let schema = whole.rows.schema();
        let rows = self.by_ref().map(|part| Ok(part?.rows)).collect::<Result<Vec<_>, LedgerError>>()?;
        whole.rows = concat_batches(&schema, &rows).map_err(|error| whole.fault(error.to_string()))?;
        Ok(whole)
    }

    fn read_next(&mut self) -> Result<Option<RecordBatch>, LedgerError> {
        let next = self.batches.as_mut().and_then(Iterator::next).transpose()?;
        let Some(Claimed { rows: claimed, is_running }) = self.claimed else { return Ok(next) };
        let before = self.read;
        self.read += next.as_ref().map_or(0, |rows| rows.num_rows() as u64);
        let is_short = next.is_none() && self.read < claimed;
        if is_short || (self.read > claimed && !is_running) {
            return Err(self.incomplete(claimed));
        }
        let left = usize::try_from(claimed.saturating_sub(before)).unwrap_or(usize::MAX);
        Ok(next.filter(|_| left > 0).map(|rows| rows.slice(0, rows.num_rows().min(left))))
    }

    /// Returns the error that the table has another number of rows than the rounds count.
    fn incomplete(&mut self, claimed: u64) -> LedgerError {
        // All rows are counted for the message.
        for batch in self.batches.iter_mut().flatten() {
            match batch {
                Ok(rows) => self.read += rows.num_rows() as u64,
                Err(error) => return error,
            }
        }
        let reason = format!("it has {} rows, and table rounds counts {claimed}", self.read);
        LedgerError::Incomplete { path: self.folder.clone(), reason }
    }
}

impl Iterator for TableParts {
    type Item = Result<TableView, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.read_next().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next.map(|rows| rows.map(|rows| self.view(rows)))
    }
}

/// Whether an error may come from files that were joined while they were read, or from a table without files.
fn is_gone(error: &LedgerError, folder: &Path) -> bool {
    match error {
        LedgerError::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        LedgerError::Malformed { path, .. } => path == folder,
        _ => false,
    }
}

/// Whether a folder contains Parquet files.
fn holds_parquet(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == "parquet"))
}

/// Tables of a run, finished or not. Rows of a round whose own row is not written yet are left out.
#[derive(Clone, Debug)]
pub struct RunTables {
    run_folder: PathBuf,
    is_running: bool,
    rounds: TableView,
}

impl RunTables {
    /// Reads the rounds of the run in `run_folder`; the other tables are read when they are needed.
    ///
    /// # Errors
    /// As [`TableView::read`], or if there is no manifest.
    pub fn read(run_folder: &Path) -> Result<Self, LedgerError> {
        // Read before the rounds: a run that is done by now has all its rows, so fewer rows are an error.
        let is_running = Manifest::read(run_folder)?.state == RunState::Running;
        let rounds = TableView::read::<RoundRow>(run_folder)?;
        let tables = Self { run_folder: run_folder.to_owned(), is_running, rounds };
        tables.check_there(&tables.rounds.folder)?;
        Ok(tables)
    }

    /// Returns table `rounds`, one row per round.
    pub fn rounds(&self) -> &TableView {
        &self.rounds
    }

    /// Reads table `population`, one row per client, in parts: there may be millions of clients. It is empty if the run has not
    /// begun.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn population(&self) -> Result<TableParts, LedgerError> {
        let population = TableParts::open::<PopulationRow>(&self.run_folder)?;
        self.check_there(&population.folder)?;
        Ok(population)
    }

    /// Checks that a finished run has a file of the table in this folder.
    fn check_there(&self, folder: &Path) -> Result<(), LedgerError> {
        match self.is_running || holds_parquet(folder) {
            true => Ok(()),
            false => {
                let reason = "the run is done, and there is no file".into();
                Err(LedgerError::Incomplete { path: folder.to_owned(), reason })
            }
        }
    }

    /// Reads table `tasks`, one row per dispatch.
    ///
    /// # Errors
    /// As [`TableView::read`], or if the table lacks rows that the rounds count; the same holds for the tables below.
    pub fn tasks(&self) -> Result<TableView, LedgerError> {
        self.parts::<TaskRow>()?.whole()
    }

    /// Reads table `events`, one row per event of virtual time.
    ///
    /// # Errors
    /// As [`TableView::read`].
    pub fn events(&self) -> Result<TableView, LedgerError> {
        self.parts::<EventRow>()?.whole()
    }

    /// Reads table `evaluations`: losses and metrics of benchmarks.
    ///
    /// # Errors
    /// As [`TableView::read`].
    pub fn evaluations(&self) -> Result<Vec<EvaluationRow>, LedgerError> {
        let view = self.parts::<EvaluationRow>()?.whole()?;
        let rounds = view.counts("round")?;
        let versions = view.counts("version")?;
        let clients = view.counts_or_none("client")?;
        let subjects = view.values("subject")?;
        let splits = view.names("split")?;
        let hashes = view.texts("model_hash")?;
        let rows = view.counts("rows")?;
        let target_tokens = view.counts("target_tokens")?;
        let losses = view.numbers("loss")?;
        let margins = view.numbers("reward_margin")?;
        let accuracies = view.numbers("preference_accuracy")?;
        // Older versions have no benchmarks, so that all their rows are losses.
        let benchmarks = if view.has("benchmark") { view.names("benchmark")? } else { vec![LOSSES; view.len()] };
        let failed = if view.has("failed") { view.counts("failed")? } else { vec![0; view.len()] };
        let scores = view.newer_numbers("score")?;
        let perplexities = view.newer_numbers("perplexity")?;
        let token_accuracies = view.newer_numbers("token_accuracy")?;
        let mut evaluations = Vec::with_capacity(view.len());
        for at in 0..view.len() {
            let split = match benchmarks[at] {
                LOSSES => Split::of_losses(splits[at]).ok_or_else(|| {
                    view.fault(format!("column split holds `{}` in row {at}, which is no split of losses", splits[at]))
                })?,
                _ => Split::of_benchmark(splits[at]),
            };
            evaluations.push(EvaluationRow {
                round: rounds[at] as u32,
                version: versions[at] as u32,
                subject: subjects[at],
                client: clients[at].map(|client| client as u32),
                benchmark: benchmarks[at].to_owned(),
                split,
                rows: rows[at],
                failed: failed[at],
                score: scores[at],
                target_tokens: target_tokens[at],
                loss: losses[at],
                perplexity: perplexities[at],
                token_accuracy: token_accuracies[at],
                reward_margin: margins[at],
                preference_accuracy: accuracies[at],
                model_hash: hashes[at].map(str::to_owned),
            });
        }
        Ok(evaluations)
    }

    /// Reads table `generations`, one row per answer to a benchmark's question.
    ///
    /// # Errors
    /// As [`TableView::read`].
    pub fn generations(&self) -> Result<TableView, LedgerError> {
        self.parts::<GenerationRow>()?.whole()
    }

    /// Reads table `lineage`, one row per order.
    ///
    /// # Errors
    /// As [`TableView::read`].
    pub fn lineage(&self) -> Result<TableView, LedgerError> {
        self.parts::<LineageRow>()?.whole()
    }

    /// Reads a table in parts, limited to the rows that complete rounds count.
    ///
    /// # Errors
    /// As [`TableView::read`], or if the table has other rows than the rounds count; the latter at the end of its rows.
    pub fn parts<T: Table>(&self) -> Result<TableParts, LedgerError> {
        let mut parts = TableParts::open::<T>(&self.run_folder)?;
        let Some(column) = count_column(T::NAME) else { return Ok(parts) };
        // A version that does not count these rows does not have the table.
        let counts = if self.rounds.has(column) { self.rounds.counts(column)? } else { vec![] };
        let rows = counts.into_iter().fold(0, u64::saturating_add);
        parts.claimed = Some(Claimed { rows, is_running: self.is_running });
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;
    use arrow::datatypes::{Field, Schema};
    use fedreplay_sim::Tally;

    use super::*;

    /// Table with one column of these fates.
    fn fates(names: &[&str]) -> TableView {
        let schema = Arc::new(Schema::new(vec![Field::new("fate", DataType::Utf8, false)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(names.to_vec()))]).expect("one column");
        TableView { folder: "ledger/tasks".into(), schema: TaskRow::schema(), rows }
    }

    #[test]
    fn a_name_that_the_column_never_has_is_refused_with_its_row() {
        let known = fates(&["late", "counted"]).values::<Tally>("fate").expect("known");
        assert_eq!(known, [Tally::Late, Tally::Counted]);
        let refused = fates(&["late", "lost"]).values::<Tally>("fate").expect_err("unknown").to_string();
        assert!(
            refused.ends_with("column fate holds `lost` in row 1, which is none of counted, late, dropped, cancelled")
        );
    }
}
