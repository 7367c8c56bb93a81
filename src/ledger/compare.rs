//! Comparison of the tables of two runs: by the digests of rounds first, then row by row in the first round that differs.

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::UInt32Type;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::batches::TableBatches;
use super::chunk::{ChunkBatches, chunk_hashes};
use super::digest::DIGEST_COLUMNS;
use super::lineage::{Lineage, LineageEntry};
use super::reader::{RoundChunks, client_count, start_hashes};
use super::{
    Chunk, EventRow, LedgerError, Manifest, OLDEST_SCHEMA, PopulationRow, RepeatRow, RunState, Table, TaskRow,
};

/// Description of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(pub String);

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// First order that differs between two runs.
#[derive(Clone, Debug)]
pub struct OrderDifference {
    /// Row of the order in table `lineage`.
    pub order: usize,
    pub left: LineageEntry,
    pub right: LineageEntry,
}

/// First differences between two runs.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// First row that differs.
    pub first: Difference,
    /// First event of virtual time that differs, if any does.
    pub event: Option<Difference>,
    /// First order with a different key, if there is one.
    pub key: Option<OrderDifference>,
    /// First order with a different result, if there is one.
    pub result: Option<OrderDifference>,
}

/// Compares two runs. Returns `None` if their rows are equal and start from the same inputs. Two finished runs with the same
/// digest are equal without a comparison of their rows; `verify` checks that a run's rows give its digest.
///
/// A table that is damaged, or was written by another program, counts as a difference.
///
/// # Errors
/// If a run is missing or cannot be read from the disk.
pub fn compare(left_folder: &Path, right_folder: &Path) -> Result<Option<Comparison>, LedgerError> {
    // Manifests are read first: a path without a run is an error and not a difference.
    let left = Manifest::read(left_folder)?;
    let right = Manifest::read(right_folder)?;
    let is_done = left.state == RunState::Done && right.state == RunState::Done;
    if is_done && left.digest == right.digest && left.schema_version == right.schema_version {
        return Ok(None);
    }
    Pair { left_folder, right_folder, left, right, by_rows: false }.compared()
}

/// Compares two runs by their rows alone, whatever digests they state.
///
/// # Errors
/// As [`compare`].
pub fn compare_rows(left_folder: &Path, right_folder: &Path) -> Result<Option<Comparison>, LedgerError> {
    let left = Manifest::read(left_folder)?;
    let right = Manifest::read(right_folder)?;
    Pair { left_folder, right_folder, left, right, by_rows: true }.compared()
}

/// Two runs with their manifests.
struct Pair<'a> {
    left_folder: &'a Path,
    right_folder: &'a Path,
    left: Manifest,
    right: Manifest,
    /// Whether rows are compared even if their digests are equal.
    by_rows: bool,
}

/// Returns whether two entries of the lineage differ in one respect.
type Differs = fn(&LineageEntry, &LineageEntry) -> bool;

