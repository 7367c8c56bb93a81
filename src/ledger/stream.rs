//! Streaming writer of a plan's ledger: writes tables row by row, so that a ledger of any length needs little memory.
//!
//! The files appear when the ledger is finished: a plan takes seconds, so partial results are not worth saving. A separate
//! thread hashes and writes the rows while the simulation makes more of them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parquet::arrow::ArrowWriter;

use super::chunk::part_name;
use super::chunk::properties;
use super::digest::{BLOCK_ROWS, Chain, ChunkHasher, DIGEST_COLUMNS, rows_digest};
use super::{EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, PopulationRow, RoundRow, Table, TaskRow};
use crate::store::{Digest, atomic};

/// Table under construction. At most a block of rows and a row group of compressed columns are in memory.
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
        let writer = ArrowWriter::try_new(file, T::schema(), Some(properties(&T::schema())))
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

    /// Ends a chunk and returns the hash of its rows.
    pub fn end_chunk(&mut self) -> Result<Digest, LedgerError> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        Ok(std::mem::replace(&mut self.hasher, ChunkHasher::new(T::NAME)).finish())
    }

    /// Closes the file, which contains these rounds.
    pub fn finish(self, first: u32, last: u32) -> Result<(), LedgerError> {
        let path = self.folder.join(part_name(first, last));
        self.writer.close().map_err(|source| LedgerError::Parquet { path: path.clone(), source })?;
        self.pending.commit(&path).map_err(LedgerError::io(&path))
    }
}

/// Rows of one round, or of a part of it, for the writer thread.
#[derive(Default)]
struct Load {
    events: Vec<EventRow>,
    tasks: Vec<TaskRow>,
    /// Row of the round itself, which ends it.
    round: Option<RoundRow>,
}

/// [rows] -- Rows of a table that are sent to the thread at once.
const LOAD_ROWS: usize = 1 << 12;
/// Maximum number of loads in the queue. If it is full the simulation waits, so that the memory does not fill up.
const LOADS_WAITING: usize = 16;

/// Tables of a plan under construction. Rows are added in the order of the schedule, and each round after its rows.
pub struct LedgerStream {
    open: Load,
    /// Writer thread; `None` once it has ended.
    writer: Option<Writer>,
}

/// Writer thread with its queue: loads of rows, and then `None` for the end.
struct Writer {
    loads: SyncSender<Option<Load>>,
    thread: JoinHandle<Result<Digest, LedgerError>>,
}

impl Writer {
    /// Closes the queue and waits for the thread.
    fn join(self) -> Result<Digest, LedgerError> {
        drop(self.loads);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl LedgerStream {
    /// Starts the tables in `run_folder/ledger` with the population, as [`super::LedgerWriter`] does.
    pub fn start(
        run_folder: &Path,
        genesis: Digest,
        population: impl Iterator<Item = PopulationRow>,
    ) -> Result<Self, LedgerError> {
        let tables = Tables::start(&run_folder.join("ledger"), genesis, population)?;
        let (loads, waiting) = sync_channel(LOADS_WAITING);
        let thread = std::thread::spawn(move || tables.write(waiting));
        Ok(Self { open: Load::default(), writer: Some(Writer { loads, thread }) })
    }

    /// Adds an event to the round that is open.
    ///
    /// # Errors
    /// If earlier rows could not be written.
    pub fn event(&mut self, row: EventRow) -> Result<(), LedgerError> {
        self.open.events.push(row);
        if self.open.events.len() == LOAD_ROWS { self.hand_over() } else { Ok(()) }
    }

    /// Adds a task to the round that is open.
    ///
    /// # Errors
    /// As [`Self::event`].
    pub fn task(&mut self, row: TaskRow) -> Result<(), LedgerError> {
        self.open.tasks.push(row);
        if self.open.tasks.len() == LOAD_ROWS { self.hand_over() } else { Ok(()) }
    }

    /// Ends a round; its row counts and digest are filled in here.
    ///
    /// # Errors
    /// As [`Self::event`].
    pub fn round(&mut self, row: RoundRow) -> Result<(), LedgerError> {
        self.open.round = Some(row);
        self.hand_over()
    }

    /// Sends the open rows to the thread.
    fn hand_over(&mut self) -> Result<(), LedgerError> {
        let load = std::mem::take(&mut self.open);
        match self.writer.as_ref().expect("nothing is added after a failure").loads.send(Some(load)) {
            Ok(()) => Ok(()),
            // The thread has ended early, so it failed; joining it returns the failure.
            Err(_) => self.end().map(drop),
        }
    }

    /// Ends the thread and returns the digest.
    fn end(&mut self) -> Result<Digest, LedgerError> {
        self.writer.take().expect("nothing is added after a failure").join()
    }

    /// Closes the files and returns the digest of the whole.
    ///
    /// # Errors
    /// If rows could not be written.
    ///
    /// # Panics
    /// If rows were added after the last round: they would belong to none.
    pub fn finish(mut self) -> Result<Digest, LedgerError> {
        assert!(self.open.events.is_empty() && self.open.tasks.is_empty(), "rows came after the last round");
        if let Some(writer) = &self.writer {
            // If the thread has failed, nothing receives this, and joining it below returns the failure.
            let _ = writer.loads.send(None);
        }
        self.end()
    }
}

impl Drop for LedgerStream {
    fn drop(&mut self) {
        // Waits for the thread, which removes its partial files when it ends without `finish`.
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Tables under construction, which the writer thread owns.
struct Tables {
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

impl Tables {
    fn start(
        folder: &Path,
        genesis: Digest,
        population: impl Iterator<Item = PopulationRow>,
    ) -> Result<Self, LedgerError> {
        Ok(Self {
            chain: start_chain(folder, genesis, population)?,
            events: TableStream::create(folder)?,
            tasks: TableStream::create(folder)?,
            evaluations: TableStream::create(folder)?,
            generations: TableStream::create(folder)?,
            lineage: TableStream::create(folder)?,
            rounds: TableStream::create(folder)?,
            event_rows: 0,
            task_rows: 0,
            last_round: 0,
        })
    }

    /// Writes all loads, then closes the files and returns the digest of the whole. If the queue ends without the mark of the
    /// end, no file appears.
    fn write(mut self, loads: Receiver<Option<Load>>) -> Result<Digest, LedgerError> {
        for load in loads {
            match load {
                Some(load) => self.add(load)?,
                None => return self.finish(),
            }
        }
        Ok(self.chain.last())
    }

    fn add(&mut self, load: Load) -> Result<(), LedgerError> {
        self.event_rows += load.events.len() as u64;
        self.task_rows += load.tasks.len() as u64;
        for row in load.events {
            self.events.push(row)?;
        }
        for row in load.tasks {
            self.tasks.push(row)?;
        }
        match load.round {
            Some(row) => self.round(row),
            None => Ok(()),
        }
    }

    fn round(&mut self, mut row: RoundRow) -> Result<(), LedgerError> {
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
        // The round's own row is hashed without these two columns, which are computed from the hash.
        let rows = rows_digest(&chunks);
        row.rows_digest = rows.to_string();
        row.digest = self.chain.push(rows).to_string();
        self.last_round = row.round;
        self.rounds.push(row)
    }

    fn finish(self) -> Result<Digest, LedgerError> {
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
