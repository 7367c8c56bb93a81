//! Errors of importing a training script.

/// Reason why a script is not imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A line whose meaning the import does not know, or that only a running shell knows.
    #[error("line {line}: {what}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// Fault of the line.
        what: String,
    },
    /// The script is no valid bash.
    #[error("it is not a shell script: {0}")]
    Syntax(String),
    /// No line runs a trainer.
    #[error("it calls neither main_sft.py nor main_dpo.py")]
    NoCall,
    /// Several lines, or turns of a loop, run a trainer, and none was chosen.
    #[error("it calls a trainer {} times, in lines {}", .0.len(), list(.0))]
    ManyCalls(Vec<usize>),
    /// A call was chosen that the script does not make.
    #[error("call {chosen} is chosen, and the script makes {made}")]
    NoSuchCall {
        /// Number of the chosen call, from 1.
        chosen: usize,
        /// Number of calls in the script.
        made: usize,
    },
}

impl ImportError {
    /// Returns an error about a line.
    pub(super) fn at(line: usize, what: impl Into<String>) -> Self {
        Self::Line { line, what: what.into() }
    }
}

fn list(lines: &[usize]) -> String {
    lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
