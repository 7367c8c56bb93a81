//! The tables of a run by the names of their columns, as far as its rounds are complete.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, SchemaRef, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;

use super::{
    EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, Manifest, PopulationRow, RoundRow, RunState,
    Table, TaskRow, read_table,
};

/// How often reading begins again when the run joins its files meanwhile.
const ATTEMPTS: u32 = 3;

/// A table that was read.
#[derive(Clone, Debug)]
pub struct TableView {
    folder: PathBuf,
    /// What this version writes; an older one has fewer columns.
    schema: SchemaRef,
    rows: RecordBatch,
}

impl TableView {
    /// Reads one table of the run in `run_folder`; one that has no file yet is empty.
    ///
    /// # Errors
    /// If a file cannot be read, or another program wrote it.
    pub fn read<T: Table>(run_folder: &Path) -> Result<Self, LedgerError> {
        let folder = run_folder.join("ledger").join(T::NAME);
        for attempt in 1.. {
            let is_gone = |error: &LedgerError| match error {
                LedgerError::Io { source, .. } => source.kind() == ErrorKind::NotFound,
                LedgerError::Malformed { path, .. } => *path == folder,
                _ => false,
            };
            match read_table(run_folder, T::NAME) {
                Ok(rows) => return Ok(Self { folder, schema: T::schema(), rows }),
                Err(error) if is_gone(&error) && attempt < ATTEMPTS => {}
                Err(error) if is_gone(&error) && !holds_parquet(&folder) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { folder, schema: T::schema(), rows: RecordBatch::new_empty(T::schema()) })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows as Arrow has them.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// A column of numbers; whole ones above 2^53 are rounded.
    ///
    /// # Errors
    /// If there is no such column, or it is of text.
    pub fn numbers(&self, column: &str) -> Result<Vec<Option<f64>>, LedgerError> {
        let array = self.column(column)?;
        Ok(match array.data_type() {
            DataType::Float64 => array.as_primitive::<Float64Type>().iter().collect(),
            _ => self.counts_or_none(column)?.into_iter().map(|count| count.map(|count| count as f64)).collect(),
        })
    }

    /// A column of whole numbers.
    ///
    /// # Errors
    /// If there is no such column, or it is of something else.
    pub fn counts_or_none(&self, column: &str) -> Result<Vec<Option<u64>>, LedgerError> {
        let array = self.column(column)?;
        match array.data_type() {
            DataType::UInt64 => Ok(array.as_primitive::<UInt64Type>().iter().collect()),
            DataType::UInt32 => Ok(array.as_primitive::<UInt32Type>().iter().map(|v| v.map(u64::from)).collect()),
            other => Err(self.fault(format!("column {column} is {other}, not of whole numbers"))),
        }
    }

    /// A column of whole numbers that holds no null.
    ///
    /// # Errors
    /// As [`Self::counts_or_none`]; and if a value is null.
    pub fn counts(&self, column: &str) -> Result<Vec<u64>, LedgerError> {
        let counts = self.counts_or_none(column)?.into_iter().collect::<Option<Vec<_>>>();
        counts.ok_or_else(|| self.fault(format!("column {column} holds a null")))
    }

    /// A column of texts.
    ///
    /// # Errors
    /// If there is no such column, or it is of numbers.
    pub fn texts(&self, column: &str) -> Result<Vec<Option<&str>>, LedgerError> {
        let array = self.column(column)?.as_string_opt::<i32>();
        let array = array.ok_or_else(|| self.fault(format!("column {column} is not of text")))?;
        Ok(array.iter().collect())
    }

    /// A column of texts in which null is empty.
    ///
    /// # Errors
    /// As [`Self::texts`].
    pub fn names(&self, column: &str) -> Result<Vec<&str>, LedgerError> {
        Ok(self.texts(column)?.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// A column as Arrow has it, of the type and with the nulls that this version writes.
    ///
    /// # Errors
    /// If there is no such column, it is of another type, or holds nulls that it never has.
    pub fn array<A: Array + Clone + 'static>(&self, column: &str) -> Result<A, LedgerError> {
        let found = self.column(column)?;
        let array = found.as_any().downcast_ref::<A>();
        let array =
            array.ok_or_else(|| self.fault(format!("column {column} is {}, which it never is", found.data_type())))?;
        let may_be_null = self.schema.field_with_name(column).is_ok_and(|field| field.is_nullable());
        match array.null_count() > 0 && !may_be_null {
            true => Err(self.fault(format!("column {column} has nulls, which it never has"))),
            false => Ok(array.clone()),
        }
    }

    fn column(&self, column: &str) -> Result<&dyn Array, LedgerError> {
        let found = self.rows.column_by_name(column);
        let missing = || self.fault(format!("it has no column {column}: another version of fedreplay wrote it"));
        found.map(|array| &**array).ok_or_else(missing)
    }

    /// Whether the table has a column: older versions had fewer.
    fn has(&self, column: &str) -> bool {
        self.rows.column_by_name(column).is_some()
    }

    /// An error in this table.
    pub fn fault(&self, reason: String) -> LedgerError {
        LedgerError::malformed(&self.folder, reason)
    }

    /// The rows that complete rounds claim. A run that is under way may have more of them, and no run has fewer.
    fn claimed(self, claimed: u64, is_running: bool) -> Result<Self, LedgerError> {
        let found = self.len() as u64;
        if claimed > found || (claimed < found && !is_running) {
            let reason =
                format!("it has {found} rows, and table rounds counts {claimed}; `fedreplay verify` says more");
            return Err(self.fault(reason));
        }
        Ok(Self { rows: self.rows.slice(0, claimed as usize), ..self })
    }
}

fn holds_parquet(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == "parquet"))
}

/// The tables of a run, finished or not. What a round has written before its own row is left out.
#[derive(Clone, Debug)]
pub struct RunTables {
    run_folder: PathBuf,
    is_running: bool,
    rounds: TableView,
}

impl RunTables {
    /// Reads the rounds of the run in `run_folder`; the other tables are read when they are asked for.
    ///
    /// # Errors
    /// As [`TableView::read`], or if there is no manifest.
    pub fn read(run_folder: &Path) -> Result<Self, LedgerError> {
        // Before the rounds: a run that is done has all its rows.
        let is_running = Manifest::read(run_folder)?.state == RunState::Running;
        let rounds = TableView::read::<RoundRow>(run_folder)?;
        let tables = Self { run_folder: run_folder.to_owned(), is_running, rounds };
        tables.check_there(&tables.rounds)?;
        Ok(tables)
    }

