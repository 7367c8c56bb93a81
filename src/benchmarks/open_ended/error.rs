//! Errors of question files.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// A question file that cannot be used. The user has to fix it.
#[derive(Debug, thiserror::Error)]
pub enum QuestionsError {
    /// The file is missing or cannot be read.
    #[error("failed to read questions from {}: {source}; docs/evaluation.md says where each file comes from", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// An entry does not follow the benchmark's format.
    #[error("failed to read questions from {}: {place}: {fault}", path.display())]
    Entry { path: PathBuf, place: String, fault: String },
}

impl QuestionsError {
    /// Returns a function that attaches `path` to an I/O error, for `map_err`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn entry(path: &Path, place: impl fmt::Display, fault: impl fmt::Display) -> Self {
        Self::Entry { path: path.to_owned(), place: place.to_string(), fault: fault.to_string() }
    }
}
