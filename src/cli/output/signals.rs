//! Signals that ask the program to stop: SIGINT, SIGTERM and SIGHUP.
//!
//! They are blocked in all threads but one, which waits for them. A command that can end between two computations gets the chance
//! to, for [`GRACE`]; then it ends with whatever it computes, as all others do at once. Both are safe because files are replaced
//! atomically.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::{error, limits, note};
use fedreplay::store::atomic;
use fedreplay::training::end_process;

/// Whether the process was asked to stop; running commands poll it.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Number of the first signal; 0 before it.
static FIRST: AtomicU8 = AtomicU8::new(0);

/// Whether the process is about to end by a signal.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether it was said that the command was interrupted.
static SAID: AtomicBool = AtomicBool::new(false);

/// How the command ends. Until the command is known, it has nothing to finish.
static STOPPING: Mutex<Stopping> = Mutex::new(Stopping::AtOnce);

/// Time that a command has to end by itself: with it, every command ends within two seconds. A pass that takes longer is
/// computed again when the work is continued.
const GRACE: Duration = Duration::from_millis(1400);

/// Time for removing what is half-written.
const TO_TIDY: Duration = Duration::from_millis(200);

/// Time for the last message.
const TO_SPEAK: Duration = Duration::from_millis(200);

/// End of a command that is asked to stop. A second signal ends every command at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It has nothing to finish.
    AtOnce,
    /// It ends before its next computation, or after [`GRACE`].
    Soon {
        /// Advice on how to go on.
        advice: Option<&'static str>,
    },
}

/// Blocks the signals for this thread and those that it starts, and waits for them in a thread of its own. Must be called first in
/// `main`: a thread that was started before would still be ended by them. Programs that the process starts inherit the block; the
/// sandbox lifts it for samples, which a signal to the group of the terminal must not end while they are judged.
pub fn watch() {
    let awaited = awaited();
    if let Err(error) = awaited.thread_block() {
        return note!("warning: signals will end the program at once: {error}");
    }
    let watcher = thread::Builder::new().name("signals".into());
    let started = watcher.spawn(move || {
        loop {
            if let Ok(signal) = awaited.wait() {
                received(signal);
            }
        }
    });
    if let Err(error) = started {
        // A process that cannot have one more thread cannot do anything else either.
        limits::no_thread(&error);
    }
}

/// Sets how the command ends.
pub fn set_stopping(stopping: Stopping) {
    *STOPPING.lock().expect("nobody panics while setting it") = stopping;
}

/// Returns the advice for a command that ended because it was asked to.
pub fn advice() -> Option<&'static str> {
    match *STOPPING.lock().expect("nobody panics while setting it") {
        Stopping::AtOnce => None,
        Stopping::Soon { advice } => advice,
    }
}

/// Returns the exit code of a command that was asked to stop, as shells report it: 128 and the number of the signal.
pub fn code() -> Option<u8> {
    match FIRST.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(128 + signal),
    }
}

/// Returns the signals to wait for. SIGHUP is left alone if the parent process ignores it for this one, as `nohup` does. The others
/// are not: a shell ignores SIGINT for all that a script starts in the background, and who sends it there means it.
fn awaited() -> SigSet {
    let mut signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    if !is_ignored(Signal::SIGHUP) {
        signals.add(Signal::SIGHUP);
    }
    signals
}

/// Returns whether the process ignores a signal.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // Bit 0 is signal 1.
    mask >> (signal as u32 - 1) & 1 == 1
}

/// Handles a signal.
fn received(signal: Signal) {
    // The number comes first: whoever sees that the process is to stop may ask for it.
    let _ = FIRST.compare_exchange(0, signal as u8, Ordering::SeqCst, Ordering::SeqCst);
    let is_second = STOP.swap(true, Ordering::SeqCst);
    let stopping = *STOPPING.lock().expect("nobody panics while setting it");
    // A second signal waits for nothing, not even for stderr.
    if is_second {
        end();
    }
    if stopping == Stopping::AtOnce {
        give_up();
    }
    let timer = thread::Builder::new().spawn(|| {
        thread::sleep(GRACE);
        give_up();
    });
    if timer.is_err() {
        give_up();
    }
}

/// Ends the process in the middle of its work, and says how to go on. Nobody may be reading stderr, so that writing to it would
/// never end: the message has a thread of its own and a moment.
fn give_up() -> ! {
    // From here on nothing else ends the program, such as a command that is done after all.
    ENDING.store(true, Ordering::SeqCst);
    if !may_say() {
        end();
    }
    let (said, done) = mpsc::channel();
    let speaker = thread::Builder::new().spawn(move || {
        match *STOPPING.lock().expect("nobody panics while setting it") {
            Stopping::AtOnce => error(format_args!("interrupted")),
            Stopping::Soon { advice } => {
                let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
                error(format_args!("interrupted, and what was being computed is given up{advice}"));
            }
        }
        let _ = said.send(());
    });
    if speaker.is_ok() {
        let _ = done.recv_timeout(TO_SPEAK);
    }
    end()
}

/// Ends the process with the code of the first signal. No destructors run, which other threads could be in the way of; what is
/// half-written is removed in their place, as far as that takes no longer than [`TO_TIDY`].
fn end() -> ! {
    ENDING.store(true, Ordering::SeqCst);
    let (tidied, done) = mpsc::channel();
    let tidier = thread::Builder::new().spawn(move || {
        atomic::abandon();
        let _ = tidied.send(());
    });
    if tidier.is_ok() {
        let _ = done.recv_timeout(TO_TIDY);
    }
    end_process(code().unwrap_or(128))
}

/// Returns whether the caller is the one to say that the command was interrupted: it is said once, by the command that ends itself
/// or by [`give_up`].
pub fn may_say() -> bool {
    !SAID.swap(true, Ordering::SeqCst)
}

/// Waits for the end if the process is about to end by a signal: what the command says then may follow from files that were
/// removed under it.
pub fn wait_if_ending() {
    while ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}
