//! The program under ptrace: it is killed or asked to stop at a chosen one of the system calls by which it opens and changes
//! files, so that a moment is the same however busy the machine is.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A command that has not ended by then never will.
const ENDLESS: Duration = Duration::from_secs(300);

/// One moment of a command.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub signal: Signal,
    /// Number of the call, of all that open or change files. SIGKILL counts those that change files alone.
    pub call: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(Signal),
}

/// A command that ended.
pub struct Traced {
    pub end: End,
    pub stderr: String,
    /// Calls that opened or changed files.
    pub opens: u64,
    /// Calls that changed files.
    pub changes: u64,
    /// Time from the signal to the end; `None` if the command had ended before.
    pub took: Option<Duration>,
}

/// Runs a command to its end, and sends it a signal at a moment. Its stderr is written to a file in between.
///
/// # Errors
/// If this host lets nobody trace.
#[expect(clippy::zombie_processes, reason = "the tracer waits for it")]
pub fn run(mut command: Command, stderr: &Path, moment: Option<Moment>) -> Result<Traced, Errno> {
    let file = File::create(stderr).expect("a writable folder");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().expect("the binary can be run");
    let process = Pid::from_raw(i32::try_from(child.id()).expect("a number of a process"));
    let options = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_EXITKILL;
    // It begins by loading libraries, which takes far longer than this.
    match ptrace::seize(process, options) {
        Err(error @ (Errno::EPERM | Errno::ENOSYS)) => return Err(error),
        seized => seized.expect("the program has not ended yet"),
    }
    // It stops, and from then on at each system call.
    ptrace::interrupt(process).expect("the program has not ended yet");
    let (done, is_done) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || kill_if_endless(process, &is_done));
    let mut tracer = Tracer { process, moment, is_watching: false, opens: 0, changes: 0, sent: None };
    let end = tracer.follow();
    let took = tracer.sent.map(|sent| sent.elapsed());
    drop(done);
    watchdog.join().expect("a watchdog does not panic");
    let text = String::from_utf8_lossy(&fs::read(stderr).expect("it was written")).into_owned();
    fs::remove_file(stderr).expect("it was written");
    Ok(Traced { end, stderr: text, opens: tracer.opens, changes: tracer.changes, took })
}

fn kill_if_endless(process: Pid, is_done: &Receiver<()>) {
    if is_done.recv_timeout(ENDLESS) == Err(RecvTimeoutError::Timeout) {
        let _ = kill(process, Signal::SIGKILL);
    }
}

struct Tracer {
    process: Pid,
    moment: Option<Moment>,
    /// Whether the program waits for signals: it does that in its first thread but the main one.
    is_watching: bool,
    opens: u64,
    changes: u64,
    sent: Option<Instant>,
}

impl Tracer {
    /// Follows all threads of the process until it ends.
    fn follow(&mut self) -> End {
        loop {
            // Only children of this thread, which no other test waits for.
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(WaitStatus::Exited(thread, code)) if thread == self.process => return End::Code(code),
                Ok(WaitStatus::Signaled(thread, signal, _)) if thread == self.process => return End::Signal(signal),
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    self.call(thread);
                    self.resume(thread, None);
                }
                Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                    match event {
                        libc::PTRACE_EVENT_CLONE => self.is_watching = true,
                        // The program starts itself again with other variables.
                        libc::PTRACE_EVENT_EXEC => (self.is_watching, self.opens, self.changes) = (false, 0, 0),
                        _ => {}
                    }
                    self.resume(thread, None);
                }
                Ok(WaitStatus::Stopped(thread, signal)) => self.resume(thread, Some(signal)),
                Ok(_) => {}
                Err(error) => panic!("the process cannot be waited for: {error}"),
            }
        }
    }

    fn resume(&self, thread: Pid, signal: Option<Signal>) {
        // A thread that was killed meanwhile is reported as such.
        let _ = match self.sent {
            None => ptrace::syscall(thread, signal),
            Some(_) => ptrace::cont(thread, signal),
        };
    }

    /// Counts a system call, and sends the signal if this is the moment.
    fn call(&mut self, thread: Pid) {
        if !self.is_watching || self.sent.is_some() {
            return;
        }
        let Ok(registers) = ptrace::getregs(thread) else { return };
        // A call is reported when it begins, with this as its result, and when it ends.
        if registers.rax as i64 != -i64::from(libc::ENOSYS) {
            return;
        }
        let call = registers.orig_rax as i64;
        let changes = match call {
            libc::SYS_openat => registers.rdx as i32 & libc::O_CREAT != 0,
            // Not to stdout and stderr.
            libc::SYS_write => registers.rdi > 2,
            libc::SYS_rename
            | libc::SYS_renameat
            | libc::SYS_renameat2
            | libc::SYS_unlink
            | libc::SYS_unlinkat
            | libc::SYS_rmdir
            | libc::SYS_mkdir
            | libc::SYS_mkdirat
            | libc::SYS_ftruncate
            | libc::SYS_fsync => true,
            _ => false,
        };
        self.changes += u64::from(changes);
        self.opens += u64::from(changes || matches!(call, libc::SYS_openat | libc::SYS_write));
        let Some(Moment { signal, call }) = self.moment else { return };
        let count = if signal == Signal::SIGKILL { self.changes } else { self.opens };
        if count == call {
            kill(self.process, signal).expect("it is running");
            self.sent = Some(Instant::now());
        }
    }
}