impl Pair<'_> {
    /// Compares the runs, with an unreadable table as a difference.
    fn compared(&self) -> Result<Option<Comparison>, LedgerError> {
        match self.compare() {
            Err(error @ (LedgerError::Malformed { .. } | LedgerError::Parquet { .. })) => {
                let first = Difference(error.to_string());
                Ok(Some(Comparison { first, event: None, key: None, result: None }))
            }
            compared => compared,
        }
    }

    /// Compares population, rounds and start of the runs.
    fn compare(&self) -> Result<Option<Comparison>, LedgerError> {
        let population = self.compare_populations()?;
        let [left, right] = self.both(|folder, manifest| {
            let read = RoundChunks::read(folder, manifest.schema_version)?;
            read.chunks().map_err(|reason| LedgerError::malformed(folder, reason))
        })?;
        // The first difference in any table, and the first one in the events, which may be in a later round.
        let mut in_rounds = None;
        let mut event = None;
        for ((round, left), right) in (1..).zip(&left).zip(&right) {
            // Rounds with the same digest have the same rows.
            if !self.by_rows && has_same_rows(left, right) {
                continue;
            }
            if in_rounds.is_none() {
                in_rounds = compare_chunks(left, right, round);
            }
            if event.is_none() {
                event = first_difference(EventRow::NAME, &left.events, &right.events, round);
            }
        }
        let mut first = population.or(self.compare_repeats()?).or(in_rounds);
        if first.is_none() && left.len() != right.len() {
            first = Some(Difference(format!("one run has {} rounds, the other {}", left.len(), right.len())));
        }
        if first.is_none() && self.left.genesis != self.right.genesis {
            let start = "all rows are equal, but the runs start from other inputs: scenario, data, model or numerics";
            first = Some(Difference(start.into()));
        }
        let Some(first) = first else { return Ok(None) };
        let [key, result] = self.orders()?;
        Ok(Some(Comparison { first, event, key, result }))
    }

    /// Compares the populations, of which a block each is in memory.
    fn compare_populations(&self) -> Result<Option<Difference>, LedgerError> {
        let [left, right] = self.both(|folder, _| Ok(TableBatches::open(folder, PopulationRow::NAME)?.in_blocks()))?;
        let mut first_row = 0;
        for (left, right) in left.zip(right) {
            let left = left?;
            let found = first_cell(&Place { table: PopulationRow::NAME, round: 0, first_row }, &left, &right?);
            if found.is_some() {
                return Ok(found);
            }
            first_row += left.num_rows();
        }
        let counts = self.both(|folder, _| client_count(folder))?;
        Ok(count_difference(PopulationRow::NAME, counts, 0))
    }

    /// Compares the repeats of two plans.
    fn compare_repeats(&self) -> Result<Option<Difference>, LedgerError> {
        let counts = [self.left.repeats, self.right.repeats].map(|count| count.unwrap_or(0));
        if counts[0] != counts[1] {
            let [left, right] = counts;
            return Ok(Some(Difference(format!("one plan has {left} repeats, the other {right}"))));
        }
        let [left, right] = self.both(|folder, _| start_hashes(folder))?;
        let is_same = left.get(1) == right.get(1);
        Ok((!is_same).then(|| Difference(format!("table {} has other rows", RepeatRow::NAME))))
    }

    /// Reads something of both runs.
    fn both<T>(&self, read: impl Fn(&Path, &Manifest) -> Result<T, LedgerError>) -> Result<[T; 2], LedgerError> {
        Ok([read(self.left_folder, &self.left)?, read(self.right_folder, &self.right)?])
    }

    /// Returns the first order with a different key, and the first with a different result.
    fn orders(&self) -> Result<[Option<OrderDifference>; 2], LedgerError> {
        if [&self.left, &self.right].iter().any(|manifest| manifest.schema_version == OLDEST_SCHEMA) {
            return Ok([None, None]);
        }
        let [left, right] = self.both(|folder, _| Lineage::read(folder))?;
        let key = first_order(&left, &right, |left, right| left.key != right.key);
        let result = first_order(&left, &right, |left, right| {
            left.result.is_some() && right.result.is_some() && left.result != right.result
        });
        Ok([key, result])
    }
}

/// Returns the first order in which two runs differ in one respect.
fn first_order(left: &Lineage, right: &Lineage, differs: Differs) -> Option<OrderDifference> {
    for (order, (left, right)) in left.entries.iter().zip(&right.entries).enumerate() {
        if differs(left, right) {
            return Some(OrderDifference { order, left: left.clone(), right: right.clone() });
        }
    }
    None
}

