//! Errors in scenario files, with file, line and column where they are known.

use std::path::PathBuf;

/// Error in a scenario file or in an override of one of its fields.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("failed to read the scenario {file}: {source}")]
    Io { file: PathBuf, source: std::io::Error },
    /// The file is not RON, or a field is missing, misspelled, of the wrong type or out of range.
    #[error("failed to read the scenario {file}:{line}:{column}: {message}")]
    Syntax { file: PathBuf, line: usize, column: usize, message: String },
    /// Fields are valid on their own but do not go together.
    #[error("failed to accept the scenario {file}{}: {field}: {message}", line.map(|n| format!(":{n}")).unwrap_or_default())]
    Invalid { file: PathBuf, line: Option<usize>, field: String, message: String },
    /// A `--set path=value` cannot be applied.
    #[error("failed to apply --set {argument}: {message}")]
    Override { argument: String, message: String },
}
