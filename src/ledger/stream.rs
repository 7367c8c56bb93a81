//! Writes tables row by row: a ledger of any length in little memory, for schedules that are played without training.
//!
//! The files appear when the ledger is finished. A schedule costs seconds, so there is nothing to save on the way. A thread
//! of its own hashes and writes, beside the simulation that makes the rows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parquet::arrow::ArrowWriter;

use super::chunk::part_name;
use super::digest::{BLOCK_ROWS, Chain, ChunkHasher, DIGEST_COLUMNS, rows_digest};
use super::layout::properties;
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

/// Rows of one round, or a part of it, on their way to the thread that writes.
#[derive(Default)]
struct Load {
    events: Vec<EventRow>,
    tasks: Vec<TaskRow>,
    /// The round's own row, with which it ends.
    round: Option<RoundRow>,
}

/// Rows of a kind that are handed over at a time.
const LOAD_ROWS: usize = 1 << 12;
/// Loads that may wait to be written: the simulation waits for the disk rather than fill the memory.
const LOADS_WAITING: usize = 16;

/// The tables of a plan under construction. Rows come in the order of the schedule, and each round after its rows.
pub struct LedgerStream {
    open: Load,
    /// None once the thread is over.
    writer: Option<Writer>,
}

/// The thread that writes, and the way to it: each load of rows, then none for the end.
struct Writer {
    loads: SyncSender<Option<Load>>,
    thread: JoinHandle<Result<Digest, LedgerError>>,
}

impl Writer {
    /// Waits for the thread, which stops where nothing more can come.
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
    /// If the disk took no more of what came before.
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

    fn hand_over(&mut self) -> Result<(), LedgerError> {
        let load = std::mem::take(&mut self.open);
        match self.writer.as_ref().expect("nothing is added after a failure").loads.send(Some(load)) {
            Ok(()) => Ok(()),
            // The thread takes no more rows: it failed, and says why.
            Err(_) => self.end().map(drop),
        }
    }

    fn end(&mut self) -> Result<Digest, LedgerError> {
        self.writer.take().expect("nothing is added after a failure").join()
    }

    /// Closes the files and returns the digest of the whole.
    ///
    /// # Errors
    /// If the disk takes no more.
    ///
    /// # Panics
    /// If rows came after the last round: they would belong to none.
    pub fn finish(mut self) -> Result<Digest, LedgerError> {
        assert!(self.open.events.is_empty() && self.open.tasks.is_empty(), "rows came after the last round");
        if let Some(writer) = &self.writer {
            // Where it failed before, the failure comes back from the thread itself.
            let _ = writer.loads.send(None);
        }
        self.end()
    }
}

impl Drop for LedgerStream {
    fn drop(&mut self) {
        // A plan that was given up leaves no half-written files behind.
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The tables in the hands of the thread that writes them.
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

    /// Writes all that comes; at the end closes the files and returns the digest of the whole. Where the rows end without
    /// one, no file appears.
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
        load.events.into_iter().try_for_each(|row| self.events.push(row))?;
        load.tasks.into_iter().try_for_each(|row| self.tasks.push(row))?;
        load.round.map_or(Ok(()), |row| self.round(row))
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
        let rows = rows_digest(&chunks);
        (row.rows_digest, row.digest) = (rows.to_string(), self.chain.push(rows).to_string());
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
    population.into_iter().try_for_each(|row| table.push(row))?;
    let mut chain = Chain::start(genesis);
    chain.push(rows_digest(&[table.end_chunk()?]));
    table.finish(0, 0)?;
    Ok(chain)
}