/// Returns the first difference between rows of a round that were made again and those of the run in `run_folder`. With
/// `apart`, the run may have more lineage after what was made, and more evaluations after this number of them.
///
/// # Errors
/// If the run cannot be read.
pub fn compare_round(
    run_folder: &Path,
    schema_version: u32,
    mut made: Chunk,
    apart: Option<usize>,
) -> Result<Option<Difference>, LedgerError> {
    let read = RoundChunks::read(run_folder, schema_version)?;
    let round = made.round.round;
    let mut chunks = read.chunks().map_err(|reason| LedgerError::malformed(run_folder, reason))?;
    if round == 0 || round as usize > chunks.len() {
        return Err(LedgerError::malformed(run_folder, format!("it has no round {round}")));
    }
    let mut recorded = chunks.swap_remove(round as usize - 1);
    made.count_rows();
    if let Some(place) = apart {
        // The round's own row counts all rows of the run.
        made.round.evaluation_rows = recorded.evaluations.num_rows() as u64;
        made.round.lineage_rows = recorded.lineage.as_ref().map_or(0, |rows| rows.num_rows() as u64);
        recorded.evaluations = without_middle(&recorded.evaluations, place, made.evaluations.len());
        recorded.lineage = recorded.lineage.map(|rows| first_rows(&rows, made.lineage.len()));
    }
    let made = ChunkBatches::of(&made);
    for ((table, recorded), (_, made)) in recorded.named().zip(made.named()) {
        if let Some(difference) = first_difference(table, recorded, made, round) {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

/// Returns the first difference between rows of one client's tasks that were made again, each with its round, and those of the
/// run in `run_folder`. Weights in the aggregate are not compared.
///
/// # Errors
/// If the run cannot be read.
pub fn compare_tasks(
    run_folder: &Path,
    schema_version: u32,
    client: u32,
    made: &[(u32, Vec<TaskRow>)],
) -> Result<Option<Difference>, LedgerError> {
    let malformed = |reason| LedgerError::malformed(run_folder, reason);
    let chunks = RoundChunks::read(run_folder, schema_version)?;
    let chunks = chunks.chunks().map_err(malformed)?;
    for (round, made) in made {
        let chunk = (*round as usize).checked_sub(1).and_then(|index| chunks.get(index));
        let tasks = &chunk.ok_or_else(|| malformed(format!("it has no round {round}")))?.tasks;
        let clients = tasks.column_by_name("client").and_then(|clients| clients.as_primitive_opt::<UInt32Type>());
        let clients = clients.ok_or_else(|| malformed("table tasks has no column client".to_owned()))?;
        let own = (0..tasks.num_rows() as u32).filter(|&row| clients.value(row as usize) == client);
        let recorded =
            take_record_batch(tasks, &UInt32Array::from_iter_values(own)).expect("the rows are in the table");
        let mut made = TaskRow::batch(made);
        let weight = made.schema().index_of("weight").expect("a column of the table");
        made.remove_column(weight);
        let found = first_difference(&format!("{} of client {client}", TaskRow::NAME), &recorded, &made, *round);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Returns up to `count` rows from the start.
fn first_rows(rows: &RecordBatch, count: usize) -> RecordBatch {
    rows.slice(0, rows.num_rows().min(count))
}

/// Returns `count` rows, those before `place` and those at the end; all rows if there are not more.
fn without_middle(rows: &RecordBatch, place: usize, count: usize) -> RecordBatch {
    let Some(more) = rows.num_rows().checked_sub(count) else { return rows.clone() };
    let ends = [rows.slice(0, place), rows.slice(place + more, count - place)];
    concat_batches(&rows.schema(), &ends).expect("they are of one table")
}

/// Whether the digests of two rounds' rows exist and are equal.
fn has_same_rows(left: &ChunkBatches, right: &ChunkBatches) -> bool {
    let left = left.round.column_by_name("rows_digest");
    let right = right.round.column_by_name("rows_digest");
    match (left, right) {
        (Some(left), Some(right)) => cell_text(left, 0) == cell_text(right, 0),
        _ => false,
    }
}

/// Returns the first difference between the chunks of two rounds, over the tables that both have.
fn compare_chunks(left: &ChunkBatches, right: &ChunkBatches, round: u32) -> Option<Difference> {
    if chunk_hashes(left) == chunk_hashes(right) {
        return None;
    }
    let mut pairs = left.named().filter_map(|(table, left)| {
        let (_, right) = right.named().find(|(name, _)| *name == table)?;
        Some((table, left, right))
    });
    pairs.find_map(|(table, left, right)| first_difference(table, left, right, round))
}

/// Returns the first cell that differs, by rows, or else the numbers of rows if they differ.
fn first_difference(table: &str, left: &RecordBatch, right: &RecordBatch, round: u32) -> Option<Difference> {
    let cell = first_cell(&Place { table, round, first_row: 0 }, left, right);
    cell.or_else(|| count_difference(table, [left.num_rows(), right.num_rows()], round))
}

/// Returns the difference of two numbers of rows.
fn count_difference(table: &str, [left, right]: [usize; 2], round: u32) -> Option<Difference> {
    (left != right).then(|| Difference(format!("round {round}, table {table}: {left} rows against {right}")))
}

/// Place of rows that are compared.
struct Place<'a> {
    table: &'a str,
    round: u32,
    /// Number of the first row.
    first_row: usize,
}

/// Returns the first cell that differs, by rows. Of two versions of a table, the columns that both have are compared.
fn first_cell(place: &Place, left: &RecordBatch, right: &RecordBatch) -> Option<Difference> {
    let Place { table, round, first_row } = place;
    let rows = left.num_rows().min(right.num_rows());
    let schema = left.schema();
    let columns = schema.fields().iter().zip(left.columns()).filter_map(|(field, left)| {
        let is_made_from_rows = DIGEST_COLUMNS.contains(&field.name().as_str());
        let right = right.column_by_name(field.name()).filter(|_| !is_made_from_rows)?;
        Some((field.name(), left, right))
    });
    // Whole columns are compared first, which is fast; then only the columns that differ are searched cell by cell.
    let columns: Vec<_> =
        columns.filter(|(_, left, right)| left.slice(0, rows).to_data() != right.slice(0, rows).to_data()).collect();
    for row in 0..rows {
        for (column, left, right) in &columns {
            if left.slice(row, 1).to_data() != right.slice(row, 1).to_data() {
                return Some(Difference(format!(
                    "round {round}, table {table}, row {}, {column}: {} against {}",
                    first_row + row,
                    cell_text(left, row),
                    cell_text(right, row)
                )));
            }
        }
    }
    None
}

/// Returns a cell as text, for messages and for comparing texts.
pub(super) fn text(rows: &RecordBatch, column: &str, row: usize) -> String {
    let Some(array) = rows.column_by_name(column) else { return format!("no column {column}") };
    cell_text(array, row)
}

fn cell_text(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "null".into();
    }
    let options = FormatOptions::default();
    ArrayFormatter::try_new(array.as_ref(), &options)
        .map_or_else(|error| error.to_string(), |f| f.value(row).to_string())
}
