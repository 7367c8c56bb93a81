//! Finds where two runs part: by the digests of rounds first, then row by row in the first round that differs.

use std::path::Path;

use arrow::array::{Array, ArrayRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::chunk::{ChunkBatches, chunk_hashes};
use super::digest::DIGEST_COLUMNS;
use super::lineage::{Lineage, LineageEntry};
use super::reader::{RoundChunks, read_table};
use super::{Chunk, EventRow, LedgerError, Manifest, OLDEST_SCHEMA, PopulationRow, RunState, Table};

/// The first thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(pub String);

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An order that is not the same in two runs, though all before it are.
#[derive(Clone, Debug)]
pub struct OrderDifference {
    /// Its place in the table `lineage`.
    pub order: usize,
    pub left: LineageEntry,
    pub right: LineageEntry,
}

/// Where two runs part.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The first row that differs.
    pub first: Difference,
    /// The first event of virtual time that differs, if any does.
    pub event: Option<Difference>,
    /// The first order with another key, if any has.
    pub key: Option<OrderDifference>,
    /// The first order with another result, if any has.
    pub result: Option<OrderDifference>,
}

/// Where two runs part: none if their rows are the same and start from the same inputs. Two finished runs of one digest are
/// the same without a look at their rows; whether a run's rows are those of its digest is for `verify` to say.
///
/// A table that another program wrote, or damaged, is a difference too: it is not what a run writes.
///
/// # Errors
/// If a run is not there or cannot be read from the disk.
pub fn compare(left_folder: &Path, right_folder: &Path) -> Result<Option<Comparison>, LedgerError> {
    // Looked at first: a path that holds no run is no difference.
    let (left, right) = (Manifest::read(left_folder)?, Manifest::read(right_folder)?);
    let is_done = left.state == RunState::Done && right.state == RunState::Done;
    if is_done && left.digest == right.digest && left.schema_version == right.schema_version {
        return Ok(None);
    }
    Pair { left_folder, right_folder, left, right, by_rows: false }.compared()
}

/// The same by the rows alone, whatever digests the runs state: what a run recorded is what is put to the proof.
///
/// # Errors
/// As [`compare`].
pub fn compare_rows(left_folder: &Path, right_folder: &Path) -> Result<Option<Comparison>, LedgerError> {
    let (left, right) = (Manifest::read(left_folder)?, Manifest::read(right_folder)?);
    Pair { left_folder, right_folder, left, right, by_rows: true }.compared()
}

/// Two runs with their manifests.
struct Pair<'a> {
    left_folder: &'a Path,
    right_folder: &'a Path,
    left: Manifest,
    right: Manifest,
    /// Whether rows are looked at even where the digests that stand beside them agree.
    by_rows: bool,
}

impl Pair<'_> {
    fn compared(&self) -> Result<Option<Comparison>, LedgerError> {
        match self.compare() {
            Err(error @ (LedgerError::Malformed { .. } | LedgerError::Parquet { .. })) => {
                let first = Difference(error.to_string());
                Ok(Some(Comparison { first, event: None, key: None, result: None }))
            }
            compared => compared,
        }
    }

    fn compare(&self) -> Result<Option<Comparison>, LedgerError> {
        let [left, right] = self.both(|folder, _| read_table(folder, PopulationRow::NAME))?;
        let population = first_difference(PopulationRow::NAME, &left, &right, 0);
        let [left, right] = self.both(|folder, manifest| RoundChunks::read(folder, manifest.schema_version))?;
        let chunks =
            |read: &RoundChunks, folder: &Path| read.chunks().map_err(|reason| LedgerError::malformed(folder, reason));
        let (left, right) = (chunks(&left, self.left_folder)?, chunks(&right, self.right_folder)?);
        // Rounds of one digest have the same rows.
        let is_other = |left, right| self.by_rows || !has_same_rows(left, right);
        let mut others = left.iter().zip(&right).enumerate().filter(|(_, (left, right))| is_other(left, right));
        let in_rounds = others.clone().find_map(|(row, (left, right))| compare_chunks(left, right, row as u32 + 1));
        let event = others.find_map(|(row, (left, right))| {
            first_difference(EventRow::NAME, &left.events, &right.events, row as u32 + 1)
        });
        let rounds = (left.len() != right.len())
            .then(|| Difference(format!("one run has {} rounds, the other {}", left.len(), right.len())));
        let start = (self.left.genesis != self.right.genesis).then(|| {
            Difference(
                "all rows are equal, but the runs start from other inputs: scenario, data, model or numerics".into(),
            )
        });
        let Some(first) = population.or(in_rounds).or(rounds).or(start) else { return Ok(None) };
        let [key, result] = self.orders()?;
        Ok(Some(Comparison { first, event, key, result }))
    }

    /// Reads the same of both.
    fn both<T>(&self, read: impl Fn(&Path, &Manifest) -> Result<T, LedgerError>) -> Result<[T; 2], LedgerError> {
        Ok([read(self.left_folder, &self.left)?, read(self.right_folder, &self.right)?])
    }

    /// The first order with another key, and the first with another result.
    fn orders(&self) -> Result<[Option<OrderDifference>; 2], LedgerError> {
        if [&self.left, &self.right].iter().any(|manifest| manifest.schema_version == OLDEST_SCHEMA) {
            return Ok([None, None]);
        }
        let [left, right] = self.both(|folder, _| Lineage::read(folder))?;
        let first = |differs: fn(&LineageEntry, &LineageEntry) -> bool| {
            let mut pairs = left.entries.iter().zip(&right.entries).enumerate();
            let found = pairs.find(|(_, (left, right))| differs(left, right));
            found.map(|(order, (left, right))| OrderDifference { order, left: left.clone(), right: right.clone() })
        };
        let is_other = |left: &LineageEntry, right: &LineageEntry| {
            left.result.is_some() && right.result.is_some() && left.result != right.result
        };
        Ok([first(|left, right| left.key != right.key), first(is_other)])
    }
}

