//! What can be wrong with a scenario, said with file, line and column where there is one.

use std::path::PathBuf;

/// A mistake in a scenario file or in an override of it.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("failed to read the scenario {file}: {source}")]
    Io { file: PathBuf, source: std::io::Error },
    /// The file is not RON, or a field is missing, misspelt, of a wrong type or out of range.
    #[error("failed to read the scenario {file}:{line}:{column}: {message}")]
    Syntax { file: PathBuf, line: usize, column: usize, message: String },
    /// Fields that are right alone and wrong together.
    #[error("failed to accept the scenario {file}{}: {field}: {message}", line.map(|n| format!(":{n}")).unwrap_or_default())]
    Invalid { file: PathBuf, line: Option<usize>, field: String, message: String },
    /// A `--set path=value` that fits nothing.
    #[error("failed to apply --set {argument}: {message}")]
    Override { argument: String, message: String },
}
