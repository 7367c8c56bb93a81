//! Options for reading RON, and messages about syntax errors.

use std::path::Path;

use ron::error::SpannedError;
use ron::extensions::Extensions;

use super::ScenarioError;
use super::error::suggestion as suggestion_of;

pub(super) fn options() -> ron::Options {
    ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

pub(super) fn syntax(file: &Path, error: &SpannedError) -> ScenarioError {
    let place = error.span.start;
    ScenarioError::Syntax {
        file: file.to_owned(),
        line: place.line,
        column: place.col,
        message: format!("{}{}", lower_first(&error.code.to_string()), suggestion(&error.code)),
    }
}

/// Returns a message with its first letter in lower case, unless it begins with an abbreviation.
fn lower_first(message: &str) -> String {
    let mut rest = message.chars();
    if message.chars().nth(1).is_some_and(char::is_uppercase) || message.starts_with("NaN") {
        return message.to_owned();
    }
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

/// Returns a suggestion of the nearest known name if the error is about a misspelled one.
fn suggestion(code: &ron::Error) -> String {
    match code {
        ron::Error::NoSuchStructField { found, expected, .. }
        | ron::Error::NoSuchEnumVariant { found, expected, .. } => suggestion_of(found, expected.iter().copied()),
        _ => String::new(),
    }
}
