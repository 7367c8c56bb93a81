//! Outcomes of samples that were run.

use std::fmt;

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
        }
    }
}
