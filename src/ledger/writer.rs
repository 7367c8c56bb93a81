//! Writer of a run's tables, round by round, which joins the files of the rounds when the run is done.
//!
//! A finished round is on disk as `ledger/TABLE/RRRRR-RRRRR.parquet` shortly after its end, so a killed run can be read up to
//! it. [`LedgerWriter::finish`] joins these files into `00001-RRRRR.parquet`.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use super::digest::{Chain, DIGEST_COLUMNS, chunk_hash, rows_digest};
use super::layout::properties;
use super::reader::{READ_ROWS, batches, parts};
use super::stream::TableStream;
use super::waiting::Waiting;
use super::{EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, PopulationRow, RoundRow, Table, TaskRow};
use crate::store::{Digest, atomic};

/// Rows that one round adds to the tables.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub events: Vec<EventRow>,
    pub tasks: Vec<TaskRow>,
    pub evaluations: Vec<EvaluationRow>,
    pub generations: Vec<GenerationRow>,
    pub lineage: Vec<LineageRow>,
    /// Row of the round itself; the writer fills in the row counts and digests.
    pub round: RoundRow,
}

impl Chunk {
    /// Writes the numbers of rows into the row of the round.
    pub(super) fn count_rows(&mut self) {
        self.round.event_rows = self.events.len() as u64;
        self.round.task_rows = self.tasks.len() as u64;
        self.round.evaluation_rows = self.evaluations.len() as u64;
        self.round.generation_rows = self.generations.len() as u64;
        self.round.lineage_rows = self.lineage.len() as u64;
    }
}

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

/// Writes the population, block by block, and starts the chain with it.
pub(super) fn start_chain(
    folder: &Path,
    genesis: Digest,
    population: impl Iterator<Item = PopulationRow>,
) -> Result<Chain, LedgerError> {
    let mut table = TableStream::create(folder)?;
    for row in population {
        table.push(row)?;
    }
    let mut chain = Chain::start(genesis);
    chain.push(rows_digest(&[table.end_chunk()?]));
    table.finish(0, 0)?;
    Ok(chain)
}

/// Tables of rounds, in the order in which they enter the digest.
pub(super) const TABLES: [&str; 6] =
    [EventRow::NAME, TaskRow::NAME, EvaluationRow::NAME, GenerationRow::NAME, LineageRow::NAME, RoundRow::NAME];

/// Chunk as columns.
pub(super) struct ChunkBatches {
    pub events: RecordBatch,
    pub tasks: RecordBatch,
    pub evaluations: RecordBatch,
    /// `None` in runs of schema 3.
    pub generations: Option<RecordBatch>,
    /// `None` in runs of schema 3.
    pub lineage: Option<RecordBatch>,
    pub round: RecordBatch,
}

impl ChunkBatches {
    pub(super) fn of(chunk: &Chunk) -> Self {
        Self {
            events: EventRow::batch(&chunk.events),
            tasks: TaskRow::batch(&chunk.tasks),
            evaluations: EvaluationRow::batch(&chunk.evaluations),
            generations: Some(GenerationRow::batch(&chunk.generations)),
            lineage: Some(LineageRow::batch(&chunk.lineage)),
            round: RoundRow::batch(std::slice::from_ref(&chunk.round)),
        }
    }

    /// Returns the existing tables with their names, in the order in which they enter the digest.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &RecordBatch)> {
        let batches = [
            Some(&self.events),
            Some(&self.tasks),
            Some(&self.evaluations),
            self.generations.as_ref(),
            self.lineage.as_ref(),
            Some(&self.round),
        ];
        TABLES.into_iter().zip(batches).filter_map(|(name, batch)| Some((name, batch?)))
    }
}

/// Returns the hashes of a round's chunks, without the columns that are computed from them.
pub(super) fn chunk_hashes(batches: &ChunkBatches) -> Vec<Digest> {
    batches.named().map(|(table, batch)| chunk_hash(table, batch, &DIGEST_COLUMNS)).collect()
}

/// Writes one table atomically.
pub(crate) fn write_table<T: Table>(path: &Path, rows: &[T]) -> Result<(), LedgerError> {
    write_batch(path, &T::batch(rows))
}

pub(super) fn part_name(first: u32, last: u32) -> String {
    format!("{first:05}-{last:05}.parquet")
}

pub(super) fn write_batch(path: &Path, batch: &RecordBatch) -> Result<(), LedgerError> {
    write_parquet(path, batch.schema(), |writer| writer.write(batch))
}

fn write_parquet(
    path: &Path,
    schema: arrow::datatypes::SchemaRef,
    fill: impl FnOnce(&mut ArrowWriter<&mut fs::File>) -> Result<(), ParquetError>,
) -> Result<(), LedgerError> {
    atomic::write_with(path, |file| -> Result<(), ParquetError> {
        let properties = properties(&schema);
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties))?;
        fill(&mut writer)?;
        writer.close()?;
        Ok(())
    })
    .map_err(|source| LedgerError::Parquet { path: path.to_owned(), source })
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
    use super::*;

    /// A failed round with more events than are read back at once.
    fn chunk(round: u32) -> Chunk {
        let batch =
            |at_ns| EventRow { at_ns, kind: "round_opened", round: Some(round), client: None, task: None, bytes: 0 };
        let events = (0..70_000).map(batch).collect();
        let row = RoundRow { round, aggregator_round: round, status: "failed", ..RoundRow::default() };
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
