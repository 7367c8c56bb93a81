//! Shows that a sandbox confines, by trying to get out of it before any sample is run.

use std::fs;
use std::net::TcpListener;

use super::error::SandboxError;
use super::isolation::{Confinement, Limits, Sandbox};
use super::outcome::Outcome;

/// What is tried.
const PROBE: &str = include_str!("probe.py");

impl Sandbox {
    /// Finds what is needed, and tries to get out.
    ///
    /// # Errors
    /// [`SandboxError`]: where no network, no files of the host and limits cannot be had, nothing is run.
    pub fn open(limits: Limits) -> Result<Self, SandboxError> {
        Self::confined_by(Confinement::default(), limits)
    }

    pub(super) fn confined_by(confinement: Confinement, limits: Limits) -> Result<Self, SandboxError> {
        let sandbox = Self::untested(confinement, limits)?;
        probe(&sandbox)?;
        Ok(sandbox)
    }
}

/// Runs the probe.
///
/// # Errors
/// [`SandboxError::Unconfined`] with what could be done; the samples are then not run.
fn probe(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("secret");
    fs::write(&file, "of the host")?;
    let limits = sandbox.limits();
    let facts = format!(
        "HOST_PORT = {}\nHOST_FILE = {:?}\nFILE_BYTES = {}\nMEMORY_BYTES = {}\nPROCESSES = {}\nTOP_OF_PREFIX = {:?}\n",
        listener.local_addr()?.port(),
        file.to_string_lossy(),
        limits.file_bytes,
        limits.memory_bytes,
        limits.processes,
        sandbox.top_of_prefix(),
    );
    match sandbox.run(&(facts + PROBE))? {
        Outcome::Passed => Ok(()),
        outcome => Err(SandboxError::Unconfined(outcome.to_string())),
    }
}