/// The first difference between rows of a round that were made again and those of the run in `run_folder`. With `has_more`,
/// the run may have more evaluations and lineage after those that were made.
///
/// # Errors
/// If the run cannot be read.
pub fn compare_round(
    run_folder: &Path,
    schema_version: u32,
    mut made: Chunk,
    has_more: bool,
) -> Result<Option<Difference>, LedgerError> {
    let read = RoundChunks::read(run_folder, schema_version)?;
    let malformed = |reason| LedgerError::malformed(run_folder, reason);
    let (round, mut chunks) = (made.round.round, read.chunks().map_err(malformed)?);
    if round == 0 || round as usize > chunks.len() {
        return Err(malformed(format!("it has no round {round}")));
    }
    let mut recorded = chunks.swap_remove(round as usize - 1);
    made.count_rows();
    if has_more {
        let least = |rows: &RecordBatch, made: usize| rows.slice(0, rows.num_rows().min(made));
        made.round.evaluation_rows = recorded.evaluations.num_rows() as u64;
        made.round.lineage_rows = recorded.lineage.as_ref().map_or(0, |rows| rows.num_rows() as u64);
        recorded.evaluations = least(&recorded.evaluations, made.evaluations.len());
        recorded.lineage = recorded.lineage.map(|rows| least(&rows, made.lineage.len()));
    }
    let made = ChunkBatches::of(&made);
    Ok(recorded
        .named()
        .zip(made.named())
        .find_map(|((table, recorded), (_, made))| first_difference(table, recorded, made, round)))
}

/// Whether the digests of two rounds' rows are there and agree.
fn has_same_rows(left: &ChunkBatches, right: &ChunkBatches) -> bool {
    let digest = |chunk: &ChunkBatches| chunk.round.column_by_name("rows_digest").map(|digests| cell_text(digests, 0));
    digest(left).is_some() && digest(left) == digest(right)
}

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

/// The first cell that differs, by rows. Of two versions of a table, the columns that both have are compared.
fn first_difference(table: &str, left: &RecordBatch, right: &RecordBatch, round: u32) -> Option<Difference> {
    let rows = left.num_rows().min(right.num_rows());
    let schema = left.schema();
    let columns = schema.fields().iter().zip(left.columns()).filter_map(|(field, left)| {
        let is_made_from_rows = DIGEST_COLUMNS.contains(&field.name().as_str());
        let right = right.column_by_name(field.name()).filter(|_| !is_made_from_rows)?;
        Some((field.name(), left, right))
    });
    let columns: Vec<_> =
        columns.filter(|(_, left, right)| left.slice(0, rows).to_data() != right.slice(0, rows).to_data()).collect();
    let differs =
        |row: usize, left: &ArrayRef, right: &ArrayRef| left.slice(row, 1).to_data() != right.slice(row, 1).to_data();
    for row in 0..rows {
        if let Some((column, left, right)) = columns.iter().find(|(_, left, right)| differs(row, left, right)) {
            let (a, b) = (cell_text(left, row), cell_text(right, row));
            return Some(Difference(format!("round {round}, table {table}, row {row}, {column}: {a} against {b}")));
        }
    }
    (left.num_rows() != right.num_rows()).then(|| {
        Difference(format!("round {round}, table {table}: {} rows against {}", left.num_rows(), right.num_rows()))
    })
}

/// A cell as text, for messages and for comparing texts.
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
