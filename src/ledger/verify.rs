//! Checks a run against its own hashes.

use std::fs;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;

use super::compare::{Difference, text};
use super::digest::{Chain, chunk_hash, rows_digest};
use super::lineage::Lineage;
use super::manifest::files;
use super::places::located;
use super::reader::{RoundChunks, read_table};
use super::writer::chunk_hashes;
use super::{LedgerError, Manifest, OLDEST_SCHEMA, PopulationRow, RunState, Table};
use crate::store::{Digest, Key};

/// How the finding begins that a run is not finished.
pub const UNFINISHED: &str = "manifest.json: the run is not finished";

/// Checks files, seal, digest chain and lineage of the run in `run_folder`. Every finding is returned; none means that
/// all hold.
///
/// # Errors
/// Only if there is no manifest at all, so that there is no run to check; and if the disk cannot be read.
pub fn verify(run_folder: &Path) -> Result<Vec<Difference>, LedgerError> {
    let manifest = match Manifest::read(run_folder) {
        Err(LedgerError::Malformed { reason, .. }) => return Ok(vec![Difference(format!("manifest.json: {reason}"))]),
        read => read?,
    };
    let mut found = Vec::new();
    if manifest.seal != Some(manifest.expected_seal()) || !manifest.is_as_written(run_folder)? {
        found.push(Difference("manifest.json: it was changed after it was sealed".into()));
    }
    match manifest.state {
        RunState::Done => verify_files(run_folder, &manifest, &mut found)?,
        // Its files are listed when it is finished; the rows that are there have their chain already.
        RunState::Running => {
            found.push(Difference(format!("{UNFINISHED}; `fedreplay resume` continues it")));
        }
    }
    if let Err(reason) = verify_rows(run_folder, &manifest, &mut found) {
        found.push(Difference(reason));
    }
    Ok(found)
}

fn verify_files(run_folder: &Path, manifest: &Manifest, found: &mut Vec<Difference>) -> Result<(), LedgerError> {
    let present = files(run_folder)?;
    for (name, expected) in &manifest.files {
        match present.get(name) {
            None => found.push(Difference(format!("{name}: the file is missing"))),
            Some(actual) if (actual.bytes, actual.blake3) != (expected.bytes, expected.blake3) => {
                // What cannot be read as a file has been named by its hash.
                let bytes = fs::read(run_folder.join(name)).ok().filter(|_| actual.is_plain());
                let place = bytes.and_then(|bytes| located(&bytes, &expected.row_groups));
                let place = place.map(|place| format!("; it differs {place}")).unwrap_or_default();
                found.push(Difference(format!(
                    "{name}: its hash is {} ({} bytes), the manifest says {} ({} bytes){place}",
                    actual.blake3, actual.bytes, expected.blake3, expected.bytes
                )));
            }
            Some(_) => {}
        }
    }
    for name in present.keys().filter(|name| !manifest.files.contains_key(*name)) {
        found.push(Difference(format!("{name}: the manifest does not know this file")));
    }
    Ok(())
}

/// Computes the digests again from the rows, and the keys from the lineage.
fn verify_rows(run_folder: &Path, manifest: &Manifest, found: &mut Vec<Difference>) -> Result<(), String> {
    let population = read_table(run_folder, PopulationRow::NAME).map_err(|error| error.to_string())?;
    let read = RoundChunks::read(run_folder, manifest.schema_version).map_err(|error| error.to_string())?;
    let last = verify_chain(&read, &chunk_hash(PopulationRow::NAME, &population, &[]), manifest, found)?;
    let (rounds, expected) = (read.rounds().num_rows(), manifest.rounds as usize);
    if rounds != expected && manifest.state == RunState::Done {
        return Err(format!("table rounds has {rounds} rows for {expected} rounds"));
    }
    if let Some(digest) = manifest.digest.filter(|&digest| digest != last) {
        found.push(Difference(format!("the ledger's digest is {last}, the manifest says {digest}")));
    }
    if let Some(rows) = read.lineage() {
        verify_lineage(&Lineage::of(rows)?, &read, found);
    }
    Ok(())
}

/// Names every round whose rows do not give the digest that it states, and the first whose chain is broken.
fn verify_chain(
    read: &RoundChunks,
    population: &Digest,
    manifest: &Manifest,
    found: &mut Vec<Difference>,
) -> Result<Digest, String> {
    let is_old = manifest.schema_version == OLDEST_SCHEMA;
    let mut chain = Chain::start(manifest.genesis);
    match is_old {
        true => chain.push_chunks(&[*population]),
        false => chain.push(rows_digest(&[*population])),
    };
    let mut is_broken = false;
    for (index, chunk) in read.chunks()?.iter().enumerate() {
        let hashes = chunk_hashes(chunk);
        let rows = rows_digest(&hashes);
        let expected = if is_old { chain.push_chunks(&hashes) } else { chain.push(rows) }.to_string();
        let mut check = |column: &str, expected: &str| {
            let stated = text(&chunk.round, column, 0);
            let differs = stated != expected;
            if differs {
                let (round, what) = (index + 1, column.replace('_', " "));
                let message = format!("round {round}: its rows give the {what} {expected}, table rounds says {stated}");
                found.push(Difference(message));
            }
            differs
        };
        let has_other_rows = !is_old && check("rows_digest", &rows.to_string());
        // One broken link breaks all that follow.
        if !is_broken {
            is_broken = check("digest", &expected) || has_other_rows;
        }
    }
    Ok(chain.last())
}

/// Checks the graph and its keys, and that the results in other tables are in it.
fn verify_lineage(lineage: &Lineage, read: &RoundChunks, found: &mut Vec<Difference>) {
    found.extend(lineage.check().into_iter().map(Difference));
    let by_key = lineage.by_key();
    let mut check = |table: &str, rows: &RecordBatch, column: &str, kinds: &[&str]| {
        let keys = rows.column_by_name(column).and_then(|keys| keys.as_string_opt::<i32>());
        let Some(keys) = keys else { return found.push(Difference(format!("table {table} has no column {column}"))) };
        for row in (0..keys.len()).filter(|&row| keys.is_valid(row)) {
            let entry = Digest::from_hex(keys.value(row)).and_then(|key| by_key.get(&Key(key)));
            if !entry.is_some_and(|entry| kinds.contains(&entry.kind.as_str())) {
                let (key, kinds) = (keys.value(row), kinds.join(" or "));
                let message =
                    format!("table {table}, row {row}: its {column} {key} is that of no {kinds} in table lineage");
                found.push(Difference(message));
            }
        }
    };
    check("tasks", read.tasks(), "update_key", &["train", "member"]);
    check("rounds", read.rounds(), "model_key", &["initial", "given", "aggregate"]);
}
