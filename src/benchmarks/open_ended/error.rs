//! What can be wrong with a file of questions.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// Why there are no questions. The user's to mend: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum QuestionsError {
    /// The file is not there or cannot be read.
    #[error("failed to read questions from {}: {source}; docs/evaluation.md says where each file comes from", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// An entry is not what the benchmark's format says.
    #[error("failed to read questions from {}: {place}: {fault}", path.display())]
    Entry { path: PathBuf, place: String, fault: String },
}

impl QuestionsError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn entry(path: &Path, place: impl fmt::Display, fault: impl fmt::Display) -> Self {
        Self::Entry { path: path.to_owned(), place: place.to_string(), fault: fault.to_string() }
    }
}
