//! Isolated execution of generated code.
//!
//! Only [`Sandbox`] runs generated code. Before it runs any, it checks that it confines programs, and refuses to run them if it
//! does not. Running generated code is opt-in: the caller requires `--allow-code-execution` before it opens a sandbox.

mod isolation;
mod memory;
mod probe;
#[cfg(test)]
pub(crate) mod tests;

pub use isolation::{Limits, Sandbox};

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// The outcome of one sample. Only [`Self::Passed`] counts as solved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramOutcome {
    /// All tests of the problem passed.
    Passed,
    /// The sample raised an exception or ended before its tests did; the text says which.
    Failed(String),
    /// The sample was still running at the time limit.
    TimedOut,
    /// The sample wrote more than the output limit.
    TooMuchOutput,
    /// All processes of the sample together took more memory than the limit.
    TooMuchMemory,
}

impl ProgramOutcome {
    /// Returns whether the sample solves its problem.
    pub fn is_passed(&self) -> bool {
        *self == Self::Passed
    }
}

impl fmt::Display for ProgramOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::TimedOut => f.write_str("failed: out of time"),
            Self::TooMuchOutput => f.write_str("failed: too much output"),
            Self::TooMuchMemory => f.write_str("failed: too much memory in all processes together"),
        }
    }
}

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
