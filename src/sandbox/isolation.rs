//! A sandbox for generated code: each sample runs isolated in Linux namespaces that are discarded afterwards.
//!
//! util-linux's tools give each sample its own namespaces: no network, no processes but its own, and a file system with
//! the interpreter, read-only, and one empty folder in memory. A sample has no capabilities, its own user if this
//! program runs as root, and limits on time, memory, processes, file sizes and output. A filter refuses system calls that
//! keep memory outside of any process. [`Sandbox::open`] checks all of this before a sample is run.
//!
//! A sample can still exploit kernel bugs, which namespaces do not prevent, and it can fake its test result, since the
//! tests run in its own process.

use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, PipeReader, Read, Write};
use std::ops::ControlFlow;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::memory::{forbid_memory_outside_processes, mapped_bytes};
use super::{ProgramOutcome, SandboxError};
use crate::store::atomic::PendingFolder;
use crate::store::{Key, key_of};

const CONFINE: &str = include_str!("confine.sh");
const HARNESS: &str = include_str!("harness.py");

/// Options of `unshare` for a sample's namespaces: mounts, network, IPC, host name, control groups, processes.
const NAMESPACES: &str = "--mount --net --ipc --uts --cgroup --pid --fork --kill-child";

/// Search path of the tools.
const TOOLS_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Line that the script prints once everything is set up.
const CONFINED: &str = "confined\n";

/// Time beyond a sample's limit for setting up and tearing down its sandbox on a busy host.
const GRACE: Duration = Duration::from_secs(60);

/// Time between two looks at the memory of a sample.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// User ids that systemd reserves for dynamic users, which own no files.
const USERS: std::ops::Range<u32> = 61_184..65_520;

/// Number of samples that this process has begun, in all its sandboxes.
static SAMPLES: AtomicU32 = AtomicU32::new(0);

/// Resource limits of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// [s] -- Time from the start of the interpreter.
    pub seconds: u32,
    /// Number of concurrent processes and threads.
    pub processes: u32,
    /// [byte] -- Memory of each process.
    pub memory_bytes: u64,
    /// [byte] -- Memory of all processes together, by what they have mapped.
    pub total_memory_bytes: u64,
    /// [byte] -- Size of each file.
    pub file_bytes: u64,
    /// [byte] -- Size of the sample's folder, in memory.
    pub folder_bytes: u64,
    /// [byte] -- Size of the output.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seconds: 10,
            processes: 16,
            memory_bytes: 512 << 20,
            total_memory_bytes: 1 << 30,
            file_bytes: 16 << 20,
            folder_bytes: 32 << 20,
            output_bytes: 1 << 20,
        }
    }
}

/// The means of confinement. Tests weaken them to check that the self-test notices.
#[derive(Clone, Debug)]
pub(super) struct Confinement {
    pub namespaces: String,
    pub script: String,
    pub tools_path: String,
    pub forbids_calls: bool,
    pub watches_memory: bool,
}

impl Default for Confinement {
    fn default() -> Self {
        Self {
            namespaces: NAMESPACES.into(),
            script: CONFINE.into(),
            tools_path: TOOLS_PATH.into(),
            forbids_calls: true,
            watches_memory: true,
        }
    }
}

/// A sandbox that passed its self-test.
#[derive(Debug)]
pub struct Sandbox {
    limits: Limits,
    confinement: Confinement,
    interpreter: Interpreter,
    is_root: bool,
}

impl Sandbox {
    /// Finds the tools and the interpreter, without running the self-test.
    pub(super) fn untested(confinement: Confinement, limits: Limits) -> Result<Self, SandboxError> {
        for tool in ["unshare", "setpriv", "prlimit", "mount", "umount", "pivot_root"] {
            require(tool, "util-linux, with mount", &confinement.tools_path)?;
        }
        for tool in ["sh", "timeout", "chroot", "chown"] {
            require(tool, "coreutils, with a shell", &confinement.tools_path)?;
        }
        let interpreter = Interpreter::find()?;
        Ok(Self { limits, confinement, interpreter, is_root: runs_as_root() })
    }

