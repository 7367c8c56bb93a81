//! Checks a run against its own hashes.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;

use super::chunk::{ChunkBatches, chunk_hashes};
use super::compare::{Difference, text};
use super::digest::{Chain, chunk_hash, rows_digest};
use super::lineage::Lineage;
use super::locate::place;
use super::manifest::files;
use super::reader::{RoundChunks, read_table};
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
    if !manifest.is_as_written(run_folder)? {
        found.push(Difference("manifest.json: it was changed after it was sealed".into()));
    }
    if manifest.state == RunState::Running {
        found.push(Difference(format!("{UNFINISHED}; `fedreplay resume` continues it")));
    }
    let mut in_rows = Rows::default();
    if let Err(reason) = in_rows.verify(run_folder, &manifest) {
        in_rows.found.push(Difference(reason));
    }
    verify_files(run_folder, &manifest, in_rows.broken, &mut found)?;
    found.extend(in_rows.found);
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

/// What is wrong with rows.
#[derive(Default)]
struct Rows {
    found: Vec<Difference>,
    /// The first round, from 1, whose rows do not give its digest.
    broken: Option<u32>,
}

impl Rows {
    /// Computes the digests again from the rows, and the keys from the lineage.
    fn verify(&mut self, run_folder: &Path, manifest: &Manifest) -> Result<(), String> {
        let population = read_table(run_folder, PopulationRow::NAME).map_err(|error| error.to_string())?;
        let mut read = RoundChunks::read(run_folder, manifest.schema_version).map_err(|error| error.to_string())?;
        if manifest.state == RunState::Running {
            read = read.of_finished_rounds()?;
        }
        let last = self.verify_chain(&read, &chunk_hash(PopulationRow::NAME, &population, &[]), manifest)?;
        let (rounds, expected) = (read.rounds().num_rows(), manifest.rounds as usize);
        if rounds != expected && manifest.state == RunState::Done {
            return Err(format!("table rounds has {rounds} rows for {expected} rounds"));
        }
        if let Some(digest) = manifest.digest.filter(|&digest| digest != last) {
            self.found.push(Difference(format!("the ledger's digest is {last}, the manifest says {digest}")));
        }
        if let Some(rows) = read.lineage() {
            self.verify_lineage(&Lineage::of(rows)?, &read);
        }
        Ok(())
    }

    /// Names every round whose rows do not give the digest of rows that it states, and the first at which the chain breaks.
    fn verify_chain(&mut self, read: &RoundChunks, population: &Digest, manifest: &Manifest) -> Result<Digest, String> {
        let is_old = manifest.schema_version == OLDEST_SCHEMA;
        let mut chain = Chain::start(manifest.genesis);
        match is_old {
            true => chain.push_chunks(&[*population]),
            false => chain.push(rows_digest(&[*population])),
        };
        for (round, chunk) in (1..).zip(read.chunks()?) {
            let hashes = chunk_hashes(&chunk);
            let rows = rows_digest(&hashes);
            let expected = if is_old { chain.push_chunks(&hashes) } else { chain.push(rows) };
            if !is_old {
                self.check_digest(round, &chunk, "rows_digest", rows);
            }
            // One broken link breaks all that follow.
            if self.broken.is_none() && self.check_digest(round, &chunk, "digest", expected) {
                self.broken = Some(round);
            }
        }
        Ok(chain.last())
    }

    /// Whether a round states another digest than its rows give.
    fn check_digest(&mut self, round: u32, chunk: &ChunkBatches, column: &str, expected: Digest) -> bool {
        let stated = text(&chunk.round, column, 0);
        let differs = stated != expected.to_string();
        if differs {
            let what = column.replace('_', " ");
            let message = format!("round {round}: its rows give the {what} {expected}, table rounds says {stated}");
            self.found.push(Difference(message));
        }
        differs
    }

    /// Checks the graph and its keys, and that the results in other tables are in it.
    fn verify_lineage(&mut self, lineage: &Lineage, read: &RoundChunks) {
        self.found.extend(lineage.check().into_iter().map(Difference));
        let by_key = lineage.by_key();
        let mut check = |table: &str, rows: &RecordBatch, column: &str, kinds: &[&str]| {
            let keys = rows.column_by_name(column).and_then(|keys| keys.as_string_opt::<i32>());
            let Some(keys) = keys else {
                return self.found.push(Difference(format!("table {table} has no column {column}")));
            };
            for row in (0..keys.len()).filter(|&row| keys.is_valid(row)) {
                let entry = Digest::from_hex(keys.value(row)).and_then(|key| by_key.get(&Key(key)));
                if !entry.is_some_and(|entry| kinds.contains(&entry.kind.as_str())) {
                    let (key, kinds) = (keys.value(row), kinds.join(" or "));
                    let message =
                        format!("table {table}, row {row}: its {column} {key} is that of no {kinds} in table lineage");
                    self.found.push(Difference(message));
                }
            }
        };
        check("tasks", read.tasks(), "update_key", &["train", "member"]);
        check("rounds", read.rounds(), "model_key", &["initial", "given", "aggregate"]);
    }
}
