//! Files of the rounds that are finished, which a run that is killed leaves behind, and their joining when the run is done.
//!
//! New rounds are joined with those of the newest file of their table into a wider file, until that is full. A run of many
//! rounds therefore has few files at any time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use arrow::compute::BatchCoalescer;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use super::LedgerError;
use super::batches::{READ_ROWS, batches, parts};
use super::chunk::{ChunkBatches, TABLES, part_name, write_parquet};
use super::queue::Loads;

/// Delay after which a finished round is written. A run whose results are all in the store ends sooner, and needs no files of
/// single rounds that would be joined at once.
const PACE: Duration = Duration::from_millis(100);

/// Shortest delay as a multiple of the time that the last writing took: a run that is continued finds hundreds of rounds per second
/// in the store, which must not wait for a slow disk.
const PAUSE: u32 = 8;

/// Longest delay after which a finished round is written.
const LONGEST_PACE: Duration = Duration::from_secs(2);

/// Number of rounds from which on a file of an unfinished run is full.
const FULL_ROUNDS: u32 = 100;

/// [rows] -- Number of rows, over all tables, from which on the newest files are full, so that they are not copied again.
const FULL_ROWS: usize = 1 << 20;

/// Rounds of a run, which are written shortly after they come unless the run ends before.
pub(super) struct RoundParts {
    /// `ledger` in the run's folder.
    folder: PathBuf,
    /// Rounds that are not on disk yet.
    waiting: Vec<ChunkBatches>,
    /// Number of the first round in `waiting`.
    first: u32,
    /// Newest file of each table, if it is not full.
    open: Option<OpenPart>,
    /// Delay after which the next round is written.
    pace: Duration,
}

/// The newest files of a run's tables, with the same rounds in each.
#[derive(Clone, Copy)]
struct OpenPart {
    first: u32,
    last: u32,
    /// Rows of all tables.
    rows: usize,
}

impl OpenPart {
    fn is_full(self) -> bool {
        self.last + 1 - self.first >= FULL_ROUNDS || self.rows >= FULL_ROWS
    }
}

impl RoundParts {
    /// Creates the parts of a run without rounds. The first round has number 1.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), waiting: vec![], first: 1, open: None, pace: PACE }
    }

    /// Writes rounds shortly after they come, together with others that come within the same moment: the body of the thread.
    /// Rounds that come just before the end are left to [`Self::join`].
    pub fn write_from(mut self, rounds: Loads<ChunkBatches>) -> Result<Self, LedgerError> {
        loop {
            match rounds.recv() {
                Ok(Some(round)) => self.waiting.push(round),
                Ok(None) => return Ok(self),
                Err(_) => break,
            }
            let deadline = Instant::now() + self.pace;
            let mut rows = 0;
            let next = loop {
                rows += self.waiting.last().map_or(0, row_count);
                if rows >= FULL_ROWS {
                    break Err(RecvTimeoutError::Timeout);
                }
                match rounds.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(Some(round)) => self.waiting.push(round),
                    other => break other,
                }
            };
            match next {
                Ok(_) => return Ok(self),
                Err(RecvTimeoutError::Timeout) => self.write()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // The run failed or was interrupted: its finished rounds are written.
        self.write()?;
        Ok(self)
    }

    /// Writes all rounds that are waiting.
    fn write(&mut self) -> Result<(), LedgerError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        self.extend(&waiting)?;
        self.pace = (began.elapsed() * PAUSE).clamp(PACE, LONGEST_PACE);
        Ok(())
    }

    /// Writes the open file of each table again with these rounds after its own.
    fn extend(&mut self, rounds: &[ChunkBatches]) -> Result<(), LedgerError> {
        let before = self.open;
        let first = before.map_or(self.first, |open| open.first);
        let last = self.first + rounds.len() as u32 - 1;
        let mut rows = before.map_or(0, |open| open.rows);
        // A round's own row is in the last table, so a round whose row can be read is complete.
        for table in TABLES {
            let folder = self.folder.join(table);
            let old = before.map(|open| folder.join(part_name(open.first, open.last)));
            let new: Vec<&RecordBatch> = rows_of(rounds, table).collect();
            rows += new.iter().map(|batch| batch.num_rows()).sum::<usize>();
            join_files(old.as_slice(), &new, &folder.join(part_name(first, last)))?;
        }
        // Removed only after the wider files are complete. Readers skip what is in a wider file.
        if let Some(open) = before {
            for table in TABLES {
                let path = self.folder.join(table).join(part_name(open.first, open.last));
                fs::remove_file(&path).map_err(LedgerError::io(&path))?;
            }
        }
        self.first = last + 1;
        self.open = Some(OpenPart { first, last, rows }).filter(|open| !open.is_full());
        Ok(())
    }

    /// Joins the files of each table, and the rounds that are not written yet, into one file.
    pub fn join(self) -> Result<(), LedgerError> {
        let last = (self.first + self.waiting.len() as u32).saturating_sub(1);
        for table in TABLES {
            let folder = self.folder.join(table);
            fs::create_dir_all(&folder).map_err(LedgerError::io(&folder))?;
            let waiting: Vec<&RecordBatch> = rows_of(&self.waiting, table).collect();
            let parts: Vec<PathBuf> = parts(&folder)?.into_iter().map(|part| part.path).collect();
            if parts.len() + waiting.len() == 0 || (parts.len() == 1 && waiting.is_empty()) {
                continue;
            }
            let joined = folder.join(part_name(1, last));
            join_files(&parts, &waiting, &joined)?;
            // Removed only after the joined file is complete. A run killed in between has both, and readers skip these.
            for part in parts.iter().filter(|&part| *part != joined) {
                fs::remove_file(part).map_err(LedgerError::io(part))?;
            }
        }
        Ok(())
    }
}

