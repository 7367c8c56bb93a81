//! Queue of finished rounds for the disk. A separate thread writes them shortly after they end, together with others that end
//! within the same moment.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::LedgerError;
use super::chunk::{ChunkBatches, part_name, write_batch};

/// Delay after which a finished round is written. A run whose results are all in the store ends sooner, and needs no files of
/// single rounds that would be joined at once.
const PACE: Duration = Duration::from_millis(100);

/// Queue of rounds that are not on disk yet, with the thread that writes them.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// State that the queue shares with its thread.
struct Shared {
    /// `ledger` in the run's folder.
    folder: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    batches: Vec<ChunkBatches>,
    /// Number of the first round in `batches`.
    first: u32,
    failure: Option<LedgerError>,
    ended: bool,
}

impl Waiting {
    /// Starts the thread with an empty queue. The first round has number 1.
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

    /// Stops the thread. Returns the rounds that are not on disk, and the number of the first of them or of the next round.
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

    /// Writes all rounds in the queue.
    #[cfg(test)]
    pub fn flush(&self) -> Result<(), LedgerError> {
        self.shared.write(&mut self.shared.lock())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The finished rounds of a run that fails or is interrupted are written. After a failure to write the queue is empty.
        if self.thread.is_some() && !std::thread::panicking() {
            self.stop();
            let _ = self.shared.write(&mut self.shared.lock());
        }
    }
}

impl Shared {
    /// Writes rounds until the queue ends or writing fails: the body of the thread.
    fn write_as_they_come(&self) {
        loop {
            // Waits for a round, then a moment longer for others. Both waits release the lock, so rounds can be added.
            let state =
                self.changed.wait_while(self.lock(), |state| state.batches.is_empty() && !state.ended).expect(NO_PANIC);
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

    /// Writes the files of all rounds in the queue.
    fn write(&self, state: &mut State) -> Result<(), LedgerError> {
        for round in std::mem::take(&mut state.batches) {
            let name = part_name(state.first, state.first);
            // The round's own row is written last, so a round whose row can be read is complete.
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
