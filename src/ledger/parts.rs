//! Files of single rounds, which a run that is killed leaves behind, and their joining when the run is done.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use parquet::errors::ParquetError;

use super::LedgerError;
use super::chunk::{ChunkBatches, TABLES, part_name, write_batch, write_parquet};
use super::queue::Loads;
use super::reader::{READ_ROWS, batches, parts};

/// Delay after which a finished round is written. A run whose results are all in the store ends sooner, and needs no files of
/// single rounds that would be joined at once.
const PACE: Duration = Duration::from_millis(100);

/// Rounds of a run, each of which is written to files of its own unless the run ends before.
pub(super) struct RoundParts {
    /// `ledger` in the run's folder.
    folder: PathBuf,
    /// Rounds that are not on disk yet.
    waiting: Vec<ChunkBatches>,
    /// Number of the first round in `waiting`.
    first: u32,
}

impl RoundParts {
    /// Creates the parts of a run without rounds. The first round has number 1.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), waiting: vec![], first: 1 }
    }

    /// Writes rounds shortly after they come, together with others that come within the same moment: the body of the thread.
    /// Rounds that come just before the end are left to [`Self::join`].
    pub fn write_from(mut self, rounds: Loads<ChunkBatches>) -> Result<Self, LedgerError> {
        loop {
            let deadline = match rounds.recv() {
                Ok(Some(round)) => {
                    self.waiting.push(round);
                    Instant::now() + PACE
                }
                Ok(None) => return Ok(self),
                Err(_) => break,
            };
            let next = loop {
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

    /// Writes the files of all rounds that are waiting.
    fn write(&mut self) -> Result<(), LedgerError> {
        for round in std::mem::take(&mut self.waiting) {
            let name = part_name(self.first, self.first);
            // The round's own row is written last, so a round whose row can be read is complete.
            for (table, batch) in round.named() {
                write_batch(&self.folder.join(table).join(&name), batch)?;
            }
            self.first += 1;
        }
        Ok(())
    }

    /// Joins the files of each table, and the rounds that are not written yet, into one file.
    pub fn join(self) -> Result<(), LedgerError> {
        let last = (self.first + self.waiting.len() as u32).saturating_sub(1);
        for table in TABLES {
            let rows = self.waiting.iter().flat_map(|batches| batches.named().filter(|(name, _)| *name == table));
            let rows: Vec<&RecordBatch> = rows.map(|(_, batch)| batch).collect();
            join_parts(&self.folder.join(table), &rows, last)?;
        }
        Ok(())
    }
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
                assert!(folder.path().join(format!("rounds/{number:05}-{number:05}.parquet")).is_file());
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
}
