//! The Python that runs samples.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::error::SandboxError;

/// Where Python is looked for: the system's first, since its folders are in the sandbox anyway.
const CANDIDATES: [&str; 2] = ["/usr/bin/python3", "python3"];

/// Says where the interpreter and its library really are, whatever shim or virtual environment was called, and what it is.
const WHEREABOUTS: &str = "import os, sys; print(os.path.realpath(sys.executable)); print(os.path.realpath(sys.base_prefix)); \
     print(*sys.version.split())";

/// An interpreter and the folder that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    pub executable: PathBuf,
    /// Holds the executable and the standard library.
    pub prefix: PathBuf,
    /// Its own words on its version and build.
    pub version: String,
}

impl Interpreter {
    /// The first that runs.
    ///
    /// # Errors
    /// [`SandboxError::Missing`].
    pub fn find() -> Result<Self, SandboxError> {
        let found = CANDIDATES.iter().find_map(|name| Self::at(name.as_ref()));
        found.ok_or(SandboxError::Missing("python3", "the Debian package python3"))
    }

    fn at(name: &OsStr) -> Option<Self> {
        let said = Command::new(name).args(["-I", "-c", WHEREABOUTS]).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
        let mut lines = text.lines();
        let mut path = || lines.next().map(PathBuf::from);
        let (executable, prefix) = (path()?, path()?);
        let version = lines.next()?.to_owned();
        executable.starts_with(&prefix).then_some(Self { executable, prefix, version })
    }
}
