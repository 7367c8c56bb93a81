//! Signals that ask the program to stop: SIGINT, SIGTERM and SIGHUP.
//!
//! They are blocked in all threads but one, which waits for them. A command that can end between two computations gets the chance
//! to; all others, and those that take too long, end at once. Both are safe because files are replaced atomically.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};

use super::note;

/// Whether the process was asked to stop; running commands poll it.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Number of the first signal; 0 before it.
static FIRST: AtomicU8 = AtomicU8::new(0);

/// Time that a command has to end by itself. A pass that takes longer is computed again when the run is resumed.
const GRACE: Duration = Duration::from_secs(10);

/// End of a command that is asked to stop. A second signal ends every command at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It has nothing to finish.
    AtOnce,
    /// It ends before its next computation, or after [`GRACE`].
    Soon,
    /// It ends when what it waits for has come: answers of a judge that are paid for.
    Patiently,
}

/// Blocks the signals for this thread and those that it starts. Programs that the process starts inherit this; the sandbox lifts it
/// for samples.
pub fn block() {
    if let Err(error) = signals().thread_block() {
        tracing::warn!(%error, "signals will end the program at once");
    }
}

/// Waits for signals in a thread of its own.
pub fn watch(stopping: Stopping) {
    let watcher = thread::Builder::new().name("signals".into());
    let started = watcher.spawn(move || {
        loop {
            if let Ok(signal) = signals().wait() {
                received(signal, stopping);
            }
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "signals will not end the program");
    }
}

/// Returns the exit code of a command that was asked to stop, as shells report it: 128 and the number of the signal.
pub fn code() -> Option<u8> {
    match FIRST.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(128 + signal),
    }
}

fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// Handles a signal.
fn received(signal: Signal, stopping: Stopping) {
    // The number comes first: whoever sees that the process is to stop may ask for it.
    let _ = FIRST.compare_exchange(0, signal as u8, Ordering::SeqCst, Ordering::SeqCst);
    let is_second = STOP.swap(true, Ordering::SeqCst);
    if is_second || stopping == Stopping::AtOnce {
        end(signal);
    }
    if stopping == Stopping::Soon {
        thread::spawn(move || {
            thread::sleep(GRACE);
            note!("error: interrupted; what was being computed is given up");
            end(signal);
        });
    }
}

/// Ends the process as the signal would have. No destructors run, which other threads could be in the way of.
fn end(signal: Signal) {
    let only: SigSet = [signal].into_iter().collect();
    let _ = only.thread_unblock().and_then(|()| raise(signal));
    // Only the first process of a container comes here: it ignores signals that it has no handler for.
    std::process::exit(128 + signal as i32);
}