/// Returns the number of rows that a round adds to all tables.
fn row_count(round: &ChunkBatches) -> usize {
    round.named().map(|(_, batch)| batch.num_rows()).sum()
}

/// Returns the rows of a table in each of these rounds.
fn rows_of<'a>(rounds: &'a [ChunkBatches], table: &'a str) -> impl Iterator<Item = &'a RecordBatch> {
    rounds.iter().flat_map(move |round| round.named().filter(move |(name, _)| *name == table).map(|(_, batch)| batch))
}

/// Writes the rows of files of a table, and the batches after them, to one file. Its bytes depend on the rows alone, and not on
/// how they were divided.
fn join_files(files: &[PathBuf], after: &[&RecordBatch], joined: &Path) -> Result<(), LedgerError> {
    let schema = match (files.first(), after.first()) {
        (Some(file), _) => batches(file)?.schema(),
        (None, first) => first.expect("there are files or batches").schema(),
    };
    write_parquet(joined, schema.clone(), |writer| {
        let mut rows = BatchCoalescer::new(schema, READ_ROWS);
        for file in files {
            for batch in batches(file).map_err(|error| ParquetError::General(error.to_string()))? {
                rows.push_batch(batch?)?;
                write_completed(&mut rows, writer)?;
            }
        }
        for &batch in after {
            rows.push_batch(batch.clone())?;
            write_completed(&mut rows, writer)?;
        }
        rows.finish_buffered_batch()?;
        write_completed(&mut rows, writer)
    })
}

fn write_completed(rows: &mut BatchCoalescer, writer: &mut ArrowWriter<&mut fs::File>) -> Result<(), ParquetError> {
    while let Some(batch) = rows.next_completed_batch() {
        writer.write(&batch)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Chunk;
    use super::super::{EventRow, RoundEnd, RoundRow};
    use super::*;

    /// A failed round with more events than are read back at once.
    fn round(round: u32) -> ChunkBatches {
        let event =
            |at_ns| EventRow { at_ns, kind: "round_opened", round: Some(round), client: None, task: None, bytes: 0 };
        let row = RoundRow { round, aggregator_round: round, status: RoundEnd::Failed, ..RoundRow::default() };
        ChunkBatches::of(&Chunk { events: (0..70_000).map(event).collect(), round: row, ..Chunk::default() })
    }

    /// Returns the files of three rounds, of which those in `at` were written at once.
    fn written(at: &[u32]) -> [Vec<u8>; TABLES.len()] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut parts = RoundParts::new(folder.path());
        for number in 1..=3 {
            parts.waiting.push(round(number));
            if at.contains(&number) {
                parts.write().expect("a writable folder");
                let files = fs::read_dir(folder.path().join("rounds")).expect("a folder").count();
                assert_eq!(files, 1, "the rounds before are in the same file");
            }
        }
        parts.join().expect("a writable folder");
        TABLES.map(|table| {
            let files: Vec<_> = fs::read_dir(folder.path().join(table)).expect("a folder").collect();
            assert_eq!(files.len(), 1, "{table}");
            fs::read(folder.path().join(table).join("00001-00003.parquet")).expect("one file")
        })
    }

    #[test]
    fn the_joined_files_do_not_tell_when_rounds_were_written() {
        let at_once = written(&[]);
        for at in [&[1, 2, 3][..], &[2], &[3], &[1]] {
            assert!(written(at) == at_once, "written after rounds {at:?}");
        }
    }

    #[test]
    fn many_rounds_that_come_together_are_one_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut written = RoundParts::new(folder.path());
        for number in 1..=2500 {
            let row = RoundRow { round: number, status: RoundEnd::Failed, ..RoundRow::default() };
            written.waiting.push(ChunkBatches::of(&Chunk { round: row, ..Chunk::default() }));
            if number % 1200 == 50 {
                written.write().expect("a writable folder");
            }
        }
        written.write().expect("a writable folder");
        let files = parts(&folder.path().join("rounds")).expect("a folder");
        let files: Vec<_> = files.iter().map(|part| (part.first, part.last)).collect();
        assert_eq!(files, [(1, 1250), (1251, 2450), (2451, 2500)]);
    }

    #[test]
    fn a_hundred_rounds_are_in_at_most_two_files_of_a_table_at_any_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut written = RoundParts::new(folder.path());
        for number in 1..=250 {
            let row = RoundRow { round: number, status: RoundEnd::Failed, ..RoundRow::default() };
            written.waiting.push(ChunkBatches::of(&Chunk { round: row, ..Chunk::default() }));
            // Some come together.
            if number % 3 == 0 || number > 240 {
                written.write().expect("a writable folder");
                let files = parts(&folder.path().join("rounds")).expect("a folder");
                assert!(files.len() as u32 <= number.div_ceil(100) + 1, "after {number}: {files:?}");
                assert_eq!(files.last().map(|part| part.last), Some(number));
            }
        }
        let names: Vec<String> = ["rounds", "lineage"]
            .map(|table| {
                let files = parts(&folder.path().join(table)).expect("a folder");
                files.iter().map(|part| format!("{}-{}", part.first, part.last)).collect::<Vec<_>>().join(" ")
            })
            .into();
        assert_eq!(names, ["1-102 103-204 205-250"; 2]);
    }
}