    /// Returns the resource limits of samples.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns the name of the top-level folder of the interpreter's prefix, or nothing.
    pub(super) fn top_of_prefix(&self) -> String {
        let top = self.interpreter.prefix.components().nth(1);
        top.map_or(String::new(), |top| top.as_os_str().to_string_lossy().into_owned())
    }

    /// Runs a Python program to its end or to its limits.
    ///
    /// # Errors
    /// If the sandbox cannot be set up. Nothing that the sample does is an error.
    pub fn run(&self, program: &str) -> Result<ProgramOutcome, SandboxError> {
        let folder = PendingFolder::create(&std::env::temp_dir(), "fedreplay-sample")?;
        let (output, input) = io::pipe()?;
        let user = if self.is_root { Some(User::claim()?) } else { None };
        let mut child = self.spawn(self.command(folder.path(), user.as_ref(), input)?)?;
        // The harness repeats this word with its verdict. The sample's own output cannot contain it by guessing.
        let word = random_word();
        let said = self.converse(&mut child, output, format!("{word}\n{program}"));
        // Killing the first process of the namespace also ends all processes that the sample left behind. An error of
        // `converse` is returned only after that.
        let _ = child.kill();
        child.wait()?;
        self.judge(&said?, &word)
    }

    /// Returns the key of a program's outcome: a hash of the program, the harness, the limits and the interpreter's
    /// version.
    pub(crate) fn key(&self, program: &str) -> Key {
        key_of("fedreplay outcome v1", &(program, HARNESS, self.limits, &self.interpreter.version))
    }

