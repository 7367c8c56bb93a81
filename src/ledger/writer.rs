//! Writer of a ledger: tables, digest chain and files. It has two sources of rows.
//!
//! [`LedgerWriter`] takes the rounds of a run, each whole. A finished round is on disk in a file `ledger/TABLE/FIRST-LAST.parquet`
//! shortly after its end, so a killed run can be read up to it. [`LedgerWriter::finish`] joins these files into
//! `00001-RRRRR.parquet`.
//!
//! [`LedgerStream`] takes the rows of a plan one by one, so that a ledger of any length needs little memory. Its files appear
//! when it is finished: a plan takes seconds, so partial results are not worth saving.
//!
//! Both hand their rows to a thread, which writes while more of them are made.

use std::path::Path;

use super::chunk::{Chunk, ChunkBatches, TABLES, chunk_hashes, write_batch};
use super::digest::{BLOCK_ROWS, Chain, DIGEST_COLUMNS, chunk_hash, rows_digest};
use super::parts::RoundParts;
use super::queue::{Loads, WriteQueue};
use super::stream::TableStream;
use super::{EventRow, LedgerError, PopulationRow, RepeatRow, RoundRow, Table, TaskRow};
use crate::store::Digest;

/// Ledger of a run under construction, round by round.
pub struct LedgerWriter {
    chain: Chain,
    queue: WriteQueue<ChunkBatches, RoundParts>,
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
        let chain = start_chain(&folder, genesis, population, &[])?;
        let parts = RoundParts::new(&folder);
        Ok(Self { chain, queue: WriteQueue::start(move |rounds| parts.write_from(rounds)) })
    }

    /// Writes a finished round and returns the digest of the run up to it.
    pub fn append(&mut self, mut chunk: Chunk) -> Result<Digest, LedgerError> {
        chunk.count_rows();
        let mut batches = ChunkBatches::of(&chunk);
        let digest = seal(&mut self.chain, &mut chunk.round, &chunk_hashes(&batches));
        // The digests are columns of the round's row, so it is hashed without them and converted a second time.
        batches.round = RoundRow::batch(std::slice::from_ref(&chunk.round));
        self.queue.push(batches)?;
        Ok(digest)
    }

    /// Returns the digest of everything added so far.
    pub fn digest(&self) -> Digest {
        self.chain.last()
    }

    /// Joins the files of each table, and the rounds that are not written yet, into one file. Returns the digest of the run.
    pub fn finish(&mut self) -> Result<Digest, LedgerError> {
        self.queue.finish()?.join()?;
        Ok(self.chain.last())
    }
}

/// [rows] -- Rows of a table that a stream hands to the thread at once.
const LOAD_ROWS: usize = 1 << 12;

/// Ledger of a plan under construction. Rows are added in the order of the schedule, and each round after its rows.
pub struct LedgerStream {
    /// Rows since the last that were handed over.
    open: Load,
    queue: WriteQueue<Load, Digest>,
}

/// Rows of one round, or of a part of it.
#[derive(Default)]
struct Load {
    events: Vec<EventRow>,
    tasks: Vec<TaskRow>,
    /// Row of the round itself, which ends it.
    round: Option<RoundRow>,
}

impl LedgerStream {
    /// Starts the tables in `run_folder/ledger` with the population, as [`LedgerWriter`] does, and the repeats of a plan if there are any.
    pub fn start(
        run_folder: &Path,
        genesis: Digest,
        population: impl Iterator<Item = PopulationRow>,
        repeats: &[RepeatRow],
    ) -> Result<Self, LedgerError> {
        let folder = run_folder.join("ledger");
        let tables = StreamedTables::start(&folder, start_chain(&folder, genesis, population, repeats)?)?;
        Ok(Self { open: Load::default(), queue: WriteQueue::start(move |loads| tables.write_from(loads)) })
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
        self.queue.push(std::mem::take(&mut self.open))
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
        self.queue.finish()
    }
}

/// Tables of a stream, which the thread owns.
struct StreamedTables {
    chain: Chain,
    /// In the order of [`TABLES`].
    tables: Vec<TableStream>,
    /// Rows of rounds that are not in their table yet.
    rounds: Vec<RoundRow>,
    /// Numbers of the rows of the open round.
    event_rows: u64,
    task_rows: u64,
    last_round: u32,
}

