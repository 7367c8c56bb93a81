//! A self-test of the sandbox: a program that tries to escape, run before any sample.

use std::fs;
use std::net::TcpListener;

use super::ProgramOutcome;
use super::SandboxError;
use super::isolation::{Confinement, Limits, Sandbox};
use crate::store::atomic::PendingFolder;

/// Python code of the escape attempts.
const PROBE: &str = include_str!("probe.py");

/// Python code that maps more than all processes together may, and none of them too much.
const MANY_SMALL: &str = "
import mmap, os, time
for _ in range(min(PROCESSES - 1, TOTAL_BYTES // (MEMORY_BYTES // 2) + 1)):
    if os.fork() == 0:
        held = mmap.mmap(-1, MEMORY_BYTES // 2)
        time.sleep(60)
time.sleep(60)
";

impl Sandbox {
    /// Finds the tools and the interpreter, and runs the self-test.
    ///
    /// # Errors
    /// [`SandboxError`] if a tool is missing, or the host cannot isolate programs and enforce the limits.
    pub fn open(limits: Limits) -> Result<Self, SandboxError> {
        Self::confined_by(Confinement::default(), limits)
    }

    pub(super) fn confined_by(confinement: Confinement, limits: Limits) -> Result<Self, SandboxError> {
        let sandbox = Self::untested(confinement, limits)?;
        probe(&sandbox)?;
        Ok(sandbox)
    }
}

/// Runs the escape attempts in the sandbox.
///
/// # Errors
/// [`SandboxError::Unconfined`] with the attempts that succeeded. No sample may be run then.
fn probe(sandbox: &Sandbox) -> Result<(), SandboxError> {
    // A port and a file of the host that exist, so that only confinement can make the attempts to reach them fail.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let folder = PendingFolder::create(&std::env::temp_dir(), "fedreplay-probe")?;
    let file = folder.path().join("secret");
    fs::write(&file, "of the host")?;
    let limits = sandbox.limits();
    // The Python code reads these constants, which precede it.
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
        ProgramOutcome::Passed => {}
        outcome => return Err(SandboxError::Unconfined(outcome.to_string())),
    }
    let sizes = format!(
        "PROCESSES = {}\nMEMORY_BYTES = {}\nTOTAL_BYTES = {}\n",
        limits.processes, limits.memory_bytes, limits.total_memory_bytes
    );
    match sandbox.run(&(sizes + MANY_SMALL))? {
        ProgramOutcome::TooMuchMemory => Ok(()),
        outcome => {
            let reason = format!("memory of all processes together is not limited: the attempt ended as {outcome}");
            Err(SandboxError::Unconfined(reason))
        }
    }
}
