//! What came of running a sample.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The end of one sample. Only the first counts as solved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All tests of the problem went through.
    Passed,
    /// An exception, or an end without a verdict, and which.
    Failed(String),
    /// It was still running at the limit.
    TimedOut,
    /// It wrote more than anybody reads.
    TooMuchOutput,
}

impl Outcome {
    /// Whether the sample solves its problem.
    pub fn is_passed(&self) -> bool {
        *self == Self::Passed
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::TimedOut => f.write_str("failed: out of time"),
            Self::TooMuchOutput => f.write_str("failed: too much output"),
        }
    }
}
