//! Rows that one round adds to the tables, also as columns, and the files of single rounds.

use std::fs;
use std::path::Path;

use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use super::digest::{DIGEST_COLUMNS, chunk_hash};
use super::layout::properties;
use super::{EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, RoundRow, Table, TaskRow};
use crate::store::{Digest, atomic};

/// Rows that one round adds to the tables.
#[derive(Clone, Debug, Default)]
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

pub(super) fn part_name(first: u32, last: u32) -> String {
    format!("{first:05}-{last:05}.parquet")
}

pub(super) fn write_batch(path: &Path, batch: &RecordBatch) -> Result<(), LedgerError> {
    write_parquet(path, batch.schema(), |writer| writer.write(batch))
}

pub(super) fn write_parquet(
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
