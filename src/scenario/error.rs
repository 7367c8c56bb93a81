//! Errors in scenario files, with file, line and column where they are known, and suggestions for misspelled names.

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
    /// An override `path=value` cannot be applied.
    #[error("failed to set {argument}: {message}")]
    Override { argument: String, message: String },
    /// A field of a scenario that was built in code is out of range, or does not go with others.
    #[error("failed to accept the scenario: {field}: {message}")]
    Value { field: String, message: String },
    /// The field does not go with the number of clients in the data, or with the layers of the model.
    #[error("failed to accept {field}: {message}")]
    Inputs { field: &'static str, message: String },
}

/// Error in the choice of a sweep's cells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCell {
    #[error("the sweep has no scenario and no variant `{name}`, only {}", known.join(", "))]
    Name { name: String, known: Vec<String> },
    #[error("the sweep has no seed {seed}")]
    Seed { seed: u64 },
}

/// Error of a path that names no field or type, with the nearest name or all known ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownField(pub(super) String);

/// Returns the known name with the least edit distance, if it is close enough to be meant. Case is ignored.
pub(super) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let name = known.into_iter().min_by_key(|name| distance(&found, name))?;
    // One edit, and one more per three letters.
    let is_close = distance(&found, name) <= 1 + found.chars().count() / 3;
    if is_close { Some(name) } else { None }
}

fn distance(lowercase: &str, name: &str) -> usize {
    strsim::damerau_levenshtein(lowercase, &name.to_lowercase())
}

/// Returns the end of a message about a misspelled name; empty if no known name is close.
pub(super) fn suggestion<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_suggested_and_what_is_far_is_not() {
        let known = ["Scaffold", "FedAvg", "FedProx"];
        for (found, expected) in [
            ("Scafold", Some("Scaffold")),
            ("SCAFFOLD", Some("Scaffold")),
            ("fedavg", Some("FedAvg")),
            ("Krum", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, known), expected, "{found}");
        }
        assert_eq!(suggestion("rate", []), "");
    }
}
