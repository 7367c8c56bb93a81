//! Why generated code is not run. The program then ends with exit code 2 and has run none.

use std::io;

/// What is missing for code to be run safely.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A program of the system is not there.
    #[error("failed to find `{0}`, without which generated code is not run; it is part of {1}")]
    Missing(&'static str, &'static str),
    /// The host does not hold the code in. Nothing of a model was run.
    #[error(
        "failed to confine generated code, so it is not run: {0}; a Linux host must let this user make namespaces \
         (containers often forbid it), or leave out humaneval"
    )]
    Unconfined(String),
    /// The host failed in the middle.
    #[error("failed to run generated code: {0}")]
    Io(#[from] io::Error),
}
