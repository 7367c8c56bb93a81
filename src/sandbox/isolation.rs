//! A place in which generated code can do no harm: one sample, one process tree, one throw-away world.
//!
//! Each sample is run with util-linux's tools in namespaces of its own: no network, no processes but its own, and a file
//! system that holds the interpreter, read only, and one empty folder in memory. It has no rights, a user of its own
//! where the program runs as root, and limits on time, memory, processes, file sizes and output. [`Sandbox::open`] shows
//! that all this holds before a sample is run. A sample can still use bugs of the kernel, which no namespace helps
//! against, and it can lie about its own tests: it runs in one process with them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{PipeReader, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::SandboxError;
use super::interpreter::Interpreter;
use super::outcome::Outcome;
use crate::store::{Key, key_of};

const CONFINE: &str = include_str!("confine.sh");
const HARNESS: &str = include_str!("harness.py");

/// Namespaces that a sample gets: files, network, inter-process communication, host name, control groups, processes.
const NAMESPACES: &str = "--mount --net --ipc --uts --cgroup --pid --fork --kill-child";

/// Where the tools are looked for.
const TOOLS_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What the script says once everything is set up.
const CONFINED: &str = "confined\n";

/// How long beyond its limit a sample may take to be set up and taken down, on a busy host.
const GRACE: Duration = Duration::from_secs(60);

/// Users that systemd keeps for services of a moment; no person and no file is theirs. A sample's processes are counted
/// by user, so samples that run at once have different ones.
const USERS: std::ops::Range<u32> = 61_184..65_520;

/// What one sample may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// [s] From the first line of the sample on.
    pub seconds: u32,
    /// Processes and threads, at once.
    pub processes: u32,
    /// [byte] Memory of each process.
    pub memory_bytes: u64,
    /// [byte] Size of each file.
    pub file_bytes: u64,
    /// [byte] Size of the sample's folder, in memory.
    pub folder_bytes: u64,
    /// [byte] Output of the sample.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seconds: 10,
            processes: 16,
            memory_bytes: 512 << 20,
            file_bytes: 16 << 20,
            folder_bytes: 32 << 20,
            output_bytes: 1 << 20,
        }
    }
}

/// How samples are confined; tests weaken it to see that the probe notices.
#[derive(Clone, Debug)]
pub(super) struct Confinement {
    pub namespaces: String,
    pub script: String,
    pub tools_path: String,
}

impl Default for Confinement {
    fn default() -> Self {
        Self { namespaces: NAMESPACES.into(), script: CONFINE.into(), tools_path: TOOLS_PATH.into() }
    }
}

/// A sandbox that has shown that it holds.
#[derive(Debug)]
pub struct Sandbox {
    limits: Limits,
    confinement: Confinement,
    interpreter: Interpreter,
    is_root: bool,
    samples: AtomicU32,
}

impl Sandbox {
    /// Finds what is needed; whether it confines is not shown yet.
    pub(super) fn untested(confinement: Confinement, limits: Limits) -> Result<Self, SandboxError> {
        for tool in ["unshare", "setpriv", "prlimit", "mount", "umount", "pivot_root"] {
            require(tool, "util-linux, with mount", &confinement.tools_path)?;
        }
        for tool in ["sh", "timeout", "chroot", "chown"] {
            require(tool, "coreutils, with a shell", &confinement.tools_path)?;
        }
        let (interpreter, is_root, samples) = (Interpreter::find()?, runs_as_root(), AtomicU32::new(0));
        Ok(Self { limits, confinement, interpreter, is_root, samples })
    }

    /// What samples may use.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The one folder at the root that only the interpreter brings, or nothing.
    pub(super) fn top_of_prefix(&self) -> String {
        let top = self.interpreter.prefix.components().nth(1);
        top.map_or(String::new(), |top| top.as_os_str().to_string_lossy().into_owned())
    }

    /// Runs a program of Python to its end or its limits.
    ///
    /// # Errors
    /// If the sandbox cannot be set up; what the sample does is never an error.
    pub fn run(&self, program: &str) -> Result<Outcome, SandboxError> {
        let folder = tempfile::Builder::new().prefix("fedreplay-sample-").tempdir()?;
        let (output, input) = std::io::pipe()?;
        let mut child = self.command(folder.path(), input)?.spawn()?;
        let word = random_word();
        let said = self.converse(&mut child, output, format!("{word}\n{program}"));
        // All that the sample left ends with the first process of its namespace.
        let _ = child.kill();
        child.wait()?;
        self.judge(&said?, &word)
    }

