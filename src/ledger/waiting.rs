//! Finished rounds on their way to the disk. Those that follow within a moment are written together, by a thread of their own,
//! so that no round waits for the next one to end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::LedgerError;
use super::chunk::{ChunkBatches, part_name, write_batch};

/// How long after its end a round is written at the latest: where all results are found and not computed, a whole run passes in
/// less, and needs no files that would be joined at once.
const PACE: Duration = Duration::from_millis(100);

/// Rounds that are not on disk yet.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// `ledger` in the run's folder.
    folder: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    batches: Vec<ChunkBatches>,
    /// The first of them.
    first: u32,
    failure: Option<LedgerError>,
    ended: bool,
}

impl Waiting {
    /// Nothing yet; the first round to come is 1.
    pub fn start(folder: &Path) -> Self {
        let state = State { batches: vec![], first: 1, failure: None, ended: false };
        let shared = Shared { folder: folder.to_owned(), state: Mutex::new(state), changed: Condvar::new() };
        let shared = Arc::new(shared);
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || shared.write_as_they_come()
        });
        Self { shared, thread: Some(thread) }
    }

    /// Adds a round.
    ///
    /// # Errors
    /// If one before it could not be written.
    pub fn push(&self, round: ChunkBatches) -> Result<(), LedgerError> {
        let mut state = self.shared.lock();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        state.batches.push(round);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Writes no more, and gives the rounds that are not on disk with the number that the first of them has, or would have.
    ///
    /// # Errors
    /// If a round could not be written.
    pub fn end(&mut self) -> Result<(u32, Vec<ChunkBatches>), LedgerError> {
        self.stop();
        let mut state = self.shared.lock();
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok((state.first, std::mem::take(&mut state.batches))),
        }
    }

    fn stop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }

    /// Writes what waits.
    #[cfg(test)]
    pub fn flush(&self) -> Result<(), LedgerError> {
        self.shared.write(&mut self.shared.lock())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // A run that fails or is interrupted keeps the rounds that it finished; after a failure to write there is none to keep.
        if self.thread.is_some() && !std::thread::panicking() {
            self.stop();
            let _ = self.shared.write(&mut self.shared.lock());
        }
    }
}

impl Shared {
    fn write_as_they_come(&self) {
        loop {
            let is_idle = |state: &mut State| state.batches.is_empty() && !state.ended;
            let state = self.changed.wait_while(self.lock(), is_idle).expect(NO_PANIC);
            let followed = self.changed.wait_timeout_while(state, PACE, |state| !state.ended).expect(NO_PANIC);
            let mut state = followed.0;
            if state.ended {
                return;
            }
            if let Err(failure) = self.write(&mut state) {
                state.failure = Some(failure);
                return;
            }
        }
    }

    fn write(&self, state: &mut State) -> Result<(), LedgerError> {
        for round in std::mem::take(&mut state.batches) {
            let name = part_name(state.first, state.first);
            // The round's own row comes last: a round whose row can be read is complete.
            for (table, batch) in round.named() {
                write_batch(&self.folder.join(table).join(&name), batch)?;
            }
            state.first += 1;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no thread panics while it holds the lock";
