//! Writer of a run's tables, round by round, which joins the files of the rounds when the run is done.
//!
//! A finished round is on disk as `ledger/TABLE/RRRRR-RRRRR.parquet` shortly after its end, so a killed run can be read up to
//! it. [`LedgerWriter::finish`] joins these files into `00001-RRRRR.parquet`.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::errors::ParquetError;

use super::chunk::{Chunk, ChunkBatches, TABLES, chunk_hashes, part_name, write_batch, write_parquet};
use super::digest::{Chain, rows_digest};
use super::reader::{READ_ROWS, batches, parts};
use super::stream::start_chain;
use super::waiting::Waiting;
use super::{LedgerError, PopulationRow, Table};
use crate::store::Digest;

/// Tables of one run under construction.
pub struct LedgerWriter {
    folder: PathBuf,
    chain: Chain,
    waiting: Waiting,
}

impl LedgerWriter {
    /// Starts the tables of a run in `run_folder/ledger` with the population.
    ///
    /// `genesis` is the hash of all that the run depends on; the digest chain starts from it and the population.
    pub fn start(
        run_folder: &Path,
        genesis: Digest,
        population: impl Iterator<Item = PopulationRow>,
    ) -> Result<Self, LedgerError> {
        let folder = run_folder.join("ledger");
        let chain = start_chain(&folder, genesis, population)?;
        let waiting = Waiting::start(&folder);
        Ok(Self { folder, chain, waiting })
    }

    /// Writes a finished round and returns the digest of the run up to it.
    pub fn append(&mut self, mut chunk: Chunk) -> Result<Digest, LedgerError> {
        chunk.count_rows();
        // The digests are columns of the round's row, so the row is hashed without them and converted a second time.
        let rows = rows_digest(&chunk_hashes(&ChunkBatches::of(&chunk)));
        let digest = self.chain.push(rows);
        chunk.round.rows_digest = rows.to_string();
        chunk.round.digest = digest.to_string();
        self.waiting.push(ChunkBatches::of(&chunk))?;
        Ok(digest)
    }

    /// Returns the digest of everything added so far.
    pub fn digest(&self) -> Digest {
        self.chain.last()
    }

    /// Joins the files of each table, and the rounds that are not written yet, into one file. Returns the digest of the run.
    pub fn finish(&mut self) -> Result<Digest, LedgerError> {
        let (first, waiting) = self.waiting.end()?;
        let last = (first + waiting.len() as u32).saturating_sub(1);
        for table in TABLES {
            let rows = waiting.iter().flat_map(|batches| batches.named().filter(|(name, _)| *name == table));
            let rows: Vec<&RecordBatch> = rows.map(|(_, batch)| batch).collect();
            join_parts(&self.folder.join(table), &rows, last)?;
        }
        Ok(self.chain.last())
    }
}

/// Writes rows as one Parquet file, which appears whole or not at all.
///
/// # Errors
/// If the file or its folder cannot be written.
pub fn write_table<T: Table>(path: &Path, rows: &[T]) -> Result<(), LedgerError> {
    write_batch(path, &T::batch(rows))
}

/// Joins the files of a table and the batches after them into one file, which holds the rounds up to `last`.
fn join_parts(folder: &Path, waiting: &[&RecordBatch], last: u32) -> Result<(), LedgerError> {
    fs::create_dir_all(folder).map_err(LedgerError::io(folder))?;
    let parts = parts(folder)?;
    if parts.len() + waiting.len() == 0 || (parts.len() == 1 && waiting.is_empty()) {
        return Ok(());
    }
    let schema = match (parts.first(), waiting.first()) {
        (Some(part), _) => batches(&part.path)?.schema(),
        (None, first) => first.expect("there are parts or batches").schema(),
    };
    let joined = folder.join(part_name(1, last));
    write_parquet(&joined, schema, |writer| {
        for part in &parts {
            for batch in batches(&part.path).map_err(|error| ParquetError::General(error.to_string()))? {
                writer.write(&batch?)?;
            }
        }
        // Batches are cut as they would be when read back from files, so that the bytes of the joined file do not depend on
        // which rounds had been written before.
        for batch in waiting {
            for first in (0..batch.num_rows()).step_by(READ_ROWS) {
                writer.write(&batch.slice(first, READ_ROWS.min(batch.num_rows() - first)))?;
            }
        }
        Ok(())
    })?;
    // Removed only after the joined file is complete. A run killed in between has both, and readers skip these.
    for part in parts.iter().filter(|part| part.path != joined) {
        fs::remove_file(&part.path).map_err(LedgerError::io(&part.path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{EventRow, RoundEnd, RoundRow};
    use super::*;

    /// A failed round with more events than are read back at once.
    fn chunk(round: u32) -> Chunk {
        let batch =
            |at_ns| EventRow { at_ns, kind: "round_opened", round: Some(round), client: None, task: None, bytes: 0 };
        let events = (0..70_000).map(batch).collect();
        let row = RoundRow { round, aggregator_round: round, status: RoundEnd::Failed, ..RoundRow::default() };
        Chunk { events, tasks: vec![], evaluations: vec![], generations: vec![], lineage: vec![], round: row }
    }

    #[test]
    fn the_joined_files_do_not_tell_when_rounds_were_written() {
        let written = |at: &[u32]| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut writer = LedgerWriter::start(folder.path(), Digest::of(b"genesis"), std::iter::empty())
                .expect("a writable folder");
            for round in 1..=3 {
                writer.append(chunk(round)).expect("a writable folder");
                if at.contains(&round) {
                    writer.waiting.flush().expect("a writable folder");
                    assert!(folder.path().join(format!("ledger/rounds/{round:05}-{round:05}.parquet")).is_file());
                }
            }
            let digest = writer.finish().expect("a writable folder");
            let files = TABLES.map(|table| {
                let files: Vec<_> = fs::read_dir(folder.path().join("ledger").join(table)).expect("a folder").collect();
                assert_eq!(files.len(), 1, "{table}");
                fs::read(folder.path().join("ledger").join(table).join("00001-00003.parquet")).expect("one file")
            });
            (digest, files)
        };
        let at_once = written(&[]);
        for at in [&[1, 2, 3][..], &[2], &[3], &[1]] {
            assert!(written(at) == at_once, "written after rounds {at:?}");
        }
    }
}