    /// Under which a program's outcome may be kept: it names what is run, by what and within which limits.
    pub(crate) fn key(&self, program: &str) -> Key {
        key_of("fedreplay outcome v1", &(program, HARNESS, self.limits, &self.interpreter.version))
    }

    /// Runs many programs, `workers` at once. `each` hears of every outcome as it comes, with the program's index, and may
    /// end it there: the outcomes are then those of the programs that were begun.
    ///
    /// # Errors
    /// As [`Self::run`], the first one.
    pub fn run_all(
        &self,
        programs: &[impl AsRef<str> + Sync],
        workers: usize,
        each: &(dyn Fn(usize, &Outcome) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<(usize, Outcome)>, SandboxError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((index, program)) = take(programs, &next) {
                let outcome = self.run(program)?;
                if each(index, &outcome).is_break() {
                    next.store(programs.len(), Ordering::Relaxed);
                }
                done.push((index, outcome));
            }
            Ok(done)
        };
        let parts: Vec<Result<Vec<(usize, Outcome)>, SandboxError>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers.clamp(1, programs.len().max(1))).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
        });
        let mut outcomes = parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        outcomes.sort_by_key(|(index, _)| *index);
        Ok(outcomes)
    }

    fn command(&self, root: &Path, output: std::io::PipeWriter) -> Result<Command, SandboxError> {
        let limits = &self.limits;
        let mut command = Command::new("unshare");
        // Whoever is not root becomes the root of a namespace that holds nobody else, with no right outside.
        if !self.is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(self.confinement.namespaces.split(' ')).args(["sh", "-c", &self.confinement.script, "confine"]);
        command.arg(root).arg(self.user()).arg(&self.interpreter.executable).arg(&self.interpreter.prefix);
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

    /// The user of a sample, if it is not the one of this program.
    fn user(&self) -> String {
        if !self.is_root {
            return String::new();
        }
        let sample = std::process::id().wrapping_mul(97).wrapping_add(self.samples.fetch_add(1, Ordering::Relaxed));
        (USERS.start + sample % (USERS.end - USERS.start)).to_string()
    }

    /// Hands the program over and hears the sample out.
    fn converse(&self, child: &mut Child, output: PipeReader, program: String) -> std::io::Result<Said> {
        let mut stdin = child.stdin.take().expect("the command pipes its input");
        let (limit, bytes_max) = (Duration::from_secs(self.limits.seconds.into()), self.limits.output_bytes);
        let start = Instant::now();
        let (tell, hear) = mpsc::channel();
        // Both threads end with the child, at the latest when it is killed.
        thread::spawn(move || stdin.write_all(program.as_bytes()));
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = output.take(bytes_max + 1).read_to_end(&mut text);
            let _ = tell.send(read.map(|_| text));
        });
        let output = match hear.recv_timeout(limit + GRACE) {
            Ok(output) => output?,
            Err(_) => return Ok(Said { output: CONFINED.into(), is_late: true }),
        };
        Ok(Said { output, is_late: start.elapsed() >= limit })
    }

    /// The outcome in what was said.
    fn judge(&self, said: &Said, word: &str) -> Result<Outcome, SandboxError> {
        let text = String::from_utf8_lossy(&said.output);
        let Some(sample) = text.strip_prefix(CONFINED) else {
            let reason = text.lines().next().unwrap_or("the host's tools said nothing").to_owned();
            return Err(SandboxError::Unconfined(reason));
        };
        if said.output.len() as u64 > self.limits.output_bytes {
            return Ok(Outcome::TooMuchOutput);
        }
        let verdict = sample.lines().rev().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        Ok(match verdict {
            Some("passed") => Outcome::Passed,
            Some(failed) => Outcome::Failed(failed.strip_prefix("failed ").unwrap_or(failed).to_owned()),
            None if said.is_late => Outcome::TimedOut,
            None => Outcome::Failed("it ended before its tests did".into()),
        })
    }
}

/// What a sample wrote, and whether it was still at it when its time was over.
struct Said {
    output: Vec<u8>,
    is_late: bool,
}

fn take<'p>(programs: &'p [impl AsRef<str>], next: &AtomicUsize) -> Option<(usize, &'p str)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    programs.get(index).map(|program| (index, program.as_ref()))
}

fn require(tool: &'static str, package: &'static str, path: &str) -> Result<(), SandboxError> {
    let is_there = std::env::split_paths(path).any(|folder| folder.join(tool).is_file());
    if is_there { Ok(()) } else { Err(SandboxError::Missing(tool, package)) }
}

/// Whether this program has the effective user root, by the owner of its own entry among the processes.
fn runs_as_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    user == Some("0")
}

/// A word that no sample can know beforehand; the standard library seeds its hashers from the system.
fn random_word() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