    /// Runs many programs, `workers` at a time. Calls `each` with the program's index on every outcome as it completes;
    /// if it breaks, no further program is begun. Returns the outcomes of the programs that were begun, ordered by
    /// index.
    ///
    /// # Errors
    /// As [`Self::run`]. The first error is returned.
    pub fn run_all(
        &self,
        programs: &[impl AsRef<str> + Sync],
        workers: usize,
        each: &(dyn Fn(usize, &ProgramOutcome) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<(usize, ProgramOutcome)>, SandboxError> {
        let next = AtomicUsize::new(0);
        let workers = workers.clamp(1, programs.len().max(1));
        let parts: Vec<Result<Vec<(usize, ProgramOutcome)>, SandboxError>> = thread::scope(|scope| {
            let handles: Vec<_> =
                (0..workers).map(|_| scope.spawn(|| self.run_in_turn(programs, &next, each))).collect();
            handles.into_iter().map(|handle| handle.join().expect("a worker does not panic")).collect()
        });
        // Workers take programs in an order that depends on timing: sorting makes the result independent of it.
        let mut outcomes = parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        outcomes.sort_by_key(|(index, _)| *index);
        Ok(outcomes)
    }

    /// Runs one program after another, each taken from the counter `next` that all workers share.
    fn run_in_turn(
        &self,
        programs: &[impl AsRef<str>],
        next: &AtomicUsize,
        each: &dyn Fn(usize, &ProgramOutcome) -> ControlFlow<()>,
    ) -> Result<Vec<(usize, ProgramOutcome)>, SandboxError> {
        let mut done = Vec::new();
        while let Some((index, program)) = take(programs, next) {
            let outcome = self.run(program)?;
            if each(index, &outcome).is_break() {
                // Leaves nothing to take for any worker.
                next.store(programs.len(), Ordering::Relaxed);
            }
            done.push((index, outcome));
        }
        Ok(done)
    }

    /// Builds the command that confines and runs a sample. The order of arguments is that of `confine.sh`.
    fn command(&self, root: &Path, user: Option<&User>, output: io::PipeWriter) -> Result<Command, SandboxError> {
        let limits = &self.limits;
        let mut command = Command::new("unshare");
        // Without root, a user namespace gives the rights to mount in it, and none outside.
        if !self.is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(self.confinement.namespaces.split(' ')).args(["sh", "-c", &self.confinement.script, "confine"]);
        let user = user.map_or(String::new(), |user| user.id.to_string());
        command.arg(root).arg(user).arg(&self.interpreter.executable).arg(&self.interpreter.prefix);
        command.arg(HARNESS).args([
            limits.seconds.to_string(),
            limits.processes.to_string(),
            limits.memory_bytes.to_string(),
            limits.file_bytes.to_string(),
            limits.folder_bytes.to_string(),
        ]);
        command.env_clear().env("PATH", &self.confinement.tools_path);
        command.envs([("HOME", "/work"), ("LANG", "C.UTF-8"), ("PYTHONHASHSEED", "0")]).current_dir("/");
        command.stdin(Stdio::piped()).stderr(output.try_clone()?).stdout(output);
        Ok(command)
    }

    /// Starts the command under the filter of system calls. A thread has the filter until it ends, so it is a thread of its own.
    fn spawn(&self, mut command: Command) -> Result<Child, SandboxError> {
        let forbids_calls = self.confinement.forbids_calls;
        let start = move || {
            if forbids_calls {
                forbid_memory_outside_processes().map_err(SandboxError::Unconfined)?;
            }
            Ok(command.spawn()?)
        };
        thread::spawn(start).join().expect("starting a command does not panic")
    }

    /// Writes the program to the child and reads its output.
    fn converse(&self, child: &mut Child, output: PipeReader, program: String) -> io::Result<Said> {
        let mut stdin = child.stdin.take().expect("the command pipes its input");
        let limit = Duration::from_secs(self.limits.seconds.into());
        let bytes_max = self.limits.output_bytes;
        let start = Instant::now();
        let (sender, receiver) = mpsc::channel();
        // Writing and reading block, so each has its own thread. Both end with the child, at the latest when it is
        // killed.
        thread::spawn(move || stdin.write_all(program.as_bytes()));
        thread::spawn(move || {
            let mut text = Vec::new();
            // One byte more than allowed shows that there was too much.
            let read = output.take(bytes_max + 1).read_to_end(&mut text);
            let _ = sender.send(read.map(|_| text));
        });
        let cut_off = |ending| Said { output: CONFINED.into(), ending };
        loop {
            match receiver.recv_timeout(BETWEEN_LOOKS) {
                Ok(output) => {
                    let ending = if start.elapsed() >= limit { Ending::OutOfTime } else { Ending::Own };
                    return Ok(Said { output: output?, ending });
                }
                Err(RecvTimeoutError::Timeout) if start.elapsed() < limit + GRACE => {}
                Err(_) => return Ok(cut_off(Ending::OutOfTime)),
            }
            if self.confinement.watches_memory && mapped_bytes(child.id()) > self.limits.total_memory_bytes {
                return Ok(cut_off(Ending::OutOfMemory));
            }
        }
    }

    /// Derives the outcome from the sample's output.
    fn judge(&self, said: &Said, word: &str) -> Result<ProgramOutcome, SandboxError> {
        let text = String::from_utf8_lossy(&said.output);
        let Some(sample) = text.strip_prefix(CONFINED) else {
            let reason = text.lines().next().unwrap_or("the host's tools said nothing").to_owned();
            return Err(SandboxError::Unconfined(reason));
        };
        if said.output.len() as u64 > self.limits.output_bytes {
            return Ok(ProgramOutcome::TooMuchOutput);
        }
        // The harness writes the verdict last, so the search starts at the end.
        let verdict = sample.lines().rev().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        Ok(match verdict {
            Some("passed") => ProgramOutcome::Passed,
            Some(failed) => ProgramOutcome::Failed(failed.strip_prefix("failed ").unwrap_or(failed).to_owned()),
            None if said.ending == Ending::OutOfTime => ProgramOutcome::TimedOut,
            None if said.ending == Ending::OutOfMemory => ProgramOutcome::TooMuchMemory,
            None => ProgramOutcome::Failed("it ended before its tests did".into()),
        })
    }
}

/// A user id of a running sample. The kernel limits processes by user, so no two samples of a network namespace have the same at
/// one time.
struct User {
    id: u32,
    /// Socket that is bound to a name of the id, which one process at a time can do; it leaves no file.
    _claim: UnixListener,
}

impl User {
    /// Claims the next user id that no running sample has.
    ///
    /// # Errors
    /// If each is claimed, or the host has no such sockets.
    fn claim() -> io::Result<Self> {
        let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in USERS {
            // Consecutive samples get consecutive ids, so that what a killed sample leaves to the kernel to end does not count
            // for the next. The process id spreads the processes of this program.
            let sample = std::process::id().wrapping_mul(97).wrapping_add(SAMPLES.fetch_add(1, Ordering::Relaxed));
            let id = USERS.start + sample % (USERS.end - USERS.start);
            let name = SocketAddr::from_abstract_name(format!("fedreplay-sample-{id}"))?;
            match UnixListener::bind_addr(&name) {
                Ok(claim) => return Ok(Self { id, _claim: claim }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }
}

/// The output of a sample, and how it ended.
struct Said {
    output: Vec<u8>,
    ending: Ending,
}

/// Ways in which a sample ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Own,
    /// It ran for the whole time limit.
    OutOfTime,
    /// Its processes had more memory than they may have together.
    OutOfMemory,
}

/// Takes the next program and its index. `None` if none is left.
fn take<'p>(programs: &'p [impl AsRef<str>], next: &AtomicUsize) -> Option<(usize, &'p str)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    programs.get(index).map(|program| (index, program.as_ref()))
}

fn require(tool: &'static str, package: &'static str, path: &str) -> Result<(), SandboxError> {
    let is_there = std::env::split_paths(path).any(|folder| folder.join(tool).is_file());
    if is_there { Ok(()) } else { Err(SandboxError::Missing(tool, package)) }
}

/// Returns whether this program's effective user is root.
fn runs_as_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // The line `Uid:` has the real, effective, saved and file system user.
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    user == Some("0")
}

/// Returns a word that no sample can know in advance.
fn random_word() -> String {
    format!("{:016x}{:016x}", random_number(), random_number())
}

/// Returns a random number. The standard library seeds its hashers from the system's random numbers.
fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Candidates for the interpreter. The system's comes first, since its folders are in the sandbox anyway.
const CANDIDATES: [&str; 2] = ["/usr/bin/python3", "python3"];

/// Python code that prints where the interpreter and its library really are, behind any shim or virtual environment,
/// and the version.
const WHEREABOUTS: &str = "import os, sys; print(os.path.realpath(sys.executable)); print(os.path.realpath(sys.base_prefix)); \
     print(*sys.version.split())";

/// A Python interpreter and the folder that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interpreter {
    pub executable: PathBuf,
    /// Folder of the executable and the standard library.
    pub prefix: PathBuf,
    /// `sys.version`: version and build.
    pub version: String,
}

impl Interpreter {
    /// Returns the first candidate that runs.
    ///
    /// # Errors
    /// [`SandboxError::Missing`] if none runs.
    pub fn find() -> Result<Self, SandboxError> {
        let found = CANDIDATES.iter().find_map(|name| Self::at(name.as_ref()));
        found.ok_or(SandboxError::Missing("python3", "the Debian package python3"))
    }

