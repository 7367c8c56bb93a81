//! Starts of the program that share what each would take half a second for: loading and initializing LibTorch's libraries.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use super::{not_possible, project};

/// Beginnings of variables that libraries read when they are loaded: commands that set them start in the usual way.
const READ_WHEN_LOADED: [&str; 10] =
    ["ATEN_", "CUBLAS", "FEDREPLAY_PREPARED", "GLIBC_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_"];

/// A process of the program, preloaded with `fork_server.c`.
struct Server {
    socket: PathBuf,
    /// It ends when its stdin is closed, with the test's own process.
    _process: Child,
}

impl Server {
    /// Starts the server. Returns why it cannot be started, if so.
    fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?.keep();
        let library = folder.join("fork_server.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library);
        compiler.arg(project("tests/suite/fork_server.c")).arg("-ldl");
        let compiled = compiler.output().map_err(|error| format!("cc: {error}"))?;
        if !compiled.status.success() {
            return Err(String::from_utf8_lossy(&compiled.stderr).into_owned());
        }
        let socket = folder.join("socket");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedreplay"));
        command.env_clear().env("LD_PRELOAD", &library).env("FORK_SERVER_SOCKET", &socket);
        command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|folders| ("LD_LIBRARY_PATH", folders)));
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        let said = BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut line);
        fs::remove_file(&library).map_err(|error| error.to_string())?;
        match said {
            Ok(_) if line == "ready\n" => Ok(Self { socket, _process: process }),
            _ => Err(format!("the server said {line:?}")),
        }
    }

    fn get() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let start = || Self::start().inspect_err(|reason| not_possible("starting the program by forks", reason)).ok();
        SERVER.get_or_init(start).as_ref()
    }
}

/// The end of a process that was run with [`output_within`].
pub enum End {
    Ended(Output),
    /// It had not ended in time and was killed.
    TookTooLong,
}

/// Does what [`Command::output`] does, for commands of the program.
pub fn output(command: &mut Command) -> std::io::Result<Output> {
    match output_within(command, None, None)? {
        End::Ended(output) => Ok(output),
        End::TookTooLong => unreachable!("nothing limits its time"),
    }
}

/// As [`output`], with at most `data` bytes of memory, in at most this time.
pub fn output_within(command: &mut Command, data: Option<u64>, time: Option<Duration>) -> std::io::Result<End> {
    let is_ours = command.get_program() == env!("CARGO_BIN_EXE_fedreplay");
    let is_read_when_loaded =
        |name: &OsStr| READ_WHEN_LOADED.iter().any(|read| name.as_bytes().starts_with(read.as_bytes()));
    let server =
        if is_ours && !command.get_envs().any(|(name, _)| is_read_when_loaded(name)) { Server::get() } else { None };
    let Some(server) = server else {
        assert!(data.is_none() && time.is_none(), "limits need the fork server");
        return command.output().map(End::Ended);
    };
    let stdout = NamedTempFile::new()?;
    let stderr = NamedTempFile::new()?;
    let mut connection = UnixStream::connect(&server.socket)?;
    connection.write_all(&request(command, data.unwrap_or(0), [&stdout, &stderr])?)?;
    connection.shutdown(Shutdown::Write)?;
    let mut replies = BufReader::new(connection);
    let process: i32 = number(&mut replies)?;
    replies.get_ref().set_read_timeout(time)?;
    let status = number(&mut replies);
    if status.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
        kill(Pid::from_raw(process), Signal::SIGKILL)?;
        replies.get_ref().set_read_timeout(None)?;
        number(&mut replies)?;
        return Ok(End::TookTooLong);
    }
    let status = ExitStatus::from_raw(status?);
    Ok(End::Ended(Output { status, stdout: contents(&stdout)?, stderr: contents(&stderr)? }))
}

/// The strings of a request, in the order in which `fork_server.c` takes them.
fn request(command: &Command, data: u64, outputs: [&NamedTempFile; 2]) -> std::io::Result<Vec<u8>> {
    let folder = command.get_current_dir().map_or_else(std::env::current_dir, |folder| Ok(folder.to_owned()))?;
    let mut strings: Vec<OsString> = vec![data.to_string().into(), folder.into()];
    strings.extend(outputs.map(|file| file.path().into()));
    strings.push((1 + command.get_args().count()).to_string().into());
    strings.push(command.get_program().into());
    strings.extend(command.get_args().map(OsStr::to_owned));
    let is_set = |name: &OsStr| command.get_envs().any(|(other, _)| other == name);
    let inherited = std::env::vars_os().filter(|(name, _)| !is_set(name));
    let set = command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    for (mut entry, value) in inherited.chain(set) {
        entry.push("=");
        entry.push(value);
        strings.push(entry);
    }
    Ok(strings.iter().flat_map(|string| [string.as_bytes(), b"\0"].concat()).collect())
}

/// Reads a line with a number.
fn number(replies: &mut BufReader<UnixStream>) -> std::io::Result<i32> {
    let mut line = String::new();
    replies.read_line(&mut line)?;
    line.trim_end().parse().map_err(|_| std::io::Error::other(format!("the fork server replied {line:?}")))
}

fn contents(file: &NamedTempFile) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.reopen()?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_forked_start_is_as_good_as_any() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("s.ron"), "(").expect("a writable folder");
    for arguments in [&["--version"][..], &["scenario", "check", "s.ron"], &["ls", "no such folder"], &["nonsense"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedreplay"));
        command.args(arguments).current_dir(folder.path()).env("COLUMNS", "60");
        let forked = output(&mut command).expect("the program can be run");
        assert_eq!(forked, command.output().expect("the program can be run"), "{arguments:?}");
    }
    if Server::get().is_some() {
        let fifo = folder.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is there").success());
        let mut command = Command::new(env!("CARGO_BIN_EXE_fedreplay"));
        let ended = output_within(command.arg("import").arg(&fifo), None, Some(Duration::from_millis(500)));
        assert!(matches!(ended, Ok(End::TookTooLong)));
    }
}
