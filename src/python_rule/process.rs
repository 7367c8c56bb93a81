//! Process of a rule, and the exchange of messages with it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::store::parse_json;

/// Program that loads the rule and answers requests.
const HARNESS: &str = include_str!("harness.py");

/// Interval at which a wait checks whether the run was asked to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// Time that a process whose pipe is closed gets to end.
const END_WAIT: Duration = Duration::from_secs(1);

/// [B] -- Greatest length of a header.
const HEADER_MOST: u64 = 64 << 20;

/// [lines] -- Number of lines of the process's messages that are told when it ends.
const LAST_LINES: usize = 8;

/// [B] -- Greatest length of a line of the process's messages that is told.
const LINE_MOST: usize = 400;

/// Beginnings of the names of variables by which a user sets how Python and its libraries compute. They do not reach the process, but
/// for those that say where Python and its packages are.
const NOT_PASSED: [&str; 13] = [
    "PYTHON", "OPENBLAS", "GOTO_", "MKL_", "OMP_", "KMP_", "BLIS_", "VECLIB_", "NPY_", "NUMEXPR_", "NUMBA_", "POLARS_",
    "RAYON_",
];
const PASSED: [&str; 2] = ["PYTHONPATH", "PYTHONHOME"];

/// Environment of the process: what decides bits has one value everywhere.
const ENVIRONMENT: [(&str, &str); 8] = [
    ("PYTHONHASHSEED", "0"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
    ("BLIS_NUM_THREADS", "1"),
    ("NUMEXPR_NUM_THREADS", "1"),
    ("VECLIB_MAXIMUM_THREADS", "1"),
    ("PYTHONIOENCODING", "utf-8"),
];

/// Request or reply.
#[derive(Debug)]
pub struct RuleMessage {
    pub header: serde_json::Value,
    pub payload: Vec<u8>,
}

/// Reason why there is no reply.
pub enum Failure {
    Interrupted,
    TooLong,
    /// The process has ended.
    Ended(String),
}

/// Process of a rule. It is killed when it is dropped; if this program is killed, it ends by itself.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// End of the pipe to the process, which ends when it is closed, with all that the rule has started.
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    requests: Sender<Arc<RuleMessage>>,
    replies: Receiver<std::io::Result<RuleMessage>>,
    last_lines: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Starts Python with the harness.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(python: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(python);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if NOT_PASSED.iter().any(|beginning| text.starts_with(beginning)) && !PASSED.contains(&&*text) {
                command.env_remove(name);
            }
        }
        command.args(["-B", "-c", HARNESS]).envs(ENVIRONMENT);
        // A group of its own: an interruption at the terminal is this program's to handle.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take().expect("it is piped");
        let (requests, to_send) = channel();
        let (answers, replies) = channel();
        let (stdin, stdout) = (Arc::new(Mutex::new(stdin)), stdout.expect("it is piped"));
        // Both ends may block for as long as the rule likes, so that a thread of its own waits there.
        let served = Arc::clone(&stdin);
        std::thread::spawn(move || serve(&served, stdout, &to_send, &answers));
        let last_lines = Arc::default();
        let lines = Arc::clone(&last_lines);
        std::thread::spawn(move || log_lines(stderr, &lines));
        Ok(Self { child, stdin, requests, replies, last_lines })
    }

    /// [byte] -- Returns its resident memory; 0 if the system does not say.
    pub fn resident_bytes(&self) -> u64 {
        let table = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = table.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        1024 * kibibytes.unwrap_or(0)
    }

    /// Sends a request and waits for the reply. After a failure the process is of no use.
    pub fn exchange(
        &mut self,
        request: Arc<RuleMessage>,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<RuleMessage, Failure> {
        // The clock begins with the request, so that the time for sending it is the rule's too.
        let began = Instant::now();
        if self.requests.send(request).is_err() {
            return Err(self.ended("its process is gone"));
        }
        loop {
            match self.replies.recv_timeout(STOP_POLL) {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => return Err(self.ended(&error.to_string())),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended("its process is gone")),
                Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return Err(Failure::Interrupted),
                Err(RecvTimeoutError::Timeout) if began.elapsed() > limit => return Err(Failure::TooLong),
                // Something that the rule has started may hold the pipe open.
                Err(RecvTimeoutError::Timeout) if matches!(self.child.try_wait(), Ok(Some(_))) => {
                    return Err(self.ended("its process is gone"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Describes how the process ended, with its last messages.
    fn ended(&mut self, cause: &str) -> Failure {
        let deadline = Instant::now() + END_WAIT;
        let how = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break format!("Python ended by itself ({status})"),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(STOP_POLL),
                _ => break format!("Python does not answer any more ({cause})"),
            }
        };
        // The thread that reads messages ends with the process; what it has not read yet is not waited for long.
        std::thread::sleep(STOP_POLL);
        let lines = self.last_lines.lock().map(|lines| lines.iter().cloned().collect::<Vec<_>>().join("\n"));
        match lines.ok().filter(|lines| !lines.is_empty()) {
            Some(lines) => Failure::Ended(format!("{how}; its last messages were:\n{lines}")),
            None => Failure::Ended(how),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is locked while a request is written, which a process that lives reads.
        if let Ok(mut stdin) = self.stdin.try_lock() {
            *stdin = None;
            let began = Instant::now();
            while began.elapsed() < END_WAIT && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes each request and reads its reply, until either end is gone.
fn serve(
    stdin: &Mutex<Option<ChildStdin>>,
    mut stdout: ChildStdout,
    requests: &Receiver<Arc<RuleMessage>>,
    replies: &Sender<std::io::Result<RuleMessage>>,
) {
    for request in requests {
        let written = match stdin.lock().as_deref_mut() {
            Ok(Some(stdin)) => write(stdin, &request),
            _ => return,
        };
        let reply = written.and_then(|()| read(&mut stdout));
        let is_last = reply.is_err();
        if replies.send(reply).is_err() || is_last {
            return;
        }
    }
}

fn write(to: &mut impl Write, message: &RuleMessage) -> std::io::Result<()> {
    // The other end knows from the header how many bytes of payload follow.
    let mut header = message.header.clone();
    header["bytes"] = message.payload.len().into();
    let header = header.to_string();
    to.write_all(&(header.len() as u64).to_le_bytes())?;
    to.write_all(header.as_bytes())?;
    to.write_all(&message.payload)?;
    to.flush()
}

fn read(from: &mut impl Read) -> std::io::Result<RuleMessage> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_MOST {
        return Err(std::io::Error::other("a reply with no header"));
    }
    let mut header = vec![0; length as usize];
    from.read_exact(&mut header)?;
    let header: serde_json::Value = parse_json(&header)?;
    // Read as it comes, so that a wrong number takes no memory.
    let mut payload = Vec::new();
    let wanted = header["bytes"].as_u64().unwrap_or(0);
    if from.take(wanted).read_to_end(&mut payload)? as u64 != wanted {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(RuleMessage { header, payload })
}

/// Logs what the process writes to its standard error, and keeps the last lines.
fn log_lines(stderr: ChildStderr, last: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        // Cut where it is very long; the rest comes as further lines.
        match (&mut reader).take(LINE_MOST as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        tracing::info!("the rule says: {text}");
        let Ok(mut last) = last.lock() else { return };
        // The oldest line makes room.
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
}
