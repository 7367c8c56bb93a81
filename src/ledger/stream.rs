//! Writes tables row by row: a ledger of any length in little memory, for schedules that are played without training.
//!
//! The files appear when the ledger is finished. A schedule costs seconds, so there is nothing to save on the way.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;

use super::digest::{BLOCK_ROWS, Chain, ChunkHasher, DIGEST_COLUMNS, rows_digest};
use super::writer::{part_name, properties, start_chain};
use super::{EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, PopulationRow, RoundRow, Table, TaskRow};
use crate::store::{Digest, atomic};

/// One table under construction: at most a block of its rows is in memory, and a row group of compressed columns.
pub(super) struct TableStream<T> {
    folder: PathBuf,
    pending: atomic::Pending,
    writer: ArrowWriter<File>,
    block: Vec<T>,
    hasher: ChunkHasher,
}

impl<T: Table> TableStream<T> {
    /// Starts the table in its folder of `ledger`.
    pub fn create(ledger: &Path) -> Result<Self, LedgerError> {
        let folder = ledger.join(T::NAME);
        let mut pending = atomic::Pending::create(&folder, T::NAME).map_err(LedgerError::io(&folder))?;
        let file = pending.file().try_clone().map_err(LedgerError::io(&folder))?;
        let writer = ArrowWriter::try_new(file, T::schema(), Some(properties()))
            .map_err(|source| LedgerError::Parquet { path: folder.clone(), source })?;
        Ok(Self { folder, pending, writer, block: Vec::new(), hasher: ChunkHasher::new(T::NAME) })
    }

    /// Adds a row.
    pub fn push(&mut self, row: T) -> Result<(), LedgerError> {
        self.block.push(row);
        if self.block.len() == BLOCK_ROWS { self.write_block() } else { Ok(()) }
    }

    fn write_block(&mut self) -> Result<(), LedgerError> {
        let batch = T::batch(&self.block);
        self.block.clear();
        self.hasher.push(&batch, &DIGEST_COLUMNS);
        self.writer.write(&batch).map_err(|source| LedgerError::Parquet { path: self.folder.clone(), source })
    }

    /// The hash of the rows since the last chunk ended.
    pub fn end_chunk(&mut self) -> Result<Digest, LedgerError> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        Ok(std::mem::replace(&mut self.hasher, ChunkHasher::new(T::NAME)).finish())
    }

    /// Closes the file, which holds these rounds.
    pub fn finish(self, first: u32, last: u32) -> Result<(), LedgerError> {
        let path = self.folder.join(part_name(first, last));
        self.writer.close().map_err(|source| LedgerError::Parquet { path: path.clone(), source })?;
        self.pending.commit(&path).map_err(LedgerError::io(&path))
    }
}

/// The tables of a plan under construction. Rows come in the order of the schedule, and each round after its rows.
pub struct LedgerStream {
    chain: Chain,
    events: TableStream<EventRow>,
    tasks: TableStream<TaskRow>,
    evaluations: TableStream<EvaluationRow>,
    generations: TableStream<GenerationRow>,
    lineage: TableStream<LineageRow>,
    rounds: TableStream<RoundRow>,
    event_rows: u64,
    task_rows: u64,
    last_round: u32,
}

impl LedgerStream {
    /// Starts the tables in `run_folder/ledger` with the population, as [`super::LedgerWriter`] does.
    pub fn start(
        run_folder: &Path,
        genesis: Digest,
        population: impl Iterator<Item = PopulationRow>,
    ) -> Result<Self, LedgerError> {
        let folder = run_folder.join("ledger");
        Ok(Self {
            chain: start_chain(&folder, genesis, population)?,
            events: TableStream::create(&folder)?,
            tasks: TableStream::create(&folder)?,
            evaluations: TableStream::create(&folder)?,
            generations: TableStream::create(&folder)?,
            lineage: TableStream::create(&folder)?,
            rounds: TableStream::create(&folder)?,
            event_rows: 0,
            task_rows: 0,
            last_round: 0,
        })
    }

    /// Adds an event to the round that is open.
    pub fn event(&mut self, row: EventRow) -> Result<(), LedgerError> {
        self.event_rows += 1;
        self.events.push(row)
    }

    /// Adds a task to the round that is open.
    pub fn task(&mut self, row: TaskRow) -> Result<(), LedgerError> {
        self.task_rows += 1;
        self.tasks.push(row)
    }

    /// Ends a round; its row counts and digest are filled in here.
    pub fn round(&mut self, mut row: RoundRow) -> Result<(), LedgerError> {
        row.event_rows = std::mem::take(&mut self.event_rows);
        row.task_rows = std::mem::take(&mut self.task_rows);
        let mut chunks = vec![
            self.events.end_chunk()?,
            self.tasks.end_chunk()?,
            self.evaluations.end_chunk()?,
            self.generations.end_chunk()?,
            self.lineage.end_chunk()?,
        ];
        let mut own = ChunkHasher::new(RoundRow::NAME);
        own.push(&RoundRow::batch(std::slice::from_ref(&row)), &DIGEST_COLUMNS);
        chunks.push(own.finish());
        let rows = rows_digest(&chunks);
        (row.rows_digest, row.digest) = (rows.to_string(), self.chain.push(rows).to_string());
        self.last_round = row.round;
        self.rounds.push(row)
    }

    /// Closes the files and returns the digest of the whole.
    ///
    /// # Panics
    /// If rows came after the last round: they would belong to none.
    pub fn finish(self) -> Result<Digest, LedgerError> {
        assert!(self.event_rows == 0 && self.task_rows == 0, "rows came after the last round");
        let mut rounds = self.rounds;
        rounds.end_chunk()?;
        let last = self.last_round;
        self.events.finish(1, last)?;
        self.tasks.finish(1, last)?;
        self.evaluations.finish(1, last)?;
        self.generations.finish(1, last)?;
        self.lineage.finish(1, last)?;
        rounds.finish(1, last)?;
        Ok(self.chain.last())
    }
}