impl StreamedTables {
    fn start(folder: &Path, chain: Chain) -> Result<Self, LedgerError> {
        let mut tables = Vec::with_capacity(TABLES.len());
        for (table, none) in ChunkBatches::of(&Chunk::default()).named() {
            tables.push(TableStream::create(folder, table, none.schema())?);
        }
        Ok(Self { chain, tables, rounds: vec![], event_rows: 0, task_rows: 0, last_round: 0 })
    }

    /// Writes all loads, then closes the files and returns the digest of the whole. If the queue ends without the mark of the
    /// end, no file appears.
    fn write_from(mut self, loads: Loads<Load>) -> Result<Digest, LedgerError> {
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
        self.push(&load.events)?;
        self.push(&load.tasks)?;
        load.round.map_or(Ok(()), |row| self.end_round(row))
    }

    /// Adds rows to their table.
    fn push<T: Table>(&mut self, rows: &[T]) -> Result<(), LedgerError> {
        if rows.is_empty() {
            return Ok(());
        }
        let place = TABLES.iter().position(|&table| table == T::NAME).expect("rows of rounds have one of these tables");
        self.tables[place].push(&T::batch(rows))
    }

    fn end_round(&mut self, mut row: RoundRow) -> Result<(), LedgerError> {
        row.event_rows = std::mem::take(&mut self.event_rows);
        row.task_rows = std::mem::take(&mut self.task_rows);
        let (_, others) = self.tables.split_last_mut().expect("the rounds are the last table");
        let mut chunks = Vec::with_capacity(TABLES.len());
        for table in others {
            chunks.push(table.end_chunk()?);
        }
        chunks.push(chunk_hash(RoundRow::NAME, &RoundRow::batch(std::slice::from_ref(&row)), &DIGEST_COLUMNS));
        seal(&mut self.chain, &mut row, &chunks);
        self.last_round = row.round;
        self.rounds.push(row);
        if self.rounds.len() == LOAD_ROWS { self.push_rounds() } else { Ok(()) }
    }

    /// Adds the rows of rounds to their table.
    fn push_rounds(&mut self) -> Result<(), LedgerError> {
        let rounds = std::mem::take(&mut self.rounds);
        self.push(&rounds)
    }

    fn finish(mut self) -> Result<Digest, LedgerError> {
        assert!(self.event_rows == 0 && self.task_rows == 0, "rows came after the last round");
        self.push_rounds()?;
        for mut table in self.tables {
            table.end_chunk()?;
            table.finish(1, self.last_round)?;
        }
        Ok(self.chain.last())
    }
}

/// Fills the digests into the row of a round whose tables have these chunks, that row among them, and returns the digest of
/// everything up to it.
fn seal(chain: &mut Chain, round: &mut RoundRow, chunks: &[Digest]) -> Digest {
    let rows = rows_digest(chunks);
    let digest = chain.push(rows);
    round.rows_digest = rows.to_string();
    round.digest = digest.to_string();
    digest
}

/// Writes the tables with which a ledger starts, and starts the chain with them: the population, and the repeats of a plan if it has any.
fn start_chain(
    folder: &Path,
    genesis: Digest,
    population: impl Iterator<Item = PopulationRow>,
    repeats: &[RepeatRow],
) -> Result<Chain, LedgerError> {
    let mut chunks = vec![write_at_start(folder, population)?];
    if !repeats.is_empty() {
        chunks.push(write_at_start(folder, repeats.iter().cloned())?);
    }
    let mut chain = Chain::start(genesis);
    chain.push(rows_digest(&chunks));
    Ok(chain)
}

/// Writes a table, block by block, and returns the hash of its rows.
fn write_at_start<T: Table>(folder: &Path, mut rows: impl Iterator<Item = T>) -> Result<Digest, LedgerError> {
    let mut table = TableStream::create(folder, T::NAME, T::schema())?;
    loop {
        let block: Vec<T> = rows.by_ref().take(BLOCK_ROWS).collect();
        if block.is_empty() {
            break;
        }
        table.push(&T::batch(&block))?;
    }
    let hash = table.end_chunk()?;
    table.finish(0, 0)?;
    Ok(hash)
}

/// Writes rows as one Parquet file, which appears whole or not at all.
///
/// # Errors
/// If the file or its folder cannot be written.
pub fn write_table<T: Table>(path: &Path, rows: &[T]) -> Result<(), LedgerError> {
    write_batch(path, &T::batch(rows))
}
