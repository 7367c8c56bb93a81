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

/// Environment of the process: what decides bits has one value everywhere.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("PYTHONHASHSEED", "0"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
    ("BLIS_NUM_THREADS", "1"),
    ("NUMEXPR_NUM_THREADS", "1"),
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
        command.args(["-B", "-c", HARNESS]).envs(ENVIRONMENT);
        // A group of its own: an interruption at the terminal is this program's to handle.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take().expect("it is piped");
        let (requests, to_send) = channel();
        let (answers, replies) = channel();
        let (stdin, stdout) = (stdin.expect("it is piped"), stdout.expect("it is piped"));
        // Both ends may block for as long as the rule likes, so that a thread of its own waits there.
        std::thread::spawn(move || serve(stdin, stdout, &to_send, &answers));
        let last_lines = Arc::default();
        let lines = Arc::clone(&last_lines);
        std::thread::spawn(move || log_lines(stderr, &lines));
        Ok(Self { child, requests, replies, last_lines })
    }

    /// Sends a request and waits for the reply. After a failure the process is of no use.
    pub fn exchange(
        &mut self,
        request: Arc<RuleMessage>,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<RuleMessage, Failure> {
        // The clock begins with the request, so that the time for sending it is the rule's too.
        let deadline = Instant::now() + limit;
        if self.requests.send(request).is_err() {
            return Err(self.ended("its process is gone"));
        }
        loop {
            match self.replies.recv_timeout(STOP_POLL) {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => return Err(self.ended(&error.to_string())),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended("its process is gone")),
                Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return Err(Failure::Interrupted),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => return Err(Failure::TooLong),
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes each request and reads its reply, until either end is gone.
fn serve(
    mut stdin: ChildStdin,
    mut stdout: ChildStdout,
    requests: &Receiver<Arc<RuleMessage>>,
    replies: &Sender<std::io::Result<RuleMessage>>,
) {
    for request in requests {
        let reply = write(&mut stdin, &request).and_then(|()| read(&mut stdout));
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
    let header: serde_json::Value = serde_json::from_slice(&header)?;
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
