//! Writes a run's tables, a round at a time, and joins the rounds' files when the run is done.
//!
//! Each finished round is on disk as `ledger/TABLE/RRRRR-RRRRR.parquet` before the next one is counted as begun, so a
//! killed run can be read up to its last finished round. [`LedgerWriter::finish`] joins them into `00001-RRRRR.parquet`.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::record_batch::{RecordBatch, RecordBatchReader};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::digest::{Chain, DIGEST_COLUMNS, chunk_hash, rows_digest};
use super::reader::{batches, parts};
use super::stream::TableStream;
use super::{EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, PopulationRow, RoundRow, Table, TaskRow};
use crate::store::{Digest, atomic};

/// Rows a Parquet row group: large enough to compress, small enough to skip.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Level 3 is where zstd's size stops falling fast on these columns.
const ZSTD_LEVEL: i32 = 3;

/// What one round adds to the tables.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub events: Vec<EventRow>,
    pub tasks: Vec<TaskRow>,
    pub evaluations: Vec<EvaluationRow>,
    pub generations: Vec<GenerationRow>,
    pub lineage: Vec<LineageRow>,
    /// The round's own row; row counts and digest are filled in by the writer.
    pub round: RoundRow,
}

impl Chunk {
    /// Writes the numbers of rows into the round's own.
    pub(super) fn count_rows(&mut self) {
        self.round.event_rows = self.events.len() as u64;
        self.round.task_rows = self.tasks.len() as u64;
        self.round.evaluation_rows = self.evaluations.len() as u64;
        self.round.generation_rows = self.generations.len() as u64;
        self.round.lineage_rows = self.lineage.len() as u64;
    }
}

/// The tables of one run under construction.
pub struct LedgerWriter {
    folder: PathBuf,
    chain: Chain,
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
        Ok(Self { folder, chain })
    }

    /// Writes a finished round and returns the digest of the run up to it.
    pub fn append(&mut self, mut chunk: Chunk) -> Result<Digest, LedgerError> {
        chunk.count_rows();
        let rows = rows_digest(&chunk_hashes(&ChunkBatches::of(&chunk)));
        let digest = self.chain.push(rows);
        (chunk.round.rows_digest, chunk.round.digest) = (rows.to_string(), digest.to_string());
        let batches = ChunkBatches::of(&chunk);
        // The round's own row comes last: a round whose row can be read is complete.
        for (table, batch) in batches.named() {
            write_batch(&self.folder.join(table).join(part_name(chunk.round.round, chunk.round.round)), batch)?;
        }
        Ok(digest)
    }

    /// The digest of everything written so far.
    pub fn digest(&self) -> Digest {
        self.chain.last()
    }

    /// Joins the rounds' files of each table into one.
    pub fn finish(&self) -> Result<Digest, LedgerError> {
        for table in TABLES {
            join_parts(&self.folder.join(table))?;
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
    population.into_iter().try_for_each(|row| table.push(row))?;
    let mut chain = Chain::start(genesis);
    chain.push(rows_digest(&[table.end_chunk()?]));
    table.finish(0, 0)?;
    Ok(chain)
}

/// The tables of rounds, in the order in which they enter the digest.
pub(super) const TABLES: [&str; 6] =
    [EventRow::NAME, TaskRow::NAME, EvaluationRow::NAME, GenerationRow::NAME, LineageRow::NAME, RoundRow::NAME];

/// A chunk as columns.
pub(super) struct ChunkBatches {
    pub events: RecordBatch,
    pub tasks: RecordBatch,
    pub evaluations: RecordBatch,
    /// Runs of schema 3 have none.
    pub generations: Option<RecordBatch>,
    /// Nor lineage.
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

    /// The tables that there are, by name, in the order in which they enter the digest.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &RecordBatch)> {
        let (generations, lineage) = (self.generations.as_ref(), self.lineage.as_ref());
        let batches =
            [Some(&self.events), Some(&self.tasks), Some(&self.evaluations), generations, lineage, Some(&self.round)];
        TABLES.into_iter().zip(batches).filter_map(|(name, batch)| Some((name, batch?)))
    }
}

/// The hashes of a round's chunks. The columns that are made from them are left out.
pub(super) fn chunk_hashes(batches: &ChunkBatches) -> Vec<Digest> {
    batches.named().map(|(table, batch)| chunk_hash(table, batch, &DIGEST_COLUMNS)).collect()
}

/// Writes one table of rows whole, as everything in a run's folder is written.
pub(crate) fn write_table<T: Table>(path: &Path, rows: &[T]) -> Result<(), LedgerError> {
    write_batch(path, &T::batch(rows))
}

pub(super) fn part_name(first: u32, last: u32) -> String {
    format!("{first:05}-{last:05}.parquet")
}

fn write_batch(path: &Path, batch: &RecordBatch) -> Result<(), LedgerError> {
    write_parquet(path, batch.schema(), |writer| writer.write(batch))
}

fn write_parquet(
    path: &Path,
    schema: arrow::datatypes::SchemaRef,
    fill: impl FnOnce(&mut ArrowWriter<&mut fs::File>) -> Result<(), ParquetError>,
) -> Result<(), LedgerError> {
    atomic::write_with(path, |file| -> Result<(), ParquetError> {
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties()))?;
        fill(&mut writer)?;
        writer.close()?;
        Ok(())
    })
    .map_err(|source| LedgerError::Parquet { path: path.to_owned(), source })
}

pub(super) fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("the level is within zstd's range");
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}

fn join_parts(folder: &Path) -> Result<(), LedgerError> {
    let parts = parts(folder)?;
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Ok(()) };
    if parts.len() == 1 {
        return Ok(());
    }
    let joined = folder.join(part_name(first.first, last.last));
    let schema = batches(&first.path)?.schema();
    write_parquet(&joined, schema, |writer| {
        for part in &parts {
            for batch in batches(&part.path).map_err(|error| ParquetError::General(error.to_string()))? {
                writer.write(&batch?)?;
            }
        }
        Ok(())
    })?;
    parts.iter().try_for_each(|part| fs::remove_file(&part.path).map_err(LedgerError::io(&part.path)))
}