    /// One row a round.
    pub fn rounds(&self) -> &TableView {
        &self.rounds
    }

    /// One row a client; empty where the run has not begun.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn population(&self) -> Result<TableView, LedgerError> {
        let population = TableView::read::<PopulationRow>(&self.run_folder)?;
        self.check_there(&population)?;
        Ok(population)
    }

    /// A run that is done has a file of each table.
    fn check_there(&self, table: &TableView) -> Result<(), LedgerError> {
        match self.is_running || holds_parquet(&table.folder) {
            true => Ok(()),
            false => Err(table.fault("the run is done, and there is no file; `fedreplay verify` says more".into())),
        }
    }

    /// One row a dispatch.
    ///
    /// # Errors
    /// As [`TableView::read`], or if the table has not the rows that the rounds count; so of the tables below.
    pub fn tasks(&self) -> Result<TableView, LedgerError> {
        self.of_complete_rounds::<TaskRow>("task_rows")
    }

    /// One row an event of virtual time.
    ///
    /// # Errors
    /// As [`TableView::read`].
    pub fn events(&self) -> Result<TableView, LedgerError> {
        self.of_complete_rounds::<EventRow>("event_rows")
    }

    /// The measured losses.
    ///
    /// # Errors
    /// As [`TableView::read`].
    pub fn evaluations(&self) -> Result<Vec<EvaluationRow>, LedgerError> {
        let view = self.of_complete_rounds::<EvaluationRow>("evaluation_rows")?;
        let (rounds, versions) = (view.counts("round")?, view.counts("version")?);
        let clients = view.counts_or_none("client")?;
        let (subjects, splits, hashes) = (view.names("subject")?, view.names("split")?, view.texts("model_hash")?);
        let (rows, target_tokens, losses) =
            (view.counts("rows")?, view.counts("target_tokens")?, view.numbers("loss")?);
        let (margins, accuracies) = (view.numbers("reward_margin")?, view.numbers("preference_accuracy")?);
        // Before benchmarks, all that was measured were losses.
        let benchmarks = if view.has("benchmark") { view.names("benchmark")? } else { vec!["losses"; view.len()] };
        let failed = if view.has("failed") { view.counts("failed")? } else { vec![0; view.len()] };
        let newer = |column| if view.has(column) { view.numbers(column) } else { Ok(vec![None; view.len()]) };
        let (scores, perplexities, token_accuracies) =
            (newer("score")?, newer("perplexity")?, newer("token_accuracy")?);
        let row = |at: usize| EvaluationRow {
            round: rounds[at] as u32,
            version: versions[at] as u32,
            subject: subjects[at].to_owned(),
            client: clients[at].map(|client| client as u32),
            benchmark: benchmarks[at].to_owned(),
            split: splits[at].to_owned(),
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
        };
        Ok((0..view.len()).map(row).collect())
    }

    /// One row an answer to a benchmark's question.
    ///
    /// # Errors
    /// As [`TableView::read`].
    pub fn generations(&self) -> Result<TableView, LedgerError> {
        self.of_complete_rounds::<GenerationRow>("generation_rows")
    }

    /// One row an order: what was computed from what.
    ///
    /// # Errors
    /// As [`TableView::read`].
    pub fn lineage(&self) -> Result<TableView, LedgerError> {
        self.of_complete_rounds::<LineageRow>("lineage_rows")
    }

    fn of_complete_rounds<T: Table>(&self, counts: &str) -> Result<TableView, LedgerError> {
        // A version that counts no such rows has no such table.
        let counts = if self.rounds.has(counts) { self.rounds.counts(counts)? } else { vec![] };
        let claimed = counts.into_iter().fold(0, u64::saturating_add);
        TableView::read::<T>(&self.run_folder)?.claimed(claimed, self.is_running)
    }
}
