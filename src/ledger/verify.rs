//! Checks a run against its own hashes, and two runs against each other.

use std::path::Path;

use arrow::array::{Array, ArrayRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::digest::{Chain, chunk_hash};
use super::locate::place;
use super::manifest::files;
use super::reader::{RoundChunks, read_table};
use super::writer::{ChunkBatches, chunk_hashes};
use super::{LedgerError, Manifest, PopulationRow, RunState, Table};
use crate::store::Digest;

/// The first thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(pub String);

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks files, seal and digest chain of the run in `run_folder`. Every finding is returned; none means that all hold.
///
/// # Errors
/// Only if there is no manifest at all, so that there is no run to check; and if the disk cannot be read.
pub fn verify(run_folder: &Path) -> Result<Vec<Difference>, LedgerError> {
    let manifest = match Manifest::read(run_folder) {
        Err(LedgerError::Malformed { reason, .. }) => return Ok(vec![Difference(format!("manifest.json: {reason}"))]),
        read => read?,
    };
    let mut found = Vec::new();
    if !manifest.is_as_written(run_folder)? {
        found.push(Difference("manifest.json: it was changed after it was sealed".into()));
    }
    if manifest.state == RunState::Running {
        found.push(Difference("manifest.json: the run is not finished; `fedreplay resume` continues it".into()));
    }
    let chain = verify_chain(run_folder, &manifest);
    verify_files(run_folder, &manifest, chain.as_ref().err().and_then(|broken| broken.round), &mut found)?;
    found.extend(chain.err().map(|broken| Difference(broken.reason)));
    Ok(found)
}

/// Compares the files with those that the manifest lists; `broken` is the first round whose rows do not give its digest.
fn verify_files(
    run_folder: &Path,
    manifest: &Manifest,
    broken: Option<u32>,
    found: &mut Vec<Difference>,
) -> Result<(), LedgerError> {
    let present = files(run_folder)?;
    for (name, expected) in &manifest.files {
        match present.get(name) {
            None => found.push(Difference(format!("{name}: the file is missing"))),
            Some(actual) if actual != expected => {
                let place = place(run_folder, name, broken).map(|place| format!("; changed: {place}"));
                found.push(Difference(format!(
                    "{name}: its hash is {} ({} bytes), the manifest says {} ({} bytes){}",
                    actual.blake3,
                    actual.bytes,
                    expected.blake3,
                    expected.bytes,
                    place.unwrap_or_default()
                )));
            }
            Some(_) => {}
        }
    }
    // Those of a run that is not finished are listed when it is.
    let unlisted = present.keys().filter(|name| !manifest.files.contains_key(*name));
    for name in unlisted.filter(|_| manifest.state == RunState::Done) {
        found.push(Difference(format!("{name}: the manifest does not know this file")));
    }
    Ok(())
}

/// Where the digest chain does not hold.
struct Broken {
    /// The first round, from 1, whose rows do not give its digest, if it is a matter of rows.
    round: Option<u32>,
    reason: String,
}

impl From<String> for Broken {
    fn from(reason: String) -> Self {
        Self { round: None, reason }
    }
}

/// Computes the digest chain again from the rows.
fn verify_chain(run_folder: &Path, manifest: &Manifest) -> Result<(), Broken> {
    let population = read_table(run_folder, PopulationRow::NAME).map_err(|error| error.to_string())?;
    let read = RoundChunks::read(run_folder).map_err(|error| error.to_string())?;
    let mut chain = Chain::start(manifest.genesis);
    chain.push(&[chunk_hash(PopulationRow::NAME, &population, &[])]);
    let chunks = if manifest.state == RunState::Done { read.chunks() } else { read.finished_chunks() };
    for (round, chunk) in (1..).zip(chunks?) {
        let expected = chain.push(&chunk_hashes(&chunk)).to_string();
        let stated = text(&chunk.round, "digest", 0);
        if stated != expected {
            let reason = format!("round {round}: its rows give the digest {expected}, table rounds says {stated}");
            return Err(Broken { round: Some(round), reason });
        }
    }
    if read.rounds().num_rows() != manifest.rounds as usize && manifest.state == RunState::Done {
        return Err(format!("table rounds has {} rows for {} rounds", read.rounds().num_rows(), manifest.rounds).into());
    }
    match manifest.digest {
        Some(digest) if digest != chain.last() => {
            Err(format!("the ledger's digest is {}, the manifest says {digest}", chain.last()).into())
        }
        _ => Ok(()),
    }
}

/// The first difference between two runs' tables: table, round, row, column and both values.
///
/// A table that another program wrote, or damaged, is a difference too: it is not what a run writes.
///
/// # Errors
/// If a run is not there or cannot be read from the disk.
pub fn compare(left_folder: &Path, right_folder: &Path) -> Result<Option<Difference>, LedgerError> {
    // Looked at first: a path that holds no run is no difference.
    for folder in [left_folder, right_folder] {
        Manifest::read(folder)?;
    }
    match compare_tables(left_folder, right_folder) {
        Err(error @ (LedgerError::Malformed { .. } | LedgerError::Parquet { .. })) => {
            Ok(Some(Difference(error.to_string())))
        }
        compared => compared,
    }
}

fn compare_tables(left_folder: &Path, right_folder: &Path) -> Result<Option<Difference>, LedgerError> {
    let population = |folder| read_table(folder, PopulationRow::NAME);
    if let Some(found) = first_difference("population", &population(left_folder)?, &population(right_folder)?, 0) {
        return Ok(Some(found));
    }
    let chunks = |folder: &Path| {
        let read = RoundChunks::read(folder)?;
        read.chunks().map_err(|reason| LedgerError::malformed(folder, reason))
    };
    let (left, right) = (chunks(left_folder)?, chunks(right_folder)?);
    for (index, pair) in left.iter().zip(&right).enumerate() {
        if let Some(found) = compare_chunks(pair.0, pair.1, index as u32 + 1) {
            return Ok(Some(found));
        }
    }
    if left.len() != right.len() {
        return Ok(Some(Difference(format!("one run has {} rounds, the other {}", left.len(), right.len()))));
    }
    let genesis = |folder: &Path| -> Result<Digest, LedgerError> { Ok(Manifest::read(folder)?.genesis) };
    let same_start = genesis(left_folder)? == genesis(right_folder)?;
    Ok((!same_start).then(|| {
        Difference("all rows are equal, but the runs start from other inputs: scenario, data, model or numerics".into())
    }))
}

fn compare_chunks(left: &ChunkBatches, right: &ChunkBatches, round: u32) -> Option<Difference> {
    if chunk_hashes(left) == chunk_hashes(right) {
        return None;
    }
    left.named()
        .iter()
        .zip(right.named())
        .find_map(|((table, left_rows), (_, right_rows))| first_difference(table, left_rows, right_rows, round))
}

fn first_difference(table: &str, left: &RecordBatch, right: &RecordBatch, round: u32) -> Option<Difference> {
    let rows = left.num_rows().min(right.num_rows());
    let names: Vec<_> = left.schema().fields().iter().map(|field| field.name().clone()).collect();
    let differs = |row: usize, column: &str| {
        column != "digest" && {
            let (a, b) = (left.column_by_name(column), right.column_by_name(column));
            match (a, b) {
                (Some(a), Some(b)) => a.slice(row, 1).to_data() != b.slice(row, 1).to_data(),
                _ => true,
            }
        }
    };
    for row in 0..rows {
        if let Some(column) = names.iter().find(|column| differs(row, column)) {
            let (a, b) = (text(left, column, row), text(right, column, row));
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
