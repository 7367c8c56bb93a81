//! Entries of question files, each with its place for errors.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::QuestionsError;

/// An entry and where it stands.
pub struct Placed<T> {
    pub place: String,
    pub entry: T,
}

/// The text of a file, without a byte order mark.
pub fn text_of(path: &Path) -> Result<String, QuestionsError> {
    let text = fs::read_to_string(path).map_err(QuestionsError::io(path))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// One JSON object a line; empty lines are passed over.
pub fn json_lines<T: DeserializeOwned>(path: &Path, text: &str) -> Result<Vec<Placed<T>>, QuestionsError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let entries = lines.map(|(index, line)| {
        let place = format!("line {}", index + 1);
        match serde_json::from_str(line) {
            Ok(entry) => Ok(Placed { place, entry }),
            // The parser counts lines within its own text, which is one line.
            Err(error) => Err(QuestionsError::entry(path, place, without_place(&error))),
        }
    });
    filled(path, entries.collect::<Result<_, _>>()?)
}

/// Objects of an array that is at hand; `of` names the array.
pub fn objects<T: DeserializeOwned>(
    path: &Path,
    of: &str,
    values: Vec<serde_json::Value>,
) -> Result<Vec<Placed<T>>, QuestionsError> {
    let entries = values.into_iter().enumerate().map(|(index, value)| {
        let place = format!("entry {}{of}", index + 1);
        match serde_json::from_value(value) {
            Ok(entry) => Ok(Placed { place, entry }),
            Err(error) => Err(QuestionsError::entry(path, place, error)),
        }
    });
    filled(path, entries.collect::<Result<_, _>>()?)
}

/// The file as one JSON value.
pub fn json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, QuestionsError> {
    serde_json::from_str(text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        QuestionsError::entry(path, place, without_place(&error))
    })
}

/// Refuses a file with nothing in it: a benchmark of no questions has no score.
pub fn filled<T>(path: &Path, entries: Vec<T>) -> Result<Vec<T>, QuestionsError> {
    match entries.is_empty() {
        true => Err(QuestionsError::entry(path, "the whole file", "there is no question in it")),
        false => Ok(entries),
    }
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map(str::to_owned).unwrap_or(text)
}
