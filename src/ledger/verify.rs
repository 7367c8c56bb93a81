//! Verification of a run against its own hashes.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;

use super::chunk::{ChunkBatches, chunk_hashes};
use super::compare::{Difference, text};
use super::digest::{Chain, rows_digest};
use super::lineage::{Lineage, LineageEntry};
use super::locate::place;
use super::manifest::files;
use super::reader::{RoundChunks, start_hashes};
use super::{LedgerError, Manifest, OLDEST_SCHEMA, RunState};
use crate::store::{Digest, Key};

/// Start of the finding about a run that is not finished.
pub const UNFINISHED: &str = "manifest.json: the run is not finished";

/// Checks files, seal, digest chain and lineage of the run in `run_folder`. Returns all findings; there are none if
/// everything is correct.
///
/// # Errors
/// If there is no manifest at all, so that there is no run to check, or if the disk cannot be read.
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
        found.push(Difference(UNFINISHED.into()));
    }
    // Rows are checked before files, so that a changed file can be reported with the rounds that are affected.
    let in_rows = Rows::of(run_folder, &manifest);
    verify_files(run_folder, &manifest, in_rows.broken, &mut found)?;
    found.extend(in_rows.found);
    Ok(found)
}

/// Checks digest chain and lineage of the run in `run_folder` alone, whatever its files' hashes. Returns all findings.
pub fn verify_rows(run_folder: &Path, manifest: &Manifest) -> Vec<Difference> {
    Rows::of(run_folder, manifest).found
}

/// Compares the files with those in the manifest; `broken` is the first round whose rows do not give its digest.
fn verify_files(
    run_folder: &Path,
    manifest: &Manifest,
    broken: Option<u32>,
    found: &mut Vec<Difference>,
) -> Result<(), LedgerError> {
    // A file that is not listed is found by its name alone.
    let listed = |name: &str| Some(manifest.files.get(name).map_or(0, |entry| entry.bytes));
    let present = files(run_folder, listed)?;
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
    // The files of an unfinished run are listed when it is done.
    let unlisted = present.keys().filter(|name| !manifest.files.contains_key(*name));
    for name in unlisted.filter(|_| manifest.state == RunState::Done) {
        found.push(Difference(format!("{name}: the manifest does not know this file")));
    }
    Ok(())
}

/// Findings about the rows of tables.
#[derive(Default)]
struct Rows {
    found: Vec<Difference>,
    /// First round, from 1, whose rows do not give its digest.
    broken: Option<u32>,
}

impl Rows {
    /// Checks the rows of a run.
    fn of(run_folder: &Path, manifest: &Manifest) -> Self {
        let mut rows = Self::default();
        if let Err(reason) = rows.verify(run_folder, manifest) {
            rows.found.push(Difference(reason));
        }
        rows
    }

    /// Recomputes the digests from the rows, and the keys from the lineage.
    fn verify(&mut self, run_folder: &Path, manifest: &Manifest) -> Result<(), String> {
        let start = start_hashes(run_folder).map_err(|error| error.to_string())?;
        let mut read = RoundChunks::read(run_folder, manifest.schema_version).map_err(|error| error.to_string())?;
        if manifest.state == RunState::Running {
            read = read.of_finished_rounds()?;
        }
        let last = self.verify_chain(&read, &start, manifest)?;
        let rounds = read.rounds().num_rows();
        let expected = manifest.rounds as usize;
        if rounds != expected && manifest.state == RunState::Done {
            return Err(format!("table rounds has {rounds} rows for {expected} rounds"));
        }
        if let Some(digest) = manifest.digest.filter(|&digest| digest != last) {
            self.found.push(Difference(format!("the ledger's digest is {last}, the manifest says {digest}")));
        }
        if let Some(rows) = read.lineage() {
            self.verify_lineage(&Lineage::of(rows).map_err(|error| error.to_string())?, &read);
        }
        Ok(())
    }

    /// Reports every round whose rows do not give their stated digest, and the first at which the chain breaks. Returns the
    /// last digest of the chain.
    fn verify_chain(&mut self, read: &RoundChunks, start: &[Digest], manifest: &Manifest) -> Result<Digest, String> {
        let is_old = manifest.schema_version == OLDEST_SCHEMA;
        let mut chain = Chain::start(manifest.genesis);
        match is_old {
            true => chain.push_chunks(start),
            false => chain.push(rows_digest(start)),
        };
        for (round, chunk) in (1..).zip(read.chunks()?) {
            let hashes = chunk_hashes(&chunk);
            let rows = rows_digest(&hashes);
            let expected = if is_old { chain.push_chunks(&hashes) } else { chain.push(rows) };
            if !is_old {
                self.check_digest(round, &chunk, "rows_digest", rows);
            }
            // All rounds after a broken link differ too, so only the first is reported.
            if self.broken.is_none() && self.check_digest(round, &chunk, "digest", expected) {
                self.broken = Some(round);
            }
        }
        Ok(chain.last())
    }

    /// Reports a round whose stated digest differs from the expected one. Returns whether it does.
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

    /// Checks the graph and its keys, and that the keys in other tables are in it.
    fn verify_lineage(&mut self, lineage: &Lineage, read: &RoundChunks) {
        self.found.extend(lineage.check().into_iter().map(Difference));
        let by_key = lineage.by_key();
        let updates = KeyColumn { table: "tasks", column: "update_key", kinds: &["train", "member"] };
        self.check_keys(&updates, read.tasks(), &by_key);
        let models =
            KeyColumn { table: "rounds", column: "model_key", kinds: &["initial", "first_step", "given", "aggregate"] };
        self.check_keys(&models, read.rounds(), &by_key);
    }

    /// Checks that every key in a column is that of an order of the right kind.
    fn check_keys(&mut self, of: &KeyColumn, rows: &RecordBatch, by_key: &BTreeMap<Key, &LineageEntry>) {
        let KeyColumn { table, column, kinds } = of;
        let Some(keys) = rows.column_by_name(column).and_then(|keys| keys.as_string_opt::<i32>()) else {
            self.found.push(Difference(format!("table {table} has no column {column}")));
            return;
        };
        for row in (0..keys.len()).filter(|&row| keys.is_valid(row)) {
            let key = keys.value(row);
            let entry = Digest::from_hex(key).and_then(|key| by_key.get(&Key(key)));
            if !entry.is_some_and(|entry| kinds.contains(&entry.kind.as_str())) {
                let kinds = kinds.join(" or ");
                self.found.push(Difference(format!(
                    "table {table}, row {row}: its {column} {key} is that of no {kinds} in table lineage"
                )));
            }
        }
    }
}

/// Column with keys of orders, and the kinds that these orders may have.
struct KeyColumn {
    table: &'static str,
    column: &'static str,
    kinds: &'static [&'static str],
}
