//! Queue of rows for the thread that writes them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::LedgerError;

/// Maximum number of loads in a queue. If it is full, adding waits, so that the memory does not fill up.
const LOADS_WAITING: usize = 16;

/// Receiving end of a queue: loads, and then `None` if all of them were added. Without that mark the writing is given up.
pub(super) type Loads<L> = Receiver<Option<L>>;

/// Queue with a thread that writes what is added and returns a result at the end.
pub(super) struct WriteQueue<L, R> {
    /// `None` once the thread has ended.
    running: Option<Running<L, R>>,
}

struct Running<L, R> {
    loads: SyncSender<Option<L>>,
    thread: JoinHandle<Result<R, LedgerError>>,
}

impl<L: Send + 'static, R: Send + 'static> WriteQueue<L, R> {
    /// Starts the thread.
    pub fn start(write: impl FnOnce(Loads<L>) -> Result<R, LedgerError> + Send + 'static) -> Self {
        let (loads, waiting) = sync_channel(LOADS_WAITING);
        Self { running: Some(Running { loads, thread: std::thread::spawn(move || write(waiting)) }) }
    }

    /// Adds a load.
    ///
    /// # Errors
    /// If one before it could not be written.
    pub fn push(&mut self, load: L) -> Result<(), LedgerError> {
        match self.running.as_ref().expect("nothing is added after a failure").loads.send(Some(load)) {
            Ok(()) => Ok(()),
            // The thread has ended early, so it failed; joining it returns the failure.
            Err(_) => self.join().map(drop),
        }
    }

    /// Ends the thread and returns its result.
    ///
    /// # Errors
    /// If a load could not be written.
    pub fn finish(&mut self) -> Result<R, LedgerError> {
        if let Some(running) = &self.running {
            // If the thread has failed, nothing receives this, and joining it returns the failure.
            let _ = running.loads.send(None);
        }
        self.join()
    }

    /// Closes the queue and waits for the thread.
    fn join(&mut self) -> Result<R, LedgerError> {
        let Running { loads, thread } = self.running.take().expect("nothing is added after a failure");
        drop(loads);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl<L, R> Drop for WriteQueue<L, R> {
    fn drop(&mut self) {
        // Waits for the thread, which ends without the mark: it completes or removes what it has begun.
        if let Some(Running { loads, thread }) = self.running.take() {
            drop(loads);
            let _ = thread.join();
        }
    }
}