    /// Runs `name` and asks it for its place. `None` if it does not run or lies outside of its own prefix.
    fn at(name: &OsStr) -> Option<Self> {
        let said = Command::new(name).args(["-I", "-c", WHEREABOUTS]).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
        let mut lines = text.lines();
        let executable = PathBuf::from(lines.next()?);
        let prefix = PathBuf::from(lines.next()?);
        let version = lines.next()?.to_owned();
        executable.starts_with(&prefix).then_some(Self { executable, prefix, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_running_samples_differ_and_a_claimed_one_is_skipped() {
        let running: Vec<User> = (0..20).map(|_| User::claim().unwrap()).collect();
        let ids: std::collections::BTreeSet<u32> = running.iter().map(|user| user.id).collect();
        assert_eq!(ids.len(), running.len());
        assert!(ids.iter().all(|id| USERS.contains(id)));
        // As another process would have it: some of the ids that come next are taken.
        let mut taken = Vec::new();
        for id in (running[19].id + 1..USERS.end).chain(USERS).take(9) {
            let name = SocketAddr::from_abstract_name(format!("fedreplay-sample-{id}")).unwrap();
            taken.extend(UnixListener::bind_addr(&name).map(|claim| (id, claim)));
        }
        let next = User::claim().unwrap();
        assert!(!taken.is_empty() && taken.iter().all(|(id, _)| *id != next.id) && !ids.contains(&next.id));
    }
}
