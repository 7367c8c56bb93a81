//! The Python interpreter that runs samples.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::error::SandboxError;

/// Candidates for the interpreter. The system's comes first, since its folders are in the sandbox anyway.
const CANDIDATES: [&str; 2] = ["/usr/bin/python3", "python3"];

/// Python code that prints where the interpreter and its library really are, behind any shim or virtual environment,
/// and the version.
const WHEREABOUTS: &str = "import os, sys; print(os.path.realpath(sys.executable)); print(os.path.realpath(sys.base_prefix)); \
     print(*sys.version.split())";

/// A Python interpreter and the folder that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
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
