//! Errors of the sandbox for generated code.

use std::io;

/// Why generated code cannot be run safely. Nothing is run then.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A system program is missing: its name and the package that has it.
    #[error("failed to find `{0}`, without which generated code is not run; it is part of {1}")]
    Missing(&'static str, &'static str),
    /// The host cannot confine the code. No generated code was run.
    #[error(
        "failed to confine generated code, so it is not run: {0}; a Linux host must let this user make namespaces \
         (containers often forbid it), or leave out humaneval"
    )]
    Unconfined(String),
    /// An I/O operation of the host failed.
    #[error("failed to run generated code: {0}")]
    Io(#[from] io::Error),
}
