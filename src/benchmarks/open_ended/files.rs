//! Parsing of question files into entries that know their place for error messages, and those errors.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::store::{parse_json, read_text_limited};
use serde::de::DeserializeOwned;

/// An entry with its place in the file.
pub struct LocatedQuestions<T> {
    pub place: String,
    pub entry: T,
}

/// Reads a file as text, without a byte order mark.
pub fn text_of(path: &Path) -> Result<String, QuestionsError> {
    let text = read_text_limited(path).map_err(QuestionsError::io(path))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Parses JSON Lines, one object per line. Empty lines are skipped.
pub fn json_lines<T: DeserializeOwned>(path: &Path, text: &str) -> Result<Vec<LocatedQuestions<T>>, QuestionsError> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("line {}", index + 1);
        match parse_json(line.as_bytes()) {
            Ok(entry) => entries.push(LocatedQuestions { place, entry }),
            // The parser's own line number is always 1, since it sees one line at a time.
            Err(error) => return Err(QuestionsError::entry(path, place, without_place(&error))),
        }
    }
    filled(path, entries)
}

/// Deserializes the objects of a parsed array. `of` names the array in error messages.
pub fn objects<T: DeserializeOwned>(
    path: &Path,
    of: &str,
    values: Vec<serde_json::Value>,
) -> Result<Vec<LocatedQuestions<T>>, QuestionsError> {
    let mut entries = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let place = format!("entry {}{of}", index + 1);
        match serde_json::from_value(value) {
            Ok(entry) => entries.push(LocatedQuestions { place, entry }),
            Err(error) => return Err(QuestionsError::entry(path, place, error)),
        }
    }
    filled(path, entries)
}

/// Parses the file as one JSON value.
pub fn json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, QuestionsError> {
    parse_json(text.as_bytes()).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        QuestionsError::entry(path, place, without_place(&error))
    })
}

/// Rejects a file without entries: a benchmark without questions has no score.
pub fn filled<T>(path: &Path, entries: Vec<T>) -> Result<Vec<T>, QuestionsError> {
    match entries.is_empty() {
        true => Err(QuestionsError::entry(path, "the whole file", "there is no question in it")),
        false => Ok(entries),
    }
}

/// Returns the parser's message without its own place: the caller names the place in the file.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map(str::to_owned).unwrap_or(text)
}

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
